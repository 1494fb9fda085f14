"""What the page's figures are made of: a Bokeh plot in the page's manner, its colours, and what it cannot show.

No text of the data enters a plot except through ``PlainText``: Bokeh would take ``$$`` in a label for TeX and fetch
a typesetter from the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from bokeh.models import BasicTickFormatter, FixedTicker, HoverTool, NoOverlap, PlainText, PrintfTickFormatter
from bokeh.models.annotations import Legend, LegendItem
from bokeh.plotting import figure

from retrograd.pictures.axes import is_dated, numbers, spans_decades
from retrograd.pictures.palette import BLACK, BLUE, GREEN, PURPLE, VERMILLION
from retrograd.pictures.thin import thin

__all__ = [
    "COLORS",
    "DASHES",
    "GREY",
    "MOST_MARKERS",
    "MOST_PANELS",
    "MOST_POINTS_A_LINE",
    "MOST_POINTS_IN_ALL",
    "Notes",
    "Part",
    "Plot",
    "is_dated",
    "numbers",
    "spans_decades",
]

Array = np.ndarray[Any, Any]

GREY = "#767676"
# Where lines are many, beyond the colours a pattern tells them apart.
COLORS = (BLUE, VERMILLION, GREEN, PURPLE, BLACK)
DASHES: tuple[str | list[int], ...] = ("solid", [6, 3], [2, 2], [8, 3, 2, 3])
MOST_PANELS = 12
MOST_MARKERS = 200
# Numbers cost 16 bytes a point, a third more in the page's base64: this keeps any page well under 3 MB.
MOST_POINTS_IN_ALL = 40_000
MOST_POINTS_A_LINE = 4_000
# Of a legend: characters of a name that has another one beside it, and pixels of a row.
LONGEST_OF_TWO = 18
LEGEND_ROW = 28
# Below so many decades Bokeh's own ticks of a logarithmic axis are two or none.
FEW_DECADES = 2.5


@dataclass(frozen=True)
class Part:
    """A section of the page: plots under one heading, each with a caption if there are several.

    Attributes:
        heading: of the section.
        plots: captions and figures.
        reading: how to read them.
        points: what else is to be said, in a list.
    """

    heading: str
    plots: list[tuple[str, Any]]
    reading: str
    points: tuple[str, ...] = ()


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
        self.dated = time is not None and is_dated(time)
        self._log_y = log_y
        self._decades: list[float] = []
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
        # Whoever scrolls the page must not move the plot: not by a finger, nor by the wheel after a click in it.
        self.figure.toolbar.active_drag = self.figure.toolbar.active_scroll = None
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
        x, y = numbers(time), np.asarray(values, dtype=float)
        finite = np.isfinite(y)
        if np.isinf(y).any():
            notes.add(f"{int(np.isinf(y).sum())} infinite values of “{name}” are left out.")
        if not finite.any():
            return
        y = np.where(finite, y, np.nan)
        if self._log_y and (y[finite] > 0).any():
            positive = y[finite & (y > 0)]
            self._decades += [float(np.log10(positive.min())), float(np.log10(positive.max()))]
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
        tips = [("", _plain(name)), ("at", when), ("value", "@y{%.5g}")]
        self.figure.add_tools(HoverTool(renderers=drawn, tooltips=tips, formatters=formats, visible=False))

    def band(self, x: Array, lower: Array, upper: Array, name: str, color: str) -> None:
        """Fill between two lines."""
        drawn = self.figure.varea(numbers(x), lower, upper, fill_color=color, fill_alpha=0.25)
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
        if self._decades and max(self._decades) - min(self._decades) < FEW_DECADES:
            around = np.arange(np.floor(min(self._decades)) - 1, np.ceil(max(self._decades)) + 2)
            ticks = [mantissa * 10.0**decade for decade in around if abs(decade) < 300 for mantissa in (1, 2, 5)]
            self.figure.yaxis.ticker = FixedTicker(ticks=ticks)
            self.figure.ygrid.ticker = self.figure.yaxis[0].ticker
            self.figure.yaxis.formatter = PrintfTickFormatter(format="%g")
        if legend and self._entries:
            items = [LegendItem(label=name, renderers=drawn) for name, drawn in self._entries]
            # On a phone two long names side by side would be cut off. Rows of names must not eat up the plot.
            columns = 2 if max(len(name) for name, _ in self._entries) <= LONGEST_OF_TWO else 1
            self.figure.height += LEGEND_ROW * (-(-len(items) // columns) - 1)
            self.figure.add_layout(
                Legend(
                    items=items,
                    orientation="horizontal",
                    ncols=columns,
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


def _plain(name: str) -> str:
    """Return a name as a tooltip shows it: Bokeh takes a tooltip's values for HTML, with ``@`` and ``$`` in them."""
    return escape(name).replace("@", "&#64;").replace("$", "&#36;")
