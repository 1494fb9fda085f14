"""The season as it was on average."""

from __future__ import annotations

import numpy as np
import pytest

from retrograd.errors import InputError
from retrograd.estimators.auto.contenders import Contender
from retrograd.estimators.auto.profile import Profile


def test_it_is_the_formula() -> None:
    random, season = np.random.default_rng(0), 4
    y = random.standard_normal(25)
    rule = Profile.fit(y, season)
    steps, origin, m = np.array([1, 4, 5, 9]), 23, rule.count
    assert (rule.season, m, rule.burn) == (4, 5, 19)
    level = y[origin - 3 : origin + 1].mean() - y[origin - m * season + 1 : origin + 1].mean()
    before = [y[origin - season * j] for j in range(1, m)]
    past = y[origin - m * season + 1 : origin - season + 1].mean()
    off = y[origin] - np.mean(before) - (y[origin - 3 : origin + 1].mean() - past)
    for step, said in zip(steps, rule.forecast(y, origin, origin + 1, steps)[0], strict=True):
        newest = origin + step - season * -(-step // season)
        mean = np.mean([y[newest - season * j] for j in range(m)])
        np.testing.assert_allclose(said, mean + level + rule.fade**step * off, rtol=1e-12)


def test_a_mean_season_is_nearer_than_the_last_one() -> None:
    random, t = np.random.default_rng(1), np.arange(140)
    y = np.resize(random.standard_normal(7), 140) + 0.5 * random.standard_normal(140) + t / 70
    steps = np.arange(1, 8)
    rule = Profile.fit(y[:100], 7)
    observed = y[np.arange(99, 133)[:, None] + steps]
    error = np.sqrt(((rule.forecast(y, 99, 133, steps) - observed) ** 2).mean())
    last = np.sqrt(((y[np.arange(99, 133)[:, None] + steps - 7] - observed) ** 2).mean())
    assert error < 0.85 * last
    np.testing.assert_allclose(rule.deviation(y[:100], steps), error, rtol=0.5)


def test_a_file_holds_it_and_two_seasons_are_needed() -> None:
    y = np.random.default_rng(2).standard_normal(30)
    recipe = Contender("mean season (6)", "profile", 6, 0, True)
    x, steps = np.zeros((30, 0)), np.array([1, 8])
    fitted = recipe.fit(y, x, steps)
    held = type(fitted)(recipe, recipe.rule_of(fitted.arrays()))
    np.testing.assert_array_equal(held.forecast(y, x, 29, 30, steps), fitted.forecast(y, x, 29, 30, steps))
    assert recipe.shapes(fitted.arrays(), 2) == {name: value.shape for name, value in fitted.arrays().items()}
    with pytest.raises(InputError, match="a mean season of 6 needs 16"):
        recipe.fit(y[:15], x[:15], steps)
