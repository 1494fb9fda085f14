"""A linear state-space model as a layer: x_{t+1} = A x_t + B u_t + K e_t, y_t = C x_t + D u_t + offset + e_t."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from retrograd.core.transition import Dense
from retrograd.errors import require_shape
from retrograd.nn.sharded import AlongTime, scan_along, shard_time, states_before

__all__ = ["StateSpace"]


class StateSpace(AlongTime):
    """A linear state-space model with trainable matrices; differentiable in all of them and in its inputs.

    Args:
        order: n, width of the state.
        inputs: m.
        outputs: p.
        dtype: of the parameters.
        device: of the parameters.
        time_mesh: the ranks on which its time lies, as :func:`retrograd.nn.shard_time` takes them.

    Attributes:
        A: ``(n, n)``; B: ``(n, m)``; C: ``(p, n)``; D: ``(p, m)``; K: ``(n, p)``; offset: ``(p,)``; x0: ``(n,)``.

    Examples:
        >>> layer = StateSpace(2, 1, 1)
        >>> layer(torch.zeros(5, 1)).shape
        torch.Size([5, 1])
    """

    def __init__(
        self,
        order: int,
        inputs: int,
        outputs: int,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        time_mesh: Any = None,
    ) -> None:
        super().__init__()
        shard_time(self, time_mesh)
        place: dict[str, Any] = {"dtype": dtype, "device": device}
        # Memories of a few to a hundred steps, outputs of the inputs' size.
        self.A = nn.Parameter(torch.diag(torch.linspace(0.5, 0.99, order, **place)))
        self.B = nn.Parameter(torch.randn(order, inputs, **place) / max(inputs, 1) ** 0.5)
        self.C = nn.Parameter(torch.randn(outputs, order, **place) / order**0.5)
        self.D = nn.Parameter(torch.zeros(outputs, inputs, **place))
        self.K = nn.Parameter(torch.zeros(order, outputs, **place))
        self.offset = nn.Parameter(torch.zeros(outputs, **place))
        self.x0 = nn.Parameter(torch.zeros(order, **place))

    @classmethod
    def from_matrices(cls, A: Any, B: Any, C: Any, D: Any, K: Any, offset: Any, x0: Any) -> StateSpace:
        """Return a layer with these numbers, in their own precision."""
        values = {name: torch.as_tensor(value).clone() for name, value in locals().items() if name != "cls"}
        layer = cls(len(values["A"]), values["B"].shape[1], values["C"].shape[0], dtype=values["A"].dtype)
        layer.load_state_dict(values)
        return layer

    def forward(self, u: Tensor, y: Tensor | None = None, x0: Tensor | None = None) -> Tensor:
        """Return outputs: of the free run, or, given ``y``, one step ahead.

        Args:
            u: inputs ``(batch, time, m)`` or ``(time, m)``.
            y: observed outputs ``(batch, time, p)`` or ``(time, p)``.
            x0: state at the first step, ``(batch, n)``; the layer's own by default.

        Raises:
            ValueError: shapes do not fit.
        """
        require_shape("u", u, ("...", "time", "inputs"), (*u.shape[:-1], self.B.shape[1]))
        A: Tensor = self.A
        drive = u @ self.B.mT
        if y is not None:
            require_shape("y", y, ("...", "time", "outputs"), (*u.shape[:-1], self.C.shape[0]))
            A = A - self.K @ self.C
            drive = drive + (y - u @ self.D.mT - self.offset) @ self.K.mT
        first = (self.x0 if x0 is None else x0).expand(*u.shape[:-2], -1)
        states, _ = scan_along(self.time_mesh)(Dense(A), drive, first)
        single = u.ndim == 2
        before = states_before(self.time_mesh, states[None] if single else states, first[None] if single else first)
        x = before[0] if single else before
        return x @ self.C.mT + u @ self.D.mT + self.offset
