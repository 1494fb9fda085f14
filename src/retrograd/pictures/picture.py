"""A picture: a matplotlib figure in the house's manner, what it does not show, and how it becomes part of a page."""

from __future__ import annotations

import html
import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from retrograd.pictures.palette import CSS_NAMES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Picture", "blank", "svg", "with_legend"]

WIDTH = 7.2


@dataclass(frozen=True)
class Picture:
    """A figure, and sentences on what it leaves out.

    Attributes:
        figure: a ``matplotlib.figure.Figure``.
        notes: one sentence each.
    """

    figure: Figure
    notes: tuple[str, ...] = ()


def blank(
    rows: int = 1, columns: int = 1, *, width: float = WIDTH, height: float = 2.6, **axes: Any
) -> tuple[Figure, Any]:
    """Return an empty figure and its axes, ``(rows, columns)``.

    Args:
        rows: of panels.
        columns: of panels.
        width: in inches.
        height: in inches, of one row.
        axes: more for ``Figure.subplots``.
    """
    # Not through pyplot: a library must not choose the user's backend or keep figures alive.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, **axes)
    for axis in panels.flat:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.3, linewidth=0.6)
    return figure, panels


def with_legend(figure: Figure, *, columns: int = 3) -> Figure:
    """Put one legend for all axes below them, where it hides no data; the figure grows by it."""
    handles: dict[Any, Any] = {}
    for axis in figure.axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="outside lower left", ncols=columns, frameon=False)
        figure.set_figheight(figure.get_figheight() + 0.25 * -(-len(handles) // columns))
    return figure


def svg(figure: Figure, name: str, description: str) -> str:
    """Return a figure as an ``<svg>`` element for a page: the same bytes each time, colours by the page's scheme.

    A colour of the palette becomes ``var(--NAME, COLOUR)``, so that a style sheet can change it in the dark; text stays
    text. ``$`` in a title, label or legend is a dollar sign, not the start of a formula.

    Args:
        figure: what is drawn.
        name: of the picture, unlike any other on the page: element ids begin with it.
        description: for readers who do not see it.

    Examples:
        >>> figure, axes = blank()
        >>> _ = axes[0, 0].plot([1, 2], color="#0072b2")
        >>> 'var(--blue, #0072b2)' in svg(figure, "line", "A line.")
        True
    """
    import matplotlib

    for text in _texts(figure):
        text.set_parse_math(False)
    written = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(written, format="svg", transparent=True, metadata=nothing)
    # Of the file only the element is kept; its style sheet would hold for the whole page.
    found = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", written.getvalue(), count=1, flags=re.DOTALL)
    found = found[found.index("<svg") :]
    found = re.sub(r'\bid="', f'id="{name}-', found)
    found = re.sub(r'(url\(#|xlink:href="#)', rf"\g<1>{name}-", found)
    found = re.sub(r"#[0-9a-f]{6}\b(?=[^<>]*>)", _by_scheme, found)
    attributes = (
        f'class="picture" role="img" aria-label="{html.escape(description)}" '
        f'width="{min(100 * figure.get_figwidth() / WIDTH, 100):.3g}%"'
    )
    return re.sub(r'width="[^"]*" height="[^"]*"', lambda _: attributes, found, count=1)


def _texts(figure: Figure) -> set[Any]:
    """Return every text that may hold a name from the data: not the numbers on an axis, which may be powers."""
    from matplotlib.text import Text

    both = [axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]
    numbers = {text for axis in both for text in axis.findobj(Text)} - {axis.label for axis in both}
    return set(figure.findobj(Text)) - numbers


def _by_scheme(color: re.Match[str]) -> str:
    name = CSS_NAMES.get(color.group())
    return color.group() if name is None else f"var(--{name}, {color.group()})"
