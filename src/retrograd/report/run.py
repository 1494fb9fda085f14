"""The page of a run: its record, its sections and their sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retrograd.pictures.axes import is_dated
from retrograd.pictures.palette import BLACK, BLUE, VERMILLION
from retrograd.pictures.series import Line
from retrograd.pictures.spectrum import eigenvalues
from retrograd.pictures.training import curves, gradient_norms
from retrograd.report import flow, outlook, story, system
from retrograd.report.content import Content, Section, TextTable
from retrograd.report.goodness import Goodness
from retrograd.report.page import write_page
from retrograd.report.series import Ahead, panels
from retrograd.report.story import Story

if TYPE_CHECKING:
    from retrograd.insight import Analysis

__all__ = ["RunReport", "content", "write_report"]

Array = np.ndarray[Any, Any]

NO_INTERVAL = "This model gives no interval: the errors by steps ahead, below, say how far off it was."


@dataclass(frozen=True)
class RunReport:
    """A run, with values in the data's own units.

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
        intervals: of the forecast, by level in per cent: lower and upper ends, ``(horizon, O)``.
        eigenvalue_names: what the two sets of eigenvalues belong to.
        spectrum_reading: a sentence on the second set.
        system: what is known of an identified system.
        summary: tables of the fit's numbers.
        analysis: how the gradient of the loss flows back through time.
        trained_on: that loss, in words that go on after "The loss is".
        goodness: forecasts of the held-out end beside the naive ones.
        stories: what every target is like, and what is left over.
        contenders: tables of what was tried.

    Raises:
        ValueError: arrays do not fit each other.
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
    intervals: Mapping[float, tuple[Array, Array]] = field(default_factory=dict)
    eigenvalue_names: tuple[str, str] = ("W_hh", "W_hh + W_ih C")
    spectrum_reading: str = (
        "Those of W_hh rule while true values come in, those of W_hh + W_ih C where the network feeds on itself."
    )
    system: system.SystemReport | None = None
    summary: Sequence[TextTable] = ()
    analysis: Analysis | None = None
    trained_on: str = "the one-step error over the training part"
    goodness: Goodness | None = None
    stories: Sequence[Story] = ()
    contenders: Sequence[TextTable] = ()

    def __post_init__(self) -> None:
        """Check the shapes."""
        steps, targets = len(self.time), len(self.target_names)
        if targets == 0:
            raise ValueError("target_names is empty, expected at least one predicted column")
        ahead = (len(self.forecast_time), targets)
        shapes = dict.fromkeys(("observed", "one_step", "free_run"), (steps, targets))
        shapes |= {"forecast": ahead}
        arrays = [(name, getattr(self, name), shape) for name, shape in shapes.items()]
        arrays += [(f"intervals[{level:g}]", end, ahead) for level, ends in self.intervals.items() for end in ends]
        for name, array, shape in (*arrays, ("delta_norm", self.delta_norm, (len(self.delta_time),))):
            if np.shape(array) != shape:
                raise ValueError(f"{name} has shape {np.shape(array)}, expected {shape}")
        if not 0 <= self.test_start <= steps:
            raise ValueError(f"test_start is {self.test_start}, expected 0 to {steps} (none held out)")


def write_report(path: Path, report: RunReport) -> None:
    """Write the page of a run to ``path``, whole: an existing file is replaced only when the new one is complete."""
    write_page(path, content(report))


def content(report: RunReport) -> Content:
    """Return the content of a run's page."""
    names, identified, analysis = report.target_names, report.system, report.analysis
    of_system = None if identified is None else system.sections(identified, names)
    sections = [
        outlook.section(report.time, report.time_label, names, report.observed, ahead(report), NO_INTERVAL),
        None if report.goodness is None else report.goodness.section(),
        story.section(report.stories, report.contenders) if report.stories else None,
        predictions(report),
        *(of_system[:1] if of_system else ()),
        training(report),
        gradient_flow(report),
        *([] if analysis is None else flow.sections(analysis, report.trained_on)),
        spectrum(report),
        *(of_system[1:] if of_system else ()),
    ]
    there = [section for section in sections if section is not None]
    return Content(report.title, "", {}, there, report.settings, report.summary)


def ahead(report: RunReport) -> Ahead:
    """Return the forecast as pictures take it."""
    return Ahead(report.forecast_time, report.forecast, report.intervals)


def errors(report: RunReport) -> TextTable:
    """Return the errors of one-step predictions and of the free run, with those of simple methods."""
    columns = list(dict.fromkeys(name for row in report.metrics.values() for name in row))
    rows = [(name, *(f"{row[c]:.4g}" if c in row else "–" for c in columns)) for name, row in report.metrics.items()]
    return TextTable("Errors, in the data's units", ("prediction", *columns), rows)


def predictions(report: RunReport) -> Section:
    """Observed, one step ahead, free run and forecast, one panel a target."""
    lines = [
        # The observed line lies on top: a good prediction must not hide it.
        Line("one step ahead", report.one_step, BLUE, 2.5),
        Line("observed", report.observed, BLACK, 1, measured=True),
        Line("free run", report.free_run, VERMILLION, 2, (6, 3)),
    ]
    drawn, notes = panels(report.time, report.time_label, report.target_names, lines, report.test_start, ahead(report))
    reading = ["One step ahead, the model is told every true value up to the step before."]
    if report.test_start < len(report.time):
        # An identified system runs on from its state; the others read their own predictions.
        alone = "feeds on its own output" if report.system is None else "runs on by itself, on the inputs if it has any"
        reading.append(
            f"In the free run it is told none from the start of the shaded, held-out end and {alone}: errors add up."
        )
    else:
        reading.append("Nothing was held out: these are the very steps that it was trained on.")
    if len(report.forecast_time):
        reading.append("The forecast goes on in the same way past the last observation.")
        if report.intervals:
            levels = " and ".join(f"{level:g}" for level in sorted(report.intervals))
            bands = "bands hold" if len(report.intervals) > 1 else "band holds"
            reading.append(
                f"Its {bands} the true value with a probability of {levels} %, if the noise stays what it was."
            )
    tables = [errors(report)] if report.metrics else []
    return Section("Prediction against truth", " ".join((*reading, *notes)), panels=drawn, tables=tables)


def training(report: RunReport) -> Section | None:
    """Loss and length of the gradient, step by step of the optimizer; None if there was none."""
    if not report.history:
        return None

    def column(name: str) -> Array:
        return np.array([row.get(name, np.nan) for row in report.history], dtype=float)

    first = report.history[0]
    if "epoch" in first:
        shown = {"loss, scaled": {"loss": column("loss")}}
        reading = (
            f"The loss is {report.trained_on}: a mean squared error, each column of the data scaled to deviation 1."
        )
        if "gradient_norm" in first:
            shown["‖gradient‖, scaled"] = {"length of the gradient": column("gradient_norm")}
            reading += (
                " Below it is the length of the gradient of all weights together. It shrinks towards a minimum; where "
                "it shoots up, it asks for smaller steps."
            )
        return Section("Training", reading, [curves(column("epoch"), "epoch", shown)])
    criteria = {"criterion per step": column("loss")}
    if "validation" in first:
        criteria["on the validation part"] = column("validation")
    return Section(
        "Training",
        "The criterion is what the fit brings down, from where the first iteration left it.",
        [curves(column("iteration"), "iteration", {"criterion per step": criteria})],
    )


def gradient_flow(report: RunReport) -> Section | None:
    """‖∂L/∂h_t‖ at every training step; None where no gradient was kept."""
    if not len(report.delta_norm):
        return None
    same_axis = is_dated(report.delta_time) == is_dated(report.time)
    label = report.time_label if same_axis else "training step"
    # A trained loss is of scaled data; an identified system's criterion has no unit.
    size = "‖∂L/∂h_t‖, scaled" if report.system is None else "‖∂L/∂h_t‖"
    figure, notes = gradient_norms(report.delta_time, report.delta_norm, label, size)
    reading = (
        "The size of the loss's gradient with respect to each state, as backpropagation carries it from the last step "
        "(right) to the first (left), on a logarithmic scale. A straight fall to the left means that old rows hardly "
        "counted in the fit (a vanishing gradient), a straight rise that they counted most (an exploding one). "
        f"The loss is {report.trained_on}."
    )
    own, horizon = "", len(report.forecast_time)
    if report.system is None and report.closed_loop_eigenvalues is not None and horizon:
        radius = float(np.abs(report.closed_loop_eigenvalues).max(initial=0))
        own = flow.own_errors(radius, horizon) if np.isfinite(radius) else ""
    points = () if report.analysis is None else flow.verdict(report.analysis, own)
    return Section("How the gradient flows back through time", " ".join((reading, *notes)), [figure], points=points)


def spectrum(report: RunReport) -> Section | None:
    """Eigenvalues in the complex plane, with the unit circle; None where there are none."""
    if not len(report.eigenvalues):
        return None
    sets = [(report.eigenvalue_names[0], report.eigenvalues)]
    reading = [
        "Each eigenvalue is a mode of memory, and the gradient passes back through the same ones. Inside the unit "
        "circle a mode fades at each step, the nearer to the circle the more slowly; outside it grows."
    ]
    if report.closed_loop_eigenvalues is not None:
        sets.append((report.eigenvalue_names[1], report.closed_loop_eigenvalues))
        reading.append(report.spectrum_reading)
    figure, notes = eigenvalues(sets)
    heading = "Eigenvalues of the transition" if report.system is None else "Poles"
    return Section(heading, " ".join((*reading, *notes)), [figure])
