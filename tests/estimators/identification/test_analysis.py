from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.signal import StateSpace as Discrete
from scipy.signal import dstep, freqz

from estimators.systems import random_system, simulated
from retrograd.estimators import StateSpace
from retrograd.estimators.identification.analysis import (
    fit_percent,
    frequency_response,
    modes,
    parameter_covariance,
    residual_correlation,
    step_response,
)
from retrograd.estimators.identification.experiments import read_experiments
from retrograd.estimators.identification.search import layout_of


def test_modes_of_a_damped_oscillation() -> None:
    # A second-order system of 2 Hz and damping 0.1, sampled every 0.05 s.
    natural, damping, T = 2 * np.pi * 2.0, 0.1, 0.05
    s = natural * (-damping + 1j * (1 - damping**2) ** 0.5)
    pole = np.exp(s * T)
    A = np.array([[2 * pole.real, -(abs(pole) ** 2)], [1, 0]])
    found = modes(A, T)
    assert np.allclose(found.damping, damping)
    assert np.allclose(found.time_constant, 1 / (damping * natural))
    assert np.allclose(found.frequency, 2.0 * (1 - damping**2) ** 0.5)
    assert found.poles[0] == np.conj(found.poles[1])


def test_responses_are_scipy_s() -> None:
    system = random_system(0, inputs=2)
    discrete = Discrete(system.A, system.B, system.C, system.D, dt=0.5)
    for k, response in enumerate(dstep(discrete, n=20)[1]):
        assert np.allclose(step_response(system, 20)[:, :, k], response)
    single = replace(system, B=system.B[:, :1], C=system.C[:1], D=system.D[:1, :1])
    frequencies = np.array([0.01, 0.3, 0.9])
    function = Discrete(single.A, single.B, single.C, single.D, dt=0.5).to_tf()
    _, expected = freqz(np.ravel(function.num), np.ravel(function.den), worN=2 * np.pi * frequencies * 0.5)
    assert np.allclose(frequency_response(single, frequencies, 0.5)[:, 0, 0], expected)


def test_standard_errors_are_the_spread_of_estimates() -> None:
    """Of |pole|, D and the offset over 60 noise realisations, beside what one fit says of itself."""
    system = random_system(3, order=2, inputs=1, outputs=1, gain=0.3)
    found, said = [], []
    for seed in range(60):
        u, y, _ = simulated(system, 500, 0.3, seed)
        model = StateSpace(order=2, noise="innovations").fit(u, y)
        summary = model.summary()
        found.append([abs(summary.modes.poles[0]), model.D_[0, 0], model.offset_[0]])
        errors = summary.standard_errors
        said.append([summary.modes.poles_error[0], errors["D"][0, 0], errors["offset"][0]])
    ratio = np.std(found, axis=0) / np.median(said, axis=0)
    assert (ratio > 0.7).all()
    assert (ratio < 1.4).all()


def test_the_covariance_does_not_depend_on_the_basis_where_it_must_not() -> None:
    u, y, _ = simulated(random_system(1, inputs=1), 300, 0.2, seed=0)
    model = StateSpace(order=3).fit(u, y)
    data = read_experiments(u, y)
    layout = layout_of(model, 3, data, "output-error")
    at = layout.slices()["D"]
    other = model.system_.transformed(np.random.default_rng(0).standard_normal((3, 3)))
    S = model.innovation_covariance_
    one, two = (np.diag(parameter_covariance(system, layout, data, S))[at] for system in (model.system_, other))
    assert np.allclose(one, two, rtol=1e-4)


def test_correlations_find_what_was_left_out() -> None:
    random = np.random.default_rng(0)
    u, e = random.standard_normal((2, 2000))
    delayed = np.concatenate([np.zeros(3), u[:-3]])
    data = read_experiments(u, e)
    white = residual_correlation(data, e[:, None])
    assert white.own[0, 0] == pytest.approx(1)
    assert (np.abs(white.own[1:, 0]) < white.band).mean() > 0.9
    assert (np.abs(white.with_inputs) < white.input_band).mean() > 0.9
    left = residual_correlation(data, (e + 0.5 * delayed)[:, None])
    peak = left.input_lags[np.argmax(np.abs(left.with_inputs[:, 0, 0]))]
    assert peak == 3
    assert np.abs(left.with_inputs).max() > 5 * left.input_band[0, 0]


def test_correlations_leave_missing_outputs_and_borders_out() -> None:
    random = np.random.default_rng(1)
    e = random.standard_normal(500)
    holes = e.copy()
    holes[::7] = np.nan
    data = read_experiments(None, [holes[:200], holes[200:]])
    found = residual_correlation(data, np.nan_to_num(holes, nan=1e6)[:, None], most=5)
    pieces = [holes[:200], holes[200:]]
    z = [(part - np.nanmean(holes)) / np.nanstd(holes) for part in pieces]
    expected = [np.nanmean(np.concatenate([part[lag:] * part[: len(part) - lag] for part in z])) for lag in range(6)]
    assert np.allclose(found.own[:, 0], expected)
    assert found.with_inputs.shape == (11, 1, 0)


def test_fit_percent() -> None:
    data = read_experiments(None, np.array([[1.0, 5.0], [2.0, 5.0], [3.0, np.nan]]))
    found = fit_percent(data, np.array([[1.0, 0.0], [2.0, 0.0], [2.0, 0.0]]))
    assert found[0] == pytest.approx(100 * (1 - 1 / 2**0.5))
    assert np.isnan(found[1])
