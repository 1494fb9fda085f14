"""What helps a gradient that vanishes, explodes or grows, and by how much.

The effect given with an advice is exact: scaling every A_t by s scales the Jacobian of lag k by s^k; raising gates to
the power e raises the Jacobian of a diagonal to that power; a normal transition has ‖A^k‖ = ρ^k; a product of factors
of norm at most 1 has norm at most 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from retrograd.insight.flow import Jacobians
from retrograd.insight.spectrum import Spectrum
from retrograd.insight.sweep import Sweep
from retrograd.insight.truncation import Truncation

__all__ = ["Advice", "Case", "Path", "advise", "as_text"]

Array = np.ndarray[Any, Any]

# The size of the Jacobian at the needed lag that a start aims at: far from vanished, and far from growing.
AIM = 0.1
# A start is not advised if the Jacobian then exceeds this at some lag.
GROWN = 10.0
# A window is advised if its relative error is at most this.
HARMLESS = 0.01
# Gradients are to be cut above this quantile, which needs at least so many sequences.
CUT_ABOVE = 0.9
FEWEST = 10
# Batches drawn by the bootstrap.
DRAWS = 1000


@dataclass(frozen=True)
class Advice:
    """One thing to do, and its effect.

    Attributes:
        action: ``"initialisation"``, ``"reparametrisation"``, ``"clipping"`` or ``"window"``.
        text: what to do and its effect, in words.
        value: the factor, exponent, radius, threshold or number of steps; NaN if the text names none.
        measured: the number that it changes, as it is now; a Jacobian by its log10.
        expected: the same number after the advice is followed.
    """

    action: str
    text: str
    value: float
    measured: float
    expected: float


@dataclass(frozen=True)
class Path:
    """The Jacobians that the gradient of one sequence passes through, or of all sequences if they share transitions.

    Attributes:
        row: the sequence, from 0.
        end: the step s that the products end with.
        needed: the lag that the task needs.
        at_needed: log10 of the norm there.
        through: the Jacobians by lag.
        largest: log10 of the largest norm.
        lag: the lag of the largest norm.
        last: what texts call step s.
        surely: the restriction of "largest" in texts; empty if every lag was looked at.
    """

    row: int
    end: int
    needed: int
    at_needed: float
    through: Jacobians
    largest: float
    lag: int
    last: str
    surely: str


@dataclass(frozen=True)
class Case:
    """The numbers that an advice depends on; see :func:`retrograd.insight.verdict`."""

    sweep: Sweep
    kinds: tuple[str, ...]
    growing: Path
    fading: Path
    modes: Spectrum | None
    truncated: Truncation
    name: str

    @property
    def closed(self) -> bool:
        """Whether the loop is closed: A then depends on W_hh and C."""
        return self.sweep.made_of == "closed loop"

    @property
    def gated(self) -> bool:
        """Whether A is diagonal and differs between steps or sequences."""
        return self.sweep.diagonal and self.sweep.A.shape[0] * self.sweep.A.shape[1] > 1

    @property
    def one(self) -> bool:
        """Whether scaling one matrix (in a closed loop two) scales every A_t."""
        return self.closed or self.sweep.A.shape[0] * self.sweep.A.shape[1] == 1


def advise(case: Case) -> list[Advice]:
    """Return what helps."""
    if case.sweep.made_of == "system":  # an identified system is found, not chosen
        return []
    start = _initialisation(case)
    return [*start, *_reparametrisation(case, bool(start)), *_clipping(case), *_window(case)]


def as_text(log10: float) -> str:
    """Return a number, which may be beyond float64, as text from its logarithm."""
    if not np.isfinite(log10):
        return "0" if log10 < 0 else "∞"
    return f"{10.0**log10:.3g}" if -300 < log10 < 300 else f"1e{log10:+.0f}"


def _initialisation(case: Case) -> list[Advice]:
    """Scale the transition so that the Jacobian has the size wanted at one lag, unless it then grows at another."""
    if not case.one:
        return []
    if "exploding" in case.kinds:
        path = case.growing
        lag, now, aim = path.lag, path.largest, 1.0
    elif "vanishing" in case.kinds and np.isfinite(case.fading.at_needed):
        path = case.fading
        lag, now, aim = path.needed, path.at_needed, AIM
    else:
        return []
    step = (np.log10(aim) - now) / lag
    if np.max(path.through.log10_norm + path.through.lags * step) > np.log10(GROWN):
        return []
    factor = float(10**step)
    what = f"W_hh × {factor:.6g} and C × {factor:.6g}" if case.closed else f"{case.name} × {factor:.6g}"
    text = f"Start from {what}: over {lag} steps ‖∂h_{path.last}/∂h_({path.last}−k)‖ is then {aim:g} in place of "
    return [Advice("initialisation", f"{text}{as_text(now)}.", factor, now, float(np.log10(aim)))]


def _reparametrisation(case: Case, other: bool) -> list[Advice]:
    growing = bool({"exploding", "transient growth"} & set(case.kinds))
    if "vanishing" not in case.kinds:
        return _of_growth(case) if growing else []
    # A matrix scaled to the needed lag does not grow before it. Gates differ: they may need both advices.
    first = _of_growth(case) if growing and case.gated else []
    return [*first, *_of_vanishing(case, "Or start" if other or first else "Start")]


def _of_growth(case: Case) -> list[Advice]:
    largest, value = case.growing.largest, 1.0
    if case.closed:
        text = "Keep ‖W_hh‖ + ‖W_ih‖ ‖C‖ at most 1 while training (spectral norms): "
    elif case.gated:
        text = "Keep every gate at most 1 in size, such as rg.Diagonal(torch.sigmoid(z)) with z what made them: "
    elif not case.one:
        text = "Divide every A_t by max(1, ‖A_t‖): "
    elif "transient growth" in case.kinds and case.modes is not None and not case.modes.outside.any():
        value = case.modes.radius
        text = "Use a normal transition, such as rg.Diagonal of the same eigenvalues: "
    else:
        text = (
            "Keep the modes inside the unit circle while training: rg.Diagonal(torch.exp(-torch.exp(nu))) with nu as "
            "the parameter: "
        )
    path = case.growing
    then = f"‖∂h_{path.last}/∂h_({path.last}−k)‖ is then at most 1 for every k, in place of {as_text(largest)}."
    return [Advice("reparametrisation", text + then, value, largest, 0.0)]


def _of_vanishing(case: Case, start: str) -> list[Advice]:
    path = case.fading
    needed, now = path.needed, path.at_needed
    then = f"over {needed} steps ‖∂h_{path.last}/∂h_({path.last}−k)‖ is then {AIM:g}"
    if case.gated:
        if not np.isfinite(now):  # a gate is 0, and so is every power of it
            return []
        power = float(np.log10(AIM) / now)
        text = f"{start} with gates nearer to 1, such as a_t^{power:.4g}: {then} in place of {as_text(now)}."
        return [Advice("reparametrisation", text, power, now, float(np.log10(AIM)))]
    radius = float(AIM ** (1 / needed))
    if case.closed:
        what = f"an orthogonal W_hh × {radius:.6g} and C = 0"
    elif case.sweep.diagonal:
        what = f"rg.Diagonal with |a| = {radius:.6g}"
    else:
        what = f"an orthogonal {case.name if case.one else 'A_t'} × {radius:.6g}, or rg.Diagonal of that size"
    text = f"{start} from {what}: {then} for every state, in place of {as_text(now)} for the best one."
    return [Advice("reparametrisation", text, radius, now, float(np.log10(AIM)))]


def _clipping(case: Case) -> list[Advice]:
    """Cut gradients at a quantile of their length over batches like this one."""
    if not {"exploding", "transient growth"} & set(case.kinds) or "not finite" in case.kinds:
        return []
    name = "W_hh" if case.closed else case.name
    size = float(case.sweep.gradient.abs().max())
    parts = (case.sweep.gradients.flatten(1) / (size or 1.0)).cpu()
    own = float(parts.sum(0).norm()) * size
    if len(parts) < FEWEST or size == 0:
        text = (
            f"Cut gradients at a quantile of those of the training, which one batch of {len(parts)} does not tell: "
            "rg.insight.Recorder(model, optimizer=optimizer).clip_threshold(0.9) after some steps."
        )
        return [Advice("clipping", text, float("nan"), own, float("nan"))]
    lengths = batch_lengths(parts.numpy()) * size
    threshold = float(np.quantile(lengths, CUT_ABOVE, method="higher"))
    text = (
        f"Cut ∂L/∂{name} at {threshold:.3g}: nine in ten batches of {len(parts)} such sequences should stay below "
        f"(this one: {own:.3g}); the longest of a thousand would be {lengths.max():.3g}."
    )
    return [Advice("clipping", text, threshold, float(lengths.max()), threshold)]


def batch_lengths(parts: Array) -> Array:
    """Return a sample of the gradient lengths of batches like this one, from the parts of its sequences ``(B, ...)``.

    The difference between two batches is drawn by the bootstrap (Efron, 1979), as that between two resamples of the
    sequences with counts c' and c''. With c = 1 + c' − c'', ‖Σ c_b G_b‖² = c^T K c, K_ab = Re ⟨G_a, G_b⟩.

    >>> lengths = batch_lengths(np.ones((4, 1)))
    >>> lengths.shape, float(lengths.min()), float(lengths.max())  # four equal parts, however they are drawn
    ((1000,), 4.0, 4.0)
    """
    products = (parts @ parts.conj().T).real
    count = len(parts)
    drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=(2, DRAWS)).astype(float)
    counts = 1 + drawn[0] - drawn[1]
    return np.asarray(np.sqrt(np.maximum(((counts @ products) * counts).sum(1), 0.0)))


def _window(case: Case) -> list[Advice]:
    found, time, name = case.truncated, case.sweep.time, "W_hh" if case.closed else case.name
    if time == 1 or np.isnan(found.relative_error).any():
        return []
    window = found.window_for(HARMLESS)
    error = float(found.relative_error[found.windows == window][0])
    if window < time:
        text = (
            f"If backpropagation has to be truncated, windows of {window} steps keep ∂L/∂{name} to {100 * error:.2g} % "
            f"(the whole are {time})."
        )
    else:
        looked = "no window" if len(found.windows) == time else f"none of the {len(found.windows) - 1} windows measured"
        text = f"Do not truncate backpropagation: {looked} below {time} steps keeps ∂L/∂{name} to {100 * HARMLESS:g} %."
    return [Advice("window", text, window, float(found.relative_error[0]), error)]
