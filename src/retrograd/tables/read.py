"""Tables in: one row a step, columns by name, a time axis that goes by its calendar.

Whatever cannot be used is refused with one line that names the file, the row and the column; nothing is guessed and
nothing is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from retrograd.errors import InputError, require_choice
from retrograd.tables.codes import number_of
from retrograd.tables.columns import labels_of, numbers_of, times_of
from retrograd.tables.rows import (
    FILLS,
    TimeOptions,
    filled_in,
    in_order,
    on_grid,
    refuse_closed_hours,
    require_no_gap,
    step_of,
)
from retrograd.tables.source import Frame, ReadOptions, columns_of, read_frame
from retrograd.tables.step import Step
from retrograd.tables.time_axis import TimeAxis, time_of, time_text

__all__ = ["Inputs", "Table", "TimeOptions", "read_inputs", "read_series", "read_table", "split_index"]

Array = np.ndarray[Any, Any]

# Fewer rows than this cannot be split into something to learn from and something to predict.
FEWEST_ROWS = 3


@dataclass(frozen=True)
class Table:
    """A series: N steps with targets, then F steps of which only the inputs are known.

    Attributes:
        source: as the user named it, for messages.
        time_label: name of the time axis, ``"step"`` without a time column.
        time: the axis, an index of ``N + F`` increasing numbers, dates or periods; 1..N+F without a time column.
        step: how the axis goes on.
        target_names: the O predicted columns.
        targets: ``(N, O)`` float64, finite, or NaN where a missing one was let be.
        input_names: the E exogenous columns.
        inputs: ``(N + F, E)`` float64, finite.
        filled: how many missing values were filled.
        absent: how many steps had no row, and were put in.
        layout: how a text was written, in words, where not as plain CSV.
    """

    source: str
    time_label: str
    time: Any
    target_names: list[str]
    targets: Array
    input_names: list[str]
    inputs: Array
    filled: int = 0
    step: Step = Step("number", 1)  # noqa: RUF009  (frozen)
    absent: int = 0
    layout: str = ""

    @property
    def steps(self) -> int:
        """N: steps with targets."""
        return len(self.targets)

    @property
    def future(self) -> int:
        """F: steps after them with inputs alone."""
        return len(self.time) - len(self.targets)

    @property
    def axis(self) -> TimeAxis:
        """The end of the time axis."""
        return TimeAxis(self.time_label, self.time[self.steps - 1], self.step, self.time[self.steps :])


@dataclass(frozen=True)
class Inputs:
    """Exogenous columns of coming steps.

    Attributes:
        values: ``(rows, E)``.
        time: their times, None where the file has none.
    """

    values: Array
    time: Any = None

    def ahead(self, axis: TimeAxis, steps: int | None, source: str) -> Array:
        """Return the rows of the next ``steps`` of an axis, all that follow it by default: by time, if they have times.

        Raises:
            InputError: a step has no row, or there are more or fewer rows than steps.
        """
        if self.time is None:
            if steps is not None and len(self.values) != steps:
                raise InputError(
                    f"{source} has {len(self.values)} rows, the forecast {steps} steps: give the rows of these "
                    "steps, or a time column"
                )
            return self.values
        places = pd.Index(self.time).get_indexer(axis.ahead(len(self.values) if steps is None else steps))
        if steps is None:
            places = places[: int((places < 0).argmax()) if (places < 0).any() else len(places)]
        if not len(places) or (places < 0).any():
            wanted = time_text(axis.ahead(len(places) or 1))[int((places < 0).argmax()) if len(places) else 0]
            raise InputError(f"{source} has no row at {wanted}: each step to forecast needs its inputs")
        return np.asarray(self.values[places])


def read_table(
    source: str,
    *,
    targets: Sequence[str],
    inputs: Sequence[str] = (),
    time: str | None = None,
    fill: str | None = None,
    missing_targets: bool = False,
    axis: TimeOptions | None = None,
    file: ReadOptions | None = None,
    progress: Callable[[float], None] | None = None,
) -> Table:
    """Read and check a table.

    Args:
        source: a ``.csv``, ``.tsv`` or ``.txt`` (also compressed), ``.parquet`` or ``.xlsx`` file, or the name of a
            data set that the package carries: ``airline``, ``sunspots``, ``hair_dryer``.
        targets: the columns to predict.
        inputs: exogenous columns. Last rows that have these but no target are the known future.
        time: a column of increasing numbers or dates.
        fill: what to put in place of a missing value, or of a step without a row: ``"forward"``, the last one before
            it; ``"linear"``, the line between its neighbours.
        missing_targets: whether a missing target is left as NaN where ``fill`` is None, instead of being refused.
        axis: what is said of the time axis.
        file: what is said of the file.
        progress: called with the part of the file that has been read.

    Raises:
        InputError: the file, a column or a value cannot be used; the message says which, where, and what to do.

    Examples:
        >>> table = read_table("sunspots", targets=["sunspots"], time="year")
        >>> table.steps, table.time[[0, -1]].tolist(), table.targets[:2].tolist()
        (309, [1700, 2008], [[5.0], [11.0]])
    """
    named = [*targets, *inputs, *([] if time is None else [time])]
    _require_once(named, "targets, inputs and time", fill)
    frame = read_frame(source, file, names=named, progress=progress)
    rows = np.arange(frame.first_row, frame.first_row + len(frame.columns))
    return _table_of(source, frame, rows, targets, inputs, time, fill, missing_targets, axis or TimeOptions())


def read_series(
    source: str,
    *,
    series: str,
    targets: Sequence[str],
    time: str | None = None,
    fill: str | None = None,
    missing_targets: bool = False,
    axis: TimeOptions | None = None,
    file: ReadOptions | None = None,
) -> dict[str, Table]:
    """Read a long table, rows of many series below each other, as one table a series, in the order of the file.

    Args:
        source: the file.
        series: the column that says which series a row belongs to.
        targets: the columns to predict.
        time: a column of numbers or dates, increasing within each series.
        fill: as of :func:`read_table`.
        missing_targets: as of :func:`read_table`.
        axis: what is said of the time axes.
        file: what is said of the file.

    Raises:
        InputError: as of :func:`read_table`; the message names the series.
    """
    named = [series, *targets, *([] if time is None else [time])]
    _require_once(named, "series, targets and time", fill)
    frame = read_frame(source, file, names=named, labels=series)
    labels = labels_of(frame.columns[series])
    if labels.isna().any():
        row = frame.first_row + int(np.asarray(labels.isna()).argmax())
        raise InputError(f"{source}: row {row}, column {series!r} is missing: every row needs its series")
    rows = np.arange(frame.first_row, frame.first_row + len(frame.columns))
    codes, names = pd.factorize(labels)
    order, found = np.argsort(codes, kind="stable"), {}
    for label, places in zip(names, np.split(order, np.cumsum(np.bincount(codes))[:-1]), strict=True):
        part = replace(frame, columns=frame.columns.iloc[places].reset_index(drop=True))
        name = f"{source}, {series} {label}"
        found[str(label)] = _table_of(
            name, part, rows[places], targets, (), time, fill, missing_targets, axis or TimeOptions()
        )
    if not found:
        raise InputError(f"{source} has no rows of data")
    return found


def _require_once(named: Sequence[str], kinds: str, fill: str | None) -> None:
    if fill is not None:
        require_choice("fill", fill, FILLS)
    for name in named:
        if named.count(name) > 1:
            raise InputError(f"column {name!r} is asked for twice among {kinds}", "targets", "inputs", "time", "series")


def _table_of(
    source: str,
    frame: Frame,
    rows: Array,
    targets: Sequence[str],
    inputs: Sequence[str],
    time: str | None,
    fill: str | None,
    missing_targets: bool,
    asked: TimeOptions,
) -> Table:
    """Return the table of a frame whose rows have these numbers in the file."""
    count = len(frame.columns)
    if count < FEWEST_ROWS:
        words = "no rows" if count == 0 else f"{count} row{'s' * (count > 1)}"
        raise InputError(f"{source} has {words} of data, expected at least {FEWEST_ROWS}")
    both = [*targets, *inputs]
    values = numbers_of(source, frame, both, rows)
    if time is None:
        times, step, absent = pd.Index(np.arange(1, count + 1)), Step("number", 1), 0
    else:
        where = f"{source}: column {time!r}"
        times = times_of(frame.columns[time], where, rows, asked, frame.layout)
        times, values, rows = in_order(times, values, rows, where, asked)
        step = step_of(times, asked, where)
        if asked.freq is None and fill is None:
            refuse_closed_hours(times, step, where)
        # Only a target may be missing, and only where the model takes it so.
        may_lack = fill is not None or (missing_targets and not inputs)
        times, values, rows, absent = on_grid(times, step, values, rows, where, may_lack=may_lack)
    outputs = len(targets)
    steps = _last_target(values, outputs) if inputs else len(values)
    if steps < FEWEST_ROWS:
        raise InputError(f"{source} has {steps} rows with a target, expected at least {FEWEST_ROWS}")
    for name, column in zip(targets, values.T, strict=False):
        if np.isnan(column).all():
            raise InputError(f"{source}: column {name!r} is missing throughout: leave it out")
    known, filled = filled_in(source, values[:steps], both, fill, rows, outputs if missing_targets else 0)
    require_no_gap(source, values[steps:, outputs:], inputs, rows[steps:])
    return Table(
        source,
        "step" if time is None else time,
        times,
        list(targets),
        np.ascontiguousarray(known[:, :outputs]),
        list(inputs),
        np.concatenate([known[:, outputs:], values[steps:, outputs:]]),
        filled,
        step,
        absent,
        "" if frame.layout is None else str(frame.layout),
    )


def read_inputs(
    source: str,
    names: Sequence[str],
    *,
    time: str | None = None,
    axis: TimeOptions | None = None,
    file: ReadOptions | None = None,
) -> Inputs:
    """Read exogenous columns alone, the steps that follow a series, with their times where the file has them.

    Args:
        source: the file.
        names: the columns.
        time: the time column; a file without it has its rows in their order.
        axis: what is said of the time axis.
        file: what is said of the file.

    Raises:
        InputError: the file, a column or a value cannot be used.
    """
    asked = axis or TimeOptions()
    has_time = time is not None and time in columns_of(source, file)
    frame = read_frame(source, file, names=[*names, *([time] if has_time and time else [])])
    rows = np.arange(frame.first_row, frame.first_row + len(frame.columns))
    values = numbers_of(source, frame, names, rows)
    times = None
    if has_time:
        where = f"{source}: column {time!r}"
        times = times_of(frame.columns[time], where, rows, asked, frame.layout)
        times, values, rows = in_order(times, values, rows, where, asked)
    require_no_gap(source, values, names, rows)
    return Inputs(values, times)


def split_index(table: Table, test: str) -> int:
    """Return the index of the first held-out step, N where nothing is held out.

    Args:
        table: the data.
        test: a fraction below 1 (the share held out at the end), or the date or number at which the held-out part
            starts.

    Raises:
        InputError: ``test`` is neither, or leaves nothing to train on or nothing to test.

    Examples:
        >>> table = read_table("sunspots", targets=["sunspots"], time="year")
        >>> [split_index(table, test) for test in ("0", "0.2", "1921")]
        [309, 247, 221]
    """
    steps, times = table.steps, table.time[: table.steps]
    number = number_of(test)
    if number is not None and 0 <= number < 1:
        start = steps - round(number * steps)
        if number and start == steps:
            raise InputError(f"test is {test!r}, which holds out none of {steps} steps: take a larger fraction")
    else:
        at = time_of(test, times)
        if at is None:
            kind = "a date" if times.dtype.kind not in "iuf" else "a number"
            raise InputError(
                f"test is {test!r}, expected a fraction below 1, or {kind} on the axis {table.time_label!r}"
            )
        first, last = time_text(times[[0, -1]])
        start = int(times.searchsorted(at))
        if start in (0, steps):
            raise InputError(f"test is {test!r}, expected {table.time_label} after {first} and up to {last}")
    if start < FEWEST_ROWS:
        left = f"{start} step{'s' if start != 1 else ''}"
        raise InputError(
            f"test is {test!r}, which leaves {left} to train on, expected at least {FEWEST_ROWS}: test='0' holds out "
            "none"
        )
    return start


def _last_target(values: Array, outputs: int) -> int:
    """Return how many steps there are until only inputs are known."""
    future = np.asarray(np.isnan(values[:, :outputs]).all(axis=1) & ~np.isnan(values[:, outputs:]).any(axis=1))
    return len(values) - int(np.logical_and.accumulate(future[::-1]).sum())
