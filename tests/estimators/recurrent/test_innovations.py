"""Intervals of a recurrent model: by the impulse response of its closed loop, and how often they hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from retrograd.errors import InputError
from retrograd.estimators import Recurrent
from retrograd.estimators.backtesting import Origins
from retrograd.estimators.model_files import read_model, write_model
from retrograd.estimators.recurrent.innovations import forecast_variance, innovation_covariance
from retrograd.estimators.recurrent.network import Network
from retrograd.estimators.rolling import roll

AR = np.array([1.2, -0.5])


def ar2(steps: int, seed: int, deviation: float = 2.0) -> Any:
    """Values of y_t = 10 + 1.2 y_{t-1} − 0.5 y_{t-2} + e_t about their level, and the e_t."""
    e = deviation * np.random.default_rng(seed).standard_normal(steps + 100)
    y = np.zeros(steps + 100)
    for t in range(2, steps + 100):
        y[t] = AR @ y[[t - 1, t - 2]] + e[t]
    return 10 / (1 - AR.sum()) + y[100:], e[100:]


def network(y: np.ndarray[Any, Any]) -> Network:
    """The AR(2) as a network: the state is the last two values, scaled."""
    made = Network.untrained(y[:, None], np.empty((len(y), 0)), hidden=2, target_names=["y"])
    mean, scale = made.target_scaling.mean[0], made.target_scaling.scale[0]
    constant = (10 - mean * (1 - AR.sum())) / scale
    weights = {
        "weight_hh": [[0.0, 0.0], [1.0, 0.0]], "weight_ih": [[1.0], [0.0]], "bias": [0.0, 0.0], "h0": [0.0, 0.0],
        "weight_out": [AR.tolist()], "bias_out": [constant],
    }  # fmt: skip
    return replace(made, weights={name: torch.tensor(w, dtype=torch.float64) for name, w in weights.items()})


def test_an_autoregression_has_the_variance_of_its_moving_average() -> None:
    y, e = ar2(400, 0)
    made = network(y)
    S = innovation_covariance(made, y[:, None], np.empty((400, 0)))
    known = e[3:]
    np.testing.assert_allclose(S, [[known @ known / (len(known) - 3)]], rtol=1e-10)
    psi = np.zeros(8)
    psi[:2] = 1, AR[0]
    for j in range(2, 8):
        psi[j] = AR @ psi[[j - 1, j - 2]]
    np.testing.assert_allclose(forecast_variance(made, S, 8)[:, 0], S[0, 0] * (psi**2).cumsum(), rtol=1e-12)


def test_two_targets_vary_as_simulated_futures_do() -> None:
    random = np.random.default_rng(3)
    y = random.standard_normal((50, 2)) * [1, 20]
    made = Network.untrained(y, np.empty((50, 0)), hidden=3, target_names=["a", "b"], seed=2)
    made = replace(made, weights={**made.weights, "weight_out": 8 * made.weights["weight_out"]})
    S = np.array([[1.0, 3.0], [3.0, 25.0]])
    w, scaling = {name: weight.numpy() for name, weight in made.weights.items()}, made.target_scaling
    shocks = random.multivariate_normal(np.zeros(2), S, size=(200_000, 4))
    h, said, errors = np.zeros((200_000, 3)), np.zeros((200_000, 2)), []
    for k in range(4):
        z = said + shocks[:, k] / scaling.scale  # what is known without shocks is taken out
        errors.append(z * scaling.scale)
        h = h @ w["weight_hh"].T + z @ w["weight_ih"].T
        said = h @ w["weight_out"].T
    np.testing.assert_allclose(forecast_variance(made, S, 4), np.var(errors, axis=1), rtol=0.02)


@pytest.mark.slow
def test_intervals_hold() -> None:
    """Of 60 series, 500 rows fitted and the next 12 known, as many lie inside as the level says, at every step."""
    inside = {0.8: np.zeros(12), 0.95: np.zeros(12)}
    for seed in range(60):
        y, _ = ar2(512, seed)
        model = Recurrent(hidden=2, epochs=1, optimizer="lbfgs", start="linear").fit(y[:500])
        for level in inside:
            coming = model.forecast_interval(12, level=level)
            inside[level] += (coming.lower[:, 0] <= y[500:]) & (y[500:] <= coming.upper[:, 0])
    for level, count in inside.items():
        assert abs(count.mean() / 60 - level) < 0.03


def test_shapes_arguments_and_files(tmp_path: Path) -> None:
    y, _ = ar2(120, 1)
    u = np.random.default_rng(1).standard_normal(120)
    model = Recurrent(hidden=2, epochs=2).fit(np.stack([y, -y + u], axis=1)[:100], u[:100])
    coming = model.forecast_interval(5, u[100:105, None], level=0.5)
    assert coming.mean.shape == coming.lower.shape == coming.upper.shape == (5, 2)
    np.testing.assert_array_equal(coming.mean, model.forecast(5, u[100:105, None]))
    wider = model.forecast_interval(5, u[100:105, None], state=model.state_)
    assert wider.level == 0.95
    assert (wider.upper > coming.upper).all()
    model.save(tmp_path / "new")
    again = Recurrent.load(tmp_path / "new")
    np.testing.assert_array_equal(again.forecast_interval(5, u[100:105, None]).lower, wider.lower)
    with pytest.raises(InputError, match=r"level is 95, expected"):
        model.forecast_interval(5, u[100:105, None], level=95)
    saved = read_model(tmp_path / "new", ("recurrent",))
    saved.arrays.pop("innovation_covariance")
    write_model(tmp_path / "old", saved, overwrite=False)
    old = Recurrent.load(tmp_path / "old")
    np.testing.assert_array_equal(old.forecast(5, u[100:105, None]), coming.mean)
    with pytest.raises(InputError, match="saved by an older version, without its innovations: fit it again"):
        old.forecast_interval(5, u[100:105, None])


def test_rolling_origins_have_the_same_intervals() -> None:
    import pandas as pd

    y = pd.DataFrame({"y": ar2(120, 1)[0]})
    model = Recurrent(hidden=2, epochs=1, optimizer="lbfgs").fit(y[:100])
    origins = Origins.of(100, 120, 4)
    found, intervals = roll(model, y, None, origins, [80, 95])
    coming = model.forecast_interval(4, Y=y[:110], level=0.8)
    np.testing.assert_allclose(found[10], coming.mean)
    np.testing.assert_allclose(intervals[80][1][10], coming.upper)
