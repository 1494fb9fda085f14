"""Every estimator's forecasts from rolling origins, without fitting again, with their intervals where it has some."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import norm

from retrograd.estimators.auto.estimator import AutoForecaster
from retrograd.estimators.backtesting import Origins
from retrograd.estimators.forecasting.estimator import Forecaster
from retrograd.estimators.identification.estimator import StateSpace
from retrograd.estimators.recurrent.estimator import Recurrent

__all__ = ["roll"]

Array = np.ndarray[Any, Any]
Intervals = dict[float, tuple[Array, Array]]


def roll(model: Any, y: Any, X: Any, origins: Origins, levels: Sequence[float] = ()) -> tuple[Array, Intervals]:
    """Return forecasts ``(n, K, O)`` from every origin, and by level in per cent the ends of their intervals.

    Args:
        model: fitted to the rows before ``origins.start``: an ``AutoForecaster``, ``Forecaster``, ``StateSpace`` or
            ``Recurrent``.
        y: all targets, a table of N rows.
        X: all inputs known ahead, N rows or more; None for none.
        origins: where forecasts start.
        levels: of the intervals, in per cent.

    Examples:
        >>> import pandas as pd
        >>> y = pd.DataFrame({"y": np.sin(np.arange(60.0) / 2)})
        >>> model = Forecaster(lags=4, readout="recursive").fit(y[:50])
        >>> roll(model, y, None, Origins.of(50, 60, 3))[0].shape
        (8, 3, 1)
    """
    X = None if X is None else X.iloc[: len(y)]
    if isinstance(model, AutoForecaster):
        return _automatic(model, y, X, origins, levels)
    if isinstance(model, Forecaster):
        if not model.calendar:  # by place: it may have been fitted to arrays, which have no names
            y, X = y.to_numpy(), None if X is None else X.to_numpy()
        forecasts = model.backtest(y, X, start=origins.start, fh=origins.steps, stride=origins.stride)
        ahead = None if X is None else X[origins.start : origins.start + len(origins.steps)]
        return forecasts, _around(forecasts, _half_widths(model, ahead, origins, levels, forecasts.shape[2]))
    if isinstance(model, StateSpace):
        return _state_space(model, y, X, origins, levels)
    if isinstance(model, Recurrent):
        return _recurrent(model, y, X, origins, levels)
    raise TypeError(f"model is a {type(model).__name__}, expected an estimator of retrograd")


def _automatic(
    model: AutoForecaster, y: Any, X: Any, origins: Origins, levels: Sequence[float]
) -> tuple[Array, Intervals]:
    alphas = [bound for level in levels for bound in (0.5 - level / 200, 0.5 + level / 200)]
    if len(origins.steps) < len(model.steps):  # the held-out end is shorter than the horizon: from its border alone
        ahead = None if X is None else X.iloc[origins.start : origins.start + len(origins.steps)]
        shape = 1, len(origins.steps), -1
        found = np.asarray(model.predict(origins.steps, ahead)).reshape(shape)
        quantiles = [model.predict_quantiles(origins.steps, ahead, alpha) for alpha in alphas]
        ends = [np.asarray(table).reshape(shape) for table in quantiles]
    else:
        where = {"start": origins.start, "stride": origins.stride}
        found = model.backtest(y, X, **where)
        ends = [model.backtest(y, X, alpha=alpha, **where) for alpha in alphas]
    return found, {level: (ends[2 * k], ends[2 * k + 1]) for k, level in enumerate(levels)}


def _half_widths(model: Forecaster, ahead: Any, origins: Origins, levels: Sequence[float], outputs: int) -> Any:
    """Return by level half the width of an interval, ``(K, O)``: the same from every origin."""
    if not levels:
        return {}
    table = model.predict_interval(origins.steps, ahead, coverage=[level / 100 for level in levels])
    ends = np.asarray(table).reshape(len(origins.steps), outputs, len(levels), 2)
    return {level: (ends[:, :, k, 1] - ends[:, :, k, 0]) / 2 for k, level in enumerate(levels)}


def _around(forecasts: Array, half_widths: dict[float, Array]) -> Intervals:
    return {level: (forecasts - half, forecasts + half) for level, half in half_widths.items()}


def _state_space(
    model: StateSpace, y: Any, X: Any, origins: Origins, levels: Sequence[float]
) -> tuple[Array, Intervals]:
    ahead = [np.asarray(model.predict(X, y, int(k), x0=model.x0_[0]))[origins.places + k] for k in origins.steps]
    forecasts = np.stack(ahead, axis=1)
    return forecasts, _gaussian(model, forecasts, levels)


def _gaussian(model: StateSpace | Recurrent, forecasts: Array, levels: Sequence[float]) -> Intervals:
    if not levels:
        return {}
    deviation = np.sqrt(model.forecast_variance(forecasts.shape[1]))
    return _around(forecasts, {level: deviation * norm.ppf(0.5 + level / 200) for level in levels})


def _recurrent(model: Recurrent, y: Any, X: Any, origins: Origins, levels: Sequence[float]) -> tuple[Array, Intervals]:
    found = []
    for place in origins.places:
        past = slice(0, place + 1)
        state = model.state_after(y.iloc[past], None if X is None else X.iloc[past])
        coming = None if X is None else X.iloc[place + 1 : place + 1 + len(origins.steps)].to_numpy()
        found.append(np.asarray(model.forecast(len(origins.steps), coming, state=state)))
    forecasts = np.stack(found)
    return forecasts, _gaussian(model, forecasts, levels)
