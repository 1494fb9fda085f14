"""What is said of a choice: every contender's scores, and one line on what forecasts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from retrograd.estimators.auto.selection import Selection, scores

__all__ = ["by_step", "comparison", "leaderboard", "lines"]

Array = np.ndarray[Any, Any]


def leaderboard(y: Array, selection: Selection, season: int) -> pd.DataFrame:
    """Return RMSE, MAE, MASE, sMAPE and weight of every contender; the row "chosen" is the forecast itself."""
    weights = {each.name: weight for each, weight in zip(selection.chosen, selection.weights, strict=True)}
    rows = {"chosen": {**scores(y, selection.observed, selection.forecasts, season, selection.first), "weight": 1.0}}
    for each in selection.judged:
        found = scores(y, selection.observed, each.forecasts, season, selection.first)
        rows[each.name] = {**found, "weight": weights.get(each.name, 0.0)}
    table: pd.DataFrame = pd.DataFrame.from_dict(rows, orient="index").rename_axis("contender")
    return table


def by_step(selection: Selection, steps: Array) -> pd.DataFrame:
    """Return the RMSE of the same at every step ahead, a column a step."""
    forecasts = {"chosen": selection.forecasts, **{each.name: each.forecasts for each in selection.judged}}
    rows = {name: np.sqrt(((selection.observed - each) ** 2).mean(axis=0)) for name, each in forecasts.items()}
    table: pd.DataFrame = pd.DataFrame.from_dict(rows, orient="index", columns=steps).rename_axis("contender")
    return table


def comparison(selection: Selection) -> str:
    """Say what was chosen, and by how much it beats the best that repeats values."""
    names = "; ".join(each.name for each in selection.chosen)
    what = names if len(selection.chosen) == 1 else f"mean of {len(selection.chosen)}: {names}"
    naive = [each for each in selection.judged if each.fitted.contender.is_naive]
    if all(each.fitted.contender.is_naive for each in selection.chosen) or not naive or naive[0].error == 0:
        return f"{what}; nothing beats it"
    error = float(np.sqrt(((selection.observed - selection.forecasts) ** 2).mean()))
    ratio = error / naive[0].error
    side = "below" if ratio <= 1 else "above"
    return f"{what}; RMSE {100 * abs(1 - ratio):.0f} % {side} that of the best baseline, {naive[0].name}"


def lines(said: dict[Any, str], several: bool) -> str:
    """Return a line a series, with its name where there are several."""
    return "\n".join(f"{' '.join(map(str, label))}: {line}" if several else line for label, line in said.items())
