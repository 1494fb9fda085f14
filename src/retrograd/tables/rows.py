"""Rows of a table: in order of time, one for every step of the axis, missing values filled where that is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from retrograd.errors import InputError
from retrograd.tables.step import DAY, WEEKS, Step
from retrograd.tables.time_axis import time_text

__all__ = [
    "FILLS",
    "TimeOptions",
    "filled_in",
    "in_order",
    "on_grid",
    "refuse_closed_hours",
    "require_no_gap",
    "step_of",
]

Array = np.ndarray[Any, Any]

FILLS = ("forward", "linear")

# Days after which a clock time without a row is one that there is never.
_DAYS = 4


@dataclass(frozen=True)
class TimeOptions:
    """What is said of the time axis instead of being found in it.

    Attributes:
        date_format: how times are written, as ``strptime`` has it; ``"number"`` keeps whole numbers.
        dayfirst: whether 01/02/2024 is the first of February.
        freq: the step, a number or a pandas frequency.
        sort: put rows in order of time.
        resample: a pandas frequency: the mean of the rows of each of its periods.
        time_zone: where the clocks are, such as ``"Europe/Berlin"``.
    """

    date_format: str | None = None
    dayfirst: bool | None = None
    freq: str | None = None
    sort: bool = False
    resample: str | None = None
    time_zone: str | None = None


def in_order(times: Any, values: Array, rows: Array, where: str, asked: TimeOptions) -> tuple[Any, Array, Array]:
    """Return rows in order of time: as they are, sorted or resampled where that is asked for; else refused."""
    if asked.sort or asked.resample is not None:
        order = np.argsort(times, kind="stable")
        times, values, rows = times[order], values[order], rows[order]
    if asked.resample is not None:
        return _resampled(times, values, where, asked.resample)
    late = np.asarray(times[1:] <= times[:-1])
    if not late.any():
        return times, values, rows
    order = np.argsort(times, kind="stable")
    again = np.asarray(times[order][1:] == times[order][:-1])
    if again.any():  # to sort would be of no use
        first, second = order[int(again.argmax()) :][:2]
        raise InputError(
            f"{where} has {time_text(times[[first]])[0]} twice, in rows {rows[first]} and {rows[second]}: leave "
            "one row a time, name the column that tells them apart by series, or average them by resample",
            "series",
            "resample",
        )
    place = int(late.argmax()) + 1
    before, here = time_text(times[[place - 1, place]])
    raise InputError(
        f"{where} does not increase: row {rows[place]} has {here} after {before}; sort puts the rows in order", "sort"
    )


def _resampled(times: Any, values: Array, where: str, rule: str) -> tuple[Any, Array, Array]:
    if not isinstance(times, (pd.DatetimeIndex, pd.PeriodIndex)):
        raise InputError(f"{where} holds numbers: resample is of dates", "resample")
    if isinstance(times, pd.PeriodIndex):
        times = times.to_timestamp()
    try:
        means = pd.DataFrame(values, index=times).resample(rule).mean()
    except (ValueError, TypeError):
        raise InputError(f"resample is {rule!r}, expected a pandas frequency such as 'D' or '15min'") from None
    return means.index, means.to_numpy(), np.zeros(len(means), dtype=int)


def step_of(times: Any, asked: TimeOptions, where: str) -> Step:
    """Return the step of an axis: the one asked for, or the one found."""
    try:
        return Step.find(times) if asked.freq is None else Step.given(asked.freq, times)
    except InputError as error:
        raise InputError(f"{where}: {error}", "freq", "resample") from None


def refuse_closed_hours(times: Any, step: Step, where: str) -> None:
    """Raise where hours of the day, or days of the week, never have a row: a forecast would go into them."""
    if step.kind != "elapsed" or step.size >= DAY or DAY % step.size:
        return
    local = times if times.tz is None else times.tz_localize(None)
    days = (local[-1] - local[0]) / pd.Timedelta(days=1)
    slots = np.unique(np.rint((local - local.normalize()) / pd.Timedelta(step.size, "ns")))
    closed = "hours of the day" if days >= _DAYS and len(slots) < DAY // step.size else ""
    closed = "days of the week" if days >= 7 * WEEKS and local.dayofweek.nunique() < 7 else closed
    if closed:
        raise InputError(
            f"{where} goes on by {step}, but some {closed} never have a row, and would be forecast: give freq, the "
            "step, to take them as missing, or leave the column out, to count rows",
            "freq",
        )


def on_grid(
    times: Any, step: Step, values: Array, rows: Array, where: str, *, may_lack: bool
) -> tuple[Any, Array, Array, int]:
    """Return rows for every step of the axis, those missing as NaN, and how many these are; refused unless they may."""
    missing = step.missing(times)
    if not len(missing):
        return times, values, rows, 0
    if not may_lack:
        count = f"{len(missing)} of its steps" if len(missing) > 1 else "a step"
        first = time_text(missing[:1])[0]
        raise InputError(
            f"{where} lacks {count}, going by {step}: {'the first is ' if len(missing) > 1 else ''}{first}; put "
            "them in with fill='linear' or fill='forward'",
        )
    places = step.places(times)
    length = int(places[-1]) + 1
    grid = np.full((length, values.shape[1]), np.nan)
    grid[places] = values
    numbered = np.zeros(length, dtype=int)
    numbered[places] = rows
    absent = np.setdiff1d(np.arange(length), places)
    both = times.append(missing)
    order = np.argsort(np.concatenate([places, absent]), kind="stable")
    return both[order], grid, numbered, len(missing)


def filled_in(
    source: str, values: Array, names: Sequence[str], fill: str | None, rows: Array, may_miss: int
) -> tuple[Array, int]:
    """Return values with the missing ones filled, and how many were; the first ``may_miss`` columns may keep theirs."""
    missing = np.isnan(values)
    if not missing.any():
        return values, 0
    if fill is not None:
        frame = pd.DataFrame(values)
        frame = frame.ffill() if fill == "forward" else frame.interpolate(method="linear", limit_area="inside")
        values = frame.to_numpy()
    left = np.isnan(values)
    if fill is None:
        left[:, :may_miss] = False
    if left.any():
        row, column = (int(i) for i in np.argwhere(left)[0])
        # A step that had no row, or one of a period that had none, has no number.
        here = f"row {rows[row]}" if rows[row] else f"step {row + 1}, which has no row"
        where = f"{source}: {here}, column {names[column]!r} is missing"
        if fill is None:
            count = int(missing.sum())
            raise InputError(
                f"{where} ({count} missing value{'s' * (count > 1)} in all): set fill='forward' or fill='linear', or "
                "remove the rows"
            )
        reason = "no value comes before it" if fill == "forward" else "it has no neighbours on both sides"
        raise InputError(f"{where} and fill={fill!r} cannot fill it: {reason}; remove the row")
    return values, int(missing.sum() - np.isnan(values).sum())


def require_no_gap(source: str, values: Array, names: Sequence[str], rows: Array) -> None:
    """Raise :class:`InputError` where an input is missing."""
    missing = np.isnan(values)
    if missing.any():
        row, column = (int(i) for i in np.argwhere(missing)[0])
        raise InputError(
            f"{source}: row {rows[row]}, column {names[column]!r} is missing: every step needs every input"
        )
