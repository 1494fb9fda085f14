"""The time axis of a table: where it ends, how it goes on, and how its times are written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from retrograd.errors import InputError
from retrograd.tables.dates import read_times
from retrograd.tables.step import Step

__all__ = ["TimeAxis", "drawn_times", "time_of", "time_text"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class TimeAxis:
    """The end of a time axis, and how it goes on.

    Attributes:
        label: its name.
        last: the last observed time.
        step: its rule.
        known: times given beyond it, with the inputs of those steps.

    Examples:
        >>> axis = TimeAxis("year", 2008, Step("number", 1), pd.Index([], dtype="int64"))
        >>> axis.ahead(2).tolist(), TimeAxis.from_record(axis.record()).ahead(1).tolist()
        ([2009, 2010], [2009])
    """

    label: str
    last: Any
    step: Step
    known: Any

    def ahead(self, steps: int) -> Any:
        """Return the next ``steps`` times: the known ones, then as the step goes.

        Raises:
            InputError: they leave the range of the axis' numbers or dates.
        """
        more = steps - len(self.known)
        if more <= 0:
            return self.known[:steps]
        last = self.known[-1] if len(self.known) else self.last
        after = self.step.after(last, more)
        return self.known.append(after) if len(self.known) else after

    def record(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        times = self.known.insert(0, self.last)
        kind, zone = _kind_of(times)
        return {"label": self.label, "kind": kind, "zone": zone, "times": exact_text(times), "step": self.step.record()}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> TimeAxis:
        """Return what :meth:`record` described, or what an older version wrote.

        Raises:
            KeyError: it is no such record.
            ValueError: a value in it is no time.
        """
        if "dtype" in record:
            dtype = np.dtype(record["dtype"])
            recent, known = (pd.Index(np.array(record[name], dtype)) for name in ("recent", "known"))
            return cls(record["label"], recent[-1], Step.find(recent), known)
        step = Step(**record["step"])
        times = _from_text(record["times"], record["kind"], record["zone"], step)
        return cls(record["label"], times[0], step, times[1:])


def time_text(times: Any) -> list[str]:
    """Return each time as text: numbers in full, dates in ISO 8601, without the clock time if all are midnight.

    >>> time_text(pd.Index([1700.0, 1700.5])), time_text(pd.to_datetime(["2024-01-31"]))
    (['1700.0', '1700.5'], ['2024-01-31'])
    >>> time_text(pd.date_range("2024-03-30", periods=2, freq="D", tz="Europe/Berlin"))
    ['2024-03-30T00:00:00+01:00', '2024-03-31T00:00:00+01:00']
    """
    times = pd.Index(times)
    if isinstance(times, pd.DatetimeIndex) and times.tz is None:
        for unit in ("D", "s", "ms", "us"):
            if (times.to_numpy().astype(f"datetime64[{unit}]") == times.to_numpy()).all():
                return [str(text) for text in np.datetime_as_string(times.to_numpy(), unit=unit)]
    return exact_text(times)


def exact_text(times: Any) -> list[str]:
    """Return each time as text that loses nothing."""
    if isinstance(times, pd.DatetimeIndex):
        return [time.isoformat() for time in times]
    return [str(time) for time in times.tolist()]


def time_of(text: str, like: Any) -> Any:
    """Return a time that a user wrote, as one of the axis ``like``; None where it is none.

    >>> time_of("1921", pd.Index([1700, 1701])), time_of("1949-07", pd.period_range("1949-01", periods=3, freq="M"))
    (1921, Period('1949-07', 'M'))
    """
    try:
        if isinstance(like, pd.PeriodIndex):
            return pd.Period(text, freq=like.freqstr)
        if not isinstance(like, pd.DatetimeIndex):
            number = float(text)
            return None if not np.isfinite(number) else int(number) if number.is_integer() else number
        time = read_times(pd.Series([text]), "test", [1])[0]
        if not isinstance(time, pd.Timestamp):
            # A year, or digits that could be one: as ISO 8601 has them.
            time = pd.Timestamp(text)
        if like.tz is None:
            return time if time.tzinfo is None else time.tz_convert("UTC").tz_localize(None)
        return time.tz_localize(like.tz) if time.tzinfo is None else time.tz_convert(like.tz)
    except (InputError, ValueError):
        return None


def drawn_times(times: Any) -> Array:
    """Return times as a picture has them: numbers, or dates of the local clock.

    >>> drawn_times(pd.period_range("2024-01", periods=1, freq="M")).astype("datetime64[D]").tolist()
    [datetime.date(2024, 1, 1)]
    """
    if isinstance(times, pd.PeriodIndex):
        times = times.to_timestamp()
    if isinstance(times, pd.DatetimeIndex) and times.tz is not None:
        times = times.tz_localize(None)
    return np.asarray(times)


def _kind_of(times: Any) -> tuple[str, str | None]:
    if isinstance(times, pd.PeriodIndex):
        return "period", None
    if isinstance(times, pd.DatetimeIndex):
        return "date", None if times.tz is None else str(times.tz)
    return ("whole" if times.dtype.kind in "iu" else "real"), None


def _from_text(texts: list[str], kind: str, zone: str | None, step: Step) -> Any:
    if kind == "period":
        return pd.PeriodIndex(texts, freq=step.freq)
    if kind == "date":
        if zone is None:
            return pd.DatetimeIndex(texts)
        return pd.to_datetime(texts, utc=True).tz_convert(zone)
    return pd.Index([int(text) if kind == "whole" else float(text) for text in texts])
