"""How long the modes of a recurrence remember, from the slowest to the fastest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from retrograd.pictures.figures import finished, new_figure, whole_numbers
from retrograd.pictures.palette import BLACK, BLUE, GREEN, PURPLE, VERMILLION

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["memory"]

Array = np.ndarray[Any, Any]


def memory(
    constant: Array, horizon: Array, length: int, *, label: str, interval: float = 1.0, unit: str = "steps"
) -> Figure:
    """Draw time constants and memory horizons of modes, and the length of the sequence.

    Args:
        constant: steps until 1/e is left; infinite where all is kept, negative where it grows.
        horizon: steps until a hundredth is left.
        length: of the sequence.
        label: of the axis of modes.
        interval: time between two steps.
        unit: of that time.

    Examples:
        >>> memory(np.array([9.5, 1.4]), np.array([43.7, 6.6]), 100, label="mode").axes[0].get_ylabel()
        'time, steps'
    """
    figure, axis = new_figure()
    axis.set_yscale("log")
    number, fading = np.arange(1, len(constant) + 1), (constant > 0) & np.isfinite(constant)
    shown = [np.array([length * interval])]
    # Name, modes, times (or the height at the axis' edge of modes that have none), marker and colour.
    for name, mask, times, marker, color in (
        ("memory horizon: 1 % is left", fading, horizon, "D", PURPLE),
        ("time constant: 1/e is left", fading, constant, "o", BLUE),
        ("grows: e times as much", constant < 0, -constant, "v", VERMILLION),
        ("never forgets, |λ| = 1", np.isinf(constant), 0.98, "^", GREEN),
        ("forgets at once, λ = 0", constant == 0, 0.02, "x", BLACK),
    ):
        if not mask.any():
            continue
        at_edge = np.ndim(times) == 0
        heights = np.broadcast_to(times, constant.shape)[mask] * (1 if at_edge else interval)
        shown += [] if at_edge else [heights]
        axis.plot(
            number[mask], heights, marker, color=color, markersize=5, fillstyle="none", label=name,
            transform=axis.get_xaxis_transform() if at_edge else axis.transData,
        )  # fmt: skip
    axis.axhline(length * interval, color=BLACK, linewidth=0.8, linestyle=":", label=f"the sequence: {length} steps")
    low, high = np.log10([min(times.min() for times in shown), max(times.max() for times in shown)])
    axis.set_ylim(10.0 ** np.floor(low - 0.1), 10.0 ** np.ceil(high + 0.1))
    axis.set(xlabel=label, ylabel=f"time, {unit}", title="How long each mode remembers")
    axis.set_xlim(0.5, len(constant) + 0.5)
    whole_numbers(axis)
    return finished(figure)
