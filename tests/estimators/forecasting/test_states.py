"""States against the plain loop, and the gradient of their training against finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from retrograd.estimators.forecasting import fit as forecast_fit
from retrograd.estimators.forecasting.estimator import Forecaster
from retrograd.estimators.forecasting.states import Difference, Lags, Linear, States, strongest_periods
from retrograd.estimators.recurrent.training import DivergenceError

Array = np.ndarray[Any, Any]

DIFFERENCES: list[Difference] = [None, "last", 4]
KINDS = ["lags", "diagonal", "dense"]


def series(steps: int = 60, count: int = 2) -> Array:
    rng = np.random.default_rng(3)
    return rng.normal(size=(steps, count)).cumsum(axis=0) * 0.3 + np.sin(np.arange(steps) / 3)[:, None]


def states(kind: str, difference: Difference) -> States:
    if kind == "lags":
        return Lags(5, difference)
    return Linear.untrained(kind, 6, 12, [8.0, 5.0, 3.0], difference, seed=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("difference", DIFFERENCES)
def test_features_follow_the_recurrence_that_closes_the_loop(kind: str, difference: Difference) -> None:
    y = series()
    system = states(kind, difference)
    z = system.run(y).features(1, system.burn, len(y))
    A, w = system.recurrence()
    season = {None: 0, "last": 1}.get(difference, difference)  # type: ignore[arg-type]
    change = y[:, 1].copy()
    if season:
        change[season:] -= y[: len(y) - int(season), 1]
    for t in range(1, len(z)):
        expected = A @ z[t - 1] + w * change[system.burn + t]
        np.testing.assert_allclose(z[t], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["diagonal", "dense"])
@pytest.mark.parametrize("difference", DIFFERENCES)
def test_a_run_continues_where_another_was(kind: str, difference: Difference) -> None:
    y = series()
    system = states(kind, difference)
    whole = system.run(y)
    rest = system.run(y[25:], whole.before(25))
    season = difference if isinstance(difference, int) else 0
    np.testing.assert_allclose(
        rest.features(0, season, len(y) - 25), whole.features(0, 25 + season, len(y)), rtol=0, atol=1e-13
    )
    assert whole.before(0) is None


@pytest.mark.parametrize("kind", ["diagonal", "dense"])
def test_a_past_constant_at_the_last_value_leaves_nothing(kind: str) -> None:
    z = states(kind, "last").run(np.full((30, 1), 7.0)).features(0, 0, 30)
    np.testing.assert_allclose(z, 0.0, atol=1e-12)


def test_dense_states_start_as_the_diagonal_ones_in_other_coordinates() -> None:
    A, _ = states("dense", None).recurrence()
    other, _ = Linear.untrained("diagonal", 5, 12, [8.0], None, seed=0).recurrence()
    dense = Linear.untrained("dense", 6, 12, [8.0], None, seed=0)
    np.testing.assert_allclose(
        np.sort(np.abs(np.linalg.eigvals(dense.recurrence()[0]))), np.sort(np.abs(np.linalg.eigvals(other))), rtol=1e-9
    )
    assert A.shape == (6, 6)


def test_the_strongest_periods_are_those_of_the_sines() -> None:
    t = np.arange(480)
    y = 3 * np.sin(2 * np.pi * t / 24) + np.sin(2 * np.pi * t / 8) + 5
    assert strongest_periods(y[:, None], 2) == [24.0, 8.0]


@pytest.mark.parametrize("kind", ["diagonal", "dense"])
@pytest.mark.parametrize("difference", DIFFERENCES)
@pytest.mark.parametrize("share", [True, False])
def test_the_gradient_of_the_training_is_that_of_finite_differences(
    kind: str, difference: Difference, share: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the read-out solved anew at every point: the gradient is total, though the read-out is held fixed in it."""
    seen: dict[str, Any] = {}
    refine = forecast_fit.refine

    def spied(start: Linear, values: list[Array], objective: Any, **options: Any) -> Any:
        seen["start"], seen["objective"] = start, objective
        return refine(start, values, objective, **options)

    def step(self: Any, closure: Any) -> None:
        closure()
        seen["gradients"] = [leaf.grad.clone() for group in self.param_groups for leaf in group["params"]]

    monkeypatch.setattr(forecast_fit, "refine", spied)
    monkeypatch.setattr(torch.optim.SGD, "step", step)
    rng = np.random.default_rng(0)
    Forecaster(kind, hidden=6, lags=12, difference=difference, share=share, ridge=0.05, epochs=1, optimizer="sgd").fit(
        series(), X=rng.normal(size=(60, 1)), fh=[1, 3]
    )
    start: Linear = seen["start"]
    for (name, value), gradient in zip(start.parameters.items(), seen["gradients"], strict=True):
        for place in range(value.numel()):
            if name == "angle" and value[place] == 0:
                assert gradient[place] == 0  # a decay stays a decay
                continue
            losses = []
            for sign in (1, -1):
                moved = {key: tensor.clone() for key, tensor in start.parameters.items()}
                moved[name].view(-1)[place] += sign * 1e-5
                losses.append(seen["objective"](Linear(kind, moved, difference), False)[0])
            # Second order in a step of 1e-5, and rounding of 1e-16 / 1e-5.
            expected = (losses[0] - losses[1]) / 2e-5
            assert float(gradient.view(-1)[place]) == pytest.approx(expected, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_training_lowers_the_loss_and_keeps_a_stable_recurrence(optimizer: str) -> None:
    forecaster = Forecaster("dense", hidden=6, lags=12, difference=None, ridge=0.01, epochs=8, optimizer=optimizer).fit(
        series(200), fh=[1]
    )
    losses = [epoch.loss for epoch in forecaster.history_]
    assert len(losses) == 8
    assert losses[-1] < losses[0]
    assert forecaster._model.states.radius() < 1


def test_divergence_says_what_to_try() -> None:
    # A line search turns back; plain gradient descent with such a step does not.
    with pytest.raises(DivergenceError, match=r"training stopped at epoch \d+: the loss is .* try a tenth of it"):
        Forecaster("dense", hidden=6, lags=12, epochs=50, optimizer="sgd", lr=1e30, ridge=0.01).fit(series(), fh=[1])
