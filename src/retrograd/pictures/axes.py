"""Decisions on axes: dates or numbers, decades, limits, isolated points. Knows no plotting library."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["is_dated", "isolated", "numbers", "spans_decades", "visible_range"]

Array = np.ndarray[Any, Any]


def is_dated(time: Array) -> bool:
    """Whether times are dates.

    >>> is_dated(np.array(["2024-01-01"], "datetime64[D]")), is_dated(np.array([1700]))
    (True, False)
    """
    return bool(np.issubdtype(np.asarray(time).dtype, np.datetime64))


def numbers(time: Array) -> Array:
    """Return times as the pages' axes count: dates in milliseconds since 1970.

    >>> numbers(np.array(["1970-01-02"], "datetime64[D]")), numbers(np.array([1700, 1701]))
    (array([86400000.]), array([1700., 1701.]))
    """
    time = np.asarray(time)
    return time.astype("datetime64[us]").astype(float) / 1000 if is_dated(time) else time.astype(float)


def spans_decades(values: Array) -> bool:
    """Whether a logarithmic axis serves: every value positive, the largest at least ten times the smallest.

    >>> spans_decades(np.array([1.0, 20.0])), spans_decades(np.array([0.0, 20.0]))
    (True, False)
    """
    return bool(np.isfinite(values).all() and (values > 0).all() and values.max() >= 10 * values.min())


def isolated(values: Array) -> Array:
    """Return the indices of finite values without a finite neighbour: a line shows nothing of them.

    >>> isolated(np.array([1.0, np.nan, 2.0, 3.0]))
    array([0])
    """
    finite = np.pad(np.isfinite(values), 1)
    return np.flatnonzero(finite[1:-1] & ~finite[:-2] & ~finite[2:])


def visible_range(observed: Array, drawn: Array) -> tuple[float, float] | None:
    """Return limits around the observed values where a prediction leaves them so far that nothing else could be seen.

    >>> visible_range(np.array([0.0, 1.0]), np.array([0.5, 1e9]))
    (-1.0, 2.0)
    >>> visible_range(np.array([0.0, 1.0]), np.array([0.5, 1.5])) is None
    True
    """
    seen, values = observed[np.isfinite(observed)], drawn[np.isfinite(drawn)]
    if not len(seen) or not len(values) or seen.max() == seen.min():
        return None
    low, high = float(seen.min()), float(seen.max())
    span = high - low
    if values.min() >= low - 5 * span and values.max() <= high + 5 * span:
        return None
    return low - span, high + span
