"""Kinds of sequence as one: which steps of which row follow one another.

:class:`Sequences` keeps what the caller gave. A backend names the *view* of it that it can use:

    whole       :class:`Rows`, every row is one sequence: there is nothing to say
    segments    :class:`retrograd.core.segments.Segments`, a table on the CPU
    steps       :class:`retrograd.core.steps.Steps`, one number a step on the device, made without waiting for the host

Every view also moves states by one step for the rules of differentiation. What operators carry of it are its tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from retrograd.core.backend import empty
from retrograd.core.dispatch import is_differentiated, is_watched
from retrograd.core.segments import Segments
from retrograd.core.steps import Steps
from retrograd.errors import require_shape

__all__ = ["BACKWARD", "FORWARD", "TENSORS", "Rows", "Sequences", "View", "previous_states", "view_of"]

_INTEGERS = (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64)


class Rows:
    """Every row is one sequence of all its steps."""

    kind: ClassVar[str] = "whole"
    tensors: tuple[Tensor, ...] = ()

    def __init__(self, reverse: bool) -> None:
        self.reverse = reverse

    def previous(self, states: Tensor, h0: Tensor) -> Tensor:
        """Return h_{t-1} for every t: the states moved on by one step, h_0 entering first."""
        first = h0.unsqueeze(1)
        parts = (states[:, 1:], first) if self.reverse else (first, states[:, :-1])
        if is_differentiated() or is_watched(states, h0) or states.dtype != h0.dtype:
            return torch.cat(parts, dim=1)
        return torch.cat(parts, dim=1, out=empty(states.shape, states))

    def following(self, x: Tensor, h0: Tensor) -> Tensor:
        """Return x_{t+1} for every t; 0 at the end."""
        nothing = torch.zeros_like(x[:, :1])
        return torch.cat((nothing, x[:, :-1]) if self.reverse else (x[:, 1:], nothing), 1)

    def first(self, x: Tensor, h0: Tensor) -> Tensor:
        """Return x at the first step."""
        return x.select(1, -1 if self.reverse else 0)

    def last(self, states: Tensor, h0: Tensor) -> Tensor:
        """Return the last states."""
        return states.select(1, 0 if self.reverse else -1).clone()

    def repeat(self, size: int, place: int, batch: int, starts: int) -> Rows:
        """Return the view of a batch become ``size`` batches: the same."""
        return self


FORWARD, BACKWARD = Rows(False), Rows(True)
View = Rows | Segments | Steps


# How many tensors a view of each kind has.
TENSORS = {"whole": 0, "segments": 1, "steps": 4}


def view_of(kind: str, tensors: Sequence[Tensor], reverse: bool) -> View:
    """Return the view whose kind and tensors these are."""
    if not tensors:
        return BACKWARD if reverse else FORWARD
    return Segments(tensors[0], reverse) if kind == "segments" else Steps(tensors, reverse)


class Sequences:
    """The sequences in u, as the caller gave them.

    Args:
        batch: rows of u.
        time: steps of u.
        lengths: integers ``(batch,)`` from 0 to ``time``: row b's sequence is its first ``lengths[b]`` steps.
        cu_seqlens: integers ``(N + 1,)`` from 0 to ``time`` that never decrease, for batch 1: sequence i is the steps
            ``[cu_seqlens[i], cu_seqlens[i + 1])``.
        reset: bool ``(batch, time)``: at a true step the state before does not enter.
        reverse: the direction of the scan.

    Attributes:
        count: how many sequences there are: rows of h0 and of the final states.
        kind: ``"whole"``, ``"padded"`` or ``"packed"``.

    Raises:
        TypeError: a dtype is not the one named.
        ValueError: a shape is not, or lengths and cu_seqlens are both given. (Values are checked when a view is made.)

    Examples:
        >>> packed = Sequences(1, 5, cu_seqlens=torch.tensor([0, 2, 5]))
        >>> packed.count, packed.view("segments").tensors[0].tolist()
        (2, [[0, 0, 2, 0, 0], [0, 2, 5, 1, 1]])
        >>> packed.view("steps").before
        tensor([[ 0, -1,  1, -1, -1]], dtype=torch.int32)
    """

    def __init__(
        self,
        batch: int,
        time: int,
        lengths: Tensor | None = None,
        cu_seqlens: Tensor | None = None,
        reset: Tensor | None = None,
        reverse: bool = False,
    ) -> None:
        if lengths is not None and cu_seqlens is not None:
            raise ValueError("lengths and cu_seqlens were both given: a batch is either padded or packed")
        for name, array in (("lengths", lengths), ("cu_seqlens", cu_seqlens)):
            if array is not None and (not isinstance(array, Tensor) or array.dtype not in _INTEGERS):
                raise TypeError(
                    f"{name} is {getattr(array, 'dtype', type(array).__name__)}, expected an integer tensor"
                )
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
        self.batch, self.time, self.reverse = batch, time, reverse
        self.lengths, self.cu_seqlens, self.reset = lengths, cu_seqlens, reset
        self.count = batch if cu_seqlens is None else cu_seqlens.shape[0] - 1
        self.kind = "whole" if lengths is None and cu_seqlens is None else "padded" if cu_seqlens is None else "packed"

    def view(self, kind: str, device: torch.device | str = "cpu") -> View:
        """Return the view called ``kind``, for states on ``device``; of whole rows without a reset, :class:`Rows`."""
        given = self.lengths, self.cu_seqlens, self.reset
        if all(x is None for x in given):
            return BACKWARD if self.reverse else FORWARD
        if kind == "segments":
            return Segments.made_of(self.batch, self.time, *given, self.reverse)
        return Steps.made_of(self.batch, self.time, *given, self.reverse, torch.device(device))


def previous_states(states: Tensor, h0: Tensor, reverse: bool = False) -> Tensor:
    """Return h_{t-1} for every t of whole rows: the states moved on by one step, h_0 entering first."""
    return (BACKWARD if reverse else FORWARD).previous(states, h0)
