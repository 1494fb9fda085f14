"""Which contenders forecast a series: judged by a rolling origin inside its rows, alone and together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from retrograd.errors import InputError
from retrograd.estimators.auto.contenders import Contender, Fitted

__all__ = ["Judged", "Selection", "scores", "select"]

Array = np.ndarray[Any, Any]

# Rows that judge: so many horizons or seasons, but no more than this part of the series.
_HORIZONS, _PART = 10, 0.34
# How many of a kind are averaged, by which power of 1 / error they are weighted, and how many they are at most: where
# fewer horizons than these judge, and where as many do.
_BLOCKS, _FEW, _MANY_BLOCKS = 3, (1, 0, 6), (3, 4, 8)
# A contender that errs so many times as much as the best one is not averaged.
_WORST = 2.5


@dataclass(frozen=True)
class Judged:
    """A contender and how it forecast the rows it had not seen.

    Attributes:
        fitted: to the rows before them.
        forecasts: ``(origins, K)``.
        error: root mean squared, as the choice takes it.
    """

    fitted: Fitted
    forecasts: Array
    error: float

    @property
    def name(self) -> str:
        """The contender's."""
        return self.fitted.contender.name


@dataclass(frozen=True)
class Selection:
    """What was judged, and what was chosen.

    Attributes:
        judged: every contender that could be fitted, best first.
        chosen: those that forecast.
        weights: of their mean, ``(chosen,)``, of sum 1.
        observed: what was to be forecast, ``(origins, K)``.
        forecasts: what the chosen ones said, ``(origins, K)``.
        first: row of the first value that was forecast.
    """

    judged: list[Judged]
    chosen: list[Judged]
    weights: Array
    observed: Array
    forecasts: Array
    first: int


def select(
    y: Array,
    x: Array,
    steps: Array,
    tried: Sequence[Contender],
    season: int,
    progress: Callable[[float], None] | None = None,
) -> Selection:
    """Fit every contender to all rows but the last ones, forecast these from every origin, and choose.

    Args:
        y: ``(T,)``.
        x: ``(T, E)``.
        steps: horizons ``(K,)``.
        tried: the contenders.
        season: the longest season, 1 for none.
        progress: called with the part of the contenders that is judged.

    Raises:
        InputError: no contender could be fitted.
    """
    longest = int(steps[-1])
    held = max(longest, min(int(_PART * len(y)), max(_HORIZONS * longest, 2 * season)))
    first = len(y) - held
    start, stop = first - 1, len(y) - longest
    if start < 1:
        raise InputError(
            f"y has {len(y)} rows, at least {longest + 2} are needed: two to learn from and {longest} of the longest "
            "horizon (fh) to judge by; give more data or a shorter horizon"
        )
    observed = y[np.arange(start, stop)[:, None] + steps]
    judged = []
    with threadpool_limits(1, user_api="blas"):
        for number, contender in enumerate(tried):
            if progress is not None:
                progress(number / len(tried))
            try:
                fitted = contender.fit(y[:first], x[:first], steps)
                forecasts = fitted.forecast(y, x, start, stop, steps)
            except InputError:  # too short for it: no contender
                continue
            if np.isfinite(forecasts).all():
                judged.append(Judged(fitted, forecasts, _error(observed, forecasts)))
    if not judged:
        raise InputError(f"y has {len(y)} rows: too few for any forecast {longest} steps ahead; give more data")
    judged.sort(key=lambda each: each.error)
    chosen, weights = _together(judged, observed, held / longest)
    together = np.einsum("m,mnk->nk", weights, np.stack([each.forecasts for each in chosen]))
    return Selection(judged, chosen, weights, observed, together, first)


def scores(y: Array, observed: Array, forecasts: Array, season: int, first: int) -> dict[str, float]:
    """Return RMSE, MAE, MASE (by the seasonal naive's error one step ahead before ``first``) and sMAPE in per cent.

    Examples:
        >>> y = np.array([1.0, 2.0, 4.0, 5.0])
        >>> found = scores(y, y[None, 2:], np.array([[4.0, 4.0]]), 1, 2)
        >>> {name: round(value, 3) for name, value in found.items()}
        {'RMSE': 0.707, 'MAE': 0.5, 'MASE': 0.5, 'sMAPE': 11.111}
    """
    error = np.abs(observed - forecasts)
    lag = season if first > season else 1
    scale = float(np.abs(y[lag:first] - y[: first - lag]).mean()) if first > lag else 0.0
    size = np.abs(observed) + np.abs(forecasts)
    relative = np.divide(200 * error, size, out=np.zeros_like(error), where=size > 0)
    mean = float(error.mean())
    return {
        "RMSE": float(np.sqrt((error**2).mean())),
        "MAE": mean,
        "MASE": mean / scale if scale > 0 else float("nan"),
        "sMAPE": float(relative.mean()),
    }


def _together(judged: Sequence[Judged], observed: Array, blocks: float) -> tuple[list[Judged], Array]:
    """Return the best few contenders and the weights of their mean, or the best alone.

    Contenders that err alike add little to each other, so only the best of each kind are taken. Where few horizons
    judge, their errors tell little: one of each kind, with equal weights. The last value, with drift or without, is
    averaged with models only if it is the best: it knows nothing that they do not.
    """
    best = judged[0]
    if best.error == 0:
        return [best], np.ones(1)
    kin, power, most = _FEW if blocks < _BLOCKS else _MANY_BLOCKS
    chosen: list[Judged] = []
    for each in judged:
        alike = sum(other.fitted.contender.kin == each.fitted.contender.kin for other in chosen)
        plain = each.fitted.contender.is_naive and each.fitted.contender.difference == 1 and each is not best
        if alike < kin and len(chosen) < most and each.error <= _WORST * best.error and not plain:
            chosen.append(each)
    weights = np.array([(best.error / each.error) ** power for each in chosen])
    weights /= weights.sum()
    error = _error(observed, np.einsum("m,mnk->nk", weights, np.stack([each.forecasts for each in chosen])))
    if best.fitted.contender.is_naive and error >= best.error:
        return [best], np.ones(1)
    return chosen, weights


def _error(observed: Array, forecasts: Array) -> float:
    return float(np.sqrt(((observed - forecasts) ** 2).mean()))
