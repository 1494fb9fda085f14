# mypy: ignore-errors
"""One step of the diagonal recurrence, for a block of lanes, as every kernel takes it.

Positions 0, 1, .. follow the walk: the scan's direction in S, its opposite in S* (core/adjoint.py).

    S  (BACK = False):  x_i = a_i x_{i-1} + u_i                      out_i = x_i
    S* (BACK = True):   out_i = g_i + x_{i-1};  x_i = conj(a_i) out_i
                        d_a_i = out_i conj(h before step i), the state at position i + 1;
                        where A holds log a (LOG), d_log_a_i = out_i conj(a_i h)

x is what a step hands on. Where CODES says what stands before a step of the walk (-1 the step before it, -2 nothing,
k row k of START, -3: the step is padding), every step but those of code -1 is a cut: x_{i-1} does not enter. Values
are selected there, never multiplied by 0, so that neither NaN nor Inf crosses a cut.
"""

from __future__ import annotations

import triton
import triton.language as tl

from retrograd.backends.triton.numbers import exponential, load, multiply, multiply_add, store

__all__ = [
    "advance",
    "any_begins",
    "emit",
    "entering",
    "grown",
    "inputs",
    "lanes",
    "magnitude",
    "recalled",
    "state_before",
]


@triton.jit
def lanes(B, D, BD: tl.constexpr, FLAT: tl.constexpr):
    """Return row, channel and whether both exist, of the program's BD lanes: (BD,); if not FLAT the row is a number."""
    if FLAT:  # lanes run over (row, channel): rows narrower than BD
        c = tl.program_id(0).to(tl.int64) * BD + tl.arange(0, BD)
        b = c // D
        return b, c - b * D, b < B
    else:
        d = tl.program_id(0) * BD + tl.arange(0, BD)
        b = tl.program_id(1).to(tl.int64)
        return b, d, d < D


@triton.jit
def code_at(CODES, row, m, alive, inside, MASKED: tl.constexpr, FLAT: tl.constexpr):
    """Return the codes of steps m, (rows, 1), or (rows, lanes) if FLAT; of steps outside -3."""
    if FLAT:
        return tl.load(CODES + row[None, :] + m[:, None], mask=inside, other=-3)
    elif MASKED:
        return tl.load(CODES + row + m, mask=alive, other=-3)[:, None]
    else:
        return tl.load(CODES + row + m)[:, None]


@triton.jit
def inputs(
    A, U, CODES, base_a, base_u, row, m, a_t, u_t, a0, b0, alive, inside,
    MASKED: tl.constexpr, INVARIANT: tl.constexpr, LOG: tl.constexpr, CODED: tl.constexpr, FLAT: tl.constexpr,
    BACK: tl.constexpr, COMPLEX: tl.constexpr, STATE: tl.constexpr,
):  # fmt: skip
    """Return a (conjugated if BACK), u, the cuts and the codes of steps m (rows,) in every lane; padding is 0."""
    u, v = load(U, base_u[None, :] + m[:, None] * u_t, inside, MASKED, COMPLEX, STATE)
    if INVARIANT:
        a = tl.broadcast_to(a0, u.shape)
        b = tl.broadcast_to(b0, u.shape)
    else:
        a, b = load(A, base_a[None, :] + m[:, None] * a_t, inside, MASKED, COMPLEX, STATE)
        if LOG:
            a, b = exponential(a, b, COMPLEX)
        if BACK and COMPLEX:
            b = -b
    cut = inside
    code = m[:, None]
    if CODED:
        code = code_at(CODES, row, m, alive, inside, MASKED, FLAT)
        padding = code == -3
        cut = tl.broadcast_to(code != -1, u.shape)
        u, v = tl.where(padding, 0.0, u), tl.where(padding, 0.0, v)
        a, b = tl.where(padding, 0.0, a), tl.where(padding, 0.0, b)
    return a, b, u, v, cut, code


@triton.jit
def entering(
    START, start_b, d, there, codes, a_rows, b_rows, u_rows, v_rows,
    ROWS: tl.constexpr, BACK: tl.constexpr, COMPLEX: tl.constexpr, STATE: tl.constexpr,
):  # fmt: skip
    """Return the rows of u with what enters at the steps before which a row of START stands."""
    u_new, v_new = (), ()
    for j in tl.static_range(ROWS):
        u, v = u_rows[j], v_rows[j]
        begins = (codes[j] >= 0) & there[None, :]
        at = tl.maximum(codes[j], 0).to(tl.int64) * start_b + d[None, :]
        s, r = load(START, at, begins, True, COMPLEX, STATE)
        if BACK:
            s, r = u + s, v + r
        else:
            s, r = multiply_add(a_rows[j], b_rows[j], s, r, u, v, COMPLEX)
        u_new, v_new = u_new + (tl.where(begins, s, u),), v_new + (tl.where(begins, r, v),)
    return u_new, v_new


@triton.jit
def recalled(H0, h0_b, d, there, codes, h_rows, g_rows, ROWS: tl.constexpr, COMPLEX: tl.constexpr, STATE: tl.constexpr):
    """Return the rows of states before, with h0's where one of its rows stood there."""
    h_new, g_new = (), ()
    for j in tl.static_range(ROWS):
        begins = (codes[j] >= 0) & there[None, :]
        s, r = load(H0, tl.maximum(codes[j], 0).to(tl.int64) * h0_b + d[None, :], begins, True, COMPLEX, STATE)
        h_new, g_new = h_new + (tl.where(begins, s, h_rows[j]),), g_new + (tl.where(begins, r, g_rows[j]),)
    return h_new, g_new


@triton.jit
def any_begins(codes, ROWS: tl.constexpr):
    """Return whether a row of START stands before any step: a number > 0."""
    most = codes[0]
    for j in tl.static_range(1, ROWS):
        most = tl.maximum(most, codes[j])
    return (tl.max(most) >= 0).to(tl.int32)


@triton.jit
def advance(x, y, a, b, u, v, cut, CODED: tl.constexpr, BACK: tl.constexpr, COMPLEX: tl.constexpr):
    """Return (out, what is handed on), each a pair."""
    if BACK:
        o, q = u + x, v + y
        if CODED:
            o, q = tl.where(cut, u, o), tl.where(cut, v, q)
        n, k = multiply(a, b, o, q, COMPLEX)
        return o, q, n, k
    else:
        o, q = multiply_add(a, b, x, y, u, v, COMPLEX)
        if CODED:
            o, q = tl.where(cut, u, o), tl.where(cut, v, q)
        return o, q, o, q


@triton.jit
def magnitude(a, b, COMPLEX: tl.constexpr):
    """Return |a|, or of a complex number max(|re|, |im|), at most |a| and at least |a| / √2."""
    if COMPLEX:
        return tl.maximum(tl.abs(a), tl.abs(b))
    else:
        return tl.abs(a)


@triton.jit
def grown(p, q, v, a, b, cut, CODED: tl.constexpr, COMPLEX: tl.constexpr):
    """Return the product p after one more step, and v = Π min(1, |a|), negative once a cut has come.

    No product of steps since the last cut, or since the last a = 0, is smaller than |v|.
    """
    p, q = multiply(a, b, p, q, COMPLEX)
    size = magnitude(a, b, COMPLEX)
    v *= tl.minimum(size, 1.0)
    cuts = size == 0.0
    if CODED:
        cuts = cuts | cut
        p = tl.where(cut, 0.0, p)
        q = tl.where(cut, 0.0, q)
    return p, q, tl.where(cuts, -1.0, v)


@triton.jit
def state_before(
    STATES, H0, BEFORE, base_s, row, b, d, i, m, next_m, s_t, h0_b, alive, inside, T,
    MASKED: tl.constexpr, LAST: tl.constexpr, CODED: tl.constexpr, FLAT: tl.constexpr, GRADIENT: tl.constexpr,
    COMPLEX: tl.constexpr, STATE: tl.constexpr,
):  # fmt: skip
    """Return the states that stood before the steps at positions i of S*, and their codes; 0 where a row of h0 did.

    Whole rows have h0 in its place. LAST: position T - 1, before which h0 stood, may be among them.
    """
    code = m[:, None]
    follows = inside
    if CODED:
        code = code_at(BEFORE, row, m, alive, inside, MASKED, FLAT)
        follows = inside & (code == -1)
    elif LAST or MASKED:
        follows = inside & ((i + 1) < T)[:, None]
    h, r = code, code
    if GRADIENT:
        h, r = load(STATES, base_s[None, :] + next_m[:, None] * s_t, follows, LAST or MASKED or CODED, COMPLEX, STATE)
        if (LAST or MASKED) and not CODED:
            ends = inside & ((i + 1) == T)[:, None]
            at = (b * h0_b + d)[None, :] + 0 * m[:, None]
            s, w = load(H0, at, ends, True, COMPLEX, STATE)
            h, r = tl.where(ends, s, h), tl.where(ends, w, r)
    return h, r, code


@triton.jit
def emit(
    OUT, D_A, D_START, base_out, d, m, a, b, o, q, n, k, h, r, code, starts, total, total_i, inside, D,
    MASKED: tl.constexpr, INVARIANT: tl.constexpr, LOG: tl.constexpr, CODED: tl.constexpr,
    BACK: tl.constexpr, GRADIENT: tl.constexpr, COMPLEX: tl.constexpr, STATE: tl.constexpr,
):  # fmt: skip
    """Write one step: out (o, q), and in S* the gradient of h0's rows (n, k), and d_a, or its sum over time.

    (h, r) and code are the state before and its code in S*; (a, b) the conjugated a. Returns the sum so far.
    """
    at = base_out[None, :] + m[:, None] * D
    store(OUT, at, o, q, inside, MASKED, COMPLEX)
    if BACK and CODED:
        if starts > 0:
            begins = (code >= 0) & inside
            store(D_START, tl.maximum(code, 0).to(tl.int64) * D + d[None, :], n, k, begins, True, COMPLEX)
    if BACK and GRADIENT:
        s, w = h, -r
        if LOG:  # first, so that the gradient of a gate of 0 is 0
            s, w = multiply(a, b, s, w, COMPLEX)
        g, e = multiply(o, q, s, w, COMPLEX)
        if CODED:  # where nothing stands before, an infinite gradient times 0 is none
            nothing = code < -1
            g, e = tl.where(nothing, 0.0, g), tl.where(nothing, 0.0, e)
        if INVARIANT:
            total += g if not MASKED else tl.where(inside, g, 0.0)
            if COMPLEX:
                total_i += e if not MASKED else tl.where(inside, e, 0.0)
        else:
            store(D_A, at, g, e, inside, MASKED, COMPLEX)
    return total, total_i
