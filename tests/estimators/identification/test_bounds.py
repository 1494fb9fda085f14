from __future__ import annotations

import numpy as np
import pytest

from estimators.systems import random_system
from retrograd.estimators.identification.bounds import (
    drawn_in,
    forgetting,
    forgetting_gradient,
    modes_at,
    with_forgetting_gain,
)


def test_only_the_modes_beyond_the_radius_are_drawn_in() -> None:
    T = np.random.default_rng(0).standard_normal((5, 5))
    turn = 1.2 * np.array([[np.cos(1), -np.sin(1)], [np.sin(1), np.cos(1)]])
    A = np.zeros((5, 5))
    A[:2, :2], A[2, 2], A[3, 3], A[4, 4] = turn, -1.5, 0.8, 0.3
    found = np.linalg.eigvals(drawn_in(T @ A @ np.linalg.inv(T), 0.9))
    expected = [0.9 * np.exp(1j), 0.9 * np.exp(-1j), -0.9, 0.8, 0.3]
    assert np.allclose(np.sort_complex(found), np.sort_complex(np.array(expected)), atol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_the_prior_on_forgetting_is_its_formula_and_its_gradient_is_exact(n: int) -> None:
    F = np.random.default_rng(n).standard_normal((n, n))
    F *= 0.98 / np.abs(np.linalg.eigvals(F)).max()
    formula = -0.5 * np.linalg.slogdet(np.eye(n * n) - np.kron(F, F))[1]
    assert forgetting(F) == pytest.approx(formula, rel=1e-10)
    direction = np.random.default_rng(9).standard_normal((n, n))
    difference = (forgetting(F + 1e-7 * direction) - forgetting(F - 1e-7 * direction)) / 2e-7
    assert difference == pytest.approx((forgetting_gradient(F) * direction).sum(), rel=1e-6)
    assert forgetting(F / 0.97) == float("inf")


def test_modes_at_a_bound_are_found_with_how_they_move() -> None:
    A = drawn_in(np.random.default_rng(3).standard_normal((4, 4)) * 2, 0.9)
    of_A = modes_at(A, 0.9)
    assert len(of_A) >= 1
    for slope in of_A:
        step = 1e-7 * slope
        grown = np.abs(np.linalg.eigvals(A + step)).max() - 0.9
        assert grown == pytest.approx((slope * step).sum(), rel=1e-4)
    assert len(modes_at(A * 0.99, 0.9)) == 0


@pytest.mark.parametrize("outputs", [1, 2])
def test_a_predictor_is_made_to_forget_by_its_gain(outputs: int) -> None:
    system = random_system(0, outputs=outputs)
    far = np.random.default_rng(1).standard_normal(system.K.shape) * 3
    system = type(system)(**{**vars(system), "K": far})
    assert system.predictor_radius() > 1
    S = np.eye(outputs) + 0.3
    found = with_forgetting_gain(system, S, 0.999)
    assert found.predictor_radius() <= 0.999
    assert np.array_equal(found.A, system.A)
    assert np.array_equal(found.C, system.C)
