"""What a series is like before anything is fitted: its seasons, its trend, whether it moves more where it is higher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import f as f_distribution
from scipy.stats import linregress

from retrograd.estimators.auto.gaps import filled
from retrograd.tables.step import Step

__all__ = ["Understanding", "calendar_seasons", "seasons_of", "spreads_with_level", "understand", "wild_at_the_end"]

Array = np.ndarray[Any, Any]

# What is looked for where the times do not tell: the seasons of quarters, days, months, hours, half-hours, weeks.
_COMMON = ((4,), (7,), (12,), (24, 168), (48, 336), (52,))
# How unlikely a season's pattern has to be by chance: where the calendar suggests it, and where it does not. There, it
# has to explain this part of the variance of the changes as well: of thousands of rows, a trace of one is certain.
_SUGGESTED, _FOUND, _EXPLAINED = 1e-2, 1e-4, 0.05
# Rows at the end that may be wild; from how many usual changes on; how many changes tell what is usual.
_LAST, _FAR, _ENOUGH_CHANGES = 3, 10.0, 12
_DAY = 86_400.0
# Steps in one word, by how they are said, and by the first letter of a pandas period.
_ADJECTIVES = {
    "every hour": "hourly", "every day": "daily", "business days": "business-day", "every week": "weekly",
    "every month": "monthly", "every 3 months": "quarterly", "every year": "yearly",
    "h": "hourly", "D": "daily", "B": "business-day", "W": "weekly", "M": "monthly", "Q": "quarterly", "Y": "yearly",
}  # fmt: skip
_WRITTEN = {"monthly": "%Y-%m", "quarterly": "%Y-%m", "yearly": "%Y"}


@dataclass(frozen=True)
class Understanding:
    """What a series is like.

    Attributes:
        rows: how many.
        first: the first time, as text.
        last: the last time, as text.
        step: the step of the times: a word such as ``"monthly"``, or several, or none for rows that are counted.
        missing: how many of the rows, or their values, were not given.
        seasons: lengths in steps, shortest first; empty for none.
        trend: whether its two halves differ more than its moves from row to row, or season to season, explain.
        logs: whether its logarithm is the series that is understood: it moves more where it is higher, or the caller
            said so.
        told: whether the caller said so.
    """

    rows: int
    first: str
    last: str
    step: str
    missing: int
    seasons: tuple[int, ...]
    trend: bool
    logs: bool
    told: bool = False

    def __str__(self) -> str:
        """Say it in one line."""
        seasons, word = " and ".join(map(str, self.seasons)), self.step in _ADJECTIVES.values()
        level = "grows with its level: logs" if self.logs else "as steady high as low: no logs"
        parts = [
            f"{self.rows} {f'{self.step} ' if word else ''}rows, {self.first} to {self.last}"
            + (f", {self.step}" if self.step and not word else ""),
            f"season{'s' if len(self.seasons) > 1 else ''} {seasons}" if self.seasons else "no season",
            f"{self.missing} of them missing, filled" if self.missing else "no gaps",
            "a trend" if self.trend else "no trend",
            f"{'' if self.logs else 'no '}logs, as asked" if self.told else level,
        ]
        return "; ".join(parts)


def understand(
    y: Array, index: Any, step: Step | None, seasons: Sequence[int] | None = None, logs: bool | None = None
) -> Understanding:
    """Return what a series is like.

    Args:
        y: ``(T,)``, NaN where a value is missing.
        index: its T times.
        step: how the times go on; None where that is unknown.
        seasons: where the caller knows them.
        logs: whether to take logarithms, where the caller knows.

    Examples:
        >>> t = np.arange(96)
        >>> index = pd.period_range("2016-01", periods=96, freq="M")
        >>> print(understand(10 + t + np.cos(np.pi * t / 6), index, Step.find(index)))
        96 monthly rows, 2016-01 to 2023-12; season 12; no gaps; a trend; as steady high as low: no logs
    """
    missing = int(np.isnan(y).sum())
    y = filled(y)
    found = seasons_of(y, calendar_seasons(step, index)) if seasons is None else tuple(sorted(seasons))
    said = _said(step)
    return Understanding(
        rows=len(y),
        first=_short(index[0], said),
        last=_short(index[-1], said),
        step=said,
        missing=missing,
        seasons=found,
        trend=_trends(y, found[-1] if found else 1),
        logs=spreads_with_level(y, found[0] if found else 1) if logs is None else logs,
        told=logs is not None,
    )


def wild_at_the_end(y: Array, season: int) -> tuple[int, float] | None:
    """Return the first of the last three values that lies far from those before, and how many usual changes far.

    Its change, from the value a season before, is over ten times the usual one, which is the range between the quarters
    of the changes before by 1.349, and over twice the largest of them; of a positive series, that of its logarithm too.

    Args:
        y: ``(T,)``, NaN where a value is missing: that is never one of them.
        season: in steps, 1 for none.

    Examples:
        >>> y = 10 + np.cos(np.arange(60) ** 2)
        >>> wild_at_the_end(y, 1) is None
        True
        >>> wild_at_the_end(np.append(y, 1e4), 1)[0]
        60
    """
    whole = filled(y, season)
    first = len(y) - _LAST
    if first - season < _ENOUGH_CHANGES:
        return None
    far = _times_the_usual(whole, season, first)
    if whole.min() > 0:
        far = np.where(_times_the_usual(np.log(whole), season, first) > 0, far, 0.0)
    wild = np.flatnonzero((far > 0) & ~np.isnan(y[first:]))
    return (first + int(wild[0]), float(far[wild[0]])) if len(wild) else None


def _times_the_usual(y: Array, season: int, first: int) -> Array:
    """Return how many usual changes each change from a row on is; 0 where it is not far."""
    changes = y[season:] - y[:-season]
    before, last = changes[: first - season], changes[first - season :]
    usual = float(np.ptp(np.quantile(before, [0.25, 0.75]))) / 1.349
    middle = float(np.median(before))
    if usual <= 1e-9 * float(np.abs(y[:first]).max()):
        return np.zeros(len(last))
    far = np.abs(last - middle)
    largest = float(np.abs(before - middle).max())
    return np.where((far > _FAR * usual) & (far > 2 * largest), far / usual, 0.0)


def calendar_seasons(step: Step | None, index: Any) -> tuple[int, ...] | None:
    """Return the seasons that a calendar suggests: of hours 24 and 168, of months 12, of years none.

    Returns:
        None where the times are numbers, which suggest nothing.

    Examples:
        >>> hours = pd.date_range("2024-01-01", periods=50, freq="h")
        >>> calendar_seasons(Step.find(hours), hours)
        (24, 168)
    """
    if step is None or not isinstance(index, (pd.DatetimeIndex, pd.PeriodIndex)):
        return None
    if step.kind == "business":
        return (step.freq.count("1") or 5,)
    ends = index[:1].append(step.at(index[0], np.array([1])))
    if isinstance(ends, pd.PeriodIndex):
        ends = ends.to_timestamp(how="start")
    seconds = (ends[1] - ends[0]).total_seconds()
    if seconds > 300 * _DAY:
        return ()
    if seconds > 80 * _DAY:
        return (4,)
    if seconds > 27 * _DAY:
        return (12,)
    if seconds > 6.9 * _DAY:
        return (round(365.25 * _DAY / seconds),)
    lengths = (_DAY / seconds, 7 * _DAY / seconds)
    return tuple(round(length) for length in lengths if length > 1.5 and abs(length - round(length)) < 1e-6)


def seasons_of(y: Array, suggested: Sequence[int] | None) -> tuple[int, ...]:
    """Return the seasons whose pattern is there in the data.

    The changes from row to row are averaged by their place in the season; an F-test tells whether these averages
    differ by more than chance. A longer season has to explain what the shorter one leaves.

    Args:
        y: ``(T,)``.
        suggested: what the calendar says; None where it says nothing, and common lengths are tried.

    Examples:
        >>> random = np.random.default_rng(0)
        >>> y = np.tile(random.standard_normal(7), 20) + 0.3 * random.standard_normal(140)
        >>> seasons_of(y, None), seasons_of(random.standard_normal(140).cumsum(), None)
        ((7,), ())
    """
    if len(y) < 4:
        return ()
    changes = _tame(np.diff(y))
    if suggested is not None:
        return _there(changes, sorted(suggested), _SUGGESTED, -np.inf)[0]
    found: tuple[int, ...] = ()
    rest, best = changes, 0.0
    for seasons in _COMMON:
        rival, left, part = _there(changes, seasons, _FOUND, _EXPLAINED)
        if not rival:
            continue
        multiple = bool(found) and rival[0] % found[0] == 0
        # A multiple of a season has its pattern as well: it has to explain what that leaves.
        if _judged(rest, rival[0], found[0])[0] < _FOUND if multiple else part > best:
            found, rest, best = rival, left, part
    return found


def spreads_with_level(y: Array, season: int) -> bool:
    """Return whether the spread within blocks of rows grows in proportion to their level.

    The slope of log spread over log level is 1 for a series that moves in per cent, 0 for one that moves in units;
    logs are taken above one half, where the slope stands out of its own uncertainty.
    """
    if len(y) < 12 or y.min() <= 0:
        return False
    length = max(season, 4, len(y) // 24)
    blocks = y[len(y) % length :].reshape(-1, length)
    if len(blocks) < 3:
        return False
    spread = np.abs(np.diff(blocks, axis=1)).mean(axis=1)
    level = np.log(blocks.mean(axis=1))
    if spread.min() <= 0 or np.ptp(level) < 0.2:
        return False
    fitted = linregress(level, np.log(spread))
    return bool(fitted.slope > 0.5 and fitted.pvalue < 0.05)


def _trends(y: Array, season: int) -> bool:
    blocks = y[len(y) % season :].reshape(-1, season).mean(axis=1)
    if len(blocks) < 4 or np.ptp(blocks) == 0:
        return False
    moves = np.diff(blocks)
    spread = moves.std()
    return bool(abs(moves.mean()) > 2 * spread / np.sqrt(len(moves))) if spread > 0 else True


def _there(changes: Array, seasons: Sequence[int], chance: float, least: float) -> tuple[tuple[int, ...], Array, float]:
    """Return the seasons that are there, each in what the shorter ones leave; what they leave; the first one's part."""
    found: list[int] = []
    first = 0.0
    for season in seasons:
        likely, part = _judged(changes, season, found[-1] if found else 1)
        if likely < chance and part >= least:
            first = first if found else part
            found.append(season)
            changes = changes - _pattern(changes, season)
    return tuple(found), changes, first


def _judged(changes: Array, season: int, shorter: int) -> tuple[float, float]:
    """Return how likely a pattern of this length is by chance, and the part of the variance that it explains."""
    rows = len(changes)
    if rows < 2 * season + 1 or rows - season < 3:
        return 1.0, 0.0
    left = changes - _pattern(changes, season)
    before, after = float((changes - changes.mean()) @ (changes - changes.mean())), float(left @ left)
    freedom, rest = season - shorter, rows - season
    if before <= 0 or freedom < 1:
        return 1.0, 0.0
    after = max(after, 1e-12 * before)
    ratio = max(before - after, 0.0) / freedom / (after / rest)
    return float(f_distribution.sf(ratio, freedom, rest)), 1 - after / rest * (rows - shorter) / before


def _pattern(changes: Array, season: int) -> Array:
    places = np.arange(len(changes)) % season
    means = np.bincount(places, changes, season) / np.bincount(places, minlength=season)
    return np.asarray(means[places])


def _tame(changes: Array) -> Array:
    """Return changes with the few largest cut to ten times the usual size: one jump is no season."""
    usual = float(np.median(np.abs(changes - np.median(changes))))
    return np.clip(changes, np.median(changes) - 15 * usual, np.median(changes) + 15 * usual) if usual > 0 else changes


def _said(step: Step | None) -> str:
    """Return a step in a word or several; nothing for rows that are counted."""
    if step is None:
        return "of unknown step"
    if step.kind == "number" and step.size == 1:
        return ""
    words = str(step)
    key = step.freq[:1] if step.kind == "period" and step.freq[1:2] in ("", "-") else words.partition(", ")[0]
    return _ADJECTIVES.get(key, words)


def _short(time: Any, step: str) -> str:
    form = _WRITTEN.get(step)
    return str(time).removesuffix(" 00:00:00") if form is None else str(time.strftime(form))
