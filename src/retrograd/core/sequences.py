"""Kinds of sequence as one: which steps of which row follow one another.

``lengths``, ``cu_seqlens`` and ``reset`` all become a table of segments, int64 ``(segments, 5)`` on the CPU:

    row, begin, end     the steps [begin, end) of a row of u
    start               the row of h0 that stands before the segment's first step; -1: nothing does
    final               the row of the final states that is its last state; -1: it is nobody's

Steps in no segment are padding: their inputs are not read, their states and gradients are zero. Every sequence, also
an empty one, ends one segment, so that each final state has one source. With ``reverse`` a segment's first step is the
one at ``end - 1``.

What autograd needs of a table are indices into rows of states. To a tracer, making either is one operator.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from retrograd.backends.pool import empty
from retrograd.core.operators import call, library
from retrograd.errors import require_shape

__all__ = ["gather_states", "previous_states", "repeat_segments", "segments_of"]

_Integers = np.ndarray[Any, np.dtype[np.int64]]
_INTEGERS = (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64)

library.define(
    "segments(int batch, int time, Tensor? lengths, Tensor? cu_seqlens, Tensor? reset, bool reverse) -> Tensor"
)
library.define("segment_index(Tensor segments, str which, int batch, int time, int starts, bool reverse) -> Tensor")


def segments_of(
    batch: int,
    time: int,
    lengths: Tensor | None,
    cu_seqlens: Tensor | None,
    reset: Tensor | None,
    reverse: bool,
) -> Tensor:
    """Return the table of segments of sequences that are padded, packed or cut.

    Args:
        batch: rows of u.
        time: steps of u.
        lengths: integers ``(batch,)`` from 0 to ``time``: row b's sequence is its first ``lengths[b]`` steps.
        cu_seqlens: integers ``(N + 1,)`` from 0 to ``time`` that never decrease, for batch 1: sequence i is the steps
            ``[cu_seqlens[i], cu_seqlens[i + 1])``.
        reset: bool ``(batch, time)``: at a true step the state before does not enter.
        reverse: the direction of the scan.

    Raises:
        TypeError: a dtype is not the one named.
        ValueError: a shape or a value is not, or lengths and cu_seqlens are both given.

    Examples:
        >>> segments_of(1, 5, None, torch.tensor([0, 2, 5]), None, False)
        tensor([[0, 0, 2, 0, 0],
                [0, 2, 5, 1, 1]])
    """
    if lengths is not None and cu_seqlens is not None:
        raise ValueError("lengths and cu_seqlens were both given: a batch is either padded or packed")
    for name, array in (("lengths", lengths), ("cu_seqlens", cu_seqlens)):
        if array is not None and (not isinstance(array, Tensor) or array.dtype not in _INTEGERS):
            raise TypeError(f"{name} is {getattr(array, 'dtype', type(array).__name__)}, expected an integer tensor")
    if reset is not None and (not isinstance(reset, Tensor) or reset.dtype != torch.bool):
        raise TypeError(f"reset is {getattr(reset, 'dtype', type(reset).__name__)}, expected a bool tensor")
    if lengths is not None:
        require_shape("lengths", lengths, ("batch",), (batch,))
    if cu_seqlens is not None:
        if batch != 1:
            raise ValueError(f"cu_seqlens was given with batch {batch}: packed sequences lie in one row, batch 1")
        if cu_seqlens.ndim != 1 or cu_seqlens.shape[0] == 0:
            raise ValueError(f"cu_seqlens has shape {tuple(cu_seqlens.shape)}, expected (sequences + 1,)")
    if reset is not None:
        require_shape("reset", reset, ("batch", "time"), (batch, time))
    table: Tensor = call("segments", _segments, batch, time, lengths, cu_seqlens, reset, reverse)
    return table


def _segments(
    batch: int, time: int, lengths: Tensor | None, cu_seqlens: Tensor | None, reset: Tensor | None, reverse: bool
) -> Tensor:
    if cu_seqlens is not None:
        borders = cu_seqlens.cpu().numpy().astype(np.int64)
        if borders[0] != 0 or borders[-1] != time:
            raise ValueError(
                f"cu_seqlens runs from {borders[0]} to {borders[-1]}, expected from 0 to u's time = {time}"
            )
        begins, ends = borders[:-1], borders[1:]
        falls = (ends < begins).nonzero()[0]
        if len(falls):
            i = falls[0]
            raise ValueError(f"cu_seqlens falls from {begins[i]} to {ends[i]} at {i + 1}: it must not decrease")
        rows: _Integers = np.zeros_like(begins)
    else:
        rows = np.arange(batch)
        begins = np.zeros_like(rows)
        ends = np.full_like(rows, time) if lengths is None else lengths.cpu().numpy().astype(np.int64)
        wrong = ((ends < 0) | (ends > time)).nonzero()[0]
        if len(wrong):
            i = wrong[0]
            raise ValueError(f"lengths[{i}] is {ends[i]}, expected 0 to u's time = {time}")
    sequence = np.arange(len(rows))
    table = np.stack((rows, begins, ends, sequence, sequence), axis=1)
    if reset is not None and table.size:
        table = _cut(table, reset.cpu().numpy(), reverse)
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


def _segment_index(segments: Tensor, which: str, batch: int, time: int, starts: int, reverse: bool) -> Tensor:
    """Return indices of rows, 0 being a row of zeros and 1 + b time + t step t of row b.

    previous: ``(batch, time)``, the step before, 1 + batch time + n for h0's row n;  next: ``(batch, time)``, the step
    after;  first: ``(starts,)``, the step after h0's row;  last: ``(starts,)``, the final state, or h0's row.
    """
    row, begin, end, start, final = segments.numpy().T
    h0 = 1 + batch * time
    first = 1 + row * time + (end - 1 if reverse else begin)
    last = 1 + row * time + (begin if reverse else end - 1)
    if which in ("first", "last"):
        index = np.zeros(starts, dtype=np.int64)
        key = start if which == "first" else final
        value = np.where(end > begin, first, 0) if which == "first" else np.where(end > begin, last, h0 + start)
        index[key[key >= 0]] = value[key >= 0]
        return torch.from_numpy(index)
    count = end - begin
    owner = np.repeat(np.arange(len(count)), count)
    here = 1 + np.arange(len(owner)) + (row * time + begin - (count.cumsum() - count))[owner]
    step = 1 if reverse == (which == "previous") else -1
    border, beyond = (
        (first, np.where(start >= 0, h0 + start, 0)) if which == "previous" else (last, np.zeros_like(last))
    )
    index = np.zeros(batch * time, dtype=np.int64)
    index[here - 1] = np.where(here == border[owner], beyond[owner], here + step)
    return torch.from_numpy(index).view(batch, time)


def _fake_segments(
    batch: int, time: int, lengths: Tensor | None, cu_seqlens: Tensor | None, reset: Tensor | None, reverse: bool
) -> Tensor:
    size = torch.library.get_ctx().new_dynamic_size() if reset is not None else batch
    if reset is None and cu_seqlens is not None:
        size = cu_seqlens.shape[0] - 1
    return torch.empty(size, 5, dtype=torch.int64)


def _fake_index(segments: Tensor, which: str, batch: int, time: int, starts: int, reverse: bool) -> Tensor:
    shape = (starts,) if which in ("first", "last") else (batch, time)
    return torch.empty(shape, dtype=torch.int64)


library.impl("segments", _segments, "CompositeExplicitAutograd")
library.impl("segment_index", _segment_index, "CompositeExplicitAutograd")
torch.library.register_fake("retrograd::segments", _fake_segments, lib=library)
torch.library.register_fake("retrograd::segment_index", _fake_index, lib=library)


def gather_states(states: Tensor, segments: Tensor, which: str, reverse: bool, h0: Tensor) -> Tensor:
    """Return the rows that ``which`` names (:func:`_segment_index`), of states ``(batch, time, width)`` and h0."""
    batch, time, width = states.shape
    index = call("segment_index", _segment_index, segments, which, batch, time, h0.shape[0], reverse)
    index = index.to(states.device)
    if which in ("first", "last"):  # a few rows: no copy of all states
        from_states = states.reshape(-1, width).index_select(0, (index - 1).clamp(0, batch * time - 1))
        from_h0 = h0.index_select(0, (index - 1 - batch * time).clamp(min=0))
        index = index.unsqueeze(1)
        return torch.where(index > batch * time, from_h0, torch.where(index > 0, from_states, 0))
    rows = torch.cat((states.new_zeros(1, width), states.reshape(-1, width), h0))
    return rows.index_select(0, index.flatten().to(states.device)).view(*index.shape, width)


def previous_states(states: Tensor, h0: Tensor, reverse: bool, segments: Tensor | None = None) -> Tensor:
    """Return h_{t-1} for every t: the states moved on by one step, h_0 entering first."""
    watched = torch.is_grad_enabled() or torch.compiler.is_compiling()
    if segments is not None and watched:
        return gather_states(states, segments, "previous", reverse, h0)
    first = h0.unsqueeze(1) if segments is None else states.new_zeros(states.shape[0], 1, states.shape[2])
    parts = (states[:, 1:], first) if reverse else (first, states[:, :-1])
    if watched:
        return torch.cat(parts, dim=1)
    previous = torch.cat(parts, dim=1, out=empty(states.shape, states))
    if segments is not None:
        row, begin, end, start, _ = segments[segments[:, 2] > segments[:, 1]].to(states.device).unbind(1)
        first_step, beyond = (end - 1, begin - 1) if reverse else (begin, end)
        inside = (beyond >= 0) & (beyond < states.shape[1])
        previous[row[inside], beyond[inside]] = 0
        previous[row, first_step] = 0
        enters = start >= 0
        previous[row[enters], first_step[enters]] = h0[start[enters]]
    return previous


def repeat_segments(segments: Tensor, size: int, place: int, batch: int, starts: int) -> Tensor:
    """Return the table for a batch become ``size`` batches, the new dimension outside (place 0) or inside (1)."""
    copy = torch.arange(size).view(-1, 1)
    row, begin, end, start, final = segments.unbind(1)

    def moved(x: Tensor, count: int) -> Tensor:
        return torch.where(x >= 0, x * size + copy if place else x + copy * count, x)

    columns = (
        moved(row, batch),
        begin.expand(size, -1),
        end.expand(size, -1),
        moved(start, starts),
        moved(final, starts),
    )
    return torch.stack([c.flatten() for c in columns], dim=1)
