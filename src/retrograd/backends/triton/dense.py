"""The dense scan and its adjoint, time-invariant: a parallel scan over time of a few large products.

S and S* are both y_i = x_i + M y_{i-1} along their walk, M = W or W^H, once what enters at the starts is added to x.
With s = 1, 2, 4, .. (R. P. Brent and H. T. Kung, A regular layout for parallel adders, 1982):

    up:    x_i += M^s x_{i-s}    at every (2 s)-th step: x then sums up 2 s steps
    down:  x_i += M^s x_{i-s}    at the steps between those, from the largest s to 1: from there, x_{i-s} sums up all

so that time is a logarithm of products, each over all rows and steps of its level. A number passes through 2 log2(T)
of them at most, so that float32 by three TF32 products each (`products.py`) stays within an eighth of the bound that
the loop's error is held to (tests/backends/test_triton_tf32.py). Squares of M are strict float32, or what torch's own
TF32 switch says, and so is the loop of few steps.
Powers of M may leave the range where the loop does not; rows in which that shows run through `loops.py`, on the device.
"""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from retrograd.backends.triton import varying
from retrograd.backends.triton.configurations import OPTIONS
from retrograd.backends.triton.loops import summaries
from retrograd.backends.triton.products import add_products, sum_of_outer_products, tf32_allowed
from retrograd.backends.triton.results import carried, for_adjoint
from retrograd.core.steps import Steps

__all__ = ["adjoint", "scan"]

# Steps from which on time is cut, and rows with which a product of one step fills the GPU anyway.
_LONG, _ENOUGH = 32, 4096
# From this width on the sum of a product's terms rounds more than three TF32 products do.
_WIDE = 16
# Multiplications of a power's square up to which its level's launch takes it along; torch's product is faster above.
_SMALL_SQUARE = 1 << 24


def scan(
    A: Tensor,
    u: Tensor,
    h0: Tensor,
    codes: Steps | None = None,
    reverse: bool = False,
    out: Tensor | None = None,
    chunk: int | None = None,
) -> Tensor:
    """Return h_t = A_t h_{t-1} + u_t: A (groups, steps, H, H), u (batch, time, H), h0 (count, H).

    ``chunk``: steps of a chunk of a time-varying scan, 0: whole rows.
    """
    states = torch.empty(u.shape, dtype=u.dtype, device=u.device) if out is None else out
    if not states.numel():
        return states
    if A.shape[1] > 1:
        varying.walk(A, u, h0, codes, states, not reverse, False, None, chunk)
        return states
    W, drive, x = carried(A[:, 0]), carried(u), _memory(states)
    x.copy_(drive)
    start = carried(h0)
    cut = None
    if codes is None:
        entered = x[:, -1 if reverse else 0].unflatten(0, (W.shape[0], -1))
        entered.baddbmm_(start.reshape(entered.shape), W.mT)
    else:
        cut = codes.before != -1
        _enter(x, codes.before, _sequences_product(W, start, codes))
    powers = _recur(W, x, cut, reverse)
    if x is not states:
        states.copy_(x)
    _mend(A, u, h0, codes, states, x, powers, not reverse, False, None)
    return states


def adjoint(
    A: Tensor,
    g: Tensor,
    g_final: Tensor,
    codes: Steps | None = None,
    reverse: bool = False,
    states: Tensor | None = None,
    h0: Tensor | None = None,
    out: tuple[Tensor | None, Tensor | None] = (None, None),
    chunk: int | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return (δ, ∂L/∂h0, ∂L/∂A or None): the last where states and h0 are given, shaped as A."""
    delta, d_h0 = for_adjoint(g, g_final, codes, out[0])
    wanted = states is not None and h0 is not None
    if not delta.numel():
        return delta, g_final.clone(), torch.zeros_like(A) if wanted else None
    if A.shape[1] > 1:
        varying.walk(A, g, g_final, codes, delta, reverse, True, d_h0, chunk)
    else:
        W, x, final = carried(A[:, 0]), _memory(delta), carried(g_final)
        M = W.mH
        x.copy_(carried(g))
        cut = None
        if codes is None:
            x[:, 0 if reverse else -1].add_(final)
        else:
            cut = codes.after != -1
            _enter(x, codes.after, final)
        powers = _recur(M, x, cut, not reverse)
        if codes is None:
            d_h0.copy_(_rows_product(M, x[:, -1 if reverse else 0]))
        else:
            flat = x.reshape(-1, x.shape[2])
            into = _sequences_product(M, flat[codes.starts.clamp(min=0)], codes)
            d_h0 = torch.where((codes.starts >= 0)[:, None], into.to(g.dtype), d_h0)
        if x is not delta:
            delta.copy_(x)
        _mend(A, g, g_final, codes, delta, x, powers, reverse, True, d_h0)
    if states is None or h0 is None:
        return delta, d_h0, None
    return delta, d_h0, _gradient(A, delta, states, h0, codes, reverse, out[1])


def _memory(result: Tensor) -> Tensor:
    """Return memory to compute ``result`` in: its own where it is contiguous and of the carried dtype."""
    if result.dtype.itemsize == 2:
        return torch.empty(result.shape, dtype=torch.float32, device=result.device)
    return result if result.is_contiguous() else torch.empty(result.shape, dtype=result.dtype, device=result.device)


def _rows_product(M: Tensor, x: Tensor) -> Tensor:
    """Return M x for rows x (batch, H), M (groups, H, H) of the row's group."""
    return torch.bmm(x.reshape(M.shape[0], -1, x.shape[-1]), M.mT).view(x.shape)


def _sequences_product(M: Tensor, x: Tensor, codes: Steps) -> Tensor:
    """Return M x for a row of x to each sequence, M of the group of the sequence's row."""
    if M.shape[0] == 1:
        return x @ M[0].mT
    batch, time = codes.before.shape
    group = codes.starts.clamp(min=0) // (time * (batch // M.shape[0]))
    return (M[group] @ x.unsqueeze(-1)).squeeze(-1)


def _enter(x: Tensor, code: Tensor, rows: Tensor) -> None:
    """Add row k to x where code says that row k stands before; padding becomes 0."""
    begins = (code >= 0).unsqueeze(-1)
    entering = rows[code.clamp(min=0).long()]
    torch.where(begins, x + entering, x, out=x)
    x.masked_fill_((code == -3).unsqueeze(-1), 0)


def _recur(M: Tensor, x: Tensor, cut: Tensor | None, down: bool) -> Tensor:
    """Replace x (batch, time, H) by y_i = x_i + M y_{i-1}, from step 0 up or from the last down.

    At a cut M y_{i-1} is left out. M is (groups, H, H), x contiguous. Returns the powers of M by squaring, (levels,
    groups, H, H).
    """
    time = x.shape[1]
    seen = None
    if cut is not None:
        seen = cut.flip(1).cumsum(1, dtype=torch.int32).flip(1) if down else cut.cumsum(1, dtype=torch.int32)
    if not _is_cut(x):
        for position in range(1, time):
            _combine(M, x, seen, 1, position, time, down)
        return M.unsqueeze(0)
    levels = time.bit_length() - 1
    powers = torch.empty(levels, *M.shape, dtype=x.dtype, device=x.device)
    powers[0] = M
    along = _by_three(x) and M.shape[0] * M.shape[1] ** 3 <= _SMALL_SQUARE
    for level in range(levels):
        size = 1 << level
        square = powers[level + 1] if level + 1 < levels else None
        _combine(powers[level], x, seen, size, 2 * size - 1, 2 * size, down, square if along else None)
        if square is not None and not along:
            torch.bmm(powers[level], powers[level], out=square)
    for level in range(levels - 1, -1, -1):
        size = 1 << level
        _combine(powers[level], x, seen, size, 3 * size - 1, 2 * size, down)
    return powers


def _is_cut(x: Tensor) -> bool:
    """Return whether the time of x (batch, time, H) is cut, or walked step by step."""
    return x.shape[1] >= _LONG and x.shape[0] < _ENOUGH


def _by_three(x: Tensor) -> bool:
    """Return whether the products are those of `products.py`."""
    return x.dtype == torch.float32 and x.shape[2] >= _WIDE and _is_cut(x)


def _combine(
    M: Tensor,
    x: Tensor,
    seen: Tensor | None,
    back: int,
    first: int,
    step: int,
    down: bool,
    square: Tensor | None = None,
) -> None:
    """Add M x_{i - back} to x_i at the positions first, first + step, .. of the walk; none where a cut lies between.

    ``square``: memory for M M, where the products are those of `products.py`.
    """
    batch, time, width = x.shape
    if first >= time:
        return
    count = (time - 1 - first) // step + 1
    if down:  # positions count from the last step; in memory's order the last of them comes first
        first, back = time - 1 - first - (count - 1) * step, -back
    if _by_three(x):
        add_products(x, M, seen, count, first, step, back, "tf32" if tf32_allowed() else "tf32x3", square)
        return
    into, source = (x[:, t : t + (count - 1) * step + 1 : step] for t in (first, first - back))
    groups = M.shape[0]
    if seen is not None:
        same = seen[:, first : first + (count - 1) * step + 1 : step] == seen[:, first - back :: step][:, :count]
        product = torch.bmm(source.reshape(groups, -1, width), M.mT).view(into.shape)
        into += torch.where(same.unsqueeze(-1), product, torch.zeros_like(product))
        return
    rows, sources = _matrix(into), _matrix(source)
    if groups == 1 and rows is not None and sources is not None:
        rows.addmm_(sources, M[0].mT)
    elif rows is not None and sources is not None:
        rows.unflatten(0, (groups, -1)).baddbmm_(sources.unflatten(0, (groups, -1)), M.mT)
    else:
        each = M.mT.unsqueeze(1).expand(groups, batch // groups, width, width).flatten(0, 1)
        into.baddbmm_(source, each)


def _matrix(x: Tensor) -> Tensor | None:
    """Return x (batch, steps, H) as (batch · steps, H) in the same memory, or None where its rows lie unevenly."""
    batch, steps, width = x.shape
    if steps == 1:
        return x[:, 0]
    if batch == 1 or x.stride(0) == steps * x.stride(1):
        return x.as_strided((batch * steps, width), (x.stride(1), 1))
    return None


def _gradient(
    A: Tensor, delta: Tensor, states: Tensor, h0: Tensor, codes: Steps | None, reverse: bool, out: Tensor | None
) -> Tensor:
    """Return Σ δ_t h_{t-1}^H, shaped as A."""
    groups, invariant = A.shape[0], A.shape[1] == 1
    batch, _time, width = delta.shape
    if invariant and delta.dtype in (torch.float32, torch.float16, torch.bfloat16):
        before = None if codes is None else codes.before
        d_A = sum_of_outer_products(delta, states, h0, before, -1 if reverse else 1, groups).unsqueeze(1)
        return d_A.to(A.dtype) if out is None else out.copy_(d_A)
    previous = torch.zeros_like(states)
    if reverse:
        previous[:, :-1] = states[:, 1:]
    else:
        previous[:, 1:] = states[:, :-1]
    d = delta
    if codes is None:
        previous[:, -1 if reverse else 0] = h0
    else:
        code = codes.before.unsqueeze(-1)
        previous = torch.where(code == -1, previous, torch.where(code >= 0, h0[codes.before.clamp(min=0).long()], 0))
        d = torch.where(code < -1, torch.zeros_like(delta), delta)
    d, previous = carried(d), carried(previous).conj()
    if invariant:
        rows = torch.matmul(d.mT, previous)
        d_A = rows.view(groups, -1, 1, width, width).sum(1)
    elif groups == batch:
        d_A = d.unsqueeze(-1) * previous.unsqueeze(-2)
    else:  # the rows of a group are the inner dimension of a product for each step
        left = d.unflatten(0, (groups, -1)).permute(0, 2, 3, 1)
        right = previous.unflatten(0, (groups, -1)).permute(0, 2, 1, 3)
        d_A = torch.matmul(left, right)
    return d_A.to(A.dtype) if out is None else out.copy_(d_A)


def _mend(
    A: Tensor,
    u: Tensor,
    start: Tensor,
    codes: Steps | None,
    result: Tensor,
    x: Tensor,
    powers: Tensor,
    up: bool,
    back: bool,
    d_start: Tensor | None,
) -> None:
    """Run those rows again step by step in which a power of M that left the range may show.

    A product below the range is off by the smallest normal number at most, which shows where a state is that much
    smaller than the largest.
    """
    if not _is_cut(x):
        return
    batch, time, _ = x.shape
    pieces = min(64, triton.cdiv(time, 64))
    x, powers = (torch.view_as_real(z).flatten(-2) if z.is_complex() else z for z in (x, powers[:-1]))
    width, (levels, groups, height, columns) = x.shape[2], powers.shape
    BC = min(64, triton.next_power_of_2(columns))
    blocks = triton.cdiv(columns, BC)
    found = torch.empty(batch, pieces, 3, dtype=x.dtype, device=x.device)
    fell = torch.empty(groups, levels * blocks, dtype=torch.int8, device=x.device)
    summaries[(batch * pieces + groups * levels * blocks,)](
        x, None if codes is None else codes.before, found, powers, fell, time, width, batch, pieces,
        triton.cdiv(time, pieces), -1 if up else 1, levels, groups, height, columns,
        BT=16, BW=min(128, triton.next_power_of_2(width)), BC=BC, LEAST=torch.finfo(x.dtype).tiny ** 0.5, **OPTIONS,
    )  # fmt: skip
    varying.loop(A, u, start, codes, result, up, back, d_start, checked=(found, fell))
