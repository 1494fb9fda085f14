"""Times as they are written: read where it is certain, refused with the argument that decides where it is not."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest

from retrograd.errors import InputError
from retrograd.tables.dates import read_times

_MONTHS = pd.date_range("1949-01-01", periods=60, freq="MS")
_DAYS = pd.date_range("2024-01-01", periods=12, freq="D")
_BERLIN = pd.date_range("2024-03-01", periods=64, freq="D", tz="Europe/Berlin")


def read(values: Any, **options: Any) -> pd.Index:
    column = pd.Series(values)
    return read_times(column, "t.csv: column 'date'", range(2, 2 + len(column)), **options)


CERTAIN: dict[str, tuple[Any, Any]] = {
    "day first, as months go on": (_MONTHS.strftime("%d/%m/%Y"), _MONTHS),
    "month first, as days go on": (
        pd.date_range("2024-01-05", periods=40).strftime("%m/%d/%Y"),
        pd.date_range("2024-01-05", periods=40),
    ),
    "dots": (pd.date_range("2024-01-05", periods=40).strftime("%d.%m.%Y"), pd.date_range("2024-01-05", periods=40)),
    "year first": (_DAYS.strftime("%Y/%m/%d"), _DAYS),
    "iso": (_DAYS.strftime("%Y-%m-%d"), _DAYS),
    "iso months": (_MONTHS.strftime("%Y-%m"), _MONTHS),
    "with and without a clock time": (["2024-01-01", "2024-01-01 12:00"], ["2024-01-01", "2024-01-01 12:00"]),
    "clock times after the day": (["13.01.2024 10:00", "13.01.2024 11:00"], ["2024-01-13 10:00", "2024-01-13 11:00"]),
    "before and after noon": (["1/14/2024 1:30 PM", "1/15/2024 1:30 AM"], ["2024-01-14 13:30", "2024-01-15 01:30"]),
    "short month names": (_MONTHS.strftime("%b %Y"), _MONTHS),
    "month names": (_MONTHS.strftime("%B %Y"), _MONTHS),
    "day and month name": (_DAYS.strftime("%d %b %Y"), _DAYS),
    "American dates": (_DAYS.strftime("%b %d, %Y"), _DAYS),
    "weeks": (["2024-W05", "2024-W06"], ["2024-01-29", "2024-02-05"]),
    "days of weeks": (["2024-W05-1", "2024-W05-2"], ["2024-01-29", "2024-01-30"]),
    "Python's dates": ([datetime.date(2024, 1, 1), datetime.date(2024, 1, 2)], ["2024-01-01", "2024-01-02"]),
    "whole numbers, as months go on": (_MONTHS.strftime("%Y%m").astype(int), _MONTHS),
    "whole numbers, as days go on": (
        pd.date_range("2023-12-20", periods=20).strftime("%Y%m%d").astype(int),
        pd.date_range("2023-12-20", periods=20),
    ),
}


@pytest.mark.parametrize("name", CERTAIN)
def test_what_can_be_read_one_way_is(name: str) -> None:
    written, dates = CERTAIN[name]
    assert list(read(list(written))) == list(pd.DatetimeIndex(dates))


def test_years_far_off() -> None:
    assert [t.year for t in read(["1500-01-01", "1501-01-01"])] == [1500, 1501]
    assert [t.year for t in read(["2500-01-01", "2501-01-01"])] == [2500, 2501]


def test_quarters_and_periods() -> None:
    quarters = pd.period_range("2024Q1", periods=3, freq="Q")
    for written in (
        ["2024Q1", "2024Q2", "2024Q3"],
        ["2024-Q1", "2024-Q2", "2024-Q3"],
        ["Q1 2024", "Q2 2024", "Q3 2024"],
    ):
        assert list(read(written)) == list(quarters)
    months = pd.period_range("2024-01", periods=3, freq="M")
    assert list(read(months)) == list(months)


def test_numbers_stay_numbers() -> None:
    assert list(read([1700, 1701, 1702])) == list(read(["1700", "1701", "1702"])) == [1700, 1701, 1702]
    assert read([0.5, 1.0]).dtype == np.float64
    assert list(read([202301, 202302], date_format="number")) == [202301, 202302]


def test_a_zone_stays() -> None:
    assert str(read(pd.Series(_BERLIN)).dtype).endswith("Europe/Berlin]")
    # Offsets that change are those of a zone whose clocks change so.
    assert list(read([t.isoformat() for t in _BERLIN])) == list(_BERLIN)
    fixed = read([t.isoformat() for t in _BERLIN[:10]])
    assert fixed[0].isoformat() == "2024-03-01T00:00:00+01:00"
    assert read(["2024-01-01T00:00:00Z", "2024-01-01T01:00:00Z"])[1].isoformat() == "2024-01-01T01:00:00+00:00"


def test_a_zone_that_is_given_decides() -> None:
    autumn = pd.date_range("2024-10-15", periods=30, freq="D", tz="America/New_York")
    written = [t.isoformat() for t in autumn]
    with pytest.raises(InputError, match=r"change along the column, .* differ later: give time_zone"):
        read(written)
    assert list(read(written, time_zone="America/New_York")) == list(autumn)
    assert read(["2024-07-01", "2024-07-02"], time_zone="Europe/Berlin")[0].isoformat() == "2024-07-01T00:00:00+02:00"
    with pytest.raises(InputError, match=r"time_zone is 'Mars/Base', which the times cannot be in"):
        read(["2024-07-01", "2024-07-02"], time_zone="Mars/Base")
    with pytest.raises(InputError, match=r"holds no stamps with a clock time: leave time_zone out"):
        read([1, 2, 3], time_zone="Europe/Berlin")


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (_MONTHS[:12].strftime("%d/%m/%Y"), r"two ways .*'%d/%m/%Y' or '%m/%d/%Y'"),
        (_DAYS.strftime("%d/%m/%Y"), r"two ways .*'%d/%m/%Y' or '%m/%d/%Y'"),
        (range(202301, 202313), r"whole numbers like 202301, .* '%Y%m' or 'number'"),
        (range(20231201, 20231221), r"whole numbers like 20231201, .* '%Y%m%d' or 'number'"),
        (["Jan-49", "Feb-49"], r"row 2 is 'Jan-49', whose year has two digits: give date_format"),
        (["24-01-05", "24-01-06"], r"row 2 is '24-01-05', whose year has two digits: give date_format"),
        (["00:05", "00:10"], r"row 2 is '00:05', a clock time without a date"),
        (["today", "tomorrow"], r"row 2 is 'today', expected a number or a date"),
        (["2024-02-29", "2024-02-30"], r"row 3 is '2024-02-30', expected a number or a date"),
        (["2024-01-01T00:00", "2024-01-01T01:00Z"], r"the same way in every row"),
        ([1.0, np.inf, 2.0], r"row 3 is inf, expected a finite time"),
        ([1.0, np.nan, 2.0], r"row 3 has no time"),
        ([True, False], r"holds bool values"),
        ([1j, 2j], r"holds complex128 values"),
        (pd.to_timedelta([1, 2], "s"), r"holds lengths of time"),
        (np.array([2**63, 2**63 + 1], dtype=np.uint64), r"beyond 64-bit integers"),
    ],
    ids=str,
)
def test_what_cannot_be_told_is_refused(written: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(written if isinstance(written, np.ndarray) else list(written))


def test_a_given_format_decides() -> None:
    assert list(read(list(_DAYS.strftime("%d/%m/%Y")), dayfirst=True)) == list(_DAYS)
    assert list(read(list(_DAYS.strftime("%m/%d/%Y")), dayfirst=False)) == list(_DAYS)
    assert list(read(list(_DAYS.strftime("%d/%m/%Y")), date_format="%d/%m/%Y")) == list(_DAYS)
    assert list(read(range(202301, 202313), date_format="%Y%m")) == list(
        pd.date_range("2023-01-01", periods=12, freq="MS")
    )
    with pytest.raises(InputError, match=r"row 2 is '01/01/2024', expected a date written as date_format '%Y' says"):
        read(list(_DAYS.strftime("%d/%m/%Y")), date_format="%Y")


def test_a_year_of_two_digits_is_in_the_past() -> None:
    assert list(read(list(_MONTHS.strftime("%b-%y")), date_format="%b-%y")) == list(_MONTHS)
    assert read(["24-01-05", "24-01-06"], date_format="%y-%m-%d")[0] == pd.Timestamp("2024-01-05")


def test_a_long_cell_is_cut() -> None:
    with pytest.raises(InputError) as refused:
        read(["x" * 500, "y" * 500])
    assert len(str(refused.value)) < 240
