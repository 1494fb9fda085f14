"""A saved model is a folder of two files, whatever the estimator: no pickle, no code.

    model.safetensors   the arrays, by name
    config.json         the rest; written last: with it the model is there, before it there is none

``config.json`` holds ``format`` (of this layout), ``model`` (the kind of estimator), ``files`` (the SHA-256 digest of
every other file: arrays of one model and a configuration of another are refused), what the estimator says of itself,
and under ``run`` what a run of ``retrograd fit`` adds: the time axis, the inputs known ahead, the settings.

Format 1 had no digests, and kept what a run adds in ``run.json`` or, for recurrent models, beside the rest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retrograd.errors import InputError, near_names
from retrograd.files import write_whole

__all__ = ["CONFIG_FILE", "FORMAT", "MODEL_FILE", "Saved", "read_model", "require_free", "unreadable", "write_model"]

Array = np.ndarray[Any, Any]

MODEL_FILE, CONFIG_FILE = "model.safetensors", "config.json"
# Of format 1.
_OLD_RUN_FILE = "run.json"
# Raised whenever what the files hold changes; every older format stays readable.
FORMAT = 2


@dataclass(frozen=True)
class Saved:
    """What files hold of a fitted estimator.

    Attributes:
        kind: of estimator: ``"recurrent"``, ``"state-space"``, ``"forecaster"``.
        arrays: by name.
        config: the estimator's parameters and the rest, as JSON has it.
        run: what a run of the command line adds; None for a model alone.
        format: of the files that it was read from.
    """

    kind: str
    arrays: dict[str, Array]
    config: dict[str, Any]
    run: dict[str, Any] | None = None
    format: int = FORMAT


def write_model(folder: Path, saved: Saved, *, overwrite: bool) -> None:
    """Write a model, each file whole, the configuration last.

    Args:
        folder: made if it is not there.
        saved: what to write.
        overwrite: whether a model that is there may be replaced.

    Raises:
        InputError: there is one of the files, or the folder cannot be written.
    """
    from safetensors.numpy import save

    if not overwrite:
        require_free(folder / MODEL_FILE, folder / CONFIG_FILE)
    content = save({name: np.ascontiguousarray(array) for name, array in saved.arrays.items()})
    config = {
        "format": FORMAT,
        "model": saved.kind,
        "files": {MODEL_FILE: hashlib.sha256(content).hexdigest()},
        **saved.config,
        **({} if saved.run is None else {"run": saved.run}),
    }
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / MODEL_FILE, content)
        write_whole(folder / CONFIG_FILE, text.encode())
        (folder / _OLD_RUN_FILE).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror or error}") from None


def require_free(*paths: Path) -> None:
    """Raise InputError if there is something at one of the paths."""
    for path in paths:
        if path.exists():
            raise InputError(f"{path} exists: take another folder, or overwrite=True")


def read_model(folder: Path, kinds: Collection[str]) -> Saved:
    """Read what :func:`write_model` wrote, by this version or an older one.

    Args:
        folder: where.
        kinds: the kinds of estimator that are expected.

    Raises:
        InputError: there is no such model, it is of another kind, is not whole, or a newer version wrote it.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    if folder.is_file():
        raise InputError(f"{folder} is a file, expected a folder that holds a model")
    if not folder.is_dir():
        others = [path.name for path in folder.parent.iterdir() if path.is_dir()] if folder.parent.is_dir() else []
        hint = f": {near_names(folder.name, sorted(others))}" if others else ""
        raise InputError(f"run folder {folder} does not exist{hint}")
    try:
        config = json.loads((folder / CONFIG_FILE).read_text())
        kind, version = config.pop("model"), config.pop("format")
        if kind not in kinds:
            raise InputError(f"{folder} holds a model of kind {kind!r}, expected {' or '.join(map(repr, kinds))}")
        if version > FORMAT:
            raise InputError(
                f"{folder / CONFIG_FILE} has format {version}, this version reads up to {FORMAT}: install a newer "
                "retrograd"
            )
        content = (folder / MODEL_FILE).read_bytes()
        digest = config.pop("files", {}).get(MODEL_FILE)
        if digest not in (None, hashlib.sha256(content).hexdigest()):
            raise InputError(f"{folder} is not whole: its {MODEL_FILE} and {CONFIG_FILE} are of two models; fit again")
        arrays = load(content)
        run = _old_run(folder, config, arrays) if version == 1 else config.pop("run", None)
    except FileNotFoundError as error:
        raise InputError(f"{folder} is no finished run: {Path(str(error.filename)).name} is missing") from None
    except (OSError, KeyError, TypeError, AttributeError, json.JSONDecodeError, SafetensorError) as error:
        raise unreadable(folder, error) from None
    return Saved(kind, arrays, config, run, version)


def unreadable(folder: Path | str, error: Exception) -> InputError:
    """Return the error for a model whose files hold something else than they should."""
    return InputError(f"{folder} is no model that can be read: {type(error).__name__}: {error}")


def _old_run(folder: Path, config: dict[str, Any], arrays: dict[str, Array]) -> dict[str, Any] | None:
    """Return what a run of format 1 had beside the model."""
    if (folder / _OLD_RUN_FILE).exists():
        return dict(json.loads((folder / _OLD_RUN_FILE).read_text()))
    if "time" not in config:
        return None
    return {
        **{name: config[name] for name in ("time", "horizon", "settings")},
        "targets": config["target"]["names"],
        "inputs": config["inputs"]["names"],
        "future_inputs": arrays["future_inputs"].tolist(),
        "state": np.concatenate([arrays["border.state"], arrays["border.target"]]).tolist(),
    }
