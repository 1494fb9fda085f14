"""The product of a shard's transitions, P = A_n ... A_1, and after how many steps it has forgotten what came before.

P takes a state at the shard's start to its part in the state at its end; for the adjoint scan P^H does. It leaves the
range of any float within some hundred steps, so that it is kept as a mantissa and a power of two.

    diagonal    one product an element: powers by squaring where a is the same at every step, else in blocks
    others      a matrix: powers by squaring, or a scan that starts from the identity

A product that grows beyond GROWTH is no way to the loop's result: it loses digits, and the loop may have overflowed on
the way. Matrices for every step are too dear to multiply where ranks are few. There is then no product, and the scan
goes from rank to rank (:mod:`retrograd.distributed.sweep`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from retrograd.core.backend import BACKENDS
from retrograd.core.loop import carry_dtype
from retrograd.core.sequences import BACKWARD, FORWARD
from retrograd.core.transition import Diagonal, Transition

__all__ = ["Scaled", "forgetting", "product", "wide_dtype"]

GROWTH = 20.0  # as a power of two
# A state counts as forgotten where its part is so many bits below rounding; what was left out is checked afterwards.
_BELOW_ROUNDING = 16
# Steps multiplied at once, in which the factors between these bounds stay in float64's range.
_BLOCK, _LARGEST_FACTOR = 32, 30.0
_FEWEST_STEPS, _MOST_STEPS = 512, 8192
_LEAST_BY_SCAN = 60.0
_LEAST_LOG = 5000.0  # stands for the logarithm of 0


def wide_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which what crosses a border is computed and sent."""
    return torch.complex128 if dtype.is_complex else torch.float64


class Scaled(NamedTuple):
    """mantissa · 2^exponent: ``(rows, width)`` each, or ``(rows, H, H)`` and ``(rows, 1, 1)``."""

    mantissa: Tensor
    exponent: Tensor

    @classmethod
    def identity(cls, structure: str, rows: int, width: int, like: Tensor) -> Scaled:
        """Return the product of no steps."""
        dtype = wide_dtype(like.dtype)
        if structure == "diagonal":
            return cls.of(torch.ones(rows, width, dtype=dtype, device=like.device))
        return cls.of(torch.eye(width, dtype=dtype, device=like.device).repeat(rows, 1, 1))

    @classmethod
    def of(cls, x: Tensor, exponent: Tensor | float = 0.0) -> Scaled:
        """Return x · 2^exponent with a mantissa near 1."""
        size = x.abs()
        if x.ndim == 3:
            size = size.flatten(1).sum(1).view(-1, 1, 1)
        shift = torch.frexp(size).exponent.to(torch.float64).clamp(-1000, 1000)
        return cls(x * torch.exp2(-shift), shift + exponent)

    def after(self, earlier: Scaled) -> Scaled:
        """Return this product times an earlier one."""
        by_matrix = self.mantissa.ndim == 3
        mantissa = self.mantissa @ earlier.mantissa if by_matrix else self.mantissa * earlier.mantissa
        return self.of(mantissa, self.exponent + earlier.exponent)

    def act(self, x: Tensor) -> Tensor:
        """Return the product times x ``(batch, width)``."""
        if self.mantissa.ndim == 2:
            return _scaled(self.mantissa * x, self.exponent)
        return _scaled((self.mantissa @ x.unsqueeze(2)).squeeze(2), self.exponent.squeeze(2))

    def adjoint(self) -> Scaled:
        """Return the adjoint, which the adjoint scan meets."""
        mantissa = self.mantissa.mH if self.mantissa.ndim == 3 else self.mantissa.conj()
        return Scaled(mantissa.resolve_conj(), self.exponent)

    def where(self, rows: Tensor, other: Scaled) -> Scaled:
        """Return this product in the rows that are true, the other one elsewhere."""
        at = rows.view(-1, *(1,) * (self.mantissa.ndim - 1))
        return Scaled(torch.where(at, self.mantissa, other.mantissa), torch.where(at, self.exponent, other.exponent))

    def log2(self) -> float:
        """Return the logarithm of the largest element; -inf of zero, NaN where an element is."""
        if not self.mantissa.numel():
            return -math.inf
        size = self.mantissa.abs()
        if self.mantissa.ndim == 3:  # the largest sum of a column, the norm that bounds what it does
            size = size.sum(1).amax(1).view(-1, 1, 1)
        return float((size.log2() + self.exponent).max())


def _scaled(x: Tensor, exponent: Tensor) -> Tensor:
    half = (exponent / 2).floor().clamp(-2000, 2000)
    return x * torch.exp2(half) * torch.exp2((exponent - half).clamp(-2000, 2000))


def product(
    A: Transition, time: int, rows: int, lengths: Tensor | None, reverse: bool, backend: str, cost: int
) -> Scaled | None:
    """Return P of a shard's rows, or None where it is of no use.

    Args:
        A: the shard's transitions.
        time: its steps.
        rows: 1 where all rows share the product, else the batch.
        lengths: how many of the steps each row has, ``(rows,)``; None: all.
        reverse: whether the last step's transition comes first.
        backend: which runs the scan of the identity.
        cost: how many scans of one row a product may cost.
    """
    a = A.normal()
    steps = torch.full((rows,), time, device=a.device) if lengths is None else lengths.to(a.device, torch.int64)
    if A.structure not in ("diagonal", "dense") or (A.structure == "dense" and not A.invariant):
        return _of_identity(A, time, lengths, reverse, backend, cost)
    if A.invariant:
        return _power(Scaled.of(a[:, 0].to(wide_dtype(a.dtype)).expand(rows, *a.shape[2:])), steps, _range(a.dtype))
    return _in_blocks(a, steps, lengths is not None, backend)


def forgetting(A: Transition, time: int, backward: bool) -> int:
    """Return after how many steps a state at the shard's first step (``backward``: its last) is forgotten, or time."""
    eps = torch.finfo(carry_dtype(A.dtype)).eps
    least = math.log2(eps) - _BELOW_ROUNDING
    if A.structure not in ("diagonal", "dense"):
        return time
    if not A.invariant:
        return _walked(A, time, backward, least)
    if A.structure == "diagonal":
        slowest = float(A.normal().abs().max().to(torch.float64).log2())
        return min(time, math.ceil(least / slowest) + 1) if slowest < 0 else time
    powers = [Scaled.of(A.normal()[:, 0].to(wide_dtype(A.dtype)))]
    while powers[-1].log2() > least and 2 << len(powers) <= time and powers[-1].log2() <= GROWTH:
        powers.append(powers[-1].after(powers[-1]))
    if not powers[-1].log2() <= least:
        return time
    # As a sum of powers of two: the product of their norms bounds that of the power.
    norms, found, left = [p.log2() for p in powers], 0, 0.0
    for k in reversed(range(len(norms))):
        if left > least and not left + sum(norms[:k]) <= least:
            found, left = found + (1 << k), left + norms[k]
    return min(time, found + 1)


def _power(base: Scaled, steps: Tensor, nothing: float) -> Scaled | None:
    """Return base^steps, each row with its own steps; None where it grows on the way."""
    result = Scaled.of(_ones(base.mantissa))
    left = steps.cpu()
    while bool((left > 0).any()):
        size = base.log2()
        if not size <= GROWTH:
            return None
        fewest = int(left[left > 0].min())
        if size < 0 and size * fewest < -nothing - GROWTH:  # no state of this dtype is left, as |A^n| <= |A|^n
            return Scaled(torch.zeros_like(result.mantissa), result.exponent).where((left > 0).to(steps.device), result)
        odd = left % 2 == 1
        if bool(odd.any()):
            result = base.after(result).where(odd.to(steps.device), result)
        left = left // 2
        base = base.after(base)
    return result if result.log2() <= GROWTH else None


def _ones(like: Tensor) -> Tensor:
    if like.ndim == 2:
        return torch.ones_like(like)
    return torch.eye(like.shape[2], dtype=like.dtype, device=like.device).expand_as(like).clone()


def _in_blocks(a: Tensor, steps: Tensor, cut: bool, backend: str) -> Scaled | None:
    """Return the product of a diagonal for every step, ``(groups, time, width)``, over each row's steps."""
    rows, time = len(steps), a.shape[1]
    whole = Scaled.of(torch.ones(rows, a.shape[2], dtype=wide_dtype(a.dtype), device=a.device))
    log = whole.exponent.new_zeros(rows, a.shape[2])  # of the product so far, the largest and the least on the way
    most, least = log, log
    begin, count = 0, _FEWEST_STEPS
    while begin < time:
        part = a[:, begin : begin + count].to(carry_dtype(a.dtype))
        if cut:
            at = torch.arange(begin, begin + part.shape[1], device=a.device)
            part = torch.where((at < steps.unsqueeze(1)).unsqueeze(2), part, 1)
        begin, count = begin + count, min(2 * count, _MOST_STEPS)
        factor = _by_scan(part, backend)
        if factor is None:
            part = part.to(wide_dtype(a.dtype))
            factor, (highest, lowest, last) = _of_block(part), _logs(part)
            most, least, log = torch.maximum(most, log + highest), torch.minimum(least, log + lowest), log + last
        else:
            log = log + factor.mantissa.abs().log2() + factor.exponent
            least = torch.minimum(least, log)
        # From the first step on, and for the adjoint scan from the last one back.
        if not float(torch.maximum(most, log - least).max()) <= GROWTH:
            return None
        whole = factor.after(whole)
        if float(log.max()) < -_range(a.dtype):  # no state of this dtype is left
            return Scaled(torch.zeros_like(whole.mantissa), whole.exponent)
    return whole


def _by_scan(part: Tensor, backend: str) -> Scaled | None:
    """Return the product as the state that 1 becomes, if no factor is above 1 and it stays well in the range."""
    if not float(part.abs().max()) <= 1 + 16 * torch.finfo(part.dtype).eps:
        return None
    nothing = part.new_zeros(part.shape[2]).expand(part.shape)
    states = BACKENDS[backend].scan(Diagonal.of([part]), nothing, torch.ones_like(part[:, 0]), FORWARD)
    last = states[:, -1].to(wide_dtype(part.dtype))
    return Scaled.of(last) if float(last.abs().min()) >= 2.0**-_LEAST_BY_SCAN else None


def _logs(part: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the largest, the least and the last of the products of the first steps, as powers of two."""
    size = part.abs()
    if float(size.max()) <= 1:
        last = size.log2().clamp(min=-_LEAST_LOG).sum(1)
        return torch.zeros_like(last), last, last
    logs = size.log2().clamp(min=-_LEAST_LOG).cumsum(1)
    return logs.amax(1), logs.amin(1), logs[:, -1]


def _of_block(part: Tensor) -> Scaled:
    """Return the product over all steps of ``(rows, steps, width)``."""
    least, most = (float(x) for x in torch.aminmax(part.abs()))
    if least >= 2**-_LARGEST_FACTOR and most <= 2**_LARGEST_FACTOR:
        left = -part.shape[1] % _BLOCK
        if left:
            part = torch.cat((part, part.new_ones(part.shape[0], left, part.shape[2])), 1)
        part = part.unflatten(1, (-1, _BLOCK)).prod(2)
    factors = Scaled.of(part.flatten(0, 1))
    mantissa, exponent = (x.unflatten(0, part.shape[:2]) for x in factors)
    total = exponent.sum(1)
    while mantissa.shape[1] > 1:  # by pairs, whose mantissas stay in the range
        if mantissa.shape[1] % 2:
            mantissa = torch.cat((mantissa, torch.ones_like(mantissa[:, :1])), 1)
        pairs = Scaled.of((mantissa[:, ::2] * mantissa[:, 1::2]).flatten(0, 1))
        mantissa, exponent = (x.unflatten(0, (part.shape[0], -1)) for x in pairs)
        total = total + exponent.sum(1)
    return Scaled(mantissa[:, 0], total)


def _range(dtype: torch.dtype) -> float:
    """Return the power of two between the largest number and the smallest."""
    limits = torch.finfo(carry_dtype(dtype))
    return math.log2(limits.max) - math.log2(limits.smallest_normal) + 2 * -math.log2(limits.eps)


def _walked(A: Transition, time: int, backward: bool, least: float) -> int:
    """Return after how many steps, walking from one end, a bound of the product is below ``least``."""
    steps, done = 64, 0
    a = A.normal()
    sums = torch.zeros((), dtype=torch.float64, device=a.device)
    while done < time:
        begin, end = done, min(time, done + steps)
        part = a[:, time - end : time - begin] if backward else a[:, begin:end]
        size = part.abs()
        # Of a matrix two norms, each of which bounds products with others of its own kind.
        by_matrix = A.structure == "dense"
        norms = torch.stack((size.sum(-1).amax(-1), size.sum(-2).amax(-1)), 2) if by_matrix else size
        sums = sums + norms.to(torch.float64).log2().clamp(min=-_LEAST_LOG).sum(1)
        log = float((sums.amin(1) if by_matrix else sums).max())
        done, steps = end, min(2 * steps, _MOST_STEPS)
        if log <= least:
            return done
        if not log < 0.5 * least * done / time:  # at this rate not within the shard
            return time
    return time


def _of_identity(
    A: Transition, time: int, lengths: Tensor | None, reverse: bool, backend: str, cost: int
) -> Scaled | None:
    """Return the product as a matrix: the states that a scan of the identity's columns ends with."""
    width, groups, dtype = A.width, A.groups, wide_dtype(A.dtype)
    if lengths is not None:
        return None
    if A.structure == "dense" and _walked(A, time, reverse, -_range(A.dtype)) < time:
        return Scaled.of(torch.zeros(groups, width, width, dtype=dtype, device=A.device))
    if width * groups > cost:
        return None
    carried = torch.eye(width, dtype=dtype, device=A.device).repeat(groups, 1)
    steps = max(1, (1 << 18) // (groups * width * width))
    parts = [slice(begin, min(time, begin + steps)) for begin in range(0, time, steps)]
    for at in reversed(parts) if reverse else parts:
        nothing = carried.new_zeros(width).expand(groups * width, at.stop - at.start, width)
        states = BACKENDS[backend].scan(A.at(at).to(dtype), nothing, carried, BACKWARD if reverse else FORWARD)
        if not float(states.abs().max()) <= 2**GROWTH / width:
            return None
        carried = states[:, 0 if reverse else -1].contiguous()
    return Scaled.of(carried.view(groups, width, width).mT.contiguous())
