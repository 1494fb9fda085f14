"""The public operator: checks, broadcasting, the choice of backend."""

from __future__ import annotations

import torch
from torch import Tensor

from retrograd.adjoint import differentiable_scan
from retrograd.backends import select
from retrograd.errors import require_floating, require_shape
from retrograd.transition import Dense, Diagonal, Transition

__all__ = ["scan"]


def scan(
    A: Transition,
    u: Tensor,
    h0: Tensor | None = None,
    *,
    reverse: bool = False,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Run the linear recurrence h_t = A_t h_{t-1} + u_t and return every state and the last one.

    Differentiable in A, u and h0, to any order, in reverse and forward mode; its gradient is the same recurrence,
    transposed and run backward (:mod:`retrograd.adjoint`).

    Args:
        A: :class:`Dense` or :class:`Diagonal` transitions, on u's device.
        u: inputs to the state, ``(batch, time, width)`` or ``(time, width)``; floating or complex.
        h0: state before the first input, ``(batch, width)`` (or ``(width,)``); zero by default. With ``reverse``,
            the state after the last input.
        reverse: run from the last step to the first: h_t = A_t h_{t+1} + u_t.
        backend: ``"auto"`` or the name of one: ``"native"`` (C++ on the CPU), ``"reference"`` (the plain loop).

    Returns:
        ``(states, final_state)``: ``(batch, time, width)``, where ``states[:, t]`` is the state after input t, and
        ``(batch, width)``; without the batch axis if u has none. The dtype is the common one of A, u and h0.

    Raises:
        TypeError: A is not a transition, or an array is neither floating nor complex.
        ValueError: shapes do not fit, arrays lie on different devices, or the backend named cannot serve.

    Example:
        >>> states, final = scan(Diagonal(torch.tensor([0.5])), torch.ones(3, 1))
        >>> states.squeeze(-1), final
        (tensor([1.0000, 1.5000, 1.7500]), tensor([1.7500]))
    """
    if not isinstance(A, Dense | Diagonal):
        raise TypeError(f"A is {type(A).__name__}, expected retrograd.Dense(W) or retrograd.Diagonal(a)")
    require_floating("u", u)
    if h0 is not None:
        require_floating("h0", h0)
    if u.ndim not in (2, 3):
        raise ValueError(f"u has shape {tuple(u.shape)}, expected (batch, time, width) or (time, width)")
    batched = u.ndim == 3
    if not batched:
        u = u.unsqueeze(0)
        h0 = None if h0 is None else h0.unsqueeze(0)
    a = A.normal()
    _check(a, u, h0)
    h0 = u.new_zeros(u.shape[0], u.shape[2]) if h0 is None else h0
    if not a.dtype == u.dtype == h0.dtype:
        dtype = torch.promote_types(torch.promote_types(a.dtype, u.dtype), h0.dtype)
        a, u, h0 = a.to(dtype), u.to(dtype), h0.to(dtype)
    if u.shape[1] == 0:
        states, final = u * 1, h0 + a[..., :0].sum()  # no step reads A: its gradient is zero, not None
    else:
        states, final = differentiable_scan(a, u, h0, reverse, select(backend, a, u).name)
    return (states, final) if batched else (states[0], final[0])


def _check(a: Tensor, u: Tensor, h0: Tensor | None) -> None:
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
        require_shape("h0", h0, ("batch", "width"), (batch, width))
