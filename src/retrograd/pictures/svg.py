"""A matplotlib figure as an element of a page: text stays text, colours follow the page's scheme."""

from __future__ import annotations

import html
import io
import re
from typing import TYPE_CHECKING, Any

from retrograd.pictures.palette import CSS_NAMES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["svg"]

# Width in inches of a figure that fills a page.
WIDTH = 7.2
# Resolution of heat maps, which are pixels inside the SVG.
DPI = 150


def svg(figure: Figure, name: str, description: str) -> str:
    """Return a figure as an ``<svg>`` element for a page: the same bytes each time, colours by the page's scheme.

    A colour of the palette becomes ``var(--NAME, COLOUR)``, so that a style sheet can change it in the dark; text stays
    text. ``$`` in a title, label or legend is a dollar sign, not the start of a formula.

    Args:
        figure: what is drawn.
        name: of the picture, unlike any other on the page: element ids begin with it.
        description: for readers who do not see it.

    Examples:
        >>> from retrograd.pictures.figures import new_figure
        >>> figure, axis = new_figure()
        >>> _ = axis.plot([1, 2], color="#0072b2")
        >>> 'var(--blue, #0072b2)' in svg(figure, "line", "A line.")
        True
    """
    import matplotlib
    from matplotlib.collections import QuadMesh

    for text in _texts(figure):
        text.set_parse_math(False)
    for mesh in figure.findobj(QuadMesh):
        mesh.set_rasterized(True)  # a colour bar has hundreds of cells
    written = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(written, format="svg", transparent=True, metadata=nothing, dpi=DPI)
    # Keep the element alone: the style sheet of the file would apply to the whole page.
    found = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", written.getvalue(), count=1, flags=re.DOTALL)
    found = re.sub(r"<!--.*?-->", "", found[found.index("<svg") :], flags=re.DOTALL)
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
