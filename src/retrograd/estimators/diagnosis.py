"""What a series does from row to row, and what its prediction one step ahead leaves over, as numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import chi2

__all__ = ["Movement", "Residuals", "movement", "residuals"]

Array = np.ndarray[Any, Any]

# Deviations from which a residual counts as an outlier.
_FAR = 4.0


@dataclass(frozen=True)
class Movement:
    """Trend and season of a series.

    Attributes:
        slope: mean change a step over whole seasons.
        turns: standard deviation of that mean: a slope below twice as much is none.
        share: part of the variance of the changes from row to row that the season's pattern explains.
    """

    slope: float
    turns: float
    share: float


@dataclass(frozen=True)
class Residuals:
    """Errors one step ahead.

    Attributes:
        count: how many.
        deviation: their standard deviation.
        bias: their mean, observed less predicted.
        biased: whether that stands out of chance (5 %).
        correlations: with the error 1 step before, and a season before where there is one.
        limit: what chance alone stays below in 95 % of all cases.
        p: of Ljung and Box's test that there is no correlation at any of the first lags; NaN where it cannot be told.
        outliers: how many lie more than four deviations from their mean.
        growth: deviation of the later half relative to that of the earlier one.
    """

    count: int
    deviation: float
    bias: float
    biased: bool
    correlations: dict[int, float]
    limit: float
    p: float
    outliers: int
    growth: float


def movement(y: Array, season: int = 1) -> Movement:
    """Return trend and season of a series ``(T,)``; NaN counts as missing.

    Examples:
        >>> found = movement(np.arange(40.0) + np.tile([0.0, 5.0, 1.0, 3.0], 10), season=4)
        >>> found.slope, round(found.share, 6)
        (1.0, 1.0)
    """
    jumps = y[season:] - y[:-season]
    jumps = jumps[np.isfinite(jumps)]
    changes = np.diff(y)
    slope = float(jumps.mean()) / season if len(jumps) else float("nan")
    # Jumps over one season overlap: as many are independent as seasons fit in.
    turns = float(jumps.std()) / season / np.sqrt(max(len(jumps) / season, 1.0)) if len(jumps) > 1 else float("nan")
    share = 0.0
    if season > 1 and np.isfinite(changes).sum() > 2 * season:
        pattern = np.array([np.nanmean(changes[place::season]) for place in range(season)])
        left = changes - np.resize(pattern, len(changes))
        whole = float(np.nanvar(changes))
        share = max(0.0, 1 - float(np.nanvar(left)) / whole) if whole > 0 else 0.0
    return Movement(slope, turns, share)


def residuals(errors: Array, season: int = 1) -> Residuals | None:
    """Return what errors one step ahead ``(T,)`` are like; None where fewer than eight are there.

    Examples:
        >>> found = residuals(np.random.default_rng(0).standard_normal(400))
        >>> found.biased, found.p > 0.05, found.outliers
        (False, True, 0)
    """
    there = np.isfinite(errors)
    e = errors[there]
    if len(e) < 8:
        return None
    deviation, bias = float(e.std()), float(e.mean())
    centred, power = e - bias, float(((e - bias) ** 2).sum())

    def correlation(lag: int) -> float:
        return float(centred[lag:] @ centred[:-lag]) / power if power > 0 and lag < len(e) else float("nan")

    lags = range(1, max(2, min(10 if season < 2 else 2 * season, len(e) // 5)) + 1)
    found = np.array([correlation(lag) for lag in lags])
    # G. M. Ljung, G. E. P. Box: On a measure of lack of fit in time series models, Biometrika 65 (1978).
    statistic = len(e) * (len(e) + 2) * float((found**2 / (len(e) - np.array(lags))).sum())
    halves = e[: len(e) // 2].std(), e[len(e) // 2 :].std()
    return Residuals(
        count=len(e),
        deviation=deviation,
        bias=bias,
        biased=bool(abs(bias) > 1.96 * deviation / np.sqrt(len(e))),
        correlations={lag: correlation(lag) for lag in sorted({1, season}) if lag < len(e) // 2},
        limit=1.96 / float(np.sqrt(len(e))),
        p=float(chi2.sf(statistic, len(lags))) if power > 0 else float("nan"),
        outliers=int((np.abs(centred) > _FAR * deviation).sum()),
        growth=float(halves[1] / halves[0]) if halves[0] > 0 else float("nan"),
    )
