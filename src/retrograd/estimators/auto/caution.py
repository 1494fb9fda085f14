"""Caution: where models foresee little beside what they miss, the naive forecast stands.

With n the seasonal naive forecast (or the last value), f that of the models and σ_h what they miss h steps ahead, both
from the rolling origin, a forecast foresees

    z_h = √ mean_{k ≤ h} ((f_k − n_k) / σ_k)²         g_h = n_h + λ(z_h) (f_h − n_h)

λ is 0 up to half a threshold τ, 1 from τ on, linear between. Small differences to the naive are wrong nearly as often
as right, and gain little where they are right; large ones carry the gain. τ is where

    RMSE(τ) / RMSE(0) + β P(τ)

is least over the rolling origin: P is the part of the forecasts that err more than the naive one by over a twentieth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Caution", "errors_of"]

Array = np.ndarray[Any, Any]

# Thresholds that are tried, and how much more than the naive a forecast may err, RMSE over the horizons. What moves as
# far as it usually misses is listened to, unless nothing is.
_THRESHOLDS, _MORE = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1, np.inf), 1.05
# β: so that of a hundred forecasts four fewer err more than the naive, the RMSE may be one per cent higher.
_BETA = 0.25


@dataclass(frozen=True)
class Caution:
    """When models are listened to.

    Attributes:
        threshold: τ; 0 listens always, ∞ never.
        missed: σ ``(K,)``.
    """

    threshold: float
    missed: Array

    @classmethod
    def of(cls, observed: Array, naive: Array, forecasts: Array) -> Caution:
        """Return it for what was to be forecast ``(n, K)``, NaN where missing, and what was said of it.

        Args:
            observed: the values.
            naive: forecasts of the baseline.
            forecasts: of the models.

        Examples:
            >>> observed = np.ones((8, 12))
            >>> always_better = Caution.of(observed, np.zeros((8, 12)), np.full((8, 12), 0.9))
            >>> always_worse = Caution.of(observed, np.full((8, 12), 0.9), np.zeros((8, 12)))
            >>> always_better.threshold, always_worse.threshold
            (0.0, inf)
        """
        there = np.isfinite(observed)
        squares = np.where(there, (observed - forecasts) ** 2, 0.0)
        missed = np.sqrt(squares.sum(axis=0) / np.maximum(there.sum(axis=0), 1))
        too_much, whole = _MORE * errors_of(observed, naive), float(squares.sum())
        if whole == 0:
            return cls(0.0, missed)

        def loss(caution: Caution) -> float:
            tempered = caution.temper(naive, forecasts)
            ratio = float(np.where(there, (observed - tempered) ** 2, 0.0).sum()) / whole
            return float(np.sqrt(ratio)) + _BETA * float((errors_of(observed, tempered) > too_much).mean())

        return min((cls(float(threshold), missed) for threshold in _THRESHOLDS), key=loss)

    def temper(self, naive: Array, forecasts: Array) -> Array:
        """Return ``(n, H)`` forecasts, drawn to the naive ones where they foresee little; H horizons from the first."""
        if self.threshold == 0:
            return forecasts
        if np.isinf(self.threshold):
            return naive
        moves = forecasts - naive
        missed = self.missed[: moves.shape[1]]
        told = np.divide(moves, missed, out=np.full_like(moves, np.inf), where=missed > 0)
        told = np.where(moves == 0, 0.0, np.minimum(np.abs(told), 1e6))
        z = np.sqrt((told**2).cumsum(axis=1) / np.arange(1, moves.shape[1] + 1))
        return np.asarray(naive + np.clip(2 * z / self.threshold - 1, 0.0, 1.0) * moves)


def errors_of(observed: Array, forecasts: Array) -> Array:
    """Return the RMSE of every forecast over its horizons, ``(n,)``; 0 where nothing was observed."""
    there = np.isfinite(observed)
    squares = np.where(there, (observed - forecasts) ** 2, 0.0)
    return np.asarray(np.sqrt(squares.sum(axis=1) / np.maximum(there.sum(axis=1), 1)))
