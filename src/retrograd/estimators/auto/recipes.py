"""What competes for a series: baselines, autoregressions, windows with a linear read-out, innovations models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from retrograd.estimators.auto.contenders import Contender
from retrograd.estimators.auto.understanding import Understanding
from retrograd.estimators.forecasting.states import Difference

__all__ = ["Options", "described", "recipes"]

Array = np.ndarray[Any, Any]

# The longest look-back that is tried unasked, and how many rows an innovations model is worth its time for.
_LONGEST, _SHORT = 336, 300
# Rows up to which the series and its logarithm both compete.
_BOTH_SCALES = 5000
# The highest order of an autoregression about a mean season.
_LONGEST_ORDER = 25
# The longest season that the states of a recurrent model hold.
_LONGEST_STATES = 26


@dataclass(frozen=True)
class Options:
    """What :class:`retrograd.estimators.AutoForecaster` was asked for, by its names."""

    transform: str | None = "auto"
    difference: Difference | str = "auto"
    refit: bool = True


def recipes(
    y: Array, found: Understanding, longest: int, options: Options, *, inputs: bool, few: bool = False
) -> list[Contender]:
    """Return what is tried for a series, the simplest first.

    Args:
        y: ``(T,)``.
        found: what it is like.
        longest: the longest horizon.
        options: what was asked for.
        inputs: whether there are inputs, with which windows are tried too.
        few: only what is fitted in no time: the series is one of many.
    """
    tried = _Recipes(len(y), longest)
    tried.naive("last value", 1, 0)
    tried.naive("drift", 1, 1)
    for season in found.seasons:
        if season < len(y):
            tried.naive(f"seasonal naive ({season})", season, 0)
            tried.naive(f"seasonal naive ({season}) with drift", season, 1)
    seasons = [season for season in found.seasons if season < len(y) // 2]
    tried.add(Contender("AR", "autoregression", recursive=True))
    scales = [found.logs] if few else _scales(y, found, options)
    asked: list[Difference] = ["last", None, *seasons] if options.difference == "auto" else [options.difference]  # type: ignore[list-item]
    for logs in scales:
        tried.all_windows(asked, seasons, logs)
        for season in seasons if options.difference == "auto" else ():
            name = f"mean season ({season}){', logs' if logs else ''}"
            tried.add(Contender(name, "profile", season, 0, True, logs))
        if seasons and options.difference == "auto":
            tried.patterns(seasons[-1], min(seasons[0] + 1, _LONGEST_ORDER), logs)
    if inputs:
        known = [each for each in tried.found if each.family == "windows"]
        tried.found += [replace(each, name=f"{each.name}, inputs", inputs=True) for each in known]
    if len(y) <= _SHORT and not few:
        held = seasons[0] if seasons else None
        if options.difference == "auto":
            asked = [held] if seasons else [None, "last"]
        steady = found.logs if found.logs in scales else scales[0]
        if options.difference == "auto":
            for logs in [steady] if seasons else scales:
                tried.recurrent(held, logs)
        for difference in asked:
            tried.innovations(difference, steady if seasons else scales[0])
    return tried.found


def _scales(y: Array, found: Understanding, options: Options) -> list[bool]:
    """Return whether contenders take logarithms: no, yes, or both."""
    positive = bool(y.min() > 0)
    if options.transform != "auto":
        return [options.transform == "log"]
    return [found.logs] if not positive or len(y) > _BOTH_SCALES else [False, True]


@dataclass
class _Recipes:
    """Recipes without doubles, none with a look-back that the rows do not allow."""

    rows: int
    longest: int
    found: list[Contender] = field(default_factory=list)

    def add(self, contender: Contender) -> None:
        if all(replace(contender, name=each.name) != each for each in self.found):
            self.found.append(contender)

    def naive(self, name: str, season: int, drift: int) -> None:
        self.add(Contender(name, "naive", season, drift))

    def windows(self, difference: Difference, lags: int, recursive: bool, logs: bool) -> None:
        season = difference if isinstance(difference, int) else 0
        if lags < 2 or 2 * lags + season + (1 if recursive else self.longest) > self.rows:
            return
        self.add(Contender(described(difference, lags, recursive, logs), "windows", difference, lags, recursive, logs))

    def all_windows(self, differences: Sequence[Difference], seasons: Sequence[int], logs: bool) -> None:
        usual = max(2, min(_LONGEST, (self.rows - self.longest) // 10))
        looks = {usual} if seasons else {usual // 2, usual, 2 * usual}
        looks |= {count * season + 1 for season in seasons for count in (1, 2)}
        ordered = sorted({min(look, _LONGEST) for look in looks})
        for difference in differences:
            longest = ordered[-1]
            if difference == "last":
                direct = ordered
            elif difference is None:
                direct = [usual, longest]
            else:
                longest = min(difference + 1, _LONGEST)
                direct = [longest, usual]
            for lags in direct:
                self.windows(difference, lags, False, logs)
            self.windows(difference, longest, True, logs)

    def patterns(self, season: int, order: int, logs: bool) -> None:
        for family, of in (("pattern", ""), ("pattern of changes", " of changes")):
            name = f"AR about the mean season ({season}){of}{', logs' if logs else ''}"
            self.add(Contender(name, family, season, order, True, logs))

    def recurrent(self, season: int | None, logs: bool) -> None:
        if season is None or season <= _LONGEST_STATES:
            held = f", season {season}" if season else ""
            self.add(Contender(f"recurrent{held}{', logs' if logs else ''}", "recurrent", season, 0, True, logs))

    def innovations(self, difference: Difference, logs: bool) -> None:
        name = f"innovations, {_less(difference)}{', logs' if logs else ''}"
        self.add(Contender(name, "innovations", difference, 0, True, logs))


def described(difference: Difference, lags: int, recursive: bool, logs: bool) -> str:
    """Return the name of a read-out of windows."""
    how = "recursive" if recursive else "direct"
    return f"{how}, {lags} lags, {_less(difference)}{', logs' if logs else ''}"


def _less(difference: Difference) -> str:
    if difference is None:
        return "as it is"
    return "less the last value" if difference == "last" else f"less the value {difference} before"
