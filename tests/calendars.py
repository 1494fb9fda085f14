"""Time axes that people have, each with what comes next."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

# How many times stand at the end of each axis as the ones that have to follow.
AHEAD = 4
# What pandas infers from whole axes alone: with a hole, such an axis is refused.
INFERRED = ("business month ends",)

_MONTHS = pd.date_range("2018-01-01", periods=40, freq="MS")
_BERLIN, _NEW_YORK = "Europe/Berlin", "America/New_York"


def _every(first: str, periods: int, freq: str, zone: str | None = None) -> pd.DatetimeIndex:
    return pd.date_range(first, periods=periods, freq=freq, tz=zone)


def _days(periods: int, weekmask: str) -> pd.DatetimeIndex:
    return pd.bdate_range("2024-01-01", periods=periods, freq="C", weekmask=weekmask).as_unit("us")


def _dated(*stamps: str) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(list(stamps))


# Each axis, and what its rule says of itself.
CALENDARS: dict[str, tuple[Any, str]] = {
    "month starts": (_MONTHS, "every month, on day 1 of the month"),
    "15th of the month": (_MONTHS + pd.Timedelta(days=14), "every month, on day 15 of the month"),
    "15th of every third month": ((_MONTHS + pd.Timedelta(days=14))[::3], "every 3 months, on day 15 of the month"),
    "every second month": (_MONTHS[::2], "every 2 months, on day 1 of the month"),
    "15th at noon": (_MONTHS + pd.Timedelta(days=14.5), "every month, on day 15 of the month"),
    "month ends": (_every("2018-01-31", 40, "ME"), "every month, at its end"),
    "30th, or the last": (
        _dated(*(f"2023-{m:02d}-{28 if m == 2 else 30}" for m in range(1, 13))),
        "every month, on day 30 of the month",
    ),
    "quarter starts": (_every("2018-01-01", 24, "QS"), "every 3 months, on day 1 of the month"),
    "quarter ends": (_every("2018-03-31", 24, "QE"), "every 3 months, at its end"),
    "half years": (_every("2000-01-01", 24, "6MS"), "every 6 months, on day 1 of the month"),
    "4 July": (_dated(*(f"{y}-07-04" for y in range(1980, 2024))), "every year, on day 4 of the month"),
    "year ends": (_every("1950", 40, "YE"), "every year, at its end"),
    "year starts": (_every("1950", 40, "YS"), "every year, on day 1 of the month"),
    "decades": (_every("1800", 20, "10YS"), "every 10 years, on day 1 of the month"),
    "ends of February": (
        _dated(*(f"{y}-02-{29 if y % 4 == 0 else 28}" for y in range(1960, 1990))),
        "every year, at its end",
    ),
    "28 February": (_dated(*(f"{y}-02-28" for y in range(1960, 1990))), "every year, on day 28 of the month"),
    "before 1677": (
        pd.DatetimeIndex(np.array([f"{y}-01-01" for y in range(1500, 1540)], "datetime64[s]")),
        "every year, on day 1 of the month",
    ),
    "after 2262": (
        pd.DatetimeIndex(np.array([f"{y}-06-01" for y in range(2300, 2340)], "datetime64[s]")),
        "every year, on day 1 of the month",
    ),
    "business days": (_every("2024-01-01", 40, "B"), "business days"),
    "days without Sundays": (_days(60, "Mon Tue Wed Thu Fri Sat"), "days without Sunday"),
    "Sunday to Thursday": (_days(60, "Sun Mon Tue Wed Thu"), "days without Friday and Saturday"),
    "business month ends": (_every("2018-01-31", 40, "BME"), "the frequency BME"),
    "third Fridays": (_every("2018-01-01", 40, "WOM-3FRI"), "the frequency WOM-3FRI"),
    "weeks": (_every("2024-01-03", 30, "W-WED"), "every week"),
    "fortnights": (_every("2024-01-03", 30, "2W-WED"), "every 2 weeks"),
    "days": (_every("2024-02-03", 30, "D"), "every day"),
    "every third day": (_every("2024-02-03", 30, "3D"), "every 3 days"),
    "hours": (_every("2024-02-27", 60, "h"), "every hour"),
    "every six hours": (_every("2024-02-27", 60, "6h"), "every 6 hours"),
    "quarter hours": (_every("2024-01-03", 60, "15min"), "every 15 minutes"),
    "minutes": (_every("2024-01-03 23:30", 60, "min"), "every minute"),
    "seconds": (_every("2024-01-03", 60, "s"), "every second"),
    "tenths of a second": (_every("2024-01-03", 60, "100ms"), "every 0.1 seconds"),
    "local days": (_every("2024-03-01", 40, "D", _BERLIN), "every day"),
    "local hours": (_every("2024-03-30", 60, "h", _BERLIN), "every hour"),
    "local days in autumn": (_every("2024-10-15", 30, "D", _NEW_YORK), "every day"),
    "local hours in autumn": (_every("2024-11-02", 60, "h", _NEW_YORK), "every hour"),
    "local month starts": (_every("2023-12-01", 24, "MS", _BERLIN), "every month, on day 1 of the month"),
    "Tokyo": (_every("2024-01-01", 40, "D", "Asia/Tokyo"), "every day"),
    "UTC": (_every("2024-01-01", 40, "h", "UTC"), "every hour"),
    "monthly periods": (pd.period_range("2010-01", periods=40, freq="M"), "periods of M"),
    "quarterly periods": (pd.period_range("2010Q1", periods=40, freq="Q"), "periods of Q-DEC"),
    "daily periods": (pd.period_range("2024-01-03", periods=40, freq="D"), "periods of D"),
    "count": (pd.Index(np.arange(1, 60)), "steps of 1"),
    "years as numbers": (pd.Index(np.arange(1700, 1760)), "steps of 1"),
    "by two": (pd.Index(np.arange(0, 120, 2)), "steps of 2"),
    "by ten": (pd.Index(np.arange(0, 600, 10)), "steps of 10"),
    "below zero": (pd.Index(np.arange(-300, 300, 5)), "steps of 5"),
    "tenths": (pd.Index(np.round(np.arange(0, 6, 0.1), 1)), "steps of 0.1"),
}
