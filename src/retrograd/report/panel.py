"""The page of many series: their forecasts, how good those are over all and for each, what the series are like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retrograd.pictures.palette import BLACK
from retrograd.pictures.series import Line
from retrograd.report.content import Content, Section, TextTable
from retrograd.report.goodness import Goodness
from retrograd.report.page import write_page
from retrograd.report.series import Ahead, Panel, panels

__all__ = ["PanelReport", "Seen", "content", "write_panel"]

Array = np.ndarray[Any, Any]

# Series that are drawn, rows before the forecast that are, series that a table has, and whose choice is told.
DRAWN, ROWS, LISTED, TOLD = 6, 200, 400, 12


@dataclass(frozen=True)
class Seen:
    """One series and its forecast.

    Attributes:
        name: of the series.
        time: ``(N,)``.
        observed: ``(N, O)``.
        forecast_time: ``(horizon,)``.
        forecast: ``(horizon, O)``.
        intervals: by level in per cent, lower and upper ends ``(horizon, O)``.
        goodness: of its held-out end, if it has one.
    """

    name: str
    time: Array
    observed: Array
    forecast_time: Array
    forecast: Array
    intervals: Mapping[float, tuple[Array, Array]]
    goodness: Goodness | None


@dataclass(frozen=True)
class PanelReport:
    """Many series.

    Attributes:
        title: the page's heading.
        target_names: the O targets.
        time_label: of the time axis.
        seen: the series.
        said: how good the forecasts are, in words.
        summary: scores over all series.
        understood: a line a series (and target) on what it is like.
        chosen: a line a series (and target) on what forecasts it.
        settings: what was run.
    """

    title: str
    target_names: Sequence[str]
    time_label: str
    seen: Sequence[Seen]
    said: Sequence[str]
    summary: Sequence[TextTable]
    understood: Sequence[str]
    chosen: Sequence[str]
    settings: Mapping[str, str]


def write_panel(path: Path, report: PanelReport) -> None:
    """Write the page to ``path``, whole."""
    write_page(path, content(report))


def content(report: PanelReport) -> Content:
    """Return the content of the page."""
    sections = [_forecasts(report)]
    if report.said:
        reading = "Of every series the last rows were held out; the forecast knew those before them alone."
        tables = [*report.summary, *_by_series(report)]
        sections.append(Section("How good", reading, lead=report.said, tables=tables))
    lines = [(line.partition(": ")[0], line.partition(": ")[2]) for line in report.understood[:LISTED]]
    reading = f"{len(report.seen)} series, what forecasts the first of them, and each in one line."
    table = TextTable("What they are like", (), lines)
    sections.append(Section("What the series are like", reading, points=report.chosen[:TOLD], tables=[table]))
    return Content(report.title, "", {}, sections, report.settings)


def _forecasts(report: PanelReport) -> Section:
    drawn: list[Panel] = []
    notes = dict[str, None]()
    for each in report.seen[:DRAWN]:
        rows = slice(-ROWS, None)
        names = [f"{each.name}: {name}" if len(report.target_names) > 1 else each.name for name in report.target_names]
        lines = [Line("observed", each.observed[rows], BLACK, 1.5, measured=True)]
        ahead = Ahead(each.forecast_time, each.forecast, each.intervals)
        found, more = panels(each.time[rows], report.time_label, names, lines, len(each.time[rows]), ahead)
        # Each series has a time axis of its own.
        drawn += [_named(panel, name) for panel, name in zip(found, names, strict=True)]
        notes |= dict.fromkeys(more)
    reading = [f"The first {len(report.seen[:DRAWN])} of {len(report.seen)} series, with what comes next."]
    return Section("Forecast", " ".join((*reading, *notes)), panels=drawn)


def _named(panel: Panel, name: str) -> Panel:
    return Panel(name, name, panel.time_label, panel.dated, panel.curves, panel.shade, panel.bands, panel.limits)


def _by_series(report: PanelReport) -> list[TextTable]:
    """Return the scores of every series, the one that is worst beside its seasonal naive first."""
    found = []
    for column, target in enumerate(report.target_names):
        rows: list[tuple[float, tuple[str, ...]]] = []
        for each in report.seen:
            if each.goodness is None:
                continue
            own = each.goodness.models[0].scores(column)
            naive = each.goodness.baselines[0]
            other = naive.scores(column)["RMSE"]
            ratio = own["RMSE"] / other if other > 0 else (np.inf if own["RMSE"] > 0 else 1.0)
            cells = *(f"{own[score]:.4g}" for score in ("RMSE", "MASE", "sMAPE")), f"{other:.4g}", naive.name
            rows.append((float(ratio), (each.name, *cells)))
        rows.sort(key=lambda row: -row[0])
        of = f" of {target}" if len(report.target_names) > 1 else ""
        caption = f"Errors{of} by series, the one that is worst beside the naive forecast first"
        header = ("series", "RMSE", "MASE", "sMAPE", "RMSE of the naive", "which is")
        found.append(TextTable(caption, header, [cells for _, cells in rows[:LISTED]]))
    return found
