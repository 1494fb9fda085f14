"""Calendar inputs against the calendar."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from retrograd.errors import InputError
from retrograd.estimators.forecasting.calendar import CYCLES, calendar_inputs, calendar_names, require_change

# The steps after which each cycle is where it was.
LENGTHS = {"minute": "60min", "hour": "24h", "weekday": "7D"}


@pytest.mark.parametrize(("cycle", "length"), LENGTHS.items())
def test_a_cycle_comes_back_after_its_length_and_not_before(cycle: str, length: str) -> None:
    start = pd.Timestamp("2023-03-08 13:20:00")
    whole = pd.Timedelta(length)
    index = pd.DatetimeIndex([start, start + whole, start + whole / 2, start + whole / 4])
    first, again, opposite, quarter = calendar_inputs(index, [cycle])
    np.testing.assert_allclose(again, first, atol=1e-12)
    np.testing.assert_allclose(opposite, -first, atol=1e-12)
    np.testing.assert_allclose(quarter, [first[1], -first[0]], atol=1e-12)


def test_months_and_days_follow_their_own_lengths() -> None:
    index = pd.DatetimeIndex(["2024-02-01", "2024-03-01", "2024-02-15 12:00"])  # February has 29 days
    first, later, middle = calendar_inputs(index, ["day"])
    np.testing.assert_allclose(later, first, atol=1e-12)
    np.testing.assert_allclose(middle, -first, atol=1e-12)
    year = calendar_inputs(pd.DatetimeIndex(["2023-01-01", "2024-01-01", "2024-07-01"]), ["month"])
    np.testing.assert_allclose(year[1], year[0], atol=1e-12)
    np.testing.assert_allclose(year[2], -year[0], atol=1e-12)


def test_every_point_is_on_the_unit_circle_and_harmonics_are_multiples() -> None:
    index = pd.date_range("2020-02-27 05:00", periods=100, freq="7h")
    for cycle in CYCLES:
        x = calendar_inputs(index, [f"{cycle}*2"])
        np.testing.assert_allclose(x[:, 0] ** 2 + x[:, 1] ** 2, 1.0, rtol=1e-12)
        np.testing.assert_allclose(x[:, 2], 2 * x[:, 0] * x[:, 1], atol=1e-12)
        assert len(calendar_names([f"{cycle}*2"])) == 4


def test_periods_are_their_starts() -> None:
    periods = pd.period_range("2021-05-03", periods=5, freq="D")
    np.testing.assert_array_equal(
        calendar_inputs(periods, ["weekday"]), calendar_inputs(periods.to_timestamp(), ["weekday"])
    )


def test_what_cannot_be_used_is_named() -> None:
    index = pd.date_range("2024-01-01", periods=5, freq="D")
    with pytest.raises(InputError, match=r"calendar is 'hours': did you mean 'hour'"):
        calendar_inputs(index, ["hours"])
    with pytest.raises(InputError, match=r"'hour\*x': after \* stands how many harmonics"):
        calendar_inputs(index, ["hour*x"])
    with pytest.raises(InputError, match=r"RangeIndex without dates"):
        calendar_inputs(pd.RangeIndex(5), ["hour"])
    with pytest.raises(InputError, match=r"calendar 'hour' never changes .* same place of a day; leave it out"):
        require_change(calendar_inputs(index, ["weekday", "hour"]), ["weekday", "hour"])
