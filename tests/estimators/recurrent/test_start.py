"""Where training starts from: an autoregression as a network, in balanced coordinates."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from retrograd.estimators import Recurrent
from retrograd.estimators.recurrent import start
from retrograd.estimators.recurrent.network import Network
from retrograd.estimators.recurrent.start import epochs_that_hold, linear_start

Array = np.ndarray[Any, Any]


def driven(steps: int = 200) -> tuple[Array, Array]:
    """An oscillator with an input that acts at once and one step later."""
    random = np.random.default_rng(0)
    u, y = random.standard_normal((steps, 1)), np.zeros((steps, 1))
    for t in range(2, steps):
        y[t] = 1.2 * y[t - 1] - 0.8 * y[t - 2] + u[t] + 0.5 * u[t - 1]
    return 3 + y + 0.01 * random.standard_normal(y.shape), u


def started(y: Array, u: Array, hidden: int) -> Network:
    network = Network.untrained(y, u, hidden=hidden, target_names=["y"], input_names=["u"][: u.shape[1]])
    return replace(network, weights=linear_start(network.weights, *network.series(y, u)))


def test_it_predicts_as_the_autoregression_does() -> None:
    y, _ = driven()
    network = started(y, y[:, :0], hidden=20)
    x, target = (part.numpy() for part in network.series(y, y[:, :0]))
    said = network.target_scaling.apply(network.one_step(y, y[:, :0]))[1:]
    # What a network of p states at a fixed point of its recurrence can say, any regression on p values can.
    lags = np.stack([np.concatenate([np.zeros(k), x[: len(x) - k, 0]]) for k in range(20)] + [np.ones(len(x))], axis=1)
    explained = lags @ np.linalg.lstsq(lags, said[:, 0], rcond=None)[0]
    np.testing.assert_allclose(explained, said[:, 0], atol=1e-6)
    assert ((said - target)[20:] ** 2).mean() < 0.8 * (np.diff(target[19:, 0]) ** 2).mean()


def test_inputs_and_fewer_states_than_lags() -> None:
    y, u = driven()
    for hidden, most in ((6, 0.05), (2, 0.6)):
        error = started(y, u, hidden).one_step(y, u)[20:] - y[20:]
        assert np.sqrt((error**2).mean()) < most


def test_a_season_is_in_the_states() -> None:
    random, t = np.random.default_rng(0), np.arange(144)
    y = (np.resize(random.standard_normal(12), 144) + t / 50 + 0.05 * random.standard_normal(144))[:, None]
    network = started(y[:120], y[:120, :0], hidden=14)
    coming = network.free_run(y, y[:, :0], 120)[120:, 0]
    assert np.sqrt(((coming - y[120:, 0]) ** 2).mean()) < 0.3


def test_missing_values_teach_nothing() -> None:
    y, u = driven()
    holed = y.copy()
    holed[50:60] = np.nan
    error = started(holed, u, 6).one_step(y, u)[20:] - y[20:]
    assert np.sqrt((error**2).mean()) < 0.1


@pytest.mark.parametrize("numbers", [100, 2000])
def test_rows_taken_in_blocks_give_the_same_start(numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    y, u = driven()
    y[50:60] = np.nan
    want = started(y, u, 6).weights
    monkeypatch.setattr(start, "_NUMBERS", numbers)
    for name, weight in started(y, u, 6).weights.items():
        torch.testing.assert_close(weight, want[name], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("horizon", [None, 6])
def test_training_stops_where_the_last_fifth_gets_no_better(horizon: int | None) -> None:
    noise = np.random.default_rng(0).standard_normal((80, 1))
    network = Network.untrained(noise, noise[:, :0], hidden=6, target_names=["y"])
    epochs = epochs_that_hold(network.weights, *network.series(noise, noise[:, :0]), 60, "adam", 0.01, None, horizon)
    assert epochs < 10


@pytest.mark.parametrize("closed_loop", [None, 5])
def test_the_result_is_no_worse_than_its_start(closed_loop: int | None) -> None:
    y, u = driven(100)
    model = Recurrent(4, closed_loop=closed_loop).fit(y, u)
    start = Recurrent(4, closed_loop=closed_loop, epochs=1).fit(y, u)
    assert model.best_loss_ <= start.history_[0].loss * (1 + 1e-9)
    assert all(bool(torch.isfinite(weight).all()) for weight in model.network_.weights.values())
