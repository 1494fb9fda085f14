"""minLSTM: an LSTM whose gates and candidate see the input alone; its state is a linear recurrence.

Feng, Tung, Ahmed, Bengio, Hajimirsadeghi, Were RNNs All We Needed?, 2024 (arXiv 2410.01201): its minLSTM.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from retrograd.core.transition import Diagonal
from retrograd.nn.min_gru import positive
from retrograd.nn.recompute import recomputed
from retrograd.nn.recurrence import Along, Projection, Recurrence, wide

__all__ = ["MinLSTM"]


class MinLSTM(Recurrence):
    """f_t = σ(W_f x_t + b_f), i_t = σ(W_i x_t + b_i), ĥ_t = W_h x_t + b_h, h_t = f'_t h_{t-1} + i'_t ĥ_t.

    The gates are normalised, f' = f / (f + i) and i' = i / (f + i), so that the state's scale does not depend on time.
    Where both are below the smallest number of their dtype, f' is 0.

    Args:
        input_size: features of x_t.
        hidden_size: width of the state, which is the output.
        positive_candidate: ĥ_t = g(W_h x_t + b_h) > 0, as in :class:`MinGRU`.
        bias: whether there are b_f, b_i and b_h.
        reverse: run from the last step to the first.
        backend: what runs the scan.
        time_mesh: the ranks on which its time lies, as :func:`retrograd.nn.shard_time` takes them.
        device: where the parameters lie.
        dtype: their floating dtype.

    Examples:
        >>> MinLSTM(3, 4)(torch.randn(2, 10, 3))[0].shape
        torch.Size([2, 10, 4])
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
        self.forget = Projection(input_size, hidden_size, bias, device, dtype)
        self.input = Projection(input_size, hidden_size, bias, device, dtype)
        self.candidate = Projection(input_size, hidden_size, bias, device, dtype)

    def run(self, x: Tensor, state: Tensor | None, along: Along) -> tuple[Tensor, Tensor]:
        """Return h_t and the last one."""
        f, i = torch.sigmoid(wide(self.forget(x))), torch.sigmoid(wide(self.input(x)))
        y, last = recomputed(self._states, along, (f, i, self.candidate(x), self.entering(x, state, along)))
        return y, last

    def _states(self, along: Along, f: Tensor, i: Tensor, candidate: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        keep = f / (f + i).add_(torch.finfo(f.dtype).tiny)  # f'_t
        candidate = wide(candidate)
        if self.positive_candidate:
            candidate = positive(candidate)
        # i' = 1 - f', and i' ĥ = ĥ - f' ĥ
        return along.scan(Diagonal(keep), torch.addcmul(candidate, keep, candidate, value=-1), state)
