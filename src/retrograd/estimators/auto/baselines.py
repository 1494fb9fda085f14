"""What has to be beaten: forecasts that need no model.

- last value: ŷ_{t+h} = y_t
- drift: ŷ_{t+h} = y_t + h d, with d the mean change a step
- seasonal naive: ŷ_{t+h} = y of the newest row at the same place of the season
- seasonal naive with drift: the same, plus d for every step since then
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from retrograd.errors import InputError

__all__ = ["Naive"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Naive:
    """A forecast by repetition.

    Attributes:
        season: rows from a value to the one that repeats it; 1 repeats the last value.
        drift: what is added for every step between them.

    Examples:
        >>> y = np.array([1.0, 5.0, 2.0, 6.0])
        >>> Naive.fit(y, season=2, drifting=True).forecast(y, 3, 4, np.array([1, 2, 3]))
        array([[3., 7., 4.]])
    """

    season: int
    drift: float

    @classmethod
    def fit(cls, y: Array, season: int, drifting: bool) -> Naive:
        """Return it for a series ``(T,)``: the drift is the mean change of a step, over whole seasons.

        Raises:
            InputError: the series is not longer than a season.
        """
        if len(y) < season + (season > 1):
            raise InputError(f"y has {len(y)} rows, a season of {season} needs more")
        span = (len(y) - 1) // season * season
        return cls(season, float(y[-1] - y[-1 - span]) / span if drifting and span else 0.0)

    @property
    def burn(self) -> int:
        """The first row that can be an origin."""
        return self.season - 1

    def forecast(self, y: Array, start: int, stop: int, steps: Array) -> Array:
        """Return forecasts from the rows ``start`` to ``stop`` as the last known ones, ``(stop - start, K)``."""
        back = (steps - 1) % self.season + 1 - self.season
        rows = np.arange(start, stop)[:, None] + back
        return np.asarray(y[rows] + self.drift * (steps - back))

    def deviation(self, y: Array, steps: Array) -> Array:
        """Return the standard deviation of forecasts, ``(K,)``: independent changes from season to season add up."""
        changes = y[self.season :] - y[: len(y) - self.season] - self.season * self.drift
        variance = float((changes**2).mean()) if len(changes) else 0.0
        return np.asarray(np.sqrt(variance * ((steps - 1) // self.season + 1)))

    def arrays(self) -> dict[str, Array]:
        """Return the numbers that it forecasts by."""
        return {"repetition": np.array([self.season, self.drift])}

    @classmethod
    def from_arrays(cls, arrays: dict[str, Array]) -> Naive:
        """Return the rule of :meth:`arrays`."""
        season, drift = arrays["repetition"].tolist()
        return cls(int(season), drift)

    @staticmethod
    def shapes() -> dict[str, tuple[int, ...]]:
        """Return the shapes of :meth:`arrays`."""
        return {"repetition": (2,)}
