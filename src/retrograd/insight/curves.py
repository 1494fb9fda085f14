"""What of an analysis has a place in a picture: one rule for matplotlib's figures and for the report's.

Zero, infinity, NaN, what rounding hides, and what there is not are five things; no two of them look the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from retrograd.insight.flow import Jacobians
    from retrograd.insight.lags import LagMap
    from retrograd.insight.spectrum import Spectrum
    from retrograd.insight.truncation import Truncation

__all__ = [
    "EXPONENT",
    "FAINTEST",
    "LINEAR",
    "LOG",
    "WORDS",
    "Curve",
    "by_lag",
    "cells",
    "few",
    "lag_label",
    "lag_ticks",
    "memories",
    "no_shares",
    "on_axis",
    "only_source",
    "scale_for",
    "singular_values",
    "truncated",
]

Array = np.ndarray[Any, Any]

# What an axis shows: numbers, their decades, or, near the ends of float64, the exponents themselves: the margins of a
# logarithmic axis would be infinite there.
LINEAR, LOG, EXPONENT = "linear", "log", "exponent"
FARTHEST = 250
# Of what stands at an edge in place of its height.
WORDS = {"zero": "0 in float64", "infinite": "infinite in float64", "nan": "not a number"}
# Steps between the ticks of an axis.
_ROUND = [digit * 10**zeros for zeros in range(18) for digit in (1, 2, 5)]
# The share from which the colours of a map begin.
FAINTEST = 1e-6


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


def singular_values(found: Jacobians) -> tuple[list[Curve], list[str]]:
    """Return the largest singular values by lag, and what is to be said of those left out."""
    values, curves, hidden = found.resolved, [], np.zeros(len(found.lags), dtype=bool)
    for number, name in enumerate(("largest", "second", "third", "fourth")[: values.shape[1]]):
        left_out = np.isnan(values[:, number]) & ~np.isnan(found.singular_values[:, number])
        # Of the largest the logarithm is known where it is itself beyond float64.
        log10 = found.log10_norm if number == 0 else None
        curves.append(Curve(name, found.lags, values[:, number], log10=log10, left_out=left_out))
        hidden |= left_out
    if not hidden.any():
        return curves, []
    return curves, [f"Not drawn: what lies below the rounding of the product of matrices (from k = "
                    f"{found.lags[hidden.argmax()]} on)."]  # fmt: skip


def truncated(found: Truncation) -> tuple[Curve, Curve, list[str]]:
    """Return relative error and angle by window, and what is to be said of angles that there are not."""
    nothing = np.isnan(found.angle) & ~np.isnan(found.relative_error)
    notes = [f"Not drawn: the angle of windows that keep nothing: G_k = 0 has none ({nothing.sum()} of them)."]
    return (
        Curve("relative error", found.windows, found.relative_error),
        Curve("angle", found.windows, found.angle, left_out=nothing),
        notes if nothing.any() else [],
    )


def no_shares(found: LagMap) -> str | None:
    """Return why a gradient has no shares and no direction; None if it has."""
    size = found.gradient_norm
    if size > 0 and np.isfinite(size):
        return None
    what = "zero" if size == 0 else WORDS["nan"] if np.isnan(size) else WORDS["infinite"]
    return f"the gradient is {what}: it has no shares and no direction"


def only_source(found: LagMap) -> int | None:
    """Return the step, from 1, that the loss looks at if it is one alone: a map of it would be one column."""
    heard = np.flatnonzero((found.share != 0).any(1))
    return int(heard[0]) + 1 if len(heard) == 1 else None


def cells(found: LagMap, most: int) -> tuple[Array, Array, Array]:
    """Return the edges of the columns, the shares, and which of these there are: a step has no lag beyond itself."""
    edges, share = found.coarse(most)
    return edges, share, found.edges[None, :-1] < edges[1:, None]


def by_lag(found: LagMap) -> tuple[Curve, Curve, Curve]:
    """Return sizes of the shares by bin of lags: along the gradient, against it, and what is neither."""
    share = found.by_lag
    at, size = np.arange(len(share)) + 0.5, np.abs(share)
    return (
        Curve("along the gradient", at, size, left_out=~((share > 0) & (size < np.inf))),
        Curve("against the gradient", at, size, left_out=~((share < 0) & (size < np.inf))),
        Curve("share", at, size, left_out=(size > 0) & (size < np.inf)),
    )


def lag_ticks(found: LagMap, most: int) -> dict[int, str]:
    """Return the lags that bins begin at, and where on an axis of bins."""
    bins = len(found.edges) - 1
    least = -(-bins // most)
    even = len(found.edges) == found.edges[-1] + 1
    step = next(size for size in (_ROUND if even else range(least, bins + 1)) if size >= least)
    return {tick: str(found.edges[tick]) for tick in range(0, bins + 1, step)}


def lag_label(found: LagMap) -> str:
    """Return what an axis of bins counts."""
    return "lag k, steps" if len(found.edges) == found.edges[-1] + 1 else "lag k, steps (not to scale)"


def memories(found: Spectrum, interval: float = 1.0) -> list[tuple[str, str, Array, Array | None]]:
    """Return how long modes remember, as (kind, name, numbers of the modes, times); without times at an edge."""
    number, constant = np.arange(1, len(found.time_constant) + 1), found.time_constant
    fading = (constant > 0) & np.isfinite(constant)
    groups: list[tuple[str, str, Array, Array | None]] = [
        ("horizon", "memory horizon: 1 % is left", fading, found.horizon),
        ("constant", "time constant: 1/e is left", fading, constant),
        ("grows", "grows: e times as much", constant < 0, -constant),
        ("forever", "never forgets, |λ| = 1", np.isinf(constant), None),
        ("once", "forgets at once, λ = 0", constant == 0, None),
    ]
    return [
        (kind, name, number[mask], None if times is None else times[mask] * interval)
        for kind, name, mask, times in groups
        if mask.any()
    ]
