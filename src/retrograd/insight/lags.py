"""Which part of ∂L/∂W_hh comes from which step of the loss, through which lag?

What the loss sends into step t reaches the use of W_hh at step t − k through k transitions:

    G = Σ_t Σ_k G(t, k)          G(t, k) = Φ(t, t−k)^H g_t h_{t-k-1}^H

:func:`lag_parts` gives these matrices, for short sequences. :func:`lag_map` gives, for any length, the part of each
along G, ⟨G(t, k), G⟩ / ‖G‖²: shares that are exact and sum to 1. With q_s = G h_{s-1} they are
Re g_t^H Φ(t, t−k) q_{t−k}. The sum over a range of lags is a sliding window over q, built from smaller windows by
additions alone, so small shares do not drown in the rounding of large ones.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retrograd.errors import InputError
from retrograd.insight.products import act, bin_of_lag, bin_sums, by_source, lag_grid, pieces
from retrograd.insight.sweep import Sweep
from retrograd.norms import norm
from retrograd.pictures.curves import WORDS

__all__ = ["LagMap", "lag_map", "lag_parts"]

Array = np.ndarray[Any, Any]

# lag_parts refuses to return more bytes than this.
_MOST_PARTS = 1 << 28


@dataclass(frozen=True)
class LagMap:
    """Shares of the gradient, by the step where the loss enters and the lag over which it goes back.

    Attributes:
        edges: bounds of the bins, ``(K + 1,)``: bin j holds the lags ``edges[j]`` to ``edges[j + 1] − 1``.
        share: ⟨part, G⟩ / ‖G‖², ``(T, K)``; sums to 1. Negative where a part points against the gradient; NaN if G is
            zero or not finite.
        gradient_norm: ‖G‖.
    """

    edges: Array
    share: Array
    gradient_norm: float

    @property
    def missing(self) -> str | None:
        """The reason why there are no shares, the gradient being zero or not finite; None if there are."""
        size = self.gradient_norm
        if size > 0 and np.isfinite(size):
            return None
        what = "zero" if size == 0 else WORDS["nan"] if np.isnan(size) else WORDS["infinite"]
        return f"the gradient is {what}: it has no shares and no direction"

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
            ``(edges, share)``: bin i holds the steps ``edges[i]`` to ``edges[i + 1] − 1``, counted from 0; ``share`` is
            ``(bins, K)``, NaN where no step of the bin is that many lags after the first.
        """
        steps = len(self.share)
        edges = np.unique(np.linspace(0, steps, min(most, steps) + 1).round().astype(int))
        share = np.add.reduceat(self.share, edges[:-1], axis=0)
        # Step t, counted from 1, has the lags 0 to t - 1.
        return edges, np.where(self.edges[None, :-1] < edges[1:, None], share, np.nan)


def lag_map(sweep: Sweep, edges: Sequence[int] | str | None = None) -> LagMap:
    """Split ∂L/∂W_hh by source step and lag.

    Each bin costs about one matrix product over all steps. Dense transitions that change with time cost T²/2 steps of
    the recurrence, as do transitions whose products overflow or underflow although the gradient does not.

    Args:
        sweep: the forward and backward run.
        edges: lags that bound the bins, from 0 to T, which are added; ``"all"``: one bin a lag; or None: one bin a lag
            up to T = 256, for a longer sequence up to lag 8, then bins from 8, 12, 16 and one an octave beyond.

    Raises:
        InputError: an edge is no whole number from 0 to T.

    Examples:
        >>> from retrograd import Diagonal
        >>> found = lag_map(Sweep.of_scan(Diagonal(torch.tensor([0.5])), torch.ones(4, 1), loss=torch.sum))
        >>> found.share.shape, round(float(found.share.sum()), 12), found.by_lag.round(3).tolist()
        ((4, 4), 1.0, [0.739, 0.217, 0.043, 0.0])
    """
    time = sweep.time
    if edges is not None and not isinstance(edges, str):
        edges = [0, time, *edges]
    found = lag_grid(time, edges, 0, "edges")
    G = sweep.gradient
    size = norm(G.flatten()).item()
    if not 0 < size < math.inf:
        return LagMap(np.array(found), np.full((time, len(found) - 1), np.nan), size)
    # Scaled to length 1, because the square of a gradient that has exploded or vanished leaves float64.
    G = G / size
    share = _shares(sweep, G, found, size)
    return LagMap(np.array(found), share.mT.contiguous().cpu().numpy(), size)


def _shares(sweep: Sweep, G: Tensor, edges: list[int], size: float) -> Tensor:
    """Return ⟨part, G⟩ / ``size``, ``(K, T)``, in the quickest way that is exact for this sweep."""
    if len(sweep.sources) == 1:
        return _shares_of_one_source(sweep, G, sweep.sources[0], edges) / size
    if sweep.diagonal or sweep.invariant:
        share = _shares_by_bins(sweep, G, edges) / size
        # They do not sum to 1 if a product of transitions overflowed or underflowed.
        if bool((share.sum() - 1).abs() <= 1e-6 * share.abs().sum()):
            return share
    return _shares_by_source(sweep, G, edges) / size


def _new_shares(sweep: Sweep, edges: list[int]) -> Tensor:
    return torch.zeros(len(edges) - 1, sweep.time, dtype=torch.float64, device=sweep.delta.device)


def _times(G: Tensor, x: Tensor) -> Tensor:
    """Return G x_t for every step."""
    return act(G[None, None], x)


def _shares_of_one_source(sweep: Sweep, G: Tensor, source: int, edges: list[int]) -> Tensor:
    """Return ⟨part, G⟩ if the loss looks at one step alone: δ_t is then what it sends back over the lag to t."""
    share = _new_shares(sweep, edges)
    by_lag = _dots(sweep.delta[:, : source + 1], _times(G, sweep.previous[:, : source + 1])).flip(0)
    for bin_, (first, last) in enumerate(itertools.pairwise(edges)):
        share[bin_, source] = by_lag[first:last].sum()
    return share


def _shares_by_bins(sweep: Sweep, G: Tensor, edges: list[int]) -> Tensor:
    """Return ⟨part, G⟩ from sums over bins of lags, of transitions that are diagonal or the same at every step."""
    share = _new_shares(sweep, edges)
    for rows, products in pieces(sweep.A, len(sweep.states), sweep.time):
        sums = bin_sums(products, _times(G, sweep.previous[rows]), edges)
        for bin_, (first, moved) in enumerate(zip(edges, sums, strict=False)):
            share[bin_, first:] += _dots(sweep.direct[rows, first:], moved)
    return share


def _shares_by_source(sweep: Sweep, G: Tensor, edges: list[int]) -> Tensor:
    """Return ⟨part, G⟩ from what each step's loss sends back to every step."""
    share, bins = _new_shares(sweep, edges), bin_of_lag(edges).to(sweep.delta.device)
    q = _times(G, sweep.previous)
    for step, sources, moved in by_source(sweep):
        dots = (moved.conj() @ q[:, step, :, None]).real.sum((0, 2))
        share.index_put_((bins[sources - step], sources), dots, accumulate=True)
    return share


def _dots(a: Tensor, b: Tensor) -> Tensor:
    """Return Re Σ a_t^H b_t over batch and states, ``(T,)``."""
    return torch.as_tensor(torch.linalg.vecdot(a, b).real.sum(0))


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
    for step, sources, moved in by_source(sweep):
        h = previous[:, step].conj()
        parts[sources, sources - step] = (
            (moved * h[:, None]).sum(0) if sweep.diagonal else torch.einsum("bti,bj->tij", moved, h)
        )
    return parts
