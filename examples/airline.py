"""Airline passengers: two years forecast with their interval, beside repeating last year.

The monthly numbers of 1949-1958 are all that the forecast knows; what it is and how sure it is comes from them alone.
The two years after them, which it does not know, show how good it was.

    python examples/airline.py
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

import pictures
from retrograd.estimators import AutoForecaster
from retrograd.pictures import palette
from retrograd.tables import read_table

SOURCE, HELD_OUT, LEVELS = "airline", 24, (0.8, 0.95)
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Result:
    """What was forecast.

    Attributes:
        y: the whole series.
        forecast: of its last rows.
        intervals: lower and upper ends by level.
        naive: the last year known, again and again.
    """

    y: pd.Series
    forecast: pd.Series
    intervals: dict[float, tuple[Array, Array]]
    naive: Array

    @property
    def truth(self) -> Array:
        """The rows that were forecast."""
        return np.asarray(self.y.iloc[-HELD_OUT:])

    def error(self, forecast: Any) -> float:
        """Return the root mean squared error of a forecast of the last rows."""
        return float(np.sqrt(np.mean((np.asarray(forecast) - self.truth) ** 2)))

    def inside(self, level: float) -> float:
        """Return how many per cent of the true values lie in an interval."""
        lower, upper = self.intervals[level]
        return 100 * float(np.mean((lower <= self.truth) & (self.truth <= upper)))


def compute() -> Result:
    """Forecast the last rows from those before them."""
    table = read_table(SOURCE, targets=["passengers"], time="month")
    y = pd.Series(table.targets[:, 0], table.time, name="passengers")
    past = y.iloc[:-HELD_OUT]
    forecaster = AutoForecaster().fit(past, fh=range(1, HELD_OUT + 1))
    ends = forecaster.predict_interval(coverage=LEVELS)
    intervals = {
        level: tuple(ends[("passengers", level, end)].to_numpy() for end in ("lower", "upper")) for level in LEVELS
    }
    return Result(y, forecaster.predict(), intervals, np.resize(past.iloc[-12:], HELD_OUT))  # type: ignore[arg-type]


def figures(result: Result) -> dict[str, float]:
    """Return the numbers that docs/gallery.md gives."""
    return {
        "error": result.error(result.forecast),
        "error of the seasonal naive": result.error(result.naive),
        **{f"in {100 * level:g} %": result.inside(level) for level in LEVELS},
    }


def draw(result: Result) -> Any:
    """Draw the last years known, the forecast with its intervals, and what came."""
    drawn, axis = pictures.figure(size=(9.0, 3.8))
    known, ahead = result.y.iloc[-HELD_OUT - 48 : -HELD_OUT], result.y.index[-HELD_OUT:]
    for place, level in enumerate(sorted(LEVELS, reverse=True)):  # the legend tells them apart, too
        label, alpha = f"{100 * level:g} % interval", 0.2 + 0.15 * place
        axis.fill_between(ahead, *result.intervals[level], color=palette.GREEN, alpha=alpha, lw=0, label=label)
    joined = result.y.iloc[-HELD_OUT - 1 :]
    axis.plot(known.index, known, color=palette.BLACK, label="known")
    axis.plot(joined.index, joined, ":", color=palette.BLACK, label="what came")
    label = f"last year again: RMSE {result.error(result.naive):.1f}"
    axis.plot(ahead, result.naive, "--", color=palette.VERMILLION, lw=1.3, label=label)
    label = f"forecast: RMSE {result.error(result.forecast):.1f}"
    axis.plot(ahead, result.forecast, color=palette.GREEN, lw=2.2, label=label)
    axis.set(xlabel="month", ylabel="passengers, thousands")
    axis.legend(loc="upper left", fontsize=9)
    return drawn


def main() -> None:
    """Forecast, say how good it was, draw."""
    wanted = pictures.arguments(__doc__, "airline.png")
    result = compute()
    pictures.note(figures(result), wanted)
    pictures.save(draw(result), wanted.out)


if __name__ == "__main__":
    main()
