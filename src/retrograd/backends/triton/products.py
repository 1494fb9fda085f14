# mypy: ignore-errors
"""Products in float32 by three TF32 products each (`tf32x3`), for what no recurrence of many steps feeds on.

Faster than a float32 product of cuBLAS, with a smaller error. In a loop over time the truncation of every step would
add up to ten times the error of strict float32; of a logarithm of steps, and of sums over time, it does not.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from retrograd.backends.triton.configurations import GRID

__all__ = ["add_products", "outer_sum_kernel", "sum_of_outer_products"]


@triton.jit
def _add_products(
    X, M, SEEN, R, T, H, count, first, step, back, x_b, m_g,
    BR: tl.constexpr, BM: tl.constexpr, BK: tl.constexpr, EVEN: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """X_t += M X_{t - back} for count steps t = first, first + step, .. of each row; X (B, T, H), M (groups, H, H).

    R such steps a group. Where SEEN (B, T), cuts so far, differs between t and t - back, nothing is added.
    """
    tiles_m = tl.cdiv(H, BM)
    g = tl.program_id(1)
    r = (tl.program_id(0) // tiles_m) * BR + tl.arange(0, BR)
    m = (tl.program_id(0) % tiles_m) * BM + tl.arange(0, BM)
    row = (g * (R // count) + r // count).to(tl.int64)
    t = first + (r % count) * step
    to = row * x_b + t.to(tl.int64) * H
    source = to - back * H
    M += g.to(tl.int64) * m_g
    acc = tl.zeros([BR, BM], tl.float32)
    for start in range(0, H, BK):
        k = start + tl.arange(0, BK)
        if EVEN:
            e = tl.load(X + source[:, None] + k[None, :])
            p = tl.load(M + m[None, :] * H + k[:, None])
        else:
            e = tl.load(X + source[:, None] + k[None, :], mask=(r < R)[:, None] & (k < H)[None, :], other=0.0)
            p = tl.load(M + m[None, :] * H + k[:, None], mask=(m < H)[None, :] & (k < H)[:, None], other=0.0)
        acc = tl.dot(e, p, acc, input_precision=PRECISION)
    at = to[:, None] + m[None, :]
    inside = (r < R)[:, None] & (m < H)[None, :]
    if SEEN is not None:
        before = tl.load(SEEN + row * T + t - back, mask=r < R, other=0)
        after = tl.load(SEEN + row * T + t, mask=r < R, other=0)
        acc = tl.where((before == after)[:, None], acc, 0.0)
    if EVEN:
        tl.store(X + at, tl.load(X + at) + acc)
    else:
        tl.store(X + at, tl.load(X + at, mask=inside, other=0.0) + acc, mask=inside)


def add_products(
    x: Tensor,
    M: Tensor,
    seen: Tensor | None,
    count: int,
    first: int,
    step: int,
    back: int,
    precision: str = "tf32x3",
    use: tuple[int, int, int, int, int] | None = None,
) -> None:
    """Add M x_{t - back} to x_t in place, for the steps t that `_add_products` names; x contiguous."""
    batch, time, width = x.shape
    groups = M.shape[0]
    rows = batch // groups * count
    if use is None:
        use = (128, 64, 32, 4, 3) if rows * width >= 1 << 18 else (32, 32, 32, 4, 3)
    BR, BM, BK, warps, stages = use
    BM, BK = (min(size, max(16, triton.next_power_of_2(width))) for size in (BM, BK))
    even = rows % BR == 0 and width % BM == 0 and width % BK == 0
    _add_products[(triton.cdiv(rows, BR) * triton.cdiv(width, BM), groups)](
        x, M, seen, rows, time, width, count, first, step, back, x.stride(0), M.stride(0),
        BR=BR, BM=BM, BK=BK, EVEN=even, PRECISION=precision, num_warps=warps, num_stages=stages,
    )  # fmt: skip


@triton.jit
def outer_sum_kernel(
    DELTA, F, FIRST, CODES, SUMS, T, M, N, L, pieces,
    d_b, d_t, f_b, f_t, first_b,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, SHIFT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """SUMS (B, pieces, M, N): Σ_t δ_t f_tᵀ over a piece of L steps of a row.

    SHIFT: f of the step before (1), or after (-1), of which CODES says what stands there, row k of FIRST for one;
    without CODES it is row b of FIRST at the row's end. SHIFT 0: f of the step itself.
    """
    tiles_n = tl.cdiv(N, BN)
    tiles = tl.cdiv(M, BM) * tiles_n
    tile = tl.program_id(0) % tiles
    m = (tile // tiles_n) * BM + tl.arange(0, BM)
    n = (tile % tiles_n) * BN + tl.arange(0, BN)
    piece = tl.program_id(1)
    b = (tl.program_id(0) // tiles).to(tl.int64)
    k = tl.arange(0, BK)
    acc = tl.zeros([BM, BN], tl.float32)
    for start in range(0, L, BK):
        t = piece.to(tl.int64) * L + start + k
        here = (start + k < L) & (t < T)
        d = tl.load(DELTA + b * d_b + t[None, :] * d_t + m[:, None], mask=here[None, :] & (m < M)[:, None], other=0.0)
        if SHIFT == 0:
            f = tl.load(F + b * f_b + t[:, None] * f_t + n[None, :], mask=here[:, None] & (n < N)[None, :], other=0.0)
        else:
            s = t - SHIFT
            if CODES is not None:
                code = tl.load(CODES + b * T + t, mask=here, other=-3)
                d = tl.where((code < -1)[None, :], 0.0, d)
            else:
                code = tl.where((s >= 0) & (s < T), -1, b.to(tl.int32))
            f = tl.load(
                F + b * f_b + s[:, None] * f_t + n[None, :], mask=(here & (code == -1))[:, None] & (n < N)[None, :],
                other=0.0,
            )  # fmt: skip
            begins = here & (code >= 0)
            if tl.max(begins.to(tl.int32)) > 0:
                row = tl.maximum(code, 0).to(tl.int64) * first_b
                f0 = tl.load(FIRST + row[:, None] + n[None, :], mask=begins[:, None] & (n < N)[None, :], other=0.0)
                f = tl.where(begins[:, None], f0.to(f.dtype), f)
        acc = tl.dot(d.to(tl.float32), f.to(tl.float32), acc, input_precision=PRECISION)
    at = ((b * pieces + piece) * M + m[:, None]) * N + n[None, :]
    tl.store(SUMS + at, acc, mask=(m < M)[:, None] & (n < N)[None, :])


def sum_of_outer_products(
    delta: Tensor,
    factor: Tensor,
    first: Tensor | None,
    codes: Tensor | None,
    shift: int,
    groups: int,
    use: tuple[int, int, int, int, int] = (128, 64, 32, 4, 3),
) -> Tensor:
    """Return Σ δ_t f_tᵀ over time and each group's rows, (groups, M, N) float32; as `outer_sum_kernel` says."""
    batch, time, M = delta.shape
    N = factor.shape[2]
    BM, BN, BK, warps, stages = use
    tiles = triton.cdiv(M, BM) * triton.cdiv(N, BN)
    length = 1024
    while length > 128 and batch * triton.cdiv(time, length) * tiles < 264:
        length //= 2
    while triton.cdiv(time, length) > GRID:
        length *= 2
    pieces = triton.cdiv(time, length)
    sums = torch.empty(batch, pieces, M, N, dtype=torch.float32, device=delta.device)
    delta, factor = (x if x.stride(2) == 1 else x.contiguous() for x in (delta, factor))
    first = None if first is None else first.contiguous()
    outer_sum_kernel[(tiles * batch, pieces)](
        delta, factor, first, codes, sums, time, M, N, length, pieces,
        delta.stride(0), delta.stride(1), factor.stride(0), factor.stride(1), 0 if first is None else first.stride(0),
        BM=BM, BN=BN, BK=BK, SHIFT=shift, PRECISION="tf32x3", num_warps=warps, num_stages=stages,
    )  # fmt: skip
    return sums.view(groups, -1, M, N).sum(1)
