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
        errors: of the rolling origin, ``(n, K)``, sorted by size along n; of logarithms if ``logs``.
        deviation: the model's own, ``(K,)``, scaled.
        logs: whether both are of the logarithm.
        conformal: whether the errors are enough.
    """

    errors: Array
    deviation: Array
    logs: bool
    conformal: bool

    @classmethod
    def of(cls, observed: Array, forecasts: Array, deviation: Array, logs: bool, longest: int) -> Spread:
        """Return it for ``observed`` and ``forecasts (n, K)`` and the model's ``deviation (K,)``."""
        errors = np.abs(np.log(observed) - np.log(forecasts) if logs else observed - forecasts)
        blocks = (len(errors) + longest - 1) / longest
        usual = float((deviation**2).mean())
        if usual > 0:
            factor = float((errors**2).mean()) / usual
            scaled = deviation * np.sqrt((blocks * factor + _WORTH) / (blocks + _WORTH))
        else:  # a perfect fit does not say what comes of it
            scaled = np.sqrt((errors**2).mean(axis=0))
        return cls(np.sort(errors, axis=0), scaled, logs, blocks >= _ENOUGH)

    def reach(self, level: float, places: Array) -> Array:
        """Return how far an interval of a level reaches at some of the horizons, ``(len(places),)``."""
        if not self.conformal:
            return np.asarray(self.deviation[places] * norm.ppf(0.5 + level / 2))
        count = len(self.errors)
        rank = min(count, int(np.ceil((count + 1) * level)))
        return np.asarray(self.errors[max(rank, 1) - 1, places])

    def bound(self, center: Array, alpha: float, places: Array) -> Array:
        """Return the quantile ``alpha`` of the values at some horizons, around forecasts ``center``."""
        shift = np.sign(alpha - 0.5) * self.reach(abs(2 * alpha - 1), places)
        return np.asarray(center * np.exp(shift) if self.logs else center + shift)
