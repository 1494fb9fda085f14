"""Contenders of many series together: one read-out for all, each scaled by itself, beside those of each alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from retrograd.estimators.auto.contenders import Contender, Fitted
from retrograd.estimators.auto.recipes import Options, described
from retrograd.estimators.auto.series import Series
from retrograd.estimators.auto.windows import Windows
from retrograd.estimators.forecasting.states import Difference

__all__ = ["Panel"]

Array = np.ndarray[Any, Any]

# The longest look-back, and the part of the series that have a season for which it is tried for all.
_LONGEST, _OFTEN = 336, 0.1


class Panel:
    """Read-outs that several series share.

    Args:
        series: the series; one alone shares nothing.
        steps: horizons ``(K,)``.
        ends: rows of each that contenders are fitted to before they are judged; 0 for a series that stays out.
        options: what was asked for.
    """

    def __init__(self, series: Sequence[Series], steps: Array, ends: Sequence[int], options: Options) -> None:
        self._series, self._steps = series, steps
        self._whole: dict[Contender, dict[int, Fitted]] = {}
        self._judged: list[list[Fitted]] = [[] for _ in series]
        taking_part = [number for number, end in enumerate(ends) if end]
        if len(taking_part) < 2:
            return
        for recipe in _recipes([series[number] for number in taking_part], int(steps[-1]), options):
            for number, fitted in self._fit(recipe, {number: ends[number] for number in taking_part}).items():
                self._judged[number].append(fitted)

    def judged(self, number: int) -> list[Fitted]:
        """Return the contenders of a series, fitted to the rows before those that judge."""
        return self._judged[number]

    def whole(self, recipe: Contender, number: int) -> Fitted:
        """Return a contender of a series, fitted to all rows of all."""
        if recipe not in self._whole:
            plain = replace(recipe, ridge=None)
            taking_part = [at for at, found in enumerate(self._judged) if any(f.contender == plain for f in found)]
            self._whole[recipe] = self._fit(recipe, {at: len(self._series[at].y) for at in taking_part})
        return self._whole[recipe][number]

    def _fit(self, recipe: Contender, ends: dict[int, int]) -> dict[int, Fitted]:
        """Fit to the rows before ``ends`` of those series that are long enough, and have logarithms if they need to."""
        least = recipe.lags + recipe.season + 1  # the others teach it, where a series has no window of its own
        there = {
            number: self._series[number].y[:end]
            for number, end in ends.items()
            if end >= least and not (recipe.logs and self._series[number].y.min() <= 0)
        }
        if len(there) < 2:
            return {}
        values = [np.log(y) if recipe.logs else y for y in there.values()]
        with threadpool_limits(1, user_api="blas"):
            rules = Windows.shared(values, [np.zeros((len(y), 0)) for y in values], self._steps, **recipe.asked)
        return {number: Fitted(recipe, rule) for number, rule in zip(there, rules, strict=True)}


def _recipes(series: Sequence[Series], longest: int, options: Options) -> list[Contender]:
    """Return what is tried for all series together."""
    rows = int(np.median([len(each.y) for each in series]))
    counts = Counter(season for each in series for season in each.found.seasons)
    seasons = [season for season, count in sorted(counts.items()) if count >= _OFTEN * len(series)]
    looks = {longest + 1, 2 * longest + 1, max(2, (rows - longest) // 10)}
    looks |= {count * season + 1 for season in seasons for count in (1, 2)}
    ordered = sorted({min(look, _LONGEST) for look in looks})
    pairs: list[tuple[Difference, int]] = [("last", lags) for lags in ordered]
    pairs += [(None, ordered[-1]), (None, ordered[len(ordered) // 2])]
    pairs += [(season, lags) for season in seasons for lags in (min(season + 1, _LONGEST), longest + 1)]
    if options.difference != "auto":
        asked: Difference = options.difference  # type: ignore[assignment]
        pairs = [(asked, lags) for lags in ordered]
    scales = [False, True] if options.transform == "auto" else [options.transform == "log"]
    return [
        Contender(f"all series: {described(difference, lags, False, logs)}", "shared", difference, lags, False, logs)
        for logs in scales
        for difference, lags in dict.fromkeys(pairs)
        if lags >= 2
    ]
