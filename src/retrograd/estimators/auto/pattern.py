"""An autoregression about the season as it was on average: what is off the mean of each place, and how it goes on.

With p_i the mean over the last m seasons of s rows of what stood at the place of row i, all seen from the origin t,

    u_i = y_i − p_i        ŷ_{t+h} = p_{t+h} + û_{t+h}        û_i = Σ_j a_j û_{i−j},  û_i = u_i for i ≤ t

a is by Yule and Walker from stretches of m seasons, each less its own means, so forecasts never run off. Of changes,
y is y_i − y_{i−1}, and forecasts are summed up again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import solve_toeplitz

from retrograd.errors import InputError

__all__ = ["Pattern"]

Array = np.ndarray[Any, Any]

# Seasons that are averaged at most.
_MOST = 8
# What is added to the variance, relative to it: a pattern without noise has no equations to solve.
_LEAST = 1e-6


@dataclass(frozen=True)
class Pattern:
    """A mean season and an autoregression about it.

    Attributes:
        season: s.
        count: m.
        weights: a, ``(order,)``.
        variance: of what the autoregression leaves.
        of_changes: whether y is the changes of the series.

    Examples:
        >>> y = np.resize([1.0, 5.0, 2.0], 12)
        >>> Pattern.fit(y, 3, 2, of_changes=False).forecast(y, 11, 12, np.array([1, 2, 3, 4]))
        array([[1., 5., 2., 1.]])
    """

    season: int
    count: int
    weights: Array
    variance: float
    of_changes: bool

    @classmethod
    def fit(cls, y: Array, season: int, order: int, *, of_changes: bool) -> Pattern:
        """Return it for a series ``(T,)``, the order at most a third of the rows that are averaged.

        Raises:
            InputError: there are fewer than two seasons.
        """
        z = np.diff(y) if of_changes else y
        count = min(_MOST, len(z) // season)
        if count < 2:
            raise InputError(f"y has {len(y)} rows, a pattern of {season} needs {2 * season + of_changes}")
        stretches = z[len(z) % (count * season) :].reshape(-1, count, season)
        u = (stretches - stretches.mean(axis=1, keepdims=True)).reshape(len(stretches), -1)
        order = min(order, count * season // 3)
        products = np.array([(u[:, lag:] * u[:, : u.shape[1] - lag]).sum() for lag in range(order + 1)])
        if products[0] <= 0:
            return cls(season, count, np.zeros(order), 0.0, of_changes)
        products[0] *= 1 + _LEAST
        weights = solve_toeplitz(products[:-1], products[1:])
        left = max(float(products[0] - weights @ products[1:]), 0.0) / u.size
        # The means are of the same rows: they took a part 1 / m of the variance with them.
        return cls(season, count, weights, left * count / (count - 1), of_changes)

    @property
    def burn(self) -> int:
        """The first row that can be an origin."""
        return self.count * self.season - 1 + self.of_changes

    def forecast(self, y: Array, start: int, stop: int, steps: Array) -> Array:
        """Return forecasts from the rows ``start`` to ``stop`` as the last known ones, ``(stop - start, K)``."""
        z, origins = (np.diff(y), np.arange(start, stop) - 1) if self.of_changes else (y, np.arange(start, stop))
        order, longest = len(self.weights), int(steps[-1])
        ahead = np.arange(1 - order, longest + 1)
        # The newest known row at the same place as each of these.
        newest = np.where(ahead <= 0, ahead, (ahead - 1) % self.season + 1 - self.season)
        rows = origins[:, None] + newest
        found = np.zeros(rows.shape)
        for back in range(self.count):
            found += z[rows - self.season * back] / self.count
        off = np.zeros(found.shape)
        off[:, :order] = z[rows[:, :order]] - found[:, :order]
        for place in range(order, order + longest):
            off[:, place] = off[:, place - order : place] @ self.weights[::-1]
        found = (found + off)[:, order:]
        if self.of_changes:
            found = y[start:stop, None] + found.cumsum(axis=1)
        return np.asarray(found[:, steps - 1])

    def deviation(self, y: Array, steps: Array) -> Array:
        """Return the standard deviation of forecasts, ``(K,)``: of the autoregression, and of means of m values."""
        psi = np.zeros(len(self.weights) + int(steps[-1]))
        psi[len(self.weights)] = 1.0
        for place in range(len(self.weights) + 1, len(psi)):
            psi[place] = psi[place - len(self.weights) : place] @ self.weights[::-1]
        psi = psi[len(self.weights) :]
        moved = psi.cumsum() if self.of_changes else psi
        return np.asarray(np.sqrt(self.variance * (1 + 1 / self.count) * (moved**2).cumsum())[steps - 1])

    def arrays(self) -> dict[str, Array]:
        """Return the numbers that it forecasts by."""
        rest = np.array([self.season, self.count, self.variance, self.of_changes], dtype=float)
        return {"pattern": rest, "weights": self.weights}

    @classmethod
    def from_arrays(cls, arrays: dict[str, Array]) -> Pattern:
        """Return the rule of :meth:`arrays`."""
        season, count, variance, of_changes = arrays["pattern"].tolist()
        return cls(int(season), int(count), arrays["weights"], variance, bool(of_changes))

    @staticmethod
    def shapes(arrays: dict[str, Array]) -> dict[str, tuple[int, ...]]:
        """Return the shapes of :meth:`arrays`."""
        return {"pattern": (4,), "weights": (len(arrays["weights"]),)}
