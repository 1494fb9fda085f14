"""Rows that came after those of a table: read to go on from where it ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from retrograd.errors import InputError
from retrograd.tables.columns import labels_of, numbers_of, times_of
from retrograd.tables.rows import TimeOptions, in_order, on_grid
from retrograd.tables.source import ReadOptions, read_frame
from retrograd.tables.time_axis import TimeAxis, time_text

__all__ = ["Later", "read_later"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Later:
    """Rows that follow a series, one for every step from its end on.

    Attributes:
        values: ``(rows, columns)`` float64, NaN where missing.
        time: their times, ``(rows,)``.
    """

    values: Array
    time: Any


def read_later(
    source: str,
    names: Sequence[str],
    axes: Mapping[str, TimeAxis],
    *,
    series: str | None = None,
    axis: TimeOptions | None = None,
    file: ReadOptions | None = None,
) -> dict[str, Later]:
    r"""Read rows that came after series ended; those at times that were there already are left out.

    Args:
        source: the file. It has the time column of the axes; of an axis of row numbers (``"step"``), all its rows are
            new.
        names: the columns.
        axes: the ends of the series by name; of one series without a name, under ``""``.
        series: the column that says which series a row belongs to; None for one series.
        axis: what is said of the time axes.
        file: what is said of the file.

    Returns:
        Of those series that have later rows, these rows.

    Raises:
        InputError: the file, a column or a value cannot be used, a series is not among ``axes``, or no row is later.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from retrograd.tables import Step
        >>> axis = TimeAxis("year", 2008, Step("number", 1), pd.Index([], dtype="int64"))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = (Path(folder) / "new.csv").write_text("year,y\n2008,7\n2009,8\n2011,9\n")
        ...     later = read_later(f"{folder}/new.csv", ["y"], {"": axis})[""]
        >>> later.time.tolist(), later.values[:, 0].tolist()
        ([2009, 2010, 2011], [8.0, nan, 9.0])
    """
    label = next(iter(axes.values())).label
    time = None if label == "step" else label
    known = [*names, *([] if time is None else [time]), *([] if series is None else [series])]
    frame = read_frame(source, file, names=known, labels=series)
    rows = np.arange(frame.first_row, frame.first_row + len(frame.columns))
    values, asked, found = numbers_of(source, frame, names, rows), axis or TimeOptions(), {}
    for name, places in _parts(source, frame.columns, rows, series, axes).items():
        where = f"{source}: column {label!r}" if series is None else f"{source}, {series} {name}: column {label!r}"
        given, numbered = values[places], rows[places]
        if time is None:
            times = axes[name].step.after(axes[name].last, len(given))
        else:
            times = times_of(
                frame.columns[time].iloc[places].reset_index(drop=True), where, numbered, asked, frame.layout
            )
            times, given, numbered = in_order(times, given, numbered, where, asked)
        later = _after(axes[name], times, given, numbered, where)
        if len(later.time):
            found[name] = later
    if not found:
        last = max(time_text([each.last])[0] for each in axes.values())
        raise InputError(f"{source} has no row after {last}, where the data of the run end")
    return found


def _parts(
    source: str, columns: pd.DataFrame, rows: Array, series: str | None, axes: Mapping[str, TimeAxis]
) -> dict[str, Array]:
    """Return the places of the rows of each series."""
    if series is None:
        return {"": np.arange(len(columns))}
    labels = labels_of(columns[series])
    if labels.isna().any():
        row = rows[int(np.asarray(labels.isna()).argmax())]
        raise InputError(f"{source}: row {row}, column {series!r} is missing: every row needs its series")
    codes, names = pd.factorize(labels)
    for code, name in enumerate(map(str, names)):
        if name not in axes:
            row = rows[int((codes == code).argmax())]
            raise InputError(
                f"{source}: row {row} is of {series} {name!r}, which the run does not have: it has "
                f"{', '.join(list(axes)[:9])}{', …' * (len(axes) > 9)}; leave its rows out, or fit again"
            )
    return {str(name): np.flatnonzero(codes == code) for code, name in enumerate(names)}


def _after(axis: TimeAxis, times: Any, values: Array, rows: Array, where: str) -> Later:
    """Return the rows after the end of an axis, on its grid."""
    times = _as_of(axis, times, where)
    new = np.asarray(times > axis.last)
    times, values, rows = times[new], values[new], rows[new]
    if not len(times):
        return Later(values, times)
    start = axis.step.at(axis.last, np.array([0]))
    try:
        joined, filled, _, _ = on_grid(
            start.append(times),
            axis.step,
            np.concatenate([np.full((1, values.shape[1]), np.nan), values]),
            np.append(0, rows),
            where,
            may_lack=True,
        )
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    return Later(filled[1:], joined[1:])


def _as_of(axis: TimeAxis, times: Any, where: str) -> Any:
    """Return times as the axis has them; refuse those of another kind."""
    like = axis.step.at(axis.last, np.array([0]))
    numbers = [each.dtype.kind in "iuf" for each in (like, times)]
    zones = [getattr(each, "tz", None) for each in (like, times)]
    if all(numbers):
        return times
    if any(numbers) or type(like) is not type(times) or (zones[0] is None) != (zones[1] is None):
        raise InputError(
            f"{where} has {time_text(times[:1])[0]}, the data of the run end at {time_text(like)[0]}: write times alike"
        )
    if isinstance(times, pd.PeriodIndex):
        if times.freqstr != like.freqstr:
            raise InputError(f"{where} has periods of {times.freqstr}, the data of the run of {like.freqstr}")
        return times
    return times if zones[0] is None else times.tz_convert(zones[0])
