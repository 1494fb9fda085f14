"""Eigenvalues in the complex plane, beside the unit circle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from retrograd.pictures.figures import finished, new_figure, quiet
from retrograd.pictures.palette import BLACK, BLUE, GREEN, VERMILLION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["eigenvalues", "modes"]

Array = np.ndarray[Any, Any]


def eigenvalues(sets: Sequence[tuple[str, Array]]) -> tuple[Figure, list[str]]:
    """Draw up to two named sets of eigenvalues; say how large the largest is and how many are not finite.

    Examples:
        >>> eigenvalues([("W", np.array([0.5, -2.0]))])[1]
        ['The largest of W has the size 2.']
    """
    figure, axis = new_figure(width=5.4, height=4.6)
    quiet(axis)
    _unit_circle(axis)
    notes = []
    for (name, values), marker, color in zip(sets, "oD", (BLUE, VERMILLION), strict=False):
        finite = np.asarray(values)[np.isfinite(values)]
        if len(finite) < len(values):
            notes.append(f"{len(values) - len(finite)} of {len(values)} eigenvalues of {name} are not finite.")
        if len(finite):
            notes.append(f"The largest of {name} has the size {np.abs(finite).max():.4g}.")
        axis.plot(finite.real, finite.imag, marker, color=color, fillstyle="none", markersize=6, label=name)
    return finished(figure, columns=3), notes


def modes(values: Array, constant: Array, what: str, title: str) -> Figure:
    """Draw modes inside the unit circle, on it and outside apart.

    Args:
        values: the eigenvalues, complex ``(H,)``.
        constant: their time constants: infinite on the circle, negative outside.
        what: what the legend calls them.
        title: of the picture.

    Examples:
        >>> len(modes(np.array([0.5, 1.2]), np.array([1.4, -5.5]), "eigenvalues", "Modes").axes[0].collections)
        2
    """
    figure, axis = new_figure(width=5.0, height=4.6)
    _unit_circle(axis)
    for mask, where, marker, color in (
        ((constant >= 0) & np.isfinite(constant), "inside: they fade", "o", BLUE),
        (np.isinf(constant), "on it: they stay", "s", GREEN),
        (constant < 0, "outside: they grow", "^", VERMILLION),
    ):
        if mask.any():
            axis.scatter(
                values.real[mask], values.imag[mask], s=32, marker=marker, facecolors="none", edgecolors=color,
                linewidths=1.4, label=f"{what} {where} ({mask.sum()} of {len(values)})",
            )  # fmt: skip
    axis.set(title=title)
    return finished(figure, columns=1)


def _unit_circle(axis: Axes) -> None:
    angle = np.linspace(0, 2 * np.pi, 361)
    axis.plot(np.cos(angle), np.sin(angle), color=BLACK, linewidth=1.2, alpha=0.6, label="unit circle", zorder=1)
    axis.set(xlabel="real part", ylabel="imaginary part")
    axis.set_aspect("equal", adjustable="datalim")
