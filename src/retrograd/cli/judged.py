"""A fit beside the naive forecasts: on its held-out end, from every row in turn, and what it leaves over."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from retrograd.estimators.auto.understanding import Understanding, understand, wild_at_the_end
from retrograd.estimators.backtesting import Origins, Rolled, baselines, scale_of
from retrograd.estimators.diagnosis import movement, residuals
from retrograd.estimators.rolling import roll
from retrograd.report import Goodness, Story
from retrograd.tables.read import Table
from retrograd.tables.time_axis import time_text

__all__ = ["Frames", "goodness_of", "stories_of", "understood", "wild_ends"]

Array = np.ndarray[Any, Any]

# Forecasts start from so many rows of the held-out end at most, evenly spread.
MOST_ORIGINS = 200


@dataclass(frozen=True)
class Frames:
    """A table as the estimators take it: by time and by name.

    Attributes:
        y: targets, N rows.
        X: inputs, N + F rows; None for none.
    """

    y: pd.DataFrame
    X: pd.DataFrame | None

    @classmethod
    def of(cls, table: Table) -> Frames:
        """Return them."""
        y = pd.DataFrame(table.targets, index=table.time[: table.steps], columns=table.target_names)
        if not table.input_names:
            return cls(y, None)
        return cls(y, pd.DataFrame(table.inputs, index=table.time, columns=table.input_names))

    def inputs(self, start: int, stop: int) -> Any:
        """Return the inputs of some rows; None for none."""
        return None if self.X is None else self.X.iloc[start:stop]


def understood(table: Table, seasons: Sequence[int] | None = None, logs: bool | None = None) -> list[Understanding]:
    """Return what every target is like."""
    times = table.time[: table.steps]
    return [understand(np.ascontiguousarray(y), times, table.step, seasons, logs) for y in table.targets.T]


def wild_ends(table: Table, found: Sequence[Understanding]) -> list[str]:
    """Return a line for every target that ends in a value far from those before: the forecast starts from it."""
    lines = []
    for name, y, each in zip(table.target_names, table.targets.T, found, strict=True):
        wild = wild_at_the_end(np.ascontiguousarray(y), each.seasons[0] if each.seasons else 1)
        if wild is not None:
            row, far = wild
            when = f"{table.time_label} {time_text(table.time[[row]])[0]}"
            lines.append(
                f"{name} is {y[row]:.6g} at {when}, {far:.3g} usual changes from what came before, and the forecast "
                "goes by it: if it is an error, correct it or leave it blank, and fit again."
            )
    return lines


def goodness_of(
    models: Sequence[tuple[str, Any, float]],
    table: Table,
    start: int,
    horizon: int,
    levels: Sequence[float],
    seasons: Sequence[Sequence[int]],
    untold: Collection[str] = (),
) -> Goodness | None:
    """Return how models do on the held-out end beside the baselines; None where nothing is held out.

    Args:
        models: name, estimator fitted to the rows before ``start``, and the seconds that took.
        table: the data.
        start: the first held-out row.
        horizon: steps ahead.
        levels: of the intervals, in per cent.
        seasons: of every target.
        untold: names of those models that forecast without inputs.
    """
    if start == table.steps:
        return None
    origins, frames = Origins.of(start, table.steps, max(horizon, 1), MOST_ORIGINS), Frames.of(table)
    observed, scale = origins.of_targets(table.targets), scale_of(table.targets[:start], seasons)
    rolled = []
    for name, model, seconds in models:
        forecasts, intervals = roll(model, frames.y, None if name in untold else frames.X, origins, levels)
        rolled.append(Rolled(name, observed, forecasts, scale, intervals, seconds))
    # A baseline repeats what is there: where a value is missing, the one before it.
    known = frames.y.ffill().bfill().to_numpy()
    naive = [replace(one, observed=observed, scale=scale) for one in baselines(known, origins, seasons)]
    first, last = time_text(table.time[[start, table.steps - 1]])
    return Goodness(table.target_names, str(first), str(last), rolled, naive, origins.steps)


def stories_of(table: Table, start: int, one_step: Array, found: Sequence[Understanding]) -> list[Story]:
    """Return what every target is like, and what predictions one step ahead leave over, held out if enough are."""
    part, rows = ("held out", slice(start, None)) if table.steps - start >= 20 else ("all rows", slice(None))
    several, lengths = len(table.target_names) > 1, [each.seasons[0] if each.seasons else 1 for each in found]
    with np.errstate(invalid="ignore"):
        errors = np.where(np.isfinite(one_step), table.targets - one_step, np.nan)
    return [
        Story(
            name if several else "",
            str(each),
            season,
            movement(table.targets[:, k], season),
            residuals(errors[rows, k], season),
            part,
        )
        for k, (name, each, season) in enumerate(zip(table.target_names, found, lengths, strict=True))
    ]
