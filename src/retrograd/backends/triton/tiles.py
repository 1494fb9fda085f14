# mypy: ignore-errors
"""The diagonal scan and its fused adjoint: a program walks the time of a row, or of a chunk of it, tile by tile.

A tile is GROUPS runs of ROWS steps, for LANES channels. Row j of all groups is one tensor (GROUPS, LANES), so that a
step of every group is one elementwise operation:

    1. each group runs from zero: p = the product of its a, x = its end;
    2. an associative scan over the groups, and the carry, give what enters each group;
    3. each group runs again, from there: the loop's own operations, on values still in registers.

Only what enters a group comes from products. They may leave the range where the loop does not: the groups of these
lanes then run one after another, in registers too.

Where channels fill the GPU a program takes whole rows (PHASE "rows"). Where they do not, time is cut into chunks:
PHASE "ends" writes what each chunk does to a state, x -> p x + end; PHASE "chunks" walks each chunk from what enters
it, which `carries.py` tells: in a launch between the two, or, of few chunks, in each program of the second.
"""

from __future__ import annotations

import triton
import triton.language as tl

from retrograd.backends.triton.carries import after_chunks
from retrograd.backends.triton.numbers import (
    compose,
    compose_complex,
    exponential,
    load,
    multiply,
    multiply_add,
    product,
    store,
)
from retrograd.backends.triton.steps import (
    advance,
    any_begins,
    emit,
    entering,
    grown,
    inputs,
    lanes,
    magnitude,
    recalled,
    state_before,
)

__all__ = ["tiles"]


@triton.jit
def _before(x, first, groups):
    """Return, for each group, x of the group before it; of the first group ``first``."""
    moved = tl.gather(x, tl.maximum(tl.broadcast_to(groups - 1, x.shape), 0), 0)
    return tl.where(groups == 0, first, moved)


@triton.jit
def _last(x, groups, GROUPS: tl.constexpr):
    """Return x of the last group, in every group."""
    if GROUPS == 1:
        return x
    else:
        return tl.gather(x, tl.broadcast_to(groups * 0 + (GROUPS - 1), x.shape), 0)


@triton.jit
def _shows(
    x, y, v, after, after_i, carry, carry_i, a_rows, b_rows,
    ROWS: tl.constexpr, SMALLEST: tl.constexpr, SMALL: tl.constexpr, COMPLEX: tl.constexpr,
):  # fmt: skip
    """Return, for each lane, whether products below the range may show in what enters its groups.

    A product below the normal range is off by at most SMALLEST. That grows by Q = Π max(1, |a|) at most, and meets
    states up to M: it shows where a state is below M Q SMALL. Of states that are not finite nothing is asked here.
    """
    q = tl.full(after.shape, 1.0, after.dtype)
    for j in tl.static_range(ROWS):
        size = tl.abs(a_rows[j])
        if COMPLEX:
            size += tl.abs(b_rows[j])
        q *= tl.maximum(size, 1.0)
    Q = tl.reduce(q, 0, product, keep_dims=True)
    size = magnitude(after, after_i, COMPLEX)
    most = tl.maximum(size, tl.maximum(magnitude(carry, carry_i, COMPLEX), magnitude(x, y, COMPLEX)))
    M = tl.max(tl.where(most < float("inf"), most, 0.0), 0, keep_dims=True) * Q
    least = tl.min(tl.where(size < float("inf"), size, float("inf")), 0, keep_dims=True)
    under = tl.max((tl.abs(v) < SMALLEST).to(tl.int32), 0, keep_dims=True) > 0
    return under & (M > 1.0) & ~(least >= M * SMALL)


@triton.jit
def tiles(
    A, U, START, CODES, OUT, STATES, H0, BEFORE, D_A, D_START, SUMS, P, X, V, Q, CARRY,
    B, T, D, N, C, shared, a_b, a_t, u_b, u_t, start_b, s_b, s_t, h0_b,
    GROUPS: tl.constexpr, ROWS: tl.constexpr, LANES: tl.constexpr, STAGES: tl.constexpr, PHASE: tl.constexpr,
    CHUNKS: tl.constexpr, FLAT: tl.constexpr, MASKED: tl.constexpr, A_D: tl.constexpr, U_D: tl.constexpr,
    INVARIANT: tl.constexpr, LOG: tl.constexpr, CODED: tl.constexpr, UP: tl.constexpr, BACK: tl.constexpr,
    GRADIENT: tl.constexpr, COMPLEX: tl.constexpr, STATE: tl.constexpr, SMALLEST: tl.constexpr, SMALL: tl.constexpr,
):  # fmt: skip
    """`steps.py` has recurrence, adjoint and boundary.

    A (groups, steps, D), a or (LOG) log a, of which row b uses b // shared; U, STATES (B, T, D) by their strides;
    START, H0 (count, D) and codes (B, T) as there; writes OUT, D_A (B, T, D), D_START (count, D) and SUMS (B, N, D),
    contiguous.
    N chunks of C steps. Phase "ends" writes p, the end, v = Π min(1, |a|) since the last cut and q = Π max(1, |a|) to
    P, X, V, Q (B, N, D); phase "chunks" reads CARRY (B, N, D), or where it is None folds those, CHUNKS at once.
    MASKED: T or D is no multiple of the tile. UP: the walk's first position is step 0, else step T - 1.
    """
    b, d, there = lanes(B, D, LANES, FLAT)
    chunk = tl.program_id(2)
    if PHASE == "chunks":  # the last first: phase "ends" has left them in the cache
        chunk = tl.num_programs(2) - 1 - chunk
    groups = tl.arange(0, GROUPS)[:, None]
    base_a = b // shared * a_b + d * A_D
    base_u = b * u_b + d * U_D
    base_s = b * s_b + d
    base_out = b * T * D + d
    row = b * T
    some = (groups == 0) & there[None, :]
    here = tl.broadcast_to(there[None, :], [GROUPS, LANES])
    at_chunk = tl.broadcast_to(((b * N + chunk) * D + d)[None, :], [GROUPS, LANES])
    nothing = tl.zeros([GROUPS, LANES], STATE)
    total, total_i = nothing, nothing
    a0, b0 = nothing, nothing
    if INVARIANT:
        a0, b0 = load(A, base_a[None, :], there[None, :], True, COMPLEX, STATE)
        if LOG:
            a0, b0 = exponential(a0, b0, COMPLEX)
        if BACK:
            b0 = -b0
    carry, carry_i = nothing, nothing
    if PHASE == "chunks" and CARRY is not None:
        carry, carry_i = load(CARRY, at_chunk, here, True, COMPLEX, STATE)
    elif PHASE == "rows" and not CODED:
        at = tl.broadcast_to((b * start_b + d)[None, :], [GROUPS, LANES])
        carry, carry_i = load(START, at, here, True, COMPLEX, STATE)
    elif PHASE == "chunks":
        enters = tl.zeros([1, LANES], STATE)
        enters_i = enters
        if not CODED:
            start_at = tl.broadcast_to((b * start_b + d)[None, :], [1, LANES])
            enters, enters_i = load(START, start_at, there[None, :], True, COMPLEX, STATE)
        enters, enters_i = after_chunks(
            A, U, START, CODES, P, X, V, Q, None, enters, enters_i, chunk, a0, b0, b, d, there,
            T, D, N, C, base_a, base_u, a_t, u_t, start_b,
            CHUNKS, FLAT, INVARIANT, LOG, CODED, UP, BACK, COMPLEX, STATE, SMALLEST, SMALL,
        )  # fmt: skip
        carry, carry_i = tl.broadcast_to(enters, [GROUPS, LANES]), tl.broadcast_to(enters_i, [GROUPS, LANES])
    whole, whole_i = nothing + 1.0, nothing
    shrink, grow = nothing + 1.0, nothing + 1.0
    begin = chunk * C
    for first in tl.range(begin, tl.minimum(begin + C, T), GROUPS * ROWS, num_stages=STAGES):
        start = first + tl.arange(0, GROUPS) * ROWS
        a_rows, b_rows, u_rows, v_rows, cut_rows = (), (), (), (), ()
        h_rows, g_rows, code_rows, codes = (), (), (), ()
        for j in tl.static_range(ROWS):
            i = start + j
            m = (i if UP else T - 1 - i).to(tl.int64)
            alive = i < T
            inside = alive[:, None] & there[None, :]
            a, e, u, v, cut, code = inputs(
                A, U, CODES, base_a, base_u, row, m, a_t, u_t, a0, b0, alive, inside,
                MASKED, INVARIANT, LOG, CODED, FLAT, BACK, COMPLEX, STATE,
            )  # fmt: skip
            if MASKED and not CODED:  # past the end the state stays
                a = tl.where(inside, a, 1.0)
                e = tl.where(inside, e, 0.0)
            a_rows, b_rows, u_rows = a_rows + (a,), b_rows + (e,), u_rows + (u,)
            v_rows, cut_rows, codes = v_rows + (v,), cut_rows + (cut,), codes + (code,)
            if PHASE != "ends":
                h, s = u, u
                if BACK and (GRADIENT or CODED):
                    h, s, code = state_before(
                        STATES, H0, BEFORE, base_s, row, b, d, i, m, m + 1 if UP else m - 1, s_t, h0_b,
                        alive, inside, T,
                        MASKED, j == ROWS - 1, CODED, FLAT, GRADIENT, COMPLEX, STATE,
                    )  # fmt: skip
                h_rows, g_rows, code_rows = h_rows + (h,), g_rows + (s,), code_rows + (code,)
        starts = 0
        if CODED:
            if any_begins(codes, ROWS) > 0:
                u_rows, v_rows = entering(
                    START, start_b, d, there, codes, a_rows, b_rows, u_rows, v_rows, ROWS, BACK, COMPLEX, STATE
                )  # fmt: skip
            if BACK and PHASE != "ends":
                starts = any_begins(code_rows, ROWS)
                if GRADIENT:
                    if starts > 0:
                        h_rows, g_rows = recalled(H0, h0_b, d, there, code_rows, h_rows, g_rows, ROWS, COMPLEX, STATE)
        x, y = carry, carry_i
        if GROUPS > 1:
            x, y, v = nothing, nothing, nothing + 1.0
            p, q = nothing + 1.0, nothing
            for j in tl.static_range(ROWS):
                _, _, x, y = advance(
                    x, y, a_rows[j], b_rows[j], u_rows[j], v_rows[j], cut_rows[j], CODED, BACK, COMPLEX
                )  # fmt: skip
                p, q, v = grown(p, q, v, a_rows[j], b_rows[j], cut_rows[j], CODED, COMPLEX)
            if COMPLEX:
                pp, qq, xx, yy, vv = tl.associative_scan((p, q, x, y, v), 0, compose_complex)
            else:
                pp, xx, vv = tl.associative_scan((p, x, v), 0, compose)
                qq, yy = pp, xx
            after, after_i = multiply_add(pp, qq, carry, carry_i, xx, yy, COMPLEX)
            enter = _before(after, carry, groups)
            enter_i = enter
            if COMPLEX:
                enter_i = _before(after_i, carry_i, groups)
            suspect = (tl.abs(vv) < SMALLEST) | ~(magnitude(after, after_i, COMPLEX) < float("inf"))
            if tl.max(suspect.to(tl.int32)) > 0:
                shows = _shows(x, y, vv, after, after_i, carry, carry_i, a_rows, b_rows, ROWS, SMALLEST, SMALL, COMPLEX)
                shows = shows | ~(magnitude(enter, enter_i, COMPLEX) < float("inf"))
                if tl.max(shows.to(tl.int32)) > 0:
                    exact, exact_i = carry, carry_i
                    for group in range(0, GROUPS - 1):
                        end, end_i = exact, exact_i
                        for j in tl.static_range(ROWS):
                            _, _, end, end_i = advance(
                                end, end_i, a_rows[j], b_rows[j], u_rows[j], v_rows[j], cut_rows[j],
                                CODED, BACK, COMPLEX,
                            )  # fmt: skip
                        one = tl.sum(tl.where(groups == group, end, 0.0), 0, keep_dims=True)
                        exact = tl.where(groups > group, one, exact)
                        if COMPLEX:
                            one = tl.sum(tl.where(groups == group, end_i, 0.0), 0, keep_dims=True)
                            exact_i = tl.where(groups > group, one, exact_i)
                    enter = tl.where(shows, exact, enter)
                    enter_i = tl.where(shows, exact_i, enter_i)
            x, y = enter, enter_i
            if PHASE == "ends":
                p, q, v = _last(pp, groups, GROUPS), _last(qq, groups, GROUPS), _last(vv, groups, GROUPS)
                whole, whole_i = multiply(p, q, whole, whole_i, COMPLEX)
                shrink = tl.where(v < 0, v, v * shrink)
        for j in tl.static_range(ROWS):
            o, r, x, y = advance(x, y, a_rows[j], b_rows[j], u_rows[j], v_rows[j], cut_rows[j], CODED, BACK, COMPLEX)
            if PHASE == "ends":
                size = tl.abs(a_rows[j])
                if COMPLEX:
                    size += tl.abs(b_rows[j])
                grow *= tl.maximum(size, 1.0)
                if GROUPS == 1:
                    whole, whole_i, shrink = grown(
                        whole, whole_i, shrink, a_rows[j], b_rows[j], cut_rows[j], CODED, COMPLEX
                    )  # fmt: skip
            else:
                i = start + j
                m = (i if UP else T - 1 - i).to(tl.int64)
                inside = (i < T)[:, None] & there[None, :]
                total, total_i = emit(
                    OUT, D_A, D_START, base_out, d, m, a_rows[j], b_rows[j], o, r, x, y,
                    h_rows[j], g_rows[j], code_rows[j], starts, total, total_i, inside, D,
                    MASKED, INVARIANT, LOG, CODED, BACK, GRADIENT, COMPLEX, STATE,
                )  # fmt: skip
        carry = _last(x, groups, GROUPS)
        carry_i = carry
        if COMPLEX:
            carry_i = _last(y, groups, GROUPS)
    if PHASE == "ends":
        store(P, at_chunk, whole, whole_i, some, True, COMPLEX)
        store(X, at_chunk, carry, carry_i, some, True, COMPLEX)
        tl.store(V + at_chunk, shrink, mask=some)
        grow = tl.broadcast_to(tl.reduce(grow, 0, product, keep_dims=True), [GROUPS, LANES])
        tl.store(Q + at_chunk, grow, mask=some)
    elif BACK:
        if not CODED:
            if chunk == N - 1:
                at = tl.broadcast_to((b * D + d)[None, :], [GROUPS, LANES])
                store(D_START, at, carry, carry_i, some, True, COMPLEX)
        if GRADIENT and INVARIANT:
            total = tl.broadcast_to(tl.sum(total, 0, keep_dims=True), [GROUPS, LANES])
            total_i = tl.broadcast_to(tl.sum(total_i, 0, keep_dims=True), [GROUPS, LANES])
            store(SUMS, at_chunk, total, total_i, some, True, COMPLEX)
