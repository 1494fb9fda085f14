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

from retrograd.backends.triton.configurations import GRID, OPTIONS

__all__ = ["add_products", "add_products_kernel", "outer_sum_kernel", "sum_of_outer_products", "tf32_allowed"]

# Rows and columns of a tile of a square.
_SIDE = 32


def tf32_allowed() -> bool:
    """Return whether torch's own products of float32 may take TF32.

    From torch 2.9 on there is a second switch, and after its use the first one raises when it is read.
    """
    switch = torch.backends.cuda.matmul
    if hasattr(switch, "fp32_precision"):
        return switch.fp32_precision == "tf32"
    return switch.allow_tf32


@triton.jit
def _square(M, OUT, H, tile, PRECISION: tl.constexpr, SIDE: tl.constexpr):
    """OUT = M M, a tile of it; both (H, H)."""
    tiles = tl.cdiv(H, SIDE)
    r = (tile // tiles) * SIDE + tl.arange(0, SIDE)
    c = (tile % tiles) * SIDE + tl.arange(0, SIDE)
    acc = tl.zeros([SIDE, SIDE], tl.float32)
    for start in range(0, H, SIDE):
        k = start + tl.arange(0, SIDE)
        left = tl.load(M + r[:, None] * H + k[None, :], mask=(r < H)[:, None] & (k < H)[None, :], other=0.0)
        right = tl.load(M + k[:, None] * H + c[None, :], mask=(k < H)[:, None] & (c < H)[None, :], other=0.0)
        acc = tl.dot(left, right, acc, input_precision=PRECISION)
    tl.store(OUT + r[:, None] * H + c[None, :], acc, mask=(r < H)[:, None] & (c < H)[None, :])


@triton.jit
def _add(
    X, M, SEEN, R, T, H, count, first, step, back, x_b, g, tile,
    BR: tl.constexpr, BM: tl.constexpr, BK: tl.constexpr, EVEN: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    tiles_m = tl.cdiv(H, BM)
    r = (tile // tiles_m) * BR + tl.arange(0, BR)
    m = (tile % tiles_m) * BM + tl.arange(0, BM)
    row = (g * (R // count) + r // count).to(tl.int64)
    t = first + (r % count) * step
    to = row * x_b + t.to(tl.int64) * H
    source = to - back.to(tl.int64) * H
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


# One binary serves all levels: whether these are 1 or multiples of 16 makes no difference worth one of its own.
@triton.jit(do_not_specialize=["R", "T", "count", "first", "step", "back", "adding"])
def add_products_kernel(
    X, M, SEEN, SQUARES, R, T, H, count, first, step, back, x_b, m_g, adding,
    BR: tl.constexpr, BM: tl.constexpr, BK: tl.constexpr, EVEN: tl.constexpr, PRECISION: tl.constexpr,
    STRICT: tl.constexpr, SIDE: tl.constexpr,
):  # fmt: skip
    """X_t += M X_{t - back} for count steps t = first, first + step, .. of each row; X (B, T, H), M (groups, H, H).

    R such steps a group. Where SEEN (B, T), cuts so far, differs between t and t - back, nothing is added.
    The programs after the first ``adding`` of a group write M M to SQUARES (groups, H, H), for the next level.
    """
    g = tl.program_id(1)
    tile = tl.program_id(0)
    M += g.to(tl.int64) * m_g
    if SQUARES is not None:
        if tile >= adding:
            _square(M, SQUARES + g.to(tl.int64) * m_g, H, tile - adding, STRICT, SIDE)
            return
    _add(X, M, SEEN, R, T, H, count, first, step, back, x_b, g, tile, BR, BM, BK, EVEN, PRECISION)


def add_products(
    x: Tensor,
    M: Tensor,
    seen: Tensor | None,
    count: int,
    first: int,
    step: int,
    back: int,
    precision: str = "tf32x3",
    squares: Tensor | None = None,
    use: tuple[int, int, int, int, int] | None = None,
) -> None:
    """Add M x_{t - back} to x_t in place, for the steps t that `add_products_kernel` names; x contiguous.

    ``squares``: memory for M M, contiguous as M; in strict float32, unless ``precision`` is "tf32".
    """
    batch, time, width = x.shape
    groups = M.shape[0]
    rows = batch // groups * count
    if use is None:
        use = (128, 64, 32, 4, 3) if rows * width >= 1 << 18 else (32, 32, 32, 4, 3)
    BR, BM, BK, warps, stages = use
    BM, BK = (min(size, max(16, triton.next_power_of_2(width))) for size in (BM, BK))
    even = rows % BR == 0 and width % BM == 0 and width % BK == 0
    adding = triton.cdiv(rows, BR) * triton.cdiv(width, BM)
    squaring = 0 if squares is None else triton.cdiv(width, _SIDE) ** 2
    add_products_kernel[(adding + squaring, groups)](
        x, M, seen, squares, rows, time, width, count, first, step, back, x.stride(0), M.stride(0), adding,
        BR=BR, BM=BM, BK=BK, EVEN=even, PRECISION=precision, STRICT="tf32" if precision == "tf32" else "ieee",
        SIDE=_SIDE, num_warps=warps, num_stages=stages, **OPTIONS,
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
        **OPTIONS,
    )  # fmt: skip
    return sums.view(groups, -1, M, N).sum(1)
