"""Fits to some experiments at any order: from subspace starts, or from the order below with a state more.

The residuals of a free run hold whatever disturbs the outputs, and are coloured where it drifts: of N of them only

    N_e = N / Σ_k ρ_k²          ρ_k: their autocorrelation at lag k, from −∞ to ∞

are worth an independent one each (Bartlett 1946: so much larger is the variance of a product's mean). The likelihood
counts N, and buys drift with slow modes. The prior on forgetting, P(A) of
:mod:`retrograd.estimators.identification.bounds`, therefore weighs N / N_e in output error: as much, beside that
likelihood, as it weighs beside one of N_e white residuals.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from retrograd.errors import InputError
from retrograd.estimators.identification.bounds import forgetting
from retrograd.estimators.identification.criterion import Criterion
from retrograd.estimators.identification.experiments import Experiments
from retrograd.estimators.identification.matrices import System
from retrograd.estimators.identification.prediction_error import FORGETS, Fit, Refinement
from retrograd.estimators.identification.starts import Starts, extended
from retrograd.estimators.identification.system import Layout, predict

__all__ = ["Search", "Settings", "colour_of", "drift_of", "layout_of"]

Array = np.ndarray[Any, Any]

# Spectral radius that stability=True keeps.
STABLE_RADIUS = 0.9999
# A Hessian of more parameters than this takes longer than the data do: L-BFGS instead of Levenberg-Marquardt.
MOST_PARAMETERS = 2000
# Iterations that rank an order: most of the way from a subspace start.
ORDER_ITERATIONS = 15
# An innovations fit of so little work, steps · outputs · order, looks at every lower order's fit too.
LITTLE_WORK = 1 << 14
# Residuals of so few steps for each independent one count as white.
WHITE = 3.0
# What all iterations of a fit across gaps may walk, unless it is short: some twenty seconds.
STEPS_ACROSS_GAPS = 1_000_000


class Settings(Protocol):
    """What of :class:`retrograd.estimators.StateSpace`'s parameters is read here."""

    order: int | str
    max_order: int | None
    noise: str
    x0: str
    burn_in: int
    feedthrough: bool
    stability: bool | str
    optimizer: str
    max_iter: int
    tol: float
    ridge: float
    starts: int
    validation: float
    sample_time: float
    random_state: int | None


def layout_of(settings: Settings, order: int, data: Experiments, noise: str) -> Layout:
    """Return which parameters are free."""
    return Layout(
        order,
        data.inputs.shape[1],
        data.outputs.shape[1],
        len(data.lengths),
        feedthrough=settings.feedthrough and data.inputs.shape[1] > 0,
        innovations=noise == "innovations",
        free_x0=settings.x0 == "estimate",
    )


def colour_of(residuals: Array, data: Experiments) -> float:
    """Return N / N_e of residuals ``(N, p)``, 0 where they do not count; N_e is the mean over outputs.

    >>> from retrograd.estimators.identification.experiments import read_experiments
    >>> slow = np.convolve(np.random.default_rng(0).standard_normal(1000), np.ones(10), "valid")[:, None]
    >>> 4 < colour_of(slow, read_experiments(None, slow)) < 12
    True
    """
    found = []
    for column, seen in zip(residuals.T, data.observed.T, strict=True):
        count, longest = int(seen.sum()), max(data.lengths)
        e = np.where(seen, column - column[seen].mean(), 0.0)
        total = np.zeros(longest)
        for part in data.split(e):
            power = np.abs(np.fft.rfft(part, 2 * len(part))) ** 2
            total[: len(part)] += np.fft.irfft(power, 2 * len(part))[: len(part)]
        if not total[0] > 0:
            continue
        squared = (total[1 : max(longest // 3, 1)] / total[0]) ** 2
        colour = 1.0
        for _ in range(3):
            # An estimate of no correlation has the variance 1 / N_e: what is within twice its root counts as none.
            colour = 1 + 2 * float(squared[squared > 4 * colour / count].sum())
        found.append(1 / colour)
    return 1 / float(np.mean(found)) if found else 1.0


def drift_of(residuals: Array, data: Experiments) -> float:
    """Return how much of the residuals' power, ``(N, p)``, has periods of a tenth of its experiment or more.

    The mean over outputs; of white residuals it is next to nothing, of a walk most of it.

    >>> from retrograd.estimators.identification.experiments import read_experiments
    >>> e = np.random.default_rng(0).standard_normal((1000, 1))
    >>> walk = np.cumsum(e, axis=0)
    >>> drift_of(e, read_experiments(None, e)) < 0.05, drift_of(walk, read_experiments(None, walk)) > 0.7
    (True, True)
    """
    slow, total = np.zeros(residuals.shape[1]), np.zeros(residuals.shape[1])
    e = np.where(data.observed, residuals - residuals.sum(axis=0) / np.maximum(data.observed.sum(axis=0), 1), 0.0)
    for part in data.split(e):
        power = np.abs(np.fft.rfft(part, axis=0)[1:]) ** 2
        # A short experiment has few frequencies: white residuals have a tenth of their power in a tenth of those.
        slow += power[: min(10, len(power) // 10)].sum(axis=0)
        total += power.sum(axis=0)
    return float(np.mean(slow / np.maximum(total, 1e-300)))


class Search:
    """Fits of one kind of model to some experiments; what is computed for an order is kept.

    Attributes:
        data: the experiments.
        settings: of the estimator.
        noise: ``"output-error"`` or ``"innovations"``.
        held_out: experiments whose best iterate is kept; None keeps the last.
        colour: N / N_e where it is known; None: of the residuals of every order.
    """

    def __init__(
        self,
        data: Experiments,
        settings: Settings,
        noise: str,
        held_out: Experiments | None = None,
        colour: float | None = None,
    ) -> None:
        self.data, self.settings, self.noise, self.held_out = data, settings, noise, held_out
        self._starts = Starts(data, stable=bool(settings.stability), seed=settings.random_state)
        self._known_colour = colour
        self._begun: dict[int, tuple[System, float, float]] = {}
        self._brief: dict[int, Fit] = {}

    def layout(self, order: int) -> Layout:
        """Return which parameters are free."""
        return layout_of(self.settings, order, self.data, self.noise)

    def start(self, order: int) -> System:
        """Return the best subspace start.

        Raises:
            InputError: there is too little data for the order.
        """
        return self._begin(order)[0]

    def colour(self, order: int) -> float:
        """Return N / N_e of the residuals: of the start's or those after some iterations, whichever are whiter."""
        return self._begin(order)[1]

    def brief(self, order: int) -> Fit:
        """Return a short refinement, enough to rank the order; from the order below where the start ends above it."""
        if order not in self._brief:
            self._brief[order] = self._rising(
                order, self._refinement(order, ORDER_ITERATIONS), [self.start(order)], self._brief.get(order - 1), "lm"
            )
        return self._brief[order]

    def full(self, order: int) -> Fit:
        """Return the whole refinement: from a brief one where there is one, else from every start."""
        refinement = self._refinement(order, self.settings.max_iter)
        optimizer = self.settings.optimizer
        if optimizer == "auto":
            optimizer = "lm" if self.layout(order).size() <= MOST_PARAMETERS else "lbfgs"
        brief = self._brief.get(order)
        if brief is not None and self.settings.starts == 1 and self.held_out is None:
            fit = refinement.run(brief.system, optimizer)
            return replace(fit, history=[*brief.history, *fit.history])
        below = None
        little = self.data.complete and self.data.outputs.size * order <= LITTLE_WORK
        if self.noise == "innovations" and order > 1 and self.held_out is None and little:
            below = self.full(order - 1)
        starts = [self.start(order)]
        if self.settings.starts > 1:
            starts = self._starts.systems(self.layout(order), self.settings.starts)
        return self._rising(order, refinement, starts, below, optimizer)

    def kept(self, order: int) -> Fit:
        """Return the start as a fit."""
        start = self.start(order)
        value = self._likelihood(start)
        return Fit(start, value, value, [(value, float("nan"))], True, "the subspace start is kept")

    def value(self, fit: Fit) -> float:
        """Return V per step that decides between two fits: in output error without the prior, each order's own."""
        return fit.value if self.noise == "innovations" else self._likelihood(fit.system)

    def ranked(self, fit: Fit) -> float:
        """Return V per step that an order is chosen by: with innovations under the prior of weight 1.

        That is the likelihood with the first state integrated out; what the prior weighs more is for the fit alone.
        """
        if self.noise != "innovations":
            return self.value(fit)
        system, steps = fit.system, max(int(Criterion(self.data, self.settings.burn_in).counted.any(axis=1).sum()), 1)
        return fit.value - (FORGETS - 1) * forgetting(system.A - system.K @ system.C) / steps

    def colour_of(self, system: System) -> float:
        """Return N / N_e of a system's residuals."""
        e = Criterion(self.data, self.settings.burn_in).residuals(predict(system, self.data)[1])
        return colour_of(e, self.data) if np.isfinite(e).all() else 1.0

    def _likelihood(self, system: System) -> float:
        criterion = Criterion(self.data, self.settings.burn_in)
        steps = max(int(criterion.counted.any(axis=1).sum()), 1)
        return criterion.value(criterion.residuals(predict(system, self.data)[1])) / steps

    def rank(self) -> int | None:
        """Return the numerical rank of the data, an order beyond which fits rounding; None where they show none."""
        return self._starts.rank()

    def unbounded(self, order: int) -> System | None:
        """Return the best start with modes beyond the circle left there; None where the data show none."""
        return self._starts.unbounded(self.layout(order))

    def singular_values(self, order: int) -> Array:
        """Return the singular values that show the order."""
        return self._starts.singular_values(order)

    def _rising(self, order: int, refinement: Refinement, starts: list[System], below: Fit | None, how: str) -> Fit:
        """Return the best fit from the starts, or from the order below where that is better than all of them."""
        best = min((refinement.run(start, how) for start in starts), key=_judged)
        # Written so that a fit that is not a number loses.
        if below is not None and not self.value(best) <= self.value(below):
            tried = refinement.run(extended(below.system, self.layout(order), self.data), how)
            best = min(best, tried, key=_judged)
        if not np.isfinite(best.value):
            raise InputError(
                f"order {order} could not be fitted: every start runs off (unstable predictions); try stability=True, "
                "a lower order, or noise='output-error'"
            )
        return best

    def drift(self, order: int) -> float:
        """Return how much of the power of the start's residuals is slow."""
        start = self.start(order)
        return drift_of(Criterion(self.data).residuals(predict(start, self.data)[1]), self.data)

    def colour_of_start(self, order: int) -> float:
        """Return N / N_e of the start's residuals: a refinement may have bought what drifts."""
        return self._begin(order)[2]

    def _begin(self, order: int) -> tuple[System, float, float]:
        if order not in self._begun:
            start = self._starts.systems(self.layout(order), 1)[0]
            colour = of_start = self._known_colour or 1.0
            if self._known_colour is None and self.noise == "output-error" and self.data.inputs.shape[1]:
                colour = of_start = self.colour_of(start)
                if colour > WHITE:
                    # A start may miss a resonance, whose colour is that of the plant and not of what disturbs it.
                    tried = self._refinement(order, ORDER_ITERATIONS, 1.0).run(start, "lm").system
                    colour = min(colour, self.colour_of(tried))
            self._begun[order] = start, colour, of_start
        return self._begun[order]

    def _affordable(self) -> int:
        """Return how many iterations a fit may take: across gaps each one takes longer."""
        if self.data.complete:
            return self.settings.max_iter
        return max(20, STEPS_ACROSS_GAPS // sum(self.data.lengths))

    def _refinement(self, order: int, iterations: int, colour: float | None = None) -> Refinement:
        settings, layout = self.settings, self.layout(order)
        validation = None if self.held_out is None else Criterion(self.held_out, settings.burn_in)
        return Refinement(
            Criterion(self.data, settings.burn_in),
            replace(layout, free_root=layout.innovations and not self.data.complete),
            validation,
            ridge=settings.ridge,
            colour=self.colour(order) if colour is None else colour,
            radius=STABLE_RADIUS if settings.stability else None,
            iterations=min(iterations, settings.max_iter, self._affordable()),
            tolerance=settings.tol,
        )


def _judged(fit: Fit) -> float:
    return fit.judged if np.isfinite(fit.judged) else float("inf")
