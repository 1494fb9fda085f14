"""The two kernels of a scan over all ranks, which are each other's adjoint, and no autograd.

    S     u, h_0                        ->  states, h_T on every rank, what entered this rank
    S*    g, Σ g_final, g_entering      ->  δ, ∂L/∂h_0 on the rank where h_0 enters, else 0

Every rank has its own loss, and L is their sum: so ∂L/∂h_T is the sum of what the ranks send into it. ``g_entering`` is
sent into the state that entered a rank, and joins what leaves it for the rank before.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from retrograd.core.backend import BACKENDS, Backend
from retrograd.core.transition import Transition
from retrograd.distributed.exchange import summed
from retrograd.distributed.products import Scaled, forgetting, product
from retrograd.distributed.ranks import Ranks
from retrograd.distributed.shard import Shard
from retrograd.distributed.sweep import Pass, sweep

__all__ = ["Sharded"]

_Steps = Callable[[slice, Tensor], Tensor]
# Bytes of states that are made for their end alone: they stay in the cache. Of dense ones more, as a call has its own
# powers to make.
_SCRATCH, _DENSE_SCRATCH = 1 << 21, 1 << 24


class Sharded:
    """A scan over all ranks, as one of them sees it.

    Args:
        ranks: the ranks.
        shard: this rank's steps.
        backend: what runs them.
        what: a name for messages.
    """

    def __init__(self, ranks: Ranks, shard: Shard, backend: str, what: str) -> None:
        self.ranks, self.shard, self.backend, self.what = ranks, shard, backend, what
        self.first = ranks.rank == (ranks.size - 1 if shard.reverse else 0)
        self._product: tuple[Scaled | None] | None = None

    def scan(self, A: Transition, u: Tensor, h0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return (states, h_T, what entered this rank)."""
        shard, kernels = self.shard, BACKENDS[self.backend]
        states = kernels.empty(u.shape, u)
        scratch = self._scratch(u, A.structure)

        def run(at: slice, entering: Tensor, out: Tensor | None = None) -> Tensor:
            if at.start == at.stop or not u.numel():
                return entering
            view, before = shard.view(at), shard.with_border(h0, entering)
            made = kernels.scan(A.at(at), u[:, at], before, view, states[:, at] if out is None else out)
            return view.last(made, before)[shard.rows :]

        def end(at: slice, entering: Tensor) -> Tensor:
            for piece in _pieces(at, scratch.shape[1], shard.reverse):
                entering = run(piece, entering, scratch[:, : piece.stop - piece.start])
            return entering

        start = h0 if self.first and not shard.rows else u.new_zeros(shard.batch, u.shape[2])
        entering, final = self._sweep(A, shard.reverse, run, end, start)
        if shard.rows:
            final = self._final_of_packed(states, h0, entering)
        return states, final, entering

    def adjoint(
        self,
        A: Transition,
        g: Tensor,
        g_final: Tensor,
        g_entering: Tensor | None = None,
        saved: tuple[Tensor, Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...] | None]:
        """Return (δ, ∂L/∂h_0, ∂L/∂A); the last, in normal form, where states, h_0 and what entered are given."""
        shard, kernels = self.shard, BACKENDS[self.backend]
        delta, scratch = kernels.empty(g.shape, g), self._scratch(g, A.structure)
        parts = _Parts(A, g_final, kernels)
        backward = not shard.reverse
        if shard.rows:
            g_final = summed(self.ranks, f"{self.what}, gradients of final states", g_final)

        def run(at: slice, entering: Tensor, out: Tensor | None = None) -> Tensor:
            leaving = entering
            if at.start != at.stop and g.numel():
                view, after = shard.view(at), shard.with_border(g_final, entering)
                known: tuple[Tensor | None, Tensor | None] = (None, None)
                memory: tuple[Tensor, list[Tensor] | None] = (delta[:, at] if out is None else out, None)
                if saved is not None and out is None:
                    known, memory = self._before(at, *saved), (memory[0], parts.memory(at))
                _, d_h0, d_A = kernels.adjoint(A.at(at), g[:, at], after, view, *known, memory)
                leaving = d_h0[shard.rows :]
                if out is None:
                    parts.keep(at, d_h0[: shard.rows], d_A)
            exits = at.start == 0 if backward else at.stop == shard.time
            return leaving + g_entering if exits and g_entering is not None else leaving

        def end(at: slice, entering: Tensor) -> Tensor:
            for piece in _pieces(at, scratch.shape[1], backward):
                entering = run(piece, entering, scratch[:, : piece.stop - piece.start])
            return entering

        start = g_final.new_zeros(shard.batch, g.shape[2]) if shard.rows else g_final
        _, final = self._sweep(A, backward, run, end, start)
        d_h0 = parts.d_h0() if shard.rows else final if self.first else torch.zeros_like(final)
        if shard.empty is not None and self.first:  # an empty sequence's last state is its h_0
            d_h0 = torch.where(shard.empty.unsqueeze(1), g_final, d_h0)
        return delta, d_h0, parts.d_A() if saved is not None else None

    def _sweep(self, A: Transition, backward: bool, run: _Steps, end: _Steps, start: Tensor) -> tuple[Tensor, Tensor]:
        shard, adjoint = self.shard, backward != self.shard.reverse
        rows = A.groups if shard.lengths is None else shard.batch
        near, P = shard.time, None
        if self.ranks.size > 1:
            if self._product is None:
                self._product = (self._product_of(A, rows, start),)
            P = self._product[0]
            near = shard.reached(backward, forgetting(A, shard.time, backward)) if start.numel() else 0
            near = min(shard.time, max(near, 1))
            near = near if 2 * near <= shard.time else shard.time
            P = P.adjoint() if adjoint and P is not None else P
        what = f"{self.what}, {'its gradient' if adjoint else 'its states'}"

        def terms(at: slice, leaving: Tensor) -> Tensor:
            last = slice(at.start, at.start + 1) if backward else slice(at.stop - 1, at.stop)
            sizes, size = A.of([x.abs() for x in A.at(last).arrays]), leaving.abs().unsqueeze(1)
            return (size + (sizes.adjoint_act(size) if adjoint else sizes.act(size))).squeeze(1)

        return sweep(self.ranks, shard, Pass(what, backward, P, near, end, run, terms), start, rows, A.structure)

    def _product_of(self, A: Transition, rows: int, start: Tensor) -> Scaled | None:
        """Return P, which the scan and its adjoint share."""
        shard = self.shard
        if not shard.time or not start.numel():
            return Scaled.identity(A.structure, rows, A.width, start)
        cost = shard.batch * self.ranks.size
        return product(A, shard.time, rows, shard.lengths, shard.reverse, self.backend, cost)

    def _final_of_packed(self, states: Tensor, h0: Tensor, entering: Tensor) -> Tensor:
        """Return every sequence's last state, which the rank that holds it tells the others."""
        shard = self.shard
        here = torch.zeros_like(h0)
        if shard.time and states.numel():
            view = shard.view(slice(0, shard.time))
            here = view.last(states, shard.with_border(h0, entering))[: shard.rows]
        final = summed(self.ranks, f"{self.what}, final states", here)
        assert shard.empty is not None
        return torch.where(shard.empty.unsqueeze(1), h0, final)

    def _scratch(self, x: Tensor, structure: str) -> Tensor:
        """Return memory for states of which the last one alone is wanted."""
        step = max(1, x.shape[0] * x.shape[2] * x.element_size())
        steps = max(1, min(self.shard.time, (_SCRATCH if structure == "diagonal" else _DENSE_SCRATCH) // step))
        return BACKENDS[self.backend].empty((x.shape[0], steps, x.shape[2]), x)

    def _before(self, at: slice, states: Tensor, h0: Tensor, entering: Tensor) -> tuple[Tensor, Tensor]:
        """Return the states of some steps, and what stands before the first of them."""
        border = at.stop if self.shard.reverse else at.start - 1
        before = states[:, border] if 0 <= border < self.shard.time else entering
        return states[:, at], self.shard.with_border(h0, before)


class _Parts:
    """The gradients that parts of the steps have made: of a part that runs again, the latest."""

    def __init__(self, A: Transition, g_final: Tensor, kernels: Backend) -> None:
        self._arrays = A.arrays
        # Of a time-varying array each step has its own gradient, which a part writes; of the others it is a sum.
        self._whole = [
            torch.zeros_like(x) if x.shape[1] == 1 or not g_final.numel() else kernels.empty(x.shape, x)
            for x in self._arrays
        ]
        self._nothing = torch.zeros_like(g_final)
        self._found: dict[int, tuple[Tensor, tuple[Tensor, ...] | None]] = {}

    def memory(self, at: slice) -> list[Tensor]:
        """Return memory for the gradient of A at some steps."""
        return [
            torch.empty_like(x) if x.shape[1] == 1 else whole[:, at]
            for x, whole in zip(self._arrays, self._whole, strict=True)
        ]

    def keep(self, at: slice, d_h0: Tensor, d_A: tuple[Tensor, ...] | None) -> None:
        """Keep what a part has made."""
        self._found[at.start] = d_h0, d_A

    def d_h0(self) -> Tensor:
        """Return the gradient of h0's rows that enter here."""
        return sum((self._found[at][0] for at in sorted(self._found)), self._nothing)

    def d_A(self) -> tuple[Tensor, ...]:
        """Return the gradient of A, in normal form."""
        for at in sorted(self._found):
            for whole, part in zip(self._whole, self._found[at][1] or (), strict=True):
                if whole.shape[1] == 1:
                    whole += part
        return tuple(self._whole)


def _pieces(at: slice, steps: int, backward: bool) -> list[slice]:
    """Return a slice in pieces of so many steps, as they are run."""
    pieces = [slice(begin, min(begin + steps, at.stop)) for begin in range(at.start, at.stop, steps)]
    return pieces[::-1] if backward else pieces
