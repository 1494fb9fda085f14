"""The estimator: what it trains, how training goes on and ends, what it says of new data, its files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from retrograd.errors import InputError
from retrograd.estimators import DivergenceError, Recurrent, Trainer
from retrograd.estimators.model_files import read_model, write_model
from retrograd.estimators.recurrent.training import loss_and_gradients
from retrograd.insight import Sweep

T = np.arange(90.0)
Y = np.stack([5 + np.sin(T / 3), np.cos(T / 4)], axis=1)
U = np.sin(T / 2)[:, None]


def fitted(**options: Any) -> Recurrent:
    return Recurrent(**{"hidden": 3, "epochs": 12, **options}).fit(Y[:80], U[:80])


def test_the_weights_kept_are_the_best_of_the_training() -> None:
    model = fitted(lr=0.3)
    seen: list[float] = []
    again = Recurrent(**model.get_params()).fit(Y[:80], U[:80], callbacks=[lambda t: seen.append(t.best_loss)])
    assert [epoch.loss for epoch in again.history_] == [epoch.loss for epoch in model.history_]
    assert model.best_loss_ <= min(seen)
    _, y = model.network_.series(Y[:80], U[:80])
    outputs = model.network_.one_step(Y[:80], U[:80])[1:]
    error = model.network_.target_scaling.apply(outputs) - y.numpy()
    assert float((error**2).mean()) == pytest.approx(model.best_loss_, rel=1e-12)
    assert model.delta_.shape == (79, 3)


def test_data_frames_keep_their_names_and_index() -> None:
    index = pd.date_range("2024-01-01", periods=90, name="day")
    targets = pd.DataFrame(Y, index=index, columns=["level", "flow"])
    inputs = pd.DataFrame(U, index=index, columns=["rain"])
    model = Recurrent(hidden=3, epochs=12).fit(targets[:80], inputs[:80])
    plain = fitted()
    found = model.predict(targets, inputs)
    assert list(found.columns) == ["level", "flow"]
    assert found.index.equals(index)
    np.testing.assert_array_equal(found, plain.predict(Y, U))
    # By name, whatever the order.
    np.testing.assert_array_equal(model.predict(targets[["flow", "level"]], inputs), found)
    free = model.free_run(targets, inputs, start=80)
    assert free[:80].isna().all().all()
    coming = model.forecast(10, inputs[80:])
    assert coming.index.equals(index[80:])
    np.testing.assert_allclose(coming, free[80:], rtol=1e-12)
    np.testing.assert_array_equal(coming, plain.forecast(10, U[80:], Y=Y[:80], U=U[:80]))


def test_one_series_without_inputs_is_a_vector() -> None:
    model = Recurrent(hidden=2, epochs=5).fit(Y[:, 0])
    assert model.predict(Y[:, 0]).shape == (90, 1)
    assert model.forecast(4).shape == (4, 1)


def test_patience_ends_a_training_that_no_longer_gets_better() -> None:
    model = fitted(optimizer="sgd", lr=0.9, epochs=200, patience=5)
    losses = [epoch.loss for epoch in model.history_]
    assert model.stop_reason_ == "patience"
    assert len(losses) - 1 - int(np.argmin(losses)) == 5
    assert fitted().stop_reason_ == "epochs"


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_a_training_that_a_callback_ends_is_resumed_bit_for_bit(tmp_path: Path, optimizer: str) -> None:
    whole = fitted(optimizer=optimizer)
    path = tmp_path / "state.safetensors"
    part = Recurrent(**whole.get_params())

    def until_five(trainer: Trainer) -> bool:
        return len(trainer.history) == 5

    part.fit(Y[:80], U[:80], callbacks=[until_five], checkpoint=path)
    assert (part.stop_reason_, len(part.history_)) == ("callback", 5)
    rest = clone(part).fit(Y[:80], U[:80], checkpoint=path, resume=True)
    assert rest.history_ == whole.history_
    np.testing.assert_array_equal(rest.predict(Y, U), whole.predict(Y, U))


def test_another_training_is_not_resumed(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    model = Recurrent(hidden=3, epochs=4)
    with pytest.raises(InputError, match=r"resume: there is no .*state\.safetensors to continue from"):
        model.fit(Y, checkpoint=path, resume=True)
    model.fit(Y, checkpoint=path)
    for options, message in (
        ({"hidden": 2}, r"resume: hidden is 2, the training in .* has 3: keep it"),
        ({"lr": 0.5}, r"resume: lr is 0\.5, the training in .* has 0\.01: keep it"),
        ({"epochs": 2}, r"resume: epochs is 2, the training in .* has 4 behind it"),
    ):
        with pytest.raises(InputError, match=message):
            clone(model).set_params(**options).fit(Y, checkpoint=path, resume=True)
    with pytest.raises(InputError, match=r"resume: the training data are not those of"):
        model.fit(Y + 1, checkpoint=path, resume=True)
    with pytest.raises(InputError, match=r"resume is True, but there is no checkpoint"):
        model.fit(Y, resume=True)


def test_the_closed_loop_is_better_at_what_it_is_trained_for() -> None:
    rng = np.random.default_rng(0)
    # Noise that a one-step model takes for signal; the oscillation below it lasts.
    noisy = np.sin(np.arange(200) / 4) + 0.5 * rng.normal(size=200)
    errors = []
    for closed_loop in (None, 30):
        model = Recurrent(epochs=200, closed_loop=closed_loop).fit(noisy[:160])
        errors.append(np.mean((model.free_run(noisy, start=160)[160:, 0] - noisy[160:]) ** 2))
    assert errors[1] < errors[0]


def test_a_divergence_keeps_the_best_weights_so_far() -> None:
    model = Recurrent(hidden=3, optimizer="sgd", lr=1e6)
    with pytest.raises(DivergenceError, match=r"try a smaller lr, or clip=1"):
        model.fit(Y)
    assert model.stop_reason_ == "divergence"
    assert np.isfinite(model.predict(Y)[1:]).all()


@pytest.mark.parametrize(
    ("options", "data", "message"),
    [
        ({"optimizer": "adm"}, (Y, U), "optimizer is 'adm': did you mean 'adam'"),
        ({"hidden": 0}, (Y, U), "hidden is 0, expected a whole number"),
        ({"lr": 0}, (Y, U), "lr is 0, expected a finite number above 0"),
        ({"patience": 0}, (Y, U), "patience is 0"),
        ({"closed_loop": 90}, (Y, U), "closed_loop is 90, expected from 2 to 89 steps"),
        ({"device": "tpu"}, (Y, U), "device is 'tpu'"),
        ({}, (Y, U[:50]), "U has 50 steps, Y has 90: they must be equal"),
        ({}, (np.where(Y > 5.9, np.inf, Y), U), "Y is inf at step 4, column 0: fill it"),
        ({}, (Y[:2], U[:2]), "Y has 2 steps, expected at least 3"),
        ({}, (np.ones((9, 1)), None), r"targets y1 is constant \(1\)"),
        ({}, (Y.astype(str), U), "Y holds text, expected real numbers"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_cannot_be_trained_is_named(options: dict[str, Any], data: tuple[Any, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Recurrent(**options).fit(*data)


def test_what_cannot_be_predicted_is_named() -> None:
    model = fitted()
    for call, message in (
        (lambda: model.predict(Y), "U has 0 columns, the model was fitted with 1"),
        (lambda: model.predict(Y[:, :1], U), "Y has 1 columns, the model was fitted with 2"),
        (lambda: model.predict(pd.DataFrame(Y, columns=["a", "y1"]), U), "Y lacks 'y2'"),
        (lambda: model.forecast(0, U), "horizon is 0, expected a whole number"),
        (lambda: model.forecast(3), "U_future is None: give the 3 coming values of u1"),
        (lambda: model.forecast(3, U[:2]), "horizon is 3, but the inputs u1 are known for 2 steps"),
        (lambda: model.free_run(Y, U, start=90), "start is 90, expected from 1 to 89"),
    ):
        with pytest.raises(InputError, match=message):
            call()
    with pytest.raises(NotFittedError, match="not fitted yet"):
        Recurrent().predict(Y)


def test_its_recurrence_is_that_of_the_loss_that_was_trained() -> None:
    for closed_loop in (None, 12):
        model = fitted(closed_loop=closed_loop)
        sweep = Sweep.of_estimator(model, U[:80], Y[:80])
        assert sweep.loss == pytest.approx(model.best_loss_, rel=1e-10)
        assert sweep.time == (79 if closed_loop is None else 12)


# Files


def test_a_saved_model_is_the_same_model(tmp_path: Path) -> None:
    model = fitted(closed_loop=5)
    model.save(tmp_path / "m")
    with pytest.raises(InputError, match=r"model\.safetensors exists: take another folder, or overwrite=True"):
        model.save(tmp_path / "m")
    again = Recurrent.load(tmp_path / "m")
    assert again.get_params() == model.get_params()
    assert (again.history_, again.best_loss_, again.stop_reason_) == (model.history_, model.best_loss_, "epochs")
    np.testing.assert_array_equal(again.predict(Y, U), model.predict(Y, U))
    np.testing.assert_array_equal(again.forecast(6, U[:6]), model.forecast(6, U[:6]))
    assert again.fit(Y[:80], U[:80]).history_ == model.history_


def test_a_run_of_the_first_format_keeps_loading(tmp_path: Path) -> None:
    """The first format kept the end of the series in two arrays, and what a run adds beside the rest."""
    model = fitted()
    saved = model.saved()
    arrays = {**saved.arrays, "future_inputs": U[80:]}
    arrays["border.state"], arrays["border.target"] = np.split(arrays.pop("state"), [3])
    settings = {name: saved.config["parameters"][name] for name in ("hidden", "optimizer", "lr", "seed")}
    run = {"time": {"label": "step"}, "horizon": 4, "settings": settings}
    config = {name: saved.config[name] for name in ("target", "inputs")}
    write_model(tmp_path, replace(saved, arrays=arrays, config={**config, **run}), overwrite=True)
    path = tmp_path / "config.json"
    written = json.loads(path.read_text())
    del written["files"]
    path.write_text(json.dumps({**written, "format": 1}))
    old = read_model(tmp_path, ("recurrent",))
    assert old.run is not None
    assert (old.run["horizon"], old.run["targets"], len(old.run["future_inputs"])) == (4, ["y1", "y2"], 10)
    again = Recurrent.load(tmp_path)
    assert (again.hidden, again.epochs) == (3, None)
    np.testing.assert_array_equal(again.forecast(10, U[80:]), model.forecast(10, U[80:]))
    np.testing.assert_array_equal(np.array(old.run["state"]), model.state_)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (None, r"does not exist"),
        ("", r"is no finished run: config.json is missing"),
        ("{", r"is no model that can be read: JSONDecodeError"),
        ('{"format": 99, "model": "recurrent"}', r"has format 99, this version reads up to 2: install a newer"),
        ('{"format": 2, "model": "state-space"}', r"holds a model of kind 'state-space', expected 'recurrent'"),
        ('{"format": 2, "model": "recurrent"}', r"is no finished run: model.safetensors is missing"),
        ("[]", r"is no model that can be read"),
    ],
)
def test_folders_that_are_no_models_are_named(tmp_path: Path, damage: str | None, message: str) -> None:
    if damage is not None:
        (tmp_path / "m").mkdir()
    if damage:
        (tmp_path / "m" / "config.json").write_text(damage)
    with pytest.raises(InputError, match=message):
        Recurrent.load(tmp_path / "m")


def test_a_missing_target_is_the_networks_own_prediction() -> None:
    y = np.sin(np.arange(60.0) / 3)[:, None]
    holed = y.copy()
    holed[[20, 21, 22, 40, 59]] = np.nan
    model = Recurrent(hidden=4, optimizer="lbfgs", epochs=8).fit(holed)
    predicted = model.predict(holed)
    # The loop written out: what is missing is what was predicted for it.
    weights = {name: weight.numpy() for name, weight in model.network_.weights.items()}
    scaling = model.network_.target_scaling
    np.testing.assert_allclose(scaling.mean, np.nanmean(holed), rtol=1e-12)
    h, own = weights["h0"], np.nan
    for step, value in enumerate(scaling.apply(holed)[:, 0]):
        if step:
            np.testing.assert_allclose(scaling.apply(predicted)[step, 0], own, rtol=1e-9)
        read = own if np.isnan(value) else value
        h = weights["weight_hh"] @ h + weights["weight_ih"] @ [read] + weights["bias"]
        own = (weights["weight_out"] @ h + weights["bias_out"])[0]
    assert np.abs(predicted[1:] - y[1:]).max() < 0.2
    np.testing.assert_allclose(model.forecast(1)[0, 0], scaling.invert(np.array([[own]]))[0, 0], rtol=1e-9)


def test_missing_targets_have_no_loss() -> None:
    y = np.sin(np.arange(60.0) / 3)[:, None]
    holed = y.copy()
    holed[[20, 21, 59]] = np.nan
    network = Recurrent(hidden=3).untrained(holed)
    x, target = network.series(holed, holed[:, :0])
    loss, gradients, _ = loss_and_gradients(network.weights, x, target, None)
    by_autograd = {name: weight.clone().requires_grad_() for name, weight in network.weights.items()}
    h, own, total = by_autograd["h0"], None, []
    for step in range(len(x)):
        read = own if bool(x[step].isnan()) else x[step]
        h = by_autograd["weight_hh"] @ h + by_autograd["weight_ih"] @ read + by_autograd["bias"]
        own = by_autograd["weight_out"] @ h + by_autograd["bias_out"]
        if not bool(target[step].isnan()):
            total.append((own - target[step]).square().mean())
    expected = torch.stack(total).mean()
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-12, atol=0)
    for name, gradient in zip(by_autograd, torch.autograd.grad(expected, list(by_autograd.values())), strict=True):
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-9, atol=1e-14)


def test_what_cannot_be_missing_is_refused() -> None:
    y = np.sin(np.arange(60.0) / 3)
    holed = np.where(np.arange(60) == 20, np.nan, y)
    with pytest.raises(InputError, match=r"closed_loop is 5, which needs every target, and Y has missing ones"):
        Recurrent(closed_loop=5).fit(holed)
    with pytest.raises(InputError, match=r"U is nan at step 20"):
        Recurrent().fit(y, holed)
    times = pd.Series(y, pd.date_range("2024-01-01", periods=60, freq="D"))
    with pytest.raises(InputError, match=r"Y lacks a step, going by every day: 2024-01-21"):
        Recurrent().fit(times.drop(times.index[20]))
