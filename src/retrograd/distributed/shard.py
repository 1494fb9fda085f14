"""One rank's stretch of every sequence: which steps follow one another in it, and what crosses its borders.

The state that enters a row from the rank before, and the one that leaves it, is row ``row`` of a *border*,
``(batch, width)``. A view of some steps takes it as rows of h0 and of the final states:

    whole rows, with or without resets   h_0 enters at the first rank as its border, h_T leaves the last one
    lengths                              the same; a rank behind a row's end passes its border on
    cu_seqlens                           h0's rows enter, and final states arise, on the rank that holds that step; the
                                         border is that of the sequence that goes on, and stands behind h0's rows
"""

from __future__ import annotations

import torch
from torch import Tensor

from retrograd.core.segments import Segments
from retrograd.core.sequences import BACKWARD, FORWARD, Sequences, View
from retrograd.core.steps import check_borders

__all__ = ["Shard"]


class Shard:
    """The steps of one rank.

    Args:
        given: this rank's steps, with lengths and cu_seqlens that speak of all ranks' steps.
        offset: steps of the ranks before it.
        total: steps of all ranks.
        kind: the view that the backend takes.
        device: of the states.

    Attributes:
        rows: how many rows of h0 stand before the border's, 0 unless packed.
        count: rows of h0 and of the final states.
        lengths: how many of this rank's steps each row has; None: all.
        passes: bool ``(batch,)``: whether a state that enters has a part in the one that leaves; None: all do.
        closing: the packed sequence that enters from another rank and whose final state arises here, and depends on
            what enters; and its steps here. None: there is none.
        finals: bool ``(rows,)``: the packed sequences whose final states arise here.
    """

    def __init__(self, given: Sequences, offset: int, total: int, kind: str, device: torch.device) -> None:
        self.batch, self.time, self.reverse, self.offset, self.total = (
            given.batch, given.time, given.reverse, offset, total,
        )  # fmt: skip
        self._given, self._kind, self._device, self._reset = given, kind, device, given.reset
        lengths, cu_seqlens = given.lengths, given.cu_seqlens
        self.lengths = None if lengths is None else (lengths.cpu().to(torch.int64) - offset).clamp(0, self.time)
        self._begins: Tensor | None = None
        self.rows, self.count = 0, self.batch
        self.closing: tuple[int, slice] | None = None
        self.finals = torch.zeros(0, dtype=torch.bool)
        if cu_seqlens is not None:
            self._begins = begins = cu_seqlens.cpu().to(torch.int64) - offset
            self.rows = self.count = len(cu_seqlens) - 1
            self.finals, self.closing = self._ends(begins[:-1], begins[1:])
        self.empty = None if cu_seqlens is None else (cu_seqlens[1:] == cu_seqlens[:-1]).to(device)
        cuts = self._cuts()
        self.passes = None if cuts is None else (cuts[0] > self.time).to(device)
        self._cut = cuts

    @property
    def speaks_of_all(self) -> bool:
        """Whether lengths or borders of sequences count the steps of all ranks."""
        return self._given.kind != "whole"

    def placed(self, offset: int, total: int) -> Shard:
        """Return the shard of the same steps behind so many others."""
        return Shard(self._given, offset, total, self._kind, self._device)

    def check(self) -> None:
        """Raise ``ValueError`` where lengths or cu_seqlens are not of all ranks' steps."""
        check_borders(self.total, self._given.lengths, self._given.cu_seqlens)

    def place(self, backward: bool, known: bool) -> Tensor:
        """Return where these steps begin and end in the direction of a scan, and 1 where that is known, else 0."""
        begin, end = self.offset, self.offset + self.time
        if not self.speaks_of_all:
            begin = end = 0
        elif backward:
            begin, end = self.total - end, self.total - begin
        return torch.tensor([begin, end, known], dtype=torch.float64, device=self._device)

    def _ends(self, begins: Tensor, ends: Tensor) -> tuple[Tensor, tuple[int, slice] | None]:
        """Return ``finals`` and ``closing`` of packed sequences with these borders."""
        if self.reverse:
            finals, across = (begins >= 0) & (begins < self.time), ends > self.time
        else:
            finals, across = (ends > 0) & (ends <= self.time), begins < 0
        finals = finals & (ends > begins)
        found = (finals & across).nonzero().flatten().tolist()
        if not found:
            return finals, None
        at = slice(int(begins[found[0]]), self.time) if self.reverse else slice(0, int(ends[found[0]]))
        cut = self._reset is not None and bool(self._reset[:, at].any())
        return finals, None if cut else (found[0], at)

    def _cuts(self) -> tuple[Tensor, Tensor] | None:
        """Return the first and the last place, 0 to time, where what follows begins anew; ``time + 1``, -1: nowhere."""
        if self._begins is not None:
            at = self._begins[(self._begins >= 0) & (self._begins <= self.time)]
            found = torch.full((1, 2), self.time + 1)
            found[:, 1] = -1
            if len(at):
                found = torch.stack((at.min(), at.max())).view(1, 2)
        elif self._reset is None:
            return None
        else:
            found = torch.tensor([self.time + 1, -1]).repeat(self.batch, 1)
        if self._reset is not None and self.time:
            resets = self._reset.cpu()
            if self.lengths is not None:
                resets = resets & (torch.arange(self.time) < self.lengths.unsqueeze(1))
            number = resets.to(torch.int8)
            some = resets.any(1)
            after = 1 if self.reverse else 0  # the place behind the step, where time runs back
            first, last = number.argmax(1) + after, self.time - 1 - number.flip(1).argmax(1) + after
            found[:, 0] = torch.where(some, torch.minimum(found[:, 0], first), found[:, 0])
            found[:, 1] = torch.where(some, torch.maximum(found[:, 1], last), found[:, 1])
        return found[:, 0], found[:, 1]

    def reached(self, backward: bool, steps: int) -> int:
        """Return how many steps, from the border where a scan enters, its state may reach, at most ``steps``."""
        if backward and self.lengths is not None and bool(((self.lengths > 0) & (self.lengths < self.time)).any()):
            return self.time
        if self._cut is None:
            return steps
        first, last = self._cut
        farthest = int((self.time - last).max()) if backward else int(first.max())
        return min(steps, farthest, self.time)

    def view(self, at: slice) -> View:
        """Return the view of some steps; row b's border is row ``rows + b`` of h0 and of the final states."""
        steps = at.stop - at.start
        reset = None if self._reset is None else self._reset[:, at]
        if self._begins is None:
            if self.lengths is None and reset is None:
                return BACKWARD if self.reverse else FORWARD
            lengths = None if self.lengths is None else (self.lengths - at.start).clamp(0, steps)
            return Sequences(self.batch, steps, lengths, None, reset, self.reverse).view(self._kind, self._device)
        begins = self._begins - at.start
        within = Sequences(1, steps, None, begins.clamp(0, steps), reset, self.reverse).view("segments")
        assert isinstance(within, Segments)
        return self._opened(within, begins, steps)

    def _opened(self, within: Segments, begins: Tensor, steps: int) -> View:
        """Return the view whose sequences that go on beyond these steps enter and leave by the border."""
        table = within.table[within.table[:, 2] > within.table[:, 1]].clone()
        below, above = begins[:-1] < 0, begins[1:] > steps
        opened, closed = (above, below) if self.reverse else (below, above)
        for column, beyond in ((3, opened), (4, closed)):
            sequence = table[:, column]
            outside = (sequence >= 0) & beyond[sequence.clamp(min=0)]
            table[:, column] = torch.where(outside, self.rows, sequence)
        view = Segments(table, self.reverse)
        if self._kind == "segments":
            return view
        return view.steps(1, steps, self.rows + 1, self._device)

    def with_border(self, rows: Tensor, border: Tensor) -> Tensor:
        """Return what a view of this shard takes as h0 (of the adjoint: as g_final)."""
        return torch.cat((rows, border)) if self._begins is not None else border

    def previous(self, states: Tensor, h0: Tensor, border: Tensor) -> Tensor:
        """Return h_{t-1} for every step."""
        return self.view(slice(0, self.time)).previous(states, self.with_border(h0, border))
