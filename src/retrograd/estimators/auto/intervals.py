"""How far from the forecast the values may lie: by the errors of a rolling origin, or by the model's own deviation.

Split conformal: of n forecasts h steps ahead of rows that no fit had seen, the interval of level c reaches as far as
the ⌈(n + 1) c⌉-th smallest error did. Origins next to each other share most of their errors, so this holds where the
judging rows are many horizons long. With fewer, the interval is Gaussian with the model's deviation, scaled by what the
errors were like: by the more, the more of them there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import norm

__all__ = ["Spread"]

Array = np.ndarray[Any, Any]

# So many horizons of judging rows are enough for each horizon's own errors; the model's deviation is worth so many.
_ENOUGH, _WORTH = 8, 2


@dataclass(frozen=True)
class Spread:
    """The errors of the forecasts of one series.

    Attributes:
        errors: of the rolling origin, ``(n, K)``, sorted by size along n, NaN last; of logarithms if ``logs``. None
            (n = 0) where they are too few to go by.
        deviation: the model's own, ``(K,)``, scaled.
        logs: whether both are of the logarithm.
    """

    errors: Array
    deviation: Array
    logs: bool

    @classmethod
    def of(
        cls, observed: Array, forecasts: Array, deviation: Array, judged: Array, logs: bool, blocks: float
    ) -> Spread:
        """Return it.

        Args:
            observed: what was to be forecast, ``(n, K)``, NaN where that was missing.
            forecasts: ``(n, K)``.
            deviation: the model's own, at every horizon.
            judged: the model's own, at the horizons of ``observed``.
            logs: whether the deviation is of the logarithm.
            blocks: how many times the longest horizon the judging rows are.
        """
        errors = np.abs(np.log(observed) - np.log(forecasts) if logs else observed - forecasts)
        squares, usual = errors[np.isfinite(errors)] ** 2, float((judged**2).mean())
        if usual > 0 and len(squares):
            factor = float(squares.mean()) / usual
            deviation = deviation * np.sqrt((blocks * factor + _WORTH) / (blocks + _WORTH))
        elif len(squares):  # a perfect fit does not say what comes of it
            deviation = np.full(len(deviation), np.sqrt(squares.mean()))
        every = errors.shape[1] == len(deviation) and bool(np.isfinite(errors).any(axis=0).all())
        kept = np.sort(errors, axis=0) if every and blocks >= _ENOUGH else np.empty((0, len(deviation)))
        return cls(kept, deviation, logs)

    @property
    def conformal(self) -> bool:
        """Whether the errors are enough to go by."""
        return len(self.errors) > 0

    def reach(self, level: float, places: Array) -> Array:
        """Return how far an interval of a level reaches at some of the horizons, ``(len(places),)``."""
        if not self.conformal:
            return np.asarray(self.deviation[places] * norm.ppf(0.5 + level / 2))
        errors = self.errors[:, places]
        count = np.isfinite(errors).sum(axis=0)
        rank = np.clip(np.ceil((count + 1) * level).astype(np.int64), 1, count)
        return np.asarray(errors[rank - 1, np.arange(len(places))])

    def bound(self, center: Array, alpha: float, places: Array) -> Array:
        """Return the quantile ``alpha`` of the values at some horizons, around forecasts ``center``."""
        shift = np.sign(alpha - 0.5) * self.reach(abs(2 * alpha - 1), places)
        return np.asarray(center * np.exp(shift) if self.logs else center + shift)
