"""The model against a plain loop, its border against the whole series, and its files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrograd.errors import InputError
from retrograd.estimators.recurrent.estimator import Recurrent

Array = np.ndarray[Any, Any]

STEPS, START = 40, 30


def example(outputs: int = 2, exogenous: int = 1, seed: int = 0) -> tuple[Recurrent, Array, Array]:
    rng = np.random.default_rng(seed)
    targets = 5 + 3 * rng.normal(size=(STEPS, outputs))
    inputs = rng.normal(size=(STEPS + 6, exogenous)) - 2
    model = Recurrent.untrained(
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


def loop(model: Recurrent, targets: Array, inputs: Array, start: int, end: int) -> Array:
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
    ahead = model.forecast(model.border(targets, inputs), inputs[STEPS:], 6)
    np.testing.assert_allclose(ahead, loop(model, targets, inputs, STEPS, STEPS + 6)[STEPS:], **close)


def test_a_forecast_from_the_border_is_the_free_run_of_the_unseen_steps() -> None:
    model, targets, inputs = example()
    ahead = model.forecast(model.border(targets[:START], inputs), inputs[START:], STEPS - START)
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
        model.forecast(model.border(targets, inputs), inputs[STEPS:], 7)


def test_a_saved_model_is_the_same_model(tmp_path: Path) -> None:
    model, targets, inputs = example()
    border = model.border(targets, inputs)
    model.save(tmp_path, border, inputs[STEPS:], {"horizon": 6})
    again, border_again, future, config = Recurrent.load(tmp_path)
    assert config["horizon"] == 6
    assert (again.target_names, again.input_names) == (model.target_names, model.input_names)
    np.testing.assert_array_equal(again.one_step(targets, inputs), model.one_step(targets, inputs))
    np.testing.assert_array_equal(again.forecast(border_again, future, 6), model.forecast(border, inputs[STEPS:], 6))


def test_folders_that_are_no_runs_are_named(tmp_path: Path) -> None:
    model, targets, inputs = example()
    run = tmp_path / "sunspots"
    run.mkdir()
    with pytest.raises(InputError, match=r"sunspot does not exist: did you mean 'sunspots'"):
        Recurrent.load(tmp_path / "sunspot")
    with pytest.raises(InputError, match=r"is no finished run: config.json is missing"):
        Recurrent.load(run)
    model.save(run, model.border(targets, inputs), inputs[STEPS:], {})
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "format": 99}))
    with pytest.raises(InputError, match=r"has format 99, this version reads up to 1: install a newer"):
        Recurrent.load(run)
    (run / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"is no run that can be read: JSONDecodeError"):
        Recurrent.load(run)
