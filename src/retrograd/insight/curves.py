"""The curves, cells and labels that pictures show of each record of an analysis."""

from __future__ import annotations

from typing import Any

import numpy as np

from retrograd.insight.flow import Jacobians
from retrograd.insight.lags import LagMap
from retrograd.insight.spectrum import Spectrum
from retrograd.insight.truncation import Truncation
from retrograd.pictures.curves import WORDS, Curve

__all__ = [
    "FAINTEST",
    "by_lag",
    "cells",
    "lag_label",
    "lag_ticks",
    "memories",
    "no_shares",
    "only_source",
    "singular_values",
    "truncated",
]

Array = np.ndarray[Any, Any]

# Distances between the ticks of an axis.
_ROUND = [digit * 10**zeros for zeros in range(18) for digit in (1, 2, 5)]
# Smaller shares are white in a map.
FAINTEST = 1e-6


def singular_values(found: Jacobians) -> tuple[list[Curve], list[str]]:
    """Return the largest singular values by lag, and a note on those that rounding hides."""
    values, curves, hidden = found.resolved, [], np.zeros(len(found.lags), dtype=bool)
    for number, name in enumerate(("largest", "second", "third", "fourth")[: values.shape[1]]):
        left_out = np.isnan(values[:, number]) & ~np.isnan(found.singular_values[:, number])
        # Only the logarithm of the largest is known beyond float64.
        log10 = found.log10_norm if number == 0 else None
        curves.append(Curve(name, found.lags, values[:, number], log10=log10, left_out=left_out))
        hidden |= left_out
    if not hidden.any():
        return curves, []
    return curves, [f"Not drawn: what lies below the rounding of the product of matrices (from k = "
                    f"{found.lags[hidden.argmax()]} on)."]  # fmt: skip


def truncated(found: Truncation) -> tuple[Curve, Curve, list[str]]:
    """Return relative error and angle by window, and a note on windows without an angle."""
    nothing = np.isnan(found.angle) & ~np.isnan(found.relative_error)
    notes = [f"Not drawn: the angle of windows that keep nothing: G_k = 0 has none ({nothing.sum()} of them)."]
    return (
        Curve("relative error", found.windows, found.relative_error),
        Curve("angle", found.windows, found.angle, left_out=nothing),
        notes if nothing.any() else [],
    )


def no_shares(found: LagMap) -> str | None:
    """Return the reason why a gradient has no shares and no direction; None if it has."""
    size = found.gradient_norm
    if size > 0 and np.isfinite(size):
        return None
    what = "zero" if size == 0 else WORDS["nan"] if np.isnan(size) else WORDS["infinite"]
    return f"the gradient is {what}: it has no shares and no direction"


def only_source(found: LagMap) -> int | None:
    """Return the step, from 1, that the loss looks at if it is the only one, a map with one column; else None."""
    heard = np.flatnonzero((found.share != 0).any(1))
    return int(heard[0]) + 1 if len(heard) == 1 else None


def cells(found: LagMap, most: int) -> tuple[Array, Array, Array]:
    """Return the edges of the columns, the shares, and a mask of the cells that exist: step t has lags below t only."""
    edges, share = found.coarse(most)
    return edges, share, found.edges[None, :-1] < edges[1:, None]


def by_lag(found: LagMap) -> tuple[Curve, Curve, Curve]:
    """Return the sizes of the shares by bin of lags: those along the gradient, those against it, and the rest."""
    share = found.by_lag
    at, size = np.arange(len(share)) + 0.5, np.abs(share)
    return (
        Curve("along the gradient", at, size, left_out=~((share > 0) & (size < np.inf))),
        Curve("against the gradient", at, size, left_out=~((share < 0) & (size < np.inf))),
        Curve("share", at, size, left_out=(size > 0) & (size < np.inf)),
    )


def lag_ticks(found: LagMap, most: int) -> dict[int, str]:
    """Return the ticks of an axis of bins: positions, and the lags that the bins there begin at."""
    bins = len(found.edges) - 1
    least = -(-bins // most)
    even = len(found.edges) == found.edges[-1] + 1
    step = next(size for size in (_ROUND if even else range(least, bins + 1)) if size >= least)
    return {tick: str(found.edges[tick]) for tick in range(0, bins + 1, step)}


def lag_label(found: LagMap) -> str:
    """Return the label of an axis of bins."""
    return "lag k, steps" if len(found.edges) == found.edges[-1] + 1 else "lag k, steps (not to scale)"


def memories(found: Spectrum, interval: float = 1.0) -> list[tuple[str, str, Array, Array | None]]:
    """Return how long modes remember, as (kind, name, numbers of the modes, times); None for times off the axis."""
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
