"""A fitted automatic forecaster as arrays and plain values, and back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from retrograd.errors import InputError
from retrograd.estimators.auto.caution import Caution
from retrograd.estimators.auto.contenders import Contender, Fitted
from retrograd.estimators.auto.intervals import Spread
from retrograd.estimators.auto.leaderboard import SCORES
from retrograd.estimators.auto.members import Member, Mixture
from retrograd.estimators.forecasting.files import clock_record, clocks_of, plain
from retrograd.estimators.model_files import Saved, require_arrays

__all__ = ["KIND", "clocks_of", "members_of", "saved_of", "tables_of"]

Array = np.ndarray[Any, Any]

KIND = "auto"


def saved_of(forecaster: Any) -> Saved:
    """Return a fitted forecaster's arrays, and all else."""
    arrays: dict[str, Array] = {
        "leaderboard": forecaster.leaderboard_[list(SCORES)].to_numpy(dtype=np.float64),
        "leaderboard.by_step": forecaster.leaderboard_by_step_.to_numpy(dtype=np.float64),
    }
    members = []
    for number, member in enumerate(forecaster._members):
        at = f"series.{number}"
        arrays |= {f"{at}.y": member.y, f"{at}.x": member.x}
        record = {"season": member.season, **_mixture_record(at, member.mixture, arrays)}
        if member.blind is not member.mixture:
            record["blind"] = _mixture_record(f"{at}.blind", member.blind, arrays)
        members.append(record)
    parameters = {name: getattr(forecaster, name) for name in ("season", "transform", "difference", "refit")}
    season = parameters["season"]
    config = {
        "parameters": {**parameters, "season": list(season) if isinstance(season, (list, tuple)) else season},
        "form": forecaster._form,
        "fh": forecaster._fh.steps.tolist(),
        "columns": [plain(name, "column") for name in forecaster._columns],
        "columns_name": plain(forecaster._columns.name, "columns' name"),
        "index_names": [plain(name, "index name") for name in forecaster._index_names],
        "input_names": [plain(name, "input") for name in forecaster._input_names],
        "useful": forecaster._useful.tolist(),
        "instances": [
            {"key": plain(key, "instance"), **clock_record(clock)} for key, clock in forecaster._clocks.items()
        ],
        "members": members,
        "understood": forecaster.understood_,
        "chosen": forecaster.chosen_,
        "leaderboard": [plain(name, "contender") for name in forecaster.leaderboard_.index],
    }
    return Saved(KIND, arrays, config)


def _mixture_record(at: str, mixture: Mixture, arrays: dict[str, Array]) -> dict[str, Any]:
    """Add a mixture's numbers to ``arrays``, and return what else is to be known of it."""
    spread = mixture.spread
    arrays |= {f"{at}.weights": mixture.weights, f"{at}.errors": spread.errors, f"{at}.deviation": spread.deviation}
    for place, fit in enumerate(mixture.fits):
        arrays |= {f"{at}.fit.{place}.{name}": np.asarray(value) for name, value in fit.arrays().items()}
    if mixture.caution is not None:
        arrays[f"{at}.missed"] = mixture.caution.missed
    return {
        "caution": None if mixture.caution is None else mixture.caution.threshold,
        "median": mixture.median,
        "contenders": [asdict(fit.contender) for fit in mixture.fits],
        "arrays": [list(fit.arrays()) for fit in mixture.fits],
        "logs": spread.logs,
        "stride": spread.stride,
        "late": spread.late,
    }


def members_of(saved: Saved) -> list[Member]:
    """Return every series with what forecasts it.

    Raises:
        InputError: the arrays are not those that the configuration tells of.
    """
    _require(saved)
    found = []
    for number, record in enumerate(saved.config["members"]):
        at = f"series.{number}"
        mixture = _mixture_of(at, record, saved)
        blind = _mixture_of(f"{at}.blind", record["blind"], saved) if "blind" in record else mixture
        found.append(Member(saved.arrays[f"{at}.y"], saved.arrays[f"{at}.x"], record["season"], mixture, blind))
    return found


def _mixture_of(at: str, record: dict[str, Any], saved: Saved) -> Mixture:
    arrays, steps = saved.arrays, np.array(saved.config["fh"], dtype=np.int64)
    fits = []
    for place, (recipe, names) in enumerate(zip(record["contenders"], record["arrays"], strict=True)):
        contender = Contender(**recipe)
        fits.append(Fitted(contender, contender.rule_of({name: arrays[f"{at}.fit.{place}.{name}"] for name in names})))
    weights, errors, deviation = (arrays[f"{at}.{name}"] for name in ("weights", "errors", "deviation"))
    told = record["caution"]
    caution = None if told is None else Caution(told, arrays[f"{at}.missed"])
    spread = Spread(errors, deviation, record["logs"], steps, record["stride"], record["late"])
    if not (0 <= record["median"] < 1 and 0 <= spread.late < spread.stride):
        raise InputError(f"its {at} has a median of {record['median']} or origins that cannot be")
    if len(errors) < spread.waiting:
        raise InputError(f"its {at}.errors have {len(errors)} rows, expected at least {spread.waiting}")
    return Mixture(fits, weights, spread, steps, caution, record["median"])


def _require(saved: Saved) -> None:
    """Raise InputError unless there are exactly the arrays that the configuration tells of, of fitting shapes."""
    config = saved.config
    steps, inputs = len(config["fh"]), len(config["useful"])
    if len(config["members"]) != len(config["columns"]) * len(config["instances"]):
        raise InputError("its series are not as many as its columns and instances")
    rows = len(config["leaderboard"])
    shapes: dict[str, tuple[int, ...]] = {"leaderboard": (rows, len(SCORES)), "leaderboard.by_step": (rows, steps)}
    whole: list[str] = []
    # Where values were missing, or a series was too short or too alike to be judged, there is no error.
    gaps = ["leaderboard", "leaderboard.by_step"]
    asked: list[str] = []
    for number, record in enumerate(config["members"]):
        at = f"series.{number}"
        length = len(saved.arrays[f"{at}.y"])
        shapes |= {f"{at}.y": (length,), f"{at}.x": (length, inputs)}
        parts = [(at, record)] + ([(f"{at}.blind", record["blind"])] if "blind" in record else [])
        for where, part in parts:
            gaps.append(f"{where}.errors")
            shapes |= {f"{where}.weights": (len(part["contenders"]),)}
            shapes |= {f"{where}.errors": (-1, steps), f"{where}.deviation": (steps,)}
            shapes |= {} if part["caution"] is None else {f"{where}.missed": (steps,)}
            for place, (recipe, names) in enumerate(zip(part["contenders"], part["arrays"], strict=True)):
                fit = f"{where}.fit.{place}"
                known = Contender(**recipe).shapes({name: saved.arrays[f"{fit}.{name}"] for name in names}, steps)
                shapes |= {f"{fit}.{name}": shape for name, shape in known.items()}
                whole += [f"{fit}.{name}" for name in ("lags", "horizons") if name in known]
                asked += [] if recipe["recursive"] or "horizons" not in known else [f"{fit}.horizons"]
    require_arrays(saved.arrays, shapes, *whole, gaps=gaps)
    for name in asked:
        if saved.arrays[name].tolist() != config["fh"]:
            raise InputError(f"its {name} are {saved.arrays[name].tolist()[:9]}, expected those of fh")


def tables_of(saved: Saved) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the scores of every contender, and its RMSE at each step ahead."""
    names = saved.config["leaderboard"]
    several = any(isinstance(name, list) for name in names)
    index: Any = pd.MultiIndex.from_tuples([tuple(name) for name in names]) if several else pd.Index(names)
    index = index if several else index.rename("contender")
    scores = pd.DataFrame(saved.arrays["leaderboard"], index=index, columns=list(SCORES))
    return scores, pd.DataFrame(saved.arrays["leaderboard.by_step"], index=index, columns=saved.config["fh"])
