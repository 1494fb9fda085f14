"""Models on disk: ``model.safetensors`` for the numbers, ``config.json`` for the rest; no pickle, no code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retrograd.errors import InputError, near_names
from retrograd.estimators.system import System
from retrograd.files import write_whole

if TYPE_CHECKING:
    from retrograd.estimators.state_space import StateSpace

__all__ = [
    "CONFIG_FILE",
    "MODEL_FILE",
    "load_state_space",
    "read_model",
    "require_free",
    "require_known",
    "save_state_space",
    "write_model",
]

Array = np.ndarray[Any, Any]

MODEL_FILE, CONFIG_FILE = "model.safetensors", "config.json"
# Raised whenever what the two files of a state-space model hold changes; load_state_space knows every older one.
STATE_SPACE_FORMAT = 1
MATRICES = ("A", "B", "C", "D", "K", "offset", "x0")


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


def save_state_space(model: StateSpace, folder: Path, *, overwrite: bool) -> None:
    """Write a fitted model; see :meth:`retrograd.estimators.StateSpace.save`."""
    arrays = {name: getattr(model.system_, name) for name in MATRICES}
    arrays |= {
        "innovation_covariance": model.innovation_covariance_,
        "final_state": model.final_state_,
        "singular_values": model.singular_values_,
    }
    config = {
        "model": "state-space",
        "format": STATE_SPACE_FORMAT,
        "inputs": list(model.input_names_),
        "outputs": list(model.output_names_),
        "parameters": model.get_params(),
        "converged": model.converged_,
        "stop_reason": model.stop_reason_,
        "order_criteria": [[order, *map(float, pair)] for order, pair in model.order_criteria_.items()],
        "history": [[value, None if np.isnan(held_out) else held_out] for value, held_out in model.history_],
    }
    write_model(folder, arrays, config, overwrite=overwrite)


def load_state_space(cls: type[StateSpace], folder: Path) -> StateSpace:
    """Read a model; see :meth:`retrograd.estimators.StateSpace.load`."""
    arrays, config = read_model(folder, "state-space", STATE_SPACE_FORMAT)
    try:
        model = cls(**config["parameters"])
        model._keep(
            System(**{name: arrays[name] for name in MATRICES}), tuple(config["inputs"]), tuple(config["outputs"])
        )
        model.innovation_covariance_ = arrays["innovation_covariance"]
        model.final_state_, model.singular_values_ = arrays["final_state"], arrays["singular_values"]
        model.converged_, model.stop_reason_ = config["converged"], config["stop_reason"]
        model.history_ = [(value, float("nan") if held is None else held) for value, held in config["history"]]
        model.order_criteria_ = {order: (aic, bic) for order, aic, bic in config["order_criteria"]}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder} is no model that can be read: {type(error).__name__}: {error}") from None
    return model
