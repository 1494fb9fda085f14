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
from retrograd.distributed.exchange import prefix, summed, tell_failure
from retrograd.distributed.products import Scaled, forgetting, product, wide_dtype
from retrograd.distributed.ranks import Ranks
from retrograd.distributed.shard import Shard
from retrograd.distributed.sweep import Packed, Pass, Swept, sweep

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
        known: whether the shard lies where it says, as far as this rank can tell.
    """

    def __init__(self, ranks: Ranks, shard: Shard, backend: str, what: str, known: bool = True) -> None:
        self.ranks, self.shard, self.backend, self.what, self.known = ranks, shard, backend, what, known
        self._timeout = ranks.timeout
        self.first = ranks.rank == (ranks.size - 1 if shard.reverse else 0)
        self._product: tuple[Scaled | None, Scaled | None] | None = None
        self._forgets: int | None = None

    def scan(self, A: Transition, u: Tensor, h0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return (states, h_T, what entered this rank)."""
        found = self._scan(A, u, h0)
        if found is None:  # some rank was wrong about where it lies: each says how many steps it has
            self._place()
            found = self._scan(A, u, h0)
        assert found is not None
        if self.shard.speaks_of_all:
            self.ranks.place = self.shard.time, self.shard.offset, self.shard.total
            self.shard.check()
        return found

    def _scan(self, A: Transition, u: Tensor, h0: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
        shard, kernels = self.shard, BACKENDS[self.backend]
        states = kernels.empty(u.shape, u)
        scratch = self._scratch(u, A.structure)
        finals: dict[int, Tensor] = {}

        def run(at: slice, entering: Tensor, out: Tensor | None = None) -> Tensor:
            if at.start == at.stop or not u.numel():
                return entering
            view, before = shard.view(at), shard.with_border(h0, entering)
            made = kernels.scan(A.at(at), u[:, at], before, view, states[:, at] if out is None else out)
            last = view.last(made, before)
            if shard.rows:
                finals[at.start] = last[: shard.rows]
            return last[shard.rows :]

        def end(at: slice, entering: Tensor) -> Tensor:
            for piece in _pieces(at, scratch.shape[1], shard.reverse):
                entering = run(piece, entering, scratch[:, : piece.stop - piece.start])
            return entering

        def packed() -> Packed:
            return self._packed(A, h0, sum(finals.values(), torch.zeros_like(h0)), adjoint=False)

        start = h0 if self.first and not shard.rows else u.new_zeros(shard.batch, u.shape[2])
        swept = self._sweep(A, shard.reverse, run, end, start, packed)
        if swept is None:
            return None
        final = swept.final
        if shard.rows:
            final = self._finals(states, h0, swept.entering) if swept.finals is None else swept.finals
            assert shard.empty is not None
            final = torch.where(shard.empty.unsqueeze(1), h0, final)
        return states, final, swept.entering

    def _place(self) -> None:
        """Find out where this rank lies."""
        before, together = prefix(self.ranks, f"{self.what}, its number of steps", [float(self.shard.time)])
        self.shard, self.known, self._product = self.shard.placed(int(before[0]), int(together[0])), True, None
        self.shard.check()

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
        into = [g_final]  # the final states: at first by this rank alone

        def run(at: slice, entering: Tensor, out: Tensor | None = None) -> Tensor:
            leaving = entering
            if at.start != at.stop and g.numel():
                view, after = shard.view(at), shard.with_border(into[0], entering)
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

        def packed() -> Packed:
            return self._packed(A, g_final, g_final, adjoint=True)

        def take(sent: Tensor) -> bool:
            differs = (sent != g_final).any(1)
            into[0] = sent
            return bool((differs.cpu() & shard.finals).any())

        start = g_final.new_zeros(shard.batch, g.shape[2]) if shard.rows else g_final
        swept = self._sweep(A, backward, run, end, start, packed, take if shard.rows else None)
        assert swept is not None
        final = swept.final
        d_h0 = parts.d_h0() if shard.rows else final if self.first else torch.zeros_like(final)
        if shard.empty is not None and self.first:  # an empty sequence's last state is its h_0
            d_h0 = torch.where(shard.empty.unsqueeze(1), into[0], d_h0)
        return delta, d_h0, parts.d_A() if saved is not None else None

    def _sweep(
        self,
        A: Transition,
        backward: bool,
        run: _Steps,
        end: _Steps,
        start: Tensor,
        packed: Callable[[], Packed],
        take: Callable[[Tensor], bool] | None = None,
    ) -> Swept | None:
        self.ranks.timeout = self._timeout  # other operations may have run since
        shard, adjoint = self.shard, backward != self.shard.reverse
        rows = A.groups if shard.lengths is None else shard.batch
        what = f"{self.what}, {'its gradient' if adjoint else 'its states'}"
        near, P = shard.time, None
        if self.ranks.size > 1 and self.known:
            try:
                near, P = self._ahead(A, rows, backward, start)
            except Exception as error:
                tell_failure(self.ranks, what, error, backward)
                raise
            P = P.adjoint() if adjoint and P is not None else P

        def terms(at: slice, leaving: Tensor) -> Tensor:
            last = slice(at.start, at.start + 1) if backward else slice(at.stop - 1, at.stop)
            sizes, size = A.of([x.abs() for x in A.at(last).arrays]), leaving.abs().unsqueeze(1)
            return (size + (sizes.adjoint_act(size) if adjoint else sizes.act(size))).squeeze(1)

        place, told = shard.place(backward, self.known), packed if shard.rows else None
        one = Pass(what, backward, P, near, end, run, terms, place, told, take)
        return sweep(self.ranks, shard, one, start, rows, A.structure)

    def _ahead(self, A: Transition, rows: int, backward: bool, start: Tensor) -> tuple[int, Scaled | None]:
        """Return how many steps what enters may reach, and P."""
        time = self.shard.time
        if self._product is None:
            self._product = self._products_of(A, rows, start)
        if self._forgets is None or not A.invariant:  # else the same from either end
            self._forgets = forgetting(A, time, backward) if start.numel() else 0
        near = self.shard.reached(backward, self._forgets) if start.numel() else 0
        near = min(time, max(near, 1))
        return near if 2 * near <= time else time, self._product[0]

    def _packed(self, A: Transition, like: Tensor, rows: Tensor, adjoint: bool) -> Packed:
        """Return what this rank tells of packed sequences: ``rows`` of final states, or of what goes into them."""
        wide, shard = wide_dtype(like.dtype), self.shard
        rows, row = rows.to(wide, copy=True), -1
        through, local = Scaled.identity(A.structure, 1, A.width, like), rows.new_zeros(1, like.shape[1])
        if shard.closing is not None and self._product is not None:
            row, local = shard.closing[0], rows[shard.closing[0]].unsqueeze(0).clone()
            through = self._product[1] or through
            through = through.adjoint() if adjoint else through
            if not adjoint:
                rows[row] = 0
        return Packed(through, rows.new_full((1,), row, dtype=torch.float64), local, rows)

    def _products_of(self, A: Transition, rows: int, start: Tensor) -> tuple[Scaled | None, Scaled | None]:
        """Return P and Q, which the scan and its adjoint share; P is None where either is of no use."""
        shard, steps = self.shard, slice(0, self.shard.time)
        nothing = Scaled.identity(A.structure, rows, A.width, start)
        if not shard.time or not start.numel():
            return nothing, nothing
        cost = shard.batch * self.ranks.size
        through: Scaled | None = nothing
        if shard.closing is not None:
            at = shard.closing[1]
            through = product(A.at(at), at.stop - at.start, rows, None, shard.reverse, self.backend, cost)
        if shard.passes is not None and not bool(shard.passes.any()):
            return nothing if through is not None else None, through
        if through is None:
            return None, None
        P = product(A.at(steps), shard.time, rows, shard.lengths, shard.reverse, self.backend, cost)
        return P, through

    def _finals(self, states: Tensor, h0: Tensor, entering: Tensor) -> Tensor:
        """Return every packed sequence's last state, which the rank that holds it tells the others."""
        shard = self.shard
        here = torch.zeros_like(h0)
        if shard.time and states.numel():
            view = shard.view(slice(0, shard.time))
            here = view.last(states, shard.with_border(h0, entering))[: shard.rows]
        return summed(self.ranks, f"{self.what}, final states", here)

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
