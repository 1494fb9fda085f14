"""A training as it went: loss and size of the gradient, and the gradient's norm at every step of the series."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from retrograd.pictures.axes import isolated, spans_decades
from retrograd.pictures.palette import BLUE, GREEN, PURPLE, VERMILLION
from retrograd.pictures.picture import Picture, blank, with_legend
from retrograd.pictures.thin import thin

__all__ = ["curves", "gradient_norms"]

Array = np.ndarray[Any, Any]

MOST_POINTS, MOST_MARKERS = 2_000, 200


def curves(at: Array, unit: str, panels: Mapping[str, Mapping[str, Array]]) -> Picture:
    """Draw one panel after the other over the same axis: each curve by its name, logarithmic where it spans a decade.

    Args:
        at: ``(N,)``.
        unit: what it counts.
        panels: by the label of the vertical axis, the curves ``(N,)`` by their name.
    """
    from matplotlib.ticker import MaxNLocator

    figure, axes = blank(len(panels), 1, height=2.0, sharex=True)
    colors = iter((BLUE, GREEN, PURPLE)), iter((VERMILLION, PURPLE))
    several = any(len(panel) > 1 for panel in panels.values())
    for axis, (label, panel), color in zip(axes[:, 0], panels.items(), colors, strict=False):
        for name, values in panel.items():
            shown = np.where(np.isfinite(values), values, np.nan)
            kept = thin(shown, MOST_POINTS)
            look: dict[str, Any] = {"color": next(color), "linewidth": 1.8}
            axis.plot(at[kept], shown[kept], label=name if several else None, **look)
            alone = isolated(shown)
            axis.plot(at[alone], shown[alone], ".", **look)
        if spans_decades(np.concatenate(list(panel.values()))):
            axis.set_yscale("log")
        axis.set_ylabel(label)
    axes[-1, 0].set_xlabel(unit)
    axes[-1, 0].xaxis.set_major_locator(MaxNLocator(integer=True))
    return Picture(with_legend(figure))


def gradient_norms(time: Array, norm: Array, time_label: str, label: str) -> Picture:
    """Draw ‖∂L/∂h_t‖ over time, on a logarithmic axis; what has no place on it has its mark at an edge.

    Args:
        time: ``(T,)``, numbers or dates.
        norm: ``(T,)``.
        time_label: of the time axis.
        label: of the vertical axis.
    """
    norm = np.asarray(norm, dtype=float)
    figure, ((axis,),) = blank(height=2.8)
    positive = np.isfinite(norm) & (norm > 0)
    shown = np.where(positive, norm, np.nan)
    if positive.any():
        axis.set_yscale("log")
        # In decades, which do not overflow near the ends of float64's range.
        low, high = np.log10([norm[positive].min(), norm[positive].max()])
        gap = max(0.08 * (high - low), 0.3)
        axis.set_ylim(10.0 ** np.clip([low - gap, high + gap], -323, 308))
    kept = thin(shown, MOST_POINTS)
    axis.plot(time[kept], shown[kept], color=BLUE, linewidth=1.5, label="‖∂L/∂h_t‖")
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
    axis.set(xlabel=time_label, ylabel=label)
    return Picture(with_legend(figure), tuple(notes))
