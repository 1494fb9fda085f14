"""The step of a time axis, as a rule of the calendar.

An axis goes on by its rule, not by its spacing: the 15th of every month, month ends, business days, local midnight
across a change of clocks, plain steps of a number. The rule is found from the stamps (:meth:`Step.find`) or given
(:meth:`Step.given`). It tells where every stamp lies on the grid, so that rows that are missing are seen.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from retrograd.errors import InputError

__all__ = ["DAY", "WEEKS", "Step", "lacking"]

Array = np.ndarray[Any, Any]

# The day of a month that stands for its last one, whatever its length.
_END = 31
# Spacings that differ by less than this part of a step are rounded stamps of one spacing.
_JITTER = 0.05
# The part of all spacings that has to be the step itself: with fewer, the stamps follow no rule.
_LEAST = 0.2
# Weeks after which a weekday without a stamp is one that there is never.
WEEKS = 4
_WEEK = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
DAY = 86_400_000_000_000
_UNITS = ((7 * DAY, "week"), (DAY, "day"), (3_600_000_000_000, "hour"), (60_000_000_000, "minute"), (10**9, "second"))


@dataclass(frozen=True)
class Step:
    """One step of a time axis.

    Attributes:
        kind: ``"number"`` (size in the axis' own unit), ``"elapsed"`` (size in nanoseconds), ``"day"`` (size in days of
            the local calendar, at one clock time), ``"month"`` (size in months, on day ``day``), ``"business"``
            (Monday to Friday, or those of ``freq``), ``"period"`` and ``"offset"`` (the pandas frequency ``freq``).
        size: how many of the kind's units one step has.
        day: of ``"month"``: the day of the month, the month's last where it is shorter; 31 is the month's end.
        freq: of ``"period"`` and ``"offset"``: a pandas frequency; of ``"business"``: seven signs from Monday on, 1 for
            a day that there is, empty for Monday to Friday.

    Examples:
        >>> step = Step.find(pd.to_datetime(["2024-01-31", "2024-02-29", "2024-03-31"]))
        >>> str(step), [str(t.date()) for t in step.after(pd.Timestamp("2024-03-31"), 2)]
        ('every month, at its end', ['2024-04-30', '2024-05-31'])
    """

    kind: str
    size: float = 1
    day: int = 0
    freq: str = ""

    @classmethod
    def find(cls, times: pd.Index) -> Step:
        """Find the rule that increasing times follow; some may be missing.

        Raises:
            InputError: they follow none.
        """
        if isinstance(times, pd.PeriodIndex):
            return cls("period", freq=times.freqstr)
        for step in _candidates(times):
            if step._fits(times):
                return step
        follow = (
            f"the times from {times[0]} to {times[-1]} follow no step that could be found: give freq, the step of the "
        )
        if not isinstance(times, pd.DatetimeIndex):
            # Resampling is of dates; months in seconds or in a spreadsheet's days have no step.
            raise InputError(f"{follow}axis; write numbers that count days or seconds of a calendar as dates", "freq")
        raise InputError(f"{follow}axis, or resample, which brings the table to one", "freq", "resample")

    @classmethod
    def given(cls, freq: Any, times: pd.Index) -> Step:
        """Return the rule that ``freq`` names: a number, or a pandas frequency, offset or time difference.

        Raises:
            InputError: it is no frequency, or a time is not on its grid.
        """
        step = cls._named(freq, times)
        if not step._fits(times, certain=True):
            place = step._first_off(times)
            raise InputError(f"freq is {freq!r}, but {times[place]} does not follow {times[place - 1]} by whole steps")
        return step

    @classmethod
    def _named(cls, freq: Any, times: pd.Index) -> Step:
        if isinstance(times, pd.PeriodIndex):
            return cls("period", freq=times.freqstr)
        if not isinstance(times, pd.DatetimeIndex):
            try:
                size = float(freq)
            except (TypeError, ValueError):
                size = 0
            if not (np.isfinite(size) and size > 0):
                raise InputError(f"freq is {freq!r}, expected a number above 0, the step of an axis of numbers")
            return cls("number", int(size) if size.is_integer() else size)
        months = _months_of(freq)
        if months:
            return cls("month", months, _month_day(times))
        try:
            offset = pd.tseries.frequencies.to_offset(freq)
            if offset is None or offset.n <= 0:
                raise ValueError
        except (TypeError, ValueError):
            raise InputError(f"freq is {freq!r}, expected a pandas frequency such as 'D', 'MS' or '15min'") from None
        if isinstance(offset, pd.offsets.Day):
            return cls("day", offset.n)
        if isinstance(offset, pd.offsets.Tick):
            return cls("elapsed", int(pd.Timedelta(offset).value))
        return cls("offset", freq=offset.freqstr)

    def after(self, last: Any, count: int) -> Any:
        """Return the ``count`` times that follow ``last``.

        Raises:
            InputError: they leave the range of the axis' numbers or dates.
        """
        return self.at(last, np.arange(1, count + 1))

    def at(self, last: Any, places: Array) -> Any:
        """Return the times ``places`` steps after ``last`` (before it, where negative)."""
        try:
            return self._at(last, np.asarray(places))
        except (OverflowError, ValueError, pd.errors.OutOfBoundsDatetime) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{len(places)} steps from {last} leave the range of dates: ask for fewer") from None

    def _at(self, last: Any, places: Array) -> Any:
        if self.kind == "number":
            return _numbers_at(last, places, self.size)
        if self.kind == "period":
            return pd.PeriodIndex([last + int(k) for k in places], freq=self.freq)
        if self.kind == "elapsed":
            return pd.DatetimeIndex([last + pd.Timedelta(int(self.size), "ns") * int(k) for k in places])
        if self.kind == "offset":
            offset: Any = pd.tseries.frequencies.to_offset(self.freq)
            return pd.DatetimeIndex([last + offset * int(k) if k else last for k in places])
        # The local calendar: clock time stays as the clocks change.
        local = last.tz_localize(None)
        if self.kind == "day":
            moved = [local + pd.Timedelta(days=int(self.size) * int(k)) for k in places]
        elif self.kind == "business":
            day = local.normalize()
            days = np.busday_offset(day.to_datetime64().astype("datetime64[D]"), places, weekmask=self._weekdays)
            moved = [pd.Timestamp(each) + (local - day) for each in days]
        else:
            moved = [_month_later(local, int(self.size) * int(k), self.day) for k in places]
        index = pd.DatetimeIndex(moved)
        return index if last.tzinfo is None else _localised(index, last)

    def places(self, times: Any) -> Array:
        """Return where each time lies on the grid that starts at the first: integers; a missing row is a jump.

        Raises:
            InputError: a time is not on the grid.
        """
        exact = self._exact_places(times)
        rounded = np.rint(exact)
        off = np.abs(exact - rounded) > _JITTER
        if off.any() or (np.diff(rounded) < 1).any():
            place = self._first_off(times)
            raise InputError(f"{times[place]} does not follow {times[place - 1]} by whole steps of the axis ({self})")
        return rounded.astype(np.int64)

    def missing(self, times: pd.Index) -> Any:
        """Return the times of the grid between the first and the last that are not there."""
        places = self.places(times)
        absent = np.setdiff1d(np.arange(places[-1] + 1), places)
        return self.at(times[0], absent) if len(absent) else times[:0]

    def record(self) -> dict[str, Any]:
        """Return the rule as numbers and text, for a file: ``Step(**record)`` brings it back."""
        return asdict(self)

    def __str__(self) -> str:
        """Say the rule in words."""
        if self.kind == "number":
            return f"steps of {self.size:g}"
        if self.kind == "period":
            return f"periods of {self.freq}"
        if self.kind == "business":
            closed = [name for name, sign in zip(_WEEK, self._weekdays, strict=True) if sign == "0"]
            return f"days without {' and '.join(closed)}" if self.freq else "business days"
        if self.kind == "offset":
            return f"the frequency {self.freq}"
        if self.kind == "month":
            every = _every(int(self.size), "month") if self.size % 12 else _every(int(self.size) // 12, "year")
            return f"{every}, at its end" if self.day == _END else f"{every}, on day {self.day} of the month"
        nanoseconds = int(self.size) * (DAY if self.kind == "day" else 1)
        for unit, word in _UNITS:
            if nanoseconds % unit == 0:
                return _every(nanoseconds // unit, word)
        return f"every {nanoseconds / 1e9:g} seconds"

    @property
    def _weekdays(self) -> str:
        return self.freq or "1111100"

    def _exact_places(self, times: Any) -> Array:
        """Return places on the grid as real numbers, NaN where a stamp cannot be on it."""
        if self.kind == "period":
            return np.asarray(times.asi8 - times.asi8[0], dtype=np.float64)
        if self.kind in ("number", "elapsed"):
            spacings = _spacings(times) / self.size
            whole = np.rint(spacings)
            return np.concatenate([[0.0], np.cumsum(whole) + (spacings - whole)])
        local = _local(times)
        if self.kind == "business":
            days = local.normalize().to_numpy().astype("datetime64[D]")
            places = np.busday_count(days[0], days, weekmask=self._weekdays).astype(np.float64)
            return np.where(np.is_busday(days, weekmask=self._weekdays) & _same_clock(local), places, np.nan)
        if self.kind == "day":
            return np.asarray((local - local[0]) / pd.Timedelta(days=self.size), dtype=np.float64)
        if self.kind == "month":
            months = np.asarray((local.year - local.year[0]) * 12 + local.month - local.month[0])
            on_day = np.asarray(local.day == np.minimum(self.day, local.days_in_month))
            return np.where(on_day & _same_clock(local), months / self.size, np.nan)
        grid = pd.date_range(times[0], times[-1], freq=self.freq)
        places = grid.get_indexer(times).astype(np.float64)
        return np.where(places < 0, np.nan, places)

    def _fits(self, times: pd.Index, *, certain: bool = False) -> bool:
        exact = self._exact_places(times)
        if not np.isfinite(exact).all():
            return False
        rounded = np.rint(exact)
        jumps = np.diff(rounded)
        on_grid = bool((np.abs(exact - rounded) <= _JITTER).all() and (jumps >= 1).all())
        return on_grid and (certain or not len(jumps) or float((jumps == 1).mean()) >= _LEAST)

    def _first_off(self, times: pd.Index) -> int:
        exact = self._exact_places(times)
        with np.errstate(invalid="ignore"):
            bad = ~(np.abs(exact - np.rint(exact)) <= _JITTER)
            bad[1:] |= ~(np.diff(np.rint(exact)) >= 1)
        return max(1, int(bad.argmax()))


def _candidates(times: pd.Index) -> Iterator[Step]:
    """Yield the rules that increasing times may follow, the most particular first."""
    if len(times) < 2:
        yield Step("number") if not isinstance(times, pd.DatetimeIndex) else Step("day")
        return
    spacings = _spacings(times)
    if not isinstance(times, pd.DatetimeIndex):
        yield Step("number", _number_size(spacings))
        return
    local = _local(times)
    months = np.diff(np.asarray(local.year * 12 + local.month))
    if (months > 0).all() and _same_clock(local).all():
        yield Step("month", int(_common(months)), _month_day(local))
    days = np.diff(local.normalize().to_numpy().astype("datetime64[D]")).astype(np.int64)
    if (local.dayofweek < 5).all() and _same_clock(local).all() and _common(days) == 1 and days.max() > 1:
        yield Step("business")
    elif _same_clock(local).all() and _common(days) == 1 and (local[-1] - local[0]).days >= WEEKS * 7:
        open_days = "".join("01"[int(day in local.dayofweek)] for day in range(7))
        if open_days.count("1") >= 4 and "0" in open_days:
            yield Step("business", freq=open_days)
    if _same_clock(local).all():
        yield Step("day", int(_common(days)))
    yield Step("elapsed", int(_common(spacings)))
    if len(times) > 2:
        freq = pd.infer_freq(times)
        if freq is not None:
            yield Step("offset", freq=freq)


def _number_size(spacings: Array) -> float:
    """Return the step of an axis of numbers; of rounded stamps, the mean one that their whole length gives."""
    size = float(_common(spacings))
    places = float(np.rint(spacings / size).sum())
    if np.abs(spacings / size - np.rint(spacings / size)).max() > 1e-9 and places > 0:
        size = float(spacings.sum()) / places
    return int(size) if size.is_integer() else size


def _common(spacings: Array) -> Any:
    """Return the commonest spacing; of those that come equally often, the least; of rounded stamps, their median."""
    values, counts = np.unique(spacings, return_counts=True)
    step = values[counts.argmax()]
    near = spacings[np.abs(spacings - step) <= _JITTER * step]
    return step if counts.max() > len(near) / 2 else np.median(near)


def _spacings(times: pd.Index) -> Array:
    """Return the differences of neighbours: numbers, or nanoseconds as float64."""
    if isinstance(times, pd.DatetimeIndex):
        return np.asarray(np.diff(times) / np.timedelta64(1, "ns") if times.tz is None else _elapsed(times))
    return np.diff(times.to_numpy()).astype(np.float64)


def _elapsed(times: pd.DatetimeIndex) -> Array:
    universal = times.tz_convert("UTC").tz_localize(None)
    return np.asarray(np.diff(universal) / np.timedelta64(1, "ns"))


def _local(times: Any) -> Any:
    return times if times.tz is None else times.tz_localize(None)


def _same_clock(local: Any) -> Array:
    clock = local - local.normalize()
    return np.asarray(clock == clock[0])


def _month_day(times: Any) -> int:
    local = _local(times)
    return _END if (local.day == local.days_in_month).all() else int(local.day.max())


def _months_of(freq: Any) -> int:
    """Return the months of an offset that counts them from whatever day it is on; 0 for any other."""
    if type(freq) is not pd.DateOffset or set(freq.kwds) - {"months", "years"}:
        return 0
    return int(freq.n * (freq.kwds.get("months", 0) + 12 * freq.kwds.get("years", 0)))


def _month_later(time: pd.Timestamp, months: int, day: int) -> pd.Timestamp:
    first = time.replace(day=1) + pd.DateOffset(months=months)
    return first.replace(day=min(day, first.days_in_month))


def _localised(index: Any, last: pd.Timestamp) -> Any:
    """Return local times in the zone of ``last``; one that a change of clocks skips moves to the end of the gap."""
    summer = np.zeros(len(index), dtype=bool)
    return index.tz_localize(last.tz, ambiguous=summer, nonexistent="shift_forward")


def _numbers_at(last: Any, places: Array, size: float) -> pd.Index:
    if isinstance(size, int) and float(last).is_integer() and not isinstance(last, (float, np.floating)):
        values = [int(last) + size * int(k) for k in places]
        if values and not -(2**63) <= min(values) <= max(values) < 2**63:
            raise InputError(f"{len(values)} steps of {size} from {last} leave the range of 64-bit integers")
        return pd.Index(values, dtype=np.int64)
    # Ten digits below a step: what is left after them is rounding.
    digits = 10 - math.floor(math.log10(abs(size)))
    return pd.Index(np.round(float(last) + size * places, digits))


def _every(count: int, word: str) -> str:
    return f"every {word}" if count == 1 else f"every {count} {word}s"


def lacking(name: str, missing: Any, step: Step) -> InputError:
    """Return the error for rows that are missing in time."""
    count = f"{len(missing)} of its steps" if len(missing) > 1 else "a step"
    first = f"the first is {missing[0]}" if len(missing) > 1 else str(missing[0])
    return InputError(
        f"{name} lacks {count}, going by {step}: {first}; put them in and fill them, for example with "
        ".asfreq(...).interpolate()"
    )
