"""How large is the gradient at every step, and how does a state act on a later one?"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retrograd.core.transition import Dense, Diagonal
from retrograd.errors import InputError
from retrograd.insight.products import lag_grid
from retrograd.insight.sweep import Sweep
from retrograd.norms import norm

__all__ = ["Flow", "Jacobians", "Powers", "flow", "jacobians", "product_of", "scaled", "whole"]

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
    if not isinstance(sweep, Sweep):
        raise TypeError(f"flow: sweep is {_named(sweep)}, expected a Sweep{_ONE_OF if isinstance(sweep, dict) else ''}")
    by_sequence = norm(sweep.delta)
    return Flow(
        norm(by_sequence.mT).cpu().numpy(),
        norm(sweep.direct_norms.mT).cpu().numpy(),
        by_sequence.cpu().numpy(),
        norm(sweep.gradients.flatten(1)).cpu().numpy(),
    )


@dataclass(frozen=True)
class Jacobians:
    """∂h_s/∂h_{s-k} = A_s ... A_{s-k+1}, lag by lag; the gradient passes through its conjugate transpose.

    Where a product holds a transition that is NaN or infinite, all is NaN.

    Attributes:
        lags: k, ``(K,)``, from 0.
        singular_values: the largest, ``(K, top)``, largest first. A number beyond float64 is infinite, one below it 0.
        log10_norm: log10 of the largest, ``(K,)``, which neither overflows nor underflows; −inf where exactly 0.
        rounding: what the product's rounding can be, as a part of the norm, ``(K,)``; 0 for diagonal transitions, each
            of whose numbers is right to k eps of itself.
    """

    lags: Array
    singular_values: Array
    log10_norm: Array
    rounding: Array

    @property
    def norm(self) -> Array:
        """‖∂h_s/∂h_{s-k}‖₂, ``(K,)``."""
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
    A: Sweep | Dense | Diagonal | Tensor,
    lags: Sequence[int] | str | None = None,
    *,
    end: int | None = None,
    longest: int | None = None,
    top: int = 4,
    row: int = 0,
) -> Jacobians:
    """Return the size of ∂h_s/∂h_{s-k} for every lag k asked for, in float64 whatever the transitions are in.

    Args:
        A: a sweep; transitions; a matrix ``(H, H)``; or what :meth:`retrograd.Dense.normal` gives.
        lags: which, from 0; ``"all"``; or None: all up to 256, of a longer sequence 0 to 8, 12, 16 and
            one an octave beyond.
        end: s, the step that the products end with, from 1; T by default.
        longest: the largest lag; s by default, from h_s to h_0. Needed where A is one matrix and there is no s.
        top: how many singular values.
        row: which sequence, where each has its own transitions.

    Raises:
        TypeError: A is none of these.
        InputError: a number is outside what is allowed, or not whole.

    Examples:
        >>> A = Dense(torch.tensor([[0.5, 4.0], [0.0, 0.5]]))
        >>> jacobians(A, longest=3).norm.round(3)
        array([1.   , 4.062, 4.016, 3.005])
        >>> jacobians(Diagonal(torch.tensor([[0.5], [0.1], [7.0]])), end=2).norm.round(3)
        array([1.  , 0.1 , 0.05])
    """
    a, time, batch = _transitions(A)
    groups, steps, width = len(a), a.shape[1], a.shape[-1]
    if width == 0 or steps == 0 or groups == 0:
        raise InputError(f"jacobians: A has shape {tuple(a.shape)}, expected at least one state, step and sequence")
    if end is not None:
        end = whole("jacobians: end", end, 1, time, "the step that the products end with")
    elif time is not None:
        end = time
    if longest is None and end is None:
        raise InputError("jacobians: A is one matrix: give longest, the largest lag")
    longest = end if longest is None else whole("jacobians: longest", longest, 0, end, _FURTHER)
    assert longest is not None
    top = whole("jacobians: top", top, 1, None, "how many singular values")
    row = whole("jacobians: row", row, 0, batch - 1, "one of the sequences, counted from 0")
    if lags is not None and not isinstance(lags, str):
        lags = [whole("jacobians: a lag", lag, 0, longest, "up to longest") for lag in _several(lags)]
        if not lags:
            raise InputError(f"jacobians: lags are empty, expected whole numbers from 0 to {longest}, 'all' or None")
    wanted = lag_grid(longest, lags, 0)
    # The steps that enter, those of one sequence.
    own = a[row * groups // batch]
    own = own if steps == 1 else own[(end or 0) - wanted[-1] : end]
    # A first transition of its own stands where the products reach h_0.
    first = A.first if isinstance(A, Sweep) and wanted[-1] == end else None
    mantissa, exponent = _of_diagonal(own, wanted) if a.ndim == 3 else _of_dense(own, wanted, first)
    with np.errstate(divide="ignore", over="ignore", under="ignore"):
        decades = np.log10(mantissa[:, 0]) + exponent[:, 0] * np.log10(2)
        rounding = np.array(wanted) * (0.0 if a.ndim == 3 else width * np.finfo(float).eps)
        values = np.ldexp(mantissa[:, :top], exponent[:, :top])
        return Jacobians(np.array(wanted), values, decades, rounding)


_ONE_OF = ", one of these: sweeps[0, 'forward']"
_FURTHER = "from the step that products end with to h_0; of one matrix alone, as rg.Dense(W), any"


def whole(name: str, value: Any, least: int, most: int | None, what: str) -> int:
    """Return a number that has to be whole and within bounds.

    >>> whole("spectrum: horizon", 2.5, 0, None, "of steps")
    Traceback (most recent call last):
        ...
    retrograd.errors.InputError: spectrum: horizon is 2.5, expected a whole number from 0 (of steps)
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least or (most is not None and number > most):
        bounds = f"from {least}" + ("" if most is None else f" to {most}")
        raise InputError(f"{name} is {value!r}, expected a whole number {bounds} ({what})")
    return number


def _several(lags: Any) -> list[Any]:
    try:
        return list(lags)
    except TypeError:
        raise InputError(f"jacobians: lags are {lags!r}, expected a list of whole numbers, 'all' or None") from None


def _named(value: object) -> str:
    return "a dict of sweeps" if isinstance(value, dict) else type(value).__name__


def _transitions(A: Any) -> tuple[Tensor, int | None, int]:
    """Return A as (groups, steps, ...), how many steps there are if that is known, and how many sequences."""
    if isinstance(A, Sweep):
        return A.A, A.time, len(A.states)
    if isinstance(A, (Dense, Diagonal)):
        A = A.normal().detach()
    elif not isinstance(A, Tensor):
        one = _ONE_OF if isinstance(A, dict) else ""
        raise TypeError(
            f"jacobians: A is {_named(A)}, expected a Sweep, rg.Dense(W), rg.Diagonal(a) or a torch.Tensor{one}"
        )
    elif A.ndim == 2 or (A.ndim == 4 and A.shape[-1] == A.shape[-2]):
        A = Dense(A).normal().detach()
    elif A.ndim == 3:
        A = Diagonal(A).normal().detach()
    else:
        raise InputError(
            f"jacobians: A has shape {tuple(A.shape)}, expected one matrix (H, H), (groups, steps, H, H), of diagonals "
            "(groups, steps, H), or rg.Dense(W) or rg.Diagonal(a), which say which they are"
        )
    return A, A.shape[1] if A.shape[1] > 1 else None, len(A)


def _double(A: Tensor) -> Tensor:
    return A.to(torch.complex128 if A.is_complex() else torch.float64)


def _of_diagonal(a: Tensor, lags: list[int]) -> tuple[Array, Array]:
    """Return |products| of ``(steps, H)``, largest first, as mantissas and powers of two ``(K, H)``: every one exact.

    Each has its own power, so neither a step's 1e300 nor another channel's hides a small one.
    """
    size = _double(a).abs().cpu().numpy()
    parts, powers = np.frexp(np.where(np.isfinite(size), size, np.nan))
    product, power = np.ones(size.shape[1]), np.zeros(size.shape[1], dtype=np.int64)
    mantissas, exponents, before = [], [], 0
    for lag in lags:
        if lag > before:
            if len(size) == 1:
                factor, shift = _power_of(parts[0], powers[0], lag - before)
            else:
                steps = slice(len(size) - lag, len(size) - before)
                factor, shift = product_of(parts[steps], powers[steps])
            product, more = np.frexp(product * factor)
            power, before = power + shift + more, lag
        mantissas.append(product)
        exponents.append(power)
    mantissa, exponent = np.stack(mantissas), np.stack(exponents)
    broken = np.isnan(mantissa).any(1)
    with np.errstate(divide="ignore"):
        order = np.argsort(-(np.log2(mantissa) + exponent), axis=1, kind="stable")
    mantissa[broken] = np.nan
    return np.take_along_axis(mantissa, order, 1), np.take_along_axis(exponent, order, 1)


# Of so many mantissas, each at least a half, the product does not underflow.
_SAFE = 512


def product_of(parts: Array, powers: Array) -> tuple[Array, Array]:
    """Return the product over steps of mantissas with their powers of two."""
    power = powers.sum(0, dtype=np.int64)
    while len(parts) > 1:
        parts, more = np.frexp(np.multiply.reduceat(parts, np.arange(0, len(parts), _SAFE), axis=0))
        power = power + more.sum(0)
    return parts[0], power


def _power_of(part: Array, power: Array, count: int) -> tuple[Array, Array]:
    """Return the ``count``-th power of a mantissa with its power of two, by squaring."""
    result, exponent = np.ones_like(part), np.zeros(part.shape, dtype=np.int64)
    square, shift = part, power.astype(np.int64)
    while count:
        if count & 1:
            result, more = np.frexp(result * square)
            exponent = exponent + shift + more
        square, more = np.frexp(square * square)
        shift, count = 2 * shift + more, count >> 1
    return result, exponent


def _of_dense(A: Tensor, lags: list[int], first: Tensor | None) -> tuple[Array, Array]:
    """Return the products' singular values, of ``(steps, H, H)``, as numbers over a power of two ``(K, H)``.

    ``first`` ``(1, H, H)`` takes the place of the last factor of the longest product.
    """
    width = A.shape[-1]
    powers = Powers(A[0]) if len(A) == 1 else None
    product, exponent, before = _double(torch.eye(width, dtype=A.dtype, device=A.device)), 0, 0
    values, exponents = [], []
    for lag in lags:
        if lag > before:
            if powers is not None and first is not None and lag == lags[-1]:
                factor, shift = powers.of(lag - before - 1) if lag - before > 1 else (torch.eye(width).to(product), 0)
                factor = factor @ _double(first[0])
            elif powers is not None:
                factor, shift = powers.of(lag - before)
            else:
                factor, shift = _chain(A[len(A) - lag : len(A) - before])
            product, more = scaled(product @ factor)
            exponent, before = exponent + shift + more, lag
        values.append(product)
        exponents.append(exponent)
    stacked = torch.stack(values)
    finite = torch.isfinite(stacked).all(-1).all(-1)
    singular = stacked.new_full((len(stacked), width), float("nan"), dtype=torch.float64)
    singular[finite] = torch.linalg.svdvals(stacked[finite])
    return singular.cpu().numpy(), np.broadcast_to(np.array(exponents)[:, None], singular.shape)


class Powers:
    """Powers of one matrix ``(H, H)``, in float64, over powers of two; squarings are kept."""

    def __init__(self, W: Tensor) -> None:
        self._squares = [scaled(_double(W))]

    def of(self, count: int) -> tuple[Tensor, int]:
        """Return W^count over a power of two, and that power; ``count`` from 1."""
        result, exponent = None, 0
        for bit in range(count.bit_length()):
            if bit == len(self._squares):
                square, shift = self._squares[-1]
                product, more = scaled(square @ square)
                self._squares.append((product, 2 * shift + more))
            if count >> bit & 1:
                power, shift = self._squares[bit]
                result, more = (power, 0) if result is None else scaled(result @ power)
                exponent += shift + more
        assert result is not None
        return result, exponent


def scaled(product: Tensor) -> tuple[Tensor, int]:
    """Return a matrix over a power of two, its largest element being about 1, and that power: exact."""
    largest = float(product.abs().max())
    if largest == 0 or not np.isfinite(largest):
        return product, 0
    exponent = int(np.frexp(largest)[1])
    half = exponent // 2  # in two: 2^1074 is no float64
    scale = 2.0**-exponent if abs(exponent) < 1000 else 2.0**-half
    found = product * scale
    return found if abs(exponent) < 1000 else found * 2.0 ** (half - exponent), exponent


# Two matrices whose largest elements lie within 10^±this are multiplied as they are.
_DECADES = 60


def _chain(A: Tensor) -> tuple[Tensor, int]:
    """Return the product of ``(steps, H, H)`` over a power of two, and that power: pairs first, then their pairs.

    Where factors are huge or tiny, each is put over its own power of two first: 1e300 after 1e-300 is 1.
    """
    product, exponent = _scaled_each(_double(A))
    while len(product) > 1:
        even = len(product) // 2 * 2
        paired, more = _scaled_each(product[1:even:2] @ product[0:even:2])
        product = torch.cat([paired, product[even:]]) if even < len(product) else paired
        exponent += more
    last, more = scaled(product[0])
    return last, exponent + more


def _scaled_each(A: Tensor) -> tuple[Tensor, int]:
    """Return each matrix as :func:`scaled` does, and the sum of the powers; all as they are if none needs it."""
    largest = A.abs().amax((-2, -1), keepdim=True)
    largest = torch.where(largest.isfinite() & (largest > 0), largest, 1.0)
    if bool((largest.log10().abs() < _DECADES).all()):
        return A, 0
    exponent = torch.frexp(largest).exponent
    half = exponent // 2
    for part in (half, exponent - half):
        A = A * torch.exp2(-part.double())
    return A, int(exponent.sum())
