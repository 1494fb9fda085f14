from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from statsmodels.tsa.statespace.kalman_filter import KalmanFilter
from statsmodels.tsa.statespace.kalman_smoother import KalmanSmoother

from estimators.systems import random_system, simulated
from retrograd.estimators import StateSpace
from retrograd.estimators.identification.bounds import forgetting
from retrograd.estimators.identification.criterion import Criterion
from retrograd.estimators.identification.experiments import Experiments, read_experiments
from retrograd.estimators.identification.identified import Identified
from retrograd.estimators.identification.kalman import deviance, filter_of
from retrograd.estimators.identification.prediction_error import FORGETS, Refinement
from retrograd.estimators.identification.sensitivity import initial_states
from retrograd.estimators.identification.system import (
    Layout,
    System,
    final_state,
    predict,
    predict_tensors,
    tensors,
)

Array = np.ndarray[Any, Any]


def exact(system: System, u: Array, y: Array, x0: Array) -> Any:
    """Smooth by statsmodels, with (x_t, e_t) for the state and no noise on the outputs."""
    n, p = system.order, len(system.C)
    S = system.root @ system.root.T
    smoother = KalmanSmoother(k_endog=p, k_states=n + p, k_posdef=p)
    smoother.bind(y.copy())
    smoother["design"] = np.concatenate([system.C, np.eye(p)], axis=1)
    smoother["transition"] = np.block([[system.A, system.K], [np.zeros((p, n + p))]])
    smoother["selection"] = np.concatenate([np.zeros((n, p)), np.eye(p)])
    smoother["state_cov"] = S
    smoother["obs_intercept"] = (u @ system.D.T + system.offset).T
    smoother["state_intercept"] = np.concatenate([u @ system.B.T, np.zeros((len(u), p))], axis=1).T
    start = np.zeros((n + p, n + p))
    start[n:, n:] = S
    smoother.initialize_known(np.concatenate([x0, np.zeros(p)]), start)
    # Every step counts, and covariances are never taken for converged.
    smoother.loglikelihood_burn, smoother.tolerance = 0, 0
    return smoother.smooth()


def holed(y: Array, pattern: int) -> Array:
    """Take outputs away: one by one, all at once, in blocks, at the ends."""
    random = np.random.default_rng(pattern)
    y, kind = y.copy(), pattern % 5
    if kind == 0:
        y[random.random(y.shape) < 0.2] = np.nan
    elif kind == 1:
        y[random.random(len(y)) < 0.3] = np.nan
    elif kind == 2:
        for start in random.integers(0, len(y) - 8, 3):
            y[start : start + 8] = np.nan
    elif kind == 3:
        y[:4], y[-6:] = np.nan, np.nan
    else:
        y[random.integers(5, 60) :: 7, 0] = np.nan
    return y


def known(system: System, data: Experiments) -> Identified:
    state = final_state(system, data, predict(system, data)[0])[-1]
    S = system.root @ system.root.T
    names = data.input_names, data.output_names
    return Identified(system, *names, S, state, np.ones(1), {}, [], True, "")


@pytest.mark.parametrize("pattern", range(30))
def test_likelihood_states_and_smoothed_outputs_are_those_of_an_exact_filter(pattern: int) -> None:
    outputs = 1 + pattern % 3
    system = random_system(pattern, inputs=1, outputs=outputs, experiments=2, gain=0.5)
    root = np.tril(np.random.default_rng(pattern).standard_normal((outputs, outputs))) + 2 * np.eye(outputs)
    system = replace(system, root=root)
    runs = [simulated(system, steps, 1.0, seed=pattern + steps) for steps in (90, 70)]
    U, Y = [u for u, _, _ in runs], [holed(y, pattern + k) for k, (_, y, _) in enumerate(runs)]
    data = read_experiments(U, Y)
    model = known(system, data)
    results = [exact(system, u, y, x0) for u, y, x0 in zip(U, Y, system.x0, strict=True)]
    likelihood = sum(result.llf for result in results)
    assert model.log_likelihood(system, data) == pytest.approx(likelihood, abs=1e-9 * abs(likelihood))
    n = system.order
    filtered = filter_of(tensors(system), data)
    for number, at in enumerate(np.split(np.arange(160), [90])):
        states = results[number].predicted_state[:n, :-1].T
        assert np.allclose(predict(system, data)[0][at], states, rtol=0, atol=1e-9 * np.abs(states).max())
        covariance = results[number].predicted_state_cov[:n, :n].transpose(2, 0, 1)
        assert np.allclose(filtered.state.numpy()[at], covariance[:-1], rtol=0, atol=1e-9)
        assert np.allclose(filtered.final.numpy()[number], covariance[-1], rtol=0, atol=1e-9)
    # The smoother estimates x0 itself: the exact one starts from there.
    smooth = model.smooth(data, 0.95)
    x0 = smooth_start(system, data)
    for number, (at, u, y) in enumerate(zip(np.split(np.arange(160), [90]), U, Y, strict=True)):
        result = exact(system, u, y, x0[number])
        states = result.smoothed_state.T
        assert np.allclose(smooth.states[at], states[:, :n], rtol=0, atol=1e-8 * np.abs(states).max())
        design = np.concatenate([system.C, np.eye(outputs)], axis=1)
        mean = states @ design.T + u @ system.D.T + system.offset
        variance = np.einsum("qi,ijt,qj->tq", design, result.smoothed_state_cov, design)
        assert np.allclose(smooth.mean[at], mean, rtol=0, atol=1e-8 * np.abs(mean).max())
        half = (smooth.upper - smooth.lower)[at] / 2
        gone = np.isnan(y)
        assert np.allclose(half[gone], 1.959964 * np.sqrt(variance[gone]), rtol=1e-5)
        assert not half[~gone].any()


def smooth_start(system: System, data: Experiments) -> Array:
    return initial_states(system, data).x0


@pytest.mark.parametrize("pattern", [1, 2, 8, 9])
def test_the_gradient_is_that_of_an_exact_filter_s_likelihood(pattern: int) -> None:
    outputs = 1 + pattern % 3
    system = random_system(pattern, order=2, inputs=1, outputs=outputs, gain=0.5)
    random = np.random.default_rng(pattern)
    system = replace(system, root=np.tril(random.standard_normal((outputs, outputs))) + 2 * np.eye(outputs))
    u, y, _ = simulated(system, 60, 1.0, seed=pattern)
    y = holed(y, pattern)
    data = read_experiments(u, y)
    parts = {name: matrix.requires_grad_() for name, matrix in tensors(system).items()}
    filtered = filter_of(parts, data)
    e = torch.from_numpy(data.outputs) - predict_tensors(parts, data, filtered.gain)[1]
    likelihood = -0.5 * deviance(e, filtered.covariance, data.observed)
    found = dict(zip(parts, torch.autograd.grad(likelihood, list(parts.values())), strict=True))
    largest = max(float(gradient.abs().max()) for gradient in found.values())
    for name, gradient in found.items():
        along = random.standard_normal(gradient.shape)
        along *= 1e-3 / np.linalg.norm(along)
        near = [replace(system, **{name: getattr(system, name) + k * along}) for k in (-3, -2, -1, 1, 2, 3)]
        llf = [exact(moved, u, y, moved.x0[0]).llf for moved in near]
        # Of sixth order: what is left is rounding.
        difference = (-llf[0] + 9 * llf[1] - 45 * llf[2] + 45 * llf[3] - 9 * llf[4] + llf[5]) / 60
        assert abs(difference - float((gradient.numpy() * along).sum())) <= 1e-7 * 1e-3 * largest


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("burn_in", [0, 5])
def test_the_gradient_across_gaps_is_exact(outputs: int, burn_in: int) -> None:
    system = random_system(4, order=2, inputs=1, outputs=outputs, gain=0.5)
    system = replace(system, root=np.eye(outputs) + np.tril(np.full((outputs, outputs), 0.3)))
    u, y, _ = simulated(system, 30, 1.0, seed=1)
    data = read_experiments(u, holed(y, 2))
    layout = Layout(2, 1, outputs, 1, innovations=True, free_root=True)
    refinement = Refinement(Criterion(data, burn_in), layout, ridge=1e-3)
    theta = layout.pack(system)
    _, gradient = refinement._value_and_gradient(theta)
    for number in range(len(theta)):
        step = np.zeros_like(theta)
        step[number] = 1e-4
        near = [refinement._value_and_gradient(theta + k * step)[0] for k in (-2, -1, 1, 2)]
        # Of fourth order: what is left is rounding.
        difference = (near[0] - 8 * near[1] + 8 * near[2] - near[3]) / 12e-4
        assert abs(difference - gradient[number]) <= 1e-7 * max(1, np.abs(gradient).max())


def test_a_fit_across_gaps_is_the_maximum_of_the_exact_likelihood_and_its_prior() -> None:
    system = random_system(2, order=2, inputs=1, outputs=2, gain=0.5)
    u, y, _ = simulated(system, 80, 0.5, seed=1)
    y = holed(y, 2)
    model = StateSpace(order=2, noise="innovations", tol=1e-5).fit(u, y)
    found = model.identified_.system

    def judged(system: System) -> float:
        prior = FORGETS * forgetting(system.A - system.K @ system.C)
        return model.identified_.log_likelihood(system, model.data_) - prior

    best = judged(found)
    for name in ("A", "B", "C", "K", "D"):
        for sign in (1, -1):
            moved = replace(found, **{name: getattr(found, name) + sign * 0.02})
            assert judged(moved) < best


def test_what_is_missing_at_the_end_widens_the_forecast() -> None:
    random = np.random.default_rng(0)
    e, y = random.standard_normal(200), np.zeros(200)
    for t in range(1, 200):
        y[t] = 0.9 * y[t - 1] + e[t]
    model = StateSpace(order=1, noise="innovations").fit(None, y)
    gone = y.copy()
    gone[-5:] = np.nan
    whole, after = model.forecast(3, Y=y), model.forecast(3, Y=gone)
    later = model.forecast(8, Y=y[:-5])
    assert np.allclose(after.upper - after.lower, (later.upper - later.lower)[5:])
    assert ((after.upper - after.lower) > 1.3 * (whole.upper - whole.lower)).all()
    again = StateSpace(order=1, noise="innovations").fit(None, gone)
    assert np.allclose(again.forecast(3).upper, again.forecast(3, Y=gone).upper, rtol=1e-2)


def kalman_log_likelihood(system: System, u: Array, y: Array, S: Array, correlated: bool) -> float:
    """The likelihood by statsmodels, x0 known; correlated: state and output share the noise (innovations form)."""
    n, p = system.order, len(system.C)
    known_u = (u @ system.B.T).T
    known_y = (u @ system.D.T + system.offset).T
    if correlated:
        # The innovation is made part of the state: statsmodels wants noises that do not share.
        kf = KalmanFilter(p, n + p, k_posdef=p)
        kf.bind(np.asfortranarray(y.T))
        kf["transition"] = np.block([[system.A, system.K], [np.zeros((p, n + p))]])
        kf["design"] = np.concatenate([system.C, np.eye(p)], axis=1)
        kf["selection"] = np.concatenate([np.zeros((n, p)), np.eye(p)])
        kf["state_cov"] = S
        kf.state_intercept = np.concatenate([known_u, np.zeros((p, len(u)))])
        kf.initialize_known(
            np.concatenate([system.x0[0], np.zeros(p)]),
            np.block([[np.zeros((n, n + p))], [np.zeros((p, n)), S]]),
        )
    else:
        kf = KalmanFilter(p, n, k_posdef=n)
        kf.bind(np.asfortranarray(y.T))
        kf["transition"], kf["design"], kf["selection"] = system.A, system.C, np.eye(n)
        kf["obs_cov"], kf.state_intercept = S, known_u
        kf.initialize_known(system.x0[0], np.zeros((n, n)))
    kf.obs_intercept = known_y
    return float(kf.loglike())


@pytest.mark.parametrize(
    ("noise", "missing"),
    [("output-error", False), ("output-error", True), ("innovations", False), ("innovations", True)],
)
def test_the_likelihood_of_a_fit_is_the_kalman_filter_s(noise: str, missing: bool) -> None:
    u, y, _ = simulated(random_system(0, inputs=2), 330, 0.2, seed=1)
    U, Y = [u[:200], u[200:]], [y[:200].copy(), y[200:].copy()]
    if missing:
        random = np.random.default_rng(2)
        for part in Y:
            part[random.random(part.shape) < 0.2] = np.nan
    model = StateSpace(order=3, noise=noise).fit(U, Y)
    expected = sum(
        kalman_log_likelihood(
            replace(model.system_, x0=x0[None]), u, y, model.innovation_covariance_, noise == "innovations"
        )
        for u, y, x0 in zip(U, Y, model.x0_, strict=True)
    )
    assert model.log_likelihood() == pytest.approx(expected, rel=1e-9)
