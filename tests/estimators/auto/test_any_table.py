"""The automatic forecaster takes any series: short, constant, holed, huge; and says something finite of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from retrograd.errors import InputError
from retrograd.estimators import AutoForecaster

Array = np.ndarray[Any, Any]
NAN = float("nan")


def noise(rows: int) -> Array:
    return np.random.default_rng(1).standard_normal(rows)


def holed(values: Array, *rows: int) -> Array:
    values = values.copy()
    values[list(rows)] = np.nan
    return values


def hours(rows: int) -> Array:
    t = np.arange(rows)
    return np.asarray(50 + 10 * np.sin(2 * np.pi * t / 24) + 5 * (t // 24 % 7 > 4) + noise(rows))


SERIES = {
    "2 rows": np.array([3.0, 4.0]),
    "3 rows": np.array([3.0, 4.0, 6.0]),
    "5 rows": np.array([3.0, 4.0, 6.0, 2.0, 3.0]),
    "10 rows": 5 + noise(10),
    "13 rows": 5 + noise(13),
    "constant": np.full(29, 7.0),
    "zeros": np.zeros(29),
    "nearly constant": np.where(np.arange(29) == 20, 8.0, 7.0),
    "negative": -50 + noise(29),
    "both signs": noise(29).cumsum(),
    "one missing": holed(5 + noise(29), 12),
    "first and last missing": holed(5 + noise(29), 0, 28),
    "long gap": holed(5 + noise(29), *range(12, 20)),
    "half missing": holed(5 + noise(29), *range(0, 28, 2)),
    "counts": np.random.default_rng(0).poisson(0.3, 29).astype(float),
    "huge": 1e140 * (2 + noise(29) / 10),
    "tiny": 1e-200 * (2 + noise(29) / 10),
    "far from zero": 1e9 + noise(29),
    "one jump": np.repeat([1.0, 1000.0], 14),
    "exponential": np.exp(np.arange(29) / 4.0),
    "two values": np.resize([0.0, 1.0], 29),
    "integers": np.arange(29) % 7,
}


@pytest.mark.parametrize("name", SERIES)
def test_any_series_has_a_forecast(name: str) -> None:
    y = SERIES[name]
    forecaster = AutoForecaster().fit(y, fh=range(1, 7))
    forecast = forecaster.predict()
    interval = forecaster.predict_interval(coverage=[0.8, 0.95]).to_numpy()
    size = float(np.nanmax(np.abs(y)))
    assert forecast.shape == (6,)
    assert np.isfinite(forecast).all()
    assert np.isfinite(interval).all()
    assert np.abs(forecast).max() <= 20 * size + 1e-300
    assert (interval[:, 0] <= forecast).all()
    assert (forecast <= interval[:, 1]).all()
    if np.nanmin(y) >= 0:
        assert interval.min() >= 0
    assert forecaster.chosen_.strip()
    assert list(forecaster.leaderboard_.columns) == ["RMSE", "MAE", "MASE", "sMAPE", "weight"]


INDEXES = {
    "hourly": pd.date_range("2024-01-01", periods=29, freq="h"),
    "daily": pd.date_range("2024-01-01", periods=29, freq="D"),
    "business": pd.date_range("2024-01-01", periods=29, freq="B"),
    "weekly": pd.date_range("2024-01-01", periods=29, freq="W"),
    "monthly": pd.period_range("2016-01", periods=29, freq="M"),
    "quarterly": pd.date_range("2000-01-01", periods=29, freq="QE"),
    "yearly": pd.period_range("1930", periods=29, freq="Y"),
    "numbers": pd.RangeIndex(1900, 1929),
    "halves": pd.Index(np.arange(29) / 2),
}


@pytest.mark.parametrize("name", INDEXES)
def test_any_times_go_on_and_lacking_ones_are_filled(name: str) -> None:
    index: Any = INDEXES[name]
    y = pd.Series(10 + noise(29), index, name="y").iloc[:26]
    found = AutoForecaster().fit(y.drop(index[[8, 9, 20]]), fh=[1, 3])
    assert list(found.predict().index) == [index[26], index[28]]
    assert found.understood_.startswith("26 ")
    assert "3 of them missing, filled" in found.understood_
    later = found.update(pd.Series(10 + noise(29), index, name="y").iloc[26:].drop(index[27]), update_params=False)
    assert later.predict().index[0] > index[28]
    assert np.isfinite(later.predict()).all()


def test_hours_have_both_their_seasons() -> None:
    y = pd.Series(hours(24 * 7 * 4), pd.date_range("2024-01-01", periods=24 * 7 * 4, freq="h"))
    forecaster = AutoForecaster().fit(y[:-48], fh=range(1, 49))
    assert "seasons 24 and 168" in forecaster.understood_
    error = np.sqrt(np.mean((forecaster.predict() - y[-48:]) ** 2))
    assert error < 0.95 * np.sqrt(np.mean((y[-48 - 168 : -168].to_numpy() - y[-48:]) ** 2))


def test_inputs_of_any_kind() -> None:
    random, rows = np.random.default_rng(0), 29
    X = pd.DataFrame({"price": random.standard_normal(rows), "still": 3.0})
    X["double"] = 2 * X["price"] + 1
    X.loc[10:12, "price"] = NAN
    X["empty"] = NAN
    y = pd.Series(2 * random.standard_normal(rows) + X["double"].to_numpy(), name="y")
    forecaster = AutoForecaster().fit(y[:27], X[:27], fh=[1, 2])
    assert np.isfinite(forecaster.predict(X=X[27:29].fillna(0))).all()
    assert np.isfinite(forecaster.predict()).all()


def test_several_series_of_several_kinds() -> None:
    y = pd.DataFrame({"a": noise(29), "b": np.zeros(29), "c": holed(noise(29).cumsum(), 4, 20)})
    forecaster = AutoForecaster().fit(y, fh=[1, 2])
    assert np.isfinite(forecaster.predict().to_numpy()).all()


def test_a_column_without_a_value_is_named() -> None:
    table = pd.DataFrame({"sales": np.nan, "cost": np.arange(9.0)})
    with pytest.raises(InputError, match=r"column 'sales' of y is missing throughout: leave it out"):
        AutoForecaster().fit(table, fh=[1])


SAVED = {
    "with gaps": np.where(np.isin(np.arange(90), [70, 80]), np.nan, np.random.default_rng(0).standard_normal(90)),
    "of four rows": np.array([1.0, 2.0, 2.5, 3.0]),
    "that stands still": np.ones(12),
    "that repeats": np.resize([1.0, 2.0, 3.0], 24),
}


@pytest.mark.parametrize("name", SAVED)
def test_a_forecaster_of_any_series_comes_back_from_its_files(tmp_path: Path, name: str) -> None:
    model = AutoForecaster(season=None, difference="last").fit(SAVED[name], fh=[1, 2])
    model.save(tmp_path / "model")
    again = AutoForecaster.load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict_interval(), model.predict_interval())
    pd.testing.assert_frame_equal(again.leaderboard_, model.leaderboard_)
    pd.testing.assert_frame_equal(again.leaderboard_by_step_, model.leaderboard_by_step_)
