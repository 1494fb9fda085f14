"""Which contenders forecast a series: judged by a rolling origin inside its rows, alone and together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from retrograd.errors import InputError
from retrograd.estimators.auto.caution import Caution, errors_of
from retrograd.estimators.auto.combination import combined
from retrograd.estimators.auto.contenders import Contender, Fitted
from retrograd.estimators.auto.series import Series

__all__ = ["Choice", "Judged", "Judgement", "choose", "first_judged", "judge", "long_enough"]

Array = np.ndarray[Any, Any]

# Rows that judge: so many horizons or seasons, but no more than this part of the series.
_HORIZONS, _PART = 26, 0.34
# How many of a kind are averaged, by which power of 1 / error they are weighted, and how many they are at most: where
# fewer horizons than these judge, and where as many do.
_BLOCKS, _FEW, _MANY_BLOCKS = 3, (1, 0, 7), (3, 4, 8)
# Where the rows before the judging ones hold fewer of the longest season than this, each one more makes a fit better:
# contenders are fitted so often, to more and more rows.
_SEASONS, _FITS = 8, 3
# A contender that errs so many times as much as the best one is not averaged.
_WORST = 2.5
# The part of what repeats the longest of several seasons; the parts of the median that are tried.
_REPEATS, _MEDIANS = 0.2, (0.0, 0.5)
# Forecasts of one contender that are kept at most: of more, every second, third, ... origin judges.
_KEPT = 1 << 20


@dataclass(frozen=True)
class Judged:
    """A contender and how it forecast the rows it had not seen.

    Attributes:
        fitted: to the rows before them, the first time.
        forecasts: ``(origins, K)``.
        error: as the choice takes it: the mean over the origins of each forecast's root mean squared error.
    """

    fitted: Fitted
    forecasts: Array
    error: float

    @property
    def contender(self) -> Contender:
        """Its recipe."""
        return self.fitted.contender

    @property
    def name(self) -> str:
        """The contender's."""
        return self.contender.name


@dataclass(frozen=True)
class Judgement:
    """How all contenders forecast the last rows of a series.

    Attributes:
        judged: every contender that could be fitted, best first.
        observed: what was to be forecast, ``(origins, K)``; NaN where that was missing.
        steps: the horizons that could be judged, ``(K,)``: all that were asked for, if there are rows enough.
        first: row of the first value that was forecast.
        blocks: how many times the longest horizon the judging rows are.
        stride: rows from one origin to the next; the first one is the row before ``first``.
    """

    judged: list[Judged]
    observed: Array
    steps: Array
    first: int
    blocks: float
    stride: int = 1


@dataclass(frozen=True)
class Choice:
    """Contenders that forecast together.

    Attributes:
        chosen: which.
        weights: of their mean, ``(chosen,)``, of sum 1.
        forecasts: what was said by them, ``(origins, K)``.
        median: its part in the forecast beside the mean.
        naive: the baseline that forecasts where they foresee little; None if they are always listened to.
        caution: when that is.
    """

    chosen: list[Judged]
    weights: Array
    forecasts: Array
    median: float = 0.0
    naive: Judged | None = None
    caution: Caution | None = None

    @classmethod
    def of(cls, chosen: list[Judged], weights: Array, median: float = 0.0) -> Choice:
        """Return them with what they say together."""
        each = np.stack([one.forecasts for one in chosen])
        return cls(chosen, weights, combined(each, weights, median), median)

    def cautious(self, judgement: Judgement) -> Choice:
        """Return it with the baseline where it foresees little, or the baseline alone."""
        plain = [each for each in judgement.judged if each.contender.is_naive and not each.contender.lags]
        if not plain or [each.name for each in self.chosen] == [plain[0].name]:
            return self
        naive = plain[0]
        caution = Caution.of(judgement.observed, naive.forecasts, self.forecasts)
        if caution.threshold == 0:
            return self
        if np.isinf(caution.threshold):
            return Choice.of([naive], np.ones(1))
        return replace(self, forecasts=caution.temper(naive.forecasts, self.forecasts), naive=naive, caution=caution)


def first_judged(rows: int, longest: int, season: int) -> int:
    """Return the first row that judges.

    Args:
        rows: of the series.
        longest: the longest horizon.
        season: the longest season, 1 for none.
    """
    return rows - max(longest, min(int(_PART * rows), max(_HORIZONS * longest, 2 * season)))


def long_enough(rows: int, longest: int) -> bool:
    """Return whether a series can hold out the longest horizon and keep as much to learn from."""
    return rows >= 2 * longest


def judge(
    series: Series,
    steps: Array,
    tried: Sequence[Contender],
    *,
    shared: Sequence[Fitted] = (),
    progress: Callable[[float], None] | None = None,
) -> Judgement:
    """Fit every contender to all rows but the last ones, and forecast these from every origin.

    Where those rows hold few seasons, the fits are renewed on the way: a fit to all rows will know more seasons, and
    naive forecasts gain nothing by them. A series too short to hold out the longest horizon is judged at shorter ones,
    by the contenders that forecast any.

    Args:
        series: the series.
        steps: horizons ``(K,)``.
        tried: the contenders.
        shared: contenders that are fitted already, to the same rows.
        progress: called with the part of the contenders that is judged.

    Raises:
        InputError: there is a single row.
    """
    y, x, known = series.y, series.x, series.known
    if len(y) < 2:
        raise InputError(f"y has {len(y)} row: a forecast needs at least 2; give more data")
    longest = int(steps[-1])
    if not long_enough(len(y), longest):
        tried = [each for each in tried if each.for_any_steps]
        longest = max(1, len(y) // 3)
        steps, shared = np.arange(1, longest + 1), ()
    first = first_judged(len(y), longest, series.longest_season)
    start, stop = first - 1, len(y) - longest
    stride = 1 + (stop - start) * len(steps) // _KEPT
    rows = np.arange(start, stop, stride)[:, None] + steps
    observed = np.where(known[rows], y[rows], np.nan)
    growing = series.longest_season > 1 and first < _SEASONS * series.longest_season
    judged = []
    with threadpool_limits(1, user_api="blas"):
        entered: list[Contender | Fitted] = [*tried, *shared]
        for number, each in enumerate(entered):
            if progress is not None:
                progress(number / len(entered))
            try:
                fitted = each if isinstance(each, Fitted) else each.fit(y[:first], x[:first], steps)
                if fitted.rule.burn > start:
                    continue
                parts = _in_turn(fitted, series, steps, start, stop) if growing else ((fitted, start, stop),)
                found = [fit.forecast(y, x, begin, end, steps) for fit, begin, end in parts]
                forecasts = np.concatenate(found)[::stride]
            except InputError:  # too short for it: no contender
                continue
            if np.isfinite(forecasts).all():
                judged.append(Judged(fitted, forecasts, _error(observed, forecasts)))
    judged.sort(key=lambda found: found.error)
    return Judgement(judged, observed, steps, first, (len(y) - first) / longest, stride)


def _in_turn(fitted: Fitted, series: Series, steps: Array, start: int, stop: int) -> Iterator[tuple[Fitted, int, int]]:
    """Return fits to more and more rows, each with the origins that it forecasts from, ``start`` to ``stop``."""
    ends = np.linspace(start, stop, min(_FITS, stop - start) + 1).astype(int).tolist()
    for begin, end in pairwise(ends):
        again = fitted.on(series.y[: begin + 1], series.x[: begin + 1], steps) if begin > start else fitted
        fitted = again if again.rule.burn <= begin else fitted
        yield fitted, begin, end


def choose(judgement: Judgement, *, inputs: bool = True) -> Choice:
    """Return the best few contenders and the weights of their mean, or the best alone.

    Contenders that err alike add little to each other, so only the best of each kind are taken. Where few horizons
    judge, their errors tell little: one of each kind, with equal weights. The last value, with drift or without, is
    averaged with models only if it is the best: it knows nothing that they do not. Of several seasons, what repeats the
    longest has a part: the forecast errs less where models fail. Halfway from the mean to the median is the forecast
    where that erred less.

    Args:
        judgement: of all contenders.
        inputs: whether those that take inputs may be chosen.
    """
    judged = [each for each in judgement.judged if inputs or not each.contender.inputs]
    best = judged[0]
    if best.error == 0:
        return Choice.of([best], np.ones(1))
    kin, power, most = _FEW if judgement.blocks < _BLOCKS else _MANY_BLOCKS
    chosen: list[Judged] = []
    for each in judged:
        alike = sum(other.contender.kin == each.contender.kin for other in chosen)
        known = each.contender.is_naive and each.contender.difference == 1 and each is not best
        if alike < kin and len(chosen) < most and each.error <= _WORST * best.error and not known:
            chosen.append(each)
    weights = np.array([(best.error / each.error) ** power for each in chosen])
    weights /= weights.sum()
    plain = [each for each in judged if each.contender.is_naive and not each.contender.lags]
    seasonal = sorted((each for each in plain if each.contender.season > 1), key=lambda each: each.contender.season)
    if len(seasonal) > 1 and seasonal[-1].error <= _WORST * best.error:
        longest = np.array([each is seasonal[-1] for each in chosen])
        if not longest.any():
            chosen, weights, longest = [*chosen, seasonal[-1]], np.append(weights, 0.0), np.append(longest, True)
        if float(weights[longest][0]) < _REPEATS:
            weights = np.where(longest, _REPEATS, (1 - _REPEATS) / (1 - float(weights[longest][0])) * weights)
    ways = [Choice.of(chosen, weights, median) for median in (_MEDIANS if len(chosen) > 2 else _MEDIANS[:1])]
    return min(ways, key=lambda way: _error(judgement.observed, way.forecasts)).cautious(judgement)


def _error(observed: Array, forecasts: Array) -> float:
    """Return the mean RMSE of a forecast: a wild stretch of the series weighs by its error, not by its square."""
    judging = np.isfinite(observed).any(axis=1)
    return float(errors_of(observed, forecasts)[judging].mean()) if judging.any() else 0.0
