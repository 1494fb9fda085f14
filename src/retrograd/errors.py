"""Messages that name the argument, what it was, what is allowed and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any

import torch

__all__ = [
    "InputError",
    "near_names",
    "require_choice",
    "require_device",
    "require_floating",
    "require_number",
    "require_shape",
    "require_whole",
    "shortened",
]


# Names that a message lists.
MOST_NAMES = 20


class InputError(ValueError):
    """Input that cannot be used: a file, a column or an argument. The command line exits with 2 on it.

    Args:
        message: one line.
        arguments: names of arguments that the message speaks of. The command line writes its own options for them,
            wherever they stand as words outside quotes; an argument that the message starts with (``lr is 0, ...``)
            or gives a value (``fill='linear'``) needs no mention here.
    """

    def __init__(self, message: str = "", *arguments: str) -> None:
        super().__init__(message)
        self.arguments = arguments


def shortened(text: str, most: int = 80) -> str:
    """Return a text that a message can repeat: at most so many characters.

    >>> shortened("x" * 100, 8)
    'xxxxxxx…'
    """
    return text if len(text) <= most else text[: most - 1] + "…"


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


_FLOATING = {torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128}


def require_floating(name: str, array: object) -> None:
    """Raise ``TypeError`` unless ``array`` is a floating or complex tensor of 16 bits a number or more.

    >>> require_floating("u", torch.zeros(3, dtype=torch.float8_e4m3fn))
    Traceback (most recent call last):
        ...
    TypeError: u is torch.float8_e4m3fn, expected a floating or complex torch.Tensor (float16 to complex128)
    """
    if not isinstance(array, torch.Tensor) or array.dtype not in _FLOATING:
        kind = array.dtype if isinstance(array, torch.Tensor) else type(array).__name__
        raise TypeError(f"{name} is {kind}, expected a floating or complex torch.Tensor (float16 to complex128)")
    if array.layout is not torch.strided:
        raise TypeError(f"{name} has layout {array.layout}, expected torch.strided: use {name}.to_dense(), or pad it")


def near_names(name: str, names: Iterable[str], described: Iterable[str] | None = None) -> str:
    """Say which of ``names`` was probably meant, and which there are, as ``described``, if that is given.

    >>> near_names("sunspot", ["year", "sunspots"])
    "did you mean 'sunspots'? There are: year, sunspots"
    """
    known = list(names)
    same = [one for one in known if one.casefold() == name.casefold()]
    near = [shortened(one) for one in same or difflib.get_close_matches(name[:80], known, n=3, cutoff=0.5)]
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    more = f", and {len(known) - MOST_NAMES} more" if len(known) > MOST_NAMES else ""
    listed = (known if described is None else list(described))[:MOST_NAMES]
    return f"{hint}{'T' if hint else 't'}here are: {', '.join(map(shortened, listed))}{more}"


def require_choice(name: str, value: Any, allowed: Sequence[str]) -> None:
    """Raise :class:`InputError` unless ``value`` is one of ``allowed``."""
    if value not in allowed:
        raise InputError(f"{name} is {shortened(repr(value))}: {near_names(str(value), allowed)}")


def require_whole(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """Return a whole number from ``least`` on, up to ``most`` if given, as ``int``; raise :class:`InputError` if none.

    >>> require_whole("lags", 0)
    Traceback (most recent call last):
        ...
    retrograd.errors.InputError: lags is 0, expected a whole number of at least 1
    """
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):
        bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise InputError(f"{name} is {value!r}, expected a whole number {bounds}")
    return int(value)


def require_number(
    name: str, value: Any, *, least: float | None = None, above: float | None = None, below: float | None = None
) -> float:
    """Return a finite number within the limits given as ``float``; raise :class:`InputError` if it is none.

    >>> require_number("lr", -1, above=0)
    Traceback (most recent call last):
        ...
    retrograd.errors.InputError: lr is -1, expected a finite number above 0
    """
    limits = (("of at least", least), ("above", above), ("below", below))
    number = isinstance(value, Real) and not isinstance(value, bool) and abs(float(value)) < float("inf")
    if (
        not number
        or (least is not None and value < least)
        or (above is not None and value <= above)
        or (below is not None and value >= below)
    ):
        allowed = " and ".join(f"{word} {limit:g}" for word, limit in limits if limit is not None)
        raise InputError(f"{name} is {value!r}, expected a finite number {allowed}".rstrip())
    return float(value)


def require_device(name: str, device: str) -> None:
    """Raise :class:`InputError` unless ``device`` is ``"cpu"`` or a CUDA device that torch can use here."""
    require_choice(name, device.split(":")[0], ("cpu", "cuda"))
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{name} is {device!r}, which torch cannot use here ({reason}): use cpu") from None
