"""Errors and the simple methods they are set beside."""

from __future__ import annotations

import numpy as np
import pytest

from retrograd.estimators.evaluation import autoregression, compare, errors
from retrograd.estimators.recurrent.network import Network
from retrograd.tables.read import read_table


@pytest.mark.parametrize(("lags", "published"), [(2, 283.3), (9, 189.2)])
def test_autoregressions_of_the_sunspots_have_their_published_errors(lags: int, published: float) -> None:
    y = read_table("sunspots", targets=["sunspots"], time="year").targets[:, 0]
    predicted, used = autoregression(y, train=221, lags=lags)
    assert used == lags
    assert float(((predicted - y)[221:256] ** 2).mean()) == pytest.approx(published, abs=0.05)


def test_the_criterion_finds_the_order_of_a_simulated_process() -> None:
    rng = np.random.default_rng(0)
    y = np.zeros(3000)
    for t in range(2, 3000):
        y[t] = 1.5 * y[t - 1] - 0.8 * y[t - 2] + rng.normal()
    predicted, lags = autoregression(y, train=2500)
    assert lags in (2, 3)
    assert np.isnan(predicted[:lags]).all()
    assert np.var((predicted - y)[2500:]) == pytest.approx(1, rel=0.1)


def test_a_series_without_noise_is_predicted_exactly() -> None:
    y = np.sin(np.arange(60.0))
    predicted, _ = autoregression(y, train=40)
    np.testing.assert_allclose(predicted[40:], y[40:], atol=1e-9)


def test_every_target_has_its_rows_in_its_own_units() -> None:
    rng = np.random.default_rng(0)
    targets = rng.normal(size=(50, 2)) * [1, 1000]
    none = np.empty((50, 0))
    network = Network.untrained(targets[:40], none[:40], hidden=3, target_names=["small", "large"])
    one_step, free_run = network.one_step(targets, none), network.free_run(targets, none, 40)
    rows = compare(network.target_names, targets, one_step, free_run, 40)
    assert [row for row in rows if not row.startswith(" ")] == [
        f"{kind}: {name}"
        for name in ("small", "large")
        for kind in ("one step, training", "one step, held out", "free run, held out")
    ]
    error = one_step[40:, 1] - targets[40:, 1]
    assert rows["one step, held out: large"]["MSE"] == pytest.approx(float(np.mean(error**2)))
    assert rows["one step, held out: large"]["RMSE"] > 100 * rows["one step, held out: small"]["RMSE"]
    assert rows["  last value, one step: small"]["MAE"] == pytest.approx(float(np.abs(np.diff(targets[39:, 0])).mean()))


def test_nothing_held_out_leaves_the_training_alone() -> None:
    targets = np.sin(np.arange(30.0))[:, None]
    rows = compare(["y"], targets, targets + 1, np.full_like(targets, np.nan), 30)
    assert list(rows) == ["one step, training"]


def test_missing_targets_are_left_out_of_errors() -> None:
    y = np.array([[1.0], [np.nan], [3.0], [np.nan], [5.0]])
    rows = compare(["y"], y, y + 1, y + 2, 3)
    assert rows["one step, training"]["MSE"] == 1
    assert rows["free run, held out"]["MSE"] == 4
    assert not any("AR(" in row for row in rows)
    assert np.isnan(errors(y[1:2, 0], y[1:2, 0])["RMSE"])
