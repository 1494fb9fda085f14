"""Two layers over the same sequences, one in each direction of time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from retrograd.nn.recurrence import Recurrence
from retrograd.nn.sharded import shard_time

__all__ = ["Bidirectional"]


class Bidirectional(nn.Module):
    """The outputs of a layer that runs forward, and of one that runs backward, side by side.

    A reset at step t begins a new sequence there, so that nothing passes between t - 1 and t in either direction.

    Args:
        make: makes a layer, given ``reverse=``.
        time_mesh: the ranks on which its time lies, as :func:`retrograd.nn.shard_time` takes them.

    Examples:
        >>> from retrograd.nn import MinGRU
        >>> layer = Bidirectional(lambda reverse: MinGRU(3, 4, reverse=reverse))
        >>> y, state = layer(torch.randn(2, 10, 3))
        >>> y.shape, state.shape
        (torch.Size([2, 10, 8]), torch.Size([2, 8]))
    """

    def __init__(self, make: Callable[[bool], Recurrence], *, time_mesh: Any = None) -> None:
        super().__init__()
        self.ahead, self.back = make(False), make(True)
        self.input_size = self.ahead.input_size
        self.output_size = 2 * self.ahead.output_size
        self.state_size = 2 * self.ahead.state_size
        shard_time(self, time_mesh)

    def forward(
        self,
        x: Tensor,
        state: Tensor | None = None,
        lengths: Tensor | None = None,
        reset: Tensor | None = None,
        cu_seqlens: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return both outputs, ``(batch, time, output_size)``, and both last states, ``(sequences, state_size)``.

        ``state`` holds the forward layer's before the first step and the backward layer's after the last one; the other
        arguments are those of :meth:`Recurrence.forward`.
        """
        first, after = (None, None) if state is None else state.chunk(2, -1)
        cut = None
        if reset is not None:
            if self.ahead.time_mesh is not None:
                raise ValueError("reset was given to a bidirectional layer whose time lies on ranks: use one direction")
            # before in time is after for the backward layer: step t - 1 is cut from a t that begins a sequence
            cut = torch.cat((reset[..., 1:], torch.zeros_like(reset[..., :1])), -1)
        y, last = self.ahead(x, first, lengths, reset, cu_seqlens)
        y_back, last_back = self.back(x, after, lengths, cut, cu_seqlens)
        return torch.cat((y, y_back), -1), torch.cat((last, last_back), -1)

    def step(self, x_t: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Raise: what a backward layer says of a step depends on all that follow."""
        raise ValueError("a bidirectional layer has no step: its output depends on later inputs; call it on sequences")
