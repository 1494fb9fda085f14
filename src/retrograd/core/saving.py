"""Bounded memory: keep the states at chunk borders alone, and run each chunk again on the way back.

A scan's gradient in A needs every state. ``memory`` says what is kept of them between the forward and the backward
pass: all; those at the borders of chunks of steps, from which a chunk is run again when its turn comes (Griewank,
Walther, Evaluating Derivatives, ch. 12, with one level); or so many bytes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from retrograd.core.backend import BACKENDS, device_memory
from retrograd.core.sequences import Rows, View
from retrograd.core.transition import Transition

__all__ = ["SMALL", "Memory", "borders", "chunk_steps", "chunks", "gradients_in_chunks"]

Memory = str | int

# States of a chunk that are worth a call: as many as results that the kernels send past the cache. Fewer are all kept.
SMALL = 1 << 24


def chunk_steps(memory: Memory, batch: int, time: int, width: int, itemsize: int, available: int | None = None) -> int:
    """Return how many steps a chunk has, ``time`` where all states are kept.

    ``"auto"`` keeps all up to an eighth of the bytes ``available`` (by default the machine's memory).
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
            available = device_memory(torch.device("cpu")) if available is None else available
            memory = "sqrt" if time * step > available // 8 else "all"
        if memory == "all":
            return max(time, 1)
        if memory == "sqrt":
            return min(max(time, 1), max(root, min(96 * root, SMALL // step)))
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


def chunks(time: int, steps: int) -> list[slice]:
    """Return the chunks of ``steps`` steps each, the last one shorter.

    >>> chunks(5, 2)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    return [slice(begin, min(begin + steps, time)) for begin in range(0, time, steps)]


def borders(states: Tensor, steps: int, reverse: bool) -> Tensor:
    """Return the states that chunks of ``steps`` but the first start from, ``(batch, chunks - 1, width)``."""
    return (states[:, steps::steps] if reverse else states[:, steps - 1 : -1 : steps]).clone()


def gradients_in_chunks(
    A: Transition,
    u: Tensor,
    h0: Tensor,
    at_borders: Tensor,
    g: Tensor,
    g_final: Tensor,
    view: View,
    backend: str,
    steps: int,
) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """Return (δ, d_h0) of S* and ∂L/∂A in the shapes of A's tensors, running chunk after chunk again."""
    kernels = BACKENDS[backend]
    rows, (batch, time, width) = h0.shape[0], u.shape
    delta, d_h0 = kernels.empty(u.shape, u), torch.zeros_like(h0)
    # Of a time-varying array each step has its own gradient; of the others it is a sum.
    d_A = [torch.zeros_like(x) if x.shape[1] == 1 else kernels.empty(x.shape, x) for x in A.arrays]
    carry = g_final if isinstance(view, Rows) else g_final.new_zeros(batch, width)
    parts = list(enumerate(chunks(time, steps)))
    for k, at in parts if view.reverse else parts[::-1]:
        border = k if view.reverse else k - 1
        before = at_borders[:, border] if 0 <= border < at_borders.shape[1] else None
        part: View = view
        if isinstance(view, Rows):
            starts, ends = h0 if before is None else before, carry
        else:
            starts = torch.cat((h0, torch.zeros_like(carry) if before is None else before))
            ends, part = torch.cat((g_final, carry)), view.chunk(at, rows, with_empty=k == 0)
        A_part = A.at(at)
        states = kernels.scan(A_part, u[:, at], starts, part)
        own = [torch.empty_like(x) if x.shape[1] == 1 else x[:, at] for x in d_A]
        _, into, d_part = kernels.adjoint(A_part, g[:, at], ends, part, states, starts, (delta[:, at], own))
        assert d_part is not None
        for total, one in zip(d_A, d_part, strict=True):
            if total.shape[1] == 1:
                total += one
        if isinstance(view, Rows):
            carry = d_h0 = into
        else:
            d_h0 += into[:rows]
            carry = into[rows:]
    return delta, d_h0, A.like_given(d_A)
