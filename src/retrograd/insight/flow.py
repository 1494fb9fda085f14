"""How large is the gradient at every step, and how does a state act on a later one?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retrograd.insight.products import chain, identity, lag_grid
from retrograd.insight.sweep import Sweep
from retrograd.norms import norm

__all__ = ["Flow", "Jacobians", "flow", "jacobians"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Flow:
    """Sizes of the gradient, step by step; a norm is over states, and over the batch where there is no axis for it.

    Attributes:
        delta_norm: ‖δ_t‖, the whole gradient of h_t, ``(T,)``.
        direct_norm: ‖g_t‖, what the loss sends straight into step t, ``(T,)``.
        by_sequence: ‖δ_t‖ of every sequence, ``(B, T)``.
        gradient_by_sequence: ‖Σ_t δ_t h_{t-1}^H‖, each sequence's part in ∂L/∂W_hh, ``(B,)``.
    """

    delta_norm: Array
    direct_norm: Array
    by_sequence: Array
    gradient_by_sequence: Array


def flow(sweep: Sweep) -> Flow:
    """Return the size of the gradient at every step.

    Examples:
        >>> from retrograd import Diagonal
        >>> flow(Sweep.of_scan(Diagonal(torch.tensor([0.5])), torch.ones(4, 1))).delta_norm
        array([0.125, 0.25 , 0.5  , 1.   ])
    """
    by_sequence = norm(sweep.delta)
    if sweep.diagonal:
        parts = (sweep.delta * sweep.previous.conj()).sum(1)
    else:
        parts = (sweep.delta.mT @ sweep.previous.conj()).flatten(1)
    return Flow(
        norm(by_sequence.mT).numpy(),
        norm(norm(sweep.direct).mT).numpy(),
        by_sequence.numpy(),
        norm(parts).numpy(),
    )


@dataclass(frozen=True)
class Jacobians:
    """∂h_T/∂h_{T-k} = A_T ... A_{T-k+1}, lag by lag; the gradient passes through its conjugate transpose.

    Attributes:
        lags: k, ``(K,)``, from 0.
        singular_values: the largest, ``(K, top)``, largest first. A number beyond float64 is infinite, one below it 0.
        log10_norm: log10 of the largest, ``(K,)``, which neither overflows nor underflows; −inf where exactly 0.
        rounding: what the product's rounding can be, as a part of the norm, ``(K,)``; 0 for diagonal transitions.
    """

    lags: Array
    singular_values: Array
    log10_norm: Array
    rounding: Array

    @property
    def norm(self) -> Array:
        """‖∂h_T/∂h_{T-k}‖₂, ``(K,)``."""
        return np.asarray(self.singular_values[:, 0])

    @property
    def resolved(self) -> Array:
        """The singular values, ``(K, top)``; NaN where the rounding of a dense product's norm is larger than they are.

        A product of k matrices of H rows is off by up to k H eps of its norm, the norm itself taken for one factor.
        """
        values, rounding = self.singular_values, self.rounding[:, None]
        # A product without rounding may be infinite, and 0 × ∞ is no number.
        rounding = np.where(rounding > 0, rounding * np.minimum(self.norm[:, None], np.finfo(float).max), 0.0)
        shown = np.where((values <= rounding) & (rounding > 0), np.nan, values)
        return np.concatenate([values[:, :1], shown[:, 1:]], axis=1)


def jacobians(
    A: Sweep | Tensor,
    lags: Sequence[int] | str | None = None,
    *,
    longest: int | None = None,
    top: int = 4,
    row: int = 0,
) -> Jacobians:
    """Return the size of ∂h_T/∂h_{T-k} for every lag k asked for.

    Args:
        A: a sweep, or transitions as :meth:`retrograd.Dense.normal` gives them.
        lags: which, from 0; ``"all"``; or None: all up to 256, of a longer sequence 0 to 8, two an octave
            up to 64 and one beyond.
        longest: the largest lag; T by default, from h_T to h_0. Needed where A is one matrix.
        top: how many singular values.
        row: which sequence, where each has its own transitions.

    Examples:
        >>> A = torch.tensor([[0.5, 4.0], [0.0, 0.5]], dtype=torch.float64)
        >>> jacobians(A[None, None], longest=3).norm.round(3)
        array([1.   , 4.062, 4.016, 3.005])
    """
    if isinstance(A, Sweep):
        longest = A.time if longest is None else longest
        A = A.A
    steps = A.shape[1]
    longest = (steps if steps > 1 else None) if longest is None else longest
    if longest is None:
        raise ValueError("jacobians: A is one matrix: give longest, the largest lag")
    if steps > 1 and longest > steps:
        raise ValueError(f"jacobians: longest is {longest}, A has {steps} steps")
    wanted = lag_grid(longest, lags, 0)
    own = A if A.shape[0] == 1 else A[row : row + 1]
    width = A.shape[-1]
    product, exponent, before = identity(own)[:, 0], 0, 0
    values, exponents = [], []
    powers = [_scaled(own[:, 0])]
    for lag in wanted:
        if lag > before:
            if steps == 1:
                factor, shift = _scaled_power(powers, lag - before)
            else:
                factor, shift = _scaled_chain(own, steps - lag, steps - before)
            product = product * factor if own.ndim == 3 else product @ factor
            product, more = _scaled(product)
            exponent, before = exponent + shift + more, lag
        values.append(product[0])
        exponents.append(exponent)
    stacked = torch.stack(values)
    if own.ndim == 3:
        singular = stacked.abs().sort(dim=-1, descending=True).values
    else:
        finite = torch.isfinite(stacked).all(-1).all(-1)
        singular = stacked.new_full((len(stacked), width), float("nan"), dtype=torch.float64)
        singular[finite] = torch.linalg.svdvals(stacked[finite])
    found, power = singular[:, : min(top, width)].numpy(), np.array(exponents)
    with np.errstate(divide="ignore", over="ignore", under="ignore"):
        log10_norm = np.log10(found[:, 0]) + power * np.log10(2)
        rounding = np.array(wanted) * (0.0 if own.ndim == 3 else width * np.finfo(float).eps)
        return Jacobians(np.array(wanted), np.ldexp(found, power[:, None]), log10_norm, rounding)


def _scaled(product: Tensor) -> tuple[Tensor, int]:
    """Return the product over a power of two, its largest element being about 1, and that power: exact."""
    largest = float(product.abs().max())
    if largest == 0 or not np.isfinite(largest):
        return product, 0
    exponent = int(np.frexp(largest)[1])
    return product * 2.0**-exponent if abs(exponent) < 1000 else product * 2.0 ** -(exponent // 2) * 2.0 ** -(
        exponent - exponent // 2
    ), exponent


# A chain of this many factors neither overflows nor underflows, unless one of them is beyond 1e±30.
_SAFE = 8


def _scaled_power(powers: list[tuple[Tensor, int]], count: int) -> tuple[Tensor, int]:
    """Return the ``count``-th power over a power of two; ``powers`` are the squarings so far, and grow."""
    result, exponent = None, 0
    for bit in range(count.bit_length()):
        if bit == len(powers):
            square, shift = powers[-1]
            product, more = _scaled(square * square if square.ndim == 2 else square @ square)
            powers.append((product, 2 * shift + more))
        if count >> bit & 1:
            power, shift = powers[bit]
            result = power if result is None else result * power if power.ndim == 2 else result @ power
            result, more = _scaled(result)
            exponent += shift + more
    assert result is not None
    return result, exponent


def _scaled_chain(A: Tensor, start: int, stop: int) -> tuple[Tensor, int]:
    """Return Φ(stop, start) of transitions that change with time, over a power of two, and that power."""
    if stop - start <= _SAFE:
        return _scaled(chain(A, start, stop))
    middle = (start + stop) // 2
    earlier, low = _scaled_chain(A, start, middle)
    later, high = _scaled_chain(A, middle, stop)
    product, more = _scaled(later * earlier if A.ndim == 3 else later @ earlier)
    return product, low + high + more
