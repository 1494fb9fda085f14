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
from retrograd.tables.scale import mean_and_deviation
from retrograd.tables.step import Step, lacking
from retrograd.tables.values import as_numbers

__all__ = [
    "NAMELESS",
    "Clock",
    "as_lists",
    "beside",
    "by_instance",
    "form_of",
    "independent_columns",
    "inputs_ahead",
    "instance_of",
    "numbers",
    "read_instances",
    "require_independent",
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
        step: how the axis goes on; None where two rows or fewer do not tell.
        freq: the pandas frequency of a ``DatetimeIndex``, where it has one.
    """

    last: Any
    step: Step | None
    freq: str | None = None

    @classmethod
    def of(cls, index: Any, name: str = "y") -> Clock:
        """Read an index; refuse one that lacks steps.

        Raises:
            InputError: the times follow no step, or some are missing.

        Examples:
            >>> Clock.of(pd.period_range("2024-01", periods=3, freq="M")).after([1, 3])
            PeriodIndex(['2024-04', '2024-06'], dtype='period[M]')
        """
        freq = index.freqstr if isinstance(index, (pd.DatetimeIndex, pd.TimedeltaIndex)) else None
        if isinstance(index, pd.TimedeltaIndex):
            raise InputError(f"{name} has an index of lengths of time: give it dates, periods or numbers")
        if not isinstance(index, (pd.DatetimeIndex, pd.PeriodIndex)) and index.dtype.kind not in "iuf":
            raise InputError(f"{name} has an index of {index.dtype}, expected dates, periods or numbers")
        if len(index) < 3 and not isinstance(index, (pd.PeriodIndex, pd.RangeIndex)):
            known = freq is not None or (len(index) == 2 and not isinstance(index, pd.DatetimeIndex))
            step = None if not known else Step.given(index.freq, index) if freq is not None else Step.find(index)
            return cls(index[-1:], step, freq)
        try:
            step = Step.find(index)
            missing = step.missing(index)
        except InputError as error:
            raise InputError(f"{name} has an index without a step: {error}", *error.arguments) from None
        if len(missing):
            raise lacking(name, missing, step)
        return cls(index[-1:], step, freq or _frequency(index))

    def after(self, steps: Sequence[int] | Array) -> Any:
        """Return the times ``steps`` after the last.

        Raises:
            InputError: the dates have no step.
        """
        if self.step is None:
            raise InputError(
                "the index of y has no step that two rows tell, so the times to predict are unknown: give more rows, "
                "or an index with a frequency (y.asfreq)"
            )
        index = self.step.at(self.last[0], np.asarray(steps, dtype=np.int64)).rename(self.last.name)
        if isinstance(index, pd.DatetimeIndex):
            index = index.as_unit(self.last.unit)
            if self.freq is not None and len(index) and (np.diff(np.asarray(steps)) == 1).all():
                index = _with_frequency(index, self.freq)
        return index

    def require_next(self, times: Any) -> None:
        """Raise :class:`InputError` unless times go on from the last, step by step, where it is known how."""
        if self.step is None:
            return
        expected = self.after(np.arange(1, len(times) + 1))
        off = np.asarray(times != expected)
        if off.any():
            place = int(off.argmax())
            before = self.last[0] if place == 0 else times[place - 1]
            raise InputError(
                f"y goes on at {times[place]} after {before}: {expected[place]} comes next; fill the gap, or fit again"
            )

    def before(self, count: int) -> Any:
        """Return the last ``count`` times, the last one included; one alone if dates have no step."""
        if self.step is None:
            return self.last
        index = self.step.at(self.last[0], np.arange(1 - count, 1)).rename(self.last.name)
        if isinstance(index, pd.DatetimeIndex) and self.freq is not None:
            return _with_frequency(index.as_unit(self.last.unit), self.freq)
        return index


def _frequency(index: Any) -> str | None:
    return pd.infer_freq(index) if isinstance(index, pd.DatetimeIndex) and len(index) > 2 else None


def _with_frequency(index: Any, freq: str) -> Any:
    """Return the index with pandas' frequency, where these times have it."""
    try:
        return pd.DatetimeIndex(index, freq=freq)
    except ValueError:
        return index


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
    values = as_numbers("y", y)
    if values.ndim not in (1, 2):
        raise InputError(
            f"y has shape {values.shape}, expected (steps,) or (steps, series); several instances are a list of those"
        )
    if not values.size:
        raise InputError(f"y has shape {values.shape}: there is nothing in it")
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


def beside(X: Any, table: pd.DataFrame) -> Any:
    """Return inputs as a table; plain arrays have no index of their own and take that of y."""
    if X is None:
        return None
    inputs = to_table(X)[0]
    if isinstance(inputs.index, pd.MultiIndex) or isinstance(X, (pd.DataFrame, pd.Series)):
        return inputs
    if len(inputs) < len(table):
        raise InputError(f"X has {len(inputs)} rows, y {len(table)}: each step needs its inputs")
    return inputs.iloc[: len(table)].set_axis(table.index)  # rows beyond y are its future


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


def inputs_ahead(part: pd.DataFrame, times: Any, places: Array, steps: Array, *, counted: bool) -> Array:
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
        if len(part) not in (places[-1], len(places)):
            raise InputError(f"X has {len(part)} rows, expected the inputs of the {places[-1]} steps that follow y")
        rows = part.iloc[places - 1] if len(part) == places[-1] else part
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
    y: pd.DataFrame, X: pd.DataFrame | None, calendar: Sequence[str], clocks: dict[Any, Clock], *, counted: bool = False
) -> list[tuple[Any, Any, Instance]]:
    """Return key, times and arrays of every instance of a table; all copies.

    Args:
        y: the series, times or (instance, time) down, series across.
        X: inputs at the same times, if there are any.
        calendar: inputs to make from the times; they come first.
        clocks: where instances ended, from which these rows go on.
        counted: whether y came as arrays, whose rows have no times of their own.
    """
    found = []
    for key, part in by_instance(y):
        name = "" if key is None else f" of {key!r}"
        times: Any = part.index
        if counted and key in clocks and isinstance(times, pd.RangeIndex) and times.start == 0:
            times = clocks[key].after(np.arange(1, len(times) + 1))
        if not times.is_monotonic_increasing or not times.is_unique:
            raise InputError(f"the index of y{name} is not increasing: sort it and drop doubles")
        if key in clocks:
            clocks[key].require_next(times[np.asarray(times > clocks[key].last[0])])
        else:
            Clock.of(times, f"y{name}")
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
    values = np.ascontiguousarray(as_numbers(name, table))
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        count = int((~np.isfinite(values)).sum())
        raise InputError(
            f"{name} is {values[row, column]:g} at {table.index[row]}, column {table.columns[column]!r} ({count} such "
            "values): fill them first, for example with .interpolate() or .ffill()"
        )
    return values


def independent_columns(x: Array) -> Array:
    """Return which inputs ``(T, E)`` vary and are no linear combination of others; none if there are as many as steps.

    >>> t = np.arange(5.0)
    >>> independent_columns(np.stack([t, np.ones(5), 3 - 2 * t, t**2], axis=1)).tolist()
    [2, 3]
    """
    _, deviation = mean_and_deviation(x)
    moving = np.flatnonzero(deviation > 1e-12 * np.maximum(np.abs(x).max(axis=0, initial=0.0), 1e-300))
    if not len(moving) or len(x) <= len(moving):
        return np.zeros(0, dtype=np.int64)
    z = (x[:, moving] - x[:, moving].mean(axis=0)) / deviation[moving]
    factor, order = qr(z, mode="r", pivoting=True, check_finite=False)[-2:]
    return np.sort(moving[order[np.abs(np.diag(factor)) >= _OWN_PART * np.sqrt(len(x))]])


def require_independent(x: Array, names: Sequence[Any], made: int) -> None:
    """Raise unless every input varies and none is a linear combination of the others.

    Args:
        x: inputs of the training part, ``(T, E)``.
        names: of the columns.
        made: how many of the first columns are calendar inputs, of which some may stand still.

    Raises:
        InputError: naming the column, and what it follows from.
    """
    _, deviation = mean_and_deviation(x)
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
