"""Kinds of sequence for tests, and the loop over each sequence on its own."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from oracle import Running, loop_adjoint, loop_scan

if TYPE_CHECKING:
    from hypothesis.strategies import DataObject

KINDS: dict[str, tuple[int, int, dict[str, Tensor]]] = {
    "whole rows": (2, 2, {}),
    "lengths": (3, 3, {"lengths": torch.tensor([4, 0, 2])}),
    "cu_seqlens": (1, 3, {"cu_seqlens": torch.tensor([0, 1, 1, 4])}),
    "reset": (2, 2, {"reset": torch.tensor([[True, False, False, True], [False, False, True, False]])}),
    "lengths, reset": (2, 2, {"lengths": torch.tensor([3, 2]), "reset": torch.eye(4, dtype=torch.bool)[1:3]}),
    "cu_seqlens, reset": (1, 2, {"cu_seqlens": torch.tensor([0, 2, 4]), "reset": torch.eye(4, dtype=torch.bool)[3:]}),
}


class Kind(NamedTuple):
    """A drawn kind of sequence: what scan is given, and the sequences as (row, begin, end, row of h0)."""

    batch: int
    time: int
    given: dict[str, Tensor]
    sequences: list[tuple[int, int, int, int]]

    @classmethod
    def of(cls, given: dict[str, Tensor], batch: int, time: int) -> Kind:
        """The sequences of scan's own arguments."""
        if "cu_seqlens" in given:
            borders = given["cu_seqlens"].tolist()
            return cls(batch, time, given, [(0, b, e, i) for i, (b, e) in enumerate(pairwise(borders))])
        ends = given["lengths"].tolist() if "lengths" in given else [time] * batch
        return cls(batch, time, given, [(row, 0, end, row) for row, end in enumerate(ends)])

    def padding(self) -> Tensor:
        """Bool (batch, time): the steps of no sequence."""
        padding = torch.ones(self.batch, self.time, dtype=torch.bool)
        for row, begin, end, _ in self.sequences:
            padding[row, begin:end] = False
        return padding

    @classmethod
    def draw(cls, data: DataObject, longest: int) -> Kind:
        from hypothesis import strategies as st  # a GPU's environment may have none

        time = data.draw(st.integers(1, longest))
        which = data.draw(st.sampled_from(["lengths", "cu_seqlens", "rows"]))
        given: dict[str, Tensor] = {}
        if which == "cu_seqlens":
            inner = sorted(data.draw(st.lists(st.integers(0, time), max_size=6)))
            kind = data.draw(st.sampled_from([torch.int32, torch.int64]))
            batch, given["cu_seqlens"] = 1, torch.tensor([0, *inner, time], dtype=kind)
        else:
            batch = data.draw(st.integers(1, 4))
            if which == "lengths":
                given["lengths"] = torch.tensor([data.draw(st.integers(0, time)) for _ in range(batch)])
        if which == "rows" or data.draw(st.booleans()):
            share = data.draw(st.sampled_from([0.05, 0.5, 1.0]))
            generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))
            given["reset"] = torch.rand(batch, time, generator=generator) < share
        return cls.of(given, batch, time)

    def pieces(self, reverse: bool) -> list[tuple[int, int, int, int | None, int | None]]:
        """(row, begin, end, row of h0, row of the final states), found by walking step by step."""
        found: list[tuple[int, int, int, int | None, int | None]] = []
        reset = self.given.get("reset", torch.zeros(self.batch, self.time, dtype=torch.bool))
        for row, begin, end, index in self.sequences:
            steps = list(range(begin, end))[:: -1 if reverse else 1]
            runs: list[tuple[int | None, list[int]]] = [(index, [])]
            for t in steps:
                if reset[row, t]:
                    runs.append((None, []))
                runs[-1][1].append(t)
            for i, (start, run) in enumerate(runs):
                last = i == len(runs) - 1
                if run or (last and start is not None):
                    low, high = (min(run), max(run) + 1) if run else (begin, begin)
                    found.append((row, low, high, start, index if last else None))
        return found


def on_its_own(
    A: Tensor, u: Tensor, h0: Tensor, g: Tensor, g_final: Tensor, kind: Kind, reverse: bool
) -> dict[str, Running]:
    """The loop over every piece, put together; A is expanded to (batch, time, ...)."""
    made = {
        name: Running.exact(torch.zeros_like(like))
        for name, like in (("states", u), ("u", u), ("A", A), ("final", h0), ("h0", h0))
    }

    def put(name: str, at: Any, part: Running) -> None:
        made[name].value[at], made[name].error[at] = part.value, part.error

    for row, begin, end, start, final in kind.pieces(reverse):
        before = torch.zeros_like(h0[:1]) if start is None else h0[start : start + 1]
        carry = torch.zeros_like(h0[:1]) if final is None else g_final[final : final + 1]
        if begin == end:
            put("final", final, Running.exact(before[0]))
            put("h0", start, Running.exact(carry[0]))
            continue
        one = (slice(row, row + 1), slice(begin, end))
        states = loop_scan(A[one], u[one], before, reverse)
        gradients = loop_adjoint(A[one], u[one], before, g[one], carry, reverse)
        put("states", one, states)
        put("u", one, gradients["u"])
        put("A", one, gradients["A"])
        if final is not None:
            put("final", final, states[0, 0 if reverse else -1])
        if start is not None:
            put("h0", start, gradients["h0"][0])
    return made
