"""The first picture of the README: a forecast that beats repeating last year, with intervals that grow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gallery import draws, lines


def test_the_forecast_is_better_than_last_year_again(example: Any, tmp_path: Path) -> None:
    airline = example("airline")
    result = airline.compute()
    assert result.error(result.forecast) < 0.6 * result.error(result.naive)
    (inner, outer) = (upper - lower for lower, upper in (result.intervals[level] for level in airline.LEVELS))
    assert (outer > inner).all()
    assert outer[-12:].mean() > outer[:12].mean()
    assert result.inside(0.95) >= 80
    (axis,) = draws(airline, result, tmp_path / "airline.png", [("month", "passengers, thousands", "linear", "linear")])
    assert {"known", "what came"} <= set(lines(axis))
    assert [label for label in lines(axis) if label.startswith("forecast: RMSE")]
