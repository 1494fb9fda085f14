"""A training as it went: loss and size of the gradient, and the gradient's norm at every step of the series."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from retrograd.pictures.axes import isolated, spans_decades
from retrograd.pictures.curves import EXPONENT, LOG, Curve, on_axis, scale_for
from retrograd.pictures.figures import finished, new_figure, quiet, whole_numbers
from retrograd.pictures.palette import BLUE, DASHES, GREY, LINES, PURPLE, VERMILLION
from retrograd.pictures.thin import thin

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["curves", "gradient_norms"]

Array = np.ndarray[Any, Any]

MOST_POINTS, MOST_MARKERS = 2_000, 200


def curves(
    at: Array, unit: str, panels: Mapping[str, Mapping[str, Array]], wanted: Mapping[str, float] | None = None
) -> Figure:
    """Draw one panel after the other over the same axis: each curve by its name, logarithmic where it spans a decade.

    Args:
        at: ``(N,)``.
        unit: what it counts.
        panels: by the label of the vertical axis, the curves ``(N,)`` by their name.
        wanted: by the same label, the height that its curves should have: a dotted line.
    """
    figure, axes = new_figure(len(panels), 1, width=7.2, height=2.0 * len(panels), sharex=True, squeeze=False)
    # One name is one look, in every panel.
    looks, free = dict[str, dict[str, Any]](), itertools.product(DASHES, LINES)
    several = any(len(panel) > 1 for panel in panels.values())
    for axis, (label, panel) in zip(axes[:, 0], panels.items(), strict=True):
        quiet(axis)
        for name, values in panel.items():
            shown = np.where(np.isfinite(values), values, np.nan)
            kept = thin(shown, MOST_POINTS)
            if name not in looks:
                dash, color = next(free)
                looks[name] = {"color": color, "linewidth": 1.8, "dashes": dash or (None, None)}
            look = looks[name]
            axis.plot(at[kept], shown[kept], label=name if several else None, **look)
            alone = isolated(shown)
            axis.plot(at[alone], shown[alone], ".", color=look["color"])
        if wanted is not None and label in wanted:
            axis.axhline(wanted[label], color=GREY, linewidth=1, linestyle=":")
        if spans_decades(np.concatenate(list(panel.values()))):
            axis.set_yscale("log")
        axis.set_ylabel(label)
    axes[-1, 0].set_xlabel(unit)
    whole_numbers(axes[-1, 0])
    return finished(figure)


def gradient_norms(time: Array, norm: Array, time_label: str, label: str) -> tuple[Figure, list[str]]:
    """Draw ‖∂L/∂h_t‖ over time, on a logarithmic axis; what has no place on it has its mark at an edge.

    Args:
        time: ``(T,)``, numbers or dates.
        norm: ``(T,)``.
        time_label: of the time axis.
        label: of the vertical axis.

    Returns:
        The figure, and sentences on what is marked.
    """
    norm = np.asarray(norm, dtype=float)
    figure, axis = new_figure(width=7.2, height=2.8)
    quiet(axis)
    curve = Curve("‖∂L/∂h_t‖", time, norm)
    # Near the ends of float64 a logarithmic axis has no margins: it shows the exponents themselves.
    scale = EXPONENT if scale_for([curve]) == EXPONENT else LOG
    shown = curve.heights(scale)
    shown[norm == 0] = np.nan
    if len(curve.exponents):
        low, high = curve.exponents.min(), curve.exponents.max()
        gap = max(0.08 * (high - low), 0.3)
        axis.set_ylim(
            np.array([low - gap, high + gap]) if scale == EXPONENT else 10.0 ** np.array([low - gap, high + gap])
        )
        axis.set_yscale("linear" if scale == EXPONENT else "log")
    kept = thin(shown, MOST_POINTS)
    axis.plot(time[kept], shown[kept], color=BLUE, linewidth=1.5, label=curve.name)
    alone = isolated(shown)
    axis.plot(time[alone], shown[alone], ".", color=BLUE)
    notes = []
    for mask, what, edge, where, marker, color in (
        (norm == 0, "exactly zero", 0.0, "bottom", "x", PURPLE),
        (~np.isfinite(norm), "not finite (infinite, or not a number)", 1.0, "top", "v", VERMILLION),
    ):
        if mask.any():
            at = np.flatnonzero(mask)
            notes.append(f"At {len(at)} of {len(norm)} steps the gradient is {what}: marked, not drawn to scale.")
            at = at[:: -(-len(at) // MOST_MARKERS)]
            axis.plot(
                time[at], np.full(len(at), edge), marker, color=color, clip_on=False, markersize=6,
                transform=axis.get_xaxis_transform(), label=f"{what.partition(' (')[0]} (at the {where} edge)",
            )  # fmt: skip
    axis.set(xlabel=time_label, ylabel=on_axis(label, scale))
    return finished(figure, columns=3), notes
