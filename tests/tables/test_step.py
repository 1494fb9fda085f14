"""Steps of time axes: the calendar goes on by its rule, and a missing row is seen."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from retrograd.errors import InputError
from retrograd.tables.step import Step

_MONTHS = pd.date_range("2018-01-01", periods=64, freq="MS")
_BERLIN = "Europe/Berlin"
# Each axis with what its rule says; the last four times are what has to follow the others.
CALENDARS = {
    "month starts": (_MONTHS, "every month, on day 1 of the month"),
    "15th of the month": (_MONTHS + pd.Timedelta(days=14), "every month, on day 15 of the month"),
    "15th of every third month": ((_MONTHS + pd.Timedelta(days=14))[::3], "every 3 months, on day 15 of the month"),
    "15th at noon": (_MONTHS + pd.Timedelta(days=14.5), "every month, on day 15 of the month"),
    "month ends": (pd.date_range("2018-01-31", periods=64, freq="ME"), "every month, at its end"),
    "30th, or the last": (
        pd.DatetimeIndex([f"2023-{m:02d}-{28 if m == 2 else 30}" for m in range(1, 13)]),
        "every month, on day 30 of the month",
    ),
    "quarter starts": (pd.date_range("2018-01-01", periods=24, freq="QS"), "every 3 months, on day 1 of the month"),
    "quarter ends": (pd.date_range("2018-03-31", periods=24, freq="QE"), "every 3 months, at its end"),
    "4 July": (pd.DatetimeIndex([f"{y}-07-04" for y in range(1960, 2024)]), "every year, on day 4 of the month"),
    "year ends": (pd.date_range("1950", periods=40, freq="YE"), "every year, at its end"),
    "ends of February": (
        pd.DatetimeIndex([f"{y}-02-{29 if y % 4 == 0 else 28}" for y in range(1960, 1990)]),
        "every year, at its end",
    ),
    "the 28th of February": (
        pd.DatetimeIndex([f"{y}-02-28" for y in range(1960, 1990)]),
        "every year, on day 28 of the month",
    ),
    "before 1677": (
        np.array([f"{y}-01-01" for y in range(1500, 1560)], "datetime64[s]"),
        "every year, on day 1 of the month",
    ),
    "business days": (pd.date_range("2024-01-01", periods=64, freq="B"), "business days"),
    "business month ends": (pd.date_range("2018-01-31", periods=64, freq="BME"), "the frequency BME"),
    "weeks": (pd.date_range("2024-01-03", periods=30, freq="W-WED"), "every week"),
    "fortnights": (pd.date_range("2024-01-03", periods=30, freq="2W-WED"), "every 2 weeks"),
    "days": (pd.date_range("2024-01-03", periods=30, freq="D"), "every day"),
    "hours": (pd.date_range("2024-01-03", periods=300, freq="h"), "every hour"),
    "quarter hours": (pd.date_range("2024-01-03", periods=300, freq="15min"), "every 15 minutes"),
    "tenths of a second": (pd.date_range("2024-01-03", periods=300, freq="100ms"), "every 0.1 seconds"),
    "local days": (pd.date_range("2024-03-01", periods=64, freq="D", tz=_BERLIN), "every day"),
    "local hours": (pd.date_range("2024-03-30", periods=64, freq="h", tz=_BERLIN), "every hour"),
    "local month starts": (
        pd.date_range("2023-12-01", periods=24, freq="MS", tz=_BERLIN),
        "every month, on day 1 of the month",
    ),
    "monthly periods": (pd.period_range("2010-01", periods=40, freq="M"), "periods of M"),
    "count": (np.arange(1, 100), "steps of 1"),
    "by two": (np.arange(0, 200, 2), "steps of 2"),
    "by ten": (np.arange(0, 2000, 10), "steps of 10"),
    "tenths": (np.round(np.arange(0, 20, 0.1), 1), "steps of 0.1"),
}


@pytest.mark.parametrize("name", CALENDARS)
def test_goes_on_by_its_rule(name: str) -> None:
    times, words = pd.Index(CALENDARS[name][0]), CALENDARS[name][1]
    known, wanted = times[:-4], times[-4:]
    step = Step.find(known)
    assert str(step) == words
    assert list(step.after(known[-1], 4)) == list(wanted)
    assert not len(step.missing(known))


@pytest.mark.parametrize("name", [name for name, (times, _) in CALENDARS.items() if len(times) > 12])
def test_a_missing_row_is_seen_and_the_rule_stays(name: str) -> None:
    times = pd.Index(CALENDARS[name][0])
    if name == "business month ends":
        pytest.skip("pandas infers such a frequency from whole axes alone; the axis is refused")
    place = len(times) // 2
    holed = times[:-4].delete(place)
    step = Step.find(holed)
    assert list(step.missing(holed)) == [times[place]]
    assert list(step.after(holed[-1], 4)) == list(times[-4:])


def test_the_record_brings_the_rule_back() -> None:
    for times, _ in CALENDARS.values():
        step = Step.find(pd.Index(times))
        assert Step(**step.record()) == step


def test_stamps_without_a_step_are_refused() -> None:
    draw = np.random.default_rng(0)
    with pytest.raises(InputError, match="follow no step"):
        Step.find(pd.Index(np.sort(draw.random(40) * 100)))
    with pytest.raises(InputError, match="follow no step"):
        Step.find(pd.Timestamp("2024-01-01") + pd.to_timedelta(np.sort(draw.integers(0, 10**6, 40)), "s"))
    broken = pd.date_range("2018-01-31", periods=64, freq="BME").delete(30)
    with pytest.raises(InputError, match="follow no step"):
        Step.find(broken)


def test_rounded_stamps_have_their_mean_step() -> None:
    times = pd.Index(np.round(np.arange(61) / 30, 3))
    step = Step.find(times)
    assert step.size == pytest.approx(1 / 30, rel=1e-9)
    assert not len(step.missing(times))


def test_a_given_step() -> None:
    days = pd.date_range("2024-01-01", periods=5, freq="D")
    assert str(Step.given("D", days)) == str(Step.given(pd.Timedelta("1D"), days)) == "every day"
    by_month = Step.given(pd.DateOffset(months=1), _MONTHS + pd.Timedelta(days=14))
    assert [str(t.date()) for t in by_month.after(pd.Timestamp("2024-01-15"), 2)] == ["2024-02-15", "2024-03-15"]
    # Few rows of a fine grid: what could not be found holds where it is said.
    sparse = pd.to_datetime(["2024-01-01 00:00", "2024-01-01 07:00", "2024-01-02 03:00"])
    assert len(Step.given("h", sparse).missing(sparse)) == 25
    assert Step.given("2", pd.Index([0, 2, 6])) == Step("number", 2)


@pytest.mark.parametrize(
    ("freq", "message"),
    [
        ("MS", r"freq is 'MS', but 2024-01-02 00:00:00 does not follow 2024-01-01 00:00:00 by whole steps"),
        ("2D", r"freq is '2D', but 2024-01-02 00:00:00 does not follow 2024-01-01 00:00:00 by whole steps"),
        ("foo", r"freq is 'foo', expected a pandas frequency"),
        ("-1D", r"freq is '-1D', expected a pandas frequency"),
        (3, r"freq is 3, expected a pandas frequency"),
    ],
)
def test_a_step_that_does_not_fit_is_refused(freq: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Step.given(freq, pd.date_range("2024-01-01", periods=5, freq="D"))


def test_numbers_do_not_wrap() -> None:
    with pytest.raises(InputError, match="leave the range of 64-bit integers"):
        Step("number", 1).after(2**63 - 2, 5)


def test_a_clock_time_that_does_not_exist_moves_to_the_end_of_the_gap() -> None:
    step = Step("day")
    after = step.after(pd.Timestamp("2024-03-30 02:30", tz=_BERLIN), 2)
    assert [t.isoformat() for t in after] == ["2024-03-31T03:00:00+02:00", "2024-04-01T02:30:00+02:00"]
