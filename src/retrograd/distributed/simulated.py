"""Ranks that are threads of one process: the code of real ranks, without processes and without a network.

For tests of what is sharded, and for more ranks than there are cores: a thousand of them run here.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TypeVar

import torch

from retrograd.distributed.ranks import LostRankError, Message, RankError, Ranks
from retrograd.errors import require_whole

__all__ = ["LocalRanks", "simulate"]

Result = TypeVar("Result")


class LocalRanks(Ranks):
    """One of the ranks of :func:`simulate`."""

    def __init__(self, rank: int, boxes: dict[tuple[int, int], queue.SimpleQueue[Message | None]], size: int) -> None:
        super().__init__(timeout=60.0)
        self.rank, self.size, self._boxes = rank, size, boxes

    def swap(self, to: int | None, message: Message, source: int | None, seconds: float) -> Message | None:
        """Put the message into the other's box, and take one out of this rank's own."""
        if to is not None:
            self.count(message)
            self._box(self.rank, to).put(message._replace(numbers=message.numbers.clone()))
        if source is None:
            return None
        try:
            found = self._box(source, self.rank).get(timeout=seconds)
        except queue.Empty:
            raise LostRankError(source, f"nothing came within {seconds:.3g} s") from None
        if found is None:
            raise LostRankError(source, "it has ended")
        return found

    def _box(self, source: int, to: int) -> queue.SimpleQueue[Message | None]:
        return self._boxes.setdefault((source, to), queue.SimpleQueue())

    def end(self) -> None:
        """Say that this rank sends nothing more."""
        for to in range(self.size):
            self._box(self.rank, to).put(None)

    def finish(self, seconds: float) -> None:
        """Do nothing: what was sent is there."""


def simulate(size: int, work: Callable[[Ranks], Result]) -> list[Result]:
    """Run ``work(ranks)`` as each of ``size`` ranks, in threads of this process, and return what each returned.

    Args:
        size: how many ranks.
        work: is given the ranks as one of them sees them, to be passed on as ``group``.

    Raises:
        BaseException: what the first rank that failed raised, after all have ended.

    Examples:
        >>> from retrograd import Diagonal, distributed
        >>> u, a = torch.ones(4, 1), torch.tensor([0.5])
        >>> def work(ranks):
        ...     stretch = u[2 * ranks.rank : 2 * ranks.rank + 2]
        ...     return distributed.scan(Diagonal(a), stretch, group=ranks)[0].flatten()
        >>> torch.cat(simulate(2, work))
        tensor([1.0000, 1.5000, 1.7500, 1.8750])
    """
    size = require_whole("size", size)
    boxes: dict[tuple[int, int], queue.SimpleQueue[Message | None]] = {}
    results: dict[int, Result] = {}
    failures: dict[int, BaseException] = {}

    with_gradient = torch.is_grad_enabled()

    def run(rank: int) -> None:
        ranks = LocalRanks(rank, boxes, size)
        try:
            with torch.set_grad_enabled(with_gradient):
                results[rank] = work(ranks)
        except BaseException as error:
            failures[rank] = error
            ranks.end()

    threads = [threading.Thread(target=run, args=(rank,), name=f"rank {rank}") for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:  # what failed by itself comes before what it made fail
        raise failures[min(failures, key=lambda rank: (isinstance(failures[rank], RankError), rank))]
    return [results[rank] for rank in range(size)]
