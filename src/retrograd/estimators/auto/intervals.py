"""How far from the forecast the values may lie: by the errors of forecasts, or by the model's own deviation.

Split conformal with a scale (Lei, G'Sell, Rinaldo, Tibshirani and Wasserman, "Distribution-free predictive inference
for regression", 2018), for series are calm and wild by turns. e_{t,h} is the error h steps ahead from the origin t, of
rows that no fit had seen, σ_h its root mean square, and s_t says how large errors were by then:

    s_t² = (H + Σ w_r z_r²) / (H + Σ w_r)        z_r² = mean_h (e_{r−h,h} / σ_h)²        w_r = 2^(−(t − r) / H)

over the rows r ≤ t, H being the longest horizon. The interval of level c reaches as far as s_t q from the forecast: q
is the smallest |e_{t,h}| / s_t of its horizon such that those up to it have the part c of Σ v + 1, where one of a rows
ago weighs v = 2^(−a / 8H) (Barber, Candès, Ramdas and Tibshirani, "Conformal prediction beyond exchangeability", 2023).
Every s_t knows only what was known at t, so q holds how wrong it is. Errors of later rows join as they come in.

Origins next to each other share most of their errors, so this holds where those rows are many horizons long. With
fewer, the interval is Gaussian with the model's deviation, scaled by what the errors were like: by the more, the more
of them there are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy.signal import lfilter
from scipy.stats import norm

__all__ = ["Spread"]

Array = np.ndarray[Any, Any]

# So many horizons of errors are enough for each horizon's own; the model's deviation is worth so many.
_ENOUGH, _WORTH = 8, 2
# The model's deviation is believed up to so many times the largest error, or the usual deviation of the series: one
# wild value in the rows that it was fitted to makes it as large as that value.
_BELIEVED = 3
# Of the logarithm, what exp still carries.
_LARGEST = 300.0
# Longest horizons, and rows at least, after which an error weighs half as much: in the scale, and in the quantile.
_SCALE, _QUANTILE = (1, 5), (8, 25)
# Origins whose errors make the quantile at most: neighbours err alike.
_TOLD = 512


@dataclass(frozen=True)
class Spread:
    """The errors of the forecasts of one series.

    Attributes:
        errors: their sizes from every origin, the newest last, ``(n, K)``, NaN where nothing is observed (yet); of
            logarithms if ``logs``.
        deviation: the model's own, ``(K,)``.
        logs: whether both are of the logarithm.
        steps: the horizons, ``(K,)``.
        stride: rows from one origin to the next.
        late: rows after the last origin.
    """

    errors: Array
    deviation: Array
    logs: bool
    steps: Array
    stride: int = 1
    late: int = 0

    @classmethod
    def of(
        cls,
        observed: Array,
        forecasts: Array,
        deviation: Callable[[Array], Array],
        judged: Array,
        steps: Array,
        *,
        logs: bool = False,
        stride: int = 1,
        late: int | None = None,
        usual: float = 0.0,
    ) -> Spread:
        """Return it.

        Args:
            observed: what was to be forecast, ``(n, J)``, NaN where that was missing.
            forecasts: ``(n, J)``.
            deviation: the model's own, of horizons.
            judged: the horizons of ``observed``.
            steps: all horizons, ``(K,)``; what was judged at others tells the size of the deviation alone.
            logs: whether the deviation is of the logarithm.
            stride: rows from one origin to the next.
            late: rows after the last origin; by default as many as the longest horizon.
            usual: the deviation of the series, or of its logarithm, which a few wild values leave as it is; 0: unknown.
        """
        errors = np.abs(np.log(observed) - np.log(forecasts) if logs else observed - forecasts)
        own, its = deviation(steps), deviation(judged)
        squares = errors[np.isfinite(errors)] ** 2
        if usual > 0 and len(squares):
            most = _BELIEVED * max(usual, float(np.sqrt(squares.max())))
            own, its = np.minimum(own, most), np.minimum(its, most)
        late = int(judged[-1]) if late is None else late
        found = cls(errors, its, logs, judged, stride, late)
        if not np.array_equal(judged, steps):
            nothing = np.empty((0, len(steps)))
            found = replace(found, errors=nothing, deviation=_scaled(own, its, found), steps=steps, late=0)
        waiting = max(found.waiting, found.late // stride)
        unseen = np.full((waiting, len(steps)), np.nan)
        return replace(found, errors=np.concatenate([found.errors, unseen]), late=found.late % stride)

    @property
    def blocks(self) -> float:
        """How many times the longest horizon the rows are whose errors are known."""
        rows = int(np.isfinite(self.errors).any(axis=1).sum()) * self.stride
        return (rows + int(self.steps[-1]) - 1) / int(self.steps[-1]) if rows else 0.0

    @property
    def waiting(self) -> int:
        """How many of the last origins still wait for some of their values."""
        return max(1, -(-(int(self.steps[-1]) - self.late) // self.stride))

    @cached_property
    def conformal(self) -> bool:
        """Whether the errors are enough to go by."""
        return self.blocks >= _ENOUGH and bool(np.isfinite(self.errors).any(axis=0).all())

    @cached_property
    def scale(self) -> Array:
        """The scale s at every origin, ``(n,)``."""
        there = np.isfinite(self.errors)
        squares = np.where(there, self.errors, 0.0) ** 2
        means = squares.sum(axis=0) / np.maximum(there.sum(axis=0), 1)
        np.divide(squares, means, out=squares, where=means > 0)
        lags = -(-self.steps // self.stride)
        sums = np.zeros((2, len(squares) + int(lags[-1])))
        for step, lag in enumerate(lags.tolist()):
            sums[0, lag : lag + len(squares)] += squares[:, step] / len(lags)
            sums[1, lag : lag + len(squares)] += there[:, step] / len(lags)
        faded = lfilter([1.0], [1.0, -(0.5 ** (1 / self._half(_SCALE)))], sums[:, : len(squares)], axis=1)
        usual = int(self.steps[-1]) / self.stride
        return np.asarray(np.sqrt((usual + faded[0]) / (usual + faded[1])))

    def _half(self, after: tuple[int, int]) -> float:
        horizons, rows = after
        return max(horizons * int(self.steps[-1]), rows) / self.stride

    def after(self, seen: Array, late: int) -> Spread:
        """Return it with the errors of later rows.

        Args:
            seen: from the origins that were ``waiting`` and those after them, ``(m, K)``; NaN where nothing is new.
            late: rows after the last of these origins.
        """
        unseen = np.full((len(seen) - self.waiting, len(self.steps)), np.nan)
        errors = np.concatenate([self.errors, unseen])
        last = errors[len(errors) - len(seen) :]
        last[:] = np.where(np.isfinite(seen), seen, last)
        return replace(self, errors=errors, late=late)

    def reach(self, level: float, places: Array) -> Array:
        """Return how far an interval of a level reaches at some of the horizons, ``(len(places),)``."""
        if not self.conformal:
            return np.asarray(_scaled(self.deviation, self.deviation, self)[places] * norm.ppf(0.5 + level / 2))
        s = self.scale
        rows = np.arange(len(s) - 1, -1, -max(1, -(-len(s) // _TOLD)))
        sizes = self.errors[np.ix_(rows, places)] / s[rows, None]
        order, there = np.argsort(sizes, axis=0), np.isfinite(sizes)
        weights = 0.5 ** ((len(s) - 1 - rows) / self._half(_QUANTILE))
        each = np.take_along_axis(weights[:, None] * there, order, axis=0).cumsum(axis=0)
        rank = np.minimum((each < level * (each[-1] + 1)).sum(axis=0), there.sum(axis=0) - 1)
        return np.asarray(s[-1] * np.take_along_axis(sizes, order, axis=0)[rank, np.arange(len(places))])

    def bound(self, center: Array, alpha: float, places: Array) -> Array:
        """Return the quantile ``alpha`` of the values at some horizons, around forecasts ``center``."""
        shift = np.sign(alpha - 0.5) * self.reach(abs(2 * alpha - 1), places)
        if not self.logs:
            return np.asarray(center + shift)
        return np.asarray(center * np.exp(np.clip(shift, -_LARGEST, _LARGEST)))


def _scaled(deviation: Array, its: Array, of: Spread) -> Array:
    """Return a deviation scaled by the errors of a spread, which its own deviation foretold as ``its``."""
    there = np.isfinite(of.errors)
    if not there.any():
        return deviation
    square = float(np.broadcast_to(its**2, of.errors.shape)[there].mean())
    errors = float((of.errors[there] ** 2).mean())
    if square <= 0:  # a perfect fit does not say what comes of it
        return np.full(len(deviation), np.sqrt(errors))
    blocks = of.blocks
    return np.asarray(deviation * np.sqrt((blocks * errors / square + _WORTH) / (blocks + _WORTH)))
