"""Sections of a page on the gradient's flow through time, from an :class:`retrograd.insight.Analysis`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from retrograd.report.content import Section

if TYPE_CHECKING:
    from retrograd.insight import Analysis

__all__ = ["meaning", "own_errors", "sections", "verdict"]


# What each verdict means for whoever forecasts.
_MEANINGS = {
    "healthy": "rows as far back as the loss reaches act on the weights; the gradient neither vanishes nor explodes",
    "vanishing": "rows far back had hardly a say in the weights, as the gradient vanishes on its way to them: the "
    "forecast does not rest on them",
    "exploding": "a change of a row acts on all later states the more, the earlier it was, and so does the gradient "
    "(exploding): one odd row long ago can move the whole forecast",
    "transient growth": "a change of an early row first grows and then fades (transient growth): an odd row moves the "
    "forecast for some steps",
    "not finite": "a state or a gradient is not finite: do not trust this forecast",
}


def meaning(analysis: Analysis) -> str:
    """Return what the verdict on the gradient means for the forecast."""
    return "; ".join(_MEANINGS[kind] for kind in analysis.verdict.kinds)


def own_errors(radius: float, horizon: int) -> str:
    """Return what a closed loop makes of an error of its own over a forecast.

    >>> own_errors(1.1, 10)
    'The forecast feeds on itself: by its largest eigenvalue, of size 1.1, an error grows 2.59-fold in the 10 steps.'
    """
    factor = radius**horizon if horizon * abs(np.log10(max(radius, 1e-30))) < 300 else (np.inf if radius > 1 else 0.0)
    size = f"The forecast feeds on itself: by its largest eigenvalue, of size {radius:.4g}, an error"
    steps = f"in the {horizon} steps" if horizon > 1 else "in one step"
    if 0.995 < factor < 1.005:
        return f"{size} stays as it is {steps}."
    return f"{size} grows {factor:.3g}-fold {steps}." if factor > 1 else f"{size} fades to {factor:.2g} of it {steps}."


def verdict(analysis: Analysis, own: str = "") -> tuple[str, ...]:
    """Return what the gradient's flow means for the forecast, then the evidence and the advice.

    Args:
        analysis: of the loss that was trained.
        own: what the model makes of its own errors, in a sentence.
    """
    judged = analysis.verdict
    reason, said = analysis.lag_map.missing, meaning(analysis)
    missing = f"Where ∂L/∂{analysis.name} comes from, and what truncation would lose, is not drawn: {reason}."
    return (
        f"For this forecast: {said}.",
        *([own] if own else []),
        *judged.evidence,
        *(f"What to do: {advice.text}" for advice in judged.advice),
        *(() if reason is None else (missing,)),
    )


def sections(analysis: Analysis, trained_on: str) -> list[Section]:
    """Return the sections of an analysis; a gradient that is zero or not finite has no picture of its shares.

    Args:
        analysis: of the loss that was trained.
        trained_on: that loss, in words.
    """
    found = [_passed_through(analysis)]
    if analysis.lag_map.missing is None:
        name = analysis.name
        found += [
            Section(
                f"Where the gradient of {name} comes from",
                f"What the loss sends into step t reaches the use of {name} at step t − k over lag k. The parts' "
                f"shares of ∂L/∂{name}, measured along it, sum to 1: orange points along the gradient, purple against "
                f"it. The loss is {trained_on}.",
                [analysis.plot.lag_map()],
            ),
            Section(
                "What truncation would lose",
                "Truncated backpropagation lets each step's loss go back k steps only. Against the whole gradient G = "
                f"∂L/∂{name}, the one through the window, G_k, has this error and this direction.",
                [analysis.plot.truncation()],
            ),
        ]
    return found


def _passed_through(analysis: Analysis) -> Section:
    figures = [analysis.plot.jacobians()]
    reading = (
        "∂h_T/∂h_(T−k) tells how a state k steps before the end acts on the last one; the gradient goes back through "
        "its transpose. Its largest singular value is the most that any direction gets; the others say how many "
        "directions are left."
    )
    if analysis.spectrum is not None:
        figures.append(analysis.plot.memory())
        reading += (
            " Below it is how long each mode of the transition remembers by itself: a mode's time constant is the "
            "number of steps after which 1/e of it (37 %) is left, its memory horizon that after which 1 % is. The "
            f"dotted line is the length of the sequence, {len(analysis.flow.delta_norm)} steps."
        )
    return Section("What the gradient passes through", reading, figures)
