"""Pictures of how a gradient flows, as matplotlib figures; every axis labelled, colours told apart by everyone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from retrograd.errors import InputError
from retrograd.insight.verdict import VANISHED
from retrograd.palette import BLACK, BLUE, GREEN, NO_SUCH_STEP, PURPLE, VERMILLION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from retrograd.insight.analysis import Analysis

__all__ = ["Plots"]

Array = np.ndarray[Any, Any]

COLORS = (BLUE, VERMILLION, GREEN, PURPLE)
# Columns of a heat map, and the share from which its colours begin.
MOST_COLUMNS = 200
FAINTEST = 1e-6


class Plots:
    """Pictures of an :class:`retrograd.insight.Analysis`, each a new ``matplotlib.figure.Figure``.

    Figures are not shown: a notebook shows what a cell returns; elsewhere, ``figure.savefig(path)``.

    Examples:
        >>> import torch
        >>> from retrograd import Diagonal
        >>> from retrograd.insight import Sweep, analyse
        >>> found = analyse(Sweep.of_scan(Diagonal(torch.tensor([0.9, 0.5])), torch.ones(50, 2)))
        >>> [len(figure.axes) for figure in (found.plot.flow(), found.plot.jacobians(), found.plot.truncation())]
        [1, 1, 2]
    """

    def __init__(self, analysis: Analysis) -> None:
        self._analysis = analysis

    def flow(self) -> Figure:
        """‖∂L/∂h_t‖ and what the loss sends straight into each step; zeros and what is not finite are marked."""
        found = self._analysis.flow
        figure, axis = _figure()
        steps = np.arange(1, len(found.delta_norm) + 1)
        _curve(axis, steps, found.delta_norm, "‖∂L/∂h_t‖, whole", BLUE, "-")
        _curve(axis, steps, found.direct_norm, "straight from the loss", VERMILLION, "o")
        axis.set(xlabel="step t", ylabel="norm of the gradient", title="The gradient at every step")
        return _with_legend(figure)

    def jacobians(self) -> Figure:
        """The largest singular values of ∂h_T/∂h_{T−k}, lag by lag."""
        found = self._analysis.jacobians
        figure, axis = _figure()
        values = found.resolved
        for number in range(min(values.shape[1], len(COLORS))):
            name = (
                "largest (the norm)" if number == 0 else f"{('second', 'third', 'fourth')[number - 1]} singular value"
            )
            _curve(axis, found.lags, values[:, number], name, COLORS[number], "-")
        axis.axhline(1, color=BLACK, linewidth=0.8)
        axis.axhline(VANISHED, color=BLACK, linewidth=0.8, linestyle=":")
        axis.set(xlabel="lag k, steps", ylabel="singular values of ∂h_T/∂h_(T−k)", title="What a gradient goes through")
        return _with_legend(figure)

    def lag_map(self) -> Figure:
        """∂L/∂W_hh by the step where the loss enters and the lag over which it goes back."""
        from matplotlib.colors import SymLogNorm

        found = self._analysis.lag_map
        if np.isnan(found.share).all():
            raise InputError("lag_map: the gradient is zero, and has no shares")
        edges, share = found.coarse(MOST_COLUMNS)
        figure, axis = _figure(height=4.2)
        axis.set_facecolor(NO_SUCH_STEP)
        top = max(float(np.nanmax(np.abs(share))), 10 * FAINTEST)
        rows = np.arange(len(found.edges))
        drawn = axis.pcolormesh(
            edges + 0.5, rows, share.T, norm=SymLogNorm(FAINTEST, vmin=-top, vmax=top), cmap="PuOr_r", rasterized=True
        )
        ticks = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), 10)).astype(int))
        axis.set_yticks(ticks, [str(found.edges[tick]) for tick in ticks])
        axis.set(
            xlabel="source step t, where the loss enters",
            ylabel="lag k, steps (not to scale)",
            title=f"Where ∂L/∂{self._analysis.name} comes from",
        )
        bar = figure.colorbar(drawn, ax=axis)
        bar.set_label(f"share of the gradient\n(linear within ±{FAINTEST:g}; grey: no such step)")
        return figure

    def truncation(self) -> Figure:
        """Relative error and angle of the gradient through windows of k steps."""
        found = self._analysis.truncation
        figure, axis = _figure(rows=2, height=5.2)
        _curve(axis[0], found.windows, found.relative_error, "relative error", BLUE, "-")
        _curve(axis[1], found.windows, found.angle, "angle", VERMILLION, "-")
        axis[0].set_title(f"What truncated backpropagation loses of G = ∂L/∂{self._analysis.name}")
        axis[0].set_ylabel("‖G_k − G‖ / ‖G‖ (a ratio)")
        axis[1].set(xlabel="window k, steps", ylabel="angle to G, degrees")
        return _with_legend(figure)

    def spectrum(self) -> Figure:
        """Eigenvalues of the transition in the complex plane, with the unit circle."""
        found = self._analysis.spectrum
        if found is None:
            raise InputError("spectrum: the transitions are dense and change with time: they have no one spectrum")
        figure, axis = _figure(width=4.6, height=4.6)
        around = np.linspace(0, 2 * np.pi, 361)
        axis.plot(np.cos(around), np.sin(around), color=BLACK, linewidth=1, label="unit circle")
        values = found.eigenvalues
        axis.scatter(values.real, values.imag, s=30, facecolors="none", edgecolors=BLUE, label="eigenvalues")
        axis.set(xlabel="real part", ylabel="imaginary part", aspect="equal", title="Modes of the transition")
        return _with_legend(figure)


def _figure(rows: int = 1, width: float = 7.0, height: float = 3.2) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, 1, sharex=rows > 1)


def _with_legend(figure: Figure) -> Figure:
    """Put the legend below, where it hides no data."""
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def _curve(axis: Axes, x: Array, values: Array, name: str, color: str, style: str) -> None:
    """Draw a curve, on a logarithmic axis where it spans decades; zero at the bottom, what is not finite at the top."""
    positive = np.isfinite(values) & (values > 0)
    if positive.any() and values[positive].max() > 10 * values[positive].min():
        axis.set_yscale("log")
    shown = np.where(positive, values, np.nan)
    line, marker = ("none", "o") if style == "o" else (style, "")
    axis.plot(x, shown, linestyle=line, color=color, marker=marker, markersize=3, label=name)
    for mask, marker, where in ((values == 0, "x", 0.02), (~np.isfinite(values), "v", 0.98)):
        if mask.any():
            what = "exactly 0" if marker == "x" else "not finite"
            axis.plot(
                x[mask], np.full(int(mask.sum()), where), marker, color=color, markersize=4,
                transform=axis.get_xaxis_transform(), label=f"{name}: {what}",
            )  # fmt: skip
