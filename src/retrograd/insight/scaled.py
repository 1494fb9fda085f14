"""Products of many transitions, each kept as a float64 times a power of two.

The power of two takes the size, so a product of any length neither overflows nor underflows; scaling by it is exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["Powers", "in_double", "of_dense", "of_diagonal", "product_of", "scaled"]

Array = np.ndarray[Any, Any]

# A product of this many mantissas, each at least a half, does not underflow.
_SAFE = 512
# Matrices whose largest elements lie within 10^±this are multiplied without scaling.
_DECADES = 60


def in_double(A: Tensor) -> Tensor:
    """Return A in float64, or complex128."""
    return A.to(torch.complex128 if A.is_complex() else torch.float64)


def of_diagonal(a: Tensor, lags: list[int]) -> tuple[Array, Array]:
    """Return |products| of ``(steps, H)`` over the lags, largest first, as mantissas and powers of two ``(K, H)``.

    Each channel and step has its own power of two, so a gate of 1e300 hides no small one.
    """
    size = in_double(a).abs().cpu().numpy()
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


def product_of(parts: Array, powers: Array) -> tuple[Array, Array]:
    """Return the product over steps of mantissas and powers of two, as one mantissa and power for each channel."""
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


def of_dense(A: Tensor, lags: list[int], first: Tensor | None) -> tuple[Array, Array]:
    """Return the singular values of the products of ``(steps, H, H)``, as numbers and powers of two ``(K, H)``.

    ``first`` ``(1, H, H)``, if given, replaces the last factor of the longest product.
    """
    width = A.shape[-1]
    powers = Powers(A[0]) if len(A) == 1 else None
    product, exponent, before = in_double(torch.eye(width, dtype=A.dtype, device=A.device)), 0, 0
    values, exponents = [], []
    for lag in lags:
        if lag > before:
            if powers is not None and first is not None and lag == lags[-1]:
                factor, shift = powers.of(lag - before - 1) if lag - before > 1 else (torch.eye(width).to(product), 0)
                factor = factor @ in_double(first[0])
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
    """Powers of one matrix ``(H, H)`` in float64, by repeated squaring; the squares are kept for the next power."""

    def __init__(self, W: Tensor) -> None:
        self._squares = [scaled(in_double(W))]

    def of(self, count: int) -> tuple[Tensor, int]:
        """Return W^count divided by a power of two, and the exponent; ``count`` is at least 1."""
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
    """Return a matrix divided by a power of two, so that its largest element is about 1, and the exponent: exact."""
    largest = float(product.abs().max())
    if largest == 0 or not np.isfinite(largest):
        return product, 0
    exponent = int(np.frexp(largest)[1])
    half = exponent // 2  # in two: 2^1074 is no float64
    scale = 2.0**-exponent if abs(exponent) < 1000 else 2.0**-half
    found = product * scale
    return found if abs(exponent) < 1000 else found * 2.0 ** (half - exponent), exponent


def _chain(A: Tensor) -> tuple[Tensor, int]:
    """Return the product of ``(steps, H, H)`` divided by a power of two, and the exponent.

    Neighbours are multiplied first, then their products. Huge or tiny factors are scaled each by its own power of two:
    1e300 after 1e-300 is 1.
    """
    product, exponent = _scaled_each(in_double(A))
    while len(product) > 1:
        even = len(product) // 2 * 2
        paired, more = _scaled_each(product[1:even:2] @ product[0:even:2])
        product = torch.cat([paired, product[even:]]) if even < len(product) else paired
        exponent += more
    last, more = scaled(product[0])
    return last, exponent + more


def _scaled_each(A: Tensor) -> tuple[Tensor, int]:
    """Scale each matrix as :func:`scaled` does, if one of them needs it; return them and the sum of the exponents."""
    largest = A.abs().amax((-2, -1), keepdim=True)
    largest = torch.where(largest.isfinite() & (largest > 0), largest, 1.0)
    if bool((largest.log10().abs() < _DECADES).all()):
        return A, 0
    exponent = torch.frexp(largest).exponent
    half = exponent // 2
    for part in (half, exponent - half):
        A = A * torch.exp2(-part.double())
    return A, int(exponent.sum())
