"""Series over time: what was observed, and what was predicted."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from retrograd.pictures.axes import isolated, visible_range
from retrograd.pictures.figures import LONGEST_NAME, finished, new_figure, quiet
from retrograd.pictures.palette import BLACK
from retrograd.pictures.thin import thin

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Line", "series"]

Array = np.ndarray[Any, Any]

MOST_POINTS = 2_000


@dataclass(frozen=True)
class Line:
    """One line in every column's panel.

    Attributes:
        name: for the legend.
        values: ``(N, O)``, NaN where there is none.
        color: of the palette.
        width: in points.
        dash: lengths of dashes and gaps; empty for a solid line.
        measured: whether it is what the others are held against.
    """

    name: str
    values: Array
    color: str
    width: float = 1.5
    dash: Sequence[int] = ()
    measured: bool = False


def series(
    time: Array, label: str, names: Sequence[str], lines: Sequence[Line], shaded_from: int
) -> tuple[Figure, list[str]]:
    """Draw one panel a column: every line over time, the end from step ``shaded_from`` shaded.

    Args:
        time: ``(N,)``, numbers or dates.
        label: of the time axis.
        names: of the O columns.
        lines: what is drawn, the first at the bottom.
        shaded_from: N for no shade.

    Returns:
        The figure, and sentences on what it leaves out.
    """
    figure, axes = new_figure(len(names), 1, width=7.2, height=2.3 * len(names), sharex=True, squeeze=False)
    notes = []
    for column, (name, axis) in enumerate(zip(names, axes[:, 0], strict=True)):
        quiet(axis)
        if shaded_from < len(time):
            axis.axvspan(time[shaded_from], time[-1], color=BLACK, alpha=0.08, linewidth=0)
        for line in lines:
            values = np.where(np.isfinite(line.values[:, column]), line.values[:, column], np.nan)
            if np.isnan(values).all():
                continue
            kept = thin(values, MOST_POINTS)
            style = (0, tuple(line.dash)) if line.dash else "-"
            axis.plot(
                time[kept], values[kept], color=line.color, linewidth=line.width, linestyle=style, label=line.name
            )
            alone = isolated(values)
            axis.plot(time[alone], values[alone], ".", color=line.color)
        drawn = np.concatenate([line.values[:, column] for line in lines])
        observed = np.concatenate([line.values[:, column] for line in lines if line.measured])
        limits = visible_range(observed, drawn)
        if limits is not None:
            axis.set_ylim(*limits)
            notes.append(f"A prediction of {name} leaves the picture.")
        axis.set_ylabel(textwrap.fill(name, LONGEST_NAME))
    axes[-1, 0].set_xlabel(label)
    return finished(figure, columns=3), notes
