"""Every question of a sweep, asked at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from retrograd.insight.flow import Flow, Jacobians, flow, jacobians
from retrograd.insight.lags import LagMap, lag_map
from retrograd.insight.plots import FlowPlots
from retrograd.insight.spectrum import Spectrum
from retrograd.insight.sweep import Sweep, require_sweep
from retrograd.insight.truncation import Truncation, truncation
from retrograd.insight.verdict import Verdict, modes_of, verdict

__all__ = ["Analysis", "analyse"]


@dataclass(frozen=True)
class Analysis:
    """The answers to every question of a sweep; printing it shows the verdict.

    Attributes:
        flow: the size of the gradient at every step.
        jacobians: ∂h_T/∂h_{T-k} by lag.
        lag_map: ∂L/∂W_hh by source step and lag.
        truncation: how much of ∂L/∂W_hh windows keep.
        spectrum: modes and norms of the transition; None if it is dense and changes with time.
        verdict: what is wrong, in words.
        name: what texts and pictures call the transition.
    """

    flow: Flow
    jacobians: Jacobians
    lag_map: LagMap
    truncation: Truncation
    spectrum: Spectrum | None
    verdict: Verdict
    name: str = "W_hh"

    def __str__(self) -> str:
        """Return the verdict."""
        return str(self.verdict)

    @cached_property
    def plot(self) -> FlowPlots:
        """Matplotlib figures: ``plot.flow``, ``jacobians``, ``lag_map``, ``truncation``, ``spectrum``, ``memory``."""
        return FlowPlots(self.flow, self.jacobians, self.lag_map, self.truncation, self.spectrum, self.name)


def analyse(sweep: Sweep, needed: int | None = None, *, name: str = "W_hh") -> Analysis:
    """Ask every question of a sweep.

    Up to 256 steps it looks at every lag; of a longer sequence at 1 to 8, 12, 16 and one an octave beyond, which costs
    some ten runs forward and backward (dense transitions that change with time: T²/2 steps). The single functions take
    any lags.

    Args:
        sweep: the forward and backward run, of :class:`Sweep`'s constructors.
        needed: the longest lag over which the task needs the gradient; see :func:`verdict`.
        name: what texts and pictures call the transition.

    Examples:
        >>> import torch
        >>> import retrograd as rg
        >>> x, W, V = torch.randn(100, 2), 0.5 * torch.eye(4), torch.randn(4, 2)
        >>> print(rg.insight.analyse(rg.insight.Sweep.of_weights(x, weight_hh=W, weight_ih=V)))
        The gradient through time: vanishing.
        - ‖∂h_T/∂h_(T−k)‖ is largest at k = 0: 1; over all 100 steps it is 7.89e-31.
        - It falls below 1/1000 for good between k = 9 and 10: what happened longer before a loss is not learned.
        ...
    """
    require_sweep("analyse", sweep)
    flowing, through = flow(sweep), jacobians(sweep)
    modes = modes_of(sweep, through)
    truncated = truncation(sweep)
    judged = verdict(sweep, needed, name=name, flowing=flowing, through=through, modes=modes, truncated=truncated)
    return Analysis(flowing, through, lag_map(sweep), truncated, modes, judged, name)
