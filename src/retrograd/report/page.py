"""The page of a run, or of models held against data: one file that opens with no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retrograd.files import write_whole

if TYPE_CHECKING:
    from retrograd.insight import Analysis
    from retrograd.report.plot import Part

__all__ = ["ComparisonReport", "RunReport", "SystemReport", "TextTable", "plural", "write_comparison", "write_report"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class TextTable:
    """A table of text; the first column names its rows.

    Attributes:
        caption: what it shows.
        header: names of the columns; empty for none.
        rows: as many cells each, or fewer.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class SystemReport:
    """What the page of an identified system shows beside its predictions. O outputs, E inputs.

    Attributes:
        input_names: the E inputs.
        time_unit: of the sample time: "step", "s", ….
        sample_time: of a step.
        correlation_lags: of ``residual_correlation``, ``(L,)``.
        residual_correlation: of each output's residuals with their past, ``(L, O)``.
        correlation_band: 99 % of white noise lies within ± this.
        input_lags: ``(K,)``.
        input_correlation: of residuals with inputs, ``(K, O, E)``.
        input_band: likewise, ``(O, E)``.
        frequencies: in cycles per unit of time, ``(F,)``.
        response: of outputs to inputs there, complex ``(F, O, E)``.
        steps: responses to unit steps, ``(S, O, E)``.
        order: n.
        singular_values: that show the order.
        order_criteria: ``{order: (AIC, BIC)}`` of those tried.
    """

    input_names: list[str]
    time_unit: str
    sample_time: float
    correlation_lags: Array
    residual_correlation: Array
    correlation_band: float
    input_lags: Array
    input_correlation: Array
    input_band: Array
    frequencies: Array
    response: Array
    steps: Array
    order: int
    singular_values: Array
    order_criteria: dict[int, tuple[float, float]]


def plural(unit: str) -> str:
    """Return a unit of time as it reads after "in".

    >>> plural("step"), plural("h"), plural("unit of minutes")
    ('steps', 'h', 'units of minutes')
    """
    first, space, rest = unit.partition(" ")
    return f"{first}s{space}{rest}" if first in ("step", "unit") else unit


@dataclass(frozen=True)
class RunReport:
    """What a run's page shows. Values are in the data's own units.

    Attributes:
        title: the page's heading.
        target_names: the O predicted columns.
        time_label: name of the time axis.
        time: every observed step, ``(N,)``: numbers or datetime64.
        observed: ``(N, O)``, NaN where missing.
        one_step: predictions one step ahead, ``(N, O)``, NaN where there is none.
        free_run: free-running predictions, ``(N, O)``, NaN outside the held-out end.
        test_start: index of the first held-out step, N if there is none.
        forecast_time: ``(horizon,)``.
        forecast: ``(horizon, O)``.
        history: for each epoch ``epoch``, ``loss`` and ``gradient_norm``; or for each iteration ``iteration``, ``loss``
            and, where part of the training was held out to judge it, ``validation``.
        delta_time: the training steps, ``(T,)``.
        delta_norm: ‖∂L/∂h_t‖ at each of them, ``(T,)``.
        eigenvalues: of the transition, ``(H,)``, complex; empty where the model has none to show.
        closed_loop_eigenvalues: of the closed loop, if there is one.
        metrics: rows of named numbers.
        settings: what was run.
        forecast_lower: lower end of the forecast's interval, ``(horizon, O)``, if it has one.
        forecast_upper: its upper end.
        eigenvalue_names: what the two sets of eigenvalues belong to.
        spectrum_reading: a sentence on the second set.
        system: what is known of an identified system.
        summary: tables of the fit's numbers.
        analysis: how the gradient of the loss flows back through time.
        trained_on: that loss, in words that go on after "The loss is".
    """

    title: str
    target_names: list[str]
    time_label: str
    time: Array
    observed: Array
    one_step: Array
    free_run: Array
    test_start: int
    forecast_time: Array
    forecast: Array
    history: list[dict[str, float]]
    delta_time: Array
    delta_norm: Array
    eigenvalues: Array
    closed_loop_eigenvalues: Array | None
    metrics: dict[str, dict[str, float]]
    settings: dict[str, str]
    forecast_lower: Array | None = None
    forecast_upper: Array | None = None
    eigenvalue_names: tuple[str, str] = ("W_hh", "W_hh + W_ih C")
    spectrum_reading: str = (
        "Those of W_hh rule while true values come in, those of W_hh + W_ih C where the network feeds on itself."
    )
    system: SystemReport | None = None
    summary: Sequence[TextTable] = ()
    analysis: Analysis | None = None
    trained_on: str = "the one-step error over the training part"


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


def write_report(path: Path, report: RunReport) -> None:
    """Write the page to ``path``, whole: an existing file is replaced only when the new one is complete.

    Raises:
        ValueError: arrays of the report do not fit each other.
    """
    from retrograd.report import figures, flow_figures, system_figures

    _check(report)
    found = (
        figures.predictions(report),
        system_figures.residuals(report),
        figures.training(report),
        figures.gradient_flow(report),
        flow_figures.through_lags(report),
        flow_figures.lag_map(report),
        flow_figures.truncation(report),
        figures.spectrum(report),
        system_figures.bode(report),
        system_figures.step(report),
        system_figures.order(report),
    )
    parts = [part for part in found if part is not None]
    _write_page(path, report.title, "prediction", report.metrics, parts, report.summary, report.settings)


def write_comparison(path: Path, report: ComparisonReport) -> None:
    """Write the page of a comparison to ``path``, whole."""
    from retrograd.report import figures

    _write_page(path, report.title, "model", report.metrics, figures.comparison(report), (), report.settings)


def _write_page(
    path: Path,
    title: str,
    judged: str,
    metrics: dict[str, dict[str, float]],
    parts: list[Part],
    summary: Sequence[TextTable],
    settings: dict[str, str],
) -> None:
    from bokeh.embed import components
    from bokeh.resources import Resources
    from jinja2 import Environment, PackageLoader

    script, divs = components([plot for part in parts for _, plot in part.plots])
    remaining = iter(divs)
    # Autoescape for every text; only Bokeh's own library, script and divs are marked safe in the template.
    environment = Environment(
        loader=PackageLoader("retrograd.report", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.get_template("page.html.j2").render(
        title=title,
        judged=judged,
        metrics=metrics,
        columns=list(dict.fromkeys(name for row in metrics.values() for name in row)),
        parts=[
            {
                "heading": part.heading,
                "plots": [{"caption": caption, "div": next(remaining)} for caption, _ in part.plots],
                "reading": part.reading,
                "points": part.points,
            }
            for part in parts
        ],
        summary=summary,
        settings=settings,
        script=script,
        bokeh="\n".join(Resources(mode="inline", components=["bokeh"]).js_raw),
    )
    write_whole(path, page.encode())


def _check(report: RunReport) -> None:
    steps, targets = len(report.time), len(report.target_names)
    if targets == 0:
        raise ValueError("target_names is empty, expected at least one predicted column")
    shapes = {
        "observed": (steps, targets),
        "one_step": (steps, targets),
        "free_run": (steps, targets),
        "forecast": (len(report.forecast_time), targets),
        "delta_norm": (len(report.delta_time),),
    }
    for name in ("forecast_lower", "forecast_upper"):
        if getattr(report, name) is not None:
            shapes[name] = shapes["forecast"]
    for name, shape in shapes.items():
        if np.shape(getattr(report, name)) != shape:
            raise ValueError(f"{name} has shape {np.shape(getattr(report, name))}, expected {shape}")
    if not 0 <= report.test_start <= steps:
        raise ValueError(f"test_start is {report.test_start}, expected 0 to {steps} (none held out)")
