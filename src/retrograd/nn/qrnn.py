"""QRNN: gates from a window of inputs, and a pooling that is a linear recurrence.

Bradbury, Merity, Xiong, Socher, Quasi-Recurrent Neural Networks, 2017 (arXiv 1611.01576), section 2,
equations (1) to (5).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from retrograd.core.transition import Diagonal
from retrograd.errors import require_choice, require_whole
from retrograd.nn.recurrence import Along, Projection, Recurrence, wide

__all__ = ["QRNN"]

# Gates of each pooling, beside the candidate z.
GATES = {"f": "f", "fo": "fo", "ifo": "ifo"}


class QRNN(Recurrence):
    """z_t = tanh(W_z * x), f_t = σ(W_f * x), o_t = σ(W_o * x) over the last ``window`` inputs (1), then a pooling.

    ``"f"`` (3): h_t = f_t h_{t-1} + (1 - f_t) z_t. ``"fo"`` (4): c_t = f_t c_{t-1} + (1 - f_t) z_t, h_t = o_t c_t.
    ``"ifo"`` (5): c_t = f_t c_{t-1} + i_t z_t, h_t = o_t c_t.

    A window never reaches over a sequence's border; the inputs that the next call needs are part of the state, behind
    the pooled values: ``(hidden_size + (window - 1) * input_size)``.

    Args:
        input_size: features of x_t.
        hidden_size: width of the pooled state and of the output.
        window: inputs that a gate reads, x_t and those before.
        pooling: ``"f"``, ``"fo"`` or ``"ifo"``.
        reverse: run from the last step to the first.
        backend: what runs the scan.
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
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.window = require_whole("window", window)
        require_choice("pooling", pooling, list(GATES))
        super().__init__(input_size, hidden_size, hidden_size + (self.window - 1) * input_size, reverse, backend)
        self.pooling, self.hidden_size = pooling, hidden_size
        for name in ("z", *pooling):
            # Of x_t first, then of x_{t-1}, ...; one bias for all.
            taps = [Projection(input_size, hidden_size, k == 0, device, dtype) for k in range(self.window)]
            setattr(self, name, nn.ModuleList(taps))

    def run(self, x: Tensor, state: Tensor | None, along: Along) -> tuple[Tensor, Tensor]:
        """Return h_t and the last state."""
        if state is None:
            rows = x.shape[:-2] if along.cu_seqlens is None else (len(along.cu_seqlens) - 1,)
            state = self.initial_state(x, rows[0] if rows else None)
        c0, *first = torch.split(state, [self.hidden_size, *[self.input_size] * (self.window - 1)], -1)
        inputs, kept = [x], []  # x_t, x_{t-1}, ...
        for entering in first:
            moved, last = along.before(inputs[-1], entering.to(x.dtype))
            inputs.append(moved)
            kept.append(last)
        z = torch.tanh(self._convolved("z", inputs))
        f = torch.sigmoid(self._convolved("f", inputs))
        if "i" in self.pooling:
            drive = torch.sigmoid(self._convolved("i", inputs)) * z  # (5)
        else:
            drive = torch.addcmul(z, f, z, value=-1)  # (1 - f) z
        c, last = along.scan(Diagonal(f), drive, c0)
        h = torch.sigmoid(self._convolved("o", inputs)) * c if "o" in self.pooling else c  # (4)
        return h, torch.cat([last, *[x.to(last.dtype) for x in kept]], -1)

    def _convolved(self, name: str, inputs: list[Tensor]) -> Tensor:
        taps = [tap(x) for tap, x in zip(getattr(self, name), inputs, strict=True)]
        return wide(sum(taps[1:], taps[0]))
