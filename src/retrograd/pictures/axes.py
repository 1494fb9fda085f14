"""What an axis is to count in: times, dates or decades. Knows no plotting library."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["is_dated", "numbers", "spans_decades"]

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
