"""Sharded problems: what each rank is given of a problem, and what all of them find, put together."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

import retrograd as rg
from retrograd.core.transition import Transition
from retrograd.distributed import Ranks


class Problem(NamedTuple):
    """A scan and a loss Σ<g, states> + <g_final, final>, over whole time."""

    structure: str
    A: Tensor
    u: Tensor
    h0: Tensor
    g: Tensor
    g_final: Tensor
    given: dict[str, Tensor]
    reverse: bool

    @classmethod
    def random(
        cls,
        structure: str,
        varying: bool,
        shape: tuple[int, int, int],
        *,
        dtype: torch.dtype = torch.float64,
        size: float = 0.9,
        groups: int = 1,
        given: dict[str, Tensor] | None = None,
        reverse: bool = False,
        seed: int = 0,
    ) -> Problem:
        generator = torch.Generator().manual_seed(seed)
        batch, time, width = shape
        given = given or {}
        rows = len(given["cu_seqlens"]) - 1 if "cu_seqlens" in given else batch

        def draw(*sizes: int) -> Tensor:
            return torch.randn(sizes, dtype=dtype, generator=generator)

        head = (groups, time if varying else 1, width)
        A = draw(*head) if structure == "diagonal" else draw(*head, width) / width**0.5
        A = size * A / A.abs().max(-1, keepdim=True).values if structure == "diagonal" and A.numel() else size * A
        u, h0, g, g_final = draw(*shape), draw(rows, width), draw(*shape), draw(rows, width)
        return cls(structure, A, u, h0, g, g_final, given, reverse)

    def transition(self, A: Tensor) -> Transition:
        return rg.Diagonal(A) if self.structure == "diagonal" else rg.Dense(A)

    def stretch(self, at: slice) -> Problem:
        """What one rank is given."""
        A = self.A[:, at] if self.varying else self.A
        given = {name: x[:, at] if name == "reset" else x for name, x in self.given.items()}
        return self._replace(A=A, u=self.u[:, at], g=self.g[:, at], given=given)

    @property
    def varying(self) -> bool:
        return self.A.shape[1] > 1

    def loss(self, states: Tensor, final: Tensor, last: bool) -> Tensor:
        """This rank's part of the loss; the final states, which all have, count once."""
        total = (self.g.conj() * states).sum() + (self.g_final.conj() * final).sum() * last
        return total.real if total.is_complex() else total


Found = dict[str, Tensor]


def solve(p: Problem, ranks: Ranks | None = None, last: bool = True, **options: Any) -> Found:
    """The states and every gradient of one stretch, or, without ranks, of one process."""
    leaves = [x.clone().requires_grad_() for x in (p.A, p.u, p.h0)]
    A = p.transition(leaves[0])
    if ranks is None:
        states, final = rg.scan(A, *leaves[1:], reverse=p.reverse, **p.given, **options)
    else:
        states, final = rg.distributed.scan(A, *leaves[1:], reverse=p.reverse, group=ranks, **p.given, **options)
    p.loss(states, final, last).backward()
    d_A, d_u, d_h0 = (x.grad for x in leaves)
    assert d_A is not None
    assert d_u is not None
    assert d_h0 is not None
    return {"states": states.detach(), "final": final.detach(), "A": d_A, "u": d_u, "h0": d_h0}


def stretches(cuts: list[int], time: int) -> list[slice]:
    """The ranks' steps, which these cuts part."""
    return [slice(begin, end) for begin, end in pairwise([0, *sorted(cuts), time])]


def together(found: list[Found], varying: bool) -> Found:
    """What the ranks have found, as one process has it."""
    for one in found[1:]:
        torch.testing.assert_close(one["final"], found[0]["final"], rtol=0, atol=0, equal_nan=True)
    joined = {name: torch.cat([one[name] for one in found], 1) for name in ("states", "u")}
    d_A = torch.cat([one["A"] for one in found], 1) if varying else sum_of(found, "A")
    return {**joined, "final": found[0]["final"], "A": d_A, "h0": sum_of(found, "h0")}


def sum_of(found: list[Found], name: str) -> Tensor:
    return torch.stack([one[name] for one in found]).sum(0)


def sharded(p: Problem, cuts: list[int], **options: Any) -> Found:
    """What simulated ranks find together."""
    parts = stretches(cuts, p.u.shape[1])

    def work(ranks: Ranks) -> Found:
        return solve(p.stretch(parts[ranks.rank]), ranks, ranks.rank == 0, **options)

    return together(rg.distributed.simulate(len(parts), work), p.varying)
