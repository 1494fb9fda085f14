"""How large can ‖A^k‖ become on the way? Every power is made, up to the first that is no longer than 1.

    ‖A^m‖ ≤ 1: no k beyond m has more than some k ≤ m                 ‖A^k‖ ≤ ‖A^k‖_F

The second bound spares most of the singular values: a power whose Frobenius norm is below the largest norm known is not
the largest. Powers are divided by powers of two, so nothing overflows on the way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retrograd.core.transition import Dense
from retrograd.errors import InputError, require_whole
from retrograd.insight.flow import Jacobians, jacobians
from retrograd.insight.scaled import in_double, scaled

__all__ = ["TransientGrowth", "largest_power", "transient_growth"]

Array = np.ndarray[Any, Any]

# Powers made at a time.
_BLOCK = 32
_EPS = float(np.finfo(float).eps)


@dataclass(frozen=True)
class TransientGrowth:
    """The largest ‖A^k‖ for k from 0 to ``horizon``.

    Attributes:
        largest: the maximum, to rounding; infinite beyond float64.
        lag: the first k at which the norm is that large, to rounding (k H eps of it).
        horizon: the largest lag looked at.
    """

    largest: float
    lag: int
    horizon: int


def transient_growth(W: Tensor, horizon: int, through: Jacobians | None = None) -> TransientGrowth:
    """Return the largest ‖W^k‖₂ for k from 0 to ``horizon``, W being ``(H, H)``.

    It costs one matrix product for each k up to the first with ‖W^k‖ ≤ 1, and the singular values of some.

    Args:
        W: the matrix.
        horizon: the largest lag.
        through: the :func:`retrograd.insight.jacobians` of W, if at hand: norms that need not be computed.

    Raises:
        InputError: W is no finite matrix, or the horizon is negative or not whole.

    Examples:
        >>> transient_growth(torch.tensor([[0.0, 7.0], [0.0, 0.0]]), 10)
        TransientGrowth(largest=7.0, lag=1, horizon=10)
    """
    if not isinstance(W, Tensor) or W.ndim != 2:
        was = f"has shape {tuple(W.shape)}" if isinstance(W, Tensor) else f"is {type(W).__name__}"
        raise InputError(f"transient_growth: W {was}, expected one matrix (H, H) as a torch.Tensor")
    A = in_double(Dense(W).W.detach())
    if not len(A) or not bool(A.isfinite().all()):
        raise InputError("transient_growth: W holds NaN or infinity, or nothing")
    return largest_power(A, horizon, through)


def largest_power(A: Tensor, horizon: int, through: Jacobians | None) -> TransientGrowth:
    """Return what :func:`transient_growth` does, of a double A."""
    horizon = require_whole("transient_growth: horizon", horizon, 0)
    if through is None:
        octaves = [1 << octave for octave in range(horizon.bit_length())]
        through = jacobians(Dense(A), [0, *octaves, horizon], longest=horizon, top=1)
    known = {0: (0.0, 1.0)}  # log2 ‖A^k‖, and ‖A^k‖ itself
    for lag, decades, norm in zip(through.lags, through.log10_norm, through.norm, strict=True):
        if lag <= horizon and not np.isnan(decades):
            known[int(lag)] = float(decades / np.log10(2)), float(norm)
    rounding = _EPS * len(A) / np.log(2)  # of a logarithm, for every factor
    stop = min((lag for lag in known if lag > 0 and known[lag][0] <= lag * rounding), default=horizon)
    for lags, products, exponents in _powers(A, stop) if len(known) <= stop else ():
        most = _log2(torch.linalg.matrix_norm(products).cpu().numpy(), exponents)
        some = np.flatnonzero(most > max(known.values())[0])
        norms = torch.linalg.svdvals(products[some])[:, 0].cpu().numpy()
        with np.errstate(over="ignore", under="ignore"):
            both = zip(_log2(norms, exponents[some]).tolist(), np.ldexp(norms, exponents[some]).tolist(), strict=True)
        known.update(zip(lags[some].tolist(), both, strict=True))
    best = max(known, key=known.__getitem__)
    least = known[best][0] - best * rounding - 4 * _EPS * abs(known[best][0])
    first = min(lag for lag in known if known[lag][0] >= least)
    return TransientGrowth(known[first][1], first, horizon)


def _powers(A: Tensor, count: int) -> Iterator[tuple[Array, Tensor, Array]]:
    """Yield k, A^k divided by powers of two, and the exponents, for k = 1 ... ``count``, a block at a time."""
    one = scaled(A)
    block = [one]
    while len(block) < min(count, _BLOCK):
        product, more = scaled(one[0] @ block[-1][0])
        block.append((product, block[-1][1] + one[1] + more))
    first, powers = torch.stack([product for product, _ in block]), np.array([exponent for _, exponent in block])
    products, exponents = first, powers
    for before in range(0, count, len(block)):
        if before:
            product, more = scaled(products[-1])
            products, exponents = first @ product, powers + exponents[-1] + more
        here = min(len(block), count - before)
        yield before + 1 + np.arange(here), products[:here], exponents[:here]


def _log2(values: Array, exponents: Array) -> Array:
    with np.errstate(divide="ignore"):
        return np.asarray(np.log2(values) + exponents)
