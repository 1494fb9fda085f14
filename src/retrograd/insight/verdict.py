"""Does the gradient vanish, explode or grow on its way, and on what evidence?

Every gradient goes back k steps through the conjugate transpose of ∂h_s/∂h_{s-k}. With s the last step that the loss
looks at, the verdict is

    exploding           its norm is above 10 at the largest k and largest in the second half; if A is one matrix, some
                        mode lies outside the unit circle
    transient growth    its norm is above 10 somewhere, without exploding
    vanishing           its norm is below 1/1000 at the lag that the task needs
    not finite          a state, ‖∂L/∂h_t‖ or ∂L/∂W_hh is NaN or infinite somewhere
    healthy             none of these

If sequences have transitions of their own, those with the most growth and the most fading are judged.
:mod:`retrograd.insight.advice` says what helps.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from retrograd.errors import InputError, require_whole
from retrograd.insight.advice import Advice, Case, Path, advise, as_text
from retrograd.insight.flow import Flow, Jacobians, flow, jacobians
from retrograd.insight.spectrum import Spectrum, spectrum
from retrograd.insight.sweep import Sweep, require_sweep
from retrograd.insight.truncation import Truncation, truncation

__all__ = ["Verdict", "longest_waits", "modes_of", "verdict"]

Array = np.ndarray[Any, Any]

EXPLODED = 10.0
VANISHED = 1e-3
MODES_NAMED = 3


@dataclass(frozen=True)
class Verdict:
    """What is wrong, if anything; printing it shows everything.

    Attributes:
        kinds: some of ``"not finite"``, ``"exploding"``, ``"transient growth"``, ``"vanishing"``, or ``("healthy",)``.
        evidence: sentences with the numbers behind it.
        advice: what to do.
        needed: the lag at which the gradient was judged to vanish or not.
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
        needed: the longest lag over which the task needs the gradient, below T. By default the longest wait from a
            step to the next one that the loss looks at: T - 1 if it looks at the last state alone, 0 if at every state.
            (A step counts as looked at if its g_t is at least a thousandth of the largest in its sequence.)
        name: what the text calls the transition.
        flowing: the :func:`flow` of the sweep, if at hand.
        through: its :func:`jacobians`, if at hand.
        modes: its :func:`spectrum`, if at hand.
        truncated: its :func:`truncation`, if at hand.

    Raises:
        TypeError: ``sweep`` is none.
        InputError: ``needed`` is outside the sequence, or A is not finite.

    Examples:
        >>> import torch
        >>> from retrograd import Dense
        >>> found = verdict(Sweep.of_scan(Dense(0.5 * torch.eye(2)), torch.ones(100, 2)))
        >>> found.kinds, found.advice[0].action, round(found.advice[0].value, 3)
        (('vanishing',), 'initialisation', 1.954)
    """
    require_sweep("verdict", sweep)
    if needed is not None:
        require_whole("needed", needed, 0, sweep.time - 1)
    if not bool(sweep.A.isfinite().all()):
        raise InputError("the transitions hold NaN or infinity: there is nothing to judge")
    flowing = flow(sweep) if flowing is None else flowing
    through = jacobians(sweep) if through is None else through
    modes = modes_of(sweep, through) if modes is None else modes
    truncated = truncation(sweep) if truncated is None else truncated
    paths = _paths(sweep, needed, through, modes)
    # The sequence with the most growth and the one with the most fading; the same one if they share transitions.
    growing, fading = max(paths, key=lambda path: path.largest), min(paths, key=lambda path: path.at_needed)
    kinds = [] if _finite(sweep, flowing) else ["not finite"]
    if growing.largest > np.log10(EXPLODED):
        inside = modes is not None and not modes.averaged and not modes.outside.any()
        at_end = growing.through.log10_norm[-1] > np.log10(EXPLODED) and growing.lag >= growing.end / 2
        kinds.append("exploding" if at_end and not inside else "transient growth")
    if fading.at_needed < np.log10(VANISHED):
        kinds.append("vanishing")
    name = "(W_hh + W_ih C)" if sweep.made_of == "closed loop" and name == "W_hh" else name
    evidence = [*_way(growing, fading, len(paths)), *_steps(sweep, flowing), *_modes(modes, sweep.time, kinds, name)]
    advice = advise(Case(sweep, tuple(kinds), growing, fading, modes, truncated, name))
    return Verdict(tuple(kinds) or ("healthy",), tuple(evidence), tuple(advice), fading.needed)


def modes_of(sweep: Sweep, through: Jacobians) -> Spectrum | None:
    """Return the spectrum of a sweep whose Jacobians are known; None if its transitions have none.

    >>> import torch
    >>> from retrograd import Dense
    >>> sweep = Sweep.of_scan(Dense(torch.eye(2)), torch.ones(3, 2))
    >>> modes_of(sweep, jacobians(sweep)).radius
    1.0
    """
    return spectrum(sweep, through=through) if sweep.one_spectrum else None


def longest_waits(sweep: Sweep) -> tuple[Array, Array]:
    """Return, for every sequence, the longest wait from a step to the next one looked at, and that one, from 1.

    Steps after the last one looked at do not count. If none is looked at, the wait is 0 and the step T.

    >>> import torch
    >>> from retrograd import Diagonal
    >>> longest_waits(Sweep.of_scan(Diagonal(torch.tensor([0.5])), torch.ones(5, 1)))
    (array([4]), array([5]))
    """
    heard = sweep.heard.cpu().numpy()
    steps = np.arange(sweep.time)
    following = np.minimum.accumulate(np.where(heard, steps, sweep.time)[:, ::-1], axis=1)[:, ::-1]
    wait = np.where(following < sweep.time, following - steps, 0)
    longest = wait.argmax(1)[:, None]
    lag = np.take_along_axis(wait, longest, 1)[:, 0]
    at = np.take_along_axis(following, longest, 1)[:, 0]
    return lag, np.minimum(at + 1, sweep.time)


def _paths(sweep: Sweep, needed: int | None, through: Jacobians, modes: Spectrum | None) -> list[Path]:
    """Return what the gradient of each sequence passes through; one for all sequences if they share transitions."""
    lags, ends = longest_waits(sweep)
    heard = sweep.heard.cpu().numpy()
    # The last step looked at; for time-invariant transitions the end does not matter, so the whole sequence.
    last = np.where(heard.any(1), sweep.time - heard[:, ::-1].argmax(1), sweep.time)
    groups = sweep.A.shape[0]
    if sweep.invariant:
        last[:] = sweep.time
    if groups == 1:
        longest = int(lags.argmax())
        lags, ends, last = lags[longest, None], ends[longest, None], last.max()[None]
    found = []
    for row in range(groups):
        end = int(last[row])
        own = through if row == 0 and end == sweep.time else jacobians(sweep, end=end, top=1, row=row)
        # The size at the needed lag is computed there; a lag that the caller gives counts back from the last step.
        lag, at = (int(lags[row]), int(ends[row])) if needed is None else (min(needed, end), end)
        size = float(jacobians(sweep, [lag], end=max(at, lag, 1), top=1, row=row).log10_norm[0])
        top = int(np.argmax(own.log10_norm))
        largest, where = float(own.log10_norm[top]), int(own.lags[top])
        surely = "" if len(own.lags) == end + 1 else " of the lags measured"
        if groups == 1 and sweep.invariant and modes is not None and np.isfinite(modes.transient.largest):
            transient = modes.transient
            if transient.lag > 0 and np.log10(transient.largest) > largest:
                largest, where = float(np.log10(transient.largest)), transient.lag
            surely = ""
        found.append(Path(row, end, lag, size, own, largest, where, "T" if end == sweep.time else str(end), surely))
    return found


def _finite(sweep: Sweep, flowing: Flow) -> bool:
    return bool(
        np.isfinite(flowing.delta_norm).all() and sweep.gradient.isfinite().all() and sweep.states.isfinite().all()
    )


def _way(growing: Path, fading: Path, sequences: int) -> list[str]:
    lines = []
    for path in (growing,) if growing is fading else (growing, fading):
        which = f"In sequence {path.row + 1} of {sequences}, " if sequences > 1 else ""
        size, lags = path.through.log10_norm, path.through.lags
        lines.append(
            f"{which}‖∂h_{path.last}/∂h_({path.last}−k)‖ is largest at k = {path.lag}: {as_text(path.largest)}"
            f"{path.surely}; over all {lags[-1]} steps it is {as_text(size[-1])}."
        )
        faded = np.flatnonzero(size >= np.log10(VANISHED))
        last = int(faded[-1])
        if last + 1 < len(lags):
            lines.append(
                f"It falls below 1/1000 for good between k = {lags[last]} and {lags[last + 1]}: what happened longer "
                "before a loss is not learned."
            )
    if fading.needed:
        lines.append(
            f"The loss has to reach back up to {fading.needed} steps; there it is {as_text(fading.at_needed)}."
        )
    return lines


def _steps(sweep: Sweep, flowing: Flow) -> list[str]:
    norm = flowing.delta_norm
    broken = ~np.isfinite(norm)
    if broken.any():
        return [
            f"‖∂L/∂h_t‖ is not finite at {int(broken.sum())} of {len(norm)} steps, the last being t = "
            f"{int(np.flatnonzero(broken)[-1]) + 1}."
        ]
    lines = []
    states = sweep.states.isfinite().all(-1).all(0).cpu().numpy()
    if not states.all():
        lines.append(f"The states are not finite from t = {int(np.flatnonzero(~states)[0]) + 1} on.")
    if not bool(sweep.gradient.isfinite().all()):
        lines.append("∂L/∂W_hh is not finite: it multiplies states and gradients.")
    zero = norm == 0
    positive = norm[~zero]
    if not len(positive):
        return [*lines, "∂L/∂h_t is zero at every step: the loss does not depend on the states."]
    line = f"‖∂L/∂h_t‖ lies between {positive.min():.3g} and {positive.max():.3g} over {len(norm)} steps"
    return [*lines, line + (f", and is exactly zero at {int(zero.sum())} of them." if zero.any() else ".")]


def _modes(modes: Spectrum | None, time: int, kinds: list[str], name: str) -> list[str]:
    if modes is None:
        return []
    what = "mean rate" if modes.averaged else "eigenvalue"
    # A pair of conjugates is one oscillation.
    named = Counter(_mode(modes, number, time) for number in range(len(modes.eigenvalues)))
    first = [f"{text} ({count} modes)" if count > 1 else text for text, count in list(named.items())[:MODES_NAMED]]
    lines = [f"The largest {what}s, and what each makes of a gradient in {time} steps: {'; '.join(first)}."]
    beyond = int(modes.outside.sum())
    if beyond:
        lines.append(f"{beyond} of {len(modes.eigenvalues)} modes lie outside the unit circle.")
    if "transient growth" in kinds and not modes.averaged and modes.departure > 0:
        lines.append(
            f"{name} is not normal (departure {modes.departure:.2g} of 1, ‖{name}‖ = {modes.norm:.3g} against a "
            f"spectral radius of {modes.radius:.3g}): ‖{name}^k‖ grows to {modes.transient.largest:.3g} at k = "
            f"{modes.transient.lag} before the eigenvalues rule."
        )
    return lines


def _mode(modes: Spectrum, number: int, time: int) -> str:
    size, period = float(np.abs(modes.eigenvalues[number])), modes.frequency[number]
    constant, horizon = modes.time_constant[number], modes.horizon[number]
    about = [f"period {1 / period:.3g} steps"] if period else []
    if size > 0:
        about += (
            [f"grows e-fold in {-constant:.3g} steps"]
            if constant < 0
            else ["forgets nothing"]
            if np.isinf(constant)
            else [f"time constant {constant:.3g} steps, 1 % left after {horizon:.3g}"]
        )
    with np.errstate(divide="ignore"):
        over = as_text(float(time * np.log10(size)))
    return f"|λ| = {size:.6g}" + (f" ({', '.join(about)})" if about else "") + f": {over}"
