"""Planted bugs: each must turn a law of conformance.py red."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from retrograd.core.backend import BACKENDS
from retrograd.core.sequences import BACKWARD, FORWARD, Rows, View
from retrograd.core.steps import NEIGHBOUR, NOTHING, PADDING, Steps
from retrograd.core.transition import Transition


class Mutant:
    """The reference with one planted bug."""

    view = "steps"

    def __init__(self, bug: str) -> None:
        self.bug, self.true = bug, BACKENDS["reference"]

    def _seen(self, view: View) -> View:
        if isinstance(view, Rows):
            return view if self.bug != "wrong direction" else (FORWARD if view.reverse else BACKWARD)
        assert isinstance(view, Steps)
        before, after, starts, ends = (x.clone() for x in view.tensors)
        if self.bug == "a reset is ignored":
            before[before == NOTHING], after[after == NOTHING] = NEIGHBOUR, NEIGHBOUR
        if self.bug == "a reset cuts the gradient alone":
            before[before == NOTHING] = NEIGHBOUR
        if self.bug == "padding is read":
            before[before == PADDING], after[after == PADDING] = NEIGHBOUR, NEIGHBOUR
        if self.bug == "packed sequences run together":
            before[before > 0] = NEIGHBOUR
        if self.bug == "every sequence starts from the first state":
            before[before >= 0] = 0
        if self.bug == "an empty sequence's gradient is lost":
            ends[ends == -1] = -2
        return Steps((before, after, starts, ends), view.reverse)

    def scan(self, A: Transition, u: Tensor, h0: Tensor, view: View = FORWARD, out: Tensor | None = None) -> Tensor:
        if self.bug == "shift by one":
            u = u.roll(1, 1)
        if self.bug == "lost h0":
            h0 = torch.zeros_like(h0)
        return self.true.scan(A, u, h0, self._seen(view), None if self.bug == "memory is left as it was" else out)

    def adjoint(
        self,
        A: Transition,
        g: Tensor,
        g_final: Tensor,
        view: View = FORWARD,
        states: Tensor | None = None,
        h0: Tensor | None = None,
        out: tuple[Tensor | None, Sequence[Tensor] | None] = (None, None),
    ) -> Any:
        if self.bug == "dropped conjugate":
            A = A.of([x.conj() for x in A.arrays])
        if self.bug == "lost final gradient":
            g_final = torch.zeros_like(g_final)
        if self.bug == "state not shifted" and states is not None:
            h0 = states[:, 0]
        if self.bug == "memory of A's gradient is left as it was":
            out = (out[0], None)
        delta, d_h0, d_A = self.true.adjoint(A, g, g_final, self._seen(view), states, h0, out)
        return delta, torch.zeros_like(d_h0) if self.bug == "lost h0 gradient" else d_h0, d_A


BUGS: dict[str, list[str]] = {
    "rows": [
        "shift by one",
        "lost h0",
        "wrong direction",
        "dropped conjugate",
        "lost final gradient",
        "state not shifted",
        "lost h0 gradient",
    ],
    "reset": ["a reset is ignored", "a reset cuts the gradient alone"],
    "lengths": ["padding is read", "an empty sequence's gradient is lost"],
    "cu_seqlens": ["packed sequences run together", "every sequence starts from the first state"],
    "out": ["memory is left as it was", "memory of A's gradient is left as it was"],
}
