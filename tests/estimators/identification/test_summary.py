from __future__ import annotations

import numpy as np
import pytest

from estimators.systems import random_system, simulated
from retrograd.estimators import StateSpace
from retrograd.estimators.identification.experiments import read_experiments


@pytest.fixture(scope="module")
def data():
    u, y, _ = simulated(random_system(0, inputs=2), 800, 0.2, seed=1)
    return u, y


def test_information_criteria_are_of_the_likelihood(data) -> None:
    u, y = data
    model = StateSpace(order=3, noise="innovations").fit(u, y)
    found = model.summary()
    # B, C, D, K, offset, x0 and A less the basis, and the covariance of two outputs.
    free = 6 + 6 + 4 + 6 + 2 + 3 + 9 - 9
    assert found.parameters == free
    assert found.aic == pytest.approx(-2 * model.log_likelihood() + 2 * (free + 3))
    assert found.bic == pytest.approx(-2 * model.log_likelihood() + np.log(800) * (free + 3))
    residuals = y - model.predict(u, y, x0=model.x0_[0])
    assert np.allclose(found.rmse, np.sqrt((residuals**2).mean(axis=0)))


@pytest.mark.filterwarnings("ignore::retrograd.estimators.identification.cautions.IdentificationWarning")
def test_whiteness_tells_a_right_order_from_a_low_one(data) -> None:
    u, y = data
    right = StateSpace(order=3, noise="innovations").fit(u, y).summary()
    low = StateSpace(order=1, noise="innovations").fit(u, y).summary()
    assert all(test.ljung_box > 0.01 and test.inputs > 0.01 for test in right.whiteness.values())
    assert min(min(test.ljung_box, test.inputs) for test in low.whiteness.values()) < 1e-6


def test_the_text_holds_the_numbers(data) -> None:
    u, y = data
    model = StateSpace(order=3, noise="innovations", sample_time=2.0).fit(u, y)
    text = str(model.summary())
    assert "innovations, order 3, 2 inputs, 2 outputs, 1 experiment(s), 800 steps" in text
    assert f"{model.summary().rmse[0]:.4g}" in text
    assert f"{abs(model.poles_[0]):.4f}" in text
    for name in ("A", "B", "K", "C", "D", "offset", "x0"):
        assert f"\n{name} " in text


def test_missing_outputs_autonomous_models_and_few_steps_have_a_summary() -> None:
    t = np.arange(60.0)
    y = 0.95**t * np.cos(0.4 * t) + 0.02 * np.random.default_rng(0).standard_normal(60)
    y[20] = np.nan
    found = StateSpace(order=2).fit(None, y).summary()
    assert np.isnan(found.whiteness["y1"].inputs)
    assert 0 <= found.whiteness["y1"].ljung_box <= 1
    assert np.isfinite(found.standard_errors["A"]).all()


def test_a_loaded_model_asks_for_data(tmp_path, data) -> None:
    u, y = data
    StateSpace(order=1).fit(u, y).save(tmp_path / "m")
    with pytest.raises(ValueError, match="does not hold the data of its fit: give U and Y"):
        StateSpace.load(tmp_path / "m").summary()


def test_several_experiments(data) -> None:
    u, y = data
    model = StateSpace(order=3).fit([u[:300], u[300:]], [y[:300], y[300:]])
    assert model.summary().parameters == 6 + 6 + 4 + 2 + 6
    assert len(read_experiments(u, y).lengths) == 1
