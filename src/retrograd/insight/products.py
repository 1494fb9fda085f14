"""Products of successive transitions, Φ(t, s) = A_t ... A_{s+1}: what a state or a gradient passes through."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from retrograd.errors import InputError
from retrograd.transition import apply_transition

__all__ = ["carry", "chain", "combine", "from_steps", "identity", "lag_grid", "windows"]

# Lags up to FINE one by one, up to HALVED two an octave, then one.
FINE, HALVED = 8, 64
# Where a curve is asked for at every lag by default.
EVERY = 256


def lag_grid(longest: int, lags: Sequence[int] | str | None, least: int) -> list[int]:
    """Return ascending lags from ``least`` to ``longest``.

    Args:
        longest: the largest one; always in.
        lags: those wanted; ``"all"``; or None: all up to 256, else 0 to 8, two an octave up to
            64 and one beyond.
        least: the smallest one.

    Raises:
        InputError: a lag is outside.

    >>> lag_grid(3, None, 0), lag_grid(1000, None, 0)[8:]
    ([0, 1, 2, 3], [8, 12, 16, 24, 32, 48, 64, 128, 256, 512, 1000])
    """
    if isinstance(lags, str) and lags != "all":
        raise InputError(f"lags are {lags!r}, expected whole numbers, 'all' or None")
    if lags == "all" or (lags is None and longest <= EVERY):
        return list(range(least, longest + 1))
    if lags is not None:
        found = sorted({int(lag) for lag in lags})
        if not found or found[0] < least or found[-1] > longest:
            raise InputError(f"lags are {list(lags)}, expected whole numbers from {least} to {longest}")
        return found
    octaves = [HALVED << octave for octave in range(longest.bit_length())]
    grid = {*range(FINE + 1), *(3 * lag // 2 for lag in (8, 16, 32)), 16, 32, *octaves}
    return sorted({lag for lag in grid if least <= lag < longest} | {longest})


def combine(A: Tensor, later: Tensor, earlier: Tensor) -> Tensor:
    """Return later · earlier; A tells by its rank whether they are diagonals."""
    return later * earlier if A.ndim == 3 else later @ earlier


def identity(A: Tensor) -> Tensor:
    """Return Φ(t, t), ``(1, 1, ...)``."""
    width = A.shape[-1]
    one = A.new_ones(width) if A.ndim == 3 else torch.eye(width, dtype=A.dtype, device=A.device)
    return one[None, None]


def windows(A: Tensor, time: int, lags: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
    """Yield (k, Φ(t, t − k) for every t from k to ``time``) for ascending lags.

    Of a time-invariant A that is A^k alone, ``(groups, 1, ...)``; else ``(groups, time − k + 1, ...)``, whose element
    i goes from the state after i steps to the one after i + k.
    """
    product, length = identity(A), 0
    if A.shape[1] != 1:
        product = product.expand(A.shape[0], time + 1, *product.shape[2:])
    for lag in lags:
        if lag > length:
            product = combine(A, _part(_window(A, lag - length), length, None), _part(product, 0, time - lag + 1))
            length = lag
        yield lag, product


def from_steps(product: Tensor) -> Tensor:
    """Return those of :func:`windows` that begin after step 1, 2, ...: what enters there passes through them."""
    return _part(product, 1, None)


def carry(product: Tensor, x: Tensor, memory: Tensor | None = None) -> Tensor:
    """Return Φ x for every step of x ``(batch, time, H)``: of one matrix for all, one product.

    ``memory`` ``(1, at least time, H)`` may take the result of one sequence.
    """
    if product.ndim == 4 and product.shape[:2] == (1, 1):
        if memory is not None and len(x) == 1:
            out = memory[:, : x.shape[1]]
            torch.mm(x[0], product[0, 0].mT, out=out[0])
            return out
        return x @ product[0, 0].mT
    return apply_transition(product, x)


def _window(A: Tensor, length: int) -> Tensor:
    """Return the products of every ``length`` successive transitions, by repeated doubling."""
    result: Tensor | None = None
    have, power, size = 0, A, 1
    while True:
        if length & size:
            if result is None:
                result, have = power, size
            else:
                count = A.shape[1] - have - size + 1
                result = combine(A, _part(result, size, size + count), _part(power, 0, count))
                have += size
        if have == length:
            return result  # type: ignore[return-value]  # the highest bit of length set it
        count = A.shape[1] - 2 * size + 1
        power = combine(A, _part(power, size, size + count), _part(power, 0, count))
        size *= 2


def _part(product: Tensor, start: int, stop: int | None) -> Tensor:
    return product if product.shape[1] == 1 else product[:, start:stop]


def chain(A: Tensor, start: int, stop: int) -> Tensor:
    """Return Φ(stop, start), ``(groups, ...)``, of transitions that change with time: pairs first, then their pairs."""
    product = A[:, start:stop]
    while product.shape[1] > 1:
        even = product.shape[1] // 2 * 2
        paired = combine(A, product[:, 1:even:2], product[:, 0:even:2])
        product = torch.cat([paired, product[:, even:]], 1) if even < product.shape[1] else paired
    return product[:, 0]
