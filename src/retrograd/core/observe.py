"""See every scan that a model makes, without touching the model.

A scan tells whoever observes what it was given and what came out, with its history: hooks on the results see the
gradients. Without an observer that costs one comparison. Traced calls (torch.compile, torch.export) and calls inside a
transformation of torch.func are not told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from retrograd.core.sequences import Sequences
from retrograd.core.transition import Transition

__all__ = ["Seen", "observe"]


@dataclass(frozen=True)
class Seen:
    """One scan: what it was given, with a batch axis, and what came out.

    Attributes:
        A: the transitions, as given.
        u: the inputs to the state, ``(batch, time, width)``.
        h0: a state for every sequence, ``(sequences, width)``.
        states: ``(batch, time, width)``; what the caller was given, or (without a batch axis) a view of it.
        final: ``(sequences, width)``, as the states.
        sequences: lengths, cu_seqlens and reset, where one of them was given.
        reverse: the direction.
        backend: the name of what ran it.
    """

    A: Transition
    u: Tensor
    h0: Tensor
    states: Tensor
    final: Tensor
    sequences: Sequences | None
    reverse: bool
    backend: str


Observer = Callable[[Seen], None]
# Replaced, never changed: a scan under way goes on with those that it began with.
observers: tuple[Observer, ...] = ()


@contextmanager
def observe(observer: Observer) -> Iterator[None]:
    """Call ``observer`` with every scan made while the context lasts, in their order.

    Examples:
        >>> import torch
        >>> import retrograd as rg
        >>> seen = []
        >>> with observe(seen.append):
        ...     _ = rg.scan(rg.Diagonal(torch.tensor([0.5])), torch.ones(3, 1))
        >>> seen[0].states.flatten()
        tensor([1.0000, 1.5000, 1.7500])
    """
    global observers
    observers = (*observers, observer)
    try:
        yield
    finally:
        remaining = list(observers)
        remaining.remove(observer)
        observers = tuple(remaining)
