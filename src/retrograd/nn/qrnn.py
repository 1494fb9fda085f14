"""QRNN: gates from a window of inputs, and a pooling that is a linear recurrence.

Bradbury, Merity, Xiong, Socher, Quasi-Recurrent Neural Networks, 2017 (arXiv 1611.01576): its f-pooling,
fo-pooling and ifo-pooling.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from retrograd.core.transition import Diagonal
from retrograd.errors import require_choice, require_whole
from retrograd.nn.recompute import recomputed
from retrograd.nn.recurrence import Along, Projection, Recurrence, wide

__all__ = ["QRNN"]

# Gates of each pooling, beside the candidate z.
GATES = {"f": "f", "fo": "fo", "ifo": "ifo"}


class QRNN(Recurrence):
    """z_t = tanh(W_z * x), f_t = σ(W_f * x), o_t = σ(W_o * x) over the last ``window`` inputs, then a pooling.

    ``"f"``: h_t = f_t h_{t-1} + (1 - f_t) z_t. ``"fo"``: c_t = f_t c_{t-1} + (1 - f_t) z_t, h_t = o_t c_t.
    ``"ifo"``: c_t = f_t c_{t-1} + i_t z_t, h_t = o_t c_t.

    A window never reaches over a sequence's border; the inputs that the next call needs are part of the state, behind
    the pooled values: ``(hidden_size + (window - 1) * input_size)``.

    Args:
        input_size: features of x_t.
        hidden_size: width of the pooled state and of the output.
        window: inputs that a gate reads, x_t and those before.
        pooling: ``"f"``, ``"fo"`` or ``"ifo"``.
        reverse: run from the last step to the first.
        backend: what runs the scan.
        time_mesh: the ranks on which its time lies, as :func:`retrograd.nn.shard_time` takes them.
        device: where the parameters lie.
        dtype: their floating dtype.

    Raises:
        InputError: ``window`` is no whole number of at least 1, or ``pooling`` none of the three.

    Examples:
        >>> QRNN(3, 4)(torch.randn(2, 10, 3))[1].shape
        torch.Size([2, 7])
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        window: int = 2,
        pooling: str = "fo",
        reverse: bool = False,
        backend: str = "auto",
        time_mesh: Any = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.window = require_whole("window", window)
        require_choice("pooling", pooling, list(GATES))
        super().__init__(
            input_size, hidden_size, hidden_size + (self.window - 1) * input_size, reverse, backend, time_mesh
        )
        self.pooling, self.hidden_size = pooling, hidden_size
        for name in ("z", *pooling):
            # Of x_t first, then of x_{t-1}, ...; one bias for all.
            taps = [Projection(input_size, hidden_size, k == 0, device, dtype) for k in range(self.window)]
            setattr(self, name, nn.ModuleList(taps))

    def run(self, x: Tensor, state: Tensor | None, along: Along) -> tuple[Tensor, Tensor]:
        """Return h_t and the last state."""
        state = self.entering(x, state, along)
        c0, first = state[..., : self.hidden_size], state[..., self.hidden_size :]
        taps = [tap for name in ("z", *self.pooling) for tap in getattr(self, name)]
        weights = *(tap.weight for tap in taps), *(tap.bias for tap in taps if tap.bias is not None)
        made, read = recomputed(self._windows, along, (x, first), (), self._product, weights)
        h, last = recomputed(self._pooled, along, (made, c0))
        return h, torch.cat([last, read.to(last.dtype)], -1)

    def _product(self, *weights: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return the weights of z and of the gates, those of x_t and of the inputs before side by side; and biases."""
        gates = len(self.pooling) + 1
        taps, biases = weights[: gates * self.window], weights[gates * self.window :]
        sides = [torch.cat(taps[k * self.window : (k + 1) * self.window], 1) for k in range(gates)]
        return [(torch.cat(sides), torch.cat(biases))]

    def _windows(self, along: Along, x: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        """Return x_t, x_{t-1}, ... side by side, and of each sequence those that the next call needs."""
        inputs, kept = [x], [first[..., :0]]
        for entering in first.split(self.input_size, -1) if self.window > 1 else ():
            moved, last = along.before(inputs[-1], entering.to(x.dtype))
            inputs.append(moved)
            kept.append(last.to(first.dtype))
        return torch.cat(inputs, -1), torch.cat(kept, -1)

    def _pooled(self, along: Along, made: Tensor, c0: Tensor) -> tuple[Tensor, Tensor]:
        z, *values = wide(made).split(self.hidden_size, -1)
        z, gates = torch.tanh(z), dict(zip(self.pooling, map(torch.sigmoid, values), strict=True))
        drive = gates["i"] * z if "i" in gates else torch.addcmul(z, gates["f"], z, value=-1)  # i z, or (1 - f) z
        c, last = along.scan(Diagonal(gates["f"]), drive, c0)
        return gates["o"] * c if "o" in gates else c, last
