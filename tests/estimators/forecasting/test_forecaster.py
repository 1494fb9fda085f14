"""The forecaster as its users meet it: arrays, tables, panels, intervals, updates, and messages."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError

from estimators.forecasting.loads import CONFIGURATIONS, loads
from retrograd.errors import InputError
from retrograd.estimators.forecasting.estimator import Forecaster
from retrograd.tables.read import read_table

Array = np.ndarray[Any, Any]


@pytest.mark.parametrize("options", CONFIGURATIONS, ids=str)
def test_every_configuration_beats_the_last_value(options: dict[str, Any]) -> None:
    y = loads()
    train, test = y.iloc[:-48], y.iloc[-48:]
    forecaster = Forecaster(**options).fit(train, fh=range(1, 25))
    predicted = forecaster.predict()
    pd.testing.assert_index_equal(predicted.index, test.index[:24], check_names=False)
    assert list(predicted.columns) == list(y.columns)
    error = float(((predicted - test.iloc[:24]) ** 2).to_numpy().mean())
    naive = float(((test.iloc[:24] - train.iloc[-1]) ** 2).to_numpy().mean())
    assert error < 0.5 * naive


@pytest.mark.parametrize("options", CONFIGURATIONS, ids=str)
def test_a_backtest_is_the_forecasts_after_every_row(options: dict[str, Any]) -> None:
    y = loads(20)
    X = pd.DataFrame({"heat": np.random.default_rng(1).normal(size=len(y))}, index=y.index)
    start, fh = len(y) - 30, [1, 2, 6]
    forecaster = Forecaster(**options).fit(y.iloc[:start], X=X.iloc[:start], fh=fh)
    windows = forecaster.backtest(y, X, start=start)
    assert windows.shape == (30 - 6 + 1, 3, 2)
    np.testing.assert_array_equal(windows[::4], forecaster.backtest(y, X, start=start, stride=4))
    for i in (0, 1, 5):
        if i:
            new = slice(start + (0 if i == 1 else 1), start + i)
            forecaster.update(y.iloc[new], X=X.iloc[new], update_params=False)
        assert forecaster.cutoff[0] == y.index[start + i - 1]
        one = forecaster.predict(X=X.iloc[start + i : start + i + 6])
        # States run from the tail instead of from the start: the same up to rounding.
        np.testing.assert_allclose(windows[i], one, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "options",
    [
        *CONFIGURATIONS[:-2],
        # So narrow that there is no oscillator, whose period is read from the data.
        {"states": "diagonal", "hidden": 1, "lags": 12, "calendar": ("hour",)},
        {"states": "dense", "hidden": 3, "lags": 12, "difference": 24},
    ],
    ids=str,
)
def test_an_update_is_a_fit_to_all(options: dict[str, Any]) -> None:
    y = loads(20)
    # Scaling and penalty stay as they were fitted first, so both are fixed here.
    options = {**options, "scale": False, "ridge": 0.01}
    whole = Forecaster(**options).fit(y, fh=[1, 3])
    parts = Forecaster(**options).fit(y.iloc[:300], fh=[1, 3])
    before = parts.predict().to_numpy()
    parts.update(y.iloc[300:301]).update(y.iloc[301:])
    for one, other in zip(parts._model.groups, whole._model.groups, strict=True):
        assert one.moments.count == other.moments.count
        np.testing.assert_allclose(one.weights.states, other.weights.states, rtol=1e-6, atol=1e-8)
    pd.testing.assert_frame_equal(parts.predict(), whole.predict(), rtol=1e-8)
    assert np.abs(parts.predict().to_numpy() - before).max() > 1e-3


def test_values_seen_before_change_nothing() -> None:
    y = loads(20)
    forecaster = Forecaster(lags=24).fit(y.iloc[:300], fh=[1, 2])
    before = forecaster.predict()
    forecaster.update(y.iloc[200:300])
    pd.testing.assert_frame_equal(forecaster.predict(), before)


def test_a_gap_before_an_update_is_told() -> None:
    y = loads(20)
    forecaster = Forecaster(lags=24).fit(y.iloc[:300], fh=[1, 2])
    with pytest.raises(InputError, match=r"goes on at 2024-01-13 13:00:00 after .* 11:00:00: .* 12:00:00 comes next"):
        forecaster.update(y.iloc[301:])


def test_rows_that_are_missing_in_time_are_refused() -> None:
    index = pd.period_range("2010-01", periods=120, freq="M")
    y = pd.Series(10 + np.sin(2 * np.pi * np.arange(120) / 12), index=index)
    with pytest.raises(InputError, match=r"y lacks a step, going by periods of M: 2019-03; put them in"):
        Forecaster(lags=1, difference=12).fit(y.drop(index[110]), fh=[1, 2, 3])
    with pytest.raises(InputError, match=r"y lacks a step, going by steps of 1: 110"):
        Forecaster(lags=1).fit(pd.Series(np.delete(y.to_numpy(), 110), np.delete(np.arange(120), 110)), fh=[1])
    forecaster = Forecaster(lags=1, difference=12).fit(y.iloc[:100], fh=[1, 2, 3])
    with pytest.raises(InputError, match=r"y goes on at 2019-04 after 2019-02: 2019-03 comes next"):
        forecaster.update(y.iloc[100:].drop(index[110]), update_params=False)
    assert str(forecaster.update(y.iloc[100:]).predict().index[0]) == "2020-01"


def test_inputs_are_taken_by_name_and_time() -> None:
    index = pd.period_range("2010-01", periods=123, freq="M")
    X = pd.DataFrame(np.random.default_rng(0).standard_normal((123, 2)), index, ["a", "b"])
    y = (10 + 2 * X["a"] - X["b"]).iloc[:120]
    forecaster = Forecaster(lags=3).fit(y, X.iloc[:120], fh=[1, 2, 3])
    expected = forecaster.predict(X=X.iloc[120:])
    pd.testing.assert_series_equal(forecaster.predict(X=X[["b", "a"]]), expected)
    pd.testing.assert_series_equal(Forecaster(lags=3).fit(y, X, fh=[1, 2, 3]).predict(X=X), expected)
    with pytest.raises(InputError, match=r"X lacks 'a', 'b' and has 'foo', 'bar' beside"):
        forecaster.predict(X=X.set_axis(["foo", "bar"], axis=1))
    arrays = Forecaster(lags=3).fit(y.to_numpy(), X.to_numpy(), fh=[1, 2, 3])
    with pytest.raises(InputError, match=r"X has 123 rows, expected the inputs of the 3 steps that follow y"):
        arrays.predict(X=X.to_numpy())
    np.testing.assert_allclose(arrays.predict(X=X.to_numpy()[120:]), expected.to_numpy(), rtol=1e-9)


def test_one_map_is_shared_or_each_series_has_its_own() -> None:
    y = loads(30, 3)
    own = Forecaster(lags=24, share=False, ridge=0.01).fit(y, fh=[1, 5])
    for column in y.columns:
        alone = Forecaster(lags=24, ridge=0.01).fit(y[[column]], fh=[1, 5])
        np.testing.assert_allclose(own.predict()[[column]], alone.predict(), rtol=1e-10)
    shared = Forecaster(lags=24, ridge=0.01).fit(y, fh=[1, 5])
    assert (len(own.ridge_), len(shared.ridge_)) == (3, 1)
    assert np.abs(shared.predict() - own.predict()).to_numpy().max() > 1e-4


def test_a_panel_and_a_wide_table_of_the_same_series_say_the_same() -> None:
    y = loads(20, 2)
    panel = pd.concat({name: y[[name]].set_axis(["load"], axis=1) for name in y}, names=["site", "date"])
    wide = Forecaster(lags=24).fit(y, fh=[1, 2, 3]).predict()
    forecaster = Forecaster(lags=24).fit(panel, fh=[1, 2, 3])
    tall = forecaster.predict()
    for name in y:
        np.testing.assert_allclose(tall.loc[name]["load"], wide[name], rtol=1e-9)
    windows = forecaster.backtest(panel.loc["load1"], start=400, instance="load1")
    assert windows.shape == (480 - 400 - 3 + 1, 3, 1)
    with pytest.raises(InputError, match=r"instance is None: .* There are: load0, load1|instance is None: there are"):
        forecaster.backtest(panel.loc["load1"], start=400)


def test_arrays_and_lists_come_back_as_such() -> None:
    y = loads(20, 2).to_numpy()
    matrix = Forecaster(lags=24).fit(y, fh=[1, 2]).predict()
    assert isinstance(matrix, np.ndarray)
    assert matrix.shape == (2, 2)
    vector = Forecaster(lags=24).fit(y[:, 0], fh=[1, 2])
    assert vector.predict().shape == (2,)
    table = Forecaster(lags=24).fit(pd.Series(y[:, 0]), fh=[1, 2])
    np.testing.assert_allclose(vector.predict(), table.predict())
    vector.update(y[:5, 0])  # arrays have no times: they go on where the series ended
    np.testing.assert_allclose(vector._model.tails[0].y[-5:, 0], y[:5, 0])
    several = Forecaster(lags=24).fit([y[:, 0], y[100:, 1]], fh=[1, 2]).predict()
    assert [part.shape for part in several] == [(2, 1), (2, 1)]


def test_inputs_known_ahead_are_used() -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"price": rng.normal(size=400), "heat": rng.normal(size=400)})
    y = pd.Series(2 * X["price"] - X["heat"] + 0.01 * rng.normal(size=400))
    for readout, fh in (("direct", [1, 4]), ("recursive", [1, 2, 3, 4])):
        for difference in (None, "last"):
            forecaster = Forecaster(lags=3, readout=readout, difference=difference).fit(y[:390], X=X[:390], fh=fh)
            predicted = forecaster.predict(X=X[390:])
            assert np.abs(predicted - y[predicted.index]).max() < 0.2


def test_arrays_of_inputs_are_one_row_a_step() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 1))
    y = 3 * X[:, 0]
    forecaster = Forecaster(lags=2, difference=None).fit(y[:190], X=X[:190], fh=[2, 4])
    every, wanted = forecaster.predict(X=X[190:194]), forecaster.predict(X=X[[191, 193]])
    np.testing.assert_allclose(every, y[[191, 193]], atol=1e-3)
    np.testing.assert_array_equal(every, wanted)


def test_a_recursive_forecast_says_which_inputs_between_it_made_up() -> None:
    X = pd.DataFrame({"heat": np.sin(np.arange(100.0) ** 1.5)})
    y = pd.Series(np.cos(np.arange(90.0)))
    forecaster = Forecaster(lags=3, readout="recursive").fit(y, X=X[:90])
    with pytest.warns(UserWarning, match=r"X has no row at 92, between the times to predict \(1 missing\)"):
        forecaster.predict(fh=[1, 2, 4], X=X.iloc[[90, 91, 93]])


@pytest.mark.parametrize("readout", ["direct", "recursive"])
@pytest.mark.parametrize("difference", [None, "last"])
def test_intervals_cover_what_they_say(readout: str, difference: Any) -> None:
    """Simulated AR(2) series; 95 % must be 93 to 97 over all series, horizons and origins."""
    rng = np.random.default_rng(5)
    noise = rng.normal(size=(700, 60))
    y = np.zeros_like(noise)
    for t in range(2, len(y)):
        y[t] = 1.2 * y[t - 1] - 0.4 * y[t - 2] + noise[t]
    fh = [1, 2, 5, 10]
    forecaster = Forecaster(lags=6, readout=readout, difference=difference, share=False, ridge=0.001)
    forecaster.fit(y[100:600], fh=fh)
    table = forecaster.predict_interval(fh=fh, coverage=[0.5, 0.95])
    center = forecaster.predict(fh=fh)
    windows = forecaster.backtest(y[100:], start=500, fh=fh)
    truth = np.stack([y[600 + h - 1 : 600 + h - 1 + len(windows)] for h in fh], axis=1)
    for coverage, low, high in ((0.95, 0.93, 0.97), (0.5, 0.46, 0.54)):
        names = list(dict.fromkeys(table.columns.get_level_values(0)))
        half = np.stack(
            [(table[name, coverage, "upper"] - table[name, coverage, "lower"]).to_numpy() / 2 for name in names], axis=1
        )
        middle = (table[names[0], coverage, "upper"] + table[names[0], coverage, "lower"]).to_numpy() / 2
        np.testing.assert_allclose(middle, center[:, 0], rtol=1e-9)
        assert low < float((np.abs(truth - windows) <= half).mean()) < high


@pytest.mark.parametrize("readout", ["direct", "recursive"])
@pytest.mark.parametrize("difference", [None, "last"])
@pytest.mark.parametrize("wild", [1e6, -1e6])
def test_a_wild_last_value_leaves_forecasts_bounded_and_unsure(readout: str, difference: Any, wild: float) -> None:
    y = 10 + np.random.default_rng(0).standard_normal(200)
    fh = range(1, 11)
    calm = Forecaster(readout=readout, difference=difference).fit(y, fh=fh).predict_interval(fh, coverage=0.95)
    y[-1] = wild
    forecaster = Forecaster(readout=readout, difference=difference).fit(y, fh=fh)
    assert np.abs(forecaster.predict(fh)).max() <= 4.1e6
    half, usual = (np.diff(table, axis=1) / 2 for table in (forecaster.predict_interval(fh, coverage=0.95), calm))
    assert (half > 3 * usual).all()
    assert (half < 1e7).all()


def test_a_forecast_from_rows_like_none_before_is_less_sure() -> None:
    """By ordinary least squares: the variance of a forecast is σ² (1 + zᵀ (ZᵀZ)⁻¹ z)."""
    random = np.random.default_rng(1)
    y = random.standard_normal(120)
    y[-2:] = 5.0, -5.0
    forecaster = Forecaster(lags=2, difference=None, ridge=1e-9, intercept=False, scale=False).fit(y, fh=[1])
    usual = Forecaster(lags=2, difference=None, ridge=1e-9, intercept=False, scale=False).fit(y, fh=[1])
    usual.update(np.append(y, [0.0, 0.0]), update_params=False)
    half, narrow = (np.diff(each.predict_interval(coverage=0.5))[0, 0] for each in (forecaster, usual))
    Z, z = np.stack([y[1:-1], y[:-2]], axis=1), y[:-3:-1]
    leverage = z @ np.linalg.solve(Z.T @ Z, z)
    np.testing.assert_allclose(half / narrow, np.sqrt((1 + leverage) / (1 + 2 / 118)), rtol=1e-6)


def test_the_recursive_deviation_is_that_of_the_process() -> None:
    rng = np.random.default_rng(0)
    y = np.zeros((20000, 1))
    for t in range(1, len(y)):
        y[t] = 0.7 * y[t - 1] + rng.normal()
    forecaster = Forecaster(lags=1, readout="recursive", difference=None, ridge=0.0).fit(y)
    table = forecaster.predict_interval(fh=[1, 2, 3], coverage=0.6826894921370859)
    half = (table.iloc[:, 1] - table.iloc[:, 0]).to_numpy() / 2
    np.testing.assert_allclose(half, np.sqrt(np.cumsum(0.7 ** (2 * np.arange(3)))), rtol=0.02)


def test_sunspots_by_least_squares_are_an_ar9() -> None:
    table = read_table("sunspots", targets=["sunspots"], time="year")
    y = table.targets[:, 0]
    train, end = 221, 256  # 1700 to 1920; 1921 to 1955
    forecaster = Forecaster(lags=9, readout="recursive", difference=None, ridge=0.0).fit(y[:train])
    predicted = forecaster.backtest(y[:end], start=train, fh=1)[:, 0, 0]
    A = np.stack([np.ones(train - 9), *(y[9 - lag : train - lag] for lag in range(1, 10))], axis=1)
    weights = np.linalg.lstsq(A, y[9:train], rcond=None)[0]
    later = np.stack([np.ones(end - train), *(y[train - lag : end - lag] for lag in range(1, 10))], axis=1)
    np.testing.assert_allclose(predicted, later @ weights, rtol=1e-8)
    assert float(((predicted - y[train:end]) ** 2).mean()) < 189.2


def test_the_callers_data_is_never_changed() -> None:
    y = loads(20)
    X = pd.DataFrame({"heat": np.random.default_rng(1).normal(size=len(y))}, index=y.index)
    arrays = y.to_numpy().copy(), X.to_numpy().copy()
    arrays[0].setflags(write=False)
    arrays[1].setflags(write=False)
    Forecaster(lags=24).fit(arrays[0][:400], X=arrays[1][:400], fh=[1]).update(arrays[0][400:], X=arrays[1][400:])
    kept = y.copy(), X.copy()
    forecaster = Forecaster(lags=24, calendar=("hour",)).fit(y.iloc[:400], X=X.iloc[:400], fh=[1, 2])
    forecaster.predict(X=X.iloc[400:402])
    forecaster.update(y.iloc[400:], X=X.iloc[400:])
    forecaster.backtest(y, X, start=400)
    pd.testing.assert_frame_equal(y, kept[0])
    pd.testing.assert_frame_equal(X, kept[1])


def _inputs(index: pd.Index, **columns: Any) -> pd.DataFrame:
    return pd.DataFrame({name: np.broadcast_to(value, len(index)) for name, value in columns.items()}, index=index)


def test_what_cannot_be_used_is_told() -> None:
    y = loads(10, 1)
    rng = np.random.default_rng(0)
    heat, wind = rng.normal(size=(2, len(y)))

    def fit(message: str, data: Any = y, X: Any = None, fh: Any = (1, 2), **options: Any) -> None:
        with pytest.raises(InputError, match=message):
            Forecaster(**options).fit(data, X=X, fh=list(fh))

    fit(r"X column 'flat' is constant \(3\) in the training part.*leave it out", X=_inputs(y.index, heat=heat, flat=3))
    fit(
        r"input '(heat|wind|both)' is a linear combination of '(heat|wind|both)', '(heat|wind|both)' in the",
        X=_inputs(y.index, heat=heat, wind=wind, both=heat - 2 * wind),
    )
    fit(r"y has 240 steps, a forecast of it needs at least 300: 300 of look-back", lags=300)
    fit(r"y has 240 steps, at least 242 are needed: 2 of look-back \(lags\), 240 of the longest", fh=[240], lags=2)
    fit(
        r"y has 240 steps, at least 250 are needed: 24 .*, 24 of the season \(difference\), 202",
        fh=[202],
        lags=24,
        difference=24,
    )
    fit(r"states is 'lag': did you mean 'lags'", states="lag")
    fit(r"lags is 0, expected a whole number of at least 1", lags=0)
    fit(r"ridge is -1, expected 'auto' or a number of at least 0", ridge=-1)
    fit(r"epochs is 5, but lags have nothing to train", epochs=5)
    fit(r"calendar is \('hour',\), but the index is a RangeIndex", data=y.to_numpy(), calendar=("hour",))
    fit(
        r"more than 3 steps are needed", data=y[:3], X=_inputs(y.index[:3], a=heat[:3], b=wind[:3], c=heat[3:6]), fh=[1]
    )
    hole = _inputs(y.index, heat=heat)
    hole.iloc[7] = np.inf
    fit(r"X is inf at 2024-01-01 07:00:00, column 'heat' \(1 such values\): fill them", X=hole)


def test_missing_values_are_told_without_sktime_too() -> None:
    y = loads(10, 1)
    y.iloc[5] = np.nan
    with pytest.raises(ValueError, match=r"load0|missing|nan"):
        Forecaster().fit(y, fh=[1])
    X = _inputs(y.index, heat=np.where(np.arange(len(y)) == 9, np.nan, np.sin(np.arange(len(y)))))
    with pytest.raises(ValueError, match=r"heat|missing|nan"):
        Forecaster().fit(loads(10, 1), X=X, fh=[1])


def test_what_a_forecast_lacks_is_told() -> None:
    y = loads(20, 1)
    X = _inputs(y.index, heat=np.sin(np.arange(len(y)) ** 1.5))
    forecaster = Forecaster(lags=3).fit(y[:400], X=X[:400], fh=[1, 4])
    with pytest.raises(InputError, match=r"X is None, but the forecaster was fitted with the inputs \['heat'\]"):
        forecaster.predict()
    with pytest.raises(InputError, match=r"X has no row at 2024-01-17 19:00:00: each time to predict needs one"):
        forecaster.predict(X=X[400:402])
    with pytest.raises(InputError, match=r"start is 2: it must be from 3 \(the look-back before it\) to 476"):
        forecaster.backtest(y, X, start=2)
    with pytest.raises(InputError, match=r"y has 2 series, the forecaster was fitted to 1"):
        forecaster.backtest(loads(20, 2), X, start=20)


# The protocol


def test_the_parameters_are_kept_and_cloned() -> None:
    from sklearn.base import clone

    forecaster = Forecaster("diagonal", lags=7, calendar=["hour"], ridge=0.5)
    assert forecaster.get_params()["calendar"] == ["hour"]
    assert forecaster.set_params(lags=9).lags == 9
    assert clone(forecaster).get_params() == forecaster.get_params()


def test_a_fit_without_horizons_or_with_others_is_told() -> None:
    y = loads(20)
    vector = Forecaster(lags=24).fit(y["load0"].to_numpy(), fh=range(1, 4))
    assert vector.is_fitted
    assert not vector.clone().is_fitted
    assert Forecaster(lags=24).fit_predict(y["load0"], fh=2).name == "load0"
    for call, message in (
        (lambda: Forecaster().fit(y), "fh is None: a direct read-out is fitted for its horizons"),
        (lambda: vector.predict(fh=9), r"fh is \[9\], but the read-out was fitted for \[1, 2, 3\]: fit again"),
        (lambda: Forecaster().fit(y, fh=[0]), r"fh is \[0\], expected steps ahead"),
        (lambda: Forecaster().fit(["a", "b"], fh=1), "y holds text, expected real numbers"),
        (lambda: Forecaster().fit(y.where(y > 9), fh=1), "y is nan at 2024-01-01"),
    ):
        with pytest.raises(InputError, match=message):
            call()
    with pytest.raises(NotFittedError, match="not fitted"):
        Forecaster().predict()


def test_quantiles_and_intervals_agree() -> None:
    forecaster = Forecaster(lags=24).fit(loads(20), fh=[1, 3])
    interval = forecaster.predict_interval(coverage=0.8)
    quantiles = forecaster.predict_quantiles(alpha=[0.1, 0.9])
    np.testing.assert_allclose(interval, quantiles, rtol=1e-12)
    assert quantiles.columns.tolist() == [(name, alpha) for name in ("load0", "load1") for alpha in (0.1, 0.9)]


@pytest.mark.parametrize("size", [1e-300, 1e-200, 1e200, 1e300])
def test_any_unit_gives_the_same_forecast(size: float) -> None:
    y = 10 + np.sin(np.arange(200.0) / 3) + 0.1 * np.random.default_rng(0).standard_normal(200)
    expected = Forecaster(lags=5).fit(y, fh=[1, 2]).predict()
    np.testing.assert_allclose(Forecaster(lags=5).fit(y * size, fh=[1, 2]).predict() / size, expected, rtol=1e-9)
