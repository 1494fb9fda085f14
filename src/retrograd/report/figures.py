"""The page's figures: each a heading, one or more plots, and a sentence that says how to read them.

No text of the data enters a plot except through ``PlainText``: Bokeh would take ``$$`` in a label for TeX and fetch
a typesetter from the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from bokeh.models import BasicTicker, BasicTickFormatter, ColumnDataSource, HoverTool, NoOverlap, PlainText
from bokeh.models.annotations import BoxAnnotation, Legend, LegendItem
from bokeh.plotting import figure

from retrograd.report.thin import thin

if TYPE_CHECKING:
    from retrograd.report.page import RunReport

__all__ = [
    "Notes",
    "Part",
    "Plot",
    "gradient_flow",
    "predictions",
    "spans_decades",
    "spectrum",
    "training",
]

Array = np.ndarray[Any, Any]

# Okabe and Ito's colours: told apart by colour-blind readers too.
BLACK, BLUE, VERMILLION, GREEN, PURPLE = "#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7"
MOST_PANELS = 12
MOST_MARKERS = 200
# From LONG steps on there is a close-up, of CLOSE_UP steps and a third as many before them.
LONG = 1_000
CLOSE_UP = 240
# Numbers cost 16 bytes a point, a third more in the page's base64: this keeps any page well under 3 MB.
MOST_POINTS_IN_ALL = 40_000
MOST_POINTS_A_LINE = 4_000


@dataclass(frozen=True)
class Part:
    """A section of the page: plots under one heading, each with a caption if there are several."""

    heading: str
    plots: list[tuple[str, Any]]
    reading: str


def predictions(report: RunReport) -> Part:
    """One panel a target: observed, one step ahead, free-running, forecast; of a long series, a close-up too."""
    names = report.target_names[:MOST_PANELS]
    points = min(MOST_POINTS_A_LINE, MOST_POINTS_IN_ALL // (3 * max(len(names), 1)))
    steps = len(report.time)
    held_out = report.test_start < steps
    plots: list[tuple[str, Any]] = []
    notes = Notes()
    # Thousands of steps side by side are a solid block: there, a close-up shows the lines themselves.
    centre = report.test_start if held_out else steps
    close_up = slice(max(centre - CLOSE_UP // 3, 0), min(centre + CLOSE_UP, steps))
    views = [(slice(0, steps), "")]
    if steps > LONG:
        views.append((close_up, ", close up" + (" where the held-out end begins" if held_out else " at the end")))
    first_of_view: dict[str, Any] = {}
    for column, name in enumerate(names):
        for view, suffix in views:
            plot = _prediction_panel(report, column, view, points, notes)
            # Panning one target pans all, in the same view.
            plot.x_range = first_of_view.setdefault(suffix, plot).x_range
            plots.append((f"{name}{suffix}" if len(names) * len(views) > 1 else "", plot))
    if len(report.target_names) > MOST_PANELS:
        notes.add(f"The first {MOST_PANELS} of {len(report.target_names)} targets are drawn.")
    reading = "One step ahead, the model is told every true value up to the step before" + (
        "; in the free run it is told none from the start of the shaded, held-out end and feeds on its own output, "
        "so that errors add up."
        if held_out
        else "; nothing was held out, so that these are the very steps it was trained on."
    )
    if len(report.forecast_time):
        reading += " The forecast goes on in the same way past the last observation."
    return Part("Prediction against truth", plots, reading + notes.text())


def _prediction_panel(report: RunReport, column: int, view: slice, points: int, notes: Notes) -> Any:
    time, steps = report.time[view], len(report.time)
    plot = Plot(report.time_label, "value, original units", report.time, height=300)
    if report.test_start < steps:
        left, right = _numbers(report.time[[report.test_start, view.stop - 1]])
        shade = BoxAnnotation(left=left, right=right, fill_color=BLACK, fill_alpha=0.08, line_color=None)
        plot.figure.add_layout(shade)
    observed, one_step, free_run = (
        array[view, column] for array in (report.observed, report.one_step, report.free_run)
    )
    forecast = report.forecast[:, column] if view.stop == steps else np.empty(0)
    # What was observed is drawn over what was predicted, so that a good prediction does not hide it.
    plot.line(time, one_step, "one step ahead", BLUE, points, notes, width=2.5)
    plot.line(time, observed, "observed", BLACK, points, notes, width=1)
    plot.line(time, free_run, "free run", VERMILLION, points, notes, width=2, dash=[6, 3])
    if len(forecast) and report.forecast_lower is not None and report.forecast_upper is not None:
        band = report.forecast_lower[:, column], report.forecast_upper[:, column]
        plot.band(report.forecast_time, *band, "95 % interval", GREEN)
    plot.line(report.forecast_time[: len(forecast)], forecast, "forecast", GREEN, points, notes, width=3)
    if _runs_away(plot, observed, (observed, one_step, free_run, forecast)):
        notes.add(f"A prediction of {report.target_names[column]} leaves the picture: zoom out to follow it.")
    return plot.finished()


def training(report: RunReport) -> Part | None:
    """Loss and gradient norm, epoch by epoch; None if there was no epoch."""
    if not report.history:
        return None
    epochs = np.array([row["epoch"] for row in report.history], dtype=float)
    notes = Notes()
    plots: list[tuple[str, Any]] = []
    for key, caption, label, color in (
        ("loss", "Loss", "loss, as trained on", BLUE),
        ("gradient_norm", "Length of the gradient", "‖gradient of all weights‖", VERMILLION),
    ):
        values = np.array([row.get(key, np.nan) for row in report.history], dtype=float)
        plot = Plot("epoch", label, epochs, log_y=spans_decades(values), height=230)
        plot.figure.xaxis.ticker = BasicTicker(min_interval=1, num_minor_ticks=0)
        plot.line(epochs, values, caption.lower(), color, MOST_POINTS_A_LINE, notes, width=2)
        if plots:
            plot.figure.x_range = plots[0][1].x_range
        plots.append((caption, plot.finished(legend=False)))
    return Part(
        "Training",
        plots,
        "The upper curve is what training brings down; the lower one is the length of the gradient that "
        "backpropagation through time gave for all weights together, which shrinks towards a minimum and, where it "
        "shoots up, asks for smaller steps." + notes.text(),
    )


def gradient_flow(report: RunReport) -> Part | None:
    """‖∂L/∂h_t‖ at every training step; None where no gradient was kept."""
    if not len(report.delta_norm):
        return None
    norm = np.asarray(report.delta_norm, dtype=float)
    positive = np.isfinite(norm) & (norm > 0)
    zero, broken = norm == 0, ~np.isfinite(norm)
    notes = Notes()
    same_axis = _is_dated(report.delta_time) == _is_dated(report.time)
    label = report.time_label if same_axis else "training step"
    plot = Plot(label, "‖∂L/∂h_t‖", report.delta_time, log_y=bool(positive.any()), height=320)
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
            plot.markers(_numbers(report.delta_time)[at], np.full(len(at), y), name, marker, color)
    for mask, what in ((zero, "exactly zero"), (broken, "not finite (infinite, or not a number)")):
        if mask.any():
            count = int(mask.sum())
            notes.add(f"At {count} of {len(norm)} steps the gradient is {what}: marked, not drawn to scale.")
    return Part(
        "How the gradient flows back through time",
        [("", plot.finished())],
        "The size of the loss's gradient with respect to each state, as backpropagation carries it from the last "
        "step (right) to the first (left), on a logarithmic scale: a straight fall to the left is a vanishing "
        "gradient, a straight rise an exploding one." + notes.text(),
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
        "Eigenvalues of the transition",
        [("", plot.finished())],
        "Each eigenvalue is a mode of memory, and the gradient passes back through the same ones: inside the unit "
        "circle it fades at each step, the nearer to the circle the more slowly, and outside it grows."
        + closed
        + notes.text(),
    )


# --- the parts that plots are made of ---


class Notes:
    """Sentences that say what a picture does not show; each once."""

    def __init__(self) -> None:
        self._sentences: dict[str, None] = {}

    def add(self, sentence: str) -> None:
        """Note a sentence."""
        self._sentences[sentence] = None

    def text(self) -> str:
        """Return all of them, each after a space."""
        return "".join(f" {sentence}" for sentence in self._sentences)


class Plot:
    """A Bokeh figure in this page's manner, and the entries of its legend."""

    def __init__(
        self,
        x_label: str,
        y_label: str,
        time: Array | None,
        *,
        log_x: bool = False,
        log_y: bool = False,
        height: int,
    ) -> None:
        self.dated = time is not None and _is_dated(time)
        self.figure: Any = figure(
            height=height,
            sizing_mode="stretch_width",
            x_axis_label=PlainText(text=x_label),
            y_axis_label=PlainText(text=y_label),
            x_axis_type="datetime" if self.dated else "log" if log_x else "linear",
            y_axis_type="log" if log_y else "linear",
            tools="pan,box_zoom,wheel_zoom,reset,save",
            toolbar_location="above",
            background_fill_color="#ffffff",
            border_fill_color="#ffffff",
        )
        self.figure.toolbar.logo = None
        self.figure.toolbar.active_drag = None  # a finger that scrolls the page must not move the plot
        self.figure.axis.axis_label_text_font_style = "normal"
        self.figure.axis.axis_label_text_font_size = self.figure.axis.major_label_text_font_size = "12px"
        self.figure.axis.axis_label_text_color = self.figure.axis.major_label_text_color = "#1b1b1b"
        if not self.dated and not log_x:
            self.figure.xaxis.formatter = BasicTickFormatter(use_scientific=False)
        self.figure.xaxis.major_label_policy = NoOverlap(min_distance=8)  # dates on a phone
        self._entries: list[tuple[str, list[Any]]] = []

    def line(
        self,
        time: Array,
        values: Array,
        name: str,
        color: str,
        points: int,
        notes: Notes,
        *,
        width: float = 1.5,
        dash: str | list[int] = "solid",
    ) -> None:
        """Draw a line, broken where values are missing, thinned to ``points``; nothing if there are no values."""
        x, y = _numbers(time), np.asarray(values, dtype=float)
        finite = np.isfinite(y)
        if np.isinf(y).any():
            notes.add(f"{int(np.isinf(y).sum())} infinite values of “{name}” are left out.")
        if not finite.any():
            return
        y = np.where(finite, y, np.nan)
        kept = thin(y, points)
        if len(kept) < len(y):
            notes.add(f"Of {len(y):,} steps, the smallest and largest of every few are drawn.")
        drawn = [self.figure.line(x[kept], y[kept], line_color=color, line_width=width, line_dash=dash)]
        # A line shows nothing of a value with no neighbour: mark those, a single forecast step for one.
        beside = np.zeros(len(y), dtype=bool)
        beside[1:] |= finite[:-1]
        beside[:-1] |= finite[1:]
        alone = np.flatnonzero(finite & ~beside)[:MOST_MARKERS]
        if len(alone):
            drawn.append(self.figure.scatter(x[alone], y[alone], color=color, size=7))
        self._entries.append((name, drawn))
        when = "@x{%F %H:%M}" if self.dated else "@x{%.8g}"
        formats: dict[str, Any] = {"@x": "datetime" if self.dated else "printf", "@y": "printf"}
        tips = [("", name), ("at", when), ("value", "@y{%.5g}")]
        self.figure.add_tools(HoverTool(renderers=drawn, tooltips=tips, formatters=formats, visible=False))

    def band(self, x: Array, lower: Array, upper: Array, name: str, color: str) -> None:
        """Fill between two lines."""
        drawn = self.figure.varea(_numbers(x), lower, upper, fill_color=color, fill_alpha=0.25)
        self._entries.append((name, [drawn]))

    def stems(self, x: Array, y: Array, name: str, color: str) -> None:
        """Draw a bar from zero to every value."""
        drawn = self.figure.segment(x, np.zeros(len(x)), x, y, line_color=color, line_width=2)
        self._entries.append((name, [drawn]))

    def markers(self, x: Array, y: Array, name: str, marker: str, color: str) -> None:
        """Draw markers that stand for something other than their height."""
        drawn = self.figure.scatter(
            x, y, marker=marker, size=10, line_color=color, line_width=2, fill_color=color, fill_alpha=0.6
        )
        self._entries.append((name, [drawn]))

    def name(self, renderer: Any, name: str) -> None:
        """Give a renderer its entry in the legend."""
        self._entries.append((name, [renderer]))

    def finished(self, *, legend: bool = True) -> Any:
        """Return the figure, with its legend above: there it keeps clear of the data and needs least room."""
        if legend and self._entries:
            items = [LegendItem(label=name, renderers=drawn) for name, drawn in self._entries]
            self.figure.add_layout(
                Legend(
                    items=items,
                    orientation="horizontal",
                    ncols=2,
                    location="left",
                    click_policy="hide",
                    border_line_color=None,
                    margin=0,
                    spacing=12,
                    label_text_font_size="12px",
                    label_text_color="#1b1b1b",
                ),
                "above",
            )
        return self.figure


def _is_dated(time: Array) -> bool:
    return bool(np.issubdtype(np.asarray(time).dtype, np.datetime64))


def _numbers(time: Array) -> Array:
    """Return times as Bokeh's axes count: dates in milliseconds since 1970."""
    time = np.asarray(time)
    return time.astype("datetime64[us]").astype(float) / 1000 if _is_dated(time) else time.astype(float)


def spans_decades(values: Array) -> bool:
    """Whether a logarithmic axis serves: every value positive, the largest at least ten times the smallest."""
    return bool(np.isfinite(values).all() and (values > 0).all() and values.max() >= 10 * values.min())


def _runs_away(plot: Plot, observed: Array, drawn: tuple[Array, ...]) -> bool:
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
