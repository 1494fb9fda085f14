"""The contenders of an automatic forecast as tables, for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from retrograd.estimators.auto.estimator import AutoForecaster
from retrograd.report.content import TextTable

__all__ = ["by_step", "contenders"]

SCORES = ("RMSE", "MAE", "MASE", "sMAPE")
# Steps ahead that a table has columns for.
MOST_STEPS = 12


def contenders(model: AutoForecaster, most: int | None) -> TextTable:
    """Return the contenders' errors over the rolling origin: all, or of each series about ``most``."""
    rows = []
    for before, board in _series(model.leaderboard_):
        shown = board if most is None else _short(board, most)
        rows += [
            (
                f"{before}{name}",
                *(f"{row[score]:.4g}" for score in SCORES),
                f"{row['weight']:.2g}" if row["weight"] else "",
            )
            for name, row in shown.iterrows()
        ]
    count = len(model.leaderboard_)
    left = "" if len(rows) == count else f" ({len(rows)} of {count}; the report has all)"
    far = "1 step" if len(model.steps) == 1 else f"1 to {len(model.steps)} steps"
    caption = f"Contenders on the last rows, {far} ahead, from every row in turn{left}"
    return TextTable(caption, ("contender", *SCORES, "weight"), rows)


def by_step(model: AutoForecaster) -> TextTable:
    """Return every contender's RMSE at some of the steps ahead."""
    steps = list(model.leaderboard_by_step_.columns)
    places = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), MOST_STEPS)).astype(int))
    rows = [
        (f"{before}{name}", *(f"{row.iloc[place]:.4g}" for place in places))
        for before, board in _series(model.leaderboard_by_step_)
        for name, row in board.iterrows()
    ]
    return TextTable("RMSE by steps ahead", ("contender", *(str(steps[place]) for place in places)), rows)


def _series(board: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield each series' part of a table, and what stands before the names of its rows."""
    outer: list[Any] = list(range(board.index.nlevels - 1))
    if not outer:
        yield "", board
        return
    for label, part in board.groupby(level=outer, sort=False):
        yield f"{' '.join(map(str, label)) if isinstance(label, tuple) else label}: ", part.droplevel(outer)


def _short(board: pd.DataFrame, most: int) -> pd.DataFrame:
    """Return what forecasts, the baselines, and the best of the others, as many as fit."""
    counts = (board["weight"] > 0) | board.index.str.fullmatch("seasonal naive .*|last value|drift|AR")
    rest = board.index[~counts][: max(0, most - int(counts.sum()))]
    kept: pd.DataFrame = board[counts | board.index.isin(rest)]
    return kept
