"""Figures of how the gradient flows back: through the lags, where it comes from, what truncation would lose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from bokeh.models import ColumnDataSource, FixedTicker, HoverTool, LinearColorMapper
from bokeh.models.annotations import ColorBar, Span

from retrograd.insight.verdict import VANISHED
from retrograd.palette import BLACK, BLUE, NO_SUCH_STEP, VERMILLION
from retrograd.report.plot import COLORS, MOST_MARKERS, Notes, Part, Plot

if TYPE_CHECKING:
    from retrograd.report.page import RunReport

__all__ = ["lag_map", "through_lags", "truncation", "verdict"]

Array = np.ndarray[Any, Any]

# Cells of the heat map, and the decades of a share that its colours span.
MOST_COLUMNS = 160
FAINTEST = -6
# Half a palette, from white: blue for shares along the gradient, orange for those against it (told apart by everyone).
SHADES = 32


def verdict(report: RunReport) -> tuple[str, ...]:
    """Return what is to be said of the gradient's flow, sentence by sentence; none without an analysis."""
    if report.analysis is None:
        return ()
    judged = report.analysis.verdict
    return (
        f"Verdict: {', '.join(judged.kinds)}.",
        *judged.evidence,
        *(f"What to do: {advice.text}" for advice in judged.advice),
    )


def through_lags(report: RunReport) -> Part | None:
    """Singular values of ∂h_T/∂h_{T−k}; None without an analysis."""
    if report.analysis is None:
        return None
    found = report.analysis.jacobians
    values = found.resolved
    positive = values[np.isfinite(values) & (values > 0)]
    decades = bool(len(positive)) and positive.max() > 10 * positive.min()
    plot = Plot("lag k, steps", "singular value", None, log_y=decades, height=300)
    notes = Notes()
    for number in range(min(values.shape[1], 4)):
        name = ("largest", "second", "third", "fourth")[number]
        _curve(plot, found.lags, values[:, number], name, COLORS[number], notes)
    for level, dash in ((1.0, "solid"), (VANISHED, "dotted")):
        plot.figure.add_layout(
            Span(location=level, dimension="width", line_color=BLACK, line_width=1, line_dash=dash, line_alpha=0.6)
        )
    return Part(
        "What the gradient passes through",
        [("", plot.finished())],
        "∂h_T/∂h_(T−k) tells how a state k steps before the end acts on the last one; the gradient goes back through "
        "its transpose. Its largest singular value is the most that any direction gets; the others say how many "
        "directions are left (below the rounding of the largest, none is drawn). The lines are at 1 and at 1/1000."
        + notes.text(),
    )


def lag_map(report: RunReport) -> Part | None:
    """∂L/∂W_hh by source step and lag, as a heat map; None without an analysis or a gradient."""
    if report.analysis is None or np.isnan(report.analysis.lag_map.share).all():
        return None
    found, name = report.analysis.lag_map, report.analysis.name
    edges, share = found.coarse(MOST_COLUMNS)
    level = np.sign(share) * np.maximum(np.log10(np.maximum(np.abs(share), 1e-300)) - FAINTEST, 0)
    columns, rows = share.shape
    column, row = (index.ravel() for index in np.meshgrid(np.arange(columns), np.arange(rows), indexing="ij"))
    there = np.isfinite(level.ravel())
    column, row = column[there], row[there]
    source = ColumnDataSource(
        {
            "left": edges[column] + 0.5,
            "right": edges[column + 1] + 0.5,
            "bottom": row.astype(float),
            "top": row + 1.0,
            "level": level.ravel()[there].astype(np.float32),
            "share": share.ravel()[there],
            "first": found.edges[row],
            "last": found.edges[row + 1] - 1,
        }
    )
    mapper = LinearColorMapper(palette=_palette(), low=FAINTEST, high=-FAINTEST)
    plot = Plot("source step t, where the loss enters", "lag k, steps (not to scale)", None, height=380)
    drawn = plot.figure.quad(
        left="left", right="right", bottom="bottom", top="top", source=source, line_color=None,
        fill_color={"field": "level", "transform": mapper},
    )  # fmt: skip
    plot.figure.background_fill_color = NO_SUCH_STEP
    plot.figure.grid.visible = False
    plot.figure.x_range.range_padding = plot.figure.y_range.range_padding = 0
    ticks = np.unique(np.linspace(0, rows, min(rows + 1, 12)).astype(int))
    plot.figure.yaxis.ticker = FixedTicker(ticks=ticks.tolist())
    plot.figure.yaxis.major_label_overrides = {int(tick): str(found.edges[tick]) for tick in ticks}
    bar_ticks = [-6, -4, -2, 0, 2, 4, 6]
    names: dict[Any, Any] = {
        tick: f"{'−' if tick < 0 else ''}{10.0 ** (abs(tick) + FAINTEST):g}"
        if tick
        else f"|share| < {10.0**FAINTEST:g}"
        for tick in bar_ticks
    }
    names[6], names[-6] = "1", "−1"
    plot.figure.add_layout(
        ColorBar(
            color_mapper=mapper, ticker=FixedTicker(ticks=bar_ticks), major_label_overrides=names, height=14,
            major_label_text_color="#1b1b1b", major_label_text_font_size="12px",
        ),
        "below",
    )  # fmt: skip
    printf: dict[str, Any] = {"@left": "printf", "@right": "printf", "@share": "printf"}
    tips = [("steps up to", "@right{%.0f}"), ("lags", "@first to @last"), (f"share of ∂L/∂{name}", "@share{%.4g}")]
    plot.figure.add_tools(HoverTool(renderers=[drawn], tooltips=tips, formatters=printf))
    return Part(
        f"Where the gradient of {name} comes from",
        [("", plot.finished(legend=False))],
        f"What the loss sends into step t reaches the use of {name} at step t − k over lag k. Each cell is that part's "
        f"share of ∂L/∂{name}, along the gradient: all of them sum to 1. Blue points along the gradient, orange "
        "against it, white is less than a millionth, and grey are lags that a step does not have. (The loss is the "
        "one-step error over the training part.)",
    )


def truncation(report: RunReport) -> Part | None:
    """What windows of k steps lose of ∂L/∂W_hh; None without an analysis or a gradient."""
    if report.analysis is None or np.isnan(report.analysis.truncation.relative_error).all():
        return None
    found = report.analysis.truncation
    plots: list[tuple[str, Any]] = []
    notes = Notes()
    for caption, label, values, color in (
        ("Relative error", "‖G_k − G‖ / ‖G‖", found.relative_error, BLUE),
        ("Angle", "angle to G, degrees", found.angle, VERMILLION),
    ):
        positive = values[np.isfinite(values) & (values > 0)]
        decades = bool(len(positive)) and positive.max() > 10 * positive.min()
        plot = Plot("window k, steps", label, None, log_y=decades, height=230)
        _curve(plot, found.windows, values, caption.lower(), color, notes)
        if plots:
            plot.figure.x_range = plots[0][1].x_range
        plots.append((caption, plot.finished(legend=bool((values == 0).any()))))
    return Part(
        "What truncation would lose",
        plots,
        "Truncated backpropagation lets each step's loss go back k steps only. Against the whole gradient G = "
        f"∂L/∂{report.analysis.name}, "
        "the one through the window, G_k, has this error and this direction." + notes.text(),
    )


def _curve(plot: Plot, x: Array, values: Array, name: str, color: str, notes: Notes) -> None:
    """Draw a curve; zeros stand at the bottom edge of a logarithmic axis."""
    positive = np.isfinite(values) & (values > 0)
    plot.line(x, np.where(positive, values, np.nan), name, color, len(x) + 1, notes, width=2)
    zero = np.flatnonzero(values == 0)
    if len(zero):
        bottom = values[positive].min() if positive.any() else 0.0
        at = zero[:: -(-len(zero) // MOST_MARKERS)]
        plot.markers(x[at].astype(float), np.full(len(at), bottom), f"{name}: exactly 0 (at the edge)", "x", color)


def _palette() -> list[str]:
    """Return colours from vermillion over white to blue, dark at both ends."""
    white = np.array([1.0, 1.0, 1.0])

    def ramp(strong: Array, dark: Array) -> list[Array]:
        half = SHADES // 2
        to_strong = [white + (strong - white) * i / half for i in range(1, half + 1)]
        return to_strong + [strong + (dark - strong) * i / half for i in range(1, half + 1)]

    blue = ramp(np.array([0.0, 0.447, 0.698]), np.array([0.0, 0.13, 0.28]))
    orange = ramp(np.array([0.835, 0.369, 0.0]), np.array([0.32, 0.12, 0.0]))
    colors = [*orange[::-1], white, *blue]
    return ["#" + "".join(f"{round(255 * part):02x}" for part in color) for color in colors]
