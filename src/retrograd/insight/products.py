"""Products of successive transitions, Φ(t, s) = A_t ... A_{s+1}: what a state or a gradient passes through."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from retrograd.backends.pool import empty
from retrograd.core.backend import Spec, select
from retrograd.core.transition import Dense
from retrograd.errors import InputError
from retrograd.insight.sweep import Sweep

__all__ = [
    "Sliding",
    "Windows",
    "act",
    "bin_of_lag",
    "bin_sums",
    "by_source",
    "lag_grid",
    "outer",
    "pieces",
]

# The default grid has every lag up to FINE, two an octave up to HALVED, one an octave beyond: each costs a scan.
FINE, HALVED = 8, 16
# Elements of x worked on at a time, so that they stay in a cache.
_PIECE = 1 << 17
# Up to this length the default grid has every lag.
EVERY = 256


def lag_grid(longest: int, lags: Iterable[int] | str | None, least: int, name: str = "lags") -> list[int]:
    """Return ascending lags from ``least`` to ``longest``.

    Args:
        longest: the largest lag, always part of a default grid.
        lags: the lags wanted; ``"all"``; or None: every lag if ``longest`` is at most 256, else 0 to 8, 12, 16 and one
            an octave beyond.
        least: the smallest lag.
        name: what messages call them.

    Raises:
        InputError: a lag is outside of these, or no whole number.

    >>> lag_grid(3, None, 0), lag_grid(1000, None, 0)[8:]
    ([0, 1, 2, 3], [8, 12, 16, 32, 64, 128, 256, 512, 1000])
    """
    if lags == "all" or (lags is None and longest <= EVERY):
        return list(range(least, longest + 1))
    if lags is not None:
        if isinstance(lags, str) or not isinstance(lags, Iterable):
            raise InputError(f"{name} are {lags!r}, expected whole numbers, 'all' or None")
        asked = list(lags)
        wrong = [lag for lag in asked if not (float(lag).is_integer() and least <= float(lag) <= longest)]
        if wrong or not asked:
            raise InputError(f"{name} are {wrong or 'empty'}, expected whole numbers from {least} to {longest}")
        return sorted({int(lag) for lag in asked})
    octaves = [HALVED << octave for octave in range(longest.bit_length())]
    grid = {*range(FINE + 1), 3 * FINE // 2, *octaves}
    return sorted({lag for lag in grid if least <= lag < longest} | {longest})


def bin_of_lag(edges: Sequence[int]) -> Tensor:
    """Return the bin of each lag, 0, 1, ...; the bins are bounded by ascending edges from 0.

    >>> bin_of_lag([0, 1, 4]).tolist()
    [0, 1, 1, 1]
    """
    return torch.arange(len(edges) - 1).repeat_interleave(torch.tensor(edges).diff())


def act(product: Tensor, x: Tensor, adjoint: bool = False) -> Tensor:
    """Return Φ x, or Φ^H x, for every step of x ``(batch, time, H)``; a dense Φ is one for all steps."""
    if product.ndim == 3:
        # Into a block of the pool: a fresh page costs more than the product.
        return torch.mul((product.conj() if adjoint else product).resolve_conj(), x, out=empty(x.shape, x))
    # A scan of one step, each row starting at its own x: the fastest product here.
    A, rows = Dense(product.mH if adjoint else product), x.reshape(-1, x.shape[2])
    nothing = x.new_zeros(1, 1, x.shape[2]).expand(len(rows), 1, -1)
    return select("auto", Spec.of(A, nothing)).scan(A, nothing, rows).view(x.shape)


class Windows:
    """Φ(t, t − k) for every t, by repeated doubling, of transitions A that are diagonal or the same at every step.

    For a time-invariant A this is A^k, ``(groups, 1, ...)``; else ``(groups, T − k, H)``, whose element i leads from
    step i, counted from 0, to step i + k.
    """

    def __init__(self, A: Tensor) -> None:
        M = A if A.shape[1] == 1 else A[:, 1:]  # what leads from every step to the next
        self._powers = [M]
        self._length, self._product = 0, M

    def over(self, length: int) -> Tensor:
        """Return the products of ``length`` ≥ 1 steps; in ascending order each is made from the one before."""
        if self._length and length > self._length:
            self._product = self._joined(self._fresh(length - self._length), self._product, self._length)
        elif length != self._length:
            self._product = self._fresh(length)
        self._length = length
        return self._product

    def power(self, octave: int) -> Tensor:
        """Return the products of 2^octave steps."""
        while len(self._powers) <= octave:
            last = self._powers[-1]
            self._powers.append(self._joined(last, last, 1 << (len(self._powers) - 1)))
        return self._powers[octave]

    def _fresh(self, length: int) -> Tensor:
        result, have = None, 0
        for octave in range(length.bit_length()):
            if length >> octave & 1:
                power = self.power(octave)
                result = power if result is None else self._joined(power, result, have)
                have += 1 << octave
        assert result is not None
        return result

    def _joined(self, later: Tensor, earlier: Tensor, between: int) -> Tensor:
        """Return later · earlier, the later one beginning ``between`` steps after the earlier."""
        if later.shape[1] > 1 or earlier.shape[1] > 1 or self._powers[0].shape[1] > 1:
            later = later[:, between:]
            earlier = earlier[:, : later.shape[1]]
        return later * earlier if later.ndim == 3 else later @ earlier


class Sliding:
    """Sums of x over windows of lags, moved to one end of the window, by additions alone.

    Forward, the sum over the lags below m at step t is Y_m(t) = Σ_{j<m} Φ(t, t−j) x_{t-j}; ``adjoint``, at step s,
    Σ_{j<m} Φ(s+j, s)^H x_{s+j}.

    Args:
        products: of the transitions of x's sequences.
        x: ``(batch, time, H)``.
        adjoint: the direction.
    """

    def __init__(self, products: Windows, x: Tensor, adjoint: bool = False) -> None:
        self.products, self.adjoint = products, adjoint
        self._doubled = [x]

    def moved(self, x: Tensor, lag: int, product: Tensor | None = None) -> Tensor:
        """Return x after a lag, for the steps that have it; not to be written to."""
        if lag == 0:
            return x
        return act(self.products.over(lag) if product is None else product, self.from_(x, lag), self.adjoint)

    def from_(self, x: Tensor, lag: int) -> Tensor:
        """Return the steps from which a lag leads to a step."""
        return x[:, lag:] if self.adjoint else x[:, : x.shape[1] - lag]

    def to(self, x: Tensor, lag: int) -> Tensor:
        """Return the steps to which a lag leads."""
        return x[:, : x.shape[1] - lag] if self.adjoint else x[:, lag:]

    def below(self, width: int) -> Tensor:
        """Return Y_width, ``(batch, time, H)``, by doubling: Y_{a+b}(t) = Y_b(t) + Φ(t, t−b) Y_a(t−b)."""
        result: Tensor | None = None
        for octave in range(width.bit_length()):
            if octave == len(self._doubled):
                last = self._doubled[-1]
                self._doubled.append(self._appended(last, last, octave - 1))
            if width >> octave & 1:
                sums = self._doubled[octave]
                result = sums if result is None else self._appended(sums, result, octave)
        assert result is not None  # the highest bit of width set it
        return result

    def _appended(self, recent: Tensor, older: Tensor, octave: int) -> Tensor:
        """Return the sum over both windows; ``older`` begins 2^octave lags back."""
        result, lag = _copy(recent), 1 << octave
        if lag < recent.shape[1]:
            self.to(result, lag).add_(self.moved(older, lag, self.products.power(octave)))
        return result


def bin_sums(products: Windows, x: Tensor, edges: Sequence[int]) -> Iterator[Tensor]:
    """Yield Σ_{k ≤ j < k+m} Φ(t, t−j) x_{t-j} for every bin [k, k + m) of lags, bounded by ascending edges from 0.

    This is Φ(t, t−k) Y_m(t−k), and Y_{k+m} = Y_k + Φ(t, t−k) Y_m(t−k): the windows that later, wider bins need cost one
    addition each.

    Args:
        products: of the transitions of x's sequences.
        x: ``(batch, time, H)``.
        edges: of the bins.

    Yields:
        For the steps t from k on, ``(batch, time − k, H)``, not to be written to.
    """
    sliding, sums, known = Sliding(products, x), x, {1: x}
    bins = list(itertools.pairwise(edges))
    for number, (first, last) in enumerate(bins):
        width = last - first
        moved = sliding.moved(known[width] if width in known else sliding.below(width), first)
        yield moved
        ahead = {later - earlier for earlier, later in bins[number + 1 :]}
        if ahead.isdisjoint(edges[number + 1 :]):
            continue
        if first == 0:
            sums = _copy(moved)
        else:
            sliding.to(sums, first).add_(moved)
        known = {length: there for length, there in known.items() if length in ahead}
        if last in ahead:
            known[last] = _copy(sums)


def _copy(x: Tensor) -> Tensor:
    return empty(x.shape, x).copy_(x)


def by_source(sweep: Sweep) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield what the loss sends back to step s from each step t ≥ s, for every s from the last to the first.

    This runs the recurrence of δ for each source t by itself. It makes no product of transitions, so nothing overflows
    or underflows that the gradient does not; one pass, T²/2 steps in all, has every lag.

    Yields:
        s, counted from 0; the steps t that the loss looks at ``(n,)``, ascending; and Φ(t, s)^H g_t ``(batch, n, H)``.
    """
    sources = torch.tensor(sweep.sources, dtype=torch.long, device=sweep.direct.device)
    looked_at, moved = set(sweep.sources), sweep.direct[:, :0]
    for step in reversed(range(sweep.time)):
        if moved.shape[1]:
            A = (sweep.A if sweep.invariant else sweep.A[:, step + 1 : step + 2]).conj()
            moved = moved * A if sweep.diagonal else moved @ A[:, 0]
        if step in looked_at:
            moved = torch.cat([sweep.direct[:, step : step + 1], moved], 1)
        if moved.shape[1]:
            yield step, sources[len(sources) - moved.shape[1] :], moved


def pieces(A: Tensor, batch: int, time: int) -> Iterator[tuple[slice, Windows]]:
    """Yield as many sequences at a time as a cache holds, with the products of their transitions."""
    rows = max(1, _PIECE // (time * A.shape[-1]))
    shared = Windows(A) if A.shape[0] == 1 else None
    for begin in range(0, batch, rows):
        part = slice(begin, begin + rows)
        yield part, shared or Windows(A[part])


def outer(gradient: Tensor, factor: Tensor, diagonal: bool) -> Tensor:
    """Return Σ gradient_t factor_t^H over batch and time; of a diagonal A its diagonal."""
    if not diagonal:
        spec = Spec(gradient.device, gradient.dtype, "dense")
        return select("auto", spec).outer_sum(gradient, factor)
    return torch.mul(gradient, factor.conj(), out=empty(gradient.shape, gradient)).sum((0, 1))
