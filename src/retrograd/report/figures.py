"""The page's figures of a run: each a heading, one or more plots, and a sentence that says how to read them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from bokeh.models import BasicTicker, ColumnDataSource, HoverTool
from bokeh.models.annotations import BoxAnnotation

from retrograd.pictures.palette import BLACK, BLUE, GREEN, PURPLE, VERMILLION
from retrograd.report import flow_figures
from retrograd.report.plot import (
    COLORS,
    DASHES,
    MOST_MARKERS,
    MOST_PANELS,
    MOST_POINTS_A_LINE,
    MOST_POINTS_IN_ALL,
    Notes,
    Part,
    Plot,
    is_dated,
    numbers,
    spans_decades,
)

if TYPE_CHECKING:
    from retrograd.report.page import ComparisonReport, RunReport

__all__ = ["comparison", "gradient_flow", "predictions", "spectrum", "training"]

Array = np.ndarray[Any, Any]

# From LONG steps on there is a close-up, of CLOSE_UP steps and a third as many before them.
LONG = 1_000
CLOSE_UP = 240


@dataclass(frozen=True)
class _Line:
    """One line in every target's panel: values ``(N, O)``."""

    name: str
    values: Array
    style: dict[str, Any]
    measured: bool = False


@dataclass(frozen=True)
class _Ahead:
    """What goes on past the data: times, values ``(horizon, O)``, and the ends of their interval."""

    time: Array
    values: Array
    lower: Array | None
    upper: Array | None


def predictions(report: RunReport) -> Part:
    """One panel a target: observed, one step ahead, free-running, forecast; of a long series, a close-up too."""
    held_out = report.test_start < len(report.time)
    lines = [
        # What was observed is drawn over what was predicted, so that a good prediction does not hide it.
        _Line("one step ahead", report.one_step, {"color": BLUE, "width": 2.5}),
        _Line("observed", report.observed, {"color": BLACK, "width": 1}, measured=True),
        _Line("free run", report.free_run, {"color": VERMILLION, "width": 2, "dash": [6, 3]}),
    ]
    ahead = _Ahead(report.forecast_time, report.forecast, report.forecast_lower, report.forecast_upper)
    plots, notes = _panels(report.time, report.time_label, report.target_names, lines, report.test_start, ahead)
    # An identified system runs on from its state; the others read their own predictions.
    alone = "feeds on its own output" if report.system is None else "runs on by itself, on the inputs if it has any"
    reading = "One step ahead, the model is told every true value up to the step before" + (
        f"; in the free run it is told none from the start of the shaded, held-out end and {alone}, so that errors "
        "add up."
        if held_out
        else "; nothing was held out, so that these are the very steps it was trained on."
    )
    if len(report.forecast_time):
        reading += " The forecast goes on in the same way past the last observation."
    if len(report.forecast_time) and report.forecast_lower is not None:
        reading += " Its band holds the true value with a probability of 95 %, if the noise stays what it was."
    return Part("Prediction against truth", plots, reading + notes.text())


def comparison(report: ComparisonReport) -> list[Part]:
    """Measured outputs beside every model's: the free runs, then the predictions."""
    parts = []
    for heading, runs, reading in (
        (
            "Free run",
            report.free_runs,
            "Each model runs on the inputs alone, from the initial state that fits these data best.",
        ),
        (
            f"{report.steps_ahead} step{'s' * (report.steps_ahead > 1)} ahead",
            report.ahead,
            "Each model is told the true outputs up to that many steps before. One without innovations (K = 0) takes "
            "nothing from them: its prediction is its free run.",
        ),
    ):
        lines = []
        for number, (name, values) in enumerate(zip(report.model_names, runs, strict=True)):
            # Black is what was measured.
            color, dash = COLORS[number % (len(COLORS) - 1)], DASHES[number // (len(COLORS) - 1) % len(DASHES)]
            lines.append(_Line(name, values, {"color": color, "dash": dash, "width": 2.5}))
        lines.append(_Line("measured", report.observed, {"color": BLACK, "width": 1}, measured=True))
        plots, notes = _panels(report.time, report.time_label, report.output_names, lines, len(report.time), None)
        parts.append(Part(heading, plots, reading + notes.text()))
    return parts


def _panels(
    time: Array, label: str, names: list[str], lines: list[_Line], shaded_from: int, ahead: _Ahead | None
) -> tuple[list[tuple[str, Any]], Notes]:
    """Return captioned panels, one a target or two where the series is long, and what they do not show."""
    shown, steps = names[:MOST_PANELS], len(time)
    points = min(MOST_POINTS_A_LINE, MOST_POINTS_IN_ALL // (len(lines) * max(len(shown), 1)))
    held_out = shaded_from < steps
    plots: list[tuple[str, Any]] = []
    notes = Notes()
    # Thousands of steps side by side are a solid block: there, a close-up shows the lines themselves.
    centre = shaded_from if held_out else steps
    close_up = slice(max(centre - CLOSE_UP // 3, 0), min(centre + CLOSE_UP, steps))
    views = [(slice(0, steps), "")]
    if steps > LONG:
        views.append((close_up, ", close up" + (" where the held-out end begins" if held_out else " at the end")))
        if close_up.stop < steps and ahead is not None and len(ahead.time):
            views.append((slice(steps - CLOSE_UP // 3, steps), ", close up of the forecast"))
    first_of_view: dict[str, Any] = {}
    for column, name in enumerate(shown):
        for view, suffix in views:
            plot = Plot(label, "value, original units", time, height=300)
            if held_out:
                left, right = numbers(time[[max(shaded_from, view.start), view.stop - 1]])
                shade = BoxAnnotation(left=left, right=right, fill_color=BLACK, fill_alpha=0.08, line_color=None)
                plot.figure.add_layout(shade)
            drawn = []
            for line in lines:
                drawn.append(line.values[view, column])
                plot.line(time[view], drawn[-1], line.name, points=points, notes=notes, **line.style)
            if ahead is not None and view.stop == steps:
                drawn += _draw_ahead(plot, ahead, column, points, notes)
            (observed,) = (line.values[view, column] for line in lines if line.measured)
            if _runs_away(plot, observed, drawn):
                notes.add(f"A prediction of {name} leaves the picture: zoom out to follow it.")
            # Panning one target pans all, in the same view.
            plot.figure.x_range = first_of_view.setdefault(suffix, plot.figure).x_range
            plots.append((f"{name}{suffix}" if len(shown) * len(views) > 1 else "", plot.finished()))
    if len(names) > MOST_PANELS:
        notes.add(f"The first {MOST_PANELS} of {len(names)} targets are drawn.")
    return plots, notes


def _draw_ahead(plot: Plot, ahead: _Ahead, column: int, points: int, notes: Notes) -> list[Array]:
    """Draw the forecast; return what was drawn."""
    drawn = [ahead.values[:, column]]
    if len(ahead.time) and ahead.lower is not None and ahead.upper is not None:
        ends = ahead.lower[:, column], ahead.upper[:, column]
        plot.band(ahead.time, *ends, "95 % interval", GREEN)
        drawn += ends
    plot.line(ahead.time, ahead.values[:, column], "forecast", GREEN, points, notes, width=3)
    return drawn


def training(report: RunReport) -> Part | None:
    """Loss and gradient norm, step by step of the optimizer; None if there was none."""
    if not report.history:
        return None
    unit = "epoch" if "epoch" in report.history[0] else "iteration"
    at = np.array([row[unit] for row in report.history], dtype=float)
    notes = Notes()
    plots: list[tuple[str, Any]] = []
    trained = unit == "epoch"
    loss = ("Loss", "loss: mean squared error, scaled") if trained else ("Criterion", "criterion per step")
    for caption, label, curves in (
        (*loss, (("loss", "loss", BLUE), ("validation", "on the validation part", GREEN))),
        ("Length of the gradient", "‖gradient of all weights‖, scaled", (("gradient_norm", "length", VERMILLION),)),
    ):
        there = [curve for curve in curves if curve[0] in report.history[0]]
        if not there:
            continue
        values = {key: np.array([row.get(key, np.nan) for row in report.history], dtype=float) for key, _, _ in there}
        log_y = spans_decades(np.concatenate(list(values.values())))
        plot = Plot(unit, label, at, log_y=log_y, height=230)
        plot.figure.xaxis.ticker = BasicTicker(min_interval=1, num_minor_ticks=0)
        for key, name, color in there:
            plot.line(at, values[key], name, color, MOST_POINTS_A_LINE, notes, width=2)
        if plots:
            plot.figure.x_range = plots[0][1].x_range
        plots.append((caption, plot.finished(legend=len(there) > 1)))
    reading = "The curve is what the fit brings down, from where the first iteration left it."
    if len(plots) > 1:
        reading = (
            "The upper curve is what training brings down; the lower one is the length of the gradient that "
            "backpropagation through time gave for all weights together, which shrinks towards a minimum and, where "
            "it shoots up, asks for smaller steps."
        )
    if trained:
        reading += f" The loss is {report.trained_on}, each column of the data scaled to deviation 1."
    return Part("Training", plots, reading + notes.text())


def gradient_flow(report: RunReport) -> Part | None:
    """‖∂L/∂h_t‖ at every training step; None where no gradient was kept."""
    if not len(report.delta_norm):
        return None
    norm = np.asarray(report.delta_norm, dtype=float)
    positive = np.isfinite(norm) & (norm > 0)
    zero, broken = norm == 0, ~np.isfinite(norm)
    notes = Notes()
    same_axis = is_dated(report.delta_time) == is_dated(report.time)
    label = report.time_label if same_axis else "training step"
    # A trained loss is of scaled data; an identified system's criterion has no unit.
    size = "‖∂L/∂h_t‖, scaled" if report.system is None else "‖∂L/∂h_t‖"
    plot = Plot(label, size, report.delta_time, log_y=bool(positive.any()), height=320)
    # A logarithm has no place for zero, infinity or NaN: the line breaks there and a marker stands at the edge.
    plot.line(report.delta_time, np.where(positive, norm, np.nan), "‖∂L/∂h_t‖", BLUE, MOST_POINTS_A_LINE, notes)
    # In decades, which do not overflow near the ends of float64's range.
    low, high = np.log10([norm[positive].min(), norm[positive].max()]) if positive.any() else (0.0, 0.0)
    gap = max(0.08 * (high - low), 0.3)
    bottom, top = 10.0 ** np.clip([low - gap, high + gap], -323, 308) if positive.any() else (0.0, 1.0)
    for mask, y, name, marker, color in (
        (zero, bottom, "exactly zero (at the bottom edge)", "x", PURPLE),
        (broken, top, "not finite (at the top edge)", "inverted_triangle", VERMILLION),
    ):
        if mask.any():
            at = np.flatnonzero(mask)
            at = at[:: -(-len(at) // MOST_MARKERS)]
            plot.markers(numbers(report.delta_time)[at], np.full(len(at), y), name, marker, color)
    for mask, what in ((zero, "exactly zero"), (broken, "not finite (infinite, or not a number)")):
        if mask.any():
            count = int(mask.sum())
            notes.add(f"At {count} of {len(norm)} steps the gradient is {what}: marked, not drawn to scale.")
    return Part(
        "How the gradient flows back through time",
        [("", plot.finished())],
        "The size of the loss's gradient with respect to each state, as backpropagation carries it from the last "
        "step (right) to the first (left), on a logarithmic scale: a straight fall to the left is a vanishing "
        f"gradient, a straight rise an exploding one. The loss is {report.trained_on}." + notes.text(),
        flow_figures.verdict(report),
    )


def spectrum(report: RunReport) -> Part | None:
    """Eigenvalues in the complex plane, with the unit circle; None where there are none."""
    if not len(report.eigenvalues):
        return None
    open_loop, closed_loop = report.eigenvalue_names
    plot = Plot("real part", "imaginary part", None, height=420)
    plot.figure.match_aspect = True
    angle = np.linspace(0, 2 * np.pi, 361)
    circle = plot.figure.line(np.cos(angle), np.sin(angle), color=BLACK, line_width=1.5, line_alpha=0.6)
    plot.name(circle, "unit circle")
    sets = [(open_loop, report.eigenvalues, "circle", BLUE)]
    if report.closed_loop_eigenvalues is not None:
        sets.append((closed_loop, report.closed_loop_eigenvalues, "diamond", VERMILLION))
    notes = Notes()
    for label, values, marker, color in sets:
        finite = np.asarray(values)[np.isfinite(values)]
        if len(finite) < len(values):
            notes.add(f"{len(values) - len(finite)} of {len(values)} eigenvalues of {label} are not finite.")
        if len(finite):
            notes.add(f"The largest of {label} has the size {np.abs(finite).max():.4g}.")
        source = ColumnDataSource({"re": finite.real, "im": finite.imag, "size": np.abs(finite)})
        size = 9 if marker == "circle" else 12
        drawn = plot.figure.scatter(
            "re", "im", source=source, marker=marker, size=size, line_color=color, fill_color=color, fill_alpha=0.35
        )
        plot.name(drawn, label)
        printf: dict[str, Any] = {"@re": "printf", "@im": "printf", "@size": "printf"}
        tips = [("size |λ|", "@size{%.5g}"), ("real part", "@re{%.5g}"), ("imaginary part", "@im{%.5g}")]
        plot.figure.add_tools(HoverTool(renderers=[drawn], tooltips=tips, formatters=printf))
    closed = f" {report.spectrum_reading}" if report.closed_loop_eigenvalues is not None else ""
    return Part(
        "Eigenvalues of the transition" if report.system is None else "Poles",
        [("", plot.finished())],
        "Each eigenvalue is a mode of memory, and the gradient passes back through the same ones: inside the unit "
        "circle it fades at each step, the nearer to the circle the more slowly, and outside it grows."
        + closed
        + notes.text(),
    )


def _runs_away(plot: Plot, observed: Array, drawn: list[Array]) -> bool:
    """Keep the picture on the observed range if a prediction leaves it so far that nothing else could be seen."""
    seen = observed[np.isfinite(observed)]
    values = np.concatenate([np.asarray(part, dtype=float) for part in drawn])
    values = values[np.isfinite(values)]
    if not len(seen) or seen.max() == seen.min():
        return False
    low, high = seen.min(), seen.max()
    span = high - low
    if values.min() >= low - 5 * span and values.max() <= high + 5 * span:
        return False
    plot.figure.y_range.start, plot.figure.y_range.end = low - span, high + span
    return True
