"""Every warning of a fit, by a case that earns it."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from estimators.systems import random_system, simulated
from retrograd.estimators import IdentificationWarning, StateSpace


def growing() -> tuple[StateSpace, Any, Any]:
    random = np.random.default_rng(0)
    u, y = random.standard_normal(150), np.zeros(150)
    for t in range(149):
        y[t + 1] = 1.01 * y[t] + u[t]
    return StateSpace(order=1, noise="innovations"), u, y + 0.1 * random.standard_normal(150)


def unstable() -> tuple[StateSpace, Any, Any]:
    random = np.random.default_rng(0)
    u, y = random.standard_normal(150), np.zeros(150)
    for t in range(149):
        y[t + 1] = 1.05 * y[t] + u[t]
    return StateSpace(order=1), u, y + 0.05 * random.standard_normal(150)


def unrelated() -> tuple[StateSpace, Any, Any]:
    random = np.random.default_rng(0)
    return StateSpace(order=2), random.standard_normal(300), random.standard_normal(300)


def seasonal() -> tuple[StateSpace, Any, Any]:
    random = np.random.default_rng(0)
    season = 5 * np.sin(2 * np.pi * np.arange(240) / 12) ** 9
    return StateSpace(order=1), None, season + 0.3 * random.standard_normal(240)


def too_low() -> tuple[StateSpace, Any, Any]:
    u, y, _ = simulated(random_system(0, inputs=2), 400, 0.1, seed=1)
    return StateSpace(max_order=2, noise="output-error"), u, y


def sine() -> tuple[StateSpace, Any, Any]:
    random = np.random.default_rng(0)
    u = np.sin(np.arange(240) / 3)
    return StateSpace(order=3), u, np.convolve(u, [0, 1, 0.5, 0.25])[:240] + 0.05 * random.standard_normal(240)


def hurried() -> tuple[StateSpace, Any, Any]:
    u, y, _ = simulated(random_system(0, inputs=2), 400, 0.1, seed=1)
    return StateSpace(order=3, max_iter=1), u, y


def short() -> tuple[StateSpace, Any, Any]:
    u, y, _ = simulated(random_system(0, inputs=2), 40, 0.1, seed=1)
    return StateSpace(order=3, noise="innovations"), u, y


def uneven() -> tuple[StateSpace, Any, Any]:
    u, y, _ = simulated(random_system(0, inputs=1, outputs=1), 400, 0.0, seed=1)
    random = np.random.default_rng(0)
    return StateSpace(order=3), u, y + y.std() * np.repeat([0.05, 0.8], 200)[:, None] * random.standard_normal((400, 1))


def delayed() -> tuple[StateSpace, Any, Any]:
    random = np.random.default_rng(0)
    u = random.standard_normal(400)
    y = np.convolve(np.concatenate([np.zeros(25), u]), 0.7 ** np.arange(30))[:400]
    return StateSpace(order=3, noise="output-error"), u, y + 0.1 * random.standard_normal(400)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (growing, "stopped at a bound: a mode of A has the size 0.9999"),
        (unstable, "the data grow: the subspace estimate has a mode of size 1.05"),
        (unrelated, "no better than predicting the mean, for as many parameters"),
        (seasonal, "the residuals of y1 are not white: most of all they repeat after 12 steps; try a higher order"),
        (too_low, "order 2 is the largest that was tried, and the best: raise max_order"),
        (sine, "input u1 is weakly exciting: its past moves in 3 directions"),
        (hurried, "not converged: 1 iterations were not enough; raise max_iter, try starts=3, or a lower order"),
        (short, "80 observed values are few for 27 parameters: predictions of other data may be far off"),
        (uneven, "times as large in the second half of the data as in the first: the system may change, or not be"),
        (delayed, "the errors of y1 follow input u1 of 25 steps before, later than the order 3 holds"),
    ],
    ids=["growing", "unstable", "unrelated", "seasonal", "too_low", "sine", "hurried", "short", "uneven", "delayed"],
)
def test_a_warning_says_what_was_found_and_what_to_try(case: Any, message: str) -> None:
    model, u, y = case()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(u, y)
    assert {warning.category for warning in caught} == {IdentificationWarning}
    assert [str(warning.message) for warning in caught] == list(model.cautions_)
    assert sum(message in caution for caution in model.cautions_) == 1


def test_one_category_serves_all_and_filters_of_scikit_learn_know_it() -> None:
    assert issubclass(IdentificationWarning, ConvergenceWarning)
    u, y, _ = simulated(random_system(0, inputs=2), 400, 0.1, seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert StateSpace(order=3).fit(u, y).cautions_ == ()


@pytest.mark.parametrize("order", [1, 6])
@pytest.mark.parametrize("noise", ["output-error", "innovations"])
def test_slow_data_that_do_not_grow_are_not_said_to(order: int, noise: str) -> None:
    random = np.random.default_rng(1)
    u, y = random.standard_normal(120), np.zeros(120)
    for t in range(119):
        y[t + 1] = 0.995 * y[t] + u[t] + random.standard_normal()
    model = StateSpace(order=order, noise=noise)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", IdentificationWarning)
        model.fit(u, y)
    assert not [caution for caution in model.cautions_ if "the data grow" in caution]
