"""Intervals that hold what is not known of the parameters, and intervals across gaps: how often the truth is inside."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from estimators.systems import random_system, simulated
from retrograd.errors import InputError
from retrograd.estimators import IdentificationWarning, StateSpace

Array = np.ndarray[Any, Any]


def fitted(y: Array, u: Array | None = None, **settings: Any) -> StateSpace:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", IdentificationWarning)
        return StateSpace(noise="innovations", **settings).fit(u, y)


def test_the_variance_of_a_forecast_is_that_of_forecasts_of_many_fits() -> None:
    """Fits to other innovations of the same system go on from the same data: their forecasts differ by parameters."""
    system = random_system(3, order=1, inputs=1, outputs=1, gain=0.3)
    future = np.ones((4, 1))
    u, y, _ = simulated(system, 400, 0.3, seed=0)
    runs = [simulated(system, 400, 0.3, seed=seed)[:2] for seed in range(100, 130)]
    models = [fitted(outputs, inputs, order=1) for inputs, outputs in runs]
    spread = np.std([model.forecast(4, future, U=u, Y=y).mean for model in models], axis=0)
    told = []
    for model in models:
        wide, narrow = (model.forecast(4, future, U=u, Y=y, parameters=known) for known in (True, False))
        half = [(each.upper - each.lower) / (2 * 1.959964) for each in (wide, narrow)]
        told.append(half[0] ** 2 - half[1] ** 2)
    assert np.allclose(np.sqrt(np.mean(told, axis=0)), spread, rtol=0.3)


def test_parameters_widen_every_interval_and_want_the_data_of_the_fit(tmp_path: Any) -> None:
    u, y, _ = simulated(random_system(1, order=2, inputs=1, outputs=2), 120, 0.3, seed=1)
    model = fitted(y, u, order=2)
    future = np.random.default_rng(0).standard_normal((5, 1))
    wide, narrow = (model.forecast(5, future, parameters=known) for known in (True, False))
    assert np.array_equal(wide.mean, narrow.mean)
    assert (wide.upper - wide.lower > narrow.upper - narrow.lower).all()
    model.save(tmp_path / "model")
    with pytest.raises(InputError, match="does not hold the data of its fit"):
        StateSpace.load(tmp_path / "model").forecast(5, future, parameters=True)


def share_inside(systems: int, parameters: bool) -> tuple[float, float]:
    """Return shares of 10 steps in their 95 % intervals: after the data, and right after a gap at their end.

    A fifth of the outputs of each system is missing, in blocks.
    """
    inside: tuple[list[Array], list[Array]] = ([], [])
    for seed in range(systems):
        random = np.random.default_rng(seed)
        system = replace(random_system(seed, order=2, inputs=1, outputs=1, gain=0.5), x0=np.zeros((1, 2)))
        u, y, _ = simulated(system, 210, 0.5, seed=1000 + seed)
        seen = y[:200].copy()
        for start in random.choice(19, 4, replace=False) * 10:
            seen[start : start + 10] = np.nan
        if seed % 2:
            seen[190:] = np.nan
        coming = fitted(seen, u[:200], order=2, max_iter=15).forecast(10, u[200:], parameters=parameters)
        inside[seed % 2].append((coming.lower <= y[200:]) & (y[200:] <= coming.upper))
    return float(np.mean(inside[0])), float(np.mean(inside[1]))


@pytest.mark.slow
def test_95_percent_intervals_hold_across_gaps_and_after_one() -> None:
    """Of 20 systems, half of them after a gap, 10 steps each; `make bench-estimators` counts 200 systems."""
    for share in share_inside(20, parameters=True):
        assert 0.9 <= share <= 0.99
