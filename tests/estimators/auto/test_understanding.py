"""What is seen of a series before anything is fitted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from retrograd.estimators.auto.understanding import (
    calendar_seasons,
    seasons_of,
    spreads_with_level,
    understand,
    wild_at_the_end,
)
from retrograd.tables.step import Step

Array = np.ndarray[Any, Any]


def noisy(season: int, rows: int, seed: int = 0) -> Array:
    random = np.random.default_rng(seed)
    return np.asarray(np.resize(2 * random.standard_normal(season), rows) + random.standard_normal(rows))


@pytest.mark.parametrize(
    ("freq", "expected"),
    [
        ("h", (24, 168)), ("30min", (48, 336)), ("D", (7,)), ("B", (5,)), ("W", (52,)), ("MS", (12,)), ("ME", (12,)),
        ("QS", (4,)), ("YS", ()),
    ],
)  # fmt: skip
def test_the_calendar_suggests_seasons(freq: str, expected: tuple[int, ...]) -> None:
    index = pd.date_range("2020-01-01", periods=40, freq=freq)
    assert calendar_seasons(Step.find(index), index) == expected


def test_numbers_and_unknown_steps_suggest_none() -> None:
    index = pd.RangeIndex(30)
    assert calendar_seasons(Step.find(index), index) is None
    assert calendar_seasons(None, pd.date_range("2020", periods=2)) is None


@pytest.mark.parametrize("season", [4, 7, 12, 24, 52])
def test_a_season_is_found_without_a_calendar(season: int) -> None:
    assert seasons_of(noisy(season, 8 * season + 60), None) == (season,)


def test_two_seasons_are_found() -> None:
    y = noisy(24, 24 * 7 * 6) + np.resize(np.repeat([0, 0, 0, 0, 0, 6, 6], 24), 24 * 7 * 6)
    assert seasons_of(y, (24, 168)) == seasons_of(y, None) == (24, 168)


def test_days_are_found_beside_weeks_that_explain_more() -> None:
    random = np.random.default_rng(1)
    hours, days = np.resize(random.standard_normal(24), 700), np.repeat([1, 1, 1, 1, 1, 0.1, 0.1], 24)
    y = 3 * hours * np.resize(days, 700) + 0.3 * random.standard_normal(700)
    assert seasons_of(y, None) == (24, 168)


@pytest.mark.parametrize("season", [4, 12, 24])
def test_multiples_of_a_season_are_no_seasons(season: int) -> None:
    assert seasons_of(noisy(season, 500, seed=1), None) == (season,)


def test_half_hours_are_found_without_a_calendar() -> None:
    y = noisy(48, 48 * 7 * 6) + np.resize(np.repeat([0, 0, 0, 0, 0, 6, 6], 48), 48 * 7 * 6)
    assert seasons_of(y, None) == (48, 336)


def test_a_trace_of_a_pattern_is_a_season_only_where_the_calendar_suggests_it() -> None:
    y = np.random.default_rng(0).standard_normal(2000).cumsum() + np.resize([0.15, 0.0, -0.15, 0.0], 2000)
    assert seasons_of(y, (4,)) == (4,)
    assert seasons_of(y, None) == ()


@pytest.mark.parametrize("seed", range(5))
def test_a_random_walk_has_no_season(seed: int) -> None:
    y = np.random.default_rng(seed).standard_normal(300).cumsum()
    assert seasons_of(y, None) == ()


def test_a_season_needs_two_of_them() -> None:
    assert seasons_of(noisy(12, 20), (12,)) == ()


def test_growth_in_per_cent_takes_logs_and_growth_in_units_does_not() -> None:
    t = np.arange(144)
    swing = np.cos(np.pi * t / 6)
    assert spreads_with_level(np.exp(t / 60 + 0.2 * swing), 12)
    assert not spreads_with_level(10 + t / 6 + swing, 12)
    assert not spreads_with_level(np.exp(t / 60 + 0.2 * swing) - 5, 12)


def test_a_given_season_is_taken() -> None:
    y = np.random.default_rng(0).standard_normal(60).cumsum()
    found = understand(y, pd.RangeIndex(60), Step.find(pd.RangeIndex(60)), [9])
    assert found.seasons == (9,)
    assert "season 9" in str(found)


def test_a_wild_value_at_the_end_is_found_and_no_other() -> None:
    t, random = np.arange(120), np.random.default_rng(0)
    calm = 10 + 3 * np.sin(2 * np.pi * t / 12) + random.standard_normal(120)
    growing = np.exp(0.1 * t + 0.05 * random.standard_normal(120))
    for y in (calm, growing, random.standard_normal(120).cumsum(), np.ones(120), calm[:10]):
        assert wild_at_the_end(y, 1) is None
    for season in (1, 12):
        for row in (117, 118, 119):
            wild = calm.copy()
            wild[row] *= 100
            found = wild_at_the_end(wild, season)
            assert found is not None
            assert found[0] == row
            assert found[1] > 100
        known = wild_at_the_end(np.append(calm, [1e6, np.nan]), season)
        assert known is not None
        assert known[0] == 120
    past = calm.copy()
    past[60] = 1e6
    assert wild_at_the_end(past, 1) is None
