"""The recurrence and its adjoint one step at a time, in plain torch operations: any structure, dtype and device.

The reference backend is this loop; where torch's custom functions lose derivatives, it stands in for them, as it is
differentiable itself. Half precision is stored as such and carried in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor

from retrograd.core.segments import Segments
from retrograd.core.sequences import Rows, View
from retrograd.core.steps import EMPTY, NEIGHBOUR, PADDING, Steps
from retrograd.core.transition import Transition

__all__ = ["carry_dtype", "loop_adjoint", "loop_scan"]


def carry_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of the carried state: half precision is stored as such but carried in float32."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def loop_scan(A: Transition, u: Tensor, h0: Tensor, view: View) -> Tensor:
    """Return h_t = A_t h_{t-1} + u_t for every t, in u's dtype; zero in padding."""
    carry = carry_dtype(u.dtype)
    wide, steps = A.to(carry), _steps(view, u, h0)
    h, states = _entering(h0.to(carry), u), list[Tensor]()
    for t in _order(u.shape[1], view.reverse):
        arrays = wide.at_step(t, u.shape[0])
        if steps is None:
            h = wide.apply(arrays, h) + u[:, t]
        else:
            before = steps.before[:, t]
            arrays, x = _selected(arrays, before, h, h0.to(carry))
            h = _where(before != PADDING, _where(before >= NEIGHBOUR, wide.apply(arrays, x), 0) + u[:, t], 0)
        states.append(h)
    return torch.stack(states[::-1] if view.reverse else states, dim=1).to(u.dtype)


def loop_adjoint(A: Transition, g: Tensor, g_final: Tensor, view: View) -> tuple[Tensor, Tensor]:
    """Return (δ, d_h0), δ in the dtype that is carried."""
    carry = carry_dtype(g.dtype)
    wide, steps = A.to(carry), _steps(view, g, g_final)
    into, deltas = _entering(g_final.to(carry), g), list[Tensor]()
    d_h0 = into
    if steps is not None:
        d_h0 = torch.where((steps.ends == EMPTY).unsqueeze(1), g_final.to(carry), 0)
    for t in _order(g.shape[1], not view.reverse):
        arrays = wide.at_step(t, g.shape[0])
        if steps is None:
            delta = g[:, t] + into
        else:
            before, after = steps.before[:, t], steps.after[:, t]
            ended = g_final.to(carry).index_select(0, after.clamp(min=0).long()) if len(g_final) else into
            x = _where(after == NEIGHBOUR, into, _where(after >= 0, ended, 0))
            delta = _where(after != PADDING, g[:, t] + x, 0)
            arrays = _kept(arrays, before >= NEIGHBOUR)
        deltas.append(delta)
        into = wide.apply_adjoint(arrays, delta)
        if steps is not None and len(g_final):
            d_h0 = d_h0.index_add(0, before.clamp(min=0).long(), _where(before >= 0, into, 0))
    delta = torch.stack(deltas if view.reverse else deltas[::-1], dim=1)
    return delta, (into if steps is None else d_h0).to(g.dtype)


def _steps(view: View, x: Tensor, h0: Tensor) -> Steps | None:
    if isinstance(view, Rows):
        return None
    return view.steps(x.shape[0], x.shape[1], h0.shape[0], x.device) if isinstance(view, Segments) else view


def _entering(h0: Tensor, u: Tensor) -> Tensor:
    return h0 if h0.shape[0] == u.shape[0] else h0.new_zeros(u.shape[0], u.shape[2])


def _selected(arrays: list[Tensor], before: Tensor, h: Tensor, h0: Tensor) -> tuple[list[Tensor], Tensor]:
    """Return a step's arrays, zero where they are not applied, and the states that they meet."""
    entering = h0.index_select(0, before.clamp(min=0).long()) if len(h0) else h
    x = _where(before == NEIGHBOUR, h, _where(before >= 0, entering, 0))
    return _kept(arrays, before >= NEIGHBOUR), x


def _kept(arrays: list[Tensor], where: Tensor) -> list[Tensor]:
    return [_where(where, a.expand(len(where), *a.shape[1:]), 0) for a in arrays]


def _where(rows: Tensor, x: Tensor, otherwise: Tensor | int) -> Tensor:
    return torch.where(rows.view(-1, *(1,) * (x.ndim - 1)), x, otherwise)


def _order(time: int, reverse: bool) -> range:
    return range(time - 1, -1, -1) if reverse else range(time)
