"""Predictions and their derivatives against the loop, for every combination of what is free and what is missing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from estimators.systems import loop, random_system
from retrograd.estimators.identification.experiments import read_experiments
from retrograd.estimators.identification.sensitivity import (
    _of_masked,
    initial_states,
    jacobian,
    linear_part,
)
from retrograd.estimators.identification.system import (
    Layout,
    final_state,
    predict,
    predict_tensors,
    tensors,
    unpack,
    with_unit_states,
)
from retrograd.estimators.identification.triangles import least_squares

EPS = np.finfo(np.float64).eps


def data_of(missing: bool, experiments: int = 2, inputs: int = 2):
    random = np.random.default_rng(5)
    lengths = (30, 17)[:experiments]
    U = [random.standard_normal((length, inputs)) for length in lengths]
    Y = [random.standard_normal((length, 2)) for length in lengths]
    if missing:
        Y[0][3, 0] = Y[0][0, 1] = Y[-1][5, :] = np.nan
    return U, Y, read_experiments(U if inputs else None, Y)


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("experiments", [1, 2])
@pytest.mark.parametrize("gain", [0.0, 0.1])
def test_predictions_are_those_of_the_loop(missing: bool, experiments: int, gain: float) -> None:
    U, Y, data = data_of(missing, experiments)
    system = random_system(0, experiments=experiments, gain=gain)
    states, predicted = predict(system, data)
    expected = loop(system, U, Y)
    assert np.abs(predicted - expected).max() <= 100 * EPS * np.abs(expected).max()
    assert np.array_equal(states[data.starts], system.x0)


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("gain", [0.0, 0.1])
@pytest.mark.parametrize("inputs", [0, 2])
def test_the_jacobian_is_the_derivative_of_the_loop(missing: bool, gain: float, inputs: int) -> None:
    U, Y, data = data_of(missing, inputs=inputs)
    system = random_system(1, inputs=inputs, experiments=2, gain=gain)
    layout = Layout(3, inputs, 2, 2, feedthrough=inputs > 0, innovations=gain > 0)
    theta = layout.pack(system)
    system = unpack(layout, theta)
    found = jacobian(system, layout, data)[2]
    exact = np.ones(len(theta), dtype=bool)
    for name in ("A", "C", "K"):
        if missing and gain:
            # How gains across gaps change with these is left out.
            exact[layout.slices()[name]] = False
    for number in np.flatnonzero(exact):
        # The loop is a polynomial in θ: central differences are off by step², and by rounding over step.
        step = 1e-6
        ahead, back = theta.copy(), theta.copy()
        ahead[number] += step
        back[number] -= step
        expected = (loop(unpack(layout, ahead), U, Y) - loop(unpack(layout, back), U, Y)) / (2 * step)
        assert np.abs(found[:, :, number] - expected.T).max() <= 1e-7 * max(1, np.abs(expected).max())


def test_both_ways_to_the_jacobian_agree() -> None:
    _, _, data = data_of(missing=False)
    system, layout = random_system(2, experiments=2), Layout(3, 2, 2, 2, innovations=True)
    states, predicted, fast = jacobian(system, layout, data)
    general = _of_masked(system, layout, data, states, data.outputs - predicted)[0]
    assert np.abs(fast - general).max() <= 100 * EPS * np.abs(general).max()


def test_the_gradient_by_the_adjoint_is_that_of_the_jacobian() -> None:
    _, _, data = data_of(missing=True)
    system, layout = random_system(3, experiments=2), Layout(3, 2, 2, 2, innovations=True)
    weights = np.random.default_rng(0).standard_normal((47, 2))
    parts = {name: part.requires_grad_() for name, part in tensors(system).items()}
    (predict_tensors(parts, data)[1] * torch.from_numpy(weights)).sum().backward()
    expected = np.einsum("tq,qtk->k", weights, jacobian(system, layout, data)[2])
    # How gains across gaps change with A, C and K is left out of the Jacobian.
    for name in ("B", "D", "offset", "x0"):
        at = layout.slices()[name]
        gradient = parts[name].grad.numpy().ravel()
        assert np.abs(gradient - expected[at]).max() <= 1e3 * EPS * np.abs(expected).max(), name


def test_the_final_state_goes_on_where_the_data_end() -> None:
    U, Y, data = data_of(missing=True, experiments=1)
    system = random_system(4)
    states, _ = predict(system, data)
    after = final_state(system, data, states)[0]
    longer = read_experiments([np.concatenate([U[0], np.zeros((1, 2))])], [np.concatenate([Y[0], np.zeros((1, 2))])])
    assert np.allclose(after, predict(system, longer)[0][-1], rtol=0, atol=100 * EPS * np.abs(states).max())


def test_initial_states_are_found_again() -> None:
    U, _, _ = data_of(missing=False)
    system = replace(random_system(6, experiments=2), K=np.zeros((3, 2)))
    nothing = [np.full((len(u), 2), np.nan) for u in U]
    Y = np.split(loop(system, U, nothing), [30])
    found = initial_states(replace(system, x0=np.zeros((2, 3))), read_experiments(U, Y))
    assert np.allclose(found.x0, system.x0, rtol=1e-10)


def test_what_is_linear_is_found_in_one_step() -> None:
    U, _, _ = data_of(missing=False)
    system = replace(random_system(7, experiments=2), K=np.zeros((3, 2)))
    Y = np.split(loop(system, U, [np.full((len(u), 2), np.nan) for u in U]), [30])
    found = linear_part(system.A, system.C, Layout(3, 2, 2, 2), read_experiments(U, Y))
    for name in ("B", "D", "offset", "x0"):
        assert np.allclose(getattr(found, name), getattr(system, name), rtol=1e-8, atol=1e-9), name


def test_another_basis_and_other_units_change_nothing_seen() -> None:
    _, _, data = data_of(missing=True)
    system = replace(random_system(8, experiments=2), root=np.eye(2))
    _, expected = predict(system, data)
    other = with_unit_states(system, data)
    states, predicted = predict(other, data)
    assert np.allclose(predicted, expected, rtol=1e-9, atol=1e-9)
    assert np.allclose(states.T @ states / len(states), np.eye(3), atol=1e-8)
    scale_u, scale_y = np.array([2.0, 0.5]), np.array([10.0, 0.1])
    scaled = predict(system.rescaled(1 / scale_u, 1 / scale_y), data.scaled(scale_u, scale_y))[1]
    assert np.allclose(scaled * scale_y, expected, rtol=1e-9, atol=1e-9)


def test_least_squares_takes_the_shortest_of_many_solutions() -> None:
    design = np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])
    assert np.allclose(least_squares(design, np.array([2.0, 4.0, 6.0])), [1, 1])
