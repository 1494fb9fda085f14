"""Lags of dense transitions that change with time, by halving: all windows for a few passes over the transitions.

Step s and a later step t lie, for one m = 1, 2, 4, ..., in two neighbouring blocks of m steps that make one of 2m. With
p the first step of t's block,

    Φ(t, s) = Φ(t, p) Φ(p, s)        γ_t = Φ(t, p)^H g_t        κ_s = Φ(p, s) q_s        g_t^H Φ(t, s) q_s = γ_t^H κ_s

From m to 2m, γ and κ pass through the products of whole blocks, of which there are T − 1 in all: H³ work a step, once,
where the product over every window of every lag would be H³ a step each time. What is to be summed over a bin of lags
then stands at one place, p, and its sums are of vectors.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from retrograd.backends.pool import empty
from retrograd.insight.products import pieces

__all__ = ["Halves", "halves_of"]

# Elements of what is carried down at a time.
_CARRIED = 1 << 23
# Steps worked on at a time.
_NEAR = 256


@dataclass(frozen=True)
class _Level:
    """Blocks of m steps, in pairs of which the later one has a step.

    Attributes:
        size: m.
        pairs: how many.
        products: Φ over each whole block, ``(blocks, H, H)``, from its first step to the next one's.
    """

    size: int
    pairs: int
    products: Tensor

    def within(self, start: int, stop: int) -> _Level:
        """Return the pairs of some steps, whole pairs."""
        begin, end = start // (2 * self.size), stop // (2 * self.size)
        return _Level(self.size, max(0, min(self.pairs, end) - begin), self.products[2 * begin : 2 * end])

    def halves(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the earlier and the later blocks of x ``(steps, ..., H)``, ``(pairs, m, ..., H)``."""
        blocks = x[: 2 * self.size * self.pairs].view(self.pairs, 2, self.size, *x.shape[1:])
        return blocks[:, 0], blocks[:, 1]


class Halves:
    """Sums over bins of lags, of one transition for each step.

    Args:
        M: what leads from every step to the next, ``(T − 1, H, H)``.
    """

    def __init__(self, M: Tensor) -> None:
        self.M, self.time = M, len(M) + 1
        self.levels: list[_Level] = []
        size, products = 1, M
        while size < self.time:
            self.levels.append(_Level(size, ((self.time - 1) // size + 1) // 2, products))
            whole = len(products) // 2
            doubled = empty((whole, *M.shape[1:]), M)
            if whole:
                torch.bmm(products[1 : 2 * whole : 2], products[0 : 2 * whole : 2], out=doubled)
            size, products = 2 * size, doubled

    def shares(self, direct: Tensor, q: Tensor, edges: Sequence[int]) -> Tensor:
        """Return Re Σ_{k in the bin} g_t^H Φ(t, t−k) q_{t-k} for every bin and step, ``(K, T)``, summed over the batch.

        Args:
            direct: g, ``(batch, T, H)``.
            q: ``(batch, T, H)``.
            edges: of the bins, ascending from 0 to at most T.
        """
        gamma, kappa = self._padded(direct), self._padded(q)
        share = torch.zeros(len(edges) - 1, len(gamma), dtype=torch.float64, device=q.device)
        share[0] = _dots(gamma, kappa)
        _pass(kappa[: self.time - 1].unsqueeze(1), self.M.mT)
        for level in self.levels:
            earlier, later = level.halves(kappa)[0].flip(1), level.halves(gamma)[1]
            for bin_, first, last in _lags_at(level, edges):
                there, sums = _sums(earlier, first, last)
                found = share[bin_, : 2 * level.size * level.pairs].view(level.pairs, 2, level.size)
                found[:, 1, there] += _dots(later[:, there], sums)
            _gather(level, gamma)
            kept, whole = level.halves(kappa)[0], len(level.products) // 2
            _pass(kept[:whole], level.products[1 : 2 * whole : 2].mT)
        return share[:, : self.time]

    def carried(self, direct: Tensor, edges: Sequence[int]) -> Iterator[Tensor]:
        """Yield, some bins at a time, Σ_{k in the bin} Φ(s+k, s)^H g_{s+k} for every step, ``(T, batch, bins, H)``."""
        gamma = self._padded(direct)
        gathered = []
        for level in self.levels:
            gathered.append(level.halves(gamma)[1].clone())
            _gather(level, gamma)
        bins = list(itertools.pairwise(edges))
        most = max(1, _CARRIED // gamma.numel())
        for begin in range(0, len(bins), most):
            yield self._down(direct, gathered, edges[begin : begin + most + 1], len(gamma))

    def _down(self, direct: Tensor, gathered: list[Tensor], edges: Sequence[int], steps: int) -> Tensor:
        x = direct.new_zeros(steps, direct.shape[0], len(edges) - 1, direct.shape[2])
        high = [pair for pair in zip(self.levels, gathered, strict=True) if pair[0].size >= _NEAR]
        low = list(zip(self.levels, gathered, strict=True))[: len(self.levels) - len(high)]
        for level, gamma in reversed(high):
            _hand_down(level, gamma, x, edges)
        # Within few steps, all that is worked on stays in a cache.
        for start in range(0, steps, _NEAR):
            stop = min(start + _NEAR, steps)
            for level, gamma in reversed(low):
                some = level.within(start, stop)
                begin = start // (2 * level.size)
                _hand_down(some, gamma[begin : begin + some.pairs], x[start:stop], edges)
            last = min(stop, self.time - 1)
            _pass(x[start:last].unsqueeze(1), self.M[start:last].conj())
        if edges[0] == 0:
            x[: self.time, :, 0] += direct.transpose(0, 1)
        return x[: self.time]

    def _padded(self, x: Tensor) -> Tensor:
        """Return x ``(batch, T, H)`` as ``(steps, batch, H)``, with zeros up to a power of two."""
        result = x.new_zeros(1 << (self.time - 1).bit_length(), x.shape[0], x.shape[2])
        result[: self.time] = x.transpose(0, 1)
        return result


def halves_of(A: Tensor, batch: int) -> Iterator[tuple[slice, Halves]]:
    """Yield the sequences some at a time, with the products of their transitions A ``(groups, T, H, H)``."""
    shared = Halves(A[0, 1:]) if A.shape[0] == 1 else None
    if shared is None:
        for row in range(batch):
            yield slice(row, row + 1), Halves(A[row, 1:])
    else:
        for rows, _ in pieces(A[:, :1], batch, A.shape[1]):
            yield rows, shared


def _lags_at(level: _Level, edges: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Yield the bins that hold lags between two blocks, 1 to 2m − 1, and by what these are bounded."""
    for bin_, (first, last) in enumerate(itertools.pairwise(edges)):
        if first < 2 * level.size and last > 1:
            yield bin_, max(first, 1), min(last, 2 * level.size)


def _gather(level: _Level, gamma: Tensor) -> None:
    _pass(level.halves(gamma)[1], level.products[: 2 * level.pairs : 2].conj())


def _hand_down(level: _Level, gamma: Tensor, x: Tensor, edges: Sequence[int]) -> None:
    """Take what stands at the end of each pair to the end of its earlier half, and add what comes from the later."""
    earlier, whole = level.halves(x)[0], len(level.products) // 2
    # Nothing stands at an end over a lag that the half's own steps are too far from.
    reaching = next((bin_ for bin_, last in enumerate(edges[1:]) if last > level.size + 1), len(edges) - 1)
    _pass(earlier[:whole, :, :, reaching:], level.products[1 : 2 * whole : 2].conj())
    for bin_, first, last in _lags_at(level, edges):
        there, sums = _sums(gamma, first, last)
        near = slice(level.size - there.stop, level.size - there.start)
        earlier[:, near, :, bin_] += sums.flip(1)


def _pass(x: Tensor, factors: Tensor) -> None:
    """Multiply, in place, the rows of every x_i ``(..., H)`` by factors_i ``(H, H)``."""
    if x.numel():
        rows = x.reshape(len(x), -1, x.shape[-1])
        x.copy_(torch.bmm(rows, factors).view(x.shape))


def _sums(x: Tensor, first: int, last: int) -> tuple[slice, Tensor]:
    """Sum over a bin of lags between two blocks, x's steps being counted away from the border between them.

    A step i on the other side, counted likewise, is i + j + 1 from x_j.

    Returns:
        Which i meet a j, and for each the sum over those j in [0, m) for which first ≤ i + j + 1 < last.
    """
    size, width = x.shape[1], last - first
    there = slice(max(0, first - size), min(size, last - 1))
    # Windows of `width` successive x, from the last i's to the first i's; beyond x there is nothing.
    low, high = first - there.stop, first - 1 - there.start + width
    part = x[:, max(low, 0) : min(high, size)]
    if low < 0 or high > size:
        padded = x.new_zeros(len(x), high - low, *x.shape[2:])
        padded[:, max(low, 0) - low :][:, : part.shape[1]] = part
        part = padded
    return there, _successive(part, width).flip(1)


def _successive(x: Tensor, count: int) -> Tensor:
    """Return the sums of every ``count`` successive x, by doubling: a difference of larger sums would not be exact."""
    if count == 1:
        return x
    half = _successive(x, count // 2)
    both = half[:, : half.shape[1] - count // 2] + half[:, count // 2 :]
    return both if count % 2 == 0 else both[:, :-1] + x[:, count - 1 :]


def _dots(a: Tensor, b: Tensor) -> Tensor:
    """Return Re Σ a^H b over the last two axes."""
    found: Tensor = torch.linalg.vecdot(a.flatten(-2), b.flatten(-2)).real
    return found
