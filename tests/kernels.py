"""A backend's kernels on plain arrays: (groups, steps, D) is diagonal, (groups, steps, H, H) dense."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor

import retrograd as rg
from retrograd import _native
from retrograd.core.backend import Backend
from retrograd.core.sequences import BACKWARD, FORWARD
from retrograd.core.transition import Transition


def transition(A: Tensor) -> Transition:
    return rg.Diagonal(A) if A.ndim == 3 else rg.Dense(A)


class Kernels:
    """Whole rows, forward or reverse."""

    def __init__(self, backend: Backend, transition: Callable[[Tensor], Transition] = transition) -> None:
        self.backend, self.transition = backend, transition

    def scan(self, A: Tensor, u: Tensor, h0: Tensor, reverse: bool) -> Tensor:
        return self.backend.scan(self.transition(A), u, h0, BACKWARD if reverse else FORWARD)

    def adjoint(
        self,
        A: Tensor,
        g: Tensor,
        g_final: Tensor,
        reverse: bool,
        states: Tensor | None = None,
        h0: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        view = BACKWARD if reverse else FORWARD
        delta, d_h0, d_A = self.backend.adjoint(self.transition(A), g, g_final, view, states, h0)
        return delta, d_h0, None if d_A is None else d_A[0]


@contextmanager
def isa(name: str) -> Iterator[None]:
    """Run on another instruction set."""
    before = _native.isa()
    _native.use_isa(name)
    try:
        yield
    finally:
        _native.use_isa(before)
