"""From series to what forecasts each: contenders are judged, the best few chosen, and fitted to all rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from retrograd.estimators.auto.contenders import Fitted
from retrograd.estimators.auto.intervals import Spread
from retrograd.estimators.auto.members import Member, Mixture
from retrograd.estimators.auto.panel import Panel
from retrograd.estimators.auto.recipes import Options, recipes
from retrograd.estimators.auto.selection import Choice, Judged, Judgement, choose, first_judged, judge, long_enough
from retrograd.estimators.auto.series import Series

__all__ = ["Outcome", "fit_all"]

Array = np.ndarray[Any, Any]

# Rows of a series that are learnt from at most, the last ones.
_MOST_ROWS = 30_000
# With more series than these, fewer contenders of each alone.
_MANY = 20
# Rows from which the quarters of a series tell its usual deviation; that is so many parts of what lies between them.
_TELLING, _QUARTERS = 30, 1.349


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
    series = [each.last(_MOST_ROWS) for each in series]
    longest, rows = int(steps[-1]), [len(each.y) for each in series]
    ends = [
        first_judged(count, longest, each.longest_season) if long_enough(count, longest) else 0
        for count, each in zip(rows, series, strict=True)
    ]
    panel = Panel(series, steps, ends, options)
    outcomes = []
    for number in range(len(series)):
        outcomes.append(_fit(number, series, panel, steps, options, _part_of(progress, number, len(series))))
    return outcomes


def _part_of(progress: Callable[[float], None] | None, done: int, count: int) -> Callable[[float], None] | None:
    """Return what tells ``progress`` of one series among ``count``, of which ``done`` are behind it."""
    return None if progress is None else lambda part: progress((done + part) / count)


def _fit(
    number: int,
    all_series: Sequence[Series],
    panel: Panel,
    steps: Array,
    options: Options,
    progress: Callable[[float], None] | None,
) -> Outcome:
    series, shared = all_series[number], panel.judged(number)
    few = len(all_series) > _MANY
    tried = recipes(series.y, series.found, int(steps[-1]), options, inputs=series.x.shape[1] > 0, few=few)
    judgement = judge(series, steps, tried, shared=shared, progress=progress)
    choice = choose(judgement)

    whole: dict[str, Fitted] = {}  # by name: with inputs and without, most are the same

    def fit_of(each: Judged) -> Fitted:
        if not options.refit and len(judgement.steps) == len(steps):
            return each.fitted
        if each.contender.family == "shared":
            return panel.whole(each.contender, number)
        if each.name not in whole:
            whole[each.name] = each.fitted.on(series.y, series.x, steps)
        return whole[each.name]

    def mixture_of(choice: Choice) -> Mixture:
        naive = [] if choice.naive is None else [choice.naive]
        return _mixture(series, steps, judgement, choice, [fit_of(each) for each in [*choice.chosen, *naive]])

    mixture = mixture_of(choice)
    blind = mixture
    if any(each.contender.inputs for each in choice.chosen):
        blind = mixture_of(choose(judgement, inputs=False))
    season = min(series.found.seasons, default=1)
    return Outcome(Member(series.y, series.x, season, mixture, blind), judgement, choice)


def _mixture(series: Series, steps: Array, judgement: Judgement, choice: Choice, fits: list[Fitted]) -> Mixture:
    weights = np.append(choice.weights, [0.0] * (len(fits) - len(choice.weights)))
    logs = series.found.logs and bool((choice.forecasts > 0).all())

    def deviation(at: Array) -> Array:
        return np.asarray(weights @ np.stack([fit.deviation(series.y, at, logs) for fit in fits]))

    usual = 0.0
    if len(series.y) >= _TELLING:
        usual = float(np.ptp(np.quantile(np.log(series.y) if logs else series.y, [0.25, 0.75]))) / _QUARTERS
    spread = Spread.of(
        judgement.observed,
        choice.forecasts,
        deviation,
        judgement.steps,
        steps,
        logs=logs,
        stride=judgement.stride,
        late=len(series.y) - judgement.first - (len(judgement.observed) - 1) * judgement.stride,
        usual=usual,
    )
    return Mixture(fits, weights, spread, steps, choice.caution, choice.median)
