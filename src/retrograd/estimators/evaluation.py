"""How good predictions are: errors in the data's own units, beside what simple methods reach on the same steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["autoregression", "compare", "errors"]

Array = np.ndarray[Any, Any]

# Up to this many lags; the information criterion chooses.
MOST_LAGS = 12


def errors(observed: Array, predicted: Array) -> dict[str, float]:
    """Return RMSE, MAE and MSE of predictions ``(N,)``, in the data's units, over the steps that have one.

    >>> errors(np.array([1.0, 2.0, 3.0]), np.array([np.nan, 2.0, 5.0]))
    {'RMSE': 1.414..., 'MAE': 1.0, 'MSE': 2.0}
    """
    there = ~np.isnan(predicted) & ~np.isnan(observed)
    if not there.any():
        return dict.fromkeys(("RMSE", "MAE", "MSE"), float("nan"))
    error = predicted[there] - observed[there]
    # A free run may overflow: its error is infinite, which is no reason for a warning.
    with np.errstate(over="ignore"):
        mse = float(np.mean(error**2))
        return {"RMSE": float(np.sqrt(mse)), "MAE": float(np.mean(np.abs(error))), "MSE": mse}


def autoregression(series: Array, train: int, lags: int | None = None) -> tuple[Array, int]:
    """Predict each step by an AR(p) with intercept, fitted to the first ``train`` steps by least squares.

    Args:
        series: ``(N,)``.
        train: length of the training part.
        lags: p; by default the one with the lowest AIC, all judged on the same steps.

    Returns:
        One-step predictions ``(N,)``, NaN for the first p, and p.
    """
    most = max(1, min(MOST_LAGS, (train - 1) // 3)) if lags is None else lags

    def design(p: int, start: int, end: int) -> Array:
        columns = [series[start - lag : end - lag] for lag in range(1, p + 1)]
        return np.stack([np.ones(end - start), *columns], axis=1)

    def criterion(p: int) -> float:
        X, y = design(p, most, train), series[most:train]
        residual = y - X @ np.linalg.lstsq(X, y, rcond=None)[0]
        # A perfect fit has no logarithm: it wins at any price.
        variance = float(residual @ residual) / len(y)
        return len(y) * float(np.log(variance)) + 2 * (p + 1) if variance > 0 else -np.inf

    p = most if lags is not None else min(range(1, most + 1), key=criterion)
    coefficients = np.linalg.lstsq(design(p, p, train), series[p:train], rcond=None)[0]
    predicted = np.full(len(series), np.nan)
    predicted[p:] = design(p, p, len(series)) @ coefficients
    return predicted, p


def compare(
    names: Sequence[str], targets: Array, one_step: Array, free_run: Array, start: int
) -> dict[str, dict[str, float]]:
    """Return the errors of one-step predictions and of a free run ``(N, O)``, and of simple methods beside them.

    Args:
        names: the O targets.
        targets: ``(N, O)``, NaN where missing.
        one_step: predictions, NaN where there is none.
        free_run: predictions from the steps before ``start`` alone, NaN before it.
        start: index of the first held-out step, N if there is none.
    """
    rows: dict[str, dict[str, float]] = {}
    for column, name in enumerate(names):
        y = targets[:, column]
        suffix = f": {name}" if len(names) > 1 else ""
        rows[f"one step, training{suffix}"] = errors(y[:start], one_step[:start, column])
        if start == len(y):
            continue
        rows[f"one step, held out{suffix}"] = errors(y[start:], one_step[start:, column])
        if not np.isnan(y).any():
            baseline, lags = autoregression(y, start)
            rows[f"  AR({lags}), one step{suffix}"] = errors(y[start:], baseline[start:])
        rows[f"  last value, one step{suffix}"] = errors(y[start:], y[start - 1 : -1])
        rows[f"free run, held out{suffix}"] = errors(y[start:], free_run[start:, column])
        rows[f"  training mean{suffix}"] = errors(y[start:], np.full(len(y) - start, np.nanmean(y[:start])))
    return rows
