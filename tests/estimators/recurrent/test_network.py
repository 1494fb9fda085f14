"""The network against a plain loop, and its state at the end of a series against the whole series."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from retrograd.errors import InputError
from retrograd.estimators.recurrent.network import Network

Array = np.ndarray[Any, Any]

STEPS, START = 40, 30


def example(outputs: int = 2, exogenous: int = 1, seed: int = 0) -> tuple[Network, Array, Array]:
    rng = np.random.default_rng(seed)
    targets = 5 + 3 * rng.normal(size=(STEPS, outputs))
    inputs = rng.normal(size=(STEPS + 6, exogenous)) - 2
    model = Network.untrained(
        targets[:START],
        inputs[:START],
        hidden=4,
        target_names=[f"y{i}" for i in range(outputs)],
        input_names=[f"z{i}" for i in range(exogenous)],
        seed=seed,
    )
    for name, weight in model.weights.items():
        if weight.ndim == 1:  # biases and h0 start at zero: give them something to do
            weight += 0.1 if name != "h0" else 0.3
    return model, targets, inputs


def loop(model: Network, targets: Array, inputs: Array, start: int, end: int) -> Array:
    """Predict steps 1..end one at a time; from ``start`` on, each prediction is the next step's input."""
    w = {name: weight.numpy() for name, weight in model.weights.items()}
    y = (targets - model.target_scaling.mean) / model.target_scaling.scale
    z = (inputs - model.input_scaling.mean) / model.input_scaling.scale
    h, prediction, found = w["h0"], y[0], [np.full(y.shape[1], np.nan)]
    for t in range(end - 1):
        x = np.concatenate([y[t] if t < start else prediction, z[t + 1]])
        h = w["weight_hh"] @ h + w["weight_ih"] @ x + w["bias"]
        prediction = w["weight_out"] @ h + w["bias_out"]
        found.append(prediction)
    return np.array(found) * model.target_scaling.scale + model.target_scaling.mean


@pytest.mark.parametrize(("outputs", "exogenous"), [(1, 0), (2, 0), (1, 2), (2, 1)])
def test_every_prediction_equals_the_plain_loop(outputs: int, exogenous: int) -> None:
    model, targets, inputs = example(outputs, exogenous)
    close = {"rtol": 0, "atol": 200 * np.finfo(float).eps * np.abs(targets).max()}
    one_step = loop(model, targets, inputs, STEPS, STEPS)
    np.testing.assert_allclose(model.one_step(targets, inputs), one_step, **close)
    free = model.free_run(targets, inputs, START)
    assert np.isnan(free[:START]).all()
    np.testing.assert_allclose(free[START:], loop(model, targets, inputs, START, STEPS)[START:], **close)
    ahead = model.forecast(model.state_after(targets, inputs), inputs[STEPS:], 6)
    np.testing.assert_allclose(ahead, loop(model, targets, inputs, STEPS, STEPS + 6)[STEPS:], **close)


def test_a_forecast_from_the_state_is_the_free_run_of_the_unseen_steps() -> None:
    model, targets, inputs = example()
    ahead = model.forecast(model.state_after(targets[:START], inputs), inputs[START:], STEPS - START)
    np.testing.assert_allclose(ahead, model.free_run(targets, inputs, START)[START:], rtol=1e-12)


def test_predictions_use_no_later_target() -> None:
    model, targets, inputs = example()
    changed = targets.copy()
    changed[START:] += 100.0
    np.testing.assert_array_equal(
        model.one_step(changed, inputs)[: START + 1], model.one_step(targets, inputs)[: START + 1]
    )
    np.testing.assert_array_equal(model.free_run(changed, inputs, START), model.free_run(targets, inputs, START))


def test_too_few_inputs_for_a_horizon_are_named() -> None:
    model, targets, inputs = example()
    with pytest.raises(InputError, match=r"horizon is 7, but the inputs z0 are known for 6 steps after"):
        model.forecast(model.state_after(targets, inputs), inputs[STEPS:], 7)
    with pytest.raises(InputError, match=r"state has shape \(3,\), expected \(hidden \+ outputs,\) = \(6,\)"):
        model.forecast(np.zeros(3), inputs[STEPS:], 6)
