"""Tables as arrays: times, instances, numbers, and what cannot be used of them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.linalg import qr

from retrograd.errors import InputError
from retrograd.estimators.forecasting.calendar import calendar_inputs
from retrograd.estimators.forecasting.settings import Instance

__all__ = [
    "NAMELESS",
    "Clock",
    "as_lists",
    "beside",
    "by_instance",
    "form_of",
    "instance_of",
    "numbers",
    "read_instances",
    "require_independent",
    "rows_ahead",
    "to_table",
    "with_instances",
]

Array = np.ndarray[Any, Any]

# The name of a series without one.
NAMELESS = 0
# A column is collinear with others if they leave less than this part of it.
_OWN_PART = 1e-8


@dataclass(frozen=True)
class Clock:
    """The last time of a series, and what comes after it.

    Attributes:
        last: the index from which the next times are counted, of length 1.
        freq: step of a ``DatetimeIndex`` as text; None if it is unknown or the index counts.
    """

    last: pd.Index
    freq: str | None

    @classmethod
    def of(cls, index: pd.Index) -> Clock:
        """Read an index.

        >>> Clock.of(pd.period_range("2024-01", periods=3, freq="M")).after([1, 3])
        PeriodIndex(['2024-04', '2024-06'], dtype='period[M]')
        """
        freq = None
        if isinstance(index, (pd.DatetimeIndex, pd.TimedeltaIndex)):
            freq = index.freqstr or (pd.infer_freq(index) if len(index) > 2 else None)
        return cls(index[-1:], freq)

    def after(self, steps: Sequence[int] | Array) -> Any:
        """Return the times ``steps`` after the last.

        Raises:
            InputError: the dates have no regular step.
        """
        counts = [int(step) for step in steps]
        last: Any = self.last[0]
        name: Any = self.last.name
        if isinstance(self.last, pd.PeriodIndex):
            return pd.PeriodIndex([last + step for step in counts], dtype=self.last.dtype, name=name)
        if isinstance(self.last, (pd.DatetimeIndex, pd.TimedeltaIndex)):
            if self.freq is None:
                raise InputError(
                    "the index of y has no regular step (freq), so the times to predict are unknown: call "
                    "y.asfreq(...), or give a PeriodIndex"
                )
            offset = pd.tseries.frequencies.to_offset(self.freq)
            times = [last + step * offset for step in counts]
            made = pd.DatetimeIndex if isinstance(self.last, pd.DatetimeIndex) else pd.TimedeltaIndex
            index: Any = made(times, name=name)
            if counts == list(range(counts[0], counts[0] + len(counts))):
                index.freq = self.freq
            return index
        return pd.Index([last + step for step in counts], name=name)

    def require_next(self, time: Any) -> None:
        """Raise :class:`InputError` unless ``time`` comes right after the last, where it is known what does."""
        if isinstance(self.last, (pd.DatetimeIndex, pd.TimedeltaIndex)) and self.freq is None:
            return
        expected = self.after([1])[0]
        if time != expected:
            raise InputError(
                f"y goes on at {time}, the series ended at {self.last[0]}: {expected} comes next; fill the gap, or fit "
                "again"
            )

    def before(self, count: int) -> Any:
        """Return the last ``count`` times, the last one included; one alone if dates have no regular step."""
        last: Any = self.last[0]
        name: Any = self.last.name
        if isinstance(self.last, pd.PeriodIndex):
            return pd.period_range(end=last, periods=count, name=name)
        if isinstance(self.last, pd.DatetimeIndex):
            return self.last if self.freq is None else pd.date_range(end=last, periods=count, freq=self.freq, name=name)
        return pd.RangeIndex(last - count + 1, last + 1, name=name)


def to_table(y: Any) -> tuple[pd.DataFrame, str]:
    """Return values as a table, and what kind they were (:func:`form_of`)."""
    form = form_of(y)
    y = as_lists(y)
    if isinstance(y, pd.Series):
        return y.to_frame(NAMELESS if y.name is None else y.name), form
    if isinstance(y, pd.DataFrame):
        return y, form
    if isinstance(y, list) and form in ("list", "frames"):
        return pd.concat(dict(enumerate(y))), form
    try:
        values = np.asarray(y, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"y cannot be read as numbers: {error}") from None
    if values.ndim not in (1, 2):
        raise InputError(
            f"y has shape {values.shape}, expected (steps,) or (steps, series); several instances are a list of those"
        )
    return pd.DataFrame(values.reshape(len(values), -1)), form


def form_of(y: Any) -> str:
    """Return what y is: "series", "table", "vector", "matrix", "list" (of arrays) or "frames" (a list of tables)."""
    if isinstance(y, pd.Series):
        return "series"
    if isinstance(y, (list, tuple)):
        if all(isinstance(part, (pd.DataFrame, pd.Series)) for part in y):
            return "frames"
        return "list" if any(np.ndim(part) for part in y) else "vector"
    if isinstance(y, np.ndarray) and y.ndim in (1, 2):
        return "vector" if y.ndim == 1 else "matrix"
    return "table"


def beside(X: Any, table: pd.DataFrame) -> pd.DataFrame | None:
    """Return inputs as a table; plain arrays have no index of their own and take that of y."""
    if X is None:
        return None
    inputs = to_table(X)[0]
    if not isinstance(X, (pd.DataFrame, pd.Series)) and len(inputs) == len(table):
        inputs = inputs.set_axis(table.index)
    return inputs


def as_lists(y: Any) -> Any:
    """Return a list of arrays or tables as a list of tables, a list of numbers as an array; all else as it is."""
    if isinstance(y, (list, tuple)) and len(y):
        if any(np.ndim(part) for part in y):
            return [part if isinstance(part, pd.DataFrame) else to_table(part)[0] for part in y]
        if all(isinstance(part, (int, float, np.number)) for part in y):
            return np.asarray(y, dtype=np.float64)
    return y


def by_instance(table: pd.DataFrame) -> Iterator[tuple[Any, pd.DataFrame]]:
    """Yield key and rows of every instance of a table; the key is None if its index is of times alone."""
    if not isinstance(table.index, pd.MultiIndex):
        yield None, table
        return
    outer: list[Any] = list(range(table.index.nlevels - 1))
    for key, part in table.groupby(level=outer if len(outer) > 1 else outer[0], sort=False):
        yield key, part.droplevel(outer)


def instance_of(table: pd.DataFrame, key: Any) -> pd.DataFrame:
    """Return the rows of one instance; those of a table without instances are all instances'."""
    if key is None or not isinstance(table.index, pd.MultiIndex):
        return table
    try:
        part = table.loc[key]
    except KeyError:
        raise InputError(f"X has no rows of the instance {key!r}") from None
    return part if isinstance(part, pd.DataFrame) else part.to_frame()


def rows_ahead(part: pd.DataFrame, times: Any, places: Array, steps: Array, *, counted: bool) -> Array:
    """Return the known future inputs at some times, ``(len(times), E)``.

    Args:
        part: inputs given for an instance.
        times: at which they are wanted.
        places: how many steps ahead these are.
        steps: the steps to predict: those between them, which a recursive forecast goes through, may be missing.
        counted: whether y came as arrays: then rows have no times, and are the steps themselves in their order.

    Raises:
        InputError: a row at a time to predict is missing.
    """
    if counted and isinstance(part.index, pd.RangeIndex) and part.index.start == 0:
        rows = part.iloc[places - 1] if len(part) >= places[-1] else part
        if len(rows) != len(places):
            raise InputError(f"X has {len(part)} rows, the forecast needs the inputs of {places[-1]} steps")
        part = rows.set_axis(times)
    there = times.isin(part.index)
    missing = times[np.isin(places, steps) & ~there]
    if len(missing):
        raise InputError(f"X has no row at {missing[0]}: each time to predict needs one ({len(missing)} missing)")
    if not there.all():
        warnings.warn(
            f"X has no row at {times[~there][0]}, between the times to predict ({int((~there).sum())} missing): a "
            "recursive forecast goes through them, and takes the last inputs before (the first, if there are none)",
            stacklevel=2,
        )
    known = pd.DataFrame(numbers("X", part.loc[times[there]]), index=times[there])
    return np.asarray(known.reindex(times).ffill().bfill().to_numpy())


def with_instances(keys: list[Any], times: list[Any], names: Any) -> Any:
    """Return the times of every instance under its key."""
    lengths = [len(index) for index in times]
    outer = [key if isinstance(key, tuple) else (key,) for key in keys]
    levels: list[Any] = [
        np.repeat(np.array([key[level] for key in outer], dtype=object), lengths) for level in range(len(outer[0]))
    ]
    joined = times[0].append(times[1:]) if len(times) > 1 else times[0]
    levels = [pd.Index(level).infer_objects() for level in levels]
    return pd.MultiIndex.from_arrays([*levels, joined], names=names)


def read_instances(
    y: pd.DataFrame, X: pd.DataFrame | None, calendar: Sequence[str], clocks: dict[Any, Clock]
) -> list[tuple[Any, Any, Instance]]:
    """Return key, times and arrays of every instance of a table; all copies.

    Args:
        y: the series, times or (instance, time) down, series across.
        X: inputs at the same times, if there are any.
        calendar: inputs to make from the times; they come first.
        clocks: where instances ended, for rows without times that go on from there.
    """
    found = []
    for key, part in by_instance(y):
        name = "" if key is None else f" of {key!r}"
        times: Any = part.index
        if isinstance(times, pd.RangeIndex) and times.start == 0 and key in clocks:
            times = clocks[key].after(range(1, len(times) + 1))
        if not times.is_monotonic_increasing or not times.is_unique:
            raise InputError(f"the index of y{name} is not increasing: sort it and drop doubles")
        inputs = calendar_inputs(times, calendar)
        if X is not None:
            rows = instance_of(X, key).reindex(part.index)
            inputs = np.concatenate([inputs, numbers(f"X{name}", rows)], axis=1)
        found.append((key, times, Instance(name, numbers(f"y{name}", part), inputs)))
    return found


def numbers(name: str, table: pd.DataFrame) -> Array:
    """Return a table's values, copied to float64.

    Raises:
        InputError: a value is missing, infinite or no number; the message says where.
    """
    try:
        values = np.array(table.to_numpy(dtype=np.float64, na_value=np.nan), order="C", copy=True)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} cannot be read as numbers: {error}") from None
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        count = int((~np.isfinite(values)).sum())
        raise InputError(
            f"{name} is {values[row, column]:g} at {table.index[row]}, column {table.columns[column]!r} ({count} such "
            "values): fill them first, for example with .interpolate() or .ffill()"
        )
    return values


def require_independent(x: Array, names: Sequence[Any], made: int) -> None:
    """Raise unless every input varies and none is a linear combination of the others.

    Args:
        x: inputs of the training part, ``(T, E)``.
        names: of the columns.
        made: how many of the first columns are calendar inputs, of which some may stand still.

    Raises:
        InputError: naming the column, and what it follows from.
    """
    deviation = x.std(axis=0)
    still = deviation <= 1e-12 * np.maximum(np.abs(x).max(axis=0, initial=0.0), 1e-300)
    for column in (np.flatnonzero(still[made:]) + made).tolist():
        raise InputError(
            f"X column {names[column]!r} is constant ({x[0, column]:g}) in the training part: nothing can be learnt "
            "from it; leave it out, or train on more"
        )
    moving = np.flatnonzero(~still).tolist()
    if len(moving) and len(x) <= len(moving):
        raise InputError(
            f"there are {len(moving)} inputs and {len(x)} steps: more than {len(moving)} steps are needed; give more "
            "data or fewer inputs"
        )
    z = (x[:, moving] - x[:, moving].mean(axis=0)) / deviation[moving]
    factor, order = qr(z, mode="r", pivoting=True, check_finite=False)[-2:] if len(moving) else (np.eye(0), [])
    own = np.abs(np.diag(factor)) / np.sqrt(len(x))
    for place in np.flatnonzero(own < _OWN_PART).tolist():
        column = moving[order[place]]
        weights = np.linalg.lstsq(z[:, order[:place]], z[:, order[place]], rcond=None)[0]
        sources = [repr(names[moving[order[i]]]) for i in np.flatnonzero(np.abs(weights) > 1e-6).tolist()]
        raise InputError(
            f"input {names[column]!r} is a linear combination of {', '.join(sources)} in the training part: its effect "
            "cannot be told from theirs; leave one of them out"
        )
