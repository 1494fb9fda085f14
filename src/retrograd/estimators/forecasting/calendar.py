"""Calendar inputs: where in the day, the week, the month and the year a time lies, as points on circles.

Each cycle gives pairs sin 2πkφ, cos 2πkφ of its phase φ in [0, 1): a linear read-out of a pair is any sine of that
period, and no hour is farther from its neighbour than another (23 h and 0 h are neighbours too).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from retrograd.errors import InputError, require_choice

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CYCLES", "calendar_inputs", "calendar_names"]

Array = np.ndarray[Any, Any]


def _day(index: pd.DatetimeIndex) -> Array:
    return np.asarray((index.hour + (index.minute + index.second / 60) / 60) / 24)


def _month(index: pd.DatetimeIndex) -> Array:
    return np.asarray((index.day - 1 + _day(index)) / index.days_in_month)


# The phase of every cycle, in [0, 1).
CYCLES: dict[str, Callable[[pd.DatetimeIndex], Array]] = {
    "minute": lambda index: np.asarray((index.minute + index.second / 60) / 60),
    "hour": _day,
    "weekday": lambda index: np.asarray((index.dayofweek + _day(index)) / 7),
    "day": _month,
    "month": lambda index: np.asarray((index.month - 1 + _month(index)) / 12),
}
# What each cycle is called in words, for messages.
_LENGTH = {"minute": "an hour", "hour": "a day", "weekday": "a week", "day": "a month", "month": "a year"}


def calendar_names(calendar: Sequence[str]) -> list[str]:
    """Return the names of the columns that :func:`calendar_inputs` gives.

    >>> calendar_names(["hour", "weekday*2"])
    ['hour.sin', 'hour.cos', 'weekday.sin', 'weekday.cos', 'weekday*2.sin', 'weekday*2.cos']
    """
    names = []
    for entry in calendar:
        cycle, harmonics = _entry(entry)
        for k in range(1, harmonics + 1):
            label = cycle if k == 1 else f"{cycle}*{k}"
            names += [f"{label}.sin", f"{label}.cos"]
    return names


def calendar_inputs(index: Any, calendar: Sequence[str]) -> Array:
    """Return sine and cosine of every cycle at every time, ``(T, 2 × pairs)``.

    Args:
        index: a ``DatetimeIndex`` or a ``PeriodIndex``, whose periods count from their start.
        calendar: ``"minute"`` (place in the hour), ``"hour"`` (in the day), ``"weekday"`` (in the week), ``"day"`` (in
            the month), ``"month"`` (in the year); ``"hour*3"`` adds the second and third harmonic.

    Raises:
        InputError: a name is unknown, or the index has no dates.

    Examples:
        >>> import pandas as pd
        >>> calendar_inputs(pd.date_range("2024-01-01", periods=3, freq="6h"), ["hour"]).round(6) + 0.0
        array([[ 0.,  1.],
               [ 1.,  0.],
               [ 0., -1.]])
    """
    import pandas as pd

    if not calendar:
        return np.empty((len(index), 0))
    entries = [_entry(entry) for entry in calendar]
    if isinstance(index, pd.PeriodIndex):
        index = index.to_timestamp(how="start")
    if not isinstance(index, pd.DatetimeIndex):
        raise InputError(
            f"calendar is {tuple(calendar)!r}, but the index is a {type(index).__name__} without dates: give y a "
            "DatetimeIndex or a PeriodIndex, or leave calendar empty"
        )
    columns = []
    for cycle, harmonics in entries:
        phase = CYCLES[cycle](index)
        for k in range(1, harmonics + 1):
            columns += [np.sin(2 * np.pi * k * phase), np.cos(2 * np.pi * k * phase)]
    return np.stack(columns, axis=1).astype(np.float64)


def require_change(inputs: Array, calendar: Sequence[str]) -> None:
    """Raise :class:`InputError` if a cycle stands still in ``inputs`` of the training part."""
    at = 0
    for entry in calendar:
        cycle, harmonics = _entry(entry)
        pairs = inputs[:, at : at + 2 * harmonics]
        at += 2 * harmonics
        if len(pairs) and np.ptp(pairs, axis=0).max() < 1e-9:
            raise InputError(
                f"calendar {entry!r} never changes in the training part: its index always stands at the same place of "
                f"{_LENGTH[cycle]}; leave it out"
            )


def _entry(entry: str) -> tuple[str, int]:
    """Return a cycle and how many harmonics of it."""
    cycle, star, count = str(entry).partition("*")
    require_choice("calendar", cycle, list(CYCLES))
    if star and not (count.isdigit() and int(count) >= 1):
        raise InputError(f"calendar {entry!r}: after * stands how many harmonics, as in '{cycle}*3'")
    return cycle, int(count) if star else 1
