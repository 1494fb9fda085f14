"""Rows of numbers for display: what is drawn, marked or left out, and on which axis. Knows no plotting library.

Zero, infinity, NaN, what rounding hides, and what there is not are five things; no two of them look the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

__all__ = ["EXPONENT", "LINEAR", "LOG", "WORDS", "Curve", "few", "on_axis", "scale_for"]

Array = np.ndarray[Any, Any]

# What an axis shows: numbers, their decades, or, near the ends of float64, the exponents themselves: the margins of a
# logarithmic axis would be infinite there.
LINEAR, LOG, EXPONENT = "linear", "log", "exponent"
FARTHEST = 250
# Of what stands at an edge in place of its height.
WORDS = {"zero": "0 in float64", "infinite": "infinite in float64", "nan": "not a number"}


class Curve:
    """A row of numbers from 0 up, each drawn, marked or left out: one rule for every picture.

    Args:
        name: what the legend calls it.
        x: where they are.
        values: the numbers.
        log10: of them, if known beyond the ends of float64.
        left_out: those that are not to be shown at all; who leaves them out says so.
    """

    def __init__(
        self, name: str, x: Array, values: Array, *, log10: Array | None = None, left_out: Array | None = None
    ) -> None:
        self.name, self.x, self.values = name, np.asarray(x), np.asarray(values, dtype=float)
        with np.errstate(divide="ignore", invalid="ignore"):
            self.log10 = np.log10(self.values) if log10 is None else log10
        self._shown = np.ones(len(self.x), dtype=bool) if left_out is None else ~left_out

    @property
    def exponents(self) -> Array:
        """log10 of what is neither zero, infinite nor NaN."""
        return np.asarray(self.log10[self._shown & np.isfinite(self.log10)])

    @property
    def sampled(self) -> bool:
        """Whether steps between the numbers were not looked at: a line alone would seem to know them."""
        return len(self.x) > 1 and len(self.x) <= self.x[-1] - self.x[0]

    def heights(self, scale: str) -> Array:
        """Return what the curve goes through, NaN where it breaks."""
        there = self._shown & np.isfinite(self.values if scale == LINEAR else self.log10)
        found: Array = np.where(there, self.log10 if scale == EXPONENT else self.values, np.nan)
        return found

    def alone(self, scale: str) -> Array:
        """Return which points have no neighbour to be joined with: a line shows nothing of them."""
        padded = np.pad(np.isfinite(self.heights(scale)), 1)
        return np.asarray(padded[1:-1] & ~padded[:-2] & ~padded[2:])

    def marks(self) -> list[tuple[str, Array]]:
        """Return which are zero, infinite and NaN; kinds that there are none of are left out."""
        kinds = (("zero", self.log10 == -np.inf), ("infinite", self.log10 == np.inf), ("nan", np.isnan(self.log10)))
        return [(kind, mask & self._shown) for kind, mask in kinds if (mask & self._shown).any()]


def scale_for(curves: Iterable[Curve]) -> str:
    """Return what the axis of these curves shows: decades where they span one."""
    exponents = np.concatenate([curve.exponents for curve in curves])
    if not len(exponents):
        return LINEAR
    if np.abs(exponents).max() > FARTHEST:
        return EXPONENT
    return LOG if exponents.max() - exponents.min() > 1 else LINEAR


def few(mask: Array, most: int) -> Array:
    """Return where a mask is true, of long stretches ``most`` places or so with their ends: marks are no curve.

    >>> few(np.array([True] * 9 + [False, True]), 3).tolist()
    [0, 4, 8, 10]
    """
    at, padded = np.flatnonzero(mask), np.pad(mask, 1)
    kept = mask & ~(padded[:-2] & padded[2:])
    kept[at[:: -(-len(at) // most)]] = True
    return np.flatnonzero(kept)


def on_axis(label: str, scale: str) -> str:
    """Return a label that says so where exponents are drawn."""
    return f"log₁₀ of the {label}" if scale == EXPONENT else label
