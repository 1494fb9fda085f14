"""The oracle: the plain loop in torch, any dtype, any device."""

from __future__ import annotations

import torch
from torch import Tensor

from retrograd.pool import empty
from retrograd.transition import transition_gradient

__all__ = ["ReferenceBackend", "carry_dtype", "previous_states"]


def carry_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of the carried state: half precision is stored as such but carried in float32."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def previous_states(states: Tensor, h0: Tensor, reverse: bool) -> Tensor:
    """Return h_{t-1} for every t: the states moved on by one step, h_0 entering first."""
    first = h0.unsqueeze(1)
    parts = (states[:, 1:], first) if reverse else (first, states[:, :-1])
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return torch.cat(parts, dim=1)
    return torch.cat(parts, dim=1, out=empty(states.shape, states))


class ReferenceBackend:
    """The recurrence and its adjoint as DESIGN writes them, one step at a time."""

    name = "reference"

    def why_not(self, A: Tensor, u: Tensor) -> str | None:
        """Return None: every problem is served."""
        return None

    def scan(self, A: Tensor, u: Tensor, h0: Tensor, reverse: bool) -> Tensor:
        """Return h_t = A_t h_{t-1} + u_t for every t."""
        h = h0.to(carry_dtype(u.dtype))
        states: list[Tensor] = []
        for t in _order(u.shape[1], reverse):
            h = _step(_at(A, t, u.shape[0]), h) + u[:, t]
            states.append(h)
        return torch.stack(states[::-1] if reverse else states, dim=1).to(u.dtype)

    def adjoint(
        self,
        A: Tensor,
        g: Tensor,
        g_final: Tensor,
        reverse: bool,
        states: Tensor | None = None,
        h0: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return (δ, ∂L/∂h_0, ∂L/∂A)."""
        carry = g_final.to(carry_dtype(g.dtype))
        deltas: list[Tensor] = []
        for t in _order(g.shape[1], not reverse):
            delta = g[:, t] + carry
            deltas.append(delta)
            A_t = _at(A, t, g.shape[0])
            carry = _step(A_t.conj() if A.ndim == 3 else A_t.mH, delta)
        delta = torch.stack(deltas if reverse else deltas[::-1], dim=1)
        d_A = None
        if states is not None and h0 is not None:
            previous = previous_states(states, h0, reverse).to(delta.dtype)
            d_A = transition_gradient(A, delta, previous).to(A.dtype)
        return delta.to(g.dtype), carry.to(g.dtype), d_A


def _order(time: int, reverse: bool) -> range:
    return range(time - 1, -1, -1) if reverse else range(time)


def _at(A: Tensor, t: int, batch: int) -> Tensor:
    """Return A_t for every batch row: (batch, width) or (batch, H, H)."""
    A_t = A[:, 0 if A.shape[1] == 1 else t].to(carry_dtype(A.dtype))
    return A_t if A.shape[0] in (1, batch) else A_t.repeat_interleave(batch // A.shape[0], dim=0)


def _step(A_t: Tensor, h: Tensor) -> Tensor:
    return A_t * h if A_t.ndim == 2 else (A_t @ h.unsqueeze(-1)).squeeze(-1)
