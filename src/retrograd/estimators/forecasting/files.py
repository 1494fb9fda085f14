"""A fitted forecaster as two files: ``model.safetensors`` and ``config.json`` with a format number. No pickle.

    config.json         format, parameters, columns, instances and their last times, what y was
    model.safetensors   scaling, states, read-outs with their moments, residuals, and the tail from which it goes on

Every older format stays readable; a newer one is refused.
"""

from __future__ import annotations

import json
import struct
from contextvars import ContextVar
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pandas as pd
import torch
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from retrograd.errors import InputError
from retrograd.estimators.forecasting.fit import Group
from retrograd.estimators.forecasting.model import ForecastModel
from retrograd.estimators.forecasting.readout import Moments, Weights
from retrograd.estimators.forecasting.settings import Instance, Settings
from retrograd.estimators.forecasting.states import Lags, Linear
from retrograd.estimators.forecasting.tables import NAMELESS, Clock, by_instance, with_instances
from retrograd.estimators.model_files import (
    CONFIG_FILE,
    MODEL_FILE,
    Saved,
    read_model,
    require_free,
    unreadable,
    write_model,
)
from retrograd.estimators.recurrent.training import Epoch
from retrograd.files import write_whole

__all__ = ["LOADING", "as_bytes", "from_bytes", "from_saved", "read", "saved_of", "write"]

Array = np.ndarray[Any, Any]

KIND = "forecaster"
_MOMENTS = ("gram", "cross", "energy", "input_gram", "input_cross", "input_target")
# What a fit takes over instead of fitting: the protocol's base class then keeps its own books as after any fit.
LOADING: ContextVar[tuple[ForecastModel, dict[str, Any]] | None] = ContextVar("LOADING", default=None)


def write(forecaster: Any, folder: Path, overwrite: bool) -> None:
    """Write a fitted forecaster to a folder, with the note that sktime looks for, where it is there."""
    link = folder.with_name(f"{folder.name}.zip")
    sktime = hasattr(forecaster, "get_tags")
    if sktime and not overwrite:
        require_free(folder / MODEL_FILE, folder / CONFIG_FILE, link)
    write_model(folder, forecaster.saved(), overwrite=overwrite)
    if sktime:
        # What sktime.base.load opens: the name of the class, as it wants it, which leads to the folder beside.
        content = BytesIO()
        with ZipFile(content, "w") as archive:
            archive.writestr("_metadata", f"c{type(forecaster).__module__}\n{type(forecaster).__qualname__}\n.")
        write_whole(link, content.getvalue())


def read(cls: Any, folder: Path) -> Any:
    """Read what :func:`write` wrote."""
    saved = read_model(folder, (KIND,))
    try:
        return cls.from_saved(saved)
    except (KeyError, TypeError) as error:
        raise unreadable(folder, error) from None


def as_bytes(forecaster: Any) -> bytes:
    """Return both files in one: the configuration's length, the configuration, the tensors."""
    saved = forecaster.saved()
    head = json.dumps(saved.config).encode()
    return struct.pack("<Q", len(head)) + head + save_tensors(saved.arrays)


def from_bytes(cls: Any, content: bytes) -> Any:
    """Read what :func:`as_bytes` returned."""
    (length,) = struct.unpack("<Q", content[:8])
    return from_saved(cls, Saved(KIND, load_tensors(content[8 + length :]), json.loads(content[8 : 8 + length])))


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
    given = None if forecaster._fh_given is None else [int(step) for step in forecaster._fh_given]
    parameters = forecaster.get_params(deep=False)
    config = {
        "parameters": {**parameters, "calendar": list(parameters["calendar"])},
        "states": states,
        "groups": [{"count": group.moments.count, "ridge": group.ridge} for group in model.groups],
        "form": forecaster._form,
        # sktime knows more kinds of panel than those with an index.
        "mtype": getattr(forecaster, "_y_metadata", {}).get("mtype"),
        "fh": given,
        "columns": [_plain(name, "column") for name in forecaster._columns],
        "columns_name": _plain(forecaster._columns.name, "columns' name"),
        "index_names": [_plain(name, "index name") for name in forecaster._index_names],
        "input_names": [_plain(name, "input") for name in forecaster._input_names],
        "instances": [
            {"key": _plain(key, "instance"), "name": tail.name, **_clock(clock)}
            for (key, clock), tail in zip(forecaster._clocks.items(), model.tails, strict=True)
        ],
        "history": [[epoch.loss, epoch.gradient_norm] for epoch in model.history],
    }
    return Saved(KIND, tensors, config)


def from_saved(cls: Any, saved: Saved) -> Any:
    """Return the forecaster of :func:`saved_of`."""
    tensors, config = saved.arrays, saved.config
    parameters = {**config["parameters"], "calendar": tuple(config["parameters"]["calendar"])}
    forecaster = cls(**parameters)
    settings: Settings = Settings.of(forecaster)
    kind = config["states"]["kind"]
    states: Lags | Linear
    if kind == "lags":
        states = Lags(config["states"]["length"], settings.difference)
    else:
        named = {name: torch.from_numpy(tensors[f"states.{name}"]) for name in config["states"]["parameters"]}
        states = Linear(kind, named, settings.difference)
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
    model = ForecastModel(
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
    clocks = {_key(each["key"]): _read_clock(each) for each in config["instances"]}
    about = {
        "clocks": clocks,
        "columns": pd.Index(config["columns"], name=config["columns_name"]),
        "index_names": config["index_names"],
        "input_names": config["input_names"],
    }
    y = _table([tail.y for tail in tails], about["columns"], clocks, config["index_names"])
    X = None
    if config["input_names"]:
        inputs = [tail.x[:, -len(config["input_names"]) :] for tail in tails]
        X = _table(inputs, pd.Index(config["input_names"]), clocks, config["index_names"])
    given, form = None if X is None else _in_form(X, config["form"]), config["form"]
    given_y = _in_form(y, form)
    if config["mtype"] in ("numpy3D", "nested_univ") and hasattr(forecaster, "get_tags"):
        from sktime.datatypes import convert_to

        shortest = min(len(part) for _, part in by_instance(y))
        given_y = convert_to(y.groupby(level=0).tail(shortest), config["mtype"], as_scitype="Panel")
    token = LOADING.set((model, about))
    try:
        return forecaster.fit(given_y, given, config["fh"])
    finally:
        LOADING.reset(token)


def _table(values: list[Array], columns: Any, clocks: dict[Any, Clock], names: Any) -> Any:
    times = [clock.before(len(part)) for part, clock in zip(values, clocks.values(), strict=True)]
    joined = np.concatenate([part[len(part) - len(index) :] for part, index in zip(values, times, strict=True)])
    index = times[0] if None in clocks else with_instances(list(clocks), times, names)
    return pd.DataFrame(joined, index=index, columns=columns)


def _in_form(table: pd.DataFrame, form: str) -> Any:
    """Return a table as the kind of thing that the caller had given."""
    if form == "series" and table.shape[1] == 1:
        series = table.iloc[:, 0]
        return series.rename(None) if series.name == NAMELESS else series
    if form == "list":
        return [part.to_numpy() for _, part in table.groupby(level=0)]
    if form == "frames":
        return [part.droplevel(0).reset_index(drop=True) for _, part in table.groupby(level=0)]
    if form in ("vector", "matrix"):
        return table.to_numpy()[:, 0] if form == "vector" and table.shape[1] == 1 else table.to_numpy()
    return table


def _clock(clock: Clock) -> dict[str, Any]:
    last = clock.last[0]
    if isinstance(clock.last, pd.PeriodIndex):
        return {"times": "period", "last": str(last), "freq": clock.last.freqstr}
    if isinstance(clock.last, pd.DatetimeIndex):
        zone = None if clock.last.tz is None else str(clock.last.tz)
        naive = last.tz_convert("UTC").tz_localize(None) if zone else last
        return {
            "times": "datetime",
            "last": naive.isoformat(),
            "freq": clock.freq,
            "zone": zone,
            "unit": clock.last.unit,
        }
    return {"times": "number", "last": _plain(last, "time"), "freq": None}


def _read_clock(config: dict[str, Any]) -> Clock:
    if config["times"] == "period":
        return Clock(pd.PeriodIndex([config["last"]], freq=config["freq"]), None)
    if config["times"] == "datetime":
        last = pd.DatetimeIndex([config["last"]]).as_unit(config["unit"])
        if config["zone"]:
            last = last.tz_localize("UTC").tz_convert(config["zone"])
        return Clock(last, config["freq"])
    return Clock(pd.Index([config["last"]]), None)


def _plain(value: Any, what: str) -> Any:
    """Return a name as JSON knows it."""
    if isinstance(value, tuple):
        return [_plain(part, what) for part in value]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (str, int, float)):
        return value
    raise InputError(f"{what} {value!r} is a {type(value).__name__}: a file holds names that are text or numbers")


def _key(key: Any) -> Any:
    return tuple(key) if isinstance(key, list) else key
