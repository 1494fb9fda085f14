"""What stands before each rank, combined, and what all of them are together: in ⌈log2⌉ rounds, without a centre.

A value of each rank and an associative rule make, where a scan runs from the first rank to the last,

    before_r = v_0 ∘ v_1 ∘ ... ∘ v_(r-1)        total = v_0 ∘ v_1 ∘ ... ∘ v_(size-1)

and where it runs backward the same from the other end. In round k rank r and rank r XOR 2^k tell each other the total
of their 2^k ranks (a hypercube; Ladner and Fischer, Parallel Prefix Computation, 1980; as MPI_Scan does it). Where
their number is no power of two, the first ranks pair up before and share the result afterwards. Both ends of a message
do the same arithmetic, so that all have the same bits.

Each message says what its sender is doing. A rank that finds another one lost, or doing something else, tells the
partners of its remaining rounds, and so everybody hears of it within the time limit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

import torch
from torch import Tensor

from retrograd.distributed.ranks import LostRankError, Message, RankError, Ranks

__all__ = ["Exchange", "prefix", "summed", "tell_failure"]

Value = TypeVar("Value")
_NOTHING = torch.empty(0, dtype=torch.float64)
# The share of the time limit after which the first round gives up: later ones wait longer, to hear who was lost.
_FIRST = 0.6
_FAREWELL = 2.0


class Exchange(Generic[Value]):
    """One operation of all ranks: its messages, its time limit, and what has gone wrong so far.

    Args:
        ranks: the ranks.
        what: what this rank does, as text: all ranks must do the same.
        write: a value as float64 numbers.
        read: the value of such numbers.
        combine: the rule: of what comes earlier in the scan's direction, and later.
        backward: whether that direction is from the last rank to the first.
    """

    def __init__(
        self,
        ranks: Ranks,
        what: str,
        write: Callable[[Value], Tensor],
        read: Callable[[Tensor], Value],
        combine: Callable[[Value, Value], Value],
        backward: bool = False,
    ) -> None:
        self._ranks, self._write, self._read, self._combine, self._backward = ranks, write, read, combine, backward
        ranks.calls += 1
        self._what = f"{what} (operation {ranks.calls})"
        self._begun, self._failure = time.monotonic(), ""

    def swap(self, to: int | None, value: Value | None, source: int | None, late: float = 1.0) -> Value | None:
        """Send a value to a rank and return the one from another; None after a failure, which is passed on.

        ``late`` is the share of the time limit after which the wait ends.
        """
        if self._failure:  # nothing that comes can be used: only say so
            self._say_goodbye(to)
            return None
        numbers = _NOTHING if value is None else self._write(value)
        left = self._begun + late * self._ranks.timeout - time.monotonic()
        try:
            got = self._ranks.swap(to, Message(self._what, numbers), source, left)
        except LostRankError as error:
            self._failure = self._of_lost(error)
            return None
        if got is None:
            return None
        if got.failed:
            self._failure = got.text
        elif got.text != self._what:
            self._failure = f"ranks disagree: rank {source} runs {got.text}; rank {self._ranks.rank} runs {self._what}"
        return None if self._failure else self._read(got.numbers)

    def _of_lost(self, error: LostRankError) -> str:
        return (
            f"{self._what}: rank {error.rank} is lost to rank {self._ranks.rank} ({error.reason}): it died, hangs, or "
            f"does not run this operation (time limit {self._ranks.timeout:g} s)"
        )

    def _say_goodbye(self, partner: int | None) -> None:
        with suppress(LostRankError):
            self._ranks.swap(partner, Message(self._failure, _NOTHING, True), None, _FAREWELL)

    def fail(self, error: BaseException) -> None:
        """Take down what went wrong on this rank: from now on the others are told that."""
        said = str(error).partition("\n")[0]
        self._failure = f"rank {self._ranks.rank} fails in {self._what}: {type(error).__name__}: {said}"

    @property
    def failed(self) -> bool:
        """Whether something has gone wrong."""
        return bool(self._failure)

    def end(self, late: float = 1.0) -> None:
        """Wait until everything has left, so many time limits from the beginning.

        Raises:
            RankError: something went wrong, here or elsewhere.
        """
        left = self._begun + late * self._ranks.timeout - time.monotonic()
        try:
            self._ranks.finish(_FAREWELL if self._failure else left)
        except LostRankError as error:
            self._failure = self._failure or self._of_lost(error)
        if self._failure:
            raise RankError(self._failure)

    def prefix(self, value: Value, late: float = 1.0) -> tuple[Value | None, Value]:
        """Return what stands before this rank, None for the first one, and the total.

        ``late`` is how many time limits the ranks may be apart when they begin.

        Raises:
            RankError: a rank is lost, or does something else.
        """
        size, rank = self._ranks.size, self._ranks.rank
        power = 1 << (size.bit_length() - 1)
        paired = 2 * (size - power)  # the first so many ranks are pairs, for which the odd one speaks
        rounds = power.bit_length() - 1
        if rank < paired and rank % 2 == 0:
            self.swap(rank + 1, value, None)
            known = self.swap(None, None, rank + 1, 0.95 * late), self.swap(None, None, rank + 1, late)
            self.end(late)
            return None if rank == 0 and not self._backward else known[0], value if known[1] is None else known[1]
        even = self.swap(None, None, rank - 1, _FIRST * late) if rank < paired else None
        total = value if even is None else self._in_order(even, value)
        before: Value | None = None
        node = rank // 2 if rank < paired else rank - paired // 2
        for k in range(rounds):
            partner = node ^ 1 << k
            there = 2 * partner + 1 if 2 * partner < paired else partner + paired // 2
            got = self.swap(there, total, there, (_FIRST + (0.9 - _FIRST) * (k + 1) / rounds) * late)
            if got is None:
                continue
            if (partner < node) != self._backward:  # it comes earlier
                before = got if before is None else self._combine(got, before)
            total = self._in_order(got, total) if partner < node else self._in_order(total, got)
        if rank < paired:
            beside = value if self._backward or even is None else even  # the one of the pair that comes first
            behind = beside if before is None else self._combine(before, beside)
            before, for_even = (before, behind) if self._backward else (behind, before)
            self.swap(rank - 1, value if for_even is None else for_even, None)
            self.swap(rank - 1, total, None)
        self.end(late)
        return before, total

    def _in_order(self, lower: Value, higher: Value) -> Value:
        """Return two neighbours combined, the lower ranks and the higher ones."""
        return self._combine(higher, lower) if self._backward else self._combine(lower, higher)


def tell_failure(ranks: Ranks, what: str, error: BaseException, backward: bool) -> None:
    """Tell the ranks that run this operation that this one cannot, so that none waits for it."""
    exchange = Exchange[Tensor](ranks, what, lambda x: x, lambda x: x, torch.add, backward)
    exchange.fail(error)
    with suppress(RankError):
        exchange.prefix(_NOTHING)


def prefix(ranks: Ranks, what: str, numbers: Sequence[float], late: float = 1.0) -> tuple[list[float], list[float]]:
    """Return the sums of numbers of the ranks before this one, and of all ranks."""
    mine = torch.tensor(numbers, dtype=torch.float64)
    before, total = Exchange[Tensor](ranks, what, lambda x: x, lambda x: x.cpu(), torch.add).prefix(mine, late)
    return (torch.zeros_like(mine) if before is None else before).tolist(), total.tolist()


def summed(ranks: Ranks, what: str, x: Tensor, late: float = 1.0) -> Tensor:
    """Return the sum over the ranks of a floating or complex tensor, in its own dtype."""
    if ranks.size == 1:
        return x
    wide = x.to(torch.complex128 if x.is_complex() else torch.float64)

    def write(value: Tensor) -> Tensor:
        return (torch.view_as_real(value) if value.is_complex() else value).reshape(-1)

    def read(numbers: Tensor) -> Tensor:
        got = torch.view_as_complex(numbers.view(-1, 2)) if wide.is_complex() else numbers
        return got.view(wide.shape).to(wide.device)

    _, total = Exchange[Tensor](ranks, what, write, read, torch.add).prefix(wide, late)
    return total.to(x.dtype)
