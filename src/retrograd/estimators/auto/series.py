"""A series and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from retrograd.estimators.auto.understanding import Understanding

__all__ = ["Series"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Series:
    """A series and what is known of it.

    Attributes:
        y: ``(T,)``, without holes.
        x: inputs ``(T, E)``.
        known: where y was given, ``(T,)``.
        found: what it is like.
    """

    y: Array
    x: Array
    known: Array
    found: Understanding

    @property
    def longest_season(self) -> int:
        """In steps; 1 for none."""
        return max(self.found.seasons, default=1)

    def last(self, rows: int) -> Series:
        """Return the last rows of it."""
        return Series(self.y[-rows:], self.x[-rows:], self.known[-rows:], self.found)
