"""Curves for display: which numbers are drawn, marked or left out, and on which axis. Knows no plotting library.

Zero, infinity, NaN, numbers hidden by rounding and missing numbers look different from each other in every picture.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

__all__ = ["EXPONENT", "LINEAR", "LOG", "WORDS", "Curve", "few", "on_axis", "scale_for"]

Array = np.ndarray[Any, Any]

# An axis shows numbers, decades, or exponents: near the ends of float64 the margins of a logarithmic axis overflow.
LINEAR, LOG, EXPONENT = "linear", "log", "exponent"
FARTHEST = 250
# Names of the marks that stand at an edge of the picture, for numbers without a height.
WORDS = {"zero": "0 in float64", "infinite": "infinite in float64", "nan": "not a number"}


class Curve:
    """A curve of numbers that are not negative. Each is drawn, marked or left out, by one rule for every picture.

    Args:
        name: what the legend calls it.
        x: places of the numbers.
        values: the numbers.
        log10: their logarithms, if known beyond the ends of float64.
        left_out: mask of those that are not shown at all; whoever sets it adds a note to the picture.
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
        """log10 of the numbers that are not zero, infinite or NaN."""
        return np.asarray(self.log10[self._shown & np.isfinite(self.log10)])

    @property
    def sampled(self) -> bool:
        """Whether there are steps between the numbers, which a line alone would seem to show."""
        return len(self.x) > 1 and len(self.x) <= self.x[-1] - self.x[0]

    def heights(self, scale: str) -> Array:
        """Return the heights of the line, NaN where it breaks."""
        there = self._shown & np.isfinite(self.values if scale == LINEAR else self.log10)
        found: Array = np.where(there, self.log10 if scale == EXPONENT else self.values, np.nan)
        return found

    def alone(self, scale: str) -> Array:
        """Return a mask of the points without a neighbour, which a line does not show."""
        padded = np.pad(np.isfinite(self.heights(scale)), 1)
        return np.asarray(padded[1:-1] & ~padded[:-2] & ~padded[2:])

    def marks(self) -> list[tuple[str, Array]]:
        """Return a mask for each of zero, infinite and NaN that occurs."""
        kinds = (("zero", self.log10 == -np.inf), ("infinite", self.log10 == np.inf), ("nan", np.isnan(self.log10)))
        return [(kind, mask & self._shown) for kind, mask in kinds if (mask & self._shown).any()]


def scale_for(curves: Iterable[Curve]) -> str:
    """Return what the axis of these curves shows: decades if they span one, exponents near the ends of float64."""
    exponents = np.concatenate([curve.exponents for curve in curves])
    if not len(exponents):
        return LINEAR
    if np.abs(exponents).max() > FARTHEST:
        return EXPONENT
    return LOG if exponents.max() - exponents.min() > 1 else LINEAR


def few(mask: Array, most: int) -> Array:
    """Return where a mask is true; of long stretches the ends and about ``most`` places in all.

    >>> few(np.array([True] * 9 + [False, True]), 3).tolist()
    [0, 4, 8, 10]
    """
    at, padded = np.flatnonzero(mask), np.pad(mask, 1)
    kept = mask & ~(padded[:-2] & padded[2:])
    kept[at[:: -(-len(at) // most)]] = True
    return np.flatnonzero(kept)


def on_axis(label: str, scale: str) -> str:
    """Return the label of an axis: of exponents it says so."""
    return f"log₁₀ of the {label}" if scale == EXPONENT else label
