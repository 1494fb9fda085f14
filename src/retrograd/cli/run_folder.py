"""The folder that a run writes, and what `retrograd forecast`, `simulate` and `compare` find in one."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from retrograd.errors import InputError, require_whole
from retrograd.estimators.model_files import Saved, require_arrays, require_names, restored
from retrograd.files import sole_writer
from retrograd.tables.read import Table
from retrograd.tables.time_axis import TimeAxis

__all__ = [
    "CHECKPOINT_FILE",
    "KINDS",
    "LIVE_FILE",
    "MOST_STEPS",
    "Panel",
    "Run",
    "ranges_of",
    "read_any",
    "read_run",
    "run_folder",
    "saved_panel",
    "saved_run",
]

Array = np.ndarray[Any, Any]

# Of a recurrent training alone.
CHECKPOINT_FILE, LIVE_FILE = "checkpoint.safetensors", "live.html"
# Estimators by what `--model` calls them; each is imported where one is needed.
KINDS = {"recurrent": "Recurrent", "state-space": "StateSpace", "forecaster": "Forecaster", "auto": "AutoForecaster"}

# Those of many series.
_OF_PANELS = {"recurrent-panel": "RecurrentPanel", "auto": "AutoForecaster"}

# Steps that a command forecasts or simulates at once, at most.
MOST_STEPS = 1_000_000


@dataclass(frozen=True)
class Run:
    """A saved run.

    Attributes:
        model: the fitted estimator.
        kind: which one, a key of :data:`KINDS`.
        axis: the end of the data's time axis.
        horizon: steps that were forecast.
        targets: names of the predicted columns.
        inputs: names of the exogenous ones.
        future_inputs: those known beyond the last target, ``(F, E)``.
        input_ranges: least and largest value of each exogenous column in the data, ``(E, 2)``; None of older runs.
        state: where the data end, to forecast from; None for a forecaster, which holds it.
        settings: what was run, by option name.
    """

    model: Any
    kind: str
    axis: TimeAxis
    horizon: int
    targets: list[str]
    inputs: list[str]
    future_inputs: Array
    input_ranges: Array | None
    state: Array | None
    settings: dict[str, Any]


@dataclass(frozen=True)
class Panel:
    """A saved run of many series.

    Attributes:
        model: the fitted :class:`retrograd.estimators.AutoForecaster`, or ``RecurrentPanel``.
        kind: which one, ``"auto"`` or ``"recurrent-panel"``.
        series: the column that tells them apart.
        axes: the end of each one's time axis, by its name.
        horizon: steps that were forecast.
        targets: names of the predicted columns.
        settings: what was run, by option name.
    """

    model: Any
    kind: str
    series: str
    axes: dict[str, TimeAxis]
    horizon: int
    targets: list[str]
    settings: dict[str, Any]


def saved_run(model: Any, table: Table, horizon: int, settings: dict[str, Any], state: Array | None = None) -> Saved:
    """Return a fitted model with what a later forecast needs to know of the data."""
    run = {
        "time": table.axis.record(),
        "horizon": horizon,
        "targets": table.target_names,
        "inputs": table.input_names,
        "future_inputs": table.inputs[table.steps :].tolist(),
        "input_ranges": ranges_of(table).tolist(),
        "state": None if state is None else state.tolist(),
        "settings": settings,
    }
    saved: Saved = model.saved()
    return replace(saved, run=run)


def ranges_of(table: Table) -> Array:
    """Return the least and the largest value of each exogenous column where the targets are known, ``(E, 2)``."""
    known = table.inputs[: table.steps]
    return np.stack([known.min(axis=0), known.max(axis=0)], axis=1)


def saved_panel(model: Any, tables: Mapping[str, Table], series: str, horizon: int, settings: dict[str, Any]) -> Saved:
    """Return a forecaster of many series with what a later forecast needs to know of the data."""
    run = {
        "series": series,
        "times": {name: table.axis.record() for name, table in tables.items()},
        "horizon": horizon,
        "targets": next(iter(tables.values())).target_names,
        "settings": settings,
    }
    saved: Saved = model.saved()
    return replace(saved, run=run)


def read_any(folder: Path) -> Run | Panel:
    """Return the run in a folder, of one series or many.

    Raises:
        InputError: the folder holds no run.
    """
    kinds = {*KINDS, *_OF_PANELS}
    return restored(folder, kinds, lambda saved: _panel(saved) if "series" in (saved.run or ()) else _run(saved))


def read_run(folder: Path, kinds: Collection[str]) -> Run:
    """Return the run of one series in a folder.

    Raises:
        InputError: the folder holds no run of these kinds.
    """
    return restored(folder, kinds, _run)


def _panel(saved: Saved) -> Panel:
    run, settings = saved.run, (saved.run or {})["settings"]
    assert run is not None
    model = getattr(import_module("retrograd.estimators"), _OF_PANELS[saved.kind]).from_saved(saved)
    axes = {name: TimeAxis.from_record(record) for name, record in run["times"].items()}
    targets = require_names(run["targets"], "targets")
    own = (model._columns, model._clocks) if saved.kind == "auto" else (model.target_names_, model.networks_)
    if [targets, list(axes)] != [list(names) for names in own]:
        raise InputError("the columns or series of the run are not those of its model")
    for axis in axes.values():
        _require_axis(axis)
    if not isinstance(run["series"], str) or not isinstance(settings, dict):
        raise InputError("the column of series is no text, or the settings are no record")
    horizon = require_whole("horizon", run["horizon"], 1, MOST_STEPS)
    return Panel(model, saved.kind, run["series"], axes, horizon, targets, settings)


def _require_axis(axis: TimeAxis) -> None:
    if not isinstance(axis.label, str):
        raise InputError("the label of time is no text")
    if not axis.ahead(1).insert(0, axis.last).is_monotonic_increasing:
        raise InputError("its time axis goes back")


def _run(saved: Saved) -> Run:
    run = saved.run
    if run is None:
        raise InputError("it is a model alone, not a run of `retrograd fit`: fit again, or use it from Python")
    model = getattr(import_module("retrograd.estimators"), KINDS[saved.kind]).from_saved(saved)
    targets, inputs = (require_names(run[name], name) for name in ("targets", "inputs"))
    _require_fit(saved.kind, model, targets, inputs)
    future = np.array(run["future_inputs"], dtype=np.float64).reshape(len(run["future_inputs"]), len(inputs))
    arrays = {"future_inputs": future}
    shapes: dict[str, tuple[int, ...]] = {"future_inputs": (-1, len(inputs))}
    ranges = None
    if "input_ranges" in run:
        ranges = arrays["input_ranges"] = np.array(run["input_ranges"], dtype=np.float64).reshape(len(inputs), 2)
        shapes["input_ranges"] = (len(inputs), 2)
    state = None
    if saved.kind not in ("forecaster", "auto"):
        state = arrays["state"] = np.array(run["state"], dtype=np.float64)
        shapes["state"] = (model.order_,) if saved.kind == "state-space" else model.state_.shape
    require_arrays(arrays, shapes)
    axis, settings = TimeAxis.from_record(run["time"]), run["settings"]
    _require_axis(axis)
    if not isinstance(settings, dict):
        raise InputError("the settings are no record")
    horizon = require_whole("horizon", run["horizon"], 0, MOST_STEPS)
    return Run(model, saved.kind, axis, horizon, targets, inputs, future, ranges, state, settings)


def _require_fit(kind: str, model: Any, targets: list[str], inputs: list[str]) -> None:
    """Check that a run's columns are those of its model."""
    wanted: Any
    given: Any = [targets, inputs]
    if kind == "forecaster":  # fitted to arrays, which have no names
        wanted, given = (len(model._columns), len(model._input_names)), (len(targets), len(inputs))
    elif kind == "auto":
        wanted = [list(model._columns), model.input_names]
    else:
        named = model.network_ if kind == "recurrent" else model
        names = ("target_names", "input_names") if kind == "recurrent" else ("output_names_", "input_names_")
        wanted = [list(getattr(named, name)) for name in names]
    if wanted != given:
        raise InputError("the columns of the run are not those of its model")


@contextmanager
def run_folder(
    out: Path, *, overwrite: bool, resume: bool = False, hint: str = "--overwrite replaces it"
) -> Iterator[None]:
    """Keep the run folder for one fit: nobody else writes there, and a run in it stays until the new one is whole.

    Raises:
        InputError: the folder holds something that may not be replaced, another fit writes there, or it cannot be
            written.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file, expected a folder")
    with sole_writer(out):
        if any(out.iterdir()) and not (overwrite or resume):
            raise InputError(f"--out {out} is not empty: {hint}")
        yield
