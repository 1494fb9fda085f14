"""What is chosen by default: order, noise model, start or refinement."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from estimators.systems import random_system, simulated
from retrograd.errors import InputError
from retrograd.estimators import IdentificationWarning, StateSpace
from retrograd.estimators.identification.experiments import read_experiments
from retrograd.estimators.identification.search import colour_of, drift_of
from retrograd.estimators.identification.selection import _blocks

Array = np.ndarray[Any, Any]


def slow(random: np.random.Generator, steps: int, outputs: int, rho: float) -> Array:
    """Return autoregressions of order 1 and variance 1."""
    e = random.standard_normal((steps, outputs)) * np.sqrt(1 - rho**2)
    e[0] /= np.sqrt(1 - rho**2)
    for t in range(1, steps):
        e[t] += rho * e[t - 1]
    return e


@pytest.mark.parametrize("rho", [0.0, 0.6, 0.9])
def test_colour_is_the_sum_of_squared_autocorrelations(rho: float) -> None:
    e = slow(np.random.default_rng(0), 20_000, 2, rho)
    # Σ ρ^2|k| over all k.
    assert colour_of(e, read_experiments(None, e)) == pytest.approx((1 + rho**2) / (1 - rho**2), rel=0.25)


def test_missing_residuals_and_borders_of_experiments_do_not_count() -> None:
    parts = [slow(np.random.default_rng(seed), 5000, 1, 0.8) for seed in range(2)]
    parts[0][1000:1200] = np.nan
    found = colour_of(np.nan_to_num(np.concatenate(parts)), read_experiments(None, parts))
    assert found == pytest.approx((1 + 0.64) / (1 - 0.64), rel=0.25)


@pytest.mark.parametrize(("rho", "least", "most"), [(0.0, 0.0, 0.1), (0.8, 0.0, 0.3), (0.999, 0.8, 1.0)])
def test_drift_is_slow_power(rho: float, least: float, most: float) -> None:
    parts = [slow(np.random.default_rng(seed), 1000, 1, rho) for seed in range(5)]
    parts[0][400:500] = np.nan
    # Where an experiment begins says nothing: a level that jumps there would be a drift.
    assert least <= drift_of(np.nan_to_num(np.concatenate(parts)), read_experiments(None, parts)) <= most


def test_blocks_hold_every_step_once_and_train_on_all_others() -> None:
    y = np.arange(1000.0)
    pieces = list(_blocks(read_experiments(None, [y[:300], y[300:]])))
    held = np.concatenate([held.outputs[:, 0] for _, held, _ in pieces])
    assert np.array_equal(np.sort(held), y)
    # The second experiment's first piece goes on from nothing, though the first one's last ends there.
    before = [[None if at is None else train.split(train.outputs)[at][-1, 0] for at in on] for train, _, on in pieces]
    assert before == [[None], [249.0, None], [499.0], [749.0]]
    for train, block, _ in pieces:
        assert len(train.outputs) + len(block.outputs) == 1000
        assert not np.intersect1d(train.outputs, block.outputs).size


@pytest.mark.filterwarnings("ignore::retrograd.estimators.identification.cautions.IdentificationWarning")
def test_coloured_residuals_do_not_buy_orders() -> None:
    """Of 600 residuals that last, some 20 are worth an independent one: BIC of 600 would take the largest order."""
    random = np.random.default_rng(3)
    system = replace(random_system(5, order=2, inputs=1, outputs=1), K=np.zeros((2, 1)))
    u, y, _ = simulated(system, 1200, 0.0, seed=1)
    y = y + y.std() * slow(random, 1200, 1, 0.97)
    model = StateSpace(noise="output-error").fit(u[:600], y[:600])
    assert 2 <= model.order_ <= 4
    assert "residuals as independent" in model.reasons_[0]
    fixed = StateSpace(order=10, noise="output-error").fit(u[:600], y[:600])
    truth, x0 = replace(system, x0=np.zeros((1, 2))), np.zeros(2)
    clean = simulated(truth, 1200, 0.0, seed=1)[1]
    error = [np.std(one.simulate(u, x0 if one is None else None) - clean) for one in (model, fixed)]
    assert error[0] < error[1]


@pytest.mark.filterwarnings("ignore::retrograd.estimators.identification.cautions.IdentificationWarning")
def test_noise_is_chosen() -> None:
    system = random_system(0, order=2, inputs=1, outputs=1, gain=0.0)
    u, y, _ = simulated(system, 500, 0.3, seed=0)
    white = StateSpace(order=2).fit(u, y)
    assert (white.noise_, white.reasons_) == ("output-error", ("Output error: its residuals are white.",))
    assert not white.K_.any()
    alone = StateSpace(order=2).fit(None, y)
    assert (alone.noise_, alone.reasons_) == ("innovations", ("Innovations: there are no inputs.",))
    # A disturbance that lasts, and is nearly all that there is: only a model that knows it finds the plant.
    A, K = np.array([[0.97, 0.0], [0.0, 0.5]]), np.array([[0.9], [0.0]])
    system = replace(system, A=A, B=np.array([[0.0], [1.0]]), C=np.ones((1, 2)), D=np.zeros((1, 1)), K=K)
    u, y, _ = simulated(system, 800, 1.0, seed=4)
    inside = StateSpace(order=2).fit(u, y)
    assert inside.noise_ in inside.reasons_[-1].lower().replace(" ", "-")
    assert "held-out blocks" in inside.reasons_[-1]


def test_a_refinement_that_runs_worse_over_held_out_blocks_is_not_kept() -> None:
    kept, drifts = [], 0
    for seed in range(8):
        random = np.random.default_rng(seed)
        system = replace(random_system(seed, order=4, inputs=1), K=np.zeros((4, 2)))
        u, y, _ = simulated(system, 400, 0.0, seed=seed)
        walk = np.cumsum(random.standard_normal((400, 2)), axis=0)
        model = StateSpace(order=4, noise="output-error").fit(u, y + walk / walk.std(axis=0) * y.std(axis=0))
        kept.append(model.stop_reason_ == "the subspace start is kept")
        assert kept[-1] == any("The subspace start is kept: over held-out" in reason for reason in model.reasons_)
        assert model.converged_
        drifts += any(
            "the residuals drift: a refinement has to run clearly better" in reason for reason in model.reasons_
        )
    assert 0 < drifts <= sum(kept) < 8


@pytest.mark.filterwarnings(f"ignore::{IdentificationWarning.__module__}.IdentificationWarning")
@pytest.mark.parametrize("kind", ["trend", "sines"])
def test_no_order_is_tried_beyond_the_rank_of_data_without_noise(kind: str) -> None:
    t = np.arange(96.0)
    # A line has two modes; two sines have four, and what is left of the level when the mean is taken off is one more.
    y, rank = {"trend": (3 + 2 * t, 2), "sines": (np.sin(0.5 * t) + np.sin(1.3 * t), 5)}[kind]
    model = StateSpace().fit(None, y)
    assert max(model.order_criteria_) == rank
    # The state that is found for the data of the fit predicts them as well as the one that was fitted.
    found, fitted = (np.sqrt(np.mean((model.predict(None, y, x0=x0)[:, 0] - y) ** 2)) for x0 in (None, model.x0_[0]))
    assert found <= fitted * (1 + 1e-6)


def test_noise_has_every_rank() -> None:
    y = 3 + 2 * np.arange(96.0) + 1e-6 * np.random.default_rng(0).standard_normal(96)
    model = StateSpace(max_order=4)
    with pytest.warns(IdentificationWarning):
        model.fit(None, y)
    assert max(model.order_criteria_) == 4


def test_the_best_state_is_no_worse_than_the_fitted_one_in_a_basis_of_nearly_parallel_states() -> None:
    y = 3 + 2 * np.arange(96.0)
    with pytest.warns(IdentificationWarning):
        model = StateSpace(order=5).fit(None, y)
    found, fitted = (np.sqrt(np.mean((model.predict(None, y, x0=x0)[:, 0] - y) ** 2)) for x0 in (None, model.x0_[0]))
    assert found <= fitted * (1 + 1e-6)


def test_an_unstable_system_is_found_where_it_is_allowed() -> None:
    random = np.random.default_rng(0)
    u, y = random.standard_normal(160), np.zeros(160)
    for t in range(159):
        y[t + 1] = 1.05 * y[t] + u[t]
    y += 0.05 * random.standard_normal(160)
    model = StateSpace(stability=False, max_order=4).fit(u, y)
    assert np.abs(model.poles_[0] - 1.05) < 1e-5
    assert np.sqrt(np.mean((model.predict(u, y)[:, 0] - y) ** 2)) < 0.06


@pytest.mark.filterwarnings(f"ignore::{IdentificationWarning.__module__}.IdentificationWarning")
def test_growth_goes_beyond_the_circle_and_a_trend_does_not() -> None:
    t, random = np.arange(92.0), np.random.default_rng(0)
    noise = random.standard_normal(92)
    growing, rising = (StateSpace(max_order=3).fit(None, y[:80]) for y in (10 * np.exp(0.03 * t) + noise, t + noise))
    assert growing.reasons_[-1].startswith("The data grow: a mode of size 1.03")
    assert np.abs(growing.poles_[0]) == pytest.approx(np.exp(0.03), abs=3e-3)
    ahead = growing.forecast(12).mean[:, 0] - 10 * np.exp(0.03 * t[80:])
    assert np.abs(ahead).max() < 3
    assert not any("The data grow" in reason for reason in rising.reasons_)
    assert np.abs(rising.poles_).max() < 1
    held = StateSpace(max_order=3, stability=True).fit(None, 10 * np.exp(0.03 * t[:80]) + noise[:80])
    assert np.abs(held.poles_).max() < 1


def test_stability_is_one_of_three() -> None:
    with pytest.raises(InputError, match="stability is 'yes'"):
        StateSpace(stability="yes").fit(None, np.arange(20.0))
