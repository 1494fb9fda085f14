"""Forecasts that are made together: their weighted mean, or what lies halfway to their median."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["combined", "named"]

Array = np.ndarray[Any, Any]


def combined(forecasts: Array, weights: Array, median: float) -> Array:
    """Return one forecast ``(n, K)`` of several, ``(m, n, K)``.

    Args:
        forecasts: of m contenders.
        weights: of their mean, ``(m,)``, of sum 1; the median is of those that have one.
        median: its part; the rest is the mean's.

    Examples:
        >>> combined(np.array([[[1.0]], [[2.0]], [[9.0]]]), np.array([0.25, 0.25, 0.5]), median=0.5)
        array([[3.625]])
    """
    mean = np.asarray(np.einsum("m,mnk->nk", weights, forecasts))
    return mean if median == 0 else (1 - median) * mean + median * np.median(forecasts[weights > 0], axis=0)


def named(names: list[str], median: float) -> str:
    """Say what forecasts.

    >>> named(["AR"], 0.0), named(["AR", "drift"], 0.0)
    ('AR', 'mean of 2: AR; drift')
    """
    how = "mean" if median == 0 else "mean and median"
    return names[0] if len(names) == 1 else f"{how} of {len(names)}: {'; '.join(names)}"
