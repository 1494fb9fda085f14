# mypy: ignore-errors
"""What enters each chunk of time of the diagonal scan: a scan over what the chunks do (`tiles.py`, phase "ends").

A launch of its own writes what enters every chunk, or each program of phase "chunks" folds the chunks before its own:
a launch less, for reading P, X and V once more for each chunk. The chunks' products may leave the range where the loop
does not: these chunks then run step by step, in the lanes where it shows.
"""

from __future__ import annotations

import triton
import triton.language as tl

from retrograd.backends.triton.numbers import compose, compose_complex, exponential, load, multiply_add, product, store
from retrograd.backends.triton.steps import advance, entering, inputs, lanes, magnitude

__all__ = ["after_chunks", "carries"]


@triton.jit
def after_chunks(
    A, U, START, CODES, P, X, V, Q, CARRY, x, y, until, a0, b0, b, d, there,
    T, D, N, C, base_a, base_u, a_t, u_t, start_b,
    CHUNKS: tl.constexpr, FLAT: tl.constexpr, INVARIANT: tl.constexpr, LOG: tl.constexpr, CODED: tl.constexpr,
    UP: tl.constexpr, BACK: tl.constexpr,
    COMPLEX: tl.constexpr, STATE: tl.constexpr, SMALLEST: tl.constexpr, SMALL: tl.constexpr,
):  # fmt: skip
    """Return the state (1, lanes) after chunks 0 .. until - 1 of C steps, which (x, y) enters.

    CARRY (B, N, D), where given, gets what enters each chunk. Tests of the range as in `tiles.py`:
    products below it are off by SMALLEST at most, which grows by Q and meets states up to M.
    """
    row = b * T
    here = there[None, :]
    chunk = tl.arange(0, CHUNKS)
    zero = tl.zeros(x.shape, STATE)
    for first in range(0, until, CHUNKS):
        n = first + chunk
        at = (b * N * D + d)[None, :] + (n.to(tl.int64) * D)[:, None]
        inside = (n < until)[:, None] & here
        p, q = load(P, at, inside, True, COMPLEX, STATE)
        s, r = load(X, at, inside, True, COMPLEX, STATE)
        v = tl.load(V + at, mask=inside, other=1.0)
        p = tl.where(inside, p, 1.0)
        if COMPLEX:
            pp, qq, ss, rr, vv = tl.associative_scan((p, q, s, r, v), 0, compose_complex)
        else:
            pp, ss, vv = tl.associative_scan((p, s, v), 0, compose)
            qq, rr = pp, ss
        after, after_i = multiply_add(pp, qq, x, y, ss, rr, COMPLEX)
        size = magnitude(after, after_i, COMPLEX)
        infinite = ~(size < float("inf"))
        shows = zero != zero
        wrong = shows
        if tl.max(((tl.abs(vv) < SMALLEST) | infinite).to(tl.int32)) > 0:
            gain = tl.reduce(tl.load(Q + at, mask=inside, other=1.0), 0, product, keep_dims=True)
            most = tl.maximum(tl.maximum(size, magnitude(s, r, COMPLEX)), magnitude(x, y, COMPLEX))
            most = tl.max(tl.where(most < float("inf"), most, 0.0), 0, keep_dims=True) * gain
            least = tl.min(tl.where(infinite, float("inf"), size), 0, keep_dims=True)
            under = tl.max((tl.abs(vv) < SMALLEST).to(tl.int32), 0, keep_dims=True) > 0
            shows = under & (most > 1.0) & ~(least >= most * SMALL)
            wrong = shows | (tl.max(infinite.to(tl.int32), 0, keep_dims=True) > 0)
        if CARRY is not None:
            entered = inside & ((n + 1) < N)[:, None]
            if first == 0:
                store(CARRY, (b * N * D + d)[None, :], x, y, here, True, COMPLEX)
            store(CARRY, at + D, after, after_i, entered & ~(infinite | shows), True, COMPLEX)
        last = (chunk == CHUNKS - 1)[:, None]
        end = tl.sum(tl.where(last, after, 0.0), 0, keep_dims=True)
        end_i = end
        if COMPLEX:
            end_i = tl.sum(tl.where(last, after_i, 0.0), 0, keep_dims=True)
        if tl.max(wrong.to(tl.int32)) > 0:
            for k in range(first, tl.minimum(first + CHUNKS, until)):
                which = tl.zeros([1], tl.int64) + k
                for step in range(0, C):
                    i = which * C + step
                    m = i if UP else T - 1 - i
                    alive = i < T
                    need = alive[:, None] & here & wrong
                    a, e, u, w, cut, code = inputs(
                        A, U, CODES, base_a, base_u, row, m, a_t, u_t, a0, b0, alive, need,
                        True, INVARIANT, LOG, CODED, FLAT, BACK, COMPLEX, STATE,
                    )  # fmt: skip
                    if CODED:
                        u_1, w_1 = entering(
                            START, start_b, d, there, (code,), (a,), (e,), (u,), (w,), 1, BACK, COMPLEX, STATE
                        )  # fmt: skip
                        u, w = u_1[0], w_1[0]
                    _, _, next_x, next_y = advance(x, y, a, e, u, w, cut, CODED, BACK, COMPLEX)
                    x = tl.where(need, next_x, x)
                    y = tl.where(need, next_y, y)
                if CARRY is not None:
                    to = (b * N * D + d)[None, :] + ((which + 1) * D)[:, None]
                    lost = tl.max((infinite & (n == k)[:, None]).to(tl.int32), 0, keep_dims=True) > 0
                    store(CARRY, to, x, y, here & (shows | lost) & ((which + 1) < N)[:, None], True, COMPLEX)
        x = tl.where(wrong, x, end)
        y = tl.where(wrong, y, end_i)
    return x, y


@triton.jit
def carries(
    A, U, START, CODES, P, X, V, Q, CARRY,
    B, T, D, N, C, shared, a_b, a_t, u_b, u_t, start_b,
    CHUNKS: tl.constexpr, LANES: tl.constexpr,
    FLAT: tl.constexpr, A_D: tl.constexpr, U_D: tl.constexpr,
    INVARIANT: tl.constexpr, LOG: tl.constexpr, CODED: tl.constexpr, UP: tl.constexpr, BACK: tl.constexpr,
    COMPLEX: tl.constexpr, STATE: tl.constexpr, SMALLEST: tl.constexpr, SMALL: tl.constexpr,
):  # fmt: skip
    """Write what enters each of N chunks of C steps, CARRY (B, N, D)."""
    b, d, there = lanes(B, D, LANES, FLAT)
    base_a = b // shared * a_b + d * A_D
    base_u = b * u_b + d * U_D
    here = there[None, :]
    zero = tl.zeros([1, LANES], STATE)
    a0, b0 = zero, zero
    if INVARIANT:
        a0, b0 = load(A, base_a[None, :], here, True, COMPLEX, STATE)
        if LOG:
            a0, b0 = exponential(a0, b0, COMPLEX)
        if BACK:
            b0 = -b0
    x, y = zero, zero
    if not CODED:
        x, y = load(START, tl.broadcast_to((b * start_b + d)[None, :], [1, LANES]), here, True, COMPLEX, STATE)
    after_chunks(
        A, U, START, CODES, P, X, V, Q, CARRY, x, y, N, a0, b0, b, d, there,
        T, D, N, C, base_a, base_u, a_t, u_t, start_b,
        CHUNKS, FLAT, INVARIANT, LOG, CODED, UP, BACK, COMPLEX, STATE, SMALLEST, SMALL,
    )  # fmt: skip
