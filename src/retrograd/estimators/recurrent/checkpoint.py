"""A training's state as one safetensors file: tensors as tensors, all else as JSON beside them. No pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from retrograd.errors import InputError, shortened
from retrograd.files import digest_of, write_whole

__all__ = ["load", "save"]


def save(path: Path, state: Any) -> None:
    """Write nested dicts, lists and tuples of tensors, numbers, texts and None, whole and exactly.

    >>> import tempfile, torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(Path(folder) / "a.safetensors", {"step": (3, [torch.ones(2), None])})
    ...     load(Path(folder) / "a.safetensors")
    {'step': (3, [tensor([1., 1.]), None])}
    """
    from safetensors.torch import save as dump

    tensors: dict[str, Tensor] = {}
    text = json.dumps(_pack(state, tensors))
    # One entry: safetensors writes several in an order of its own, which is another on every run.
    both = json.dumps({"state": text, "digest": _digest(text, tensors)})
    write_whole(path, dump(tensors, metadata={"checkpoint": both}))


def load(path: Path) -> Any:
    """Read what :func:`save` wrote.

    Raises:
        InputError: the file is none of those.
    """
    from safetensors import safe_open

    from retrograd.estimators.model_files import UNREADABLE

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
            metadata = json.loads(file.metadata()["checkpoint"])
        if metadata["digest"] != _digest(metadata["state"], tensors):
            raise ValueError("it was changed after it was written")
        return _unpack(json.loads(metadata["state"]), tensors)
    except UNREADABLE as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise InputError(f"checkpoint {path} cannot be read: {shortened(reason, 300)}") from None


def _digest(text: str, tensors: dict[str, Tensor]) -> str:
    """Return the digest of all that a file holds."""
    parts = [text.encode()]
    for name, tensor in sorted(tensors.items()):
        parts += [f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), tensor.numpy().tobytes()]
    return digest_of(b"".join(parts))


def _pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    # JSON has neither tuples nor keys that are numbers; an optimizer's state has both.
    if isinstance(value, Tensor):
        name = str(len(tensors))
        # A copy: safetensors refuses two names of one memory.
        tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {"tensor": name}
    if isinstance(value, dict):
        return {"dict": [[key, _pack(item, tensors)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        return {type(value).__name__: [_pack(item, tensors) for item in value]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a checkpoint holds tensors, numbers, texts and None, not {type(value).__name__}")


def _unpack(value: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _unpack(item, tensors) for key, item in content}
    items = [_unpack(item, tensors) for item in content]
    return tuple(items) if kind == "tuple" else items
