"""A fitted automatic forecaster as arrays and plain values, and back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from retrograd.errors import InputError
from retrograd.estimators.auto.contenders import Contender, Fitted, shapes_of
from retrograd.estimators.forecasting.files import clock_record, clocks_of, plain
from retrograd.estimators.model_files import Saved, require_arrays

__all__ = ["KIND", "clocks_of", "leaderboards_of", "members_of", "saved_of"]

Array = np.ndarray[Any, Any]

KIND = "auto"
_SCORES = ("RMSE", "MAE", "MASE", "sMAPE", "weight")


def saved_of(forecaster: Any) -> Saved:
    """Return a fitted forecaster's arrays, and all else."""
    arrays: dict[str, Array] = {"leaderboard": forecaster.leaderboard_[list(_SCORES)].to_numpy(dtype=np.float64)}
    arrays["leaderboard.by_step"] = forecaster.leaderboard_by_step_.to_numpy(dtype=np.float64)
    members = []
    for number, member in enumerate(forecaster._members):
        at = f"series.{number}"
        arrays |= {f"{at}.y": member.y, f"{at}.x": member.x, f"{at}.weights": member.weights}
        arrays |= {f"{at}.errors": member.spread.errors, f"{at}.deviation": member.spread.deviation}
        for place, fit in enumerate(member.fits):
            arrays |= {f"{at}.fit.{place}.{name}": np.asarray(value) for name, value in fit.arrays().items()}
        members.append(
            {
                "contenders": [asdict(fit.contender) for fit in member.fits],
                "arrays": [list(fit.arrays()) for fit in member.fits],
                "logs": member.spread.logs,
                "conformal": bool(member.spread.conformal),
            }
        )
    season = forecaster.season
    names = forecaster.leaderboard_.index
    config = {
        "parameters": {
            "season": list(season) if isinstance(season, (list, tuple)) else season,
            "transform": forecaster.transform,
            "difference": forecaster.difference,
        },
        "form": forecaster._form,
        "fh": forecaster._fh.steps.tolist(),
        "columns": [plain(name, "column") for name in forecaster._columns],
        "columns_name": plain(forecaster._columns.name, "columns' name"),
        "index_names": [plain(name, "index name") for name in forecaster._index_names],
        "input_names": [plain(name, "input") for name in forecaster._input_names],
        "instances": [
            {"key": plain(key, "instance"), **clock_record(clock)} for key, clock in forecaster._clocks.items()
        ],
        "members": members,
        "understood": forecaster.understood_,
        "chosen": forecaster.chosen_,
        "leaderboard": [plain(name, "contender") for name in names],
    }
    return Saved(KIND, arrays, config)


def members_of(saved: Saved) -> list[tuple[Any, ...]]:
    """Return y, x, fits, weights and the parts of the spread of every series."""
    _require(saved)
    found = []
    for number, member in enumerate(saved.config["members"]):
        at, fits = f"series.{number}", []
        for place, (recipe, names) in enumerate(zip(member["contenders"], member["arrays"], strict=True)):
            contender = Contender(**recipe)
            held = {name: saved.arrays[f"{at}.fit.{place}.{name}"] for name in names}
            fits.append(Fitted(contender, contender.rule_of(held)))
        y, x, weights, errors, deviation = (
            saved.arrays[f"{at}.{name}"] for name in ("y", "x", "weights", "errors", "deviation")
        )
        found.append((y, x, fits, weights, (errors, deviation, member["logs"], member["conformal"])))
    return found


def _require(saved: Saved) -> None:
    """Raise InputError unless there are exactly the arrays that the configuration tells of, of fitting shapes."""
    config = saved.config
    steps, inputs = len(config["fh"]), len(config["input_names"])
    if len(config["members"]) != len(config["columns"]) * len(config["instances"]):
        raise InputError("its series are not as many as its columns and instances")
    count = len(config["leaderboard"])
    shapes: dict[str, tuple[int, ...]] = {"leaderboard": (count, len(_SCORES)), "leaderboard.by_step": (count, steps)}
    whole = []
    for number, member in enumerate(config["members"]):
        at = f"series.{number}"
        rows = len(saved.arrays[f"{at}.y"])
        shapes |= {f"{at}.y": (rows,), f"{at}.x": (rows, inputs), f"{at}.weights": (len(member["contenders"]),)}
        shapes |= {f"{at}.errors": (-1, steps), f"{at}.deviation": (steps,)}
        for place, (recipe, names) in enumerate(zip(member["contenders"], member["arrays"], strict=True)):
            known = shapes_of(Contender(**recipe), {n: saved.arrays[f"{at}.fit.{place}.{n}"] for n in names}, steps)
            shapes |= {f"{at}.fit.{place}.{name}": shape for name, shape in known.items()}
            whole += [f"{at}.fit.{place}.{name}" for name in ("lags", "horizons") if name in known]
    require_arrays(saved.arrays, shapes, *whole)


def leaderboards_of(saved: Saved) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the scores of every contender, and its error at every step ahead."""
    names = saved.config["leaderboard"]
    several = any(isinstance(name, list) for name in names)
    index: Any = pd.MultiIndex.from_tuples([tuple(name) for name in names]) if several else pd.Index(names)
    index = index if several else index.rename("contender")
    table: pd.DataFrame = pd.DataFrame(saved.arrays["leaderboard"], index=index, columns=list(_SCORES))
    by_step: pd.DataFrame = pd.DataFrame(saved.arrays["leaderboard.by_step"], index=index, columns=saved.config["fh"])
    return table, by_step
