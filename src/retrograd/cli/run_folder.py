"""The folder that a run writes, and what `retrograd forecast`, `simulate` and `compare` find in one."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from retrograd.cli.results import TimeAxis
from retrograd.errors import InputError, near_names
from retrograd.files import write_whole
from retrograd.tables.read import Table

__all__ = [
    "CHECKPOINT_FILE",
    "RUN_FILE",
    "make",
    "read_run",
    "require_kind",
    "require_new",
    "require_new_file",
    "write_new",
    "write_run",
]

Array = np.ndarray[Any, Any]

# What a forecast needs beside the model; the recurrent model keeps it in its own configuration.
RUN_FILE = "run.json"
# Of a recurrent training alone.
CHECKPOINT_FILE = "checkpoint.safetensors"
FORMAT = 1


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


def write_run(folder: Path, table: Table, horizon: int, settings: dict[str, Any], **more: Any) -> None:
    """Write what a later forecast needs to know of the data: the time axis, inputs beyond the last target, and more.

    A checkpoint in the folder is that of the run replaced: it must not pass for one of this run.
    """
    (folder / CHECKPOINT_FILE).unlink(missing_ok=True)
    run = {
        "format": FORMAT,
        "time": TimeAxis.of(table).config(),
        "horizon": horizon,
        "targets": table.target_names,
        "inputs": table.input_names,
        "future_inputs": table.inputs[table.steps :].tolist(),
        "settings": settings,
        **more,
    }
    write_whole(folder / RUN_FILE, (json.dumps(run, indent=2, ensure_ascii=False) + "\n").encode())


def read_run(folder: Path) -> tuple[dict[str, Any], TimeAxis, Array]:
    """Return what :func:`write_run` wrote: all of it, the time axis, and the future inputs ``(F, E)``."""
    try:
        run = json.loads((folder / RUN_FILE).read_text())
        if run["format"] > FORMAT:
            raise InputError(f"{folder / RUN_FILE} has format {run['format']}: install a newer retrograd")
        inputs = np.array(run["future_inputs"], dtype=np.float64).reshape(len(run["future_inputs"]), len(run["inputs"]))
        return run, TimeAxis.from_config(run["time"]), inputs
    except FileNotFoundError:
        raise InputError(f"{folder} is no run of `retrograd fit`: {RUN_FILE} is missing") from None
    except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise InputError(f"{folder} is no run that can be read: {type(error).__name__}: {error}") from None


def require_kind(folder: Path, kinds: Iterable[str]) -> str:
    """Return which model a run folder holds: one of ``kinds``, or the folder is refused."""
    if folder.is_file():
        raise InputError(f"{folder} is a file, expected a run folder that `retrograd fit` wrote")
    if not folder.is_dir():
        parent = folder.parent
        others = sorted(path.name for path in parent.iterdir() if path.is_dir()) if parent.is_dir() else []
        hint = f": {near_names(folder.name, others)}" if others else ""
        raise InputError(f"run folder {folder} does not exist{hint}")
    try:
        config = json.loads((folder / "config.json").read_text())
        kind = str(config.get("model", "forecaster"))
    except FileNotFoundError:
        raise InputError(f"{folder} is no finished run: config.json is missing") from None
    except (OSError, AttributeError, json.JSONDecodeError) as error:
        raise InputError(f"{folder} is no run that can be read: {type(error).__name__}: {error}") from None
    if kind not in kinds:
        raise InputError(f"{folder} holds a model of kind {kind!r}, expected {' or '.join(map(repr, kinds))}")
    return kind


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
