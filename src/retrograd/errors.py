"""Messages that name the argument, what it was, what is allowed and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

import torch

__all__ = ["InputError", "near_names", "require_choice", "require_floating", "require_shape"]


class InputError(ValueError):
    """Input that cannot be used: a file, a column or an option. The command line exits with 2 on it."""


def require_shape(name: str, array: torch.Tensor, axes: Sequence[str], sizes: Sequence[int]) -> None:
    """Raise ``ValueError`` unless ``array`` has exactly the shape ``sizes``, whose axes are called ``axes``.

    >>> require_shape("h0", torch.zeros(4, 9), ("batch", "features"), (4, 10))
    Traceback (most recent call last):
        ...
    ValueError: h0 has shape (4, 9), expected (batch, features) = (4, 10)
    """
    if tuple(array.shape) != tuple(sizes):
        comma = "," if len(axes) == 1 else ""
        raise ValueError(f"{name} has shape {tuple(array.shape)}, expected ({', '.join(axes)}{comma}) = {tuple(sizes)}")


def require_floating(name: str, array: object) -> None:
    """Raise ``TypeError`` unless ``array`` is a floating or complex tensor."""
    if not isinstance(array, torch.Tensor) or not (array.is_floating_point() or array.is_complex()):
        kind = array.dtype if isinstance(array, torch.Tensor) else type(array).__name__
        raise TypeError(f"{name} is {kind}, expected a floating or complex torch.Tensor")


def near_names(name: str, names: Iterable[str]) -> str:
    """Say which of ``names`` was probably meant, and which there are.

    >>> near_names("sunspot", ["year", "sunspots"])
    "did you mean 'sunspots'? There are: year, sunspots"
    """
    known = list(names)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    return f"{hint}{'T' if hint else 't'}here are: {', '.join(known)}"


def require_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    """Raise :class:`InputError` unless ``value`` is one of ``allowed``."""
    if value not in allowed:
        raise InputError(f"{name} is {value!r}: {near_names(value, allowed)}")
