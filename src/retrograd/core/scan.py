"""The public operator: checks, broadcasting, the choice of backend."""

from __future__ import annotations

import torch
from torch import Tensor

from retrograd.core.backend import select
from retrograd.core.saving import Memory, chunk_steps, scan_in_memory
from retrograd.core.sequences import segments_of
from retrograd.core.transition import Dense, Diagonal, Transition
from retrograd.errors import require_floating, require_shape

__all__ = ["scan"]


def scan(
    A: Transition,
    u: Tensor,
    h0: Tensor | None = None,
    *,
    reverse: bool = False,
    lengths: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    reset: Tensor | None = None,
    memory: Memory = "auto",
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Run the linear recurrence h_t = A_t h_{t-1} + u_t and return every state and the last one.

    Differentiable in A, u and h0, to any order, in reverse and forward mode; its gradient is the same recurrence,
    transposed and run backward (:mod:`retrograd.core.adjoint`).

    Args:
        A: :class:`Dense` or :class:`Diagonal` transitions, on u's device.
        u: inputs to the state, ``(batch, time, width)`` or ``(time, width)``; floating or complex.
        h0: state before the first input, ``(batch, width)`` (or ``(width,)``); zero by default. With ``reverse``,
            the state after the last input.
        reverse: run from the last step to the first: h_t = A_t h_{t+1} + u_t.
        lengths: integers ``(batch,)``: row b's sequence is its first ``lengths[b]`` steps, the rest is padding, where
            nothing is read and states and gradients are zero.
        cu_seqlens: integers ``(N + 1,)`` from 0 to ``time`` that never decrease: u is one row of N packed sequences,
            sequence i in steps ``[cu_seqlens[i], cu_seqlens[i + 1])``; h0 and the final states are ``(N, width)``.
        reset: bool ``(batch, time)`` (or ``(time,)``): at a true step the state before (with ``reverse`` the one after)
            does not enter: h_t = u_t. Goes with lengths and cu_seqlens too.
        memory: what is kept of the states for the gradient of A, beside what the caller keeps: ``"all"``; ``"sqrt"``,
            those at the borders of chunks, O(√T), each chunk being run again in the backward pass; a number of bytes
            for borders and one chunk; or ``"auto"``: all, unless they are larger than an eighth of the machine's
            memory. Results differ by rounding at most. (Transformed, traced and forward-mode calls keep all.)
        backend: ``"auto"`` or the name of one: ``"native"`` (C++ on the CPU), ``"reference"`` (the plain loop).

    Returns:
        ``(states, final_state)``: ``(batch, time, width)``, where ``states[:, t]`` is the state after input t, and
        ``(batch, width)``, each sequence's last state; without the batch axis if u has none. The dtype is the common
        one of A, u and h0.

    Raises:
        TypeError: A is not a transition, or an array has a dtype of the wrong kind.
        ValueError: shapes or lengths do not fit, arrays lie on different devices, or the backend named cannot serve.

    Examples:
        >>> states, final = scan(Diagonal(torch.tensor([0.5])), torch.ones(3, 1))
        >>> states.squeeze(-1), final
        (tensor([1.0000, 1.5000, 1.7500]), tensor([1.7500]))
        >>> scan(Diagonal(torch.tensor([0.5])), torch.ones(3, 1), cu_seqlens=torch.tensor([0, 1, 3]))[1]
        tensor([[1.0000],
                [1.5000]])
    """
    if not isinstance(A, (Dense, Diagonal)):
        raise TypeError(f"A is {type(A).__name__}, expected retrograd.Dense(W) or retrograd.Diagonal(a)")
    require_floating("u", u)
    if h0 is not None:
        require_floating("h0", h0)
    if u.ndim not in (2, 3):
        raise ValueError(f"u has shape {tuple(u.shape)}, expected (batch, time, width) or (time, width)")
    batched, packed = u.ndim == 3, cu_seqlens is not None
    if not batched:
        u = u.unsqueeze(0)
        h0 = h0.unsqueeze(0) if h0 is not None and not packed else h0
        reset = reset.unsqueeze(0) if isinstance(reset, Tensor) else reset
        if lengths is not None:
            raise ValueError("lengths was given with u of (time, width): it needs u of (batch, time, width)")
    a = A.normal()
    segments, sequences = None, u.shape[0]
    if lengths is not None or packed or reset is not None:
        segments = segments_of(u.shape[0], u.shape[1], lengths, cu_seqlens, reset, reverse)
        sequences = u.shape[0] if cu_seqlens is None else cu_seqlens.shape[0] - 1
    _check(a, u, h0, sequences)
    h0 = u.new_zeros(sequences, u.shape[2]) if h0 is None else h0
    if not a.dtype == u.dtype == h0.dtype:
        dtype = torch.promote_types(torch.promote_types(a.dtype, u.dtype), h0.dtype)
        a, u, h0 = a.to(dtype), u.to(dtype), h0.to(dtype)
    if u.shape[1] == 0:
        chunk_steps(memory, u.shape[0], 0, u.shape[2], u.element_size())  # a memory that cannot be is refused here too
        states, final = u * 1, h0 + a[..., :0].sum()  # no step reads A: its gradient is zero, not None
    else:
        states, final = scan_in_memory(a, u, h0, reverse, select(backend, a, u).name, segments, memory)
    return states if batched else states[0], final if batched or packed else final[0]


def _check(a: Tensor, u: Tensor, h0: Tensor | None, sequences: int) -> None:
    batch, time, width = u.shape
    if a.shape[-1] != width:
        raise ValueError(f"A has width {a.shape[-1]}, u has {width}: they must be equal")
    if a.shape[1] not in (1, time):
        raise ValueError(f"A has {a.shape[1]} steps, u has {time}: A needs 1 or {time}")
    if a.shape[0] not in (1, batch):
        raise ValueError(f"A has batch {a.shape[0]}, u has {batch}: A needs 1 or {batch} (expand u if it is shared)")
    if u.device != a.device:
        raise ValueError(f"u is on {u.device}, A on {a.device}: move both to one device")
    if h0 is not None:
        if h0.device != a.device:
            raise ValueError(f"h0 is on {h0.device}, A on {a.device}: move both to one device")
        require_shape(
            "h0", h0, ("sequences", "width") if sequences != batch else ("batch", "width"), (sequences, width)
        )
