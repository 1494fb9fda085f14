from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from retrograd.errors import InputError
from retrograd.estimators.identification.experiments import read_experiments


def test_what_the_caller_gave_is_copied() -> None:
    u, y = np.ones((4, 1)), np.array([1.0, np.nan, 3.0, 4.0])
    data = read_experiments(u, y)
    data.inputs[0] = data.outputs[0] = 7
    assert u[0, 0] == 1
    assert y[0] == 1
    assert np.isnan(y[1])


def test_names_come_from_tables() -> None:
    frame = pd.DataFrame({"flow": [1.0, 2.0], "heat": [3.0, 4.0]})
    data = read_experiments(frame[["flow"]], frame["heat"])
    assert data.input_names == ("flow",)
    assert data.output_names == ("heat",)


def test_experiments_lie_end_to_end() -> None:
    data = read_experiments([np.zeros((2, 1)), np.ones((3, 1))], [np.zeros(2), np.ones(3)])
    assert data.starts.tolist() == [0, 2]
    assert data.reset.tolist() == [[True, False, True, False, False]]
    assert data.owner.tolist() == [0, 0, 1, 1, 1]
    assert [len(part) for part in data.split(data.outputs)] == [2, 3]


@pytest.mark.parametrize(
    ("U", "Y", "message"),
    [
        (np.ones((3, 1)), np.ones(4), "U has 3 steps, Y has 4: they must be equal"),
        ([np.ones(3)], [np.ones(3), np.ones(2)], "U is 1, Y a list of 2 experiments"),
        (np.array([1.0, np.nan, 2.0]), np.ones(3), "U is nan at step 1, input u1: inputs must be known"),
        (np.ones(3), np.array([1.0, np.inf, 2.0]), "Y has infinite values"),
        ([np.ones((3, 1)), np.ones((3, 2))], [np.ones(3), np.ones(3)], "experiment 1 has 2 inputs and 1 outputs"),
        (None, [], "Y is an empty list|there is nothing in it"),
        (None, np.ones((2, 2, 2)), r"Y has shape \(2, 2, 2\), expected \(steps, columns\)"),
        (None, ["a", "b"], "Y holds text, expected real numbers"),
    ],
)
def test_what_cannot_be_used_is_named(U: object, Y: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_experiments(U, Y)


_HOURS = pd.date_range("2024-01-01", periods=12, freq="h")


def test_rows_that_are_missing_in_time_are_missing_outputs() -> None:
    U, Y = pd.DataFrame({"u": np.arange(12.0)}, _HOURS), pd.Series(np.arange(12.0), _HOURS)
    keep = np.r_[0:4, 7:12]
    data = read_experiments(U, Y.iloc[keep])
    assert data.observed[:, 0].tolist() == [step in keep for step in range(12)]
    assert data.inputs[:, 0].tolist() == list(range(12))
    assert data.as_given(data.outputs)[0][:, 0].tolist() == keep.tolist()
    with pytest.raises(
        InputError, match=r"U and Y lack 3 steps \(every hour\), the first at 2024-01-01 04:00:00: inputs"
    ):
        read_experiments(U.iloc[keep], Y.iloc[keep])


def test_inputs_are_taken_by_time_and_name() -> None:
    U = pd.DataFrame({"a": np.arange(12.0), "b": -np.arange(12.0)}, _HOURS)
    Y = pd.Series(np.arange(3.0, 12.0), _HOURS[3:])
    data = read_experiments([U, U[["b", "a"]]], [Y, Y])
    assert data.inputs[:, 0].tolist() == [*range(3, 12)] * 2
    with pytest.raises(InputError, match=r"U has no row at 2024-01-02 03:00:00, which Y has"):
        read_experiments(U, Y.set_axis(Y.index + pd.Timedelta(days=1)))


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (_HOURS[::-1], r"Y has an index that does not increase: sort it"),
        (_HOURS[[0, 0, *range(2, 12)]], r"Y has an index that does not increase"),
        (np.sort(np.random.default_rng(0).random(12)), r"Y has an index without a step"),
    ],
)
def test_times_that_are_no_axis_are_refused(index: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_experiments(None, pd.Series(np.arange(12.0), index))
