"""How good the contenders were, in numbers and in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from retrograd.estimators.auto.combination import named
from retrograd.estimators.auto.selection import Choice, Judgement

__all__ = ["SCORES", "by_step", "comparison", "leaderboard", "lines", "scores"]

Array = np.ndarray[Any, Any]

SCORES = ("RMSE", "MAE", "MASE", "sMAPE", "weight")
# The end of the words on a choice that is a naive forecast alone.
_NOTHING = "nothing beats it"


def scores(y: Array, observed: Array, forecasts: Array, season: int, first: int) -> dict[str, float]:
    """Return RMSE, MAE, MASE (by the seasonal naive's error one step ahead before ``first``) and sMAPE in per cent.

    Examples:
        >>> y = np.array([1.0, 2.0, 4.0, 5.0])
        >>> found = scores(y, y[None, 2:], np.array([[4.0, 4.0]]), 1, 2)
        >>> {name: round(value, 3) for name, value in found.items()}
        {'RMSE': 0.707, 'MAE': 0.5, 'MASE': 0.5, 'sMAPE': 11.111}
    """
    there = np.isfinite(observed)
    error = np.abs(observed - forecasts)[there]
    if not len(error):
        return dict.fromkeys(SCORES[:4], float("nan"))
    lag = season if first > season else 1
    scale = float(np.abs(y[lag:first] - y[: first - lag]).mean()) if first > lag else 0.0
    size = (np.abs(observed) + np.abs(forecasts))[there]
    relative = np.divide(200 * error, size, out=np.zeros_like(error), where=size > 0)
    mean = float(error.mean())
    return {
        "RMSE": float(np.sqrt((error**2).mean())),
        "MAE": mean,
        "MASE": mean / scale if scale > 0 else float("nan"),
        "sMAPE": float(relative.mean()),
    }


def leaderboard(y: Array, judgement: Judgement, choice: Choice, season: int) -> pd.DataFrame:
    """Return the scores of the choice and of every contender, a row each, with its weight in the choice."""
    observed, first = judgement.observed, judgement.first
    weights = {each.name: weight for each, weight in zip(choice.chosen, choice.weights, strict=True)}
    rows = {"chosen": {**scores(y, observed, choice.forecasts, season, first), "weight": 1.0}}
    for each in judgement.judged:
        found = scores(y, observed, each.forecasts, season, first)
        rows[each.name] = {**found, "weight": weights.get(each.name, 0.0)}
    table: pd.DataFrame = pd.DataFrame.from_dict(rows, orient="index").rename_axis("contender")
    ordered: pd.DataFrame = table[list(SCORES)]
    return ordered


def by_step(judgement: Judgement, choice: Choice, steps: Array) -> pd.DataFrame:
    """Return the RMSE of the choice and of every contender at each horizon, NaN at those that were not judged."""
    forecasts = {"chosen": choice.forecasts, **{each.name: each.forecasts for each in judgement.judged}}
    squares = {name: (predicted - judgement.observed) ** 2 for name, predicted in forecasts.items()}
    there = np.isfinite(judgement.observed)
    count = there.sum(axis=0)
    rows = {
        name: np.sqrt(np.where(count > 0, np.where(there, square, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan))
        for name, square in squares.items()
    }
    table = pd.DataFrame.from_dict(rows, orient="index", columns=judgement.steps.tolist()).rename_axis("contender")
    found: pd.DataFrame = table.reindex(columns=steps.tolist())
    return found


def comparison(judgement: Judgement, choice: Choice) -> str:
    """Say what was chosen, and by how much it beats the seasonal naive, or the last value where there is no season."""
    what = named([each.name for each in choice.chosen], choice.median)
    if judgement.first < 2 or not np.isfinite(judgement.observed).any():
        return f"{what}; too few rows to compare"
    naive = [each for each in judgement.judged if each.contender.is_naive and not each.contender.lags]
    seasonal = [each for each in naive if each.contender.difference != 1] or naive
    if all(each.contender.is_naive for each in choice.chosen) or seasonal[0].error == 0:
        return f"{what}; {_NOTHING}"
    ratio = np.sqrt(
        np.nanmean((judgement.observed - choice.forecasts) ** 2)
        / np.nanmean((judgement.observed - seasonal[0].forecasts) ** 2)
    )
    if choice.naive is not None:
        what += f"; the {choice.naive.name} where they foresee little"
    percent = f"{100 * abs(1 - ratio):.0f}"
    side = "about" if percent == "0" else f"{percent} % {'below' if ratio <= 1 else 'above'}"
    return f"{what}; RMSE {side} that of the {seasonal[0].name}"


def lines(said: dict[Any, str], several: bool) -> str:
    """Return a line a series, with its name where there are several."""
    return "\n".join(f"{' '.join(map(str, label))}: {line}" if several else line for label, line in said.items())
