"""The two views of sequences, a table of segments and one number a step, say the same, whole or repeated or cut."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from retrograd.core.saving import chunks
from retrograd.core.segments import Segments
from retrograd.core.sequences import Sequences
from retrograd.core.steps import Steps

TIME = 7
RESET = torch.tensor([[0, 0, 1, 0, 1, 0, 0], [1, 1, 0, 0, 0, 0, 1], [0, 0, 0, 1, 0, 0, 0]]).bool()
GIVEN: dict[str, tuple[int, dict[str, Tensor]]] = {
    "lengths": (3, {"lengths": torch.tensor([4, 0, 7])}),
    "reset": (3, {"reset": RESET}),
    "lengths and reset": (3, {"lengths": torch.tensor([5, 7, 0]), "reset": RESET}),
    "cu_seqlens": (1, {"cu_seqlens": torch.tensor([0, 2, 2, 6, 7])}),
    "cu_seqlens and reset": (1, {"cu_seqlens": torch.tensor([0, 2, 2, 6, 7]), "reset": RESET[:1]}),
}
each_kind = pytest.mark.parametrize("kind", list(GIVEN))
each_direction = pytest.mark.parametrize("reverse", [False, True])


def views(kind: str, reverse: bool) -> tuple[Segments, Steps, int, int]:
    """The segments, the steps, how many rows there are and how many sequences."""
    batch, given = GIVEN[kind]
    sequences = Sequences(batch, TIME, **given, reverse=reverse)
    segments, steps = sequences.view("segments"), sequences.view("steps")
    assert isinstance(segments, Segments)
    assert isinstance(steps, Steps)
    return segments, steps, batch, sequences.count


def assert_same(segments: Any, steps: Any, batch: int, time: int, count: int) -> None:
    for x, y in zip(segments.steps(batch, time, count, torch.device("cpu")).tensors, steps.tensors, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=0)


@each_direction
@each_kind
def test_whole(kind: str, reverse: bool) -> None:
    segments, steps, batch, count = views(kind, reverse)
    assert_same(segments, steps, batch, TIME, count)


@pytest.mark.parametrize("place", [0, 1])
@each_direction
@each_kind
def test_repeated_for_a_batched_dimension(kind: str, reverse: bool, place: int) -> None:
    segments, steps, batch, count = views(kind, reverse)
    found = steps.repeat(3, place, batch, count)
    assert_same(segments.repeat(3, place, batch, count), found, 3 * batch, TIME, 3 * count)
    if "cu_seqlens" not in kind:  # those of several rows have no other form
        given = {
            name: x.repeat(3, *(1,) * (x.ndim - 1)) if place == 0 else x.repeat_interleave(3, 0)
            for name, x in GIVEN[kind][1].items()
        }
        assert_same(
            Sequences(3 * batch, TIME, **given, reverse=reverse).view("segments"), found, 3 * batch, TIME, 3 * count
        )


@pytest.mark.parametrize("with_empty", [False, True])
@each_direction
@each_kind
def test_cut_into_chunks(kind: str, reverse: bool, with_empty: bool) -> None:
    segments, steps, batch, count = views(kind, reverse)
    for at in chunks(TIME, 3):
        cut = segments.chunk(at, count, with_empty), steps.chunk(at, count, with_empty)
        assert_same(*cut, batch, at.stop - at.start, count + batch)
