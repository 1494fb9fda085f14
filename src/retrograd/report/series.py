"""Panels of series over time, which the reader of a page zooms: the numbers drawn, and sentences on those left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from retrograd.pictures.axes import is_dated, isolated, numbers, visible_range
from retrograd.pictures.palette import GREEN
from retrograd.pictures.series import Line
from retrograd.pictures.thin import thin

__all__ = ["Ahead", "Curve", "Panel", "panels"]

Array = np.ndarray[Any, Any]

MOST_PANELS = 12
# Most isolated points marked on one curve.
MOST_DOTS = 200
# A point costs 16 bytes, a third more in base64: these limits keep any page under 3 MB.
MOST_POINTS_IN_ALL, MOST_POINTS_A_LINE = 40_000, 4_000
# Series above LONG steps get close-ups: CLOSE_UP steps and a third as many before them.
LONG, CLOSE_UP = 1_000, 240


@dataclass(frozen=True)
class Ahead:
    """A forecast beyond the data.

    Attributes:
        time: ``(horizon,)``.
        values: ``(horizon, O)``.
        intervals: by level in per cent, lower and upper ends ``(horizon, O)``.
    """

    time: Array
    values: Array
    intervals: Mapping[float, tuple[Array, Array]]


@dataclass(frozen=True)
class Curve:
    """A line of one panel.

    Attributes:
        name: for the legend.
        x: numbers, or milliseconds since 1970.
        y: NaN where the line breaks.
        dots: indices of points without a neighbour.
        color: of the line.
        width: of the line.
        dash: lengths of dashes and gaps; empty for a solid line.
    """

    name: str
    x: Array
    y: Array
    dots: Array
    color: str
    width: float
    dash: Sequence[int] = ()


@dataclass(frozen=True)
class Panel:
    """One column of the data over time, or a part of it.

    Attributes:
        caption: what it shows; empty for the only one.
        group: panels of one group are panned together.
        time_label: of the time axis.
        dated: whether that counts in dates.
        curves: the first one is drawn at the bottom.
        shade: where the held-out part begins and ends.
        bands: of the forecast's intervals, the widest first: the level in per cent, x, lower and upper ends.
        limits: of the vertical axis, where a prediction must not set them.
    """

    caption: str
    group: str
    time_label: str
    dated: bool
    curves: Sequence[Curve]
    shade: tuple[float, float] | None
    bands: Sequence[tuple[float, Array, Array, Array]]
    limits: tuple[float, float] | None


def panels(
    time: Array,
    label: str,
    names: Sequence[str],
    lines: Sequence[Line],
    held_out_from: int,
    ahead: Ahead | None = None,
) -> tuple[list[Panel], list[str]]:
    """Return one panel a column, more where the series is long, and sentences on what they do not show.

    Args:
        time: ``(N,)``, numbers or dates.
        label: of the time axis.
        names: of the O columns.
        lines: what is drawn, the first at the bottom; one of them is measured.
        held_out_from: index of the first held-out step, N if there is none.
        ahead: the forecast.
    """
    shown = names[:MOST_PANELS]
    points = min(MOST_POINTS_A_LINE, MOST_POINTS_IN_ALL // (len(lines) * max(len(shown), 1)))
    views = _views(len(time), held_out_from, ahead is not None and len(ahead.time) > 0)
    found, notes = [], dict[str, None]()
    for column, name in enumerate(shown):
        for view, suffix in views:
            curves = [_curve(line, time[view], line.values[view, column], points, notes) for line in lines]
            goes_on = ahead if ahead is not None and view.stop == len(time) else None
            drawn = [line.values[view, column] for line in lines]
            bands = []
            if goes_on is not None:
                forecast = Line("forecast", goes_on.values, GREEN, 3)
                curves.append(_curve(forecast, goes_on.time, goes_on.values[:, column], points, notes))
                drawn.append(goes_on.values[:, column])
                for level, (lower, upper) in (
                    sorted(goes_on.intervals.items(), reverse=True) if len(goes_on.time) else ()
                ):
                    bands.append((level, numbers(goes_on.time), lower[:, column], upper[:, column]))
                    drawn += [lower[:, column], upper[:, column]]
            (observed,) = (line.values[view, column] for line in lines if line.measured)
            limits = visible_range(observed, np.concatenate(drawn))
            if limits is not None:
                notes[f"A prediction of {name} leaves the picture: zoom out to follow it."] = None
            shade = None
            if held_out_from < len(time):
                left, right = numbers(time[[max(held_out_from, view.start), view.stop - 1]])
                shade = float(left), float(right)
            caption = f"{name}{suffix}" if len(shown) * len(views) > 1 else ""
            there = [curve for curve in curves if np.isfinite(curve.y).any()]
            found.append(Panel(caption, suffix, label, is_dated(time), there, shade, bands, limits))
    if len(names) > MOST_PANELS:
        notes[f"The first {MOST_PANELS} of {len(names)} targets are drawn."] = None
    return found, list(notes)


def _views(steps: int, held_out_from: int, forecast: bool) -> list[tuple[slice, str]]:
    """Return the parts of a series that are drawn: thousands of steps side by side are a solid block."""
    views = [(slice(0, steps), "")]
    if steps > LONG:
        close_up = slice(max(held_out_from - CLOSE_UP // 3, 0), min(held_out_from + CLOSE_UP, steps))
        where = " where the held-out end begins" if held_out_from < steps else " at the end"
        views.append((close_up, f", close up{where}"))
        if close_up.stop < steps and forecast:
            views.append((slice(steps - CLOSE_UP // 3, steps), ", close up of the forecast"))
    return views


def _curve(line: Line, time: Array, values: Array, points: int, notes: dict[str, None]) -> Curve:
    infinite = int(np.isinf(values).sum())
    if infinite:
        notes[f"{infinite} infinite values of “{line.name}” are left out."] = None
    y = np.where(np.isfinite(values), values, np.nan)
    kept = thin(y, points)
    if len(kept) < len(y):
        notes[f"Of {len(y):,} steps, the smallest and largest of every few are drawn."] = None
        y, time = y[kept], time[kept]
    return Curve(line.name, numbers(time), y, isolated(y)[:MOST_DOTS], line.color, line.width, line.dash)
