"""Read-outs against the plain regression, written out window by window, and the closed loop against a loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from retrograd.errors import InputError
from retrograd.estimators.forecasting import readout
from retrograd.estimators.forecasting.readout import Moments, Piece, choose_ridge, cross_validated, penalties, solve
from retrograd.estimators.forecasting.recursion import closed_loop, direct, recursive
from retrograd.estimators.forecasting.states import Difference, Lags

Array = np.ndarray[Any, Any]

STEPS, LAGS, HORIZONS = 40, 4, np.array([1, 2, 5])
DIFFERENCES: list[Difference] = [None, "last", 3]


def example(difference: Difference, intercept: bool, inputs: int = 2) -> Piece:
    rng = np.random.default_rng(1)
    y = rng.normal(size=(STEPS, 2)).cumsum(axis=0)
    x = rng.normal(size=(STEPS, inputs))
    return Piece(y, x, Lags(LAGS, difference).run(y), difference, intercept)


def origins(difference: Difference) -> range:
    burn = LAGS - 1 + (difference if isinstance(difference, int) else 0)
    return range(burn, STEPS - int(HORIZONS[-1]))


def design(piece: Piece, column: int, horizon: int) -> tuple[Array, Array]:
    """Rows [z_t, 1, x_{t+h}] and targets, one window at a time, as the definitions say."""
    rows, targets = [], []
    y, x = piece.y[:, column], piece.x
    for t in origins(piece.difference):
        if piece.difference is None:
            base, z, x_base = 0.0, [y[t - j] for j in range(LAGS)], 0.0 * x[t]
        elif piece.difference == "last":
            base, z, x_base = y[t], [y[t - j] - y[t] for j in range(1, LAGS)], x[t]
        else:
            s, same = piece.difference, t + horizon
            while same > t:
                same -= s
            base, z, x_base = y[same], [y[t - j] - y[t - j - s] for j in range(LAGS)], x[same]
        rows.append([*z, *([1.0] if piece.intercept else []), *(x[t + horizon] - x_base)])
        targets.append(y[t + horizon] - base)
    return np.array(rows), np.array(targets)


@pytest.mark.parametrize("difference", DIFFERENCES)
@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_every_horizon_is_the_ridge_regression_of_its_windows(
    difference: Difference, intercept: bool, ridge: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readout, "_BLOCK", 7)  # many blocks, the last one short
    piece = example(difference, intercept)
    here = origins(difference)
    moments = Moments.of(piece, [0, 1], here.start, here.stop, HORIZONS)
    weights = solve(moments, ridge, intercept)
    penalty, input_penalty = penalties(moments, ridge, intercept)
    assert moments.count == 2 * len(here)
    for place, horizon in enumerate(HORIZONS):
        parts = [design(piece, column, int(horizon)) for column in (0, 1)]
        A, b = np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
        E = piece.x.shape[1]
        lam = np.full(A.shape[1], penalty)
        lam[-E:] = input_penalty
        if intercept:
            lam[-E - 1] = 0.0
        expected = np.linalg.solve(A.T @ A + np.diag(lam), A.T @ b)
        found = np.concatenate([weights.states[:, place], weights.inputs[place]])
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)
        error = moments.squared_error(weights)[place]
        np.testing.assert_allclose(error, ((A @ expected - b) ** 2).sum(), rtol=1e-9)


def test_moments_add_up() -> None:
    piece = example("last", True)
    whole = Moments.of(piece, [0, 1], 5, 30, HORIZONS)
    parts = Moments.of(piece, [0], 5, 30, HORIZONS) + Moments.of(piece, [1], 5, 12, HORIZONS)
    parts = parts + Moments.of(piece, [1], 12, 30, HORIZONS)
    for name in ("count", "gram", "cross", "energy", "input_gram", "input_cross", "input_target"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-12, atol=1e-12)


def test_cross_validation_is_the_error_of_windows_left_out() -> None:
    piece = example("last", False)
    folds = [Moments.of(piece, [0], a, a + 10, HORIZONS) for a in (5, 15, 25)]
    expected = np.zeros(len(HORIZONS))
    for left_out, start in enumerate((5, 15, 25)):
        rest = [fold for place, fold in enumerate(folds) if place != left_out]
        weights = solve(rest[0] + rest[1], 0.2, False)
        predicted = direct(piece, weights, np.arange(3), 0, start, start + 10, HORIZONS)
        truth = piece.y[np.arange(start, start + 10)[:, None] + HORIZONS, 0]
        expected += ((predicted - truth) ** 2).sum(axis=0)
    np.testing.assert_allclose(cross_validated(folds, 0.2, False), expected / 30, rtol=1e-9)
    errors = {ridge: cross_validated(folds, ridge, False).mean() for ridge in readout._RIDGES}
    assert choose_ridge(folds, False) == min(errors, key=lambda ridge: errors[ridge])


def test_collinear_features_without_ridge_are_refused_and_told() -> None:
    y = np.ones((30, 1))
    piece = Piece(y, np.empty((30, 0)), Lags(3, None).run(y), None, False)
    moments = Moments.of(piece, [0], 2, 25, HORIZONS)
    with pytest.raises(InputError, match=r"ridge is 0 and the 3 features of the state are collinear.*ridge='auto'"):
        solve(moments, 0.0, False)
    # With a ridge the constant series is no trouble.
    assert np.isfinite(solve(moments, 0.1, False).states).all()


def test_a_daily_input_has_no_weight_a_day_ahead() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=(200, 1)).cumsum(axis=0)
    phase = 2 * np.pi * np.arange(200) / 4
    piece = Piece(y, np.stack([np.sin(phase), np.cos(phase)], axis=1), Lags(3, "last").run(y), "last", False)
    weights = solve(Moments.of(piece, [0], 2, 190, np.array([1, 4])), 0.0, False)
    assert np.abs(weights.inputs[0]).max() > 1e-3
    np.testing.assert_array_equal(weights.inputs[1], 0.0)


@pytest.mark.parametrize("difference", DIFFERENCES)
@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("inputs", [0, 2])
def test_the_closed_loop_is_the_one_step_prediction_iterated(
    difference: Difference, intercept: bool, inputs: int
) -> None:
    piece = example(difference, intercept, inputs)
    here = origins(difference)
    one = np.array([1])
    weights = solve(Moments.of(piece, [0], here.start, here.stop, one), 0.05, intercept)
    A, w = Lags(LAGS, difference).recurrence()
    steps = np.array([1, 2, 5, 8])
    lag = {None: 0, "last": 1}.get(difference, difference)  # type: ignore[arg-type]
    loop = closed_loop(A, w, weights.states[: len(w), 0], 8, int(lag or 0))
    found = recursive(piece, weights, loop, 0, 20, 23, steps)
    for row, t in enumerate(range(20, 23)):
        y = piece.y.copy()
        for k in range(1, 9):  # each prediction takes the place of the value
            step = Piece(y, piece.x, Lags(LAGS, difference).run(y), difference, intercept)
            y[t + k, 0] = direct(step, weights, np.array([0]), 0, t + k - 1, t + k, one)[0, 0]
        np.testing.assert_allclose(found[row], y[t + steps, 0], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("lag", [0, 1, 4])
def test_psi_weights_are_the_response_to_one_innovation(lag: int) -> None:
    rng = np.random.default_rng(2)
    difference: Difference = {0: None, 1: "last", 4: 4}[lag]  # type: ignore[assignment]
    A, w = Lags(3, difference).recurrence()
    C = 0.3 * rng.normal(size=len(w))
    loop = closed_loop(A, w, C, 9, lag)
    state, innovation, differences = np.zeros(len(w)), 1.0, []
    for _ in range(9):
        value = C @ state + innovation
        state, innovation = A @ state + w * value, 0.0
        differences.append(value)
    values = np.array(differences)
    for start in range(lag):
        values[start::lag] = values[start::lag].cumsum()
    np.testing.assert_allclose(loop.psi, values, rtol=1e-12, atol=1e-13)
