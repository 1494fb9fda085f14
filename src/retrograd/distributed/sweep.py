"""A scan or its adjoint over a shard: from zero, to see what leaves it; then from what truly enters.

With P the product of a shard's transitions and e the state that it ends with when it starts from zero, what leaves is
P · entering + e. The pairs (P, e) combine, (P', e') after (P, e) being (P' P, P' e + e'), so that one exchange of them
(:mod:`retrograd.distributed.exchange`) tells every rank what enters. For the adjoint scan it is the same: the ranks the
other way round, P^H for P, ∂L/∂h_T for h_0.

The first rank runs its steps from what enters it. Of every other the steps near the border, which what enters may
reach, are run for their end alone at first, all others as they are to be. After the exchange the near ones run again,
and then others for as long as their start differs from what it was.
Where the product cannot be had or trusted, every rank waits for the state of the one before it.

What else the ranks must know of each other goes along. Of lengths and borders that count the steps of all ranks: where
each rank lies, as it takes it; if one is wrong, all hear of it. Of packed sequences, (Q, f) beside (P, e): Q is the
product from the border to the end of the sequence that enters a rank and ends in it, f its last state from zero, so
that Q · entering + f is a final state. In the adjoint scan Q^H takes what the ranks send into that final state to what
leaves the rank.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from retrograd.distributed.exchange import Exchange, summed, tell_failure
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
        place: where the rank lies, :meth:`retrograd.distributed.shard.Shard.place`.
        packed: what is told of packed sequences, after the steps have been run from zero; None: they are not packed.
        take: of an adjoint scan, takes what all ranks send into the final states of packed sequences, and says whether
            the steps were run with anything else.
    """

    what: str
    backward: bool
    product: Scaled | None
    near: int
    end: Callable[[slice, Tensor], Tensor]
    run: Callable[[slice, Tensor], Tensor]
    terms: Callable[[slice, Tensor], Tensor]
    place: Tensor
    packed: Callable[[], Packed] | None = None
    take: Callable[[Tensor], bool] | None = None


class Packed(NamedTuple):
    """What a rank knows of packed sequences before the exchange.

    Attributes:
        through: Q, or Q^H, of the sequence that enters and ends here.
        row: which it is, ``(1,)``; -1: none does.
        local: its final state from zero, ``(1, width)``; of an adjoint scan, what this rank sends into it.
        rows: the final states that do not depend on what enters, else 0; of an adjoint scan, what this rank sends into
            all of them.
    """

    through: Scaled
    row: Tensor
    local: Tensor
    rows: Tensor

    @property
    def there(self) -> bool:
        """Whether a sequence enters and ends here."""
        return bool(self.row >= 0)


class Swept(NamedTuple):
    """What entered this rank and what left the last one, ``(batch, width)``; the final states of packed sequences."""

    entering: Tensor
    final: Tensor
    finals: Tensor | None = None


class Border(NamedTuple):
    """What a rank knows before the exchange.

    Attributes:
        product: of its transitions.
        passes: ``(batch, 1)``: 1 where a state that enters has a part in the one that leaves, else 0.
        end: the state that it ends with from zero, ``(batch, width)``.
        start: its part in what enters the first rank: the sum over all ranks does; of the first one 0, as its end is
            that of a run from its own part.
        trusted: 1 where all of these can be used, else 0.
        place: where its steps begin and end in the direction of the scan, and 1 where all are in order.
        packed: of packed sequences.
    """

    product: Scaled
    passes: Tensor
    end: Tensor
    start: Tensor
    trusted: Tensor
    place: Tensor
    packed: Packed | None = None

    def leaving(self, entering: Tensor, sent: Tensor | None = None) -> Tensor:
        """Return what leaves where this enters; of an adjoint scan, where ``sent`` goes into the final states."""
        left = self.end + torch.where(self.passes > 0, self.product.act(entering), 0)
        if sent is None or self.packed is None or not self.packed.there:
            return left
        return left + self.packed.through.act(sent[self.packed.row.long()] - self.packed.local)

    def after(self, earlier: Border, packed: Packed | None) -> Border:
        """Return the border of two neighbours as one."""
        follows = earlier.place[2] * self.place[2] * (earlier.place[1] == self.place[0])
        return Border(
            self.product.after(earlier.product),
            self.passes * earlier.passes,
            self.leaving(earlier.end),
            earlier.start + self.start,
            earlier.trusted * self.trusted,
            torch.stack((earlier.place[0], self.place[1], follows)),
            packed,
        )

    @property
    def parts(self) -> tuple[Tensor, ...]:
        """All arrays."""
        own = *self.product, self.passes, self.end, self.start, self.trusted, self.place
        return own if self.packed is None else (*own, *self.packed.through, *self.packed[1:])

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
        mantissa, exponent, passes, end, start, trusted, place, *rest = parts
        packed = None if self.packed is None else Packed(Scaled(*rest[:2]), *rest[2:])
        return Border(Scaled(mantissa, exponent), passes, end, start, trusted, place, packed)


def _of_scan(earlier: Border, later: Border) -> Border:
    """Combine two neighbours: what ends in the later one may have begun in the earlier one."""
    e, one = earlier.packed, later.packed
    if e is None or one is None:
        return later.after(earlier, None)
    rows = e.rows + one.rows
    if not one.there:
        return later.after(earlier, e._replace(rows=rows))
    local = one.through.act(earlier.end) + one.local
    if bool(earlier.passes > 0):
        return later.after(earlier, Packed(one.through.after(earlier.product), one.row, local, rows))
    rows[one.row.long()] = local
    return later.after(earlier, e._replace(rows=rows))


def _of_adjoint(earlier: Border, later: Border) -> Border:
    """Combine two neighbours: what is sent into the earlier one may leave the later one."""
    e, one = earlier.packed, later.packed
    if e is None or one is None:
        return later.after(earlier, None)
    if bool(later.passes > 0):
        one = e._replace(through=later.product.after(e.through))
    return later.after(earlier, one._replace(rows=later.packed.rows + e.rows))  # type: ignore[union-attr]


def sweep(ranks: Ranks, shard: Shard, p: Pass, start: Tensor, rows: int, structure: str) -> Swept | None:
    """Run a pass over all ranks; None where a rank does not lie where it took itself to be, on every rank.

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
        final = _run(p, parts, start)
        return Swept(start, final, None if p.packed is None else p.packed().rows.to(start.dtype))
    # What enters the first rank is known at once, but for what others send into it, which mostly is nothing.
    is_first = ranks.rank == (ranks.size - 1 if p.backward else 0)
    try:
        ends = [start if is_first else torch.zeros_like(start)]
        if p.product is not None:
            for i, at in enumerate(parts):
                ends.append((p.run if i or is_first else p.end)(at, ends[-1]))
        mine = _border(p, shard, ends[-1], start, rows, structure)
        mine = mine._replace(start=torch.zeros_like(mine.start)) if is_first else mine
    except Exception as error:
        tell_failure(ranks, p.what, error, p.backward)
        raise
    combine = _of_scan if p.take is None else _of_adjoint
    before, total = Exchange[Border](ranks, p.what, Border.write, mine.read, combine, p.backward).prefix(mine)
    if not bool((total.place[2] > 0) & (total.place[0] == 0)):
        return None
    others, told = total.start, None if total.packed is None else total.packed.rows
    sent = None if p.take is None else told
    again = p.take is not None and sent is not None and p.take(sent.to(start.dtype))
    first = (others + start if is_first else others).to(start.dtype)
    if not bool(total.trusted > 0):
        return Swept(*_from_rank_to_rank(ranks, p, parts, first))
    entering = first if is_first or before is None else before.leaving(others, sent).to(start.dtype)
    if not is_first or again or bool((others != 0).any()):
        _run(p, parts, entering, None if again else ends)
    return Swept(entering, total.leaving(others, sent).to(start.dtype), None if told is None else told.to(start.dtype))


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


def _border(p: Pass, shard: Shard, end: Tensor, start: Tensor, rows: int, structure: str) -> Border:
    wide, product = wide_dtype(end.dtype), p.product
    packed = None if p.packed is None else p.packed()
    known = [end, start] if packed is None else [end, start, packed.local, packed.rows]
    trusted = product is not None and all(bool(x.isfinite().all()) for x in known)
    if product is None:
        product = Scaled.identity(structure, rows, end.shape[1], end)
    if shard.passes is None:
        passes = torch.ones(len(end), 1, dtype=torch.float64, device=end.device)
    else:
        passes = shard.passes.to(torch.float64).unsqueeze(1)
    flag = torch.full((1,), float(trusted), dtype=torch.float64, device=end.device)
    return Border(product, passes, end.to(wide), start.to(wide), flag, p.place, packed)


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
