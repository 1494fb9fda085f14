"""Sequences of any kind cut into chunks: a sequence begins at the head of one, and so does what follows a reset.

What is computed by chunks is then a few products over all chunks and one scan over their borders, whatever the
sequences are. The rest of a sequence's last chunk is empty: where sequences are short, chunks are shorter, so that most
places hold a step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from retrograd.core.sequences import Sequences
from retrograd.core.steps import NEIGHBOUR, NOTHING, PADDING, Steps
from retrograd.nn.recurrence import Along

__all__ = ["Chunks", "cut", "gathered"]


# Steps of the shortest chunks: below, their borders cost more than empty places.
SHORT = 16


@dataclass(frozen=True)
class Chunks:
    """Where the steps of ``(batch, time)`` lie in chunks. Both are counted along the scan, row after row.

    Attributes:
        size: steps of a chunk.
        count: chunks.
        place: of every step, counted over all chunks; -1 of padding.
        step: at every place; -1 where it is empty.
        borders: the chunks in one row: packed sequences, those that have steps.
        order: which sequences those are.
        last: the last step of each of them.
    """

    size: int
    count: int
    place: Tensor
    step: Tensor
    borders: Along
    order: Tensor
    last: Tensor


def cut(along: Along, batch: int, time: int, most: int, device: torch.device) -> Chunks:
    """Return sequences in chunks of at most ``most`` steps.

    Examples:
        >>> packed = Along(None, torch.tensor([0, 3, 8]), None, False, "auto")
        >>> cut(packed, 1, 8, 2, torch.device("cpu")).step.view(-1, 2)
        tensor([[ 0,  1],
                [ 2, -1],
                [ 3,  4],
                [ 5,  6],
                [ 7, -1]])
    """
    view = Sequences(batch, time, along.lengths, along.cu_seqlens, along.reset, along.reverse).view("steps", device)
    before, ends = (view.before, view.ends) if isinstance(view, Steps) else _of_rows(batch, time, device)
    if along.reverse:
        before = before.flip(1)
        ends = torch.where(ends >= 0, ends // time * time + time - 1 - ends % time, -1)
    before = before.flatten()
    heads, real = (before != NEIGHBOUR) & (before != PADDING), before != PADDING
    mean = int(real.sum()) // max(1, int(heads.sum()))
    size = min(most, max(SHORT, 1 << mean.bit_length() - 1 if mean else 0))
    at = torch.arange(len(before), device=device)
    since = at - torch.where(heads, at, 0).cummax(0).values  # the head of a step's piece
    opens = real & (since % size == 0)
    chunk = opens.cumsum(0) - 1
    place, count = torch.where(real, chunk * size + since % size, -1), int(opens.sum())
    step = torch.full((count * size,), -1, device=device)
    step[place[real]] = at[real]
    order = ends.argsort(stable=True)[int((ends < 0).sum()) :]
    last = ends[order]
    cu_seqlens = torch.cat((last.new_zeros(1), chunk[last] + 1))
    borders = Along(None, cu_seqlens, (before[opens] == NOTHING).unsqueeze(0), False, along.backend)
    return Chunks(size, count, place, step, borders, order, last)


def _of_rows(batch: int, time: int, device: torch.device) -> tuple[Tensor, Tensor]:
    before = torch.full((batch, time), NEIGHBOUR, device=device)
    before[:, 0] = torch.arange(batch, device=device)
    return before, (torch.arange(batch, device=device) + 1) * time - 1


def gathered(x: Tensor, there: Tensor, back: Tensor) -> Tensor:
    """Return x[there], zeros where ``there`` is -1; ``back`` is the way back. No row is taken twice."""
    found: Tensor = _Gathered.apply(x, there, back)
    return found


class _Gathered(torch.autograd.Function):
    """Its gradient is the way back, gathered too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, there: Tensor, back: Tensor) -> Tensor:
        ctx.there, ctx.back = there, back
        return x.index_select(0, there.clamp(min=0)).masked_fill_((there < 0).unsqueeze(1), 0)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return gathered(g, ctx.back, ctx.there), None, None
