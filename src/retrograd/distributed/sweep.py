"""A scan or its adjoint over a shard: from zero, to see what leaves it; then from what truly enters.

With P the product of a shard's transitions and e the state that it ends with when it starts from zero, what leaves is
P · entering + e. The pairs (P, e) combine, (P', e') after (P, e) being (P' P, P' e + e'), so that one exchange of them
(:mod:`retrograd.distributed.exchange`) tells every rank what enters. For the adjoint scan it is the same: the ranks the
other way round, P^H for P, ∂L/∂h_T for h_0.

The steps near the border, which what enters may reach, are run for their end alone at first, all others as they are to
be. After the exchange the near ones run again, and then others for as long as their start differs from what it was.
Where the product cannot be had or trusted, every rank waits for the state of the one before it.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from retrograd.distributed.exchange import Exchange, summed
from retrograd.distributed.products import Scaled, wide_dtype
from retrograd.distributed.ranks import Ranks
from retrograd.distributed.shard import Shard

__all__ = ["Border", "Pass", "sweep"]

# The far steps run in parts that grow by this factor, so that few of them run again.
_FACTOR = 8
# Two runs that have forgotten where they started still differ by a few roundings: matrices mix them anew at every step.
_ROUNDINGS = 4


class Pass(NamedTuple):
    """A scan or an adjoint scan over a shard.

    Attributes:
        what: its name in messages.
        backward: whether it runs from the last step to the first.
        product: P, or P^H; None where there is none.
        near: how many steps from the border what enters may reach.
        end: runs some steps for their end alone.
        run: runs some steps. Both are given the steps and the state that enters, and return the one that leaves.
        terms: of the state that leaves some steps, the sum of the sizes of what it was added up from.
    """

    what: str
    backward: bool
    product: Scaled | None
    near: int
    end: Callable[[slice, Tensor], Tensor]
    run: Callable[[slice, Tensor], Tensor]
    terms: Callable[[slice, Tensor], Tensor]


class Border(NamedTuple):
    """What a rank knows before the exchange.

    Attributes:
        product: of its transitions.
        passes: ``(batch, 1)``: 1 where a state that enters has a part in the one that leaves, else 0.
        end: the state that it ends with from zero, ``(batch, width)``.
        start: its part in what enters the first rank: the sum over all ranks does.
        trusted: 1 where all of these can be used, else 0.
    """

    product: Scaled
    passes: Tensor
    end: Tensor
    start: Tensor
    trusted: Tensor

    def leaving(self, entering: Tensor) -> Tensor:
        """Return what leaves where this enters."""
        return self.end + torch.where(self.passes > 0, self.product.act(entering), 0)

    def after(self, earlier: Border) -> Border:
        """Return the border of two neighbours as one."""
        return Border(
            self.product.after(earlier.product),
            self.passes * earlier.passes,
            self.leaving(earlier.end),
            earlier.start + self.start,
            earlier.trusted * self.trusted,
        )

    @property
    def parts(self) -> tuple[Tensor, ...]:
        """All arrays."""
        return (*self.product, self.passes, self.end, self.start, self.trusted)

    def write(self) -> Tensor:
        """Return all numbers, real and imaginary parts one by one."""
        flat = [torch.view_as_real(x).flatten() if x.is_complex() else x.flatten() for x in self.parts]
        return torch.cat(flat)

    def read(self, numbers: Tensor) -> Border:
        """Return the border of numbers that another rank wrote, whose shapes are those of this one."""
        sizes = [x.numel() * (2 if x.is_complex() else 1) for x in self.parts]
        parts = []
        for x, given in zip(self.parts, numbers.to(self.end.device).split(sizes), strict=True):
            made = torch.view_as_complex(given.clone().view(-1, 2)) if x.is_complex() else given
            parts.append(made.view(x.shape))
        return Border(Scaled(*parts[:2]), *parts[2:])


def _combined(earlier: Border, later: Border) -> Border:
    return later.after(earlier)


def sweep(ranks: Ranks, shard: Shard, p: Pass, start: Tensor, rows: int, structure: str) -> tuple[Tensor, Tensor]:
    """Run a pass over all ranks, and return what entered this one and what left the last one, ``(batch, width)``.

    Args:
        ranks: the ranks.
        shard: this rank's steps.
        p: the pass.
        start: this rank's part in what enters the first one.
        rows: rows of the product, 1 or the batch.
        structure: of the transitions.
    """
    parts = _parts(shard.time, p.near, p.backward)
    if ranks.size == 1:
        return start, _run(p, parts, start)
    ends = [torch.zeros_like(start)]
    if p.product is not None:
        for i, at in enumerate(parts):
            ends.append((p.run if i else p.end)(at, ends[-1]))
    mine = _border(p.product, shard, ends[-1], start, rows, structure)
    exchange = Exchange[Border](ranks, p.what, Border.write, mine.read, _combined, p.backward)
    before, total = exchange.prefix(mine)
    first = total.start
    if not bool(total.trusted > 0):
        return _from_rank_to_rank(ranks, p, parts, first.to(start.dtype))
    entering = (first if before is None else before.leaving(first)).to(start.dtype)
    _run(p, parts, entering, ends)
    return entering, total.leaving(first).to(start.dtype)


def _parts(time: int, near: int, backward: bool) -> list[slice]:
    """Return the near steps, which may be none, and the far ones in growing parts, as they are run."""
    ends = [0, near]
    while ends[-1] < time:
        ends.append(min(time, max(ends[-1] * _FACTOR, 1 << 16)))
    return [slice(time - end, time - begin) if backward else slice(begin, end) for begin, end in pairwise(ends)]


def _run(p: Pass, parts: list[slice], entering: Tensor, ends: list[Tensor] | None = None) -> Tensor:
    """Run the parts from what enters; with ``ends``, those that the parts had from zero, only as far as they differ."""
    carry = entering
    for i, at in enumerate(parts):
        if i > 0 and ends is not None and _agree(carry, ends[i], p.terms(parts[i - 1], carry)):
            return ends[-1]
        carry = p.run(at, carry)
    return carry


def _agree(x: Tensor, y: Tensor, terms: Tensor) -> bool:
    """Say whether x and y differ by what rounds in one step at most, element by element; never if not finite."""
    return bool(((x - y).abs() <= _ROUNDINGS * torch.finfo(x.dtype).eps * terms).all())


def _border(product: Scaled | None, shard: Shard, end: Tensor, start: Tensor, rows: int, structure: str) -> Border:
    wide = wide_dtype(end.dtype)
    trusted = product is not None and bool(end.isfinite().all()) and bool(start.isfinite().all())
    if product is None:
        product = Scaled.identity(structure, rows, end.shape[1], end)
    if shard.passes is None:
        passes = torch.ones(len(end), 1, dtype=torch.float64, device=end.device)
    else:
        passes = shard.passes.to(torch.float64).unsqueeze(1)
    flag = torch.full((1,), float(trusted), dtype=torch.float64, device=end.device)
    return Border(product, passes, end.to(wide), start.to(wide), flag)


def _from_rank_to_rank(ranks: Ranks, p: Pass, parts: list[slice], first: Tensor) -> tuple[Tensor, Tensor]:
    """Run from the state that the rank before hands over, one rank after the other."""
    like = torch.view_as_real(first) if first.is_complex() else first

    def write(x: Tensor) -> Tensor:
        return (torch.view_as_real(x) if x.is_complex() else x).to(torch.float64).flatten()

    def read(numbers: Tensor) -> Tensor:
        got = numbers.to(like.device, like.dtype).view(like.shape)
        return torch.view_as_complex(got) if first.is_complex() else got

    chain = Exchange[Tensor](ranks, f"{p.what}, from rank to rank", write, read, torch.add, p.backward)
    at, step = (ranks.size - 1 - ranks.rank, -1) if p.backward else (ranks.rank, 1)
    entering = first
    if at > 0:  # the ranks before it work one after the other
        given = chain.swap(None, None, ranks.rank - step, late=float(at))
        entering = entering if given is None else given
    leaving = first if chain.failed else _run(p, parts, entering)
    if at + 1 < ranks.size:
        chain.swap(ranks.rank + step, leaving, None)
    chain.end(late=float(ranks.size))
    last = leaving if at + 1 == ranks.size else torch.zeros_like(leaving)
    return entering, summed(ranks, f"{p.what}, its end", last, late=float(ranks.size))
