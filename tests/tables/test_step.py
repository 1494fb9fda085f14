"""Steps of time axes: the calendar goes on by its rule, and a missing row is seen."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from calendars import AHEAD, CALENDARS, INFERRED
from retrograd.errors import InputError
from retrograd.tables.step import Step

_MONTHS = pd.date_range("2018-01-01", periods=64, freq="MS")


@pytest.mark.parametrize("name", CALENDARS)
def test_goes_on_by_its_rule(name: str) -> None:
    times, words = pd.Index(CALENDARS[name][0]), CALENDARS[name][1]
    known, wanted = times[:-AHEAD], times[-AHEAD:]
    step = Step.find(known)
    assert str(step) == words
    assert list(step.after(known[-1], AHEAD)) == list(wanted)
    assert not len(step.missing(known))


@pytest.mark.parametrize("name", [name for name, (times, _) in CALENDARS.items() if len(times) > 12])
def test_a_missing_row_is_seen_and_the_rule_stays(name: str) -> None:
    times = pd.Index(CALENDARS[name][0])
    if name in INFERRED:
        with pytest.raises(InputError, match="follow no step"):
            Step.find(times.delete(len(times) // 2))
        return
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
    after = step.after(pd.Timestamp("2024-03-30 02:30", tz="Europe/Berlin"), 2)
    assert [t.isoformat() for t in after] == ["2024-03-31T03:00:00+02:00", "2024-04-01T02:30:00+02:00"]
