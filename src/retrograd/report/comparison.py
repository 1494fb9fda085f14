"""The page of a comparison: several models beside measured data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retrograd.pictures.palette import BLACK, DASHES, LINES
from retrograd.pictures.series import Line
from retrograd.report.content import Content, Section
from retrograd.report.page import write_page
from retrograd.report.series import panels

__all__ = ["ComparisonReport", "content", "write_comparison"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class ComparisonReport:
    """Several models beside measured data, ``N`` steps of O outputs, in the data's own units.

    Attributes:
        title: the page's heading.
        output_names: the O outputs.
        time_label: name of the time axis.
        time: every step, ``(N,)``.
        observed: ``(N, O)``, NaN where missing.
        model_names: the M models.
        free_runs: of each model, ``(N, O)``.
        steps_ahead: k.
        ahead: of each model, predictions k steps ahead, ``(N, O)``.
        metrics: rows of named numbers.
        settings: what was asked for.
    """

    title: str
    output_names: list[str]
    time_label: str
    time: Array
    observed: Array
    model_names: list[str]
    free_runs: list[Array]
    steps_ahead: int
    ahead: list[Array]
    metrics: dict[str, dict[str, float]]
    settings: dict[str, str]


def write_comparison(path: Path, report: ComparisonReport) -> None:
    """Write the page of a comparison to ``path``, whole."""
    write_page(path, content(report))


def content(report: ComparisonReport) -> Content:
    """Return measured outputs beside every model's: the free runs, then the predictions."""
    free = _section(
        report, "Free run", report.free_runs,
        "Each model runs on the inputs alone, from the initial state that fits these data best.",
    )  # fmt: skip
    ahead = _section(
        report, f"{report.steps_ahead} step{'s' * (report.steps_ahead > 1)} ahead", report.ahead,
        "Each model is told the true outputs up to that many steps before. One without innovations (K = 0) takes "
        "nothing from them: its prediction is its free run.",
    )  # fmt: skip
    # Forecasts have no free run: they start from the values before them.
    runs = any(np.isfinite(run).any() for run in report.free_runs)
    return Content(report.title, "model", report.metrics, [*([free] if runs else []), ahead], report.settings)


def _section(report: ComparisonReport, heading: str, runs: list[Array], reading: str) -> Section:
    colors = [color for color in LINES if color != BLACK]  # which is what was measured
    lines = [
        Line(name, values, colors[number % len(colors)], 2.5, DASHES[number // len(colors) % len(DASHES)])
        for number, (name, values) in enumerate(zip(report.model_names, runs, strict=True))
    ]
    lines = [line for line in lines if np.isfinite(line.values).any()]
    lines.append(Line("measured", report.observed, BLACK, 1, measured=True))
    drawn, notes = panels(report.time, report.time_label, report.output_names, lines, len(report.time))
    return Section(heading, " ".join((reading, *notes)), panels=drawn)
