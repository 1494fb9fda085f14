"""A fitted forecaster as arrays and plain values, and back.

config    parameters, columns, instances and their last times, what y was
arrays    scaling, states, read-outs with their moments, residuals, and the tail from which it goes on
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from retrograd.errors import InputError
from retrograd.estimators.forecasting.fit import Group
from retrograd.estimators.forecasting.model import ForecastModel
from retrograd.estimators.forecasting.readout import Moments, Weights
from retrograd.estimators.forecasting.settings import Instance, Settings
from retrograd.estimators.forecasting.states import Lags, Linear
from retrograd.estimators.forecasting.tables import Clock
from retrograd.estimators.model_files import Saved, require_arrays
from retrograd.estimators.recurrent.training import Epoch
from retrograd.tables.step import Step

__all__ = ["KIND", "clock_record", "clocks_of", "model_of", "plain", "saved_of"]

Array = np.ndarray[Any, Any]

KIND = "forecaster"
_MOMENTS = ("gram", "cross", "energy", "input_gram", "input_cross", "input_target")


def saved_of(forecaster: Any) -> Saved:
    """Return a fitted forecaster's arrays, and all else."""
    model: ForecastModel = forecaster._model
    tensors = {
        name: np.ascontiguousarray(getattr(model, name), dtype=np.float64)
        for name in ("y_mean", "y_scale", "x_mean", "x_scale", "errors", "counts")
    }
    tensors["horizons"] = np.asarray(model.horizons, dtype=np.int64)
    for number, group in enumerate(model.groups):
        at = f"group.{number}"
        tensors[f"{at}.weights.states"] = np.ascontiguousarray(group.weights.states)
        tensors[f"{at}.weights.inputs"] = np.ascontiguousarray(group.weights.inputs)
        tensors[f"{at}.inflation"] = np.ascontiguousarray(group.inflation)
        tensors |= {f"{at}.{name}": np.ascontiguousarray(getattr(group.moments, name)) for name in _MOMENTS}
    for number, tail in enumerate(model.tails):
        tensors |= {f"tail.{number}.y": np.ascontiguousarray(tail.y), f"tail.{number}.x": np.ascontiguousarray(tail.x)}
        if tail.before is not None:
            tensors[f"tail.{number}.before"] = np.ascontiguousarray(tail.before)
    states: dict[str, Any]
    if isinstance(model.states, Lags):
        states = {"kind": "lags", "length": model.states.length}
    else:
        states = {"kind": model.states.kind, "parameters": list(model.states.parameters)}
        for name, value in model.states.parameters.items():
            tensors[f"states.{name}"] = np.ascontiguousarray(value.detach().numpy())
    parameters = forecaster.get_params(deep=False)
    config = {
        "parameters": {**parameters, "calendar": list(parameters["calendar"])},
        "states": states,
        "groups": [{"count": group.moments.count, "ridge": group.ridge} for group in model.groups],
        "form": forecaster._form,
        "fh": None if forecaster._fh is None else forecaster._fh.steps.tolist(),
        "columns": [plain(name, "column") for name in forecaster._columns],
        "columns_name": plain(forecaster._columns.name, "columns' name"),
        "index_names": [plain(name, "index name") for name in forecaster._index_names],
        "input_names": [plain(name, "input") for name in forecaster._input_names],
        "instances": [
            {"key": plain(key, "instance"), "name": tail.name, **clock_record(clock)}
            for (key, clock), tail in zip(forecaster._clocks.items(), model.tails, strict=True)
        ],
        "history": [[epoch.loss, epoch.gradient_norm] for epoch in model.history],
    }
    return Saved(KIND, tensors, config)


def model_of(saved: Saved, settings: Settings) -> ForecastModel:
    """Return the arithmetic of the forecaster of :func:`saved_of`.

    Raises:
        InputError: the arrays do not fit the settings, or each other.
    """
    tensors, config = saved.arrays, saved.config
    kind = config["states"]["kind"]
    states: Lags | Linear
    if kind == "lags":
        states = Lags(config["states"]["length"], settings.difference)
    else:
        named = {name: torch.from_numpy(tensors[f"states.{name}"]) for name in config["states"]["parameters"]}
        states = Linear(kind, named, settings.difference)
    _require(tensors, config, settings, states)
    groups = []
    for number, group in enumerate(config["groups"]):
        at = f"group.{number}"
        moments = Moments(group["count"], *(tensors[f"{at}.{name}"] for name in _MOMENTS))
        weights = Weights(tensors[f"{at}.weights.states"], tensors[f"{at}.weights.inputs"])
        groups.append(Group(moments, weights, group["ridge"], tensors[f"{at}.inflation"]))
    tails = [
        Instance(
            each["name"], tensors[f"tail.{number}.y"], tensors[f"tail.{number}.x"], tensors.get(f"tail.{number}.before")
        )
        for number, each in enumerate(config["instances"])
    ]
    return ForecastModel(
        settings,
        states,
        tensors["horizons"],
        y_mean=tensors["y_mean"],
        y_scale=tensors["y_scale"],
        x_mean=tensors["x_mean"],
        x_scale=tensors["x_scale"],
        groups=groups,
        errors=tensors["errors"],
        counts=tensors["counts"],
        tails=tails,
        history=[Epoch(number, loss, norm) for number, (loss, norm) in enumerate(config["history"], start=1)],
    )


def _require(tensors: dict[str, Array], config: dict[str, Any], settings: Settings, states: Lags | Linear) -> None:
    """Check every array, beside the states' own, by the settings, the columns and the instances."""
    _require_names(config)
    N, C, E, K = len(config["instances"]), len(config["columns"]), len(tensors["x_mean"]), len(tensors["horizons"])
    D = states.width + settings.intercept
    shapes: dict[str, tuple[int, ...]] = {
        "y_mean": (N, C), "y_scale": (N, C), "x_mean": (E,), "x_scale": (E,), "errors": (N, C, K), "counts": (N,),
        "horizons": (K,),
    }  # fmt: skip
    for number in range(len(config["groups"])):
        of_group = {
            "weights.states": (D, K), "weights.inputs": (K, E), "inflation": (K,), "gram": (D, D), "cross": (D, K),
            "energy": (K,), "input_gram": (K, E, E), "input_cross": (D, K, E), "input_target": (K, E),
        }  # fmt: skip
        shapes |= {f"group.{number}.{name}": shape for name, shape in of_group.items()}
    for number in range(N):
        shapes |= {f"tail.{number}.y": (-1, C), f"tail.{number}.x": (-1, E)}
        if f"tail.{number}.before" in tensors:
            shapes[f"tail.{number}.before"] = (C, states.width)
        if len(tensors[f"tail.{number}.y"]) <= states.burn:
            raise InputError(f"array 'tail.{number}.y' has {len(tensors[f'tail.{number}.y'])} rows, too few to go on")
    if isinstance(states, Linear):
        H = len(next(iter(states.parameters.values())))
        own = {"weight_hh": (H, H), "weight_ih": (H,)} if states.kind == "dense" else {"rate": (H,), "angle": (-1,)}
        shapes |= {f"states.{name}": shape for name, shape in own.items()}
    require_arrays(tensors, shapes, "horizons")
    scales = np.concatenate([tensors["y_scale"].ravel(), tensors["x_scale"]])
    if not (N and C and K) or not (scales > 0).all() or not (np.diff(tensors["horizons"], prepend=0) > 0).all():
        raise InputError("a size is 0, a scale is not above 0, or the horizons do not increase from 1 on")
    if len(config["groups"]) != (1 if settings.share else N * C):
        raise InputError(
            f"there are {len(config['groups'])} groups of series, expected {1 if settings.share else N * C}"
        )


def _require_names(config: dict[str, Any]) -> None:
    """Check that an instance has a name for every level of the index but the last, its times."""
    keys = [each["key"] for each in config["instances"]]
    parts = [key if isinstance(key, list) else [] if key is None else [key] for key in keys]
    names = [config["columns_name"], *config["columns"], *config["index_names"], *config["input_names"]]
    names += [name for part in parts for name in part]
    if not all(name is None or isinstance(name, (str, int, float)) for name in names):
        raise InputError("a name is neither text nor a number")
    levels = {len(part) for part in parts}
    if levels != {len(config["index_names"]) - 1}:
        raise InputError("the instances do not fit the levels of the index")
    if len({str(key) for key in keys}) < len(keys):
        raise InputError("two instances have the same name")


def clocks_of(config: dict[str, Any]) -> dict[Any, Clock]:
    """Return the last time of every instance."""
    name, clocks = config["index_names"][-1], {_key(each["key"]): _read_clock(each) for each in config["instances"]}
    return {key: replace(clock, last=clock.last.rename(name)) for key, clock in clocks.items()}


def clock_record(clock: Clock) -> dict[str, Any]:
    """Return a last time and its step as JSON knows them, for :func:`clocks_of`."""
    last = clock.last[0]
    if isinstance(clock.last, pd.PeriodIndex):
        return {"times": "period", "last": str(last), "freq": clock.last.freqstr, "step": None}
    if isinstance(clock.last, pd.DatetimeIndex):
        zone = None if clock.last.tz is None else str(clock.last.tz)
        naive = last.tz_convert("UTC").tz_localize(None) if zone else last
        return {
            "times": "datetime",
            "last": naive.isoformat(),
            "freq": clock.freq,
            "zone": zone,
            "unit": clock.last.unit,
            "step": None if clock.step is None else clock.step.record(),
        }
    step = None if clock.step is None else clock.step.record()
    return {"times": "number", "last": plain(last, "time"), "freq": None, "step": step}


def _read_clock(config: dict[str, Any]) -> Clock:
    if config["times"] == "period":
        return Clock(pd.PeriodIndex([config["last"]], freq=config["freq"]), Step("period", freq=config["freq"]))
    if config["times"] == "datetime":
        last = pd.DatetimeIndex([config["last"]]).as_unit(config["unit"])
        if config["zone"]:
            last = last.tz_localize("UTC").tz_convert(config["zone"])
        return Clock(last, _read_step(config, last), config["freq"])
    last = pd.Index([config["last"]])
    return Clock(last, _read_step(config, last))


def _read_step(config: dict[str, Any], last: Any) -> Step | None:
    """Return the step of a series; format 1 had the frequency alone, and counted numbers by one."""
    if config.get("step") is not None:
        return Step(**config["step"])
    if config["times"] == "number":
        return Step("number", 1)
    if config["freq"] is None:
        return None
    return Step.find(pd.date_range(end=last[0], periods=8, freq=config["freq"]))


def plain(value: Any, what: str) -> Any:
    """Return a name as JSON knows it."""
    if isinstance(value, tuple):
        return [plain(part, what) for part in value]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (str, int, float)):
        return value
    raise InputError(f"{what} {value!r} is a {type(value).__name__}: a file holds names that are text or numbers")


def _key(key: Any) -> Any:
    return tuple(key) if isinstance(key, list) else key
