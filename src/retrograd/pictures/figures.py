"""Matplotlib figures of curves: labelled axes, marks for numbers without a height, a legend that hides no data."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from retrograd.pictures.curves import LINEAR, LOG, WORDS, Curve, few, on_axis, scale_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

__all__ = ["LONGEST_NAME", "draw", "finished", "new_figure", "quiet", "whole_numbers"]

Array = np.ndarray[Any, Any]

MOST_MARKS = 100
# Characters of a name beside an axis, on one line.
LONGEST_NAME = 24
# Marker and height, as a fraction of the axis, of numbers without a height.
_MARKS = {"zero": ("x", 0.02), "infinite": ("^", 0.98), "nan": ("s", 0.93)}


def new_figure(
    rows: int = 1, columns: int = 1, width: float = 7.0, height: float = 3.2, **axes: Any
) -> tuple[Figure, Any]:
    """Return an empty figure, which no window shows, and its axes: one, or an array of them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **axes)


def quiet(axis: Axes) -> None:
    """Leave of an axis' frame what the eye needs: two sides and a faint grid."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.3, linewidth=0.6)


def finished(figure: Figure, notes: Sequence[str] = (), patches: Sequence[Patch] = (), columns: int = 2) -> Figure:
    """Put notes and legend below the axes, where they hide no data, and let the figure grow by them."""
    handles: dict[Any, Any] = {
        label: handle for axis in figure.axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    handles |= {patch.get_label(): patch for patch in patches}
    if not handles and not notes:
        return figure
    text = "\n".join(textwrap.fill(note, int(14 * figure.get_figwidth())) for note in notes)
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=columns, frameon=False, fontsize="small",
        title=text or None, title_fontsize="small",
    )  # fmt: skip
    lines = -(-len(handles) // columns) + len(text.splitlines())
    figure.set_figheight(figure.get_figheight() + 0.2 * lines)
    return figure


def whole_numbers(axis: Axes) -> None:
    """Let the horizontal axis count in whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def draw(
    axis: Axes, curves: Sequence[tuple[Curve, str, str]], label: str, *, full: float = 1.0, sideways: bool = False
) -> str:
    """Draw curves on one axis with the scale that suits them all; return that scale.

    Args:
        axis: the axes to draw on.
        curves: each with its colour and its style, of a line or of a marker.
        label: of the axis of values.
        full: its upper end if all values are zero.
        sideways: whether values are drawn to the right and not upward.
    """
    scale = scale_for(curve for curve, _, _ in curves)
    letter = "x" if sideways else "y"
    axis.set(**{f"{letter}label": on_axis(label, scale)})
    if scale == LOG:
        axis.set(**{f"{letter}scale": "log"})
    if scale == LINEAR:
        # The axis begins at 0, so that a difference in the last digit does not look like a fall.
        top = max((10.0 ** curve.exponents.max() for curve, _, _ in curves if len(curve.exponents)), default=full)
        axis.set(**{f"{letter}lim": (-0.04 * top, 1.08 * top)})
    edge = axis.get_yaxis_transform() if sideways else axis.get_xaxis_transform()

    def put(x: Array, y: Array, style: str, color: str, **how: Any) -> None:
        axis.plot(*((y, x) if sideways else (x, y)), style, color=color, **how)

    lines = sum(style == "-" for _, _, style in curves)
    for number, (curve, color, style) in enumerate(curves):
        heights, alone = curve.heights(scale), curve.alone(scale)
        if style != "-":
            heights[curve.log10 == -np.inf] = np.nan  # zeros have a mark of their own
        if np.isfinite(heights).any():
            # Each line is thinner than the one before, so that lines on top of each other are all seen.
            look = {"markersize": 3, "linewidth": 1.6 if lines == 1 else 2.6 - 0.5 * number, "label": curve.name}
            put(curve.x, heights, "o-" if style == "-" and curve.sampled else style, color, **look)
            if style == "-" and alone.any():
                put(curve.x[alone], heights[alone], "o", color, markersize=4)
        for kind, mask in curve.marks():
            marker, where = _MARKS[kind]
            at_height = kind == "zero" and scale == LINEAR
            at = few(mask, MOST_MARKS)
            put(
                curve.x[at], np.full(len(at), 0.0 if at_height else where), marker, color, markersize=4.5,
                fillstyle="none", label=f"{curve.name}: {WORDS[kind]}", clip_on=False,
                transform=axis.transData if at_height else edge,
            )  # fmt: skip
    if not sideways:
        whole_numbers(axis)
        if len(curves[0][0].x) == 1:
            axis.set_xlim(curves[0][0].x[0] - 1, curves[0][0].x[0] + 1)
    return scale
