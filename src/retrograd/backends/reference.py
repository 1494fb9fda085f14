"""The oracle: the plain loop in torch, any dtype, any device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from retrograd.core.sequences import previous_states
from retrograd.core.transition import transition_gradient

__all__ = ["ReferenceBackend", "carry_dtype"]


def carry_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of the carried state: half precision is stored as such but carried in float32."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


class ReferenceBackend:
    """The recurrence and its adjoint as DESIGN writes them, one step at a time."""

    name = "reference"

    def why_not(self, A: Tensor, u: Tensor) -> str | None:
        """Return None: every problem is served."""
        return None

    def scan(self, A: Tensor, u: Tensor, h0: Tensor, reverse: bool, segments: Tensor | None = None) -> Tensor:
        """Return h_t = A_t h_{t-1} + u_t for every t."""
        if segments is not None:
            states = torch.zeros_like(u)
            for s in _lines(A, segments, u.shape[0], reverse):
                before = h0[s.start] if s.start >= 0 else u[s.row, s.first]
                if s.start < 0:
                    states[s.row, s.first] = before
                if s.A.shape[1]:
                    states[s.row, s.steps] = self.scan(s.A, u[None, s.row, s.steps], before[None], reverse)[0]
            return states
        h = h0.to(carry_dtype(u.dtype))
        states_of: list[Tensor] = []
        for t in _order(u.shape[1], reverse):
            h = _step(_at(A, t, u.shape[0]), h) + u[:, t]
            states_of.append(h)
        return torch.stack(states_of[::-1] if reverse else states_of, dim=1).to(u.dtype)

    def adjoint(
        self,
        A: Tensor,
        g: Tensor,
        g_final: Tensor,
        reverse: bool,
        states: Tensor | None = None,
        h0: Tensor | None = None,
        segments: Tensor | None = None,
        out: tuple[Tensor | None, Tensor | None] = (None, None),
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return (δ, ∂L/∂h_0, ∂L/∂A)."""
        if segments is not None:
            return self._adjoint_of_segments(A, g, g_final, reverse, states, h0, segments)
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

    def _adjoint_of_segments(
        self,
        A: Tensor,
        g: Tensor,
        g_final: Tensor,
        reverse: bool,
        states: Tensor | None,
        h0: Tensor | None,
        segments: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        delta, d_h0 = torch.zeros_like(g), torch.zeros_like(g_final)
        for s in _lines(A, segments, g.shape[0], reverse):
            carry = g_final[None, s.final] if s.final >= 0 else torch.zeros_like(g[:1, 0])
            if s.A.shape[1]:
                delta[s.row, s.steps], carry, _ = self.adjoint(s.A, g[None, s.row, s.steps], carry, reverse)
            if s.start >= 0:
                d_h0[s.start] = carry[0]
            else:
                delta[s.row, s.first] = g[s.row, s.first] + carry[0]
        d_A = None
        if states is not None and h0 is not None:
            carried = carry_dtype(g.dtype)
            previous = previous_states(states, h0, reverse, segments).to(carried)
            d_A = transition_gradient(A, delta.to(carried), previous).to(A.dtype)
        return delta, d_h0, d_A


class _Line(NamedTuple):
    """A segment; where nothing stands before it, its first step is on its own and a state before the others."""

    A: Tensor  # (1, steps, ...)
    row: int
    steps: slice
    first: int
    start: int
    final: int


def _lines(A: Tensor, segments: Tensor, batch: int, reverse: bool) -> Iterator[_Line]:
    for row, begin, end, start, final in segments.tolist():
        first = end - 1 if reverse else begin
        alone = int(start < 0)
        steps = slice(begin, end - alone) if reverse else slice(begin + alone, end)
        group = row * A.shape[0] // batch
        A_row = A[group : group + 1].expand(-1, max(A.shape[1], end), *A.shape[2:])
        yield _Line(A_row[:, steps], row, steps, first, start, final)


def _order(time: int, reverse: bool) -> range:
    return range(time - 1, -1, -1) if reverse else range(time)


def _at(A: Tensor, t: int, batch: int) -> Tensor:
    """Return A_t for every batch row: (batch, width) or (batch, H, H)."""
    A_t = A[:, 0 if A.shape[1] == 1 else t].to(carry_dtype(A.dtype))
    return A_t if A.shape[0] in (1, batch) else A_t.repeat_interleave(batch // A.shape[0], dim=0)


def _step(A_t: Tensor, h: Tensor) -> Tensor:
    return A_t * h if A_t.ndim == 2 else (A_t @ h.unsqueeze(-1)).squeeze(-1)
