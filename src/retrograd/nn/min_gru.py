"""minGRU: a GRU whose gate and candidate see the input alone, so that its state is a linear recurrence.

Feng, Tung, Ahmed, Bengio, Hajimirsadeghi, Were RNNs All We Needed?, 2024 (arXiv 2410.01201): its minGRU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from retrograd.core.transition import Diagonal
from retrograd.nn.recurrence import Along, Projection, Recurrence, wide

__all__ = ["MinGRU", "positive"]


class MinGRU(Recurrence):
    """z_t = σ(W_z x_t + b_z), ĥ_t = W_h x_t + b_h, h_t = (1 - z_t) h_{t-1} + z_t ĥ_t.

    The paper's training in log space avoids underflow in its parallel scan; this scan is the recurrence itself, and
    takes the gates as they are. What log space also does is to keep ĥ_t positive: ``positive_candidate``.

    Args:
        input_size: features of x_t.
        hidden_size: width of the state, which is the output.
        positive_candidate: ĥ_t = g(W_h x_t + b_h) > 0 with g(v) = v + ½ for v ≥ 0, else σ(v).
        bias: whether there are b_z and b_h.
        reverse: run from the last step to the first.
        backend: what runs the scan.
        time_mesh: the ranks on which its time lies, as :func:`retrograd.nn.shard_time` takes them.
        device: where the parameters lie.
        dtype: their floating dtype.

    Examples:
        >>> y, state = MinGRU(3, 4)(torch.randn(2, 10, 3))
        >>> y.shape, state.shape
        (torch.Size([2, 10, 4]), torch.Size([2, 4]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        positive_candidate: bool = False,
        bias: bool = True,
        reverse: bool = False,
        backend: str = "auto",
        time_mesh: Any = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, hidden_size, reverse, backend, time_mesh)
        self.positive_candidate = positive_candidate
        self.gate = Projection(input_size, hidden_size, bias, device, dtype)
        self.candidate = Projection(input_size, hidden_size, bias, device, dtype)

    def run(self, x: Tensor, state: Tensor | None, along: Along) -> tuple[Tensor, Tensor]:
        """Return h_t and the last one."""
        keep = torch.sigmoid(wide(self.gate.negative(x)))  # 1 - z_t
        candidate = wide(self.candidate(x))
        if self.positive_candidate:
            candidate = positive(candidate)
        # z ĥ = ĥ - (1 - z) ĥ: the backward pass then needs 1 - z and ĥ, and no z beside them.
        return along.scan(Diagonal(keep), torch.addcmul(candidate, keep, candidate, value=-1), state)


def positive(v: Tensor) -> Tensor:
    """Return g(v) = v + ½ for v ≥ 0, else σ(v): continuous, positive, differentiable once."""
    return torch.where(v >= 0, v + 0.5, torch.sigmoid(v))
