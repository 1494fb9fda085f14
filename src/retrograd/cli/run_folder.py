"""The folder that a run writes, and what `retrograd forecast`, `simulate` and `compare` find in one."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from retrograd.errors import InputError
from retrograd.estimators.model_files import read_model, unreadable, write_model
from retrograd.files import write_whole
from retrograd.tables.read import Table
from retrograd.tables.time_axis import TimeAxis

__all__ = [
    "CHECKPOINT_FILE",
    "KINDS",
    "LIVE_FILE",
    "Run",
    "make",
    "read_run",
    "require_new",
    "require_new_file",
    "write_new",
    "write_run",
]

Array = np.ndarray[Any, Any]

# Of a recurrent training alone.
CHECKPOINT_FILE, LIVE_FILE = "checkpoint.safetensors", "live.html"
# Estimators by what `--model` calls them; each is imported where one is needed.
KINDS = {"recurrent": "Recurrent", "state-space": "StateSpace", "forecaster": "Forecaster"}


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


def write_run(
    folder: Path, model: Any, table: Table, horizon: int, settings: dict[str, Any], state: Array | None = None
) -> None:
    """Write a fitted model with what a later forecast needs to know of the data: with this the run is finished.

    A checkpoint in the folder is that of the run replaced, where the new one is no training.
    """
    run = {
        "time": table.axis.record(),
        "horizon": horizon,
        "targets": table.target_names,
        "inputs": table.input_names,
        "future_inputs": table.inputs[table.steps :].tolist(),
        "state": None if state is None else state.tolist(),
        "settings": settings,
    }
    saved = model.saved()
    if saved.kind != "recurrent":
        for name in (CHECKPOINT_FILE, LIVE_FILE):
            (folder / name).unlink(missing_ok=True)
    write_model(folder, replace(saved, run=run), overwrite=True)


def read_run(folder: Path, kinds: Collection[str] = tuple(KINDS)) -> Run:
    """Return what :func:`write_run` wrote.

    Raises:
        InputError: the folder holds no run of these kinds.
    """
    saved = read_model(folder, kinds)
    if saved.run is None:
        raise InputError(f"{folder} holds a model, but no run of `retrograd fit`: fit again, or use it from Python")
    try:
        run = saved.run
        model = getattr(import_module("retrograd.estimators"), KINDS[saved.kind]).from_saved(saved)
        inputs = np.array(run["future_inputs"], dtype=np.float64).reshape(len(run["future_inputs"]), len(run["inputs"]))
        state = run.get("state")
        return Run(
            model,
            saved.kind,
            TimeAxis.from_record(run["time"]),
            run["horizon"],
            run["targets"],
            run["inputs"],
            inputs,
            None if state is None else np.array(state, dtype=np.float64),
            run["settings"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise unreadable(folder, error) from None


def require_new(out: Path, *, overwrite: bool, hint: str = "--overwrite replaces it") -> None:
    """Refuse a folder that holds something, unless it may be replaced."""
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file, expected a folder")
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise InputError(f"--out {out} is not empty: {hint}")


def make(out: Path) -> None:
    """Make the folder, before any work is done for it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out} cannot be written: {error.strerror or error}") from None


def require_new_file(out: Path, *, overwrite: bool) -> None:
    """Refuse a file that cannot be, or that is there and may not be replaced."""
    if out.is_dir() or not out.parent.is_dir():
        raise InputError(f"--out {out} is a folder or lies in none, expected a file in a folder that exists")
    if out.exists() and not overwrite:
        raise InputError(f"{out} exists: use --overwrite to replace it, or --out to name another")


def write_new(out: Path, content: bytes) -> None:
    """Write a file, whole."""
    try:
        write_whole(out, content)
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror or error}") from None
