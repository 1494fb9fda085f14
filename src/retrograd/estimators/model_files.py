"""A saved model is a folder of two files, whatever the estimator: no pickle, no code.

    model.safetensors   the arrays, by name
    config.json         the rest

Both take their places at once (:func:`retrograd.files.replaced_together`). ``config.json`` holds ``format`` (of this
layout), ``model`` (the kind of estimator), ``files`` (the SHA-256 digest of every other file: arrays of one model and a
configuration of another are refused), what the estimator says of itself, and under ``run`` what a run of ``retrograd
fit`` adds: the time axis, the inputs known ahead, the settings.

Format 1 had no digests, and kept what a run adds in ``run.json`` or, for recurrent models, beside the rest.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors import SafetensorError

from retrograd.errors import InputError, near_names, shortened
from retrograd.files import digest_of, replaced_together, settle, sole_writer, write_whole

__all__ = [
    "CONFIG_FILE",
    "FORMAT",
    "MODEL_FILE",
    "OLD_RUN_FILE",
    "UNREADABLE",
    "Saved",
    "add_model",
    "read_model",
    "require_arrays",
    "require_free",
    "require_names",
    "restored",
    "unreadable",
    "write_model",
]

Array = np.ndarray[Any, Any]

MODEL_FILE, CONFIG_FILE = "model.safetensors", "config.json"
# Of format 1.
OLD_RUN_FILE = "run.json"
# Raised whenever what the files hold changes; every older format stays readable.
FORMAT = 2
# A file of more is none of ours.
MOST_BYTES = 1 << 32
# What is raised where files hold something else than they should.
UNREADABLE = (
    ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, NotImplementedError, OSError,
    RecursionError, RuntimeError, SafetensorError, TypeError, ValueError,
)  # fmt: skip
Restored = TypeVar("Restored")


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
    """Write a model; whenever it is interrupted, the folder holds the old one or the new one.

    Args:
        folder: made if it is not there.
        saved: what to write.
        overwrite: whether a model that is there may be replaced.

    Raises:
        InputError: there is one of the files, or the folder cannot be written.
    """
    with sole_writer(folder):
        if not overwrite:
            require_free(folder / MODEL_FILE, folder / CONFIG_FILE)
        with replaced_together(folder, removed=(OLD_RUN_FILE,)) as new:
            add_model(new, saved)


def add_model(folder: Path, saved: Saved) -> None:
    """Write a model beside what else belongs to it; nothing is added after it, as it knows every file's digest."""
    from safetensors.numpy import save

    content = save({name: np.ascontiguousarray(array) for name, array in saved.arrays.items()})
    write_whole(folder / MODEL_FILE, content)
    config = {
        "format": FORMAT,
        "model": saved.kind,
        "files": {path.name: digest_of(path.read_bytes()) for path in sorted(folder.iterdir())},
        **saved.config,
        **({} if saved.run is None else {"run": saved.run}),
    }
    write_whole(folder / CONFIG_FILE, (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode())


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
    if folder.is_file():
        raise InputError(f"{folder} is a file, expected a folder that holds a model")
    if not folder.is_dir():
        others = [path.name for path in folder.parent.iterdir() if path.is_dir()] if folder.parent.is_dir() else []
        hint = f": {near_names(folder.name, sorted(others))}" if others else ""
        raise InputError(f"run folder {folder} does not exist{hint}")
    for last in (False, True):
        settle(folder)
        try:
            saved = _read(folder, kinds)
        except FileNotFoundError as error:
            raise InputError(f"{folder} is no finished run: {Path(str(error.filename)).name} is missing") from None
        except InputError:
            raise
        except UNREADABLE as error:
            raise unreadable(folder, error) from None
        if saved is not None:
            return saved
        # A writer may have come in between: only a second look says more.
        if not last:
            time.sleep(0.1)
    raise InputError(f"{folder} is not whole: its {MODEL_FILE} and {CONFIG_FILE} are of two models; fit again")


def _read(folder: Path, kinds: Collection[str]) -> Saved | None:
    """Return the model in a folder; None if its files do not belong together."""
    from safetensors.numpy import load

    config = json.loads(_content(folder / CONFIG_FILE))
    kind, version = config.pop("model"), config.pop("format")
    if kind not in kinds:
        raise InputError(
            f"{folder} holds a model of kind {shortened(repr(kind))}, expected {' or '.join(map(repr, kinds))}"
        )
    if type(version) is not int or version < 1:
        raise ValueError(f"format is {version!r}")
    if version > FORMAT:
        raise InputError(
            f"{folder / CONFIG_FILE} has format {version}, this version reads up to {FORMAT}: install a newer retrograd"
        )
    content = _content(folder / MODEL_FILE)
    if version > 1 and config.pop("files")[MODEL_FILE] != digest_of(content):
        return None
    arrays = load(content)
    run = _old_run(folder, config, arrays) if version == 1 else config.pop("run", None)
    return Saved(kind, arrays, config, run, version)


def _content(path: Path) -> bytes:
    size = path.stat().st_size
    if size > MOST_BYTES or not path.is_file():
        raise ValueError(f"{path.name} has {size} bytes, expected a file of at most {MOST_BYTES}")
    return path.read_bytes()


def restored(folder: Path, kinds: Collection[str], restore: Callable[[Saved], Restored]) -> Restored:
    """Read a model, and return what ``restore`` makes of it.

    Raises:
        InputError: as :func:`read_model`, or what the files hold is no such model.
    """
    saved = read_model(folder, kinds)
    try:
        return restore(saved)
    except UNREADABLE as error:
        raise unreadable(folder, error) from None


def require_arrays(
    arrays: dict[str, Array], shapes: dict[str, tuple[int, ...]], *whole: str, gaps: Collection[str] = ()
) -> None:
    """Raise unless there are exactly these arrays, float64 and finite; those named in ``whole`` hold whole numbers.

    Args:
        arrays: as they were read.
        shapes: of each; a size of -1 may be anything.
        whole: names of arrays of int64.
        gaps: names of arrays that hold NaN where nothing is known.

    >>> require_arrays({"bias": np.zeros(3)}, {"bias": (2,)})
    Traceback (most recent call last):
        ...
    retrograd.errors.InputError: array 'bias' is float64 of shape (3,), expected float64 of shape (2,)
    """
    for name in (*arrays, *shapes):
        if name not in arrays or name not in shapes:
            known = "not known" if name in arrays else "missing"
            raise InputError(f"array {shortened(repr(name))} is {known}")
    for name, shape in shapes.items():
        array, dtype = arrays[name], "int64" if name in whole else "float64"
        fits = array.ndim == len(shape) and all(
            size in (-1, there) for there, size in zip(array.shape, shape, strict=True)
        )
        if array.dtype != dtype or not fits:
            raise InputError(
                f"array {name!r} is {array.dtype} of shape {array.shape}, expected {dtype} of shape {shape}"
            )
        if not (np.isfinite(array) | (np.isnan(array) if name in gaps else False)).all():
            raise InputError(f"array {name!r} has a value that is not finite")


def require_names(names: Any, what: str) -> list[str]:
    """Return names of columns; raise unless they are a list of different texts."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len({*names}) < len(names):
        raise InputError(f"{what} are {shortened(repr(names))}, expected different names")
    return names


def unreadable(folder: Path | str, error: Exception) -> InputError:
    """Return the error for a model whose files hold something else than they should."""
    reason = " ".join(str(error).split())
    reason = reason if isinstance(error, InputError) else f"{type(error).__name__}: {reason}"
    return InputError(f"{folder} is no model that can be read: {shortened(reason, 300)}")


def _old_run(folder: Path, config: dict[str, Any], arrays: dict[str, Array]) -> dict[str, Any] | None:
    """Return what a run of format 1 had beside the model."""
    if (folder / OLD_RUN_FILE).exists():
        return dict(json.loads((folder / OLD_RUN_FILE).read_text()))
    if "time" not in config:
        return None
    return {
        **{name: config[name] for name in ("time", "horizon", "settings")},
        "targets": config["target"]["names"],
        "inputs": config["inputs"]["names"],
        "future_inputs": arrays["future_inputs"].tolist(),
        "state": np.concatenate([arrays["border.state"], arrays["border.target"]]).tolist(),
    }
