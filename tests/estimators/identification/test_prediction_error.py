from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest

from estimators.systems import random_system, simulated
from retrograd.estimators import IdentificationWarning, StateSpace
from retrograd.estimators.identification.criterion import Criterion
from retrograd.estimators.identification.experiments import read_experiments
from retrograd.estimators.identification.prediction_error import Refinement
from retrograd.estimators.identification.starts import Starts
from retrograd.estimators.identification.system import Layout, predict

EPS = np.finfo(np.float64).eps


@pytest.fixture(scope="module")
def noisy():
    system = random_system(0, inputs=1)
    u, y, _ = simulated(system, 600, 0.3, seed=2)
    return system, read_experiments(u, y)


@pytest.mark.parametrize("innovations", [False, True])
@pytest.mark.parametrize("ridge", [0.0, 1e-3])
def test_the_gradient_is_the_criterion_s_derivative(noisy, innovations: bool, ridge: float) -> None:
    _, data = noisy
    layout = Layout(3, 1, 2, 1, innovations=innovations)
    start = Starts(data).systems(layout, 1)[0]
    refinement = Refinement(Criterion(data), layout, ridge=ridge)
    theta = layout.pack(start)
    _, gradient = refinement._value_and_gradient(theta)
    # The normal equations hold the same gradient, from the Jacobian.
    _, of_normal = refinement._normal_equations(start, theta)
    assert np.allclose(of_normal / 600, gradient, rtol=0, atol=1e-10 * np.abs(gradient).max())
    for number in range(len(theta)):
        step = np.zeros_like(theta)
        step[number] = 1e-6
        ahead, back = (refinement._value_and_gradient(theta + sign * step)[0] for sign in (1, -1))
        assert abs((ahead - back) / 2e-6 - gradient[number]) <= 1e-6 * max(1, np.abs(gradient).max())


def test_the_radius_is_kept_and_part_of_the_gradient(noisy) -> None:
    system, data = noisy
    layout = Layout(3, 1, 2, 1)
    system = replace(system, K=np.zeros((3, 2)))
    refinement = Refinement(Criterion(data), layout, radius=0.5)
    assert refinement._inside(system).radius() <= 0.5 * (1 + 10 * EPS)
    theta = layout.pack(system)
    value, gradient = refinement._value_and_gradient(theta)
    assert value == pytest.approx(refinement._judge(theta, refinement._inside(system)) / 600, rel=1e-12)
    direction = np.random.default_rng(0).standard_normal(len(theta))
    ahead, back = (refinement._value_and_gradient(theta + sign * 1e-6 * direction)[0] for sign in (1, -1))
    assert (ahead - back) / 2e-6 == pytest.approx(direction @ gradient, rel=1e-5)


@pytest.mark.parametrize("optimizer", ["lm", "lbfgs", "adam"])
@pytest.mark.parametrize("innovations", [False, True])
def test_every_optimizer_lowers_the_criterion(noisy, optimizer: str, innovations: bool) -> None:
    system, data = noisy
    layout = Layout(3, 1, 2, 1, innovations=innovations)
    start = Starts(data).systems(layout, 1)[0]
    refinement = Refinement(Criterion(data), layout, radius=0.999, iterations=60)
    before = refinement._judge(layout.pack(start), start) / 600
    fit = refinement.run(start, optimizer)
    assert fit.value < before
    assert fit.value == pytest.approx(refinement._judge(layout.pack(fit.system), fit.system) / 600)
    if optimizer == "lm":
        # The maximum of a likelihood lies above the truth's.
        x0 = system.x0 if layout.free_x0 else 0 * system.x0
        truth = replace(system, x0=x0) if innovations else replace(system, K=0 * system.K)
        assert fit.converged
        assert fit.value < refinement._judge(layout.pack(truth), truth) / 600


def test_levenberg_marquardt_finds_a_system_without_noise_to_rounding() -> None:
    system = random_system(1, gain=0.0)
    u, y, _ = simulated(system, 300, 0.0, seed=3)
    data = read_experiments(u, y)
    layout = Layout(3, 2, 2, 1)
    start = Starts(data).systems(layout, 1)[0]
    rough = replace(start, A=start.A + 0.01, C=start.C * 1.05)
    fit = Refinement(Criterion(data), layout, iterations=200).run(rough, "lm")
    assert np.abs(predict(fit.system, data)[1] - y).max() <= 1e-8 * np.abs(y).max()


def test_missing_and_burnt_in_steps_do_not_count() -> None:
    y = np.array([[1.0], [2.0], [np.nan], [4.0]])
    data = read_experiments(None, [y, y])
    criterion = Criterion(data, burn_in=1)
    e = criterion.residuals(np.zeros((8, 1)))
    assert e[:, 0].tolist() == [0, 2, 0, 4, 0, 2, 0, 4]
    assert criterion.covariance(e)[0, 0] == pytest.approx(10.0)
    assert criterion.value(e) == pytest.approx(0.5 * 4 * np.log(10.0))


def test_outputs_missing_one_by_one_have_a_diagonal_covariance() -> None:
    y = np.array([[1.0, 2.0], [np.nan, 1.0], [3.0, np.nan], [2.0, 2.0]])
    criterion = Criterion(read_experiments(None, y))
    S = criterion.covariance(criterion.residuals(np.zeros((4, 2))))
    assert np.allclose(S, np.diag([14 / 3, 3.0]))


def test_early_stopping_keeps_the_iterate_that_is_best_on_the_validation_part(noisy) -> None:
    _, data = noisy
    layout = Layout(8, 1, 2, 1, innovations=True)  # far too many states
    train, held_out = data.part([(0, 100)]), data.part([(100, 600)])
    start = Starts(train).systems(layout, 1)[0]
    refinement = Refinement(Criterion(train), layout, validation=Criterion(held_out), iterations=100)
    fit = refinement.run(start, "lm")
    judged = [value for _, value in fit.history]
    assert fit.judged == min(judged)
    assert len(judged) < 100
    assert int(np.argmin(judged)) < len(judged) - 1


def test_a_predictor_may_forget_slowly_but_not_never(noisy) -> None:
    system, data = noisy
    layout = Layout(3, 1, 2, 1, innovations=True)
    judge = Refinement(Criterion(data), layout)._judge

    def judged(radius: float) -> float:
        slow = replace(system, A=system.A / system.radius() * radius, K=0 * system.K)
        return judge(layout.pack(slow), slow)

    assert np.isfinite([judged(radius) for radius in (0.99, 0.999, 0.99999)]).all()
    assert judged(1.001) == judged(1.01) == float("inf")


def test_starts_are_ordered_and_as_many_as_asked_for(noisy) -> None:
    _, data = noisy
    layout = Layout(2, 1, 2, 1)
    judge = Refinement(Criterion(data), layout)
    starts = Starts(data).systems(layout, 18)
    assert len(starts) == 18
    values = [judge._judge(layout.pack(start), start) for start in starts[:5]]
    assert values == sorted(values)
    again = Starts(data).systems(layout, 18)[-1]
    assert np.array_equal(again.A, starts[-1].A)


@pytest.mark.filterwarnings("ignore::retrograd.estimators.identification.cautions.IdentificationWarning")
def test_a_fit_to_few_values_foretells_others_nearly_as_the_system_does() -> None:
    """Three values for each parameter: a predictor that need not forget fits waves in the noise: 4 times as far off."""
    ratios = []
    for seed in range(6):
        system = random_system(seed, order=4, gain=0.6)
        u, y, e = simulated(system, 251, 1.0, seed=seed)
        model = StateSpace(order=4, noise="innovations").fit(u[:51], y[:51])
        ahead = model.predict(u, y, x0=model.x0_[0])[60:]
        ratios.append(np.sqrt(np.mean((y[60:] - ahead) ** 2) / np.mean(e[60:] ** 2)))
    assert np.median(ratios) < 2


@pytest.mark.parametrize("seed", range(3))
def test_data_without_noise_are_fitted_to_rounding(seed: int) -> None:
    """A step whose foretold gain is zero to rounding has a gain without end, whose cube no number holds."""
    u, y = np.random.default_rng(seed).standard_normal(200), np.zeros(200)
    for t in range(199):
        y[t + 1] = 0.5 * y[t] + u[t]
    y += np.sin(np.arange(200.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", IdentificationWarning)
        model = StateSpace(order=3).fit(u, y)
    assert model.fit_percent(u, y)[0] > 99
