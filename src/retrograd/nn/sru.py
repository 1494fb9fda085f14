"""SRU: a forget gate for the memory and a highway past it, both of the input alone.

Lei, Zhang, Wang, Dai, Artzi, Simple Recurrent Units for Highly Parallelizable Recurrence, 2018 (arXiv 1709.02755):
its light recurrence and highway, with v_f = v_r = 0: a gate that reads c_{t-1} would make the recurrence nonlinear.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from retrograd.core.transition import Diagonal
from retrograd.errors import require_number
from retrograd.nn.recompute import recomputed
from retrograd.nn.recurrence import Along, Projection, Recurrence, projected, wide

__all__ = ["SRU"]


class SRU(Recurrence):
    """c_t = f_t c_{t-1} + (1 - f_t) W x_t, y_t = r_t c_t + (1 - r_t) α x_t.

    The gates are f_t = σ(W_f x_t + b_f) and r_t = σ(W_r x_t + b_r).

    Args:
        input_size: features of x_t.
        hidden_size: width of the state and of the output; where it is not ``input_size``, a matrix makes x_t as wide.
        highway_bias: b_r at the start; α = √(1 + 2 exp(b_r)) then keeps the variance of x_t at the start.
        reverse: run from the last step to the first.
        backend: what runs the scan.
        time_mesh: the ranks on which its time lies, as :func:`retrograd.nn.shard_time` takes them.
        device: where the parameters lie.
        dtype: their floating dtype.

    Examples:
        >>> SRU(3, 4)(torch.randn(2, 10, 3))[0].shape
        torch.Size([2, 10, 4])
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        highway_bias: float = 0.0,
        reverse: bool = False,
        backend: str = "auto",
        time_mesh: Any = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, hidden_size, reverse, backend, time_mesh)
        self.highway_bias = require_number("highway_bias", highway_bias)
        self.alpha = math.sqrt(1 + 2 * math.exp(self.highway_bias))
        self.candidate = Projection(input_size, hidden_size, False, device, dtype)
        self.forget = Projection(input_size, hidden_size, True, device, dtype)
        self.highway = Projection(input_size, hidden_size, True, device, dtype)
        self.widen = None if input_size == hidden_size else Projection(input_size, hidden_size, False, device, dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights uniform in ±√(3 / input_size), of variance 1 / input_size; b_f is 0, b_r ``highway_bias``."""
        bound = math.sqrt(3 / self.input_size)
        for projection in (self.candidate, self.forget, self.highway, self.widen):
            if projection is not None:
                torch.nn.init.uniform_(projection.weight, -bound, bound)
        torch.nn.init.zeros_(self.forget.bias)
        torch.nn.init.constant_(self.highway.bias, self.highway_bias)

    def run(self, x: Tensor, state: Tensor | None, along: Along) -> tuple[Tensor, Tensor]:
        """Return y_t and the last c_t."""
        past = x if self.widen is None else self.widen(x)
        made = projected(x, self.candidate, self.forget, self.highway)
        y, last = recomputed(self._states, along, (made, past, self.entering(x, state, along)))
        return y, last

    def _states(self, along: Along, made: Tensor, past: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        candidate, forget, highway = wide(made).chunk(3, -1)
        keep, read = torch.sigmoid(forget), torch.sigmoid(highway)
        c, last = along.scan(Diagonal(keep), torch.addcmul(candidate, keep, candidate, value=-1), state)
        return torch.lerp(self.alpha * wide(past), c, read), last
