"""A matplotlib figure as an element of a page: text stays text, colours follow the page's scheme."""

from __future__ import annotations

import html
import io
import re
from typing import TYPE_CHECKING, Any

from retrograd.pictures.palette import CSS_NAMES

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.ticker import Formatter

__all__ = ["powers", "svg"]

# Width in inches of a figure that fills a page.
WIDTH = 7.2
# Resolution of heat maps, which are pixels inside the SVG.
DPI = 150
_RAISED = str.maketrans("-−0123456789", "⁻⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


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

    _without_formulas(figure)
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


def _without_formulas(figure: Figure) -> None:
    """Let every text stand as it is, and write powers on axes as 10⁻³: TeX would take half of the drawing's time."""
    from matplotlib.text import Text
    from matplotlib.ticker import LogFormatterMathtext

    for text in figure.findobj(Text):
        text.set_parse_math(False)
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        for read, write in (
            (axis.get_major_formatter, axis.set_major_formatter),
            (axis.get_minor_formatter, axis.set_minor_formatter),
        ):
            if isinstance(formatter := read(), LogFormatterMathtext):
                write(_plain_powers(formatter))


def _plain_powers(formatter: Formatter) -> Formatter:
    """Return a formatter that writes what another one writes, without TeX."""
    from matplotlib.ticker import Formatter

    class PlainPowers(Formatter):
        def set_axis(self, axis: Any) -> None:
            super().set_axis(axis)
            formatter.set_axis(axis)

        def set_locs(self, locs: Any) -> None:
            formatter.set_locs(locs)

        def __call__(self, x: float, pos: int | None = None) -> str:
            return powers(formatter(x, pos))

    return PlainPowers()


def powers(text: str) -> str:
    r"""Return a tick label of a logarithmic axis as plain text.

    >>> powers(r"$\mathdefault{-2\times10^{-3}}$"), powers(r"$\mathdefault{0}$"), powers("")
    ('−2×10⁻³', '0', '')
    """
    text = re.sub(r"\$\\mathdefault\{(.*)\}\$", r"\1", text).replace(r"\times", "×")
    raised = re.sub(r"\^\{([^}]*)\}", lambda found: found.group(1).translate(_RAISED), text)
    return raised.replace("-", "−")


def _by_scheme(color: re.Match[str]) -> str:
    name = CSS_NAMES.get(color.group())
    return color.group() if name is None else f"var(--{name}, {color.group()})"
