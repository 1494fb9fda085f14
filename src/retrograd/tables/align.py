"""Match the columns of tables by name and their rows by time.

Arrays and lists have no names and no times: they are matched by place, and their lengths must be equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from retrograd.errors import InputError

__all__ = ["by_name", "by_time", "rows_ahead"]

Table = pd.DataFrame | pd.Series


def by_name(argument: str, values: Any, names: Sequence[str]) -> Any:
    """Return a table's columns in the order of ``names``; values without column names as they are.

    Args:
        argument: what the values are called, for messages.
        values: a table, a named series, or an array.
        names: the columns that are wanted, as text.

    Raises:
        InputError: the table has other columns, or ``names`` stood for arrays of as many columns and it has others.

    Examples:
        >>> by_name("U", pd.DataFrame({"b": [1], "a": [2]}), ["a", "b"]).columns.tolist()
        ['a', 'b']
    """
    if not isinstance(values, pd.DataFrame):
        return values
    given = [str(column) for column in values.columns]
    if given == list(names):
        return values
    if sorted(given) == sorted(names):
        return values.iloc[:, [given.index(name) for name in names]]
    missing = [name for name in names if name not in given]
    extra = [name for name in given if name not in names]
    parts = ([f"lacks {_some(missing)}"] if missing else []) + ([f"has {_some(extra)} beside"] if extra else [])
    raise InputError(f"{argument} {' and '.join(parts)}, expected the columns {_some(names)}")


def by_time(argument: str, values: Any, times: pd.Index | None, other: str) -> Any:
    """Return the rows of a table at ``times``; values without an index as they are.

    Args:
        argument: what the values are called, for messages.
        values: a table or series, or an array.
        times: an index that they are to have; None where there is none.
        other: what has these times, for messages.

    Raises:
        InputError: a time comes twice, or has no row.

    Examples:
        >>> by_time("U", pd.Series([1, 2, 3], index=[5, 6, 7]), pd.Index([6, 7]), "Y").tolist()
        [2, 3]
    """
    if times is None or not isinstance(values, (pd.DataFrame, pd.Series)) or values.index.equals(times):
        return values
    index = values.index
    if _counts(index) and _counts(times):
        return values  # numbered 0, 1, 2, ...: the caller checks how many there are
    if not index.is_unique:
        raise InputError(f"{argument} has more than one row at {index[index.duplicated()][0]}: leave one row a time")
    places = index.get_indexer(times) if _comparable(index, times) else None
    if places is None:
        raise InputError(
            f"{argument} has an index of {index.dtype}, {other} one of {times.dtype}: give both the same times"
        )
    if (places < 0).any():
        count = int((places < 0).sum())
        raise InputError(
            f"{argument} has no row at {times[int((places < 0).argmax())]}, which {other} has ({count} missing): give "
            "both the same times"
        )
    return values.iloc[places]


def rows_ahead(argument: str, values: Any, times: pd.Index | None, count: int) -> Any:
    """Return the rows of the next ``count`` steps: by time where there are times, else exactly ``count`` rows.

    Args:
        argument: what the values are called, for messages.
        values: a table, a series or an array of the future.
        times: the times of the next steps; None where they have none.
        count: how many steps are asked for.

    Raises:
        InputError: a time has no row, or there are more or fewer rows than steps.

    Examples:
        >>> rows_ahead("U_future", pd.Series([1, 2, 3], index=[5, 6, 7]), pd.Index([6, 7]), 2).tolist()
        [2, 3]
    """
    if times is not None and isinstance(values, (pd.DataFrame, pd.Series)):
        index = values.index
        if _comparable(index, times) and not (_counts(index) and len(values) == count and not index.isin(times).any()):
            return by_time(argument, values, times, "the forecast")
        if not _counts(index):
            raise InputError(
                f"{argument} has an index of {index.dtype}, the series one of {times.dtype}: give the {count} steps "
                f"that follow, from {times[0]}"
            )
    if len(values) != count:
        raise InputError(f"{argument} has {len(values)} rows, expected the {count} steps that follow the series")
    return values


def _counts(index: pd.Index) -> bool:
    """Return whether an index is 0, 1, 2, ..., and so says no more than the place."""
    return isinstance(index, pd.RangeIndex) and index.start == 0 and index.step == 1


def _comparable(index: pd.Index, times: pd.Index) -> bool:
    """Return whether values of one index can be among those of the other."""
    kinds = [
        "period" if isinstance(i, pd.PeriodIndex) else "date" if isinstance(i, pd.DatetimeIndex) else i.dtype.kind
        for i in (index, times)
    ]
    numbers = {"i", "u", "f"}
    if isinstance(index, pd.DatetimeIndex) and isinstance(times, pd.DatetimeIndex):
        return (index.tz is None) == (times.tz is None)
    return kinds[0] == kinds[1] or set(kinds) <= numbers


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name if len(name) <= 60 else name[:57] + "...") for name in names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"
