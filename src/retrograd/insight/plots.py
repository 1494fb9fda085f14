"""Pictures of how a gradient flows, as matplotlib figures: labelled axes, colours for colour-blind readers too."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from retrograd.errors import InputError, require_number
from retrograd.insight.flow import Flow, Jacobians
from retrograd.insight.lags import LagMap
from retrograd.insight.spectrum import Spectrum
from retrograd.insight.truncation import Truncation
from retrograd.insight.verdict import VANISHED
from retrograd.pictures.curves import EXPONENT, LINEAR, Curve
from retrograd.pictures.figures import draw, finished, new_figure
from retrograd.pictures.lag_map import lag_map, shares_by_lag
from retrograd.pictures.memory import memory
from retrograd.pictures.palette import BLACK, BLUE, GREEN, PURPLE, VERMILLION
from retrograd.pictures.spectrum import modes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FlowPlots"]

Array = np.ndarray[Any, Any]

MOST_COLUMNS = 200


class FlowPlots:
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
        self._flow, self._jacobians, self._shares, self._lost, self._modes = flow, jacobians, shares, lost, modes
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
        found, values = self._jacobians, self._jacobians.resolved
        hidden = np.isnan(values) & ~np.isnan(found.singular_values)
        curves = []
        for number, (name, color) in enumerate(
            zip(("largest", "second", "third", "fourth"), (BLUE, VERMILLION, GREEN, PURPLE), strict=True)
        ):
            if number < values.shape[1]:
                # Only the logarithm of the largest is known beyond float64.
                log10 = found.log10_norm if number == 0 else None
                curve = Curve(name, found.lags, values[:, number], log10=log10, left_out=hidden[:, number])
                curves.append((curve, color, "-"))
        figure, axis = new_figure()
        scale = draw(axis, curves, "singular value")
        for level, name, style in ((1.0, "1", "-"), (VANISHED, "1/1000", ":"))[: 1 if scale == LINEAR else 2]:
            height = np.log10(level) if scale == EXPONENT else level
            axis.axhline(height, color=BLACK, linewidth=0.8, linestyle=style, label=name, zorder=1)
        axis.set(xlabel="lag k, steps", title="What a gradient goes through: singular values of ∂h_T/∂h_(T−k)")
        first = found.lags[hidden.any(1).argmax()]
        note = f"Not drawn: what lies below the rounding of the product of matrices (from k = {first} on)."
        return finished(figure, [note] if hidden.any() else [])

    def lag_map(self) -> Figure:
        """∂L/∂W_hh by the step where the loss enters and the lag over which it goes back, and summed over steps."""
        found, title = self._shares, f"Where ∂L/∂{self._name} comes from"
        self._require_shares("lag_map")
        sources = np.flatnonzero((found.share != 0).any(1))
        if len(sources) == 1:  # a map of one step would be one column
            title = f"{title}: the loss looks at step {sources[0] + 1} alone"
            return shares_by_lag(found.edges, found.by_lag, title)
        steps, share = found.coarse(MOST_COLUMNS)
        return lag_map(steps, found.edges, share, found.by_lag, title)

    def truncation(self) -> Figure:
        """Relative error and angle of the gradient through windows of k steps."""
        self._require_shares("truncation")
        found = self._lost
        nothing = np.isnan(found.angle) & ~np.isnan(found.relative_error)
        error = Curve("relative error", found.windows, found.relative_error)
        angle = Curve("angle", found.windows, found.angle, left_out=nothing)
        figure, axes = new_figure(2, 1, height=5.0, sharex=True)
        draw(axes[0], [(error, BLUE, "-")], "‖G_k − G‖ / ‖G‖ (a ratio)")
        draw(axes[1], [(angle, VERMILLION, "-")], "angle to G, degrees", full=90)
        if error.sampled:
            axes[1].set_xscale("log")
        title = f"What truncated backpropagation loses of G = ∂L/∂{self._name}"
        axes[0].set_title(textwrap.fill(title, 70))
        axes[1].set_xlabel("window k, steps")
        note = f"Not drawn: the angle of windows that keep nothing: G_k = 0 has none ({nothing.sum()} of them)."
        return finished(figure, [note] if nothing.any() else [])

    def spectrum(self) -> Figure:
        """Eigenvalues of the transition in the complex plane, with the unit circle; mean rates if it changes."""
        found = self._require_modes("spectrum")
        if found.averaged:
            title = "Mean rates of the channels\n(geometric means over time)"
            return modes(found.eigenvalues, found.time_constant, "mean rates", title)
        return modes(found.eigenvalues, found.time_constant, "eigenvalues", "Modes of the transition")

    def memory(self, interval: float = 1.0, unit: str = "steps") -> Figure:
        """How long each mode remembers, from the slowest to the fastest.

        Args:
            interval: time between two steps.
            unit: of that time.

        Raises:
            InputError: there are no modes, or ``interval`` is not above 0.
        """
        require_number("memory: interval", interval, above=0)
        found, length = self._require_modes("memory"), len(self._flow.delta_norm)
        label = "channel, the slowest first (by its mean rate)" if found.averaged else "mode, the slowest first"
        return memory(found.time_constant, found.horizon, length, label=label, interval=interval, unit=unit)

    def _require_modes(self, picture: str) -> Spectrum:
        if self._modes is None:
            raise InputError(f"{picture}: the transitions are dense and change with time: they have no one spectrum")
        return self._modes

    def _require_shares(self, picture: str) -> None:
        if self._shares.missing is not None:
            raise InputError(f"{picture}: {self._shares.missing}")
