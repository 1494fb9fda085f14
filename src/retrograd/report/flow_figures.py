"""Figures of how the gradient flows back: through the lags, where it comes from, what truncation would lose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from bokeh.models import BasicTicker, ColumnDataSource, FixedTicker, HoverTool, LinearColorMapper
from bokeh.models.annotations import ColorBar, Span

from retrograd.insight.curves import (
    FAINTEST,
    by_lag,
    cells,
    lag_label,
    lag_ticks,
    memories,
    no_shares,
    only_source,
    singular_values,
    truncated,
)
from retrograd.insight.verdict import VANISHED
from retrograd.pictures.curves import EXPONENT, LINEAR, LOG, WORDS, Curve, few, on_axis, scale_for
from retrograd.pictures.palette import (
    AGAINST,
    ALONG,
    BLACK,
    BLUE,
    GREEN,
    NO_SUCH_STEP,
    PURPLE,
    VERMILLION,
    diverging,
)
from retrograd.report.plot import COLORS, MOST_MARKERS, Notes, Part, Plot

if TYPE_CHECKING:
    from retrograd.insight.lags import LagMap
    from retrograd.report.page import RunReport

__all__ = ["lag_map", "through_lags", "truncation", "verdict"]

Array = np.ndarray[Any, Any]

MOST_COLUMNS, MOST_TICKS = 160, 12
# The decades that the colours of a map span, in this many shades from white to either end.
DECADES, SHADES = -round(float(np.log10(FAINTEST))), 32
# Markers of what has no height: zero at the bottom, infinity at the top, NaN between the two.
_MARKS = {"zero": "x", "infinite": "triangle", "nan": "square"}


def verdict(report: RunReport) -> tuple[str, ...]:
    """Return what is to be said of the gradient's flow, sentence by sentence; none without an analysis."""
    if report.analysis is None:
        return ()
    judged = report.analysis.verdict
    return (
        f"Verdict: {', '.join(judged.kinds)}.",
        *judged.evidence,
        *(f"What to do: {advice.text}" for advice in judged.advice),
        *_not_drawn(report),
    )


def _not_drawn(report: RunReport) -> tuple[str, ...]:
    """Say why there is no picture of shares and of truncation, if there is none."""
    assert report.analysis is not None
    reason = no_shares(report.analysis.lag_map)
    if reason is None:
        return ()
    name = report.analysis.name
    return (f"Where ∂L/∂{name} comes from, and what truncation would lose, is not drawn: {reason}.",)


def through_lags(report: RunReport) -> Part | None:
    """Singular values of ∂h_T/∂h_{T−k}, and how long modes remember; None without an analysis."""
    if report.analysis is None:
        return None
    curves, hidden = singular_values(report.analysis.jacobians)
    notes = Notes()
    plot, scale = _drawn(list(zip(curves, COLORS, strict=False)), ("lag k, steps", "singular value"), notes, height=300)
    exponents = np.concatenate([curve.exponents for curve in curves])
    # A line beyond the numbers would not be in view.
    faded = bool(len(exponents)) and scale != LINEAR and exponents.min() < np.log10(VANISHED)
    for level, dash in ((1.0, "solid"), (VANISHED, "dotted"))[: 1 + faded]:
        at = float(np.log10(level)) if scale == EXPONENT else level
        plot.figure.add_layout(
            Span(location=at, dimension="width", line_color=BLACK, line_width=1, line_dash=dash, line_alpha=0.6)
        )
    by_lags = _finished(plot, curves)
    remembered = _memory(report)
    lines = "The lines are at 1 and at 1/1000." if faded else "The line is at 1."
    reading = (
        "∂h_T/∂h_(T−k) tells how a state k steps before the end acts on the last one; the gradient goes back through "
        "its transpose. Its largest singular value is the most that any direction gets; the others say how many "
        f"directions are left. {lines}"
    )
    if remembered is not None:
        length = len(report.analysis.flow.delta_norm)
        reading += (
            " Below it, how long each mode of the transition remembers by itself: a mode's time constant is the number "
            "of steps after which 1/e of it (37 %) is left, its memory horizon that after which 1 % is; the dotted "
            f"line is the length of the sequence, {length} steps."
        )
    return Part(
        "What the gradient passes through",
        [("", by_lags)] if remembered is None else [("By lag", by_lags), ("Memory of each mode", remembered)],
        reading + notes.text() + "".join(f" {note}" for note in hidden),
    )


def _memory(report: RunReport) -> Any:
    """Draw how long modes remember; None where there are no modes."""
    assert report.analysis is not None
    found = report.analysis.spectrum
    if found is None:
        return None
    groups = memories(found)
    length = len(report.analysis.flow.delta_norm)
    timed = [times for *_, times in groups if times is not None] + [np.array([float(length)])]
    # In decades, which do not overflow.
    low, high = np.log10([min(times.min() for times in timed), max(times.max() for times in timed)])
    what = "channel, the slowest first (by its mean rate)" if found.averaged else "mode, the slowest first"
    plot = Plot(what, "time, steps", None, log_y=True, height=260)
    looks = {"horizon": ("square", PURPLE), "constant": ("circle", BLUE), "grows": ("inverted_triangle", VERMILLION),
             "forever": ("triangle", GREEN), "once": ("x", BLACK)}  # fmt: skip
    edges = {"forever": 10.0 ** (high + 0.4), "once": 10.0 ** (low - 0.4)}
    for kind, name, number, times in groups:
        marker, color = looks[kind]
        at = np.full(len(number), edges[kind]) if times is None else times
        where = "" if times is not None else " (top edge)" if kind == "forever" else " (bottom edge)"
        plot.markers(number.astype(float), at, name + where, marker, color)
    plot.figure.add_layout(
        Span(location=length, dimension="width", line_color=BLACK, line_width=1, line_dash="dotted", line_alpha=0.6)
    )
    plot.figure.y_range.start, plot.figure.y_range.end = 10.0 ** (low - 0.6), 10.0 ** (high + 0.6)
    plot.figure.xaxis.ticker = BasicTicker(min_interval=1, num_minor_ticks=0)
    plot.figure.x_range.start, plot.figure.x_range.end = 0.5, len(found.time_constant) + 0.5
    plot.figure.add_tools(HoverTool(tooltips=[("mode", "@x{0}"), ("steps", "@y{0.00}")], visible=False))
    return plot.finished()


def lag_map(report: RunReport) -> Part | None:
    """∂L/∂W_hh by source step and lag, and by lag alone; None without an analysis or a gradient."""
    if report.analysis is None or no_shares(report.analysis.lag_map) is not None:
        return None
    found, name = report.analysis.lag_map, report.analysis.name
    notes = Notes()
    alone = _by_lag(found, name, notes)
    source = only_source(found)
    if source is not None:
        plots = [("", alone)]
        looks = f"The loss looks at step {source} alone: lags are all there is to tell apart."
    else:
        plots = [("By source step and lag", _map(found, name)), ("By lag, over all steps", alone)]
        looks = (
            f"Each cell is that part's share; white is 0, or less than {FAINTEST:g} of the gradient, and grey are lags "
            "that a step does not have."
        )
        if not np.isfinite(found.share).all():
            looks += " Hatched cells are there, but are not finite."
    return Part(
        f"Where the gradient of {name} comes from",
        plots,
        f"What the loss sends into step t reaches the use of {name} at step t − k over lag k. The parts' shares of "
        f"∂L/∂{name}, measured along it, sum to 1: orange points along the gradient, purple against it. {looks} (The "
        f"loss is {report.trained_on}.)" + notes.text(),
    )


def _by_lag(found: LagMap, name: str, notes: Notes) -> Any:
    """Draw the sizes of the shares of every bin of lags, their sign by colour and marker."""
    curves = by_lag(found)
    plot, scale = _drawn(
        list(zip(curves, (ALONG, AGAINST, BLACK), strict=True)), (lag_label(found), "|share of the gradient|"), notes,
        height=250, markers=("circle", "square", None),
    )  # fmt: skip
    size = Curve("", curves[0].x, np.abs(found.by_lag)).heights(scale)
    edges = np.arange(len(size) + 1)
    # Level over each bin; NaN breaks it.
    plot.figure.line(np.repeat(edges, 2)[1:-1], np.repeat(size, 2), line_color=BLACK, line_width=0.8, level="underlay")
    first, last = found.edges[:-1], found.edges[1:] - 1
    source = ColumnDataSource({"x": curves[0].x, "y": size, "first": first, "last": last, "share": found.by_lag})
    seen = plot.figure.scatter("x", "y", source=source, size=12, alpha=0)
    tips = [("lags", "@first to @last"), (f"share of ∂L/∂{name}", "@share{%.4g}")]
    printf: dict[str, Any] = {"@share": "printf"}
    plot.figure.add_tools(HoverTool(renderers=[seen], tooltips=tips, formatters=printf, visible=False))
    _tick(plot.figure.xaxis, found)
    return plot.finished()


def _map(found: LagMap, name: str) -> Any:
    """Draw the heat map."""
    edges, share, there = cells(found, MOST_COLUMNS)
    known = np.isfinite(share)
    with np.errstate(divide="ignore", invalid="ignore"):
        level = np.sign(share) * np.maximum(np.log10(np.abs(share)) + DECADES, 0)
    level = np.where(share == 0, 0, level)
    # Parts that cancel have shares beyond ±1.
    highest = int(np.ceil(max(np.abs(level[known]).max(initial=0), DECADES)))
    mapper = LinearColorMapper(palette=diverging(SHADES), low=-highest, high=highest)
    plot = Plot("source step t, where the loss enters", lag_label(found), None, height=380)

    def box(mask: Array, **look: Any) -> Any:
        column, row = np.nonzero(mask)
        source = ColumnDataSource(
            {
                "left": edges[column] + 0.5,
                "right": edges[column + 1] + 0.5,
                "bottom": row.astype(float),
                "top": row + 1.0,
                "level": level[mask].astype(np.float32),
                "share": share[mask],
                "first": found.edges[row],
                "last": found.edges[row + 1] - 1,
            }
        )
        return plot.figure.quad(left="left", right="right", bottom="bottom", top="top", source=source, **look)

    color = {"field": "level", "transform": mapper}
    # With a line of their own colour: what is behind them would shine through between cells.
    drawn = box(known, fill_color=color, line_color=color, line_width=0.7)
    if (there & ~known).any():
        box(there & ~known, fill_color="#ffffff", hatch_pattern="x", hatch_color=BLACK, hatch_scale=8, line_color=None)
    # Of a step all lags from one on are not there: one box is enough.
    part = ~there.all(1)
    plot.figure.quad(
        left=edges[:-1][part] + 0.5, right=edges[1:][part] + 0.5, bottom=there.sum(1)[part], top=len(found.edges) - 1,
        fill_color=NO_SUCH_STEP, line_color=NO_SUCH_STEP, line_width=0.7,
    )  # fmt: skip
    plot.figure.grid.visible = False
    plot.figure.x_range.range_padding = plot.figure.y_range.range_padding = 0
    _tick(plot.figure.yaxis, found)
    ticks = range(-highest // 2 * 2, highest + 1, 2 * -(-highest // 8))
    names: dict[Any, Any] = {
        tick: f"{'−' if tick < 0 else ''}{10.0 ** (abs(tick) - DECADES):g}" if tick else "0" for tick in ticks
    }
    plot.figure.add_layout(
        ColorBar(
            color_mapper=mapper, ticker=FixedTicker(ticks=list(ticks)), major_label_overrides=names, height=14,
            major_label_text_color="#1b1b1b", major_label_text_font_size="12px",
        ),
        "below",
    )  # fmt: skip
    printf: dict[str, Any] = {"@left": "printf", "@right": "printf", "@share": "printf"}
    tips = [("steps up to", "@right{%.0f}"), ("lags", "@first to @last"), (f"share of ∂L/∂{name}", "@share{%.4g}")]
    plot.figure.add_tools(HoverTool(renderers=[drawn], tooltips=tips, formatters=printf))
    return plot.finished(legend=False)


def _tick(axis: Any, found: LagMap) -> None:
    """Let an axis of bins show the lags at which they begin."""
    ticks = lag_ticks(found, MOST_TICKS)
    axis.ticker = FixedTicker(ticks=list(ticks))
    axis.major_label_overrides = ticks


def truncation(report: RunReport) -> Part | None:
    """What windows of k steps lose of ∂L/∂W_hh; None without an analysis or a gradient."""
    if report.analysis is None or no_shares(report.analysis.lag_map) is not None:
        return None
    error, angle, hidden = truncated(report.analysis.truncation)
    notes = Notes()
    plots: list[tuple[str, Any]] = []
    for caption, label, curve, color, full in (
        ("Relative error", "‖G_k − G‖ / ‖G‖", error, BLUE, 1.0),
        ("Angle", "angle to G, degrees", angle, VERMILLION, 90.0),
    ):
        plot, _ = _drawn(
            [(curve, color)], ("window k, steps", label), notes, height=230, log_x=curve.sampled, full=full
        )
        if plots:
            plot.figure.x_range = plots[0][1].x_range
        plots.append((caption, _finished(plot, [curve], legend=bool(curve.marks()))))
    return Part(
        "What truncation would lose",
        plots,
        "Truncated backpropagation lets each step's loss go back k steps only. Against the whole gradient G = "
        f"∂L/∂{report.analysis.name}, "
        "the one through the window, G_k, has this error and this direction."
        + notes.text()
        + "".join(f" {note}" for note in hidden),
    )


def _drawn(
    curves: Sequence[tuple[Curve, str]],
    labels: tuple[str, str],
    notes: Notes,
    *,
    height: int,
    full: float = 1.0,
    log_x: bool = False,
    markers: Sequence[str | None] = (),
) -> tuple[Plot, str]:
    """Draw curves on a vertical axis that serves them all.

    Args:
        curves: each with its colour.
        labels: of the axes.
        notes: take what is not shown.
        height: of the plot.
        full: how far up the axis goes where all are zero.
        log_x: let the horizontal axis be logarithmic.
        markers: of each curve, in place of a line.

    Returns:
        The plot, and what its vertical axis shows.
    """
    scale = scale_for(curve for curve, _ in curves)
    plot = Plot(labels[0], on_axis(labels[1], scale), None, log_x=log_x, log_y=scale == LOG, height=height)
    if not log_x:
        plot.figure.xaxis.ticker = BasicTicker(min_interval=1)
    exponents = np.concatenate([curve.exponents for curve, _ in curves])
    low, high = (exponents.min(), exponents.max()) if len(exponents) else (0.0, float(np.log10(full)))
    gap = max(0.08 * (high - low), 0.3)
    if scale == LINEAR:
        # From 0: a difference in the last digit must not look like a fall.
        bottom, top = 0.0, 10.0**high
        plot.figure.y_range.start, plot.figure.y_range.end = -0.06 * top, 1.14 * top
        edges = {"zero": 0.0, "infinite": 1.08 * top, "nan": 1.04 * top}
    else:
        ends = np.array([low - gap, high + gap, high + 0.5 * gap])
        bottom, top, middle = ends if scale == EXPONENT else 10.0**ends
        edges = {"zero": bottom, "infinite": top, "nan": middle}
    for number, (curve, color) in enumerate(curves):
        heights, marker = curve.heights(scale), markers[number] if markers else "line"
        if marker == "line":
            # Thinner and thinner: of lines that lie on each other all are seen.
            width = 2.0 if len(curves) == 1 else 3.2 - 0.6 * number
            plot.line(curve.x, heights, curve.name, color, len(curve.x) + 1, notes, width=width)
        elif marker is not None and (shown := np.isfinite(heights)).any():
            drawn = plot.figure.scatter(curve.x[shown], heights[shown], marker=marker, size=6, color=color)
            plot.name(drawn, curve.name)
        for kind, mask in curve.marks():
            at = few(mask, MOST_MARKERS)
            where = "bottom" if kind == "zero" else "top"
            if kind != "zero" or scale != LINEAR:
                notes.add(f"What is {WORDS[kind]} has its mark at the {where} edge, not to scale.")
            name = WORDS[kind] if len(curves) == 1 else f"{curve.name}: {WORDS[kind]}"
            plot.markers(curve.x[at].astype(float), np.full(len(at), edges[kind]), name, _MARKS[kind], color)
    return plot, scale


def _finished(plot: Plot, curves: Sequence[Curve], *, legend: bool = True) -> Any:
    """Finish a plot; where steps between the points of a line were not looked at, the points are marked."""
    lines = [drawn for drawn in plot.figure.renderers if type(drawn.glyph).__name__ == "Line"]
    dotted = {}
    if any(curve.sampled for curve in curves):
        for drawn in lines:
            color = drawn.glyph.line_color
            dotted[drawn] = plot.figure.scatter("x", "y", source=drawn.data_source, size=5, color=color)
    figure = plot.finished(legend=legend)
    for item in (item for layout in figure.legend for item in layout.items):
        # A name hides its points with its line.
        item.renderers += [dotted[drawn] for drawn in item.renderers if drawn in dotted]
    return figure
