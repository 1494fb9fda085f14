"""How many threads a call takes: one where waking a second takes as long as the work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["threads_for"]

# Multiplications below which one thread is best.
_SMALL = 1 << 22


@contextmanager
def threads_for(work: int) -> Iterator[None]:
    """Run small scans on one thread: on a busy machine, the second one of each is waited for.

    Args:
        work: about how many multiplications they are: steps times the square of the width.

    Examples:
        >>> with threads_for(1000):
        ...     torch.get_num_threads()
        1
    """
    before = torch.get_num_threads()
    if work >= _SMALL or before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
