"""The season as it was on average: less noise than its last repetition has.

With m seasons of s rows up to the origin t, their mean profile, the level of the last one, and what the last value is
off by, which fades:

    ŷ_{t+h} = 1/m Σ_j y_{t+h−s⌈h/s⌉−sj}  +  ȳ_{t−s+1..t} − ȳ_{t−ms+1..t}  +  φ^h u_t          j = 0..m−1

u_t is y_t less the same mean of the rows s, 2s, ..., (m−1)s before it, less their level; φ is its autocorrelation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from retrograd.errors import InputError

__all__ = ["Profile"]

Array = np.ndarray[Any, Any]

# Seasons that are averaged at most.
_MOST = 8
# Rows beside these, which tell φ.
_LEFT = 4


@dataclass(frozen=True)
class Profile:
    """A mean season.

    Attributes:
        season: s.
        count: m.
        fade: φ.
        spread: standard deviation of the errors at each place of the horizon's first season, ``(s,)``.

    Examples:
        >>> y = np.resize([1.0, 5.0, 2.0], 12)
        >>> Profile.fit(y, 3).forecast(y, 11, 12, np.array([1, 2, 3, 4]))
        array([[1., 5., 2., 1.]])
    """

    season: int
    count: int
    fade: float
    spread: Array

    @classmethod
    def fit(cls, y: Array, season: int) -> Profile:
        """Return it for a series ``(T,)``: of all its seasons, at most eight; the rows beside tell φ.

        Raises:
            InputError: there are fewer than two seasons.
        """
        count = min(_MOST, (len(y) - _LEFT) // season)
        if count < 2:
            raise InputError(f"y has {len(y)} rows, a mean season of {season} needs {2 * season + _LEFT}")
        found = cls(season, count, 0.0, np.zeros(season))
        rows = np.arange(found.burn, len(y))
        u = found._off(y, rows)
        energy = float(u[:-1] @ u[:-1])
        fade = float(np.clip(u[:-1] @ u[1:] / energy, 0.0, 0.999)) if len(u) > 2 and energy > 0 else 0.0
        steps = np.arange(1, season + 1)
        origins = np.arange(found.burn, len(y) - season)
        if len(origins) > season // 2:
            found = cls(season, count, fade, np.zeros(season))
            error = y[origins[:, None] + steps] - found.forecast(y, found.burn, len(y) - season, steps)
            return cls(season, count, fade, np.sqrt((error**2).mean(axis=0)))
        return cls(season, count, fade, np.full(season, float(u.std())))

    @property
    def burn(self) -> int:
        """The first row that can be an origin."""
        return self.count * self.season - 1

    def forecast(self, y: Array, start: int, stop: int, steps: Array) -> Array:
        """Return forecasts from the rows ``start`` to ``stop`` as the last known ones, ``(stop - start, K)``."""
        origins = np.arange(start, stop)
        back = (steps - 1) % self.season + 1 - self.season
        mean = sum(y[origins[:, None] + back - self.season * j] for j in range(self.count)) / self.count
        return np.asarray(
            mean + self._level(y, origins)[:, None] + self.fade ** steps.astype(float) * self._off(y, origins)[:, None]
        )

    def deviation(self, y: Array, steps: Array) -> Array:
        """Return the standard deviation of forecasts, ``(K,)``."""
        return np.asarray(self.spread[(steps - 1) % self.season] * np.sqrt(1 + (steps - 1) // self.season))

    def arrays(self) -> dict[str, Array]:
        """Return the numbers that it forecasts by."""
        return {"profile": np.array([self.season, self.count, self.fade]), "spread": self.spread}

    @classmethod
    def from_arrays(cls, arrays: dict[str, Array]) -> Profile:
        """Return the rule of :meth:`arrays`."""
        season, count, fade = arrays["profile"].tolist()
        return cls(int(season), int(count), fade, arrays["spread"])

    @staticmethod
    def shapes(season: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of :meth:`arrays`."""
        return {"profile": (3,), "spread": (season,)}

    def _level(self, y: Array, rows: Array) -> Array:
        """Return the mean of the last season up to each row, less that of all of them."""
        sums = np.concatenate([[0.0], y.cumsum()])[rows + 1]
        before = np.concatenate([[0.0], y.cumsum()])
        last = (sums - before[rows + 1 - self.season]) / self.season
        return np.asarray(last - (sums - before[rows + 1 - self.count * self.season]) / self.count / self.season)

    def _off(self, y: Array, rows: Array) -> Array:
        """Return by how much each row is off the mean of its place in the seasons before, at the level of now."""
        mean = sum(y[rows - self.season * j] for j in range(1, self.count)) / (self.count - 1)
        sums = np.concatenate([[0.0], y.cumsum()])
        whole = (sums[rows + 1 - self.season] - sums[rows + 1 - self.count * self.season]) / (self.count - 1)
        last = sums[rows + 1] - sums[rows + 1 - self.season]
        return np.asarray(y[rows] - mean - (last - whole) / self.season)
