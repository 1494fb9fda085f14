"""Pictures of how a gradient flows, as matplotlib figures: labelled axes, colours for colour-blind readers too.

:mod:`retrograd.insight.curves` decides what they show.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from retrograd.errors import InputError
from retrograd.insight.curves import (
    FAINTEST,
    by_lag,
    cells,
    lag_label,
    lag_ticks,
    memories,
    no_shares,
    only_source,
    singular_values,
    truncated,
)
from retrograd.insight.flow import Flow, Jacobians
from retrograd.insight.lags import LagMap
from retrograd.insight.spectrum import Spectrum
from retrograd.insight.truncation import Truncation
from retrograd.insight.verdict import VANISHED
from retrograd.pictures.curves import EXPONENT, LINEAR, Curve
from retrograd.pictures.figures import draw, finished, new_figure, whole_numbers
from retrograd.pictures.palette import AGAINST, ALONG, BLACK, BLUE, GREEN, NO_SUCH_STEP, PURPLE, VERMILLION, diverging

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

__all__ = ["Plots"]

Array = np.ndarray[Any, Any]

MOST_COLUMNS = 200


class Plots:
    """Pictures of the parts of an :class:`retrograd.insight.Analysis`, each a new ``matplotlib.figure.Figure``.

    Figures are not shown: a notebook shows what a cell returns; elsewhere, ``figure.savefig(path)``.

    Examples:
        >>> import torch
        >>> from retrograd import Diagonal
        >>> from retrograd.insight import Sweep, analyse
        >>> found = analyse(Sweep.of_scan(Diagonal(torch.tensor([0.9, 0.5])), torch.ones(50, 2)))
        >>> [len(figure.axes) for figure in (found.plot.flow(), found.plot.jacobians(), found.plot.truncation())]
        [1, 1, 2]
    """

    def __init__(
        self, flow: Flow, jacobians: Jacobians, shares: LagMap, lost: Truncation, modes: Spectrum | None, name: str
    ) -> None:
        self._flow, self._jacobians, self._shares, self._lost, self._spectrum = flow, jacobians, shares, lost, modes
        self._name = name

    def flow(self) -> Figure:
        """‖∂L/∂h_t‖ and what the loss sends straight into each step; zero, infinity and NaN are marked."""
        found = self._flow
        figure, axis = new_figure()
        steps = np.arange(1, len(found.delta_norm) + 1)
        whole = Curve("‖∂L/∂h_t‖, whole", steps, found.delta_norm)
        direct = Curve("straight from the loss", steps, found.direct_norm)
        draw(axis, [(whole, BLUE, "-"), (direct, VERMILLION, "o")], "norm of the gradient")
        axis.set(xlabel="step t", title="The gradient at every step")
        return finished(figure)

    def jacobians(self) -> Figure:
        """The largest singular values of ∂h_T/∂h_{T−k}, lag by lag; those that rounding hides are not drawn."""
        figure, axis = new_figure()
        curves, notes = singular_values(self._jacobians)
        colors = (BLUE, VERMILLION, GREEN, PURPLE)
        styled = [(curve, color, "-") for curve, color in zip(curves, colors, strict=False)]
        scale = draw(axis, styled, "singular value")
        for level, name, style in ((1.0, "1", "-"), (VANISHED, "1/1000", ":"))[: 1 if scale == LINEAR else 2]:
            height = np.log10(level) if scale == EXPONENT else level
            axis.axhline(height, color=BLACK, linewidth=0.8, linestyle=style, label=name, zorder=1)
        axis.set(xlabel="lag k, steps", title="What a gradient goes through: singular values of ∂h_T/∂h_(T−k)")
        return finished(figure, notes)

    def lag_map(self) -> Figure:
        """∂L/∂W_hh by the step where the loss enters and the lag over which it goes back, and summed over steps."""
        found = self._shares
        if (reason := no_shares(found)) is not None:
            raise InputError(f"lag_map: {reason}")
        title = f"Where ∂L/∂{self._name} comes from"
        source = only_source(found)
        if source is not None:
            figure, axis = new_figure()
            _draw_by_lag(axis, found, sideways=False)
            axis.set_title(textwrap.fill(f"{title}: the loss looks at step {source} alone", 70))
            return finished(figure)
        figure, (axis, beside) = new_figure(1, 2, width=8.6, height=4.4, sharey=True, width_ratios=(2.6, 1))
        drawn, patches = _draw_map(axis, found)
        axis.set_title(textwrap.fill(title, 50))
        _draw_by_lag(beside, found, sideways=True)
        beside.set(title="Over all steps", ylabel="")
        bar = figure.colorbar(drawn, ax=[axis, beside])
        bar.set_label("share of the gradient in a cell")
        return finished(figure, patches=patches, columns=3)

    def truncation(self) -> Figure:
        """Relative error and angle of the gradient through windows of k steps."""
        if (reason := no_shares(self._shares)) is not None:
            raise InputError(f"truncation: {reason}")
        error, angle, notes = truncated(self._lost)
        figure, axes = new_figure(2, 1, height=5.0, sharex=True)
        draw(axes[0], [(error, BLUE, "-")], "‖G_k − G‖ / ‖G‖ (a ratio)")
        draw(axes[1], [(angle, VERMILLION, "-")], "angle to G, degrees", full=90)
        if error.sampled:
            axes[1].set_xscale("log")
        title = f"What truncated backpropagation loses of G = ∂L/∂{self._name}"
        axes[0].set_title(textwrap.fill(title, 70))
        axes[1].set_xlabel("window k, steps")
        return finished(figure, notes)

    def spectrum(self) -> Figure:
        """Eigenvalues of the transition in the complex plane, with the unit circle; mean rates where it changes."""
        found = self._modes("spectrum")
        figure, axis = new_figure(width=5.0, height=4.6)
        around = np.linspace(0, 2 * np.pi, 361)
        axis.plot(np.cos(around), np.sin(around), color=BLACK, linewidth=1, label="unit circle", zorder=1)
        values, constant = found.eigenvalues, found.time_constant
        what = "mean rates" if found.averaged else "eigenvalues"
        for mask, name, marker, color in (
            ((constant >= 0) & np.isfinite(constant), f"{what} inside: they fade", "o", BLUE),
            (np.isinf(constant), f"{what} on it: they stay", "s", GREEN),
            (found.outside, f"{what} outside: they grow", "^", VERMILLION),
        ):
            if mask.any():
                axis.scatter(
                    values.real[mask], values.imag[mask], s=32, marker=marker, facecolors="none", edgecolors=color,
                    linewidths=1.4, label=f"{name} ({mask.sum()} of {len(values)})",
                )  # fmt: skip
        title = (
            "Mean rates of the channels\n(geometric means over time)" if found.averaged else "Modes of the transition"
        )
        axis.set(xlabel="real part", ylabel="imaginary part", title=title)
        axis.set_aspect("equal", adjustable="datalim")
        return finished(figure, columns=1)

    def memory(self, interval: float = 1.0, unit: str = "steps") -> Figure:
        """How long each mode remembers, from the slowest to the fastest.

        Args:
            interval: time between two steps.
            unit: of that time.

        Raises:
            InputError: there are no modes, or ``interval`` is not above 0.
        """
        if not 0 < interval < np.inf:
            raise InputError(f"memory: interval is {interval}, expected the time between two steps, above 0")
        found = self._modes("memory")
        figure, axis = new_figure()
        axis.set_yscale("log")
        looks = {"horizon": ("D", PURPLE, 0.5), "constant": ("o", BLUE, 0.5), "grows": ("v", VERMILLION, 0.5),
                 "forever": ("^", GREEN, 0.98), "once": ("x", BLACK, 0.02)}  # fmt: skip
        groups = memories(found, interval)
        for kind, name, number, times in groups:
            marker, color, edge = looks[kind]
            axis.plot(
                number, np.full(len(number), edge) if times is None else times, marker, color=color, markersize=5,
                fillstyle="none", label=name,
                transform=axis.get_xaxis_transform() if times is None else axis.transData,
            )  # fmt: skip
        length = len(self._flow.delta_norm)
        axis.axhline(
            length * interval, color=BLACK, linewidth=0.8, linestyle=":", label=f"the sequence: {length} steps"
        )
        shown = [times for *_, times in groups if times is not None] + [np.array([length * interval])]
        low, high = np.log10([min(times.min() for times in shown), max(times.max() for times in shown)])
        axis.set_ylim(10.0 ** np.floor(low - 0.1), 10.0 ** np.ceil(high + 0.1))
        what = "channel, the slowest first (by its mean rate)" if found.averaged else "mode, the slowest first"
        axis.set(xlabel=what, ylabel=f"time, {unit}", title="How long each mode remembers")
        axis.set_xlim(0.5, len(found.time_constant) + 0.5)
        whole_numbers(axis)
        return finished(figure)

    def _modes(self, picture: str) -> Spectrum:
        found = self._spectrum
        if found is None:
            raise InputError(f"{picture}: the transitions are dense and change with time: they have no one spectrum")
        return found


def _draw_map(axis: Axes, found: LagMap) -> tuple[Any, list[Patch]]:
    """Draw the heat map; return the mesh for the colour bar and the patches for the legend."""
    from matplotlib.colors import ListedColormap, SymLogNorm
    from matplotlib.patches import Patch

    edges, share, there = cells(found, MOST_COLUMNS)
    rows, known = np.arange(len(found.edges)), np.isfinite(share)
    top = max(float(np.abs(share[known]).max(initial=0)), 10 * FAINTEST)
    axis.pcolormesh(
        edges + 0.5, rows, np.ma.masked_array(np.zeros(share.shape), there).T, cmap=ListedColormap([NO_SUCH_STEP]),
        rasterized=True,
    )  # fmt: skip
    drawn = axis.pcolormesh(
        edges + 0.5, rows, np.ma.masked_array(share, ~known).T, norm=SymLogNorm(FAINTEST, vmin=-top, vmax=top),
        cmap=ListedColormap(diverging(128)), rasterized=True,
    )  # fmt: skip
    patches = [Patch(facecolor="white", edgecolor=BLACK, linewidth=0.5, label=f"0, or less than {FAINTEST:g}")]
    if not there.all():
        patches.append(Patch(facecolor=NO_SUCH_STEP, label="no such step"))
    if (there & ~known).any():
        # Such cells are transparent, so that the hatched background shows.
        axis.patch.set(hatch="xxxx", edgecolor=BLACK, linewidth=0)
        patches.append(Patch(facecolor="white", edgecolor=BLACK, hatch="xxxx", linewidth=0.5, label="not finite"))
    ticks = lag_ticks(found, 10)
    axis.set_yticks(list(ticks), list(ticks.values()))
    axis.set(xlabel="source step t, where the loss enters", ylabel=lag_label(found))
    return drawn, patches


def _draw_by_lag(axis: Axes, found: LagMap, *, sideways: bool) -> None:
    """Draw the size of the share of every bin of lags; colour and marker show its sign."""
    along, against, neither = by_lag(found)
    curves = [(along, ALONG, "o"), (against, AGAINST, "D"), (neither, BLACK, "o")]
    scale = draw(axis, curves, "|share of the gradient|", sideways=sideways)
    size = Curve("", along.x, np.abs(found.by_lag)).heights(scale)
    rows = np.arange(len(size) + 1)
    axis.stairs(
        size, rows, baseline=None, orientation="horizontal" if sideways else "vertical", color=BLACK, linewidth=0.6,
        zorder=1,
    )  # fmt: skip
    if not sideways:
        ticks = lag_ticks(found, 10)
        axis.set_xticks(list(ticks), list(ticks.values()))
        axis.set(xlabel=lag_label(found), xlim=(0, rows[-1]))
