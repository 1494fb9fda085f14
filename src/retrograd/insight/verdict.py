"""Does the gradient vanish, explode or grow on its way, on what evidence, and what helps?

The judge is ∂h_T/∂h_{T-k}, through whose conjugate transpose every gradient goes back k steps:

    exploding           its norm is above 10 at the end of the sequence, and largest in the second half
    transient growth    its norm is above 10 somewhere, and not exploding
    vanishing           its norm is below 1/1000 at the lag that is needed
    not finite          ‖∂L/∂h_t‖ is NaN or infinite somewhere
    healthy             none of these

What an advice says of its effect is exact: scaling W by s scales the Jacobian of lag k by s^k.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from retrograd.errors import InputError
from retrograd.insight.flow import Flow, Jacobians, flow, jacobians
from retrograd.insight.spectrum import Spectrum, spectrum
from retrograd.insight.sweep import Sweep
from retrograd.insight.truncation import Truncation, truncation

__all__ = ["Advice", "Verdict", "longest_wait", "verdict"]

Array = np.ndarray[Any, Any]

EXPLODED = 10.0
VANISHED = 1e-3
# What initialisation aims at over the lag needed: a tenth is far from vanished, and far from growing.
AIM = 0.1
# Truncation is called harmless up to this relative error, and a gradient worth cutting above this quantile.
HARMLESS = 0.01
CUT_ABOVE = 0.9
# Fewer gradients have no quantiles worth the name.
FEWEST = 10
MODES_NAMED = 3


@dataclass(frozen=True)
class Advice:
    """One thing to do, and what it changes.

    Attributes:
        action: ``"initialisation"``, ``"reparametrisation"``, ``"clipping"`` or ``"window"``.
        text: what to do and what then is measured, in words.
        value: the factor for W_hh, the radius, the threshold or the number of steps.
        measured: what it changes, as it is now.
        expected: what that will be.
    """

    action: str
    text: str
    value: float
    measured: float
    expected: float


@dataclass(frozen=True)
class Verdict:
    """What is wrong, if anything; printing it shows all.

    Attributes:
        kinds: of ``"not finite"``, ``"exploding"``, ``"transient growth"``, ``"vanishing"``; or ``("healthy",)``.
        evidence: sentences with the numbers it rests on.
        advice: what to do.
        needed: the lag that a vanishing gradient was judged at.
    """

    kinds: tuple[str, ...]
    evidence: tuple[str, ...]
    advice: tuple[Advice, ...]
    needed: int

    def __str__(self) -> str:
        """Return the whole verdict as text."""
        lines = [f"The gradient through time: {', '.join(self.kinds)}.", *(f"- {line}" for line in self.evidence)]
        if self.advice:
            lines += ["What to do:", *(f"- {advice.text}" for advice in self.advice)]
        return "\n".join(lines)


def verdict(
    sweep: Sweep,
    needed: int | None = None,
    *,
    name: str = "W_hh",
    flowing: Flow | None = None,
    through: Jacobians | None = None,
    modes: Spectrum | None = None,
    truncated: Truncation | None = None,
) -> Verdict:
    """Judge how the gradient of a sweep flows back through time.

    Args:
        sweep: the forward and backward run.
        needed: the longest lag over which the task needs the gradient, below T. By default the longest way from a step
            to the next loss after it: T - 1 where only the last state is looked at, 0 where every one is.
        name: what the text calls the transition.
        flowing: the sweep's :func:`flow`, if it is at hand; likewise
        through: its :func:`jacobians`,
        modes: its :func:`spectrum` and
        truncated: its :func:`truncation`.

    Raises:
        InputError: ``needed`` is outside the sequence, or A is not finite.

    Examples:
        >>> import torch
        >>> from retrograd import Dense
        >>> found = verdict(Sweep.of_scan(Dense(0.5 * torch.eye(2)), torch.ones(100, 2)))
        >>> found.kinds, found.advice[0].action, round(found.advice[0].value, 3)
        (('vanishing',), 'initialisation', 1.954)
    """
    needed = longest_wait(sweep) if needed is None else needed
    if not 0 <= needed < sweep.time:
        raise InputError(f"needed is {needed}, expected a lag from 0 to {sweep.time - 1}, below the number of steps")
    if not bool(sweep.A.isfinite().all()):
        raise InputError("the transitions hold NaN or infinity: there is nothing to judge")
    flowing = flow(sweep) if flowing is None else flowing
    through = jacobians(sweep) if through is None else through
    if modes is None and (sweep.diagonal or sweep.A.shape[0] * sweep.A.shape[1] == 1):
        modes = spectrum(sweep, through=through)
    truncated = truncation(sweep) if truncated is None else truncated
    # In decades; at the lag needed exactly, whatever lags were measured.
    size = through.log10_norm
    at_needed = float(jacobians(sweep, [needed], longest=sweep.time, top=1).log10_norm[0])
    top = int(np.nanargmax(size))
    kinds = [] if np.isfinite(flowing.delta_norm).all() else ["not finite"]
    if size[-1] > np.log10(EXPLODED) and through.lags[top] >= sweep.time / 2:
        kinds.append("exploding")
    elif size[top] > np.log10(EXPLODED):
        kinds.append("transient growth")
    if at_needed < np.log10(VANISHED):
        kinds.append("vanishing")
    evidence = [*_path(sweep, through, needed, at_needed), *_steps(flowing), *_modes(modes, sweep.time, kinds, name)]
    advice = [
        *_initialisation(sweep, kinds, needed, at_needed, float(size[-1]), name),
        *_reparametrisation(kinds, needed, at_needed, through, modes, name),
        *_clipping(kinds, flowing, name),
        *_window(truncated, sweep.time, name),
    ]
    return Verdict(tuple(kinds) or ("healthy",), tuple(evidence), tuple(advice), needed)


def longest_wait(sweep: Sweep) -> int:
    """Return the longest way from a step to the next one that the loss looks at; steps after the last are left out.

    >>> import torch
    >>> from retrograd import Diagonal
    >>> longest_wait(Sweep.of_scan(Diagonal(torch.tensor([0.5])), torch.ones(5, 1)))
    4
    """
    heard = sweep.sources
    return int(np.diff(heard, prepend=-1).max() - 1) if heard else 0


def _number(log10: float) -> str:
    """Return a number given by its logarithm, which may be beyond float64."""
    if not np.isfinite(log10):
        return "0" if log10 < 0 else "∞"
    return f"{10.0**log10:.3g}" if -300 < log10 < 300 else f"1e{log10:+.0f}"


def _path(sweep: Sweep, through: Jacobians, needed: int, at_needed: float) -> list[str]:
    size, lags = through.log10_norm, through.lags
    top = int(np.nanargmax(size))
    lines = [f"‖∂h_T/∂h_(T−k)‖ is largest at k = {lags[top]}: {_number(size[top])}; over all {lags[-1]} steps it is "
             f"{_number(size[-1])}."]  # fmt: skip
    faded = np.flatnonzero(size >= np.log10(VANISHED))
    last = int(faded[-1])
    if last + 1 < len(lags):
        lines.append(f"It falls below 1/1000 for good between k = {lags[last]} and {lags[last + 1]}: what happened "
                     "longer before a loss is not learned.")  # fmt: skip
    if needed:
        lines.append(f"The loss has to reach back up to {needed} steps; there it is {_number(at_needed)}.")
    return lines


def _steps(flowing: Flow) -> list[str]:
    norm = flowing.delta_norm
    broken = ~np.isfinite(norm)
    if broken.any():
        return [f"‖∂L/∂h_t‖ is not finite at {int(broken.sum())} of {len(norm)} steps, the last being t = "
                f"{int(np.flatnonzero(broken)[-1]) + 1}."]  # fmt: skip
    zero = norm == 0
    positive = norm[~zero]
    if not len(positive):
        return ["∂L/∂h_t is zero at every step: the loss does not depend on the states."]
    line = f"‖∂L/∂h_t‖ lies between {positive.min():.3g} and {positive.max():.3g} over {len(norm)} steps"
    return [line + (f", and is exactly zero at {int(zero.sum())} of them." if zero.any() else ".")]


def _modes(modes: Spectrum | None, time: int, kinds: list[str], name: str) -> list[str]:
    if modes is None:
        return []
    what = "mean rate" if modes.averaged else "eigenvalue"
    size = np.abs(modes.eigenvalues)
    named = []
    for value, period in list(zip(size, modes.frequency, strict=True))[:MODES_NAMED]:
        with np.errstate(divide="ignore"):
            over = _number(float(time * np.log10(value)))
        named.append(f"|λ| = {value:.6g}" + (f" (period {1 / period:.3g})" if period else "") + f": {over}")
    lines = [f"The largest {what}s, and what each makes of a gradient in {time} steps: {'; '.join(named)}."]
    beyond = int((size > 1).sum())
    if beyond:
        lines.append(f"{beyond} of {len(size)} modes lie outside the unit circle.")
    if "transient growth" in kinds:
        lines.append(
            f"{name} is not normal (departure {modes.departure:.2g} of 1, ‖{name}‖ = {modes.norm:.3g} against a "
            f"spectral radius of {modes.radius:.3g}): ‖({name})^k‖ grows to {modes.transient.largest:.3g} at k = "
            f"{modes.transient.lag} before the eigenvalues rule."
        )
    return lines


def _initialisation(
    sweep: Sweep, kinds: list[str], needed: int, at_needed: float, at_end: float, name: str
) -> list[Advice]:
    """Scale W_hh so that the Jacobian has the size wanted at one lag."""
    if not sweep.invariant:
        return []  # gates are not a matrix to scale
    if "exploding" in kinds:
        lag, now, aim = sweep.time, at_end, 1.0
    elif "vanishing" in kinds and np.isfinite(at_needed):
        lag, now, aim = needed, at_needed, AIM
    else:
        return []
    factor = float(10 ** ((np.log10(aim) - now) / lag))
    then = f"over {lag} steps ‖∂h_T/∂h_(T−k)‖ is then {aim:g} in place of {_number(now)}."
    text = f"Start from {name} × {factor:.6g}: {then}"
    return [Advice("initialisation", text, factor, now, float(np.log10(aim)))]


def _reparametrisation(
    kinds: list[str], needed: int, at_needed: float, through: Jacobians, modes: Spectrum | None, name: str
) -> list[Advice]:
    largest = float(np.nanmax(through.log10_norm))
    if "exploding" in kinds:
        text = (
            "Keep the modes inside the unit circle while training: rg.Diagonal(torch.exp(-torch.exp(nu))) with nu as "
            f"the parameter. ‖∂h_T/∂h_(T−k)‖ is then at most 1 for every k, in place of {_number(largest)}."
        )
        return [Advice("reparametrisation", text, 1.0, largest, 0.0)]
    if "transient growth" in kinds and modes is not None and modes.radius <= 1:
        text = (
            "Use a normal transition, such as rg.Diagonal of the same eigenvalues: ‖∂h_T/∂h_(T−k)‖ is then at most 1 "
            f"for every k, in place of {_number(largest)}."
        )
        return [Advice("reparametrisation", text, modes.radius, largest, 0.0)]
    if "vanishing" in kinds:
        radius = float(AIM ** (1 / needed))
        text = (
            f"Or start from an orthogonal {name} × {radius:.6g}, or rg.Diagonal of that size: over {needed} steps "
            f"‖∂h_T/∂h_(T−k)‖ is then {AIM:g} for every state, in place of {_number(at_needed)} for the best one."
        )
        return [Advice("reparametrisation", text, radius, at_needed, float(np.log10(AIM)))]
    return []


def _clipping(kinds: list[str], flowing: Flow, name: str) -> list[Advice]:
    sizes = flowing.gradient_by_sequence
    if not {"exploding", "transient growth"} & set(kinds):
        return []
    if len(sizes) < FEWEST or not np.isfinite(sizes).all():
        return []
    threshold, largest = float(np.quantile(sizes, CUT_ABOVE, method="higher")), float(sizes.max())
    text = (
        f"Cut gradients at {threshold:.3g}: of the {len(sizes)} sequences' ‖∂L/∂{name}‖, which go up to {largest:.3g}, "
        f"{int((sizes > threshold).sum())} are longer than that."
    )
    return [Advice("clipping", text, threshold, largest, threshold)]


def _window(truncated: Truncation, time: int, name: str) -> list[Advice]:
    if np.isnan(truncated.relative_error).any():
        return []
    window = truncated.window_for(HARMLESS)
    error = float(truncated.relative_error[truncated.windows == window][0])
    if window < time:
        text = (
            f"If backpropagation has to be truncated, windows of {window} steps keep ∂L/∂{name} to {100 * error:.2g} % "
            f"(the whole are {time})."
        )
    else:
        text = (
            f"Do not truncate backpropagation: no window below {time} steps keeps ∂L/∂{name} to {100 * HARMLESS:g} %."
        )
    return [Advice("window", text, window, float(truncated.relative_error[0]), error)]
