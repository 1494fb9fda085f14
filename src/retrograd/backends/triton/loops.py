# mypy: ignore-errors
"""The dense recurrence step by step, a program for each row, or for each chunk of its time: exactly as the loop.

It serves time-varying transitions (`varying.py`), and rows of which products left the range.

    S  (BACK = False):  h_i = A_i h_{i-1} + u_i
    S* (BACK = True):   δ_i = g_i + x_{i-1};  x_i = A_i^H δ_i, the gradient of h0 after the last
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["dense_loop", "digits_lost", "summaries"]


@triton.jit
def _apply(
    A, a_r, a_k, IN, OUT, H,
    BR: tl.constexpr, BK: tl.constexpr, BACK: tl.constexpr, COMPLEX: tl.constexpr, STATE: tl.constexpr,
):  # fmt: skip
    """OUT (H,) = A IN, or A^H IN; by blocks of BR rows and BK columns, numbers as pairs where COMPLEX."""
    W: tl.constexpr = 2 if COMPLEX else 1
    for first in range(0, H, BR):
        r = first + tl.arange(0, BR).to(tl.int64)
        x = tl.zeros([BR], STATE)
        y = tl.zeros([BR], STATE)
        for start in range(0, H, BK):
            k = start + tl.arange(0, BK).to(tl.int64)
            inside = (r < H)[:, None] & (k < H)[None, :]
            at = r[:, None] * a_r + k[None, :] * a_k
            a = tl.load(A + at * W, mask=inside, other=0.0).to(STATE)
            h = tl.load(IN + k * W, mask=k < H, other=0.0)
            if COMPLEX:
                b = tl.load(A + at * W + 1, mask=inside, other=0.0).to(STATE)
                if BACK:
                    b = -b
                g = tl.load(IN + k * W + 1, mask=k < H, other=0.0)
                x += tl.sum(tl.where(inside, a * h[None, :] - b * g[None, :], 0.0), 1)
                y += tl.sum(tl.where(inside, a * g[None, :] + b * h[None, :], 0.0), 1)
            else:
                x += tl.sum(tl.where(inside, a * h[None, :], 0.0), 1)
        tl.store(OUT + r * W, x, mask=r < H)
        if COMPLEX:
            tl.store(OUT + r * W + 1, y, mask=r < H)
    tl.debug_barrier()


@triton.jit
def _write(P, x, inside, every, STATE: tl.constexpr):
    """Write x; unless every number is wanted, only where what stands there is not finite: the rest keeps its bits."""
    write = inside
    if every == 0:
        write = inside & ~(tl.abs(tl.load(P, mask=inside, other=0.0).to(STATE)) < float("inf"))
    tl.store(P, x.to(P.dtype.element_ty), mask=write)


@triton.jit
def _summary(
    X, CODES, OUT, T, W, piece, b, pieces, rows, beside,
    BT: tl.constexpr, BW: tl.constexpr,
):  # fmt: skip
    w = tl.arange(0, BW)
    bad = tl.zeros([BT, BW], tl.int32)
    largest = tl.zeros([BT, BW], X.dtype.element_ty)
    least = largest + float("inf")
    for start in range(0, rows, BT):
        k = start + tl.arange(0, BT)
        t = (piece * rows + k).to(tl.int64)
        here = (k < rows) & (t < T)
        if CODES is not None:
            here = here & (tl.load(CODES + b * T + t, mask=here, other=-3) != -3)
        other = t + beside
        also = here & (other >= 0) & (other < T)
        if CODES is not None:
            also = also & (tl.load(CODES + b * T + other, mask=also, other=-3) != -3)
        for column in range(0, W, BW):
            width = ((column + w) < W)[None, :]
            at = (b * T + t)[:, None] * W + (column + w)[None, :]
            x = tl.abs(tl.load(X + at, mask=here[:, None] & width, other=0.0))
            y = tl.abs(tl.load(X + at + beside * W, mask=also[:, None] & width, other=float("inf")))
            bad = tl.maximum(bad, (~(x < float("inf"))).to(tl.int32))
            largest = tl.maximum(largest, x)
            least = tl.minimum(least, tl.where(here[:, None] & width, tl.maximum(x, y), float("inf")))
    to = OUT + (b * pieces + piece) * 3
    tl.store(to, tl.max(bad).to(OUT.dtype.element_ty))
    tl.store(to + 1, tl.max(largest))
    tl.store(to + 2, tl.min(least))


@triton.jit
def _fall(POWERS, FELL, at, level, g, groups, height, columns, first, BT: tl.constexpr, BC: tl.constexpr, LEAST):
    c = first + tl.arange(0, BC)
    r = tl.arange(0, BT)
    power = POWERS + (level * groups + g).to(tl.int64) * height * columns
    least = tl.zeros([BT, BC], POWERS.dtype.element_ty) + float("inf")
    for start in range(0, height, BT):
        inside = ((start + r) < height)[:, None] & (c < columns)[None, :]
        x = tl.abs(tl.load(power + (start + r)[:, None] * columns + c[None, :], mask=inside, other=0.0))
        least = tl.minimum(least, tl.where(x > 0.0, x, float("inf")))
    tl.store(FELL + at, (tl.min(least) < LEAST).to(tl.int8))


@triton.jit(do_not_specialize=["T", "B", "pieces", "rows", "beside", "levels", "groups"])
def summaries(
    X, CODES, OUT, POWERS, FELL, T, W, B, pieces, rows, beside, levels, groups, height, columns,
    BT: tl.constexpr, BW: tl.constexpr, BC: tl.constexpr, LEAST: tl.constexpr,
):  # fmt: skip
    """OUT (B, pieces, 3): whether a number is not finite, the largest magnitude and the least, of X (B, T, W).

    Of the steps of each piece, without padding (code -3). The least is of a number and the one of the step beside it: a
    single 0 is chance.
    FELL (groups, levels · blocks of BC columns): whether POWERS (levels, groups, height, columns) have an entry below
    LEAST there that is not 0, so that the next power's sums may have lost a term.
    """
    program = tl.program_id(0)
    if program < B * pieces:
        b = (program // pieces).to(tl.int64)
        _summary(X, CODES, OUT, T, W, program % pieces, b, pieces, rows, beside, BT, BW)
    else:
        at = program - B * pieces
        blocks = tl.cdiv(columns, BC)
        level = at // blocks % levels
        _fall(
            POWERS, FELL, at, level, at // (blocks * levels), groups, height, columns, at % blocks * BC, BT, BC, LEAST
        )  # fmt: skip


@triton.jit
def _sizes(P, a_r, a_k, H, BR: tl.constexpr, BK: tl.constexpr, COMPLEX: tl.constexpr, STATE: tl.constexpr):
    """Return the largest magnitude of a part of P (H, H), and the least one that is not 0."""
    W: tl.constexpr = 2 if COMPLEX else 1
    largest = tl.zeros([BR, BK], STATE)
    least = largest + float("inf")
    for first in range(0, H, BR):
        r = first + tl.arange(0, BR).to(tl.int64)
        for start in range(0, H, BK):
            k = start + tl.arange(0, BK).to(tl.int64)
            inside = (r < H)[:, None] & (k < H)[None, :]
            at = (r[:, None] * a_r + k[None, :] * a_k) * W
            for part in tl.static_range(W):
                x = tl.abs(tl.load(P + at + part, mask=inside, other=0.0).to(STATE))
                largest = tl.maximum(largest, x)
                least = tl.minimum(least, tl.where(x > 0.0, x, float("inf")))
    return tl.max(largest), tl.min(least)


@triton.jit
def digits_lost(
    A, LOST, OUT, n, H, a_g, a_t, a_r, a_k,
    BR: tl.constexpr, BK: tl.constexpr, COMPLEX: tl.constexpr, STATE: tl.constexpr, TINY: tl.constexpr,
):  # fmt: skip
    """OUT (groups, n): how far an entry of A_{2j+1} A_{2j}, or of A_{2j} A_{2j+1}, may be off because of the range.

    A (groups, 2 n, H, H), off by LOST (groups, 2 n) or by nothing. A term of two numbers below TINY, the smallest
    normal one, is off by TINY; no other loses digits.
    """
    W: tl.constexpr = 2 if COMPLEX else 1
    program = tl.program_id(0).to(tl.int64)
    A += program // n * a_g * W
    t = program % n * 2
    big, small = _sizes(A + t * a_t * W, a_r, a_k, H, BR, BK, COMPLEX, STATE)
    big_next, small_next = _sizes(A + (t + 1) * a_t * W, a_r, a_k, H, BR, BK, COMPLEX, STATE)
    off = tl.where(small * small_next < TINY, TINY, big * 0.0)  # in big's dtype
    if LOST is not None:
        off += big_next * tl.load(LOST + program * 2) + tl.load(LOST + program * 2 + 1) * big
    tl.store(OUT + program, off * (H * W))


@triton.jit
def dense_loop(
    A, U, START, CODES, OUT, BEFORE, D_START, WORK, CARRY, SUMMARIES, FELL,
    pieces, fells, T, H, N, C, shared, a_g, a_t, a_r, a_k, u_b, u_t, u_k, start_b,
    BR: tl.constexpr, BK: tl.constexpr, BH: tl.constexpr, PIECES: tl.constexpr, FELLS: tl.constexpr,
    UP: tl.constexpr, BACK: tl.constexpr, COMPLEX: tl.constexpr, STATE: tl.constexpr, SMALL: tl.constexpr,
):  # fmt: skip
    """Walk N chunks of C steps of each row; of those rows whose SUMMARIES (B, pieces, 3) say that it is needed, or all.

    It is where a number is not finite (only such numbers are then written), or where the group's powers FELL (groups,
    fells) below the range and a state is below the largest by a factor SMALL. Codes as in `steps.py`; WORK (B, N, 2,
    H): what is handed on, in the end by the chunk, and h. CARRY (B, N - 1, H) enters the chunks after the first, or 0
    does.
    """
    W: tl.constexpr = 2 if COMPLEX else 1
    program = tl.program_id(0).to(tl.int64)
    b = program // N
    chunk = program % N
    needed = 1
    every = 1
    if SUMMARIES is not None:
        piece = tl.arange(0, PIECES)
        at = SUMMARIES + (b * pieces + piece) * 3
        bad = tl.max(tl.load(at, mask=piece < pieces, other=0.0))
        largest = tl.max(tl.load(at + 1, mask=piece < pieces, other=0.0))
        least = tl.min(tl.load(at + 2, mask=piece < pieces, other=float("inf")))
        part = tl.arange(0, FELLS)
        fell = tl.max(tl.load(FELL + b // shared * fells + part, mask=part < fells, other=0).to(tl.int32))
        shows = (largest > 1.0) & (least < largest * SMALL) & (fell != 0)
        needed = ((bad > 0.0) | shows).to(tl.int32)
        every = shows.to(tl.int32)
    if needed != 0:
        k = tl.arange(0, BH).to(tl.int64)  # the numbers of a row, parts one after another
        inside = k < H * W
        side = k % W
        A += b // shared * a_g * W
        carried = WORK + program * 2 * H * W
        state = carried + H * W
        x = tl.zeros([BH], STATE)
        which = k * 0 + chunk
        if CODES is None:
            x = tl.load(START + b * start_b * W + k, mask=inside & (which == 0), other=0.0).to(STATE)
        if CARRY is not None:
            enters = CARRY + (program - b - 1) * H * W + k
            x = tl.where(which == 0, x, tl.load(enters, mask=inside & (which > 0), other=0.0))
        tl.store(carried + k, x, mask=inside)
        tl.debug_barrier()
        for i in range(chunk * C, tl.minimum(chunk * C + C, T)):
            m = i if UP else T - 1 - i
            u = tl.load(U + b * u_b * W + m * u_t * W + (k // W) * u_k * W + side, mask=inside, other=0.0).to(STATE)
            code = -1
            if CODES is not None:
                code = tl.load(CODES + b * T + m)
            A_m = A + m * a_t * W
            x = tl.load(carried + k, mask=inside, other=0.0)
            if code >= 0:
                x = tl.load(START + code.to(tl.int64) * start_b * W + k, mask=inside, other=0.0).to(STATE)
            if code < -1:
                x = tl.zeros([BH], STATE)
            if BACK:
                u += x
                if code == -3:
                    u = tl.zeros([BH], STATE)
                tl.store(state + k, u, mask=inside)
                tl.debug_barrier()
                _apply(A_m, a_k, a_r, state, carried, H, BR, BK, BACK, COMPLEX, STATE)
                if BEFORE is not None:
                    before = tl.load(BEFORE + b * T + m)
                    if before >= 0:
                        x = tl.load(carried + k, mask=inside, other=0.0)
                        to = D_START + before.to(tl.int64) * H * W + k
                        _write(to, x, inside, every, STATE)
            else:
                tl.store(state + k, x, mask=inside)
                tl.debug_barrier()
                _apply(A_m, a_r, a_k, state, carried, H, BR, BK, BACK, COMPLEX, STATE)
                if code >= -1:
                    u += tl.load(carried + k, mask=inside, other=0.0)
                if code == -3:
                    u = tl.zeros([BH], STATE)
                tl.debug_barrier()
                tl.store(carried + k, u, mask=inside)
            if OUT is not None:
                to = OUT + (b * T + m) * H * W + k
                _write(to, u, inside, every, STATE)
            tl.debug_barrier()
        if BACK and CODES is None and D_START is not None:
            ends = inside & (which == N - 1)
            x = tl.load(carried + k, mask=ends, other=0.0)
            to = D_START + b * H * W + k
            _write(to, x, ends, every, STATE)
