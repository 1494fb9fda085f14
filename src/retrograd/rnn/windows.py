"""Truncated backpropagation through time, BPTT(k; s) (Williams, Peng 1990).

Every s steps, the losses of these s steps go back through the last k steps; on the state before those they are taken
not to depend. All windows that have come to their end run at once, as a batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from retrograd.core.backend import Backend
from retrograd.core.transition import Diagonal, Transition
from retrograd.rnn.online import Add, pieces

__all__ = ["Windows"]


class Windows:
    """The steps that are still needed, and which of their losses have gone back.

    Args:
        length: k, steps of a window.
        stride: s, steps whose losses go back together.
    """

    def __init__(self, length: int, stride: int) -> None:
        self._length, self._stride = length, stride
        self._past: tuple[Tensor, ...] = ()  # x_t, h_{t-1} and ∂ℓ_t/∂h_t
        self._begin = 0  # the first step of _past
        self._end = 0  # the step behind the last one
        self._taken = 0  # steps whose losses have gone back

    def take(self, A: Transition, x: Tensor, previous: Tensor, direct: Tensor, backend: Backend, add: Add) -> None:
        """Keep the next steps, and let the losses of all whole strides go back; as :meth:`Influence.take`."""
        new = (x, previous, direct)
        self._past = tuple(torch.cat(pair, 1) for pair in zip(self._past, new, strict=True)) if self._past else new
        self._end += x.shape[1]
        self._go_back(A, list(range(self._taken + self._stride, self._end + 1, self._stride)), backend, add)
        self._keep_from(self._taken + 1 - self._length)

    def flush(self, A: Transition, backend: Backend, add: Add) -> None:
        """Let the losses since the last whole stride go back now."""
        self._go_back(A, [self._end] if self._taken < self._end else [], backend, add)
        self._keep_from(self._end - self._length)

    def _keep_from(self, step: int) -> None:
        if step > self._begin:
            self._past = tuple(array[:, step - self._begin :] for array in self._past)
            self._begin = step

    def _go_back(self, A: Transition, ends: list[int], backend: Backend, add: Add) -> None:
        # Windows cut short by the beginning or by a flush come alone, the others many at a time.
        groups: dict[tuple[int, int], list[int]] = {}
        for end in ends:
            fresh, self._taken = end - self._taken, end
            groups.setdefault((min(self._length, end), fresh), []).append(end)
        for (length, fresh), of_group in groups.items():
            batch, _, width = self._past[1].shape
            for at in pieces(len(of_group), batch * length * max(width, self._past[0].shape[2])):
                self._run(A, length, fresh, of_group[at], backend, add)

    def _run(self, A: Transition, length: int, fresh: int, ends: Sequence[int], backend: Backend, add: Add) -> None:
        """Let the losses of the last ``fresh`` steps of every window go back through all of it."""
        # Windows of one length follow each other every ``fresh`` steps: their steps are made where the arrays are.
        device = self._past[0].device
        last = torch.arange(ends[0], ends[-1] + 1, fresh, device=device)
        steps = last[:, None] - self._begin + torch.arange(-length, 0, device=device)
        x, previous, direct = (array[:, steps].flatten(0, 1) for array in self._past)
        direct[:, : length - fresh] = 0
        delta, d_h0, _ = backend.adjoint(A, direct, torch.zeros_like(direct[:, 0]))
        if isinstance(A, Diagonal):
            add("weight_hh", (delta * previous.conj()).sum((0, 1)))
        else:
            add("weight_hh", backend.outer_sum(delta, previous))
        add("weight_ih", backend.outer_sum(delta, x))
        add("bias", delta.sum((0, 1)))
        if ends[0] == length:  # it reaches the first step
            add("h0", d_h0.view(-1, len(ends), d_h0.shape[1])[:, 0])
