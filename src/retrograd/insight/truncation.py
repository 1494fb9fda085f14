"""How much of ∂L/∂W_hh does a window of k steps keep?

Truncated backpropagation lets each step's loss go back through its last k uses of W_hh: with G(t, j) as in
:mod:`retrograd.insight.lags`, it keeps G_k = Σ_t Σ_{j<k} G(t, j) and leaves out

    E_k = G − G_k = Σ_t (Φ(t, t−k)^H δ_t) h_{t-k-1}^H

The smaller of the two is summed and the other is the difference from G, so both are exact to rounding.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retrograd.errors import InputError
from retrograd.insight.products import Sliding, bin_of_lag, by_source, lag_grid, outer, pieces
from retrograd.insight.sweep import Sweep
from retrograd.norms import norm

__all__ = ["Truncation", "truncation"]

Array = np.ndarray[Any, Any]

# Steps whose outer products are summed at a time, as one matrix product.
_TOGETHER = 32


@dataclass(frozen=True)
class Truncation:
    """The gradient of W_hh through windows of k steps, compared with the whole one; NaN if that is zero or not finite.

    Attributes:
        windows: k, ``(K,)``: 1 is the use of W_hh at the loss's own step alone, T the whole gradient.
        share: ⟨G_k, G⟩ / ‖G‖², ``(K,)``.
        relative_error: ‖G_k − G‖ / ‖G‖, ``(K,)``.
        angle: between G_k and G, in degrees, ``(K,)``; NaN where G_k is zero.
    """

    windows: Array
    share: Array
    relative_error: Array
    angle: Array

    def window_for(self, relative_error: float) -> int:
        """Return the smallest measured window from which on no error is larger than this.

        Raises:
            InputError: the error of the longest measured window is larger, or the gradient is zero or not finite.

        Examples:
            >>> nan = np.full(3, np.nan)
            >>> found = Truncation(np.array([1, 2, 4]), nan, np.array([0.5, 0.1, 0.02]), nan)
            >>> found.window_for(0.1)
            2
            >>> found.window_for(0.01)
            Traceback (most recent call last):
                ...
            retrograd.errors.InputError: no window measured keeps the gradient to 0.01: the longest, 4, to 0.02...
        """
        if not relative_error >= 0:
            raise InputError(f"relative_error is {relative_error}, expected a number from 0 on")
        if np.isnan(self.relative_error).any():
            raise InputError("the gradient is zero or not finite: no window keeps a part of it")
        over = np.flatnonzero(self.relative_error > relative_error)
        if not len(over):
            return int(self.windows[0])
        if over[-1] == len(self.windows) - 1:
            raise InputError(
                f"no window measured keeps the gradient to {relative_error:g}: the longest, {self.windows[-1]}, to "
                f"{self.relative_error[-1]:.3g}; measure longer ones, up to all the steps"
            )
        return int(self.windows[over[-1] + 1])


def truncation(sweep: Sweep, windows_: Sequence[int] | str | None = None) -> Truncation:
    """Return how much of the gradient of W_hh truncation to each window keeps, and at which angle.

    Each window costs about one weight gradient. Dense transitions that change with time cost T²/2 steps of the
    recurrence, as do transitions whose products overflow although the gradient does not.
    :func:`retrograd.truncation_error` measures all weights together, for chosen windows and strides.

    Args:
        sweep: the forward and backward run.
        windows_: windows from 1 to T; ``"all"``; or None: every window up to T = 256, of a longer sequence 1 to 8, 12,
            16 and one an octave beyond.

    Raises:
        InputError: a window is no whole number from 1 to T.

    Examples:
        >>> from retrograd import Diagonal
        >>> found = truncation(Sweep.of_scan(Diagonal(torch.tensor([0.5])), torch.ones(4, 1), loss=torch.sum))
        >>> found.relative_error.round(3).tolist()
        [0.261, 0.043, 0.0, 0.0]
    """
    time = sweep.time
    wanted = lag_grid(time, windows_, 1, "windows")
    size = norm(sweep.gradient.flatten()).item()
    if not 0 < size < math.inf:
        return Truncation(np.array(wanted), *np.full((3, len(wanted)), np.nan))
    below = [window for window in wanted if window < time]
    found = [_measured(part, kept, sweep.gradient, size) for part, kept in _parts(sweep, below)] if below else []
    if not np.isfinite([of_window[:2] for of_window in found]).all():
        parts = _nearer(_parts_by_source(sweep, [0, *below, time]))
        found = [_measured(part, kept, sweep.gradient, size) for part, kept in parts]
    if wanted[-1] == time:
        found.append((1.0, 0.0, 0.0))
    return Truncation(np.array(wanted), *np.array(found).T)


def _measured(part: Tensor, kept: bool, G: Tensor, size: float) -> tuple[float, float, float]:
    """Return share, relative error and angle in degrees, from ``part``: G_k if ``kept``, else E_k."""
    length = norm(part.flatten()).item()
    if length == 0:
        return (0.0, 1.0, float("nan")) if kept else (1.0, 0.0, 0.0)
    # Both scaled to length 1, because the square of what has exploded or vanished leaves float64.
    unit, direction = G / size, part / length
    cosine = (direction.conj() * unit).real.sum().item()
    sine = norm((direction - cosine * unit).flatten()).item()
    along = length / size * cosine
    if kept:
        return along, norm((unit - part / size).flatten()).item(), math.degrees(math.atan2(sine, cosine))
    return 1 - along, length / size, math.degrees(math.atan2(length / size * sine, 1 - along))


def _parts(sweep: Sweep, below: list[int]) -> Iterator[tuple[Tensor, bool]]:
    """Yield the smaller of G_k and E_k for every window below T, and whether it is G_k."""
    edges = [0, *below, sweep.time]
    if len(sweep.sources) == 1:
        yield from _nearer(_parts_of_one_source(sweep, edges))
    elif not (sweep.diagonal or sweep.invariant):
        yield from _nearer(_parts_by_source(sweep, edges))
    else:
        # G_k grows with k. Once it is more than half of G, E_k is the smaller one, and needs no sums over windows.
        found, half = 0, norm(sweep.gradient.flatten()) / 2
        for part in itertools.accumulate(_parts_by_bins(sweep, edges[:-1])):
            if not norm(part.flatten()) <= half:
                break
            yield part, True
            found += 1
        for part in _lost(sweep, below[found:]):
            yield part, False


def _nearer(parts: Tensor) -> Iterator[tuple[Tensor, bool]]:
    """Yield, for each border between two parts, the smaller of their sums before and beyond it, and which it is."""
    kept, lost = parts.cumsum(0)[:-1], parts.flip(0).cumsum(0).flip(0)[1:]
    smaller = norm(kept.flatten(1)) <= norm(lost.flatten(1))
    for k, e, is_smaller in zip(kept, lost, smaller.tolist(), strict=True):
        yield (k, True) if is_smaller else (e, False)


def _parts_of_one_source(sweep: Sweep, edges: list[int]) -> Tensor:
    """Return the gradient by bins of lags if the loss looks at one step alone: δ_t is then what it sends back to t."""
    end, previous = sweep.sources[0] + 1, sweep.previous
    parts = sweep.gradient.new_zeros(len(edges) - 1, *sweep.gradient.shape)
    for bin_, (first, last) in enumerate(itertools.pairwise(edges)):
        lags = slice(max(end - last, 0), max(end - first, 0))
        parts[bin_] = outer(sweep.delta[:, lags], previous[:, lags], sweep.diagonal)
    return parts


def _parts_by_bins(sweep: Sweep, edges: list[int]) -> Iterator[Tensor]:
    """Yield the gradient by bins of lags, for transitions that are diagonal or the same at every step."""
    return _moved(sweep, sweep.direct, ((first, last - first) for first, last in itertools.pairwise(edges)))


def _lost(sweep: Sweep, windows: list[int]) -> Iterator[Tensor]:
    """Yield E_k for each window, for the same transitions."""
    return _moved(sweep, sweep.delta, ((window, 1) for window in windows))


def _moved(sweep: Sweep, x: Tensor, bins: Iterable[tuple[int, int]]) -> Iterator[Tensor]:
    """Yield Σ_{k ≤ j < k+m} Σ_s (Φ(s+j, s)^H x_{s+j}) h_{s-1}^H for each pair (k, m), ascending in k."""
    A, batch, time, previous = sweep.A, len(sweep.states), sweep.time, sweep.previous
    shared = A.shape[:2] == (1, 1)  # Φ can then be taken out of the sum over steps
    each = [(rows, Sliding(products, x[rows], adjoint=True)) for rows, products in pieces(A, batch, time)]
    for lag, width in bins:
        part = torch.zeros_like(sweep.gradient)
        for rows, sums in each:
            within = sums.below(width)
            moved = sums.from_(within, lag) if shared else sums.moved(within, lag)
            part += outer(moved, previous[rows, : time - lag], sweep.diagonal)
        yield _after(each[0][1].products.over(lag)[0, 0], part) if shared and lag else part


def _parts_by_source(sweep: Sweep, edges: list[int]) -> Tensor:
    """Return the gradient by bins of lags from what each step's loss sends back to every step."""
    parts = sweep.gradient.new_zeros(len(edges) - 1, *sweep.gradient.shape)
    bins, batch, width = bin_of_lag(edges).to(parts.device), len(sweep.states), sweep.states.shape[2]
    found = by_source(sweep)
    while block := list(itertools.islice(found, _TOGETHER)):
        sums = parts.new_zeros(len(block), batch, len(parts), width)
        for into, (step, sources, moved) in zip(sums, block, strict=True):
            into.index_add_(1, bins[sources - step], moved)
        h = sweep.previous[:, [step for step, *_ in block]].transpose(0, 1).conj()
        parts += torch.einsum("tbki,tbi->ki" if sweep.diagonal else "tbki,tbj->kij", sums, h)
    return parts


def _after(product: Tensor, part: Tensor) -> Tensor:
    """Return Φ^H · part."""
    return product.conj() * part if product.ndim == 1 else product.mH @ part
