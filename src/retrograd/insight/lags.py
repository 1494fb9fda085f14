"""Which part of ∂L/∂W_hh comes from which step of the loss, through which lag?

What the loss sends into step t reaches the use of W_hh at step t − k through k transitions:

    G = Σ_t Σ_k G(t, k)          G(t, k) = Φ(t, t−k)^H g_t h_{t-k-1}^H

:func:`lag_parts` gives these matrices, for short sequences. :func:`lag_map` gives, for any length, the part of each
along G, ⟨G(t, k), G⟩ / ‖G‖²: shares that are exact and sum to 1. With q_s = G h_{s-1} they are
Re g_t^H Φ(t, t−k) q_{t−k}, and the sum over a range of lags is a sliding window over q, made by doubling: no difference
of large sums is ever taken.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retrograd.errors import InputError
from retrograd.insight.products import carry, combine, from_steps, lag_grid, windows
from retrograd.insight.sweep import Sweep, outer
from retrograd.norms import norm
from retrograd.transition import apply_adjoint

__all__ = ["LagMap", "lag_map", "lag_parts"]

Array = np.ndarray[Any, Any]

# Bytes of all G(t, k) beyond which lag_parts refuses.
_MOST_PARTS = 1 << 28
# Elements worked on at a time: fresh memory costs more than the arithmetic.
_PIECE = 1 << 17


@dataclass(frozen=True)
class LagMap:
    """Shares of the gradient, by the step where the loss enters and the lag over which it goes back.

    Attributes:
        edges: ``(K + 1,)``: bin j holds the lags from ``edges[j]`` up to, not with, ``edges[j + 1]``.
        share: ⟨part, G⟩ / ‖G‖², ``(T, K)``; sums to 1. Negative where a part points against the gradient. NaN if G = 0.
        gradient_norm: ‖G‖.
    """

    edges: Array
    share: Array
    gradient_norm: float

    @property
    def by_lag(self) -> Array:
        """Shares summed over steps, ``(K,)``."""
        return np.asarray(self.share.sum(0))

    @property
    def by_step(self) -> Array:
        """Shares summed over lags, ``(T,)``."""
        return np.asarray(self.share.sum(1))

    def coarse(self, most: int) -> tuple[Array, Array]:
        """Return the map with steps summed in at most ``most`` bins, for a picture.

        Returns:
            ``(edges, share)``: bin i holds the steps from ``edges[i]`` (counted from 0) up to, not with,
            ``edges[i + 1]``, and ``share (bins, K)``, NaN where no step of the bin has so long a past.
        """
        steps = len(self.share)
        edges = np.unique(np.linspace(0, steps, min(most, steps) + 1).round().astype(int))
        share = np.add.reduceat(self.share, edges[:-1], axis=0)
        # Step t, counted from 1, has the lags 0 to t - 1.
        return edges, np.where(self.edges[None, :-1] < edges[1:, None], share, np.nan)


def lag_map(sweep: Sweep, edges: Sequence[int] | str | None = None) -> LagMap:
    """Split ∂L/∂W_hh by source step and lag.

    Args:
        sweep: the forward and backward run.
        edges: lags that bound the bins, within 0 and T, both added; ``"all"``: one bin a lag; or None: one bin a lag up
            to T = 256, of a longer sequence up to lag 8, then two bins an octave up to 64 and one beyond.

    Examples:
        >>> from retrograd import Diagonal
        >>> found = lag_map(Sweep.of_scan(Diagonal(torch.tensor([0.5])), torch.ones(4, 1), loss=torch.sum))
        >>> found.share.shape, round(float(found.share.sum()), 12), found.by_lag.round(3).tolist()
        ((4, 4), 1.0, [0.739, 0.217, 0.043, 0.0])
    """
    time = sweep.time
    if edges is not None and not isinstance(edges, str):
        edges = sorted({0, time, *edges})
    found = lag_grid(time, edges, 0)
    G = sweep.gradient
    size = norm(G.flatten()).item()
    # Of length 1: a gradient that has exploded or vanished has no square.
    G = G / size if size > 0 else G
    share = torch.zeros(len(found) - 1, time, dtype=torch.float64)
    previous, sources = sweep.previous, sweep.sources
    if len(sources) == 1:
        _add_shares_of_one_source(share, sweep, G, sources[0], found)
        return _shared(share, found, size)
    batch, _, width = previous.shape
    rows = max(1, _PIECE // (time * width))
    for begin in range(0, batch, rows):
        part = slice(begin, begin + rows)
        A = sweep.A if sweep.A.shape[0] == 1 else sweep.A[part]
        _add_shares(share, A, sweep.direct[part], previous[part], G, found)
    return _shared(share, found, size)


def _shared(share: Tensor, edges: list[int], size: float) -> LagMap:
    share = share / size if size > 0 else share * float("nan")
    return LagMap(np.array(edges), share.mT.contiguous().numpy(), size)


def _add_shares_of_one_source(share: Tensor, sweep: Sweep, G: Tensor, source: int, edges: list[int]) -> None:
    """Add ⟨part, G⟩ where the loss looks at one step: δ_t is what that one sends back, and all lags come at once."""
    previous, delta = sweep.previous[:, : source + 1], sweep.delta[:, : source + 1]
    by_lag = _dots(delta, previous * G if sweep.diagonal else previous @ G.mT).flip(0)
    for bin_, (first, last) in enumerate(itertools.pairwise(edges)):
        share[bin_, source] = by_lag[first:last].sum()


def _add_shares(share: Tensor, A: Tensor, direct: Tensor, previous: Tensor, G: Tensor, edges: list[int]) -> None:
    """Add what some sequences contribute, ⟨part, G⟩, to ``share (K, T)``.

    With Y_m(t) = Σ_{j<m} Φ(t, t−j) q_{t-j}, the lags of a bin [k, k + m) sum to Φ(t, t−k) Y_m(t−k), which is also what
    makes Y_{k+m} of Y_k: the windows that later, wider bins need come for free.
    """
    time = previous.shape[1]
    q = previous * G if A.ndim == 3 else previous @ G.mT
    widths = [last - first for first, last in itertools.pairwise(edges)]
    sums, known, memory = q, {1: q}, torch.empty_like(q[:1])
    free: list[Tensor] = []
    for bin_, (first, product) in enumerate(windows(A, time, edges[:-1])):
        width = widths[bin_]
        within = known[width] if width in known else _window_sums(A, q, width)
        moved = carry(from_steps(product), within[:, : time - first], memory)
        share[bin_, first:] += _dots(direct[:, first:], moved)
        if first == 0:
            sums = within.clone()
        else:
            sums[:, first:] += moved
        ahead = widths[bin_ + 1 :]
        free += [known.pop(size) for size in list(known) if size not in (1, *ahead)]
        if edges[bin_ + 1] in ahead:
            # Memory that was used before: fresh pages cost more than the copy.
            known[edges[bin_ + 1]] = (free.pop() if free else torch.empty_like(q)).copy_(sums)


def _dots(a: Tensor, b: Tensor) -> Tensor:
    """Return Re Σ a_t^H b_t over batch and states, ``(T,)``."""
    return torch.einsum("bth,bth->t", a.conj(), b).real


def _window_sums(A: Tensor, q: Tensor, length: int) -> Tensor:
    """Return Y_length, ``(B, T, H)``, by doubling: Y_{a+b}(t) = Y_b(t) + Φ(t, t−b) Y_a(t−b)."""
    result: Tensor | None = None
    size, sums, product = 1, q, A
    while True:
        if length & size:
            result = sums if result is None else _appended(sums, product, size, result)
        if size * 2 > length:
            assert result is not None  # the highest bit of length set it
            return result
        sums = _appended(sums, product, size, sums)
        if product.shape[1] == 1:
            product = combine(product, product, product)
        else:
            product = combine(product, product[:, size:], product[:, : max(product.shape[1] - size, 0)])
        size *= 2


def _appended(recent: Tensor, product: Tensor, size: int, older: Tensor) -> Tensor:
    """Return the window of both: ``older`` begins ``size`` lags back."""
    result = recent.clone()
    count = recent.shape[1] - size
    if count > 0:
        result[:, size:] += carry(from_steps(product), older[:, :count])
    return result


def lag_parts(sweep: Sweep) -> Tensor:
    """Return every G(t, k) = Φ(t, t−k)^H g_t h_{t-k-1}^H, summed over the batch.

    Returns:
        ``(T, T, H, H)``, of a diagonal A ``(T, T, H)``: element ``[t, k]`` is from step t + 1 (counted from 1) over lag
        k; zero where k > t. The sum over the first two axes is ``sweep.gradient``.

    Raises:
        InputError: the result would be larger than 256 MB.

    Examples:
        >>> w, v = torch.tensor([[0.5]]), torch.tensor([[1.0]])
        >>> sweep = Sweep.of_weights(torch.tensor([[1.0], [2.0], [3.0]]), weight_hh=w, weight_ih=v)
        >>> lag_parts(sweep)[2].flatten().tolist()  # 1 at the last state: h_2 over lag 0, w h_1 over lag 1
        [2.5, 0.5, 0.0]
    """
    time, width = sweep.time, sweep.states.shape[2]
    size = time * time * width ** (1 if sweep.diagonal else 2) * sweep.states.element_size()
    if size > _MOST_PARTS:
        raise InputError(
            f"lag_parts of {time} steps and {width} states would be {size >> 20} MB, expected at most "
            f"{_MOST_PARTS >> 20} MB: use lag_map, or a shorter sequence"
        )
    previous = sweep.previous
    parts = sweep.states.new_zeros((time, time, *(width,) * (1 if sweep.diagonal else 2)))
    carried = sweep.direct
    for lag in range(time):
        if lag:
            A = sweep.A if sweep.invariant else sweep.A[:, 1 : time - lag + 1]
            carried = apply_adjoint(A, carried[:, 1:])
        # carried[:, s] stands at step s and came from step s + lag.
        for step in range(time - lag):
            at = slice(step, step + 1)
            parts[step + lag, lag] = outer(carried[:, at], previous[:, at], sweep.diagonal)
    return parts
