"""Columns by name, rows by time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from retrograd.errors import InputError
from retrograd.tables.align import by_name, by_time, rows_ahead

_DAYS = pd.date_range("2024-01-01", periods=6, freq="D")
_TABLE = pd.DataFrame({"heat": np.arange(6.0), "cool": -np.arange(6.0)}, index=_DAYS)


def test_columns_are_put_in_order_by_name() -> None:
    swapped = _TABLE[["cool", "heat"]]
    pd.testing.assert_frame_equal(by_name("U", swapped, ["heat", "cool"]), _TABLE)
    array = np.ones((3, 2))
    assert by_name("U", array, ["heat", "cool"]) is array


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["heat", "sun"], r"U lacks 'sun' and has 'cool' beside, expected the columns 'heat', 'sun'"),
        (["heat"], r"U has 'cool' beside, expected the columns 'heat'"),
        (["heat", "cool", "sun"], r"U lacks 'sun', expected"),
    ],
)
def test_other_columns_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        by_name("U", _TABLE, names)


def test_rows_are_found_by_time() -> None:
    pd.testing.assert_frame_equal(by_time("U", _TABLE, _DAYS[2:4], "Y"), _TABLE.iloc[2:4])
    pd.testing.assert_frame_equal(by_time("U", _TABLE.iloc[::-1], _DAYS, "Y"), _TABLE)
    numbered = _TABLE.reset_index(drop=True)
    assert by_time("U", numbered, pd.RangeIndex(4), "Y") is numbered


@pytest.mark.parametrize(
    ("index", "times", "message"),
    [
        (_DAYS, _DAYS + pd.Timedelta(days=3), r"U has no row at 2024-01-07 00:00:00, which Y has \(3 missing\)"),
        (_DAYS[[0, 0, 1, 2, 3, 4]], _DAYS[:3], r"U has more than one row at 2024-01-01"),
        (pd.Index(np.arange(10, 16)), _DAYS, r"U has an index of int64, Y one of datetime64"),
        (_DAYS.tz_localize("UTC"), _DAYS, r"give both the same times"),
    ],
)
def test_rows_that_are_not_there_are_refused(index: Any, times: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        by_time("U", _TABLE.set_axis(index), times, "Y")


def test_the_future_is_found_by_time_or_has_its_length() -> None:
    ahead = _DAYS[4:]
    for values in (_TABLE, _TABLE.iloc[4:]):
        pd.testing.assert_frame_equal(rows_ahead("X", values, ahead, 2), _TABLE.iloc[4:])
    numbered = _TABLE.reset_index(drop=True)
    # Numbers that go on are times too; rows numbered from 0, exactly as many as steps, are the steps in their order.
    pd.testing.assert_frame_equal(rows_ahead("X", numbered, pd.RangeIndex(4, 6), 2), numbered.iloc[4:])
    assert len(rows_ahead("X", numbered.iloc[:2], pd.RangeIndex(4, 6), 2)) == 2
    assert len(rows_ahead("X", numbered.iloc[:2], ahead, 2)) == 2
    assert len(rows_ahead("X", np.ones((2, 1)), ahead, 2)) == 2


@pytest.mark.parametrize(
    ("values", "times", "message"),
    [
        (np.ones((6, 1)), _DAYS[4:], r"X has 6 rows, expected the 2 steps that follow"),
        (_TABLE.iloc[:4], _DAYS[4:], r"X has no row at 2024-01-05 00:00:00, which the forecast has"),
        (_TABLE.reset_index(drop=True), _DAYS[4:], r"X has 6 rows, expected the 2 steps"),
        (_TABLE.set_axis(list("abcdef")), _DAYS[4:], r"X has an index of"),
        (_TABLE, None, r"X has 6 rows, expected the 2 steps"),
    ],
)
def test_a_future_of_other_rows_is_refused(values: Any, times: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        rows_ahead("X", values, times, 2)
