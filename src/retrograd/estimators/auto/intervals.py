"""How far from the forecast the values may lie: by the errors of a rolling origin, or by the model's own deviation.

Split conformal, with weights that fade (Barber, Candès, Ramdas and Tibshirani, "Conformal prediction beyond
exchangeability", 2023): series are calm and wild by turns, so the newest errors tell most. Of forecasts h steps ahead
of rows that no fit had seen, an error of a origins ago weighs w = 2^(−a / H), with H two longest horizons but no fewer
than 25 origins. The interval of level c reaches as far as the smallest error such that those up to it have the part c
of Σ w + 1. Origins next to each other share most of their errors, so this holds where the judging rows are many
horizons long. With fewer, the interval is Gaussian with the model's deviation, scaled by what the errors were like: by
the more, the more of them there are.
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
# The model's deviation is believed up to so many times the largest error, or the usual deviation of the series: one
# wild value in the rows that it was fitted to makes it as large as that value.
_BELIEVED = 3
# Of the logarithm, what exp still carries.
_LARGEST = 300.0
# Longest horizons, and origins at least, after which an error weighs half as much.
_HALF, _LEAST = 2, 25


@dataclass(frozen=True)
class Spread:
    """The errors of the forecasts of one series.

    Attributes:
        errors: their sizes over the rolling origin, ``(n, K)``, NaN where nothing was observed; of logarithms if
            ``logs``. None (n = 0) where they are too few to go by.
        deviation: the model's own, ``(K,)``, scaled.
        logs: whether both are of the logarithm.
        half: origins after which an error weighs half as much.
    """

    errors: Array
    deviation: Array
    logs: bool
    half: float

    @classmethod
    def of(
        cls,
        observed: Array,
        forecasts: Array,
        deviation: Array,
        judged: Array,
        logs: bool,
        blocks: float,
        usual: float = 0.0,
    ) -> Spread:
        """Return it.

        Args:
            observed: what was to be forecast, ``(n, K)``, NaN where that was missing.
            forecasts: ``(n, K)``.
            deviation: the model's own, at every horizon.
            judged: the model's own, at the horizons of ``observed``.
            logs: whether the deviation is of the logarithm.
            blocks: how many times the longest horizon the judging rows are.
            usual: the deviation of the series, or of its logarithm, which a few wild values leave as it is; 0: unknown.
        """
        errors = np.abs(np.log(observed) - np.log(forecasts) if logs else observed - forecasts)
        squares = errors[np.isfinite(errors)] ** 2
        if usual > 0 and len(squares):
            most = _BELIEVED * max(usual, float(np.sqrt(squares.max())))
            deviation, judged = np.minimum(deviation, most), np.minimum(judged, most)
        square = float((judged**2).mean())
        if square > 0 and len(squares):
            factor = float(squares.mean()) / square
            deviation = deviation * np.sqrt((blocks * factor + _WORTH) / (blocks + _WORTH))
        elif len(squares):  # a perfect fit does not say what comes of it
            deviation = np.full(len(deviation), np.sqrt(squares.mean()))
        every = errors.shape[1] == len(deviation) and bool(np.isfinite(errors).any(axis=0).all())
        kept = errors if every and blocks >= _ENOUGH else np.empty((0, len(deviation)))
        return cls(kept, deviation, logs, max(_HALF * len(errors) / blocks, float(_LEAST)))

    @property
    def conformal(self) -> bool:
        """Whether the errors are enough to go by."""
        return len(self.errors) > 0

    def reach(self, level: float, places: Array) -> Array:
        """Return how far an interval of a level reaches at some of the horizons, ``(len(places),)``."""
        if not self.conformal:
            return np.asarray(self.deviation[places] * norm.ppf(0.5 + level / 2))
        errors = self.errors[:, places]
        order, there = np.argsort(errors, axis=0), np.isfinite(errors)
        weights = 0.5 ** (np.arange(len(errors))[::-1] / self.half)
        each = np.take_along_axis(weights[:, None] * there, order, axis=0).cumsum(axis=0)
        rank = np.minimum((each < level * (each[-1] + 1)).sum(axis=0), there.sum(axis=0) - 1)
        return np.asarray(np.take_along_axis(errors, order, axis=0)[rank, np.arange(len(places))])

    def bound(self, center: Array, alpha: float, places: Array) -> Array:
        """Return the quantile ``alpha`` of the values at some horizons, around forecasts ``center``."""
        shift = np.sign(alpha - 0.5) * self.reach(abs(2 * alpha - 1), places)
        if not self.logs:
            return np.asarray(center + shift)
        return np.asarray(center * np.exp(np.clip(shift, -_LARGEST, _LARGEST)))
