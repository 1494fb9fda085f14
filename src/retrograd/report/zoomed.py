"""Panels that the reader zooms, drawn by Bokeh.

No text of the data enters a plot except through ``PlainText``: Bokeh would take ``$$`` in a label for TeX and fetch
a typesetter from the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from bokeh.core.types import ID
from bokeh.embed import json_item
from bokeh.layouts import column
from bokeh.models import BasicTickFormatter, HoverTool, NoOverlap, PlainText
from bokeh.models.annotations import BoxAnnotation, Legend, LegendItem, Title
from bokeh.plotting import figure

from retrograd.pictures.palette import BLACK, GREEN
from retrograd.report.series import Curve, Panel

__all__ = ["item"]

INK = "#1b1b1b"
HEIGHT = 300
# Characters up to which two names share a row of the legend, and pixels of a row.
LONGEST_OF_TWO, LEGEND_ROW = 18, 28


def item(panels: Sequence[Panel], name: str) -> dict[str, Any]:
    """Return panels as ``Bokeh.embed.embed_item`` takes them, for the element ``name``: the same each time."""
    first_of_group: dict[str, Any] = {}
    plots = []
    for panel in panels:
        plot = draw(panel)
        # Panning one column pans all, in the same view.
        plot.x_range = first_of_group.setdefault(panel.group, plot).x_range
        plots.append(plot)
    found: Any = json_item(column(plots, sizing_mode="stretch_width"), ID(name))
    # Bokeh numbers models through the whole process; numbers of this item make the page the same each time.
    numbers: dict[str, str] = {}

    def renumbered(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: numbers.setdefault(part, f"{name}-{len(numbers)}") if key == "id" else renumbered(part)
                for key, part in value.items()
            }
        return [renumbered(part) for part in value] if isinstance(value, list) else value

    document = renumbered(found["doc"])
    return {**found, "doc": document, "root_id": numbers[found["root_id"]]}


def draw(panel: Panel) -> Any:
    """Return a panel as a Bokeh figure."""
    plot: Any = figure(
        height=HEIGHT,
        sizing_mode="stretch_width",
        x_axis_label=PlainText(text=panel.time_label),
        y_axis_label=PlainText(text="value, original units"),
        x_axis_type="datetime" if panel.dated else "linear",
        tools="pan,box_zoom,wheel_zoom,reset,save",
        toolbar_location="above",
        background_fill_color="#ffffff",
        border_fill_color="#ffffff",
    )
    plot.toolbar.logo = None
    # Whoever scrolls the page must not move the plot: not by a finger, nor by the wheel after a click in it.
    plot.toolbar.active_drag = plot.toolbar.active_scroll = None
    plot.axis.axis_label_text_font_style = "normal"
    plot.axis.axis_label_text_font_size = plot.axis.major_label_text_font_size = "12px"
    plot.axis.axis_label_text_color = plot.axis.major_label_text_color = INK
    if not panel.dated:
        plot.xaxis.formatter = BasicTickFormatter(use_scientific=False)
    plot.xaxis.major_label_policy = NoOverlap(min_distance=8)  # dates on a phone
    if panel.caption:
        plot.title = Title(text=PlainText(text=panel.caption), text_color=INK)
    if panel.shade is not None:
        left, right = panel.shade
        plot.add_layout(BoxAnnotation(left=left, right=right, fill_color=BLACK, fill_alpha=0.08, line_color=None))
    entries: list[tuple[str, list[Any]]] = []
    for place, (level, *band) in enumerate(panel.bands):  # the wider one first; the legend tells them apart, too
        entries.append((f"{level:g} % interval", [plot.varea(*band, fill_color=GREEN, fill_alpha=0.2 + 0.15 * place)]))
    for curve in panel.curves:
        entries.append((curve.name, _draw_curve(plot, panel, curve)))
    if panel.limits is not None:
        plot.y_range.start, plot.y_range.end = panel.limits
    _add_legend(plot, entries)
    return plot


def _draw_curve(plot: Any, panel: Panel, curve: Curve) -> list[Any]:
    drawn = [
        plot.line(
            curve.x, curve.y, line_color=curve.color, line_width=curve.width, line_dash=list(curve.dash) or "solid"
        )
    ]
    if len(curve.dots):
        drawn.append(plot.scatter(curve.x[curve.dots], curve.y[curve.dots], color=curve.color, size=7))
    formats: dict[str, Any] = {"@x": "datetime" if panel.dated else "printf", "@y": "printf"}
    when = "@x{%F %H:%M}" if panel.dated else "@x{%.8g}"
    # Bokeh takes a tooltip's values for HTML, with @ and $ in them.
    name = escape(curve.name).replace("@", "&#64;").replace("$", "&#36;")
    tips = [("", name), ("at", when), ("value", "@y{%.5g}")]
    plot.add_tools(HoverTool(renderers=drawn, tooltips=tips, formatters=formats, visible=False))
    return drawn


def _add_legend(plot: Any, entries: Sequence[tuple[str, list[Any]]]) -> None:
    """Put the legend above: there it keeps clear of the data and needs least room."""
    if not entries:
        return
    # Two long names side by side would be cut off on a phone. The plot grows by the rows of its legend.
    columns = 2 if max(len(name) for name, _ in entries) <= LONGEST_OF_TWO else 1
    plot.height += LEGEND_ROW * (-(-len(entries) // columns) - 1)
    legend = Legend(
        items=[LegendItem(label=name, renderers=drawn) for name, drawn in entries],
        orientation="horizontal",
        ncols=columns,
        location="left",
        click_policy="hide",
        border_line_color=None,
        margin=0,
        spacing=12,
        label_text_font_size="12px",
        label_text_color=INK,
    )
    plot.add_layout(legend, "above")
