"""Memory for large results on the CPU.

A fresh page costs more than the arithmetic that fills it. Results above :data:`SMALLEST` bytes therefore come from
blocks on huge-page bounds, which a pool keeps when their tensor dies and hands to the next result of about that size.
It keeps at most an eighth of the machine's memory, or ``RETROGRAD_POOL_BYTES``; below the bound, on other devices and
where the system refuses, allocation is plain.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

try:
    from retrograd import _native
except ImportError:  # torch's own allocation then serves; `retrograd.show_config` says why
    _native = None  # type: ignore[assignment]

__all__ = ["empty", "empty_cache", "empty_like", "memory_stats"]

SMALLEST = 1 << 18

# DLPack's name and width of each dtype.
_KINDS = {
    torch.float16: ("float", 16),
    torch.bfloat16: ("bfloat", 16),
    torch.float32: ("float", 32),
    torch.float64: ("float", 64),
    torch.complex64: ("complex", 64),
    torch.complex128: ("complex", 128),
}


def empty(shape: Sequence[int], like: Tensor) -> Tensor:
    """Return an uninitialised contiguous tensor of ``like``'s dtype and device."""
    dtype = like.dtype
    if math.prod(shape) * dtype.itemsize < SMALLEST or _native is None or not like.is_cpu or dtype not in _KINDS:
        return like.new_empty(shape)
    return _native.empty(list(shape), *_KINDS[dtype])


def empty_like(x: Tensor) -> Tensor:
    """Return an uninitialised contiguous tensor of x's shape, dtype and device."""
    return torch.empty_like(x) if x.nbytes < SMALLEST and x.is_contiguous() else empty(x.shape, x)


def empty_cache() -> None:
    """Give every block that the pool keeps back to the system.

    >>> empty_cache()
    >>> memory_stats()["cached"]
    0
    """
    if _native is not None:
        _native.pool_release()


def memory_stats() -> dict[str, int]:
    """Return what the pool holds.

    In bytes: ``in_use`` and ``peak_in_use`` by tensors, ``cached`` for the next ones, and the ``limit`` of that.
    In blocks so far: ``fresh`` from the system, ``reused``.

    >>> sorted(memory_stats())
    ['cached', 'fresh', 'in_use', 'limit', 'peak_in_use', 'reused']
    """
    names = ("in_use", "cached", "peak_in_use", "limit", "fresh", "reused")
    return dict.fromkeys(names, 0) if _native is None else _native.pool_stats()
