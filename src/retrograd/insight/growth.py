"""How large can ‖A^k‖ become on the way, and is that proven?

    ‖A^(j+k)‖ ≤ ‖A^j‖ ‖A^k‖                          log ‖A^k‖ is subadditive
    ‖A^k‖ ≤ Σ_i κ_i |λ_i|^k                          κ_i the condition of eigenvalue i, of A = Σ_i λ_i v_i w_i^H
    ‖A^m‖ ≤ 1: no k beyond m has more than some k ≤ m

Between two lags j < j' whose norms are known, the first gives ‖A^k‖ ≤ ‖A^j‖ max_{i<j'-j} ‖A^i‖ and the second the sum
at either end. Where neither stays below the largest norm known, the stretch is halved: branch and bound. All is in
logarithms, of powers over powers of two, so nothing overflows on the way.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retrograd.core.transition import Dense
from retrograd.errors import InputError
from retrograd.insight.flow import Jacobians, Powers, scaled, whole

__all__ = ["ENOUGH", "TransientGrowth", "conditions", "largest_power", "transient_growth"]

Array = np.ndarray[Any, Any]

# Norms times states after which an analysis is content with a bound: 8 norms of 64 states.
ENOUGH = 512
# With so few left, the stretches next to the largest norm and those with the largest bounds are halved first.
_AT_ONCE = 4
_ROWS = 1 << 12
_EPS = float(np.finfo(float).eps)


@dataclass(frozen=True)
class TransientGrowth:
    """The largest ‖A^k‖ for k from 0 to ``horizon``.

    Attributes:
        largest: the largest found; infinite beyond float64.
        lag: k, the first where it is that, to rounding (k H eps of the norm, the powers' own).
        horizon: the longest lag looked at.
        bound: no ‖A^k‖ up to the horizon is larger than this. Equal to ``largest`` where that is proven to be the
            maximum, to rounding; more where the norms allowed did not suffice.
    """

    largest: float
    lag: int
    horizon: int
    bound: float


def transient_growth(
    W: Tensor, horizon: int, through: Jacobians | None = None, *, most_norms: int | None = None
) -> TransientGrowth:
    """Return the largest ‖W^k‖₂ for k from 0 to ``horizon``, W being ``(H, H)``.

    Args:
        W: the matrix.
        horizon: the longest lag.
        through: W's :func:`retrograd.insight.jacobians`, if they are at hand: norms that need not be computed.
        most_norms: how many norms may be computed beyond the powers of two. None: as many as the proof takes, which is
            few where ‖W^k‖ soon falls below 1 or soon grows, and at worst one for every lag, where modes next to the
            unit circle are not normal. Otherwise see :attr:`TransientGrowth.bound`.

    Raises:
        InputError: W is no finite matrix, or a number is not whole or negative.

    Examples:
        >>> transient_growth(torch.tensor([[0.0, 7.0], [0.0, 0.0]]), 10)
        TransientGrowth(largest=7.0, lag=1, horizon=10, bound=7.0)
    """
    if not isinstance(W, Tensor) or W.ndim != 2:
        was = f"has shape {tuple(W.shape)}" if isinstance(W, Tensor) else f"is {type(W).__name__}"
        raise InputError(f"transient_growth: W {was}, expected one matrix (H, H) as a torch.Tensor")
    A = Dense(W).W.detach().to(torch.complex128 if W.is_complex() else torch.float64)
    if not len(A) or not bool(A.isfinite().all()):
        raise InputError("transient_growth: W holds NaN or infinity, or nothing")
    values, vectors = torch.linalg.eig(A)
    return largest_power(A, horizon, through, (values, conditions(vectors)), most_norms)


def conditions(vectors: Tensor) -> Tensor:
    """Return κ_i = ‖v_i‖ ‖w_i‖ of the eigenvectors' matrix V, w_i^H the rows of its inverse; infinite if it has none.

    A change of A by ε moves eigenvalue i by κ_i ε, to first order (Golub, Van Loan, *Matrix Computations*, 7.2.2).
    """
    inverse, failed = torch.linalg.inv_ex(vectors)
    found = inverse.norm(dim=1) * vectors.norm(dim=0)
    return found if int(failed) == 0 and bool(found.isfinite().all()) else torch.full_like(found, float("inf"))


def largest_power(
    A: Tensor, horizon: int, through: Jacobians | None, modes: tuple[Tensor, Tensor], most_norms: int | None
) -> TransientGrowth:
    """Return what :func:`transient_growth` does, of a double A whose eigenvalues and their κ are known."""
    horizon = whole("transient growth: horizon", horizon, 0, None, "the longest lag looked at")
    if most_norms is not None:
        most_norms = whole("transient growth: most_norms", most_norms, 0, None, "or None, to prove the maximum")
    norms = _Norms(A, horizon, through)
    # Powers of two, to the first at which all beyond is bounded by what is before; then no stretch is longer than
    # the lag at its beginning.
    lag = 1
    while lag < horizon and not norms.settled(lag):
        lag *= 2
    stop = min(lag, horizon)
    norms.add([stop])
    reach = _modal(modes, float(torch.linalg.matrix_norm(A, 2)))
    slack = norms.rounding(horizon)
    spent = norms.computed
    while True:
        stop = next((lag for lag in norms.lags if 0 < lag < stop and norms.settled(lag)), stop)
        lags = [lag for lag in norms.lags if lag <= stop]
        size = [norms.log[lag] for lag in lags]
        gaps = _gaps(lags, size, reach)
        best = int(np.argmax(size))
        short = [gap for gap in range(len(gaps)) if gaps[gap] > size[best] + slack]
        left = None if most_norms is None else most_norms - (norms.computed - spent)
        if not short or (left is not None and left <= 0):
            break
        if left is not None:
            beside = [gap for gap in (best - 1, best) if gap in short]
            rest = sorted((gap for gap in short if gap not in beside), key=lambda gap: -gaps[gap])
            short = sorted((beside + rest)[: min(_AT_ONCE, left)])
        norms.add([(lags[gap] + lags[gap + 1]) // 2 for gap in short])
    least = size[best] - norms.rounding(lags[best])
    first = next(lag for lag, value in zip(lags, size, strict=True) if value >= least)
    largest = norms.value[first]
    with np.errstate(over="ignore"):
        bound = float(np.exp(max(gaps))) if short else largest
    return TransientGrowth(largest, first, horizon, max(bound, largest))


class _Norms:
    """‖A^k‖ and its logarithm at the lags where it is known."""

    def __init__(self, A: Tensor, horizon: int, through: Jacobians | None) -> None:
        self.log, self.value, self.computed = {0: 0.0}, {0: 1.0}, 0
        self._powers, self._width = Powers(A), len(A)
        if through is not None:
            for lag, decades, value in zip(through.lags, through.log10_norm, through.norm, strict=True):
                if lag <= horizon and not np.isnan(decades):
                    self.log[int(lag)], self.value[int(lag)] = float(decades * np.log(10)), float(value)
        self.lags = sorted(self.log)

    def add(self, lags: Sequence[int]) -> None:
        """Compute those of ascending lags that are not known."""
        product, exponent, before = None, 0, 0
        for lag in lags:
            if lag in self.log:
                continue
            factor, shift = self._powers.of(lag - before)
            product, more = (factor, 0) if product is None else scaled(product @ factor)
            exponent, before = exponent + shift + more, lag
            value = float(torch.linalg.svdvals(product)[0])
            with np.errstate(divide="ignore", over="ignore", under="ignore"):
                self.log[lag] = float(np.log(value) + exponent * np.log(2))
                self.value[lag] = float(np.ldexp(value, exponent))
            self.computed += 1
            bisect.insort(self.lags, lag)

    def rounding(self, lag: int) -> float:
        """Return what rounding makes of the logarithm: of ``lag`` factors of H rows, and of the logarithm itself."""
        return _EPS * (lag * self._width + 4 * max(abs(value) for value in self.log.values() if np.isfinite(value)))

    def settled(self, lag: int) -> bool:
        """Whether ‖A^lag‖ ≤ 1, to rounding."""
        self.add([lag])
        return self.log[lag] <= lag * self._width * _EPS


def _modal(modes: tuple[Tensor, Tensor], norm: float) -> tuple[Array, Array] | None:
    """Return log|λ_i| and log κ_i, each λ moved by what rounding can: |λ| + κ H eps ‖A‖."""
    size, condition = (part.abs().cpu().numpy() for part in modes)
    if not np.isfinite(condition).all():
        return None
    with np.errstate(divide="ignore", over="ignore"):
        return np.log(size + condition * len(size) * _EPS * norm), np.log(condition)


def _gaps(lags: list[int], size: list[float], reach: tuple[Array, Array] | None) -> list[float]:
    """Return a bound of log ‖A^k‖ for all k between each two neighbouring lags; −inf where there is none."""
    first = np.array(lags[:-1]) + 1
    last = np.maximum(first, np.array(lags[1:]) - 1)
    modal = np.full(len(first), np.inf)
    if reach is not None:
        for begin in range(0, len(first), _ROWS):
            ends = slice(begin, begin + _ROWS)
            # |λ|^k is largest at one end.
            parts = np.maximum(first[ends, None] * reach[0], last[ends, None] * reach[0]) + reach[1]
            modal[ends] = np.logaddexp.reduce(parts, axis=1)
    gaps: list[float] = []
    tops = [size[0]]  # bounds of all k up to each lag

    def up_to(lag: int) -> float:
        found, passed = -np.inf, 0.0
        while True:
            at = bisect.bisect_right(lags, lag, 0, len(tops)) - 1
            found = max(found, passed + tops[at])
            if lag == lags[at]:
                return found
            passed, lag = passed + size[at], lag - lags[at]

    for at, lag in enumerate(lags[:-1]):
        inside = lags[at + 1] - lag - 1
        gaps.append(min(size[at] + up_to(inside), float(modal[at])) if inside else -np.inf)
        tops.append(max(tops[-1], gaps[-1], size[at + 1]))
    return gaps
