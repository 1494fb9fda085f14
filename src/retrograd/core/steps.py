"""Sequences as one number a step, on the device: the view for backends that may not wait for the host.

    before  int32 (batch, time)   what stands before a step, in the direction of the scan:
                                  -1 the neighbouring step, -2 nothing (a reset), k >= 0 row k of h0, -3 it is padding
    after   int32 (batch, time)   what stands after it: -1 the neighbouring step, -2 nothing (that one is a reset),
                                  k >= 0 nothing, and its state is final state k, -3 it is padding
    starts  int64 (sequences,)    row · time + step of the step that row k of h0 enters; -1: it enters none
    ends    int64 (sequences,)    row · time + step of sequence k's last step; -1: it is empty; -2: it ends elsewhere

    S:   h_t = u_t + A_t h        h = the state of the step before, row k of h0, or A_t is not applied
         final_k = the state at ends_k, or row k of h0 where the sequence is empty
    S*:  δ_t = g_t + x            x = A_s^H δ_s of the step after, s, row k of g_final, or nothing
         d_h0_k = A_s^H δ_s at s = starts_k, else row k of g_final where the sequence is empty, else 0

so S* is S mirrored, with ``after`` for ``before``. Masks select; they never multiply by 0, which keeps NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from retrograd.core.dispatch import call, library

__all__ = ["ELSEWHERE", "EMPTY", "NEIGHBOUR", "NOTHING", "PADDING", "Steps", "check_borders"]

NEIGHBOUR, NOTHING, PADDING = -1, -2, -3
EMPTY, ELSEWHERE = -1, -2

library.define(
    "steps(SymInt batch, SymInt time, Tensor? lengths, Tensor? cu_seqlens, Tensor? reset, bool reverse, Device device)"
    " -> (Tensor, Tensor, Tensor, Tensor)"
)


class Steps:
    """What stands before and after every step; see the head of the file."""

    kind: ClassVar[str] = "steps"

    def __init__(self, tensors: Sequence[Tensor], reverse: bool) -> None:
        self.before, self.after, self.starts, self.ends = tensors
        self.reverse = reverse

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What an operator is given of it."""
        return self.before, self.after, self.starts, self.ends

    @classmethod
    def made_of(
        cls,
        batch: int,
        time: int,
        lengths: Tensor | None,
        cu_seqlens: Tensor | None,
        reset: Tensor | None,
        reverse: bool,
        device: torch.device,
    ) -> Steps:
        """Return the view of sequences that :class:`retrograd.core.sequences.Sequences` checked."""
        given = tuple(x for x in (lengths, cu_seqlens, reset) if x is not None)
        found = call("steps", _steps, given, batch, time, lengths, cu_seqlens, reset, reverse, device)
        return cls(found, reverse)

    def previous(self, states: Tensor, h0: Tensor) -> Tensor:
        """Return h_{t-1} for every t; 0 where nothing stands before."""
        moved = torch.where(self.before.unsqueeze(2) == NEIGHBOUR, _shifted(states, not self.reverse), 0)
        entering = torch.where(self.starts.unsqueeze(1) >= 0, h0, 0)
        flat = moved.reshape(-1, moved.shape[2])  # not flatten: torch's older vmap has no rule for that
        return flat.index_add(0, self.starts.clamp(min=0), entering).reshape(states.shape)

    def following(self, x: Tensor, h0: Tensor) -> Tensor:
        """Return x_{t+1} for every t; 0 at a sequence's end and before a reset."""
        return torch.where(self.after.unsqueeze(2) == NEIGHBOUR, _shifted(x, self.reverse), 0)

    def first(self, x: Tensor, h0: Tensor) -> Tensor:
        """Return x at the step that each row of h0 enters; 0 where it enters none."""
        return torch.where(self.starts.unsqueeze(1) >= 0, _rows(x, self.starts), 0)

    def last(self, states: Tensor, h0: Tensor) -> Tensor:
        """Return each sequence's last state; h0's row where the sequence is empty."""
        ends = self.ends.unsqueeze(1)
        return torch.where(ends >= 0, _rows(states, self.ends), torch.where(ends == EMPTY, h0, 0))

    def repeat(self, size: int, place: int, batch: int, starts: int) -> Steps:
        """Return the view of a batch become ``size`` batches, the new dimension outside (place 0) or inside (1)."""
        time = self.before.shape[1]
        copy = torch.arange(size, device=self.before.device)

        def numbered(x: Tensor) -> Tensor:
            """Steps name rows of h0, of which there are ``starts`` a copy."""
            new = copy.view(-1, 1, 1) if place == 0 else copy.view(1, -1, 1)
            x = x.unsqueeze(place)
            row = x + new * starts if place == 0 else x * size + new
            return torch.where(x >= 0, row, x).flatten(0, 1).to(x.dtype)

        def indexed(x: Tensor) -> Tensor:
            """Rows name steps."""
            new = copy.view(-1, 1) if place == 0 else copy.view(1, -1)
            x = x.unsqueeze(place)
            step = x + new * batch * time if place == 0 else (x // time * size + new) * time + x % time
            return torch.where(x >= 0, step, x).flatten()

        return Steps(
            (numbered(self.before), numbered(self.after), indexed(self.starts), indexed(self.ends)), self.reverse
        )

    def chunk(self, at: slice, starts: int, with_empty: bool) -> Steps:
        """Return the view of some steps.

        Row b's state that enters from the neighbouring chunk, or leaves to it, is in row ``starts + b``.
        """
        batch, time = self.before.shape
        steps = at.stop - at.start
        before, after = self.before[:, at].clone(), self.after[:, at].clone()
        row = torch.arange(batch, device=before.device)
        entry, exit_ = (steps - 1, 0) if self.reverse else (0, steps - 1)
        opened, closed = before[:, entry] == NEIGHBOUR, after[:, exit_] == NEIGHBOUR
        border = (starts + row).to(before.dtype)
        before[:, entry] = torch.where(opened, border, before[:, entry])
        after[:, exit_] = torch.where(closed, border, after[:, exit_])

        def inside(x: Tensor) -> Tensor:
            t = x % time - at.start
            here = (x >= 0) & (t >= 0) & (t < steps)
            return torch.where(here, x // time * steps + t, torch.where(x >= 0, ELSEWHERE, x))

        first, last = inside(self.starts), inside(self.ends)
        if not with_empty:
            last = torch.where(last == EMPTY, ELSEWHERE, last)
        starts_here = torch.cat((first.clamp(min=-1), torch.where(opened, row * steps + entry, -1)))
        ends_here = torch.cat((last, torch.where(closed, row * steps + exit_, ELSEWHERE)))
        return Steps((before, after, starts_here, ends_here), self.reverse)


def _shifted(x: Tensor, later: bool) -> Tensor:
    """Return x moved by one step in time, zeros coming in."""
    nothing = torch.zeros_like(x[:, :1])
    return torch.cat((nothing, x[:, :-1]) if later else (x[:, 1:], nothing), 1)


def _rows(x: Tensor, at: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[2]).index_select(0, at.clamp(min=0))


def check_borders(time: int, lengths: Tensor | None, cu_seqlens: Tensor | None) -> None:
    """Raise ``ValueError`` unless lengths or borders fit ``time``; on another device, have it check without waiting."""
    if lengths is not None and lengths.device.type == "cpu":
        wrong = ((lengths < 0) | (lengths > time)).nonzero()
        if len(wrong):
            i = int(wrong[0])
            raise ValueError(f"lengths[{i}] is {int(lengths[i])}, expected 0 to u's time = {time}")
    elif lengths is not None:
        torch._assert_async(((lengths >= 0) & (lengths <= time)).all(), "lengths must lie between 0 and u's time")
    if cu_seqlens is None:
        return
    rises = cu_seqlens[1:] >= cu_seqlens[:-1]
    if cu_seqlens.device.type != "cpu":
        torch._assert_async((cu_seqlens[0] == 0) & (cu_seqlens[-1] == time), "cu_seqlens must go from 0 to u's time")
        torch._assert_async(rises.all(), "cu_seqlens must not decrease")
        return
    first, last = int(cu_seqlens[0]), int(cu_seqlens[-1])
    if first != 0 or last != time:
        raise ValueError(f"cu_seqlens runs from {first} to {last}, expected from 0 to u's time = {time}")
    if not rises.all():
        i = int((~rises).nonzero()[0])
        raise ValueError(
            f"cu_seqlens falls from {int(cu_seqlens[i])} to {int(cu_seqlens[i + 1])} at {i + 1}: it must not decrease"
        )


def _steps(
    batch: int,
    time: int,
    lengths: Tensor | None,
    cu_seqlens: Tensor | None,
    reset: Tensor | None,
    reverse: bool,
    device: torch.device,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    check_borders(time, lengths, cu_seqlens)
    t = torch.arange(time, device=device)
    if cu_seqlens is not None:
        borders = cu_seqlens.to(device, torch.int64, non_blocking=True)
        begins, ends = borders[:-1], borders[1:]
        row = torch.zeros_like(begins)
        # The sequence of a step: those that have ended by then come before it.
        sequence = torch.searchsorted(ends.contiguous(), t, right=True).clamp(max=len(ends) - 1).unsqueeze(0)
    else:
        row = torch.arange(batch, device=device)
        begins = torch.zeros_like(row)
        ends = torch.full_like(row, time) if lengths is None else lengths.to(device, torch.int64, non_blocking=True)
        sequence = row.unsqueeze(1).expand(batch, time)
    first, last = (ends - 1, begins) if reverse else (begins, ends - 1)
    empty = ends <= begins
    padding = ~((begins[sequence] <= t) & (t < ends[sequence]))
    number = sequence.to(torch.int32)
    before = torch.where(t == first[sequence], number, NEIGHBOUR)
    after = torch.where(t == last[sequence], number, NEIGHBOUR)
    starts = torch.where(empty, -1, row * time + first)
    if reset is not None:
        reset = reset.to(device, non_blocking=True)
        cut = _shifted(reset, reverse)  # the step after is a reset
        before = torch.where(reset, NOTHING, before)
        after = torch.where(cut & (after == NEIGHBOUR), NOTHING, after)
        starts = torch.where(reset.flatten()[starts.clamp(min=0)], -1, starts)
    before, after = torch.where(padding, PADDING, before), torch.where(padding, PADDING, after)
    return before.to(torch.int32), after.to(torch.int32), starts, torch.where(empty, EMPTY, row * time + last)


def _fake_steps(
    batch: int,
    time: int,
    lengths: Tensor | None,
    cu_seqlens: Tensor | None,
    reset: Tensor | None,
    reverse: bool,
    device: torch.device,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    count = batch if cu_seqlens is None else cu_seqlens.shape[0] - 1
    one = torch.empty(batch, time, dtype=torch.int32, device=device)
    few = torch.empty(count, dtype=torch.int64, device=device)
    return one, torch.empty_like(one), few, torch.empty_like(few)


library.impl("steps", _steps, "CompositeExplicitAutograd")
torch.library.register_fake("retrograd::steps", _fake_steps, lib=library)
