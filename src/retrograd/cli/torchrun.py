"""Whether torchrun has started this process, without importing torch."""

from __future__ import annotations

import os

from retrograd.errors import InputError

__all__ = ["follows", "require_started", "started"]


def started() -> int:
    """Return how many ranks torchrun has started; 0 where this process is none."""
    size = os.environ.get("WORLD_SIZE", "")
    return int(size) if "RANK" in os.environ and size.isdigit() else 0


def follows() -> bool:
    """Return whether this process is one of several ranks and not the first, which alone speaks and writes."""
    return started() > 1 and os.environ["RANK"] != "0"


def require_started(count: int) -> int:
    """Return ``--time-parallel``, as many ranks as torchrun has started.

    Raises:
        InputError: it has started others.
    """
    size = started()
    if not size:
        raise InputError(
            f"--time-parallel {count} needs ranks: torchrun --standalone --nproc-per-node {count} -m retrograd fit ..."
        )
    if size != count:
        raise InputError(f"--time-parallel is {count}, torchrun has started {size}: give them one number")
    return count
