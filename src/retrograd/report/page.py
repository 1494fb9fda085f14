"""The page of a training run: one file that opens with no network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retrograd.files import write_whole

__all__ = ["RunReport", "write_report"]

Array = np.ndarray[Any, Any]


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
        history: for each epoch ``epoch``, ``loss`` and ``gradient_norm``.
        delta_time: the training steps, ``(T,)``.
        delta_norm: ‖∂L/∂h_t‖ at each of them, ``(T,)``.
        eigenvalues: of W_hh, ``(H,)``, complex.
        closed_loop_eigenvalues: of W_hh + W_ih C, if the loop was ever closed.
        metrics: rows of named numbers.
        settings: what was run.
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


def write_report(path: Path, report: RunReport) -> None:
    """Write the page to ``path``, whole: an existing file is replaced only when the new one is complete.

    Raises:
        ValueError: arrays of the report do not fit each other.
    """
    from bokeh.embed import components
    from bokeh.resources import Resources
    from jinja2 import Environment, PackageLoader

    from retrograd.report import figures

    _check(report)
    found = (
        figures.predictions(report),
        figures.training(report),
        figures.gradient_flow(report),
        figures.spectrum(report),
    )
    parts = [part for part in found if part is not None]
    script, divs = components([plot for part in parts for _, plot in part.plots])
    remaining = iter(divs)
    # Autoescape for every text; only Bokeh's own library, script and divs are marked safe in the template.
    environment = Environment(
        loader=PackageLoader("retrograd.report", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.get_template("page.html.j2").render(
        report=report,
        columns=list(dict.fromkeys(name for row in report.metrics.values() for name in row)),
        parts=[
            {
                "heading": part.heading,
                "plots": [{"caption": caption, "div": next(remaining)} for caption, _ in part.plots],
                "reading": part.reading,
            }
            for part in parts
        ],
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
    for name, shape in shapes.items():
        if np.shape(getattr(report, name)) != shape:
            raise ValueError(f"{name} has shape {np.shape(getattr(report, name))}, expected {shape}")
    if not 0 <= report.test_start <= steps:
        raise ValueError(f"test_start is {report.test_start}, expected 0 to {steps} (none held out)")
