"""Models on disk: ``model.safetensors`` for the numbers, ``config.json`` for the rest; no pickle, no code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from retrograd.errors import InputError, near_names
from retrograd.files import write_whole

__all__ = [
    "CONFIG_FILE",
    "MODEL_FILE",
    "read_model",
    "require_free",
    "require_known",
    "write_model",
]

Array = np.ndarray[Any, Any]

MODEL_FILE, CONFIG_FILE = "model.safetensors", "config.json"


def write_model(folder: Path, arrays: dict[str, Array], config: dict[str, Any], *, overwrite: bool) -> None:
    """Write both files, each whole.

    Args:
        folder: made if it is not there.
        arrays: the numbers, by name.
        config: with ``"model"``, the kind, and ``"format"``, a number that rises with every change.
        overwrite: whether a model that is there may be replaced.

    Raises:
        InputError: there is one of the files, or the folder cannot be written.
    """
    from safetensors.numpy import save

    if not overwrite:
        require_free(folder / MODEL_FILE, folder / CONFIG_FILE)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / MODEL_FILE, save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))
        write_whole(folder / CONFIG_FILE, (json.dumps(config, indent=2) + "\n").encode())
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror or error}") from None


def require_free(*paths: Path) -> None:
    """Raise InputError if there is something at one of the paths."""
    for path in paths:
        if path.exists():
            raise InputError(f"{path} exists: take another folder, or overwrite=True")


def require_known(version: int, newest: int, where: str) -> None:
    """Raise InputError if a newer version of the package wrote this."""
    if version > newest:
        raise InputError(f"{where} has format {version}, this version reads up to {newest}: install a newer retrograd")


def read_model(folder: Path, kind: str, newest: int) -> tuple[dict[str, Array], dict[str, Any]]:
    """Read what :func:`write_model` wrote: arrays and configuration.

    Args:
        folder: where.
        kind: the ``"model"`` that is expected.
        newest: the newest ``"format"`` that the caller understands.

    Raises:
        InputError: there is no such model, it is of another kind, or a newer version wrote it.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    if not folder.is_dir():
        others = [path.name for path in folder.parent.iterdir() if path.is_dir()] if folder.parent.is_dir() else []
        hint = f": {near_names(folder.name, sorted(others))}" if others else ""
        raise InputError(f"run folder {folder} does not exist{hint}")
    try:
        config = json.loads((folder / CONFIG_FILE).read_text())
        found, version = config["model"], config["format"]
        arrays = load((folder / MODEL_FILE).read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"{folder} is no finished run: {Path(str(error.filename)).name} is missing") from None
    except (OSError, KeyError, TypeError, json.JSONDecodeError, SafetensorError) as error:
        raise InputError(f"{folder} is no run that can be read: {type(error).__name__}: {error}") from None
    if found != kind:
        raise InputError(f"{folder} holds a model of kind {found!r}, expected {kind!r}")
    require_known(version, newest, str(folder / CONFIG_FILE))
    return arrays, config
