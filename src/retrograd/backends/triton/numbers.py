# mypy: ignore-errors
"""Numbers inside kernels: a pair (real part, imaginary part) of tensors; of a real number the second is not used.

A complex array crosses as its real view, real and imaginary parts side by side; offsets count numbers.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["compose", "compose_complex", "exponential", "load", "multiply", "multiply_add", "product", "store"]


@triton.jit
def load(P, at, inside, MASKED: tl.constexpr, COMPLEX: tl.constexpr, STATE: tl.constexpr):
    """Return the numbers at offsets ``at`` (rows, lanes) in the state's dtype, 0 where they are not inside."""
    if COMPLEX:
        pair = (at * 2)[:, :, None] + tl.arange(0, 2)[None, None, :]
        if MASKED:
            both = tl.load(P + pair, mask=inside[:, :, None], other=0.0)
        else:
            both = tl.load(P + pair)
        re, im = tl.split(both.to(STATE))
        return re, im
    else:
        if MASKED:
            x = tl.load(P + at, mask=inside, other=0.0).to(STATE)
        else:
            x = tl.load(P + at).to(STATE)
        return x, x


@triton.jit
def store(P, at, x, y, inside, MASKED: tl.constexpr, COMPLEX: tl.constexpr):
    """Write the numbers x + iy at offsets ``at``, where they are inside."""
    if COMPLEX:
        pair = (at * 2)[:, :, None] + tl.arange(0, 2)[None, None, :]
        both = tl.join(x, y).to(P.dtype.element_ty)
        if MASKED:
            tl.store(P + pair, both, mask=tl.broadcast_to(inside[:, :, None], both.shape))
        else:
            tl.store(P + pair, both)
    else:
        if MASKED:
            tl.store(P + at, x.to(P.dtype.element_ty), mask=inside)
        else:
            tl.store(P + at, x.to(P.dtype.element_ty))


@triton.jit
def multiply(a, b, x, y, COMPLEX: tl.constexpr):
    """Return (a + ib) (x + iy)."""
    if COMPLEX:
        return a * x - b * y, a * y + b * x
    else:
        return a * x, a * x


@triton.jit
def multiply_add(a, b, x, y, u, v, COMPLEX: tl.constexpr):
    """Return (a + ib) (x + iy) + (u + iv)."""
    if COMPLEX:
        return a * x - b * y + u, a * y + b * x + v
    else:
        return a * x + u, a * x + u


@triton.jit
def exponential(x, y, COMPLEX: tl.constexpr):
    """Return exp(x + iy). Of float32 tl.exp is off by |x| units of rounding, so that x is split: n ln 2 + the rest."""
    if x.dtype == tl.float64:
        size = tl.exp(x)
    else:
        x = tl.where(x < -150.0, -150.0, x)
        x = tl.where(x > 100.0, 100.0, x)
        n = tl.floor(x * 1.4426950408889634 + 0.5)
        rest = (x - n * 0.693145751953125) - n * 1.4286068203094172e-06  # the first product is exact
        half = tl.floor(n * 0.5)  # 2^n may leave the range where exp(x) does not
        size = tl.exp2(rest * 1.4426950408889634) * tl.exp2(half) * tl.exp2(n - half)
    if COMPLEX:
        return size * tl.cos(y), size * tl.sin(y)
    else:
        return size, size


@triton.jit
def product(x, y):
    """Return x y: of a reduction."""
    return x * y


@triton.jit
def compose(p1, x1, v1, p2, x2, v2):
    """First (p1, x1), then (p2, x2): x -> p2 (p1 x + x1) + x2. Of v, the product of min(1, |a|) since the last cut."""
    return p2 * p1, p2 * x1 + x2, tl.where(v2 < 0, v2, v2 * v1)


@triton.jit
def compose_complex(p1, q1, x1, y1, v1, p2, q2, x2, y2, v2):
    """Compose as `compose` does, of complex p + iq and x + iy."""
    p = p2 * p1 - q2 * q1
    q = p2 * q1 + q2 * p1
    x = p2 * x1 - q2 * y1 + x2
    y = p2 * y1 + q2 * x1 + y2
    return p, q, x, y, tl.where(v2 < 0, v2, v2 * v1)
