"""The folder that a run writes, and what `retrograd forecast`, `simulate` and `compare` find in one."""

from __future__ import annotations

from collections.abc import Collection, Iterator
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
    "Run",
    "read_run",
    "run_folder",
    "saved_run",
]

Array = np.ndarray[Any, Any]

# Of a recurrent training alone.
CHECKPOINT_FILE, LIVE_FILE = "checkpoint.safetensors", "live.html"
# Estimators by what `--model` calls them; each is imported where one is needed.
KINDS = {"recurrent": "Recurrent", "state-space": "StateSpace", "forecaster": "Forecaster", "auto": "AutoForecaster"}

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
    state: Array | None
    settings: dict[str, Any]


def saved_run(model: Any, table: Table, horizon: int, settings: dict[str, Any], state: Array | None = None) -> Saved:
    """Return a fitted model with what a later forecast needs to know of the data."""
    run = {
        "time": table.axis.record(),
        "horizon": horizon,
        "targets": table.target_names,
        "inputs": table.input_names,
        "future_inputs": table.inputs[table.steps :].tolist(),
        "state": None if state is None else state.tolist(),
        "settings": settings,
    }
    saved: Saved = model.saved()
    return replace(saved, run=run)


def read_run(folder: Path, kinds: Collection[str] = tuple(KINDS)) -> Run:
    """Return the run in a folder.

    Raises:
        InputError: the folder holds no run of these kinds.
    """
    return restored(folder, kinds, lambda saved: _run(folder, saved))


def _run(folder: Path, saved: Saved) -> Run:
    run = saved.run
    if run is None:
        raise InputError("it is a model alone, not a run of `retrograd fit`: fit again, or use it from Python")
    if "series" in run:
        raise InputError(
            "it has many series, whose forecasts are in its forecast.csv: fit again for other steps or levels, or use "
            "retrograd.estimators.AutoForecaster.load"
        )
    model = getattr(import_module("retrograd.estimators"), KINDS[saved.kind]).from_saved(saved)
    targets, inputs = (require_names(run[name], name) for name in ("targets", "inputs"))
    _require_fit(saved.kind, model, targets, inputs)
    future = np.array(run["future_inputs"], dtype=np.float64).reshape(len(run["future_inputs"]), len(inputs))
    arrays = {"future_inputs": future}
    shapes: dict[str, tuple[int, ...]] = {"future_inputs": (-1, len(inputs))}
    state = None
    if saved.kind not in ("forecaster", "auto"):
        state = arrays["state"] = np.array(run["state"], dtype=np.float64)
        shapes["state"] = (model.order_,) if saved.kind == "state-space" else model.state_.shape
    require_arrays(arrays, shapes)
    axis, settings = TimeAxis.from_record(run["time"]), run["settings"]
    if not isinstance(axis.label, str) or not isinstance(settings, dict):
        raise InputError("the label of time is no text, or the settings are no record")
    if not axis.ahead(1).insert(0, axis.last).is_monotonic_increasing:
        raise InputError("its time axis goes back")
    horizon = require_whole("horizon", run["horizon"], 0, MOST_STEPS)
    return Run(model, saved.kind, axis, horizon, targets, inputs, future, state, settings)


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
