"""Bounded memory: keep the states at chunk borders alone, and run each chunk again on the way back.

A scan's gradient in A needs every state. ``memory`` says what is kept of them between the forward and the backward
pass: all; those at the borders of chunks of steps, from which a chunk is run again when its turn comes (Griewank,
Walther, Evaluating Derivatives, ch. 12, with one level); or so many bytes.
"""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad

from retrograd.backends.pool import empty
from retrograd.core.adjoint import adjoint_and_gradient, differentiable_scan
from retrograd.core.backend import BACKENDS
from retrograd.core.operators import is_watched
from retrograd.core.sequences import gather_states

__all__ = ["Memory", "chunk_steps", "chunks", "scan_in_memory"]

Memory = str | int

# States of a chunk that are worth a call: as many as results that the kernels send past the cache.
_CHUNK_BYTES = 1 << 24


def chunk_steps(memory: Memory, batch: int, time: int, width: int, itemsize: int) -> int:
    """Return how many steps a chunk has, ``time`` where all states are kept.

    ``"sqrt"``: chunks of √T steps, longer while their states are under 16 MB, up to 96 √T.

    Raises:
        TypeError: memory is no name and no number of bytes.
        ValueError: a name that there is not, or fewer bytes than the shortest chunks and their borders take.

    Examples:
        >>> chunk_steps("all", 1, 10_000, 4, 4), chunk_steps("sqrt", 1, 10_000, 4, 4)
        (10000, 9600)
        >>> chunk_steps(50_000, 1, 10_000, 4, 4)
        3121
    """
    root = max(1, math.isqrt(max(time, 1)))
    step = max(1, batch * width * itemsize)
    if isinstance(memory, str):
        if memory == "auto":
            memory = "sqrt" if time * step > _physical_memory() // 8 else "all"
        if memory == "all":
            return max(time, 1)
        if memory == "sqrt":
            return min(max(time, 1), max(root, min(96 * root, _CHUNK_BYTES // step)))
        raise ValueError(f"memory is {memory!r}, expected 'all', 'sqrt', 'auto' or a number of bytes")
    if isinstance(memory, bool) or not isinstance(memory, int):
        raise TypeError(f"memory is {type(memory).__name__}, expected 'all', 'sqrt', 'auto' or a number of bytes")
    # The longest chunk c with (c + borders) states within the budget: c + T / c <= budget.
    budget = memory // step
    if time <= budget:
        return max(time, 1)
    least = 2 * root + 1
    if budget < least:
        raise ValueError(
            f"memory is {memory} bytes, expected at least {least * step}: {time} steps of states of {step} bytes need "
            f"√T borders and chunks of √T steps"
        )
    return min(time, int((budget + math.sqrt(max(0, budget * budget - 4 * time))) / 2))


def _physical_memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not POSIX
        return 1 << 33


def chunks(time: int, steps: int) -> list[slice]:
    """Return the chunks of ``steps`` steps each, the last one shorter.

    >>> chunks(5, 2)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    return [slice(begin, min(begin + steps, time)) for begin in range(0, time, steps)]


def scan_in_memory(
    A: Tensor, u: Tensor, h0: Tensor, reverse: bool, backend: str, segments: Tensor | None, memory: Memory
) -> tuple[Tensor, Tensor]:
    """Return what :func:`differentiable_scan` does, keeping what ``memory`` allows for the backward.

    Nothing is kept where A needs no gradient. Inside a transformation of torch.func, in forward mode and in a traced
    graph all states are kept: there the tracer decides.
    """
    if memory == "all" or (memory == "auto" and u.nbytes <= _CHUNK_BYTES):
        return differentiable_scan(A, u, h0, reverse, backend, segments)
    if is_watched(A, u, h0) or forward_ad._current_level >= 0:
        return differentiable_scan(A, u, h0, reverse, backend, segments)
    steps = chunk_steps(memory, u.shape[0], u.shape[1], u.shape[2], u.element_size())
    if steps >= u.shape[1] or not A.requires_grad or not torch.is_grad_enabled():
        return differentiable_scan(A, u, h0, reverse, backend, segments)
    states, final = _BoundedScan.apply(  # type: ignore[no-untyped-call]
        A, u, h0, segments, reverse, backend, steps
    )
    return states, final


class _BoundedScan(torch.autograd.Function):
    """S, of whose states those at chunk borders are saved."""

    @staticmethod
    def forward(
        ctx: Any,
        A: Tensor,
        u: Tensor,
        h0: Tensor,
        segments: Tensor | None,
        reverse: bool,
        backend: str,
        steps: int,
    ) -> tuple[Tensor, Tensor]:
        states = BACKENDS[backend].scan(A, u, h0, reverse, segments)
        # The state that a chunk starts from; the chunk that comes first starts from h0.
        borders = (states[:, steps::steps] if reverse else states[:, steps - 1 : -1 : steps]).clone()
        ctx.reverse, ctx.backend, ctx.steps = reverse, backend, steps
        ctx.save_for_backward(A, u, h0, borders, *(() if segments is None else (segments,)))
        ctx.set_materialize_grads(False)
        if segments is not None:
            return states, gather_states(states, segments, "last", reverse, h0)
        return states, states.select(1, 0 if reverse else -1).clone()

    @staticmethod
    def backward(ctx: Any, g: Tensor | None, g_final: Tensor | None) -> Any:
        A, u, h0, borders, *rest = ctx.saved_tensors
        segments = rest[0] if rest else None
        if g is None and g_final is None:
            return (None,) * 7
        g = u.new_zeros(u.shape[-1]).expand(u.shape) if g is None else g
        g_final = torch.zeros_like(h0) if g_final is None else g_final
        if torch.is_grad_enabled():  # the gradient will itself be differentiated: that needs every state
            states, _ = differentiable_scan(A, u, h0, ctx.reverse, ctx.backend, segments)
            delta, d_h0, d_A = adjoint_and_gradient(A, g, g_final, states, h0, segments, ctx.reverse, ctx.backend)
            return d_A, delta, d_h0, None, None, None, None
        kernels = BACKENDS[ctx.backend]
        varying = A.shape[1] > 1
        delta, d_h0 = empty(u.shape, u), torch.zeros_like(h0)
        d_A = empty(A.shape, A) if varying else torch.zeros_like(A)
        carry = g_final if segments is None else g_final.new_zeros(u.shape[0], u.shape[2])
        parts = list(enumerate(chunks(u.shape[1], ctx.steps)))
        for k, at in parts if ctx.reverse else parts[::-1]:
            if ctx.reverse:
                before = borders[:, k] if k < borders.shape[1] else None
            else:
                before = borders[:, k - 1] if k > 0 else None
            starts, ends, table = h0 if before is None else before, carry, None
            if segments is not None:
                table = _within(segments, at, h0.shape[0], ctx.reverse, k == 0)
                starts = torch.cat((h0, torch.zeros_like(carry) if before is None else before))
                ends = torch.cat((g_final, carry))
            A_part = A[:, at] if varying else A
            out = (delta[:, at], d_A[:, at] if varying else None)
            states = kernels.scan(A_part, u[:, at], starts, ctx.reverse, table)
            delta_part, into, d_A_part = kernels.adjoint(
                A_part, g[:, at], ends, ctx.reverse, states, starts, table, out
            )
            assert d_A_part is not None
            if delta_part is not out[0]:
                delta[:, at] = delta_part
            if not varying:
                d_A += d_A_part
            elif d_A_part is not out[1]:
                d_A[:, at] = d_A_part
            if segments is None:
                carry = d_h0 = into
            else:
                d_h0 += into[: h0.shape[0]]
                carry = into[h0.shape[0] :]
        return d_A, delta, d_h0, None, None, None, None


def _within(segments: Tensor, at: slice, starts: int, reverse: bool, with_empty: bool) -> Tensor:
    """Return one chunk's table; what enters from and leaves to its neighbours is in rows after those of h0, by row."""
    row, begin, end, start, final = segments.numpy().T
    low, high = np.maximum(begin, at.start), np.minimum(end, at.stop)
    empty = begin == end
    cut_below, cut_above = (begin < at.start) & ~empty, (end > at.stop) & ~empty
    opened, closed = (cut_above, cut_below) if reverse else (cut_below, cut_above)
    table = np.stack(
        (
            row,
            low - at.start,
            high - at.start,
            np.where(opened, starts + row, start),
            np.where(closed, starts + row, final),
        ),
        axis=1,
    )
    table[empty, 1:3] = 0
    return torch.from_numpy(np.ascontiguousarray(table[(empty & with_empty) | (low < high)]))
