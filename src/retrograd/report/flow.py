"""Sections of a page on the gradient's flow through time, from an :class:`retrograd.insight.Analysis`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrograd.report.content import Section

if TYPE_CHECKING:
    from retrograd.insight import Analysis

__all__ = ["sections", "verdict"]


def verdict(analysis: Analysis) -> tuple[str, ...]:
    """Return the verdict on the gradient's flow, sentence by sentence."""
    judged = analysis.verdict
    reason = analysis.lag_map.missing
    missing = f"Where ∂L/∂{analysis.name} comes from, and what truncation would lose, is not drawn: {reason}."
    return (
        f"Verdict: {', '.join(judged.kinds)}.",
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
