"""The automatic forecaster as its users meet it: series in, forecasts out that lose to no baseline."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError

from retrograd.errors import InputError
from retrograd.estimators import AutoForecaster
from retrograd.estimators.auto.baselines import Naive
from retrograd.estimators.auto.contenders import Contender, Fitted
from retrograd.estimators.auto.selection import Judged, Judgement, choose, judge
from retrograd.estimators.auto.series import Series
from retrograd.estimators.auto.understanding import understand
from retrograd.estimators.model_files import write_model

Array = np.ndarray[Any, Any]


def months(rows: int = 132, seed: int = 0) -> pd.Series:
    """Monthly sales that grow, with a season and noise in proportion."""
    t, random = np.arange(rows), np.random.default_rng(seed)
    values = np.exp(4 + t / 100 + 0.2 * np.sin(2 * np.pi * t / 12) + 0.03 * random.standard_normal(rows))
    return pd.Series(values, pd.date_range("2013-01-01", periods=rows, freq="MS"), name="sales")


@pytest.fixture(scope="module")
def fitted() -> AutoForecaster:
    forecaster: AutoForecaster = AutoForecaster().fit(months()[:120], fh=range(1, 13))
    return forecaster


def test_forecasts_beat_the_baselines_and_have_the_next_times(fitted: AutoForecaster) -> None:
    y = months()
    predicted, held_out = fitted.predict(), y[120:]
    pd.testing.assert_index_equal(predicted.index, held_out.index)
    assert predicted.name == "sales"

    def error(forecast: Any) -> float:
        return float(np.sqrt(np.mean((np.asarray(forecast) - held_out.to_numpy()) ** 2)))

    assert error(predicted) < 0.6 * error(y[108:120])
    assert error(predicted) < 0.5 * error(np.repeat(y.to_numpy()[119], 12))


def test_it_says_what_it_understood_and_chose(fitted: AutoForecaster) -> None:
    assert fitted.understood_ == (
        "120 monthly rows, 2013-01 to 2022-12; season 12; no gaps; a trend; grows with its level: logs"
    )
    assert "below that of the seasonal naive (12)" in fitted.chosen_
    table = fitted.leaderboard_
    assert list(table.columns) == ["RMSE", "MAE", "MASE", "sMAPE", "weight"]
    assert {"chosen", "last value", "drift", "seasonal naive (12)", "AR"} <= set(table.index)
    assert np.isclose(table["weight"].drop("chosen").sum(), 1)
    assert table["RMSE"].iloc[0] < min(1.2 * table["RMSE"].min(), 0.6 * table["RMSE"]["seasonal naive (12)"])


def test_intervals_nest_and_grow(fitted: AutoForecaster) -> None:
    table = fitted.predict_interval(coverage=[0.8, 0.95])
    inner, outer = table["sales", 0.8], table["sales", 0.95]
    center = fitted.predict()
    assert (outer["lower"] < inner["lower"]).all()
    assert (inner["lower"] < center).all()
    assert (center < inner["upper"]).all()
    assert (inner["upper"] < outer["upper"]).all()
    quantiles = fitted.predict_quantiles(alpha=[0.1, 0.5, 0.9])
    np.testing.assert_allclose(quantiles["sales", 0.1], inner["lower"])
    np.testing.assert_allclose(quantiles["sales", 0.5], center)


def test_a_file_brings_it_back(fitted: AutoForecaster, tmp_path: Path) -> None:
    fitted.save(tmp_path / "model")
    loaded = AutoForecaster.load(tmp_path / "model")
    pd.testing.assert_series_equal(loaded.predict(), fitted.predict(), rtol=1e-12)
    pd.testing.assert_frame_equal(loaded.predict_interval(), fitted.predict_interval(), rtol=1e-12)
    pd.testing.assert_frame_equal(loaded.leaderboard_, fitted.leaderboard_)
    assert (loaded.understood_, loaded.chosen_) == (fitted.understood_, fitted.chosen_)
    later = loaded.update(months()[120:126], update_params=False).predict()
    assert later.index[0] == pd.Timestamp("2023-07-01")
    with pytest.raises(InputError, match="exists"):
        fitted.save(tmp_path / "model")
    saved = fitted.saved()
    saved.arrays["series.0.weights"] = saved.arrays["series.0.weights"][:-1]
    write_model(tmp_path / "broken", saved, overwrite=False)
    with pytest.raises(InputError, match=r"series\.0\.weights"):
        AutoForecaster.load(tmp_path / "broken")


def test_an_update_with_new_rows_goes_on_from_them() -> None:
    y = months()
    forecaster = AutoForecaster().fit(y[:100], fh=[1, 2])
    kept = forecaster.update(y[98:120], update_params=False).predict()
    learnt = forecaster.update(y[120:], update_params=True).predict()
    assert kept.index[0] == y.index[120]
    assert np.abs(kept.to_numpy() / y.to_numpy()[120:122] - 1).max() < 0.15
    assert learnt.index[0] == y.index[-1] + pd.DateOffset(months=1)


def test_a_backtest_is_the_forecasts_after_every_row(fitted: AutoForecaster, tmp_path: Path) -> None:
    y = months(rows=140)
    fitted.save(tmp_path / "model")
    moving = AutoForecaster.load(tmp_path / "model")
    found, lower = fitted.backtest(y, start=120, stride=3), fitted.backtest(y, start=120, alpha=0.05)
    assert found.shape == (3, 12, 1)
    np.testing.assert_allclose(lower[0, :, 0], fitted.predict_interval(coverage=0.9).to_numpy()[:, 0], rtol=1e-9)
    for window, end in enumerate((120, 123, 126)):
        moving.update(y[end - 3 : end], update_params=False)
        np.testing.assert_allclose(found[window, :, 0], moving.predict(), rtol=1e-9)
    with pytest.raises(InputError, match="start is 140: it must be from"):
        fitted.backtest(y, start=140)


def test_a_random_walk_is_repeated_or_nearly() -> None:
    y = 100 + np.random.default_rng(3).standard_normal(200).cumsum()
    forecaster = AutoForecaster().fit(y, fh=[1, 2, 3])
    assert isinstance(forecaster.predict(), np.ndarray)
    np.testing.assert_allclose(forecaster.predict(), y[-1], atol=1.0)


def test_what_repeats_exactly_is_repeated() -> None:
    y = np.tile([1.0, 5.0, 2.0, 8.0], 10)
    forecaster = AutoForecaster(season=4).fit(y, fh=range(1, 5))
    np.testing.assert_allclose(forecaster.predict(), [1, 5, 2, 8])
    assert forecaster.chosen_ == "seasonal naive (4); nothing beats it"
    np.testing.assert_array_equal(AutoForecaster().fit(np.full(30, 7.0), fh=[1, 2]).predict(), [7, 7])


def test_several_series_and_a_panel_are_each_their_own() -> None:
    y = pd.DataFrame({"a": np.resize([1.0, 3.0], 60), "b": months(rows=60, seed=2)})
    forecaster = AutoForecaster().fit(y[:48], fh=[1, 6])
    alone = AutoForecaster().fit(y["b"][:48], fh=[1, 6])
    own = forecaster.leaderboard_.loc["b"].loc[alone.leaderboard_.index[1:]]
    pd.testing.assert_frame_equal(own.drop(columns="weight"), alone.leaderboard_.iloc[1:].drop(columns="weight"))
    assert len(forecaster.understood_.splitlines()) == 2
    panel = AutoForecaster().fit([y["b"].to_numpy()[:48]], fh=[1, 6]).predict()
    np.testing.assert_allclose(np.ravel(panel[0]), alone.predict())


def test_inputs_known_ahead_are_used(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    X = pd.DataFrame({"price": random.standard_normal(160)})
    y = pd.Series(5 + 2 * X["price"].to_numpy() + 0.1 * random.standard_normal(160), name="y")
    forecaster = AutoForecaster().fit(y[:150], X[:150], fh=[1, 2, 3])
    np.testing.assert_allclose(forecaster.predict(X=X[150:153]), y[150:153], atol=0.6)
    forecaster.save(tmp_path / "model")
    loaded = AutoForecaster.load(tmp_path / "model").predict(X=X[150:153])
    np.testing.assert_allclose(loaded, forecaster.predict(X=X[150:153]))
    blind = forecaster.predict()
    pd.testing.assert_series_equal(AutoForecaster.load(tmp_path / "model").predict(), blind)
    assert np.abs(blind - y[:150].mean()).max() < 1.5
    assert (forecaster.predict_interval()["y", 0.9, "upper"] - blind).min() > 1
    with pytest.raises(InputError, match="X is None, but the forecaster was fitted with the inputs"):
        forecaster.update(y[150:])


def test_messages() -> None:
    with pytest.raises(InputError, match="fh is None"):
        AutoForecaster().fit(np.arange(50.0))
    with pytest.raises(InputError, match="y has 1 row: a forecast needs at least 2"):
        AutoForecaster().fit(np.arange(1.0), fh=range(1, 13))
    with pytest.raises(InputError, match="season is 'monthly', expected 'auto'"):
        AutoForecaster(season="monthly").fit(np.arange(50.0), fh=[1])
    with pytest.raises(InputError, match=r"fh is \[4\]"):
        AutoForecaster().fit(np.arange(50.0), fh=[1]).predict(fh=[4])
    with pytest.raises(NotFittedError):
        AutoForecaster().predict()


RECIPES = [
    Contender("naive", "naive", 12, 1),
    Contender("AR", "autoregression", recursive=True),
    Contender("direct", "windows", "last", 13),
    Contender("seasonal", "windows", 12, 13, logs=True),
    Contender("recursive", "windows", None, 13, recursive=True),
    Contender("innovations", "innovations", 12, 0, recursive=True, logs=True),
]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_forecasts_see_no_row_after_their_origin(recipe: Contender) -> None:
    y, steps = months().to_numpy(), np.array([1, 2, 5])
    x = np.zeros((len(y) + 5, 0))
    fitted = recipe.fit(y[:100], x[:100], steps)
    whole = fitted.forecast(y, x, 105, 110, steps)
    for origin in (105, 109):
        np.testing.assert_allclose(
            fitted.forecast(y[: origin + 1], x, origin, origin + 1, steps)[0], whole[origin - 105], rtol=1e-9
        )
    held = type(fitted)(recipe, recipe.rule_of(fitted.arrays()))
    np.testing.assert_allclose(held.forecast(y, x, 105, 110, steps), whole, rtol=1e-12)
    assert (np.diff(fitted.deviation(y[:100], steps, logs=False)) >= -1e-12).all() or recipe.name in (
        "direct",
        "seasonal",
    )


def test_the_rolling_origin_is_fitted_to_rows_before_it() -> None:
    y, steps = months().to_numpy(), np.array([1, 2, 3])
    tried = [Contender("last value", "naive", 1, 0), Contender("drift", "naive", 1, 1)]
    found = understand(y, pd.RangeIndex(len(y)), None, [])
    judgement = judge(Series(y, np.zeros((len(y), 0)), np.ones(len(y), bool), found), steps, tried)
    drift = next(each for each in judgement.judged if each.name == "drift")
    first = judgement.first
    expected = Naive.fit(y[:first], 1, True).forecast(y, first - 1, first, steps)
    np.testing.assert_allclose(drift.forecasts[:1], expected)
    np.testing.assert_array_equal(judgement.observed[0], y[first : first + 3])
    np.testing.assert_array_equal(judgement.observed[-1], y[-3:])


def test_fits_are_renewed_where_there_are_few_seasons() -> None:
    y, steps = months().to_numpy(), np.array([1, 2])
    recipe = Contender("AR about the mean season (12)", "pattern", 12, 3, True)
    found = understand(y[:72], pd.RangeIndex(72), None, [12])
    few = Series(y[:72], np.zeros((72, 0)), np.ones(72, bool), found)
    (judged,) = judge(few, steps, [recipe]).judged
    start, stop = 72 - len(judged.forecasts) - 2, 70
    first = recipe.fit(y[: start + 1], few.x, steps)
    np.testing.assert_allclose(judged.forecasts[0], first.forecast(y[:72], few.x, start, start + 1, steps)[0])
    last = start + 2 * (stop - start) // 3
    again = recipe.fit(y[: last + 1], few.x, steps)
    np.testing.assert_allclose(judged.forecasts[-1], again.forecast(y[:72], few.x, 69, 70, steps)[0])
    many = Series(y, np.zeros((132, 0)), np.ones(132, bool), understand(y, pd.RangeIndex(132), None, [6]))
    recipe = replace(recipe, difference=6)
    (judged,) = judge(many, steps, [recipe]).judged
    once = recipe.fit(y[: 130 - len(judged.forecasts) + 1], many.x, steps)
    np.testing.assert_allclose(judged.forecasts[-1], once.forecast(y, many.x, 129, 130, steps)[0])


@pytest.mark.parametrize(("place", "value"), [(-1, 1e6), (-1, 1e3), (60, 1e6)])
def test_a_wild_value_leaves_forecasts_and_intervals_in_a_sane_range(place: int, value: float) -> None:
    y = 10 + np.random.default_rng(0).standard_normal(120)
    y[place] = value
    forecaster = AutoForecaster().fit(y, fh=range(1, 11))
    forecasts = np.asarray(forecaster.predict())
    ends = np.asarray(forecaster.predict_interval(coverage=[0.95]))
    assert (forecasts >= 0).all()
    assert (forecasts <= 2 * value).all()
    assert np.isfinite(ends).all()
    assert (ends <= 11 * value).all()
    if place > 0:  # what is long past does not make what comes wild
        assert (forecasts < 20).all()
        assert (ends > 0).all()
        assert (ends < 200).all()


def judgement_of(observed: Array, said: dict[Contender, Array]) -> Judgement:
    """A judgement of contenders by what they said."""
    judged = [
        Judged(Fitted(contender, None), forecasts, float(np.sqrt(((observed - forecasts) ** 2).mean(axis=1)).mean()))
        for contender, forecasts in said.items()
    ]
    judged.sort(key=lambda each: each.error)
    return Judgement(judged, observed, np.arange(1, observed.shape[1] + 1), 100, 10.0)


def test_of_several_seasons_what_repeats_the_longest_has_a_part() -> None:
    random = np.random.default_rng(0)
    observed = 5 * random.standard_normal((60, 4))

    def off(size: float) -> Array:
        return observed + size * random.standard_normal(observed.shape)

    day, week = Contender("day", "naive", 24), Contender("week", "naive", 168)
    families = {"pattern": 168, "profile": 24, "innovations": 24, "recurrent": 24}
    models = {Contender(name, name, season): off(1.0) for name, season in families.items()}
    models |= {Contender(f"{lags} lags", "windows", 24, lags): off(1.0) for lags in range(2, 6)}
    for said, least, most in (
        ({day: off(1.8), week: off(1.6)}, 0.2, 0.2),
        ({week: off(1.6)}, 0.001, 0.1),  # one season: as any other contender
        ({day: off(8), week: off(9)}, 0, 0),
        ({day: off(0.5), week: off(0.1)}, 0.9, 1),
    ):
        choice = choose(judgement_of(observed, models | said))
        weights = {each.name: weight for each, weight in zip(choice.chosen, choice.weights, strict=True)}
        assert np.isclose(sum(weights.values()), 1)
        assert least - 1e-9 <= weights.get("week", 0) <= most + 1e-9


def test_the_median_has_a_part_where_it_errs_less() -> None:
    random = np.random.default_rng(1)
    observed = 5 * random.standard_normal((60, 4))
    families = ["windows", "pattern", "profile", "innovations", "recurrent"]
    said = {Contender(family, family, 12): observed + random.standard_normal(observed.shape) for family in families}
    assert choose(judgement_of(observed, said)).median == 0
    for place, forecasts in enumerate(said.values()):  # each is wild in a part of its own
        forecasts[12 * place : 12 * place + 12] += 9
    choice = choose(judgement_of(observed, said))
    assert choice.median == 0.5
    each = np.stack([one.forecasts for one in choice.chosen])
    mean = np.einsum("m,mnk->nk", choice.weights, each)
    np.testing.assert_allclose(choice.forecasts, (mean + np.median(each, axis=0)) / 2)


def test_what_is_asked_for_is_what_competes() -> None:
    y, told = months()[:60], []
    forecaster = AutoForecaster(12, "log", 12, told.append).fit(y, fh=[1, 6])
    names = set(forecaster.leaderboard_.index) - {"chosen"}
    assert forecaster.understood_.endswith("logs, as asked")
    models = {name for name in names if "naive" not in name and name not in ("last value", "drift", "AR")}
    assert models
    assert all("less the value 12 before" in name and name.endswith("logs") for name in models)
    assert told == sorted(told)
    assert 0 <= told[0] < told[-1] < 1
    plain = AutoForecaster(transform=None, difference="last").fit(y, fh=[1, 6])
    assert not any("logs" in name or "less the value" in name for name in plain.leaderboard_.index)
    assert any(
        "less the value 7 before" in name for name in AutoForecaster(difference=7).fit(y, fh=[1]).leaderboard_.index
    )
    with pytest.raises(InputError, match="difference is 0, expected"):
        AutoForecaster(difference=0).fit(y, fh=[1])
    with pytest.raises(InputError, match="transform is 'log', but 'sales' is -1 at its lowest"):
        AutoForecaster(transform="log").fit(y.where(y > y.min(), -1.0), fh=[1])


def test_errors_by_step_make_up_those_of_all(fitted: AutoForecaster, tmp_path: Path) -> None:
    by_step = fitted.leaderboard_by_step_
    assert list(by_step.columns) == list(range(1, 13))
    np.testing.assert_allclose(np.sqrt((by_step**2).mean(axis=1)), fitted.leaderboard_["RMSE"])
    fitted.save(tmp_path / "model")
    pd.testing.assert_frame_equal(AutoForecaster.load(tmp_path / "model").leaderboard_by_step_, by_step)


def panel(rows: int = 29, seed: int = 0) -> pd.DataFrame:
    """Short series that move alike: each follows its last change, at a level and size of its own."""
    random, found = np.random.default_rng(seed), {}
    for number in range(6):
        changes = random.standard_normal(rows)
        for t in range(1, rows):
            changes[t] += 0.8 * changes[t - 1]
        found[f"s{number}"] = pd.DataFrame({"y": 100 * (number + 1) + 10.0**number * changes.cumsum()})
    return pd.concat(found, names=["series", "t"])


def test_many_series_have_contenders_in_common(tmp_path: Path) -> None:
    y = panel()
    forecaster = AutoForecaster().fit(y, fh=[1, 2, 3])
    shared = [name for name in forecaster.leaderboard_.index if name[-1].startswith("all series: ")]
    assert {name[0] for name in shared} == {f"s{number}" for number in range(6)}
    assert forecaster.leaderboard_["weight"][shared].max() > 0
    assert forecaster.predict().shape == (18, 1)
    forecaster.save(tmp_path / "model")
    loaded = AutoForecaster.load(tmp_path / "model")
    pd.testing.assert_frame_equal(loaded.predict(), forecaster.predict(), rtol=1e-12)
    alone = AutoForecaster().fit(y.loc[["s0"]], fh=[1, 2, 3])
    assert not any(str(name).startswith("all series") for name in alone.leaderboard_.index)


def test_series_too_short_or_not_positive_stay_out_of_what_is_shared() -> None:
    y = panel()
    y.loc["s1"] = -y.loc["s1"].to_numpy()
    y = y.drop(index=[("s2", t) for t in range(24)])
    forecaster = AutoForecaster().fit(y, fh=[1, 2, 3])
    names = forecaster.leaderboard_.index
    assert not any(name[-1].startswith("all series") for name in names if name[0] == "s2")
    assert not any("logs" in name[-1] for name in names if name[0] == "s1")
    assert np.isfinite(forecaster.predict().to_numpy()).all()


@pytest.mark.parametrize("horizons", [[1, 1, 2], [2, 3, 4], [0, 1, 2], [3, 2, 1]])
def test_a_fit_of_other_steps_than_those_asked_for_is_refused(horizons: list[int]) -> None:
    t = np.arange(60.0)
    saved = AutoForecaster().fit(np.sin(t / 3) + 0.01 * np.random.default_rng(0).normal(size=60), fh=[1, 2, 3]).saved()
    names = [name for name, array in saved.arrays.items() if name.endswith(".horizons") and len(array) == 3]
    assert names
    AutoForecaster.from_saved(saved)
    changed = {**saved.arrays, names[0]: np.array(horizons)}
    with pytest.raises(InputError, match=r"horizons are .*, expected those of fh"):
        AutoForecaster.from_saved(replace(saved, arrays=changed))
