"""The public operator: checks, broadcasting, the choice of backend."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad

from retrograd.core import observe
from retrograd.core.adjoint import differentiable_scan
from retrograd.core.backend import Backend, Spec, select
from retrograd.core.dispatch import is_watched
from retrograd.core.saving import SMALL, Memory, chunk_steps
from retrograd.core.sequences import BACKWARD, FORWARD, Sequences, View
from retrograd.core.transition import Transition
from retrograd.errors import require_floating, require_shape

__all__ = ["fitted", "scan", "with_batch"]


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
            for borders and one chunk; or ``"auto"``: all, unless they are larger than an eighth of the memory of u's
            device. Results differ by rounding at most. (Transformed, traced and forward-mode calls keep all.)
        backend: ``"auto"`` or the name of one: ``"native"`` (C++ on the CPU), ``"triton"`` (a GPU) or ``"reference"``
            (the plain loop).

    Returns:
        ``(states, final_state)``: ``(batch, time, width)``, where ``states[:, t]`` is the state after input t, and
        ``(batch, width)``, each sequence's last state; without the batch axis if u has none. The dtype is the common
        one of A, u and h0.

    Raises:
        TypeError: A is not a transition, or an array has a dtype of the wrong kind.
        ValueError: shapes or lengths do not fit, arrays lie on different devices, or the backend named cannot serve.

    Examples:
        >>> from retrograd import Diagonal
        >>> states, final = scan(Diagonal(torch.tensor([0.5])), torch.ones(3, 1))
        >>> states.squeeze(-1), final
        (tensor([1.0000, 1.5000, 1.7500]), tensor([1.7500]))
        >>> scan(Diagonal(torch.tensor([0.5])), torch.ones(3, 1), cu_seqlens=torch.tensor([0, 1, 3]))[1]
        tensor([[1.0000],
                [1.5000]])
    """
    u, h0, reset, batched, packed = with_batch(A, u, h0, lengths, cu_seqlens, reset)
    sequences = None
    if lengths is not None or packed or reset is not None:
        sequences = Sequences(u.shape[0], u.shape[1], lengths, cu_seqlens, reset, reverse)
    batch, time, width = u.shape
    A, u, h0, steps = fitted(A, u, h0, batch if sequences is None else sequences.count)
    view: View = BACKWARD if reverse else FORWARD
    if sequences is None:
        kernels = select(backend, Spec(u.device, u.dtype, A.structure, steps == 1, "whole", False, reverse))
    else:
        kernels = select(backend, Spec.of(A, u, sequences, reverse))
        view = sequences.view(kernels.view, u.device)
    watched = is_watched(u, h0, *A.tensors)
    chunk = 0 if watched or memory == "all" else _chunk(memory, A, u, kernels)
    if time == 0 or batch == 0 or width == 0:
        # Nothing is computed, and every gradient is zero, not None.
        nothing = sum(x.flatten()[:0].sum() for x in (*A.tensors, u, h0))
        states, final = u + nothing, h0 + nothing
    else:
        states, final = differentiable_scan(A, u, h0, view, kernels.name, chunk, watched)
    if observe.observers and not watched:
        seen = observe.Seen(A, u, h0, states, final, sequences, reverse, kernels.name)
        for observer in observe.observers:
            observer(seen)
    return states if batched else states[0], final if batched or packed else final[0]


def _chunk(memory: Memory, A: Transition, u: Tensor, backend: Backend) -> int:
    """Return how many steps lie between the states that are kept for the gradient of A; 0 where all are.

    Inside a transformation of torch.func, in forward mode and in a traced graph all states are kept: there the
    transformation decides, and sizes may be symbols.
    """
    if memory == "auto" and u.nbytes <= SMALL:
        return 0
    available = backend.memory(u.device) if memory == "auto" else None
    steps = chunk_steps(memory, u.shape[0], u.shape[1], u.shape[2], u.element_size(), available)
    if steps >= u.shape[1] or forward_ad._current_level >= 0:
        return 0
    return steps if torch.is_grad_enabled() and any(x.requires_grad for x in A.tensors) else 0


def with_batch(
    A: Transition,
    u: Tensor,
    h0: Tensor | None,
    lengths: Tensor | None,
    cu_seqlens: Tensor | None,
    reset: Tensor | None,
) -> tuple[Tensor, Tensor | None, Tensor | None, bool, bool]:
    """Check what a scan is given, array by array.

    Returns:
        u, h0 and reset with a batch axis; whether u came with it; whether its sequences are packed.

    Raises:
        TypeError: A is not a transition, or an array has a dtype of the wrong kind.
        ValueError: u has another number of axes, or lengths has no rows to speak of.
    """
    if not isinstance(A, Transition):
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
    return u, h0, reset, batched, packed


def fitted(A: Transition, u: Tensor, h0: Tensor | None, count: int) -> tuple[Transition, Tensor, Tensor, int]:
    """Return A, u and h0 ``(count, width)``, zero by default, in their common dtype, and A's steps.

    Raises:
        ValueError: shapes or devices do not fit one another.
    """
    batch, time, width = u.shape
    groups, steps = A.sizes
    if A.width != width:
        raise ValueError(f"A has width {A.width}, u has {width}: they must be equal")
    if steps not in (1, time):
        raise ValueError(f"A has {steps} steps, u has {time}: A needs 1 or {time}")
    if groups not in (1, batch):
        raise ValueError(f"A has batch {groups}, u has {batch}: A needs 1 or {batch} (expand u if it is shared)")
    if u.device != A.device:
        raise ValueError(f"u is on {u.device}, A on {A.device}: move both to one device")
    if h0 is not None:
        if h0.device != u.device:
            raise ValueError(f"h0 is on {h0.device}, A on {u.device}: move both to one device")
        require_shape("h0", h0, ("sequences" if count != batch else "batch", "width"), (count, width))
    else:
        h0 = u.new_zeros(count, width)
    if not A.dtype == u.dtype == h0.dtype:
        dtype = torch.promote_types(torch.promote_types(A.dtype, u.dtype), h0.dtype)
        A, u, h0 = A.to(dtype), u.to(dtype), h0.to(dtype)
    return A, u, h0, steps
