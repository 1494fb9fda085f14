"""Sequences as a table of segments on the CPU: the view for backends that walk one segment after the other.

A table is int64 ``(segments, 5)``:

    row, begin, end     the steps [begin, end) of a row of u
    start               the row of h0 that stands before the segment's first step; -1: nothing does
    final               the row of the final states that is its last state; -1: it is nobody's

Steps in no segment are padding: their inputs are not read, their states and gradients are zero. Every sequence, also
an empty one, ends one segment, so that each final state has one source. With ``reverse`` a segment's first step is the
one at ``end - 1``.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from retrograd.core.backend import empty
from retrograd.core.dispatch import call, is_differentiated, is_watched, library
from retrograd.core.steps import ELSEWHERE, EMPTY, NEIGHBOUR, NOTHING, PADDING, Steps, check_borders

__all__ = ["Segments"]

_Integers = np.ndarray[Any, np.dtype[np.int64]]

library.define(
    "segments(SymInt batch, SymInt time, Tensor? lengths, Tensor? cu_seqlens, Tensor? reset, bool reverse) -> Tensor"
)
library.define(
    "steps_of(Tensor segments, SymInt batch, SymInt time, SymInt starts, bool reverse)"
    " -> (Tensor, Tensor, Tensor, Tensor)"
)
library.define("ends_of(Tensor segments, SymInt time, SymInt starts, bool reverse) -> Tensor")


class Segments:
    """Which steps of which row follow one another; see the head of the file."""

    kind: ClassVar[str] = "segments"

    def __init__(self, table: Tensor, reverse: bool) -> None:
        self.table, self.reverse = table, reverse

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What an operator is given of it."""
        return (self.table,)

    @classmethod
    def made_of(
        cls,
        batch: int,
        time: int,
        lengths: Tensor | None,
        cu_seqlens: Tensor | None,
        reset: Tensor | None,
        reverse: bool,
    ) -> Segments:
        """Return the view of sequences that :class:`retrograd.core.sequences.Sequences` checked.

        >>> Segments.made_of(1, 5, None, torch.tensor([0, 2, 5]), None, False).table
        tensor([[0, 0, 2, 0, 0],
                [0, 2, 5, 1, 1]])
        """
        given = tuple(x for x in (lengths, cu_seqlens, reset) if x is not None)
        return cls(call("segments", _segments, given, batch, time, lengths, cu_seqlens, reset, reverse), reverse)

    def steps(self, batch: int, time: int, starts: int, device: torch.device) -> Steps:
        """Return the same sequences as one number a step."""
        found = call("steps_of", _steps_of, (self.table,), self.table, batch, time, starts, self.reverse)
        return Steps([x.to(device) for x in found], self.reverse)

    def _steps_like(self, x: Tensor, h0: Tensor) -> Steps:
        return self.steps(x.shape[0], x.shape[1], h0.shape[0], x.device)

    def previous(self, states: Tensor, h0: Tensor) -> Tensor:
        """Return h_{t-1} for every t; 0 where nothing stands before."""
        if is_differentiated() or is_watched(states, h0):
            return self._steps_like(states, h0).previous(states, h0)
        # All moved on by one step, then mended where a segment begins.
        previous = empty(states.shape, states)
        torch.cat((states[:, 1:], states[:, :1]) if self.reverse else (states[:, -1:], states[:, :-1]), 1, out=previous)
        row, begin, end, start, _ = self.table[self.table[:, 2] > self.table[:, 1]].unbind(1)
        first, beyond = (end - 1, begin - 1) if self.reverse else (begin, end)
        inside = (beyond >= 0) & (beyond < states.shape[1])
        previous[row[inside], beyond[inside]] = 0  # padding is zero
        previous[:, -1 if self.reverse else 0] = 0
        previous[row, first] = 0
        enters = start >= 0
        previous[row[enters], first[enters]] = h0[start[enters]]
        return previous

    def following(self, x: Tensor, h0: Tensor) -> Tensor:
        """Return x_{t+1} for every t; 0 at a sequence's end and before a reset."""
        return self._steps_like(x, h0).following(x, h0)

    def first(self, x: Tensor, h0: Tensor) -> Tensor:
        """Return x at the step that each row of h0 enters; 0 where it enters none."""
        return self._steps_like(x, h0).first(x, h0)

    def last(self, states: Tensor, h0: Tensor) -> Tensor:
        """Return each sequence's last state; h0's row where the sequence is empty."""
        args = self.table, states.shape[1], h0.shape[0], self.reverse
        ends = call("ends_of", _ends_of, (self.table,), *args).to(states.device)
        nothing = ends[:0]
        return Steps((nothing, nothing, nothing, ends), self.reverse).last(states, h0)

    def repeat(self, size: int, place: int, batch: int, starts: int) -> Segments:
        """Return the view of a batch become ``size`` batches, the new dimension outside (place 0) or inside (1)."""
        copy = torch.arange(size).view(-1, 1)
        row, begin, end, start, final = self.table.unbind(1)

        def moved(x: Tensor, count: int) -> Tensor:
            return torch.where(x >= 0, x * size + copy if place else x + copy * count, x)

        columns = (
            moved(row, batch),
            begin.expand(size, -1),
            end.expand(size, -1),
            moved(start, starts),
            moved(final, starts),
        )
        return Segments(torch.stack([c.flatten() for c in columns], dim=1), self.reverse)

    def chunk(self, at: slice, starts: int, with_empty: bool) -> Segments:
        """Return the view of some steps.

        Row b's state that enters from the neighbouring chunk, or leaves to it, is in row ``starts + b``.
        """
        row, begin, end, start, final = self.table.numpy().T
        low, high = np.maximum(begin, at.start), np.minimum(end, at.stop)
        empty = begin == end
        cut_below, cut_above = (begin < at.start) & ~empty, (end > at.stop) & ~empty
        opened, closed = (cut_above, cut_below) if self.reverse else (cut_below, cut_above)
        table = np.stack(
            (
                row,
                low - at.start,
                high - at.start,
                np.where(opened, starts + row, start),
                np.where(closed, starts + row, final),
            ),
            axis=1,
        )
        table[empty, 1:3] = 0
        kept = np.ascontiguousarray(table[(empty & with_empty) | (low < high)])
        return Segments(torch.from_numpy(kept), self.reverse)


def _segments(
    batch: int, time: int, lengths: Tensor | None, cu_seqlens: Tensor | None, reset: Tensor | None, reverse: bool
) -> Tensor:
    lengths, cu_seqlens, reset = (None if x is None else x.cpu() for x in (lengths, cu_seqlens, reset))
    check_borders(time, lengths, cu_seqlens)
    if cu_seqlens is not None:
        borders = cu_seqlens.numpy().astype(np.int64)
        begins, ends = borders[:-1], borders[1:]
        rows: _Integers = np.zeros_like(begins)
    else:
        rows = np.arange(batch)
        begins = np.zeros_like(rows)
        ends = np.full_like(rows, time) if lengths is None else lengths.numpy().astype(np.int64)
    sequence = np.arange(len(rows))
    table = np.stack((rows, begins, ends, sequence, sequence), axis=1)
    if reset is not None and table.size:
        table = _cut(table, reset.numpy(), reverse)
    return torch.from_numpy(table)


def _cut(table: _Integers, reset: np.ndarray[Any, np.dtype[np.bool_]], reverse: bool) -> _Integers:
    """Return the sequences of ``table`` cut where ``reset`` says so."""
    time = reset.shape[1]
    holds = table[:, 2] > table[:, 1]
    whole, empty = table[holds], table[~holds]
    if not len(whole):
        return table
    # Steps of all rows in one line; every segment has one that stands first in it.
    begins, ends = whole[:, 0] * time + whole[:, 1], whole[:, 0] * time + whole[:, 2]
    at = reset.ravel().nonzero()[0]
    within = np.searchsorted(begins, at, side="right") - 1
    at = at[(within >= 0) & (at < ends[np.maximum(within, 0)])]
    first = np.unique(np.concatenate((ends - 1 if reverse else begins, at)))
    owner = np.searchsorted(begins, first, side="right") - 1
    same_as_next = owner[1:] == owner[:-1]
    if reverse:
        piece_begins, piece_ends = begins[owner], first + 1
        piece_begins[1:] = np.where(same_as_next, piece_ends[:-1], piece_begins[1:])
        starts, last = piece_ends == ends[owner], piece_begins == begins[owner]
    else:
        piece_begins, piece_ends = first, ends[owner]
        piece_ends[:-1] = np.where(same_as_next, first[1:], piece_ends[:-1])
        starts, last = piece_begins == begins[owner], piece_ends == ends[owner]
    starts &= ~reset.ravel()[first]
    rows, sequence = whole[owner, 0], whole[owner, 3]
    start, final = np.where(starts, sequence, -1), np.where(last, sequence, -1)
    pieces = np.stack((rows, piece_begins - rows * time, piece_ends - rows * time, start, final), axis=1)
    return np.concatenate((pieces, empty))


def _first_and_last(segments: Tensor, time: int, reverse: bool) -> tuple[_Integers, ...]:
    """Return where a segment's first and last steps lie, as row · time + step, whether it has any, start and final."""
    row, begin, end, start, final = segments.numpy().T
    first, last = (end - 1, begin) if reverse else (begin, end - 1)
    return row * time + first, row * time + last, end > begin, start, final


def _ends_of(segments: Tensor, time: int, starts: int, reverse: bool) -> Tensor:
    _, last, holds, _, final = _first_and_last(segments, time, reverse)
    ends = np.full(starts, ELSEWHERE, dtype=np.int64)
    ends[final[final >= 0]] = np.where(holds, last, EMPTY)[final >= 0]
    return torch.from_numpy(ends)


def _steps_of(
    segments: Tensor, batch: int, time: int, starts: int, reverse: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    first, last, holds, start, final = _first_and_last(segments, time, reverse)
    row, begin, end, _, _ = segments.numpy().T
    count = end - begin
    here = np.arange(count.sum()) + np.repeat(row * time + begin - (count.cumsum() - count), count)
    before = np.full(batch * time, PADDING, dtype=np.int32)
    before[here] = NEIGHBOUR
    after = before.copy()
    before[first[holds]] = np.where(start < 0, NOTHING, start)[holds]
    after[last[holds]] = np.where(final < 0, NOTHING, final)[holds]
    entered = np.full(starts, -1, dtype=np.int64)
    enters = holds & (start >= 0)
    entered[start[enters]] = first[enters]
    shape = (batch, time)
    steps = torch.from_numpy(before).view(shape), torch.from_numpy(after).view(shape)
    return *steps, torch.from_numpy(entered), _ends_of(segments, time, starts, reverse)


def _fake_segments(
    batch: int, time: int, lengths: Tensor | None, cu_seqlens: Tensor | None, reset: Tensor | None, reverse: bool
) -> Tensor:
    size = torch.library.get_ctx().new_dynamic_size() if reset is not None else batch
    if reset is None and cu_seqlens is not None:
        size = cu_seqlens.shape[0] - 1
    return torch.empty(size, 5, dtype=torch.int64)


def _fake_steps_of(
    segments: Tensor, batch: int, time: int, starts: int, reverse: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    one, few = torch.empty(batch, time, dtype=torch.int32), torch.empty(starts, dtype=torch.int64)
    return one, torch.empty_like(one), few, torch.empty_like(few)


def _fake_ends_of(segments: Tensor, time: int, starts: int, reverse: bool) -> Tensor:
    return torch.empty(starts, dtype=torch.int64)


for _name, _kernel, _fake in (
    ("segments", _segments, _fake_segments),
    ("steps_of", _steps_of, _fake_steps_of),
    ("ends_of", _ends_of, _fake_ends_of),
):
    library.impl(_name, _kernel, "CompositeExplicitAutograd")
    torch.library.register_fake(f"retrograd::{_name}", _fake, lib=library)
