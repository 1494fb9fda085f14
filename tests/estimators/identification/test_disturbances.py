"""Residuals that last, as a process of each output beside the plant."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from estimators.systems import random_system, simulated
from retrograd.estimators import StateSpace
from retrograd.estimators.identification.disturbances import with_disturbances
from retrograd.estimators.identification.experiments import read_experiments
from retrograd.estimators.identification.system import predict


def test_a_disturbance_of_one_output_is_found_beside_the_plant() -> None:
    plant = replace(random_system(0, order=2, inputs=1, outputs=2), K=np.zeros((2, 2)), x0=np.zeros((2, 2)))
    runs, innovations = [], []
    for seed in range(2):
        u, y, _ = simulated(plant, 1500, 0.0, seed=seed)
        w, v = np.random.default_rng(100 + seed).standard_normal((1500, 2)), 0.0
        for t in range(1500):
            y[t] += w[t]
            y[t, 1] += v
            v = 0.95 * v + 0.4 * w[t, 1]
        runs.append((u, y))
        innovations.append(w)
    data = read_experiments([u for u, _ in runs], [y for _, y in runs])
    found, which = with_disturbances(plant, data)
    assert which == [1]
    assert found.order == 3
    # Half of 3,000 steps each: standard errors of ρ and K are 0.01 and 0.02.
    assert found.A[2, 2] == pytest.approx(0.95, abs=0.03)
    assert found.K.tolist() == [[0, 0], [0, 0], [0, pytest.approx(0.4, abs=0.06)]]
    left = data.outputs - predict(found, data)[1]
    assert np.corrcoef(left[:, 1], np.concatenate(innovations)[:, 1])[0, 1] > 0.995
    # From rest, the free run is that of the plant.
    assert np.array_equal(found.A[:2, :2], plant.A)
    assert np.allclose(predict(found.free_running(), data)[1], predict(plant, data)[1], rtol=0, atol=1e-12)


def test_white_residuals_have_none() -> None:
    plant = replace(random_system(0, order=2, inputs=1, outputs=1), K=np.zeros((2, 1)))
    u, y, _ = simulated(plant, 500, 0.5, seed=0)
    assert with_disturbances(plant, read_experiments(u, y)) == (plant, [])


def test_by_default_output_error_goes_on_from_what_disturbs_it() -> None:
    plant = replace(random_system(0, order=2, inputs=1, outputs=1), K=np.zeros((2, 1)))
    u, y, _ = simulated(plant, 400, 0.0, seed=0)
    w, v = np.random.default_rng(100).standard_normal(400), np.zeros(400)
    for t in range(399):
        v[t + 1] = 0.9 * v[t] + w[t]
    y += 0.3 * y.std() * (v / v.std())[:, None]
    model, plain = (StateSpace(order=2, noise=noise).fit(u[:300], y[:300]) for noise in ("auto", "output-error"))
    assert (model.noise_, model.order_, plain.noise_, plain.order_) == ("innovations", 3, "output-error", 2)
    assert model.reasons_[-1].startswith("The residuals of y1 last: a state more for each follows them (innovations of")
    ahead, alone = (m.predict(u, y, x0=m.x0_[0]) for m in (model, plain))
    assert np.std(y[300:] - ahead[300:]) < 0.6 * np.std(y[300:] - alone[300:])
    assert np.allclose(model.simulate(u), plain.simulate(u), rtol=0, atol=1e-9)
    assert np.mean((model.forecast(4, u[300:304]).upper - y[300:304]) > 0) == 1
