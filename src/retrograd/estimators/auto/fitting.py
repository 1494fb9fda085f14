"""From series to what forecasts each: contenders are judged, the best few chosen, and fitted to all rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from retrograd.estimators.auto.intervals import Spread
from retrograd.estimators.auto.members import Member, Mixture
from retrograd.estimators.auto.recipes import Options, recipes
from retrograd.estimators.auto.selection import Choice, Judgement, choose, judge
from retrograd.estimators.auto.understanding import Understanding

__all__ = ["Outcome", "Series", "fit_all"]

Array = np.ndarray[Any, Any]

# Rows of a series that are learnt from at most, the last ones.
_MOST_ROWS = 30_000


@dataclass(frozen=True)
class Series:
    """A series and what is known of it.

    Attributes:
        y: ``(T,)``, without holes.
        x: inputs ``(T, E)``.
        known: where y was given, ``(T,)``.
        found: what it is like.
    """

    y: Array
    x: Array
    known: Array
    found: Understanding


@dataclass(frozen=True)
class Outcome:
    """What forecasts a series, and how that was found."""

    member: Member
    judgement: Judgement
    choice: Choice


def fit_all(
    series: Sequence[Series], steps: Array, options: Options, progress: Callable[[float], None] | None
) -> list[Outcome]:
    """Return what forecasts each series ``steps`` ahead.

    Args:
        series: one or more.
        steps: horizons ``(K,)``, increasing.
        options: what was asked for.
        progress: called with the part that is done, from 0 to 1.
    """
    outcomes = []
    for number, each in enumerate(series):
        outcomes.append(_fit(each, steps, options, _part_of(progress, number, len(series))))
    return outcomes


def _part_of(progress: Callable[[float], None] | None, done: int, count: int) -> Callable[[float], None] | None:
    """Return what tells ``progress`` of one series among ``count``, of which ``done`` are behind it."""
    return None if progress is None else lambda part: progress((done + part) / count)


def _fit(series: Series, steps: Array, options: Options, progress: Callable[[float], None] | None) -> Outcome:
    y, x, known = series.y[-_MOST_ROWS:], series.x[-_MOST_ROWS:], series.known[-_MOST_ROWS:]
    tried = recipes(y, series.found, int(steps[-1]), options, inputs=x.shape[1] > 0)
    judgement = judge(y, x, steps, tried, max(series.found.seasons, default=1), known=known, progress=progress)
    choice = choose(judgement)
    mixture = _mixture(y, x, steps, judgement, choice, series.found.logs, options.refit)
    blind = mixture
    if any(each.contender.inputs for each in choice.chosen):
        blind = _mixture(y, x, steps, judgement, choose(judgement, inputs=False), series.found.logs, options.refit)
    return Outcome(Member(y, x, min(series.found.seasons, default=1), mixture, blind), judgement, choice)


def _mixture(
    y: Array, x: Array, steps: Array, judgement: Judgement, choice: Choice, logs: bool, refit: bool
) -> Mixture:
    whole = len(judgement.steps) == len(steps)
    kept = not refit and whole
    fits = [each.fitted if kept else each.fitted.again().fit(y, x, steps) for each in choice.chosen]
    logs = logs and bool((choice.forecasts > 0).all())
    deviation = choice.weights @ np.stack([fit.deviation(y, steps, logs) for fit in fits])
    judged = deviation
    if not whole:
        judged = choice.weights @ np.stack([fit.deviation(y, judgement.steps, logs) for fit in fits])
    spread = Spread.of(judgement.observed, choice.forecasts, deviation, judged, logs, judgement.blocks)
    return Mixture(fits, choice.weights, spread)
