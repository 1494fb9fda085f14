"""What is seen of a series before anything is fitted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from retrograd.estimators.auto.understanding import calendar_seasons, seasons_of, spreads_with_level, understand
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
