"""An autoregression about a mean season."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from retrograd.errors import InputError
from retrograd.estimators.auto.contenders import Contender
from retrograd.estimators.auto.pattern import Pattern

Array = np.ndarray[Any, Any]


def noisy(rows: int, season: int, seed: int = 0, fade: float = 0.8) -> Array:
    random = np.random.default_rng(seed)
    y, off = np.resize(3 * random.standard_normal(season), rows), 0.0
    for row, shock in enumerate(random.standard_normal(rows)):
        off = fade * off + shock
        y[row] += off
    return np.asarray(y)


@pytest.mark.parametrize("of_changes", [False, True])
def test_it_is_the_formula(of_changes: bool) -> None:
    y, season = noisy(33, 4), 4
    rule = Pattern.fit(y, season, 3, of_changes=of_changes)
    z, origin, m = np.diff(y) if of_changes else y, 32 - of_changes, rule.count
    assert (m, rule.burn) == (8, 31 + of_changes)
    means = [np.mean([z[origin - back - season * j] for j in range(m)]) for back in range(season)]
    off = [z[origin - back] - means[back % season] for back in range(3)]
    expected = []
    for ahead in range(1, 7):
        off.insert(0, float(rule.weights @ off[:3]))
        expected.append(means[-ahead % season] + off[0])
    steps = np.array([1, 3, 6])
    values = y[-1] + np.cumsum(expected) if of_changes else np.array(expected)
    np.testing.assert_allclose(rule.forecast(y, 32, 33, steps)[0], values[steps - 1], rtol=1e-12)


def test_the_weights_solve_yule_and_walker() -> None:
    y = noisy(40, 5)
    rule = Pattern.fit(y, 5, 2, of_changes=False)
    u = y - np.resize(y.reshape(8, 5).mean(axis=0), 40)
    r = [u @ u * (1 + 1e-6), u[1:] @ u[:-1], u[2:] @ u[:-2]]
    np.testing.assert_allclose(np.array([[r[0], r[1]], [r[1], r[0]]]) @ rule.weights, r[1:], rtol=1e-10)


def test_it_is_nearer_than_the_mean_season_and_knows_by_how_much() -> None:
    y, steps = noisy(600, 24), np.arange(1, 13)
    observed = y[np.arange(399, 588)[:, None] + steps]
    rule = Pattern.fit(y[:400], 24, 3, of_changes=False)
    error = np.sqrt(((rule.forecast(y, 399, 588, steps) - observed) ** 2).mean(axis=0))
    alone = Pattern(24, rule.count, np.zeros(1), 0.0, of_changes=False)
    mean_season = np.sqrt(((alone.forecast(y, 399, 588, steps) - observed) ** 2).mean(axis=0))
    assert error[0] < 0.7 * mean_season[0]
    assert error[-1] < 1.05 * mean_season[-1]
    np.testing.assert_allclose(rule.deviation(y[:400], steps), error, rtol=0.25)


@pytest.mark.parametrize("family", ["pattern", "pattern of changes"])
def test_a_file_holds_it_and_two_seasons_are_needed(family: str) -> None:
    y, x, steps = noisy(40, 6), np.zeros((40, 0)), np.array([1, 8])
    recipe = Contender("AR about the mean season (6)", family, 6, 4, True)
    fitted = recipe.fit(y, x, steps)
    held = type(fitted)(recipe, recipe.rule_of(fitted.arrays()))
    np.testing.assert_array_equal(held.forecast(y, x, 39, 40, steps), fitted.forecast(y, x, 39, 40, steps))
    assert recipe.shapes(fitted.arrays(), 2) == {name: value.shape for name, value in fitted.arrays().items()}
    with pytest.raises(InputError, match="a pattern of 6 needs 1"):
        recipe.fit(y[:11], x[:11], steps)
