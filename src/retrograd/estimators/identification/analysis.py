"""What an identified system says: its responses, its modes, how sure its numbers are, what its residuals still hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from retrograd.estimators.identification.criterion import Criterion
from retrograd.estimators.identification.experiments import Experiments
from retrograd.estimators.identification.sensitivity import sensitivities
from retrograd.estimators.identification.system import Layout, System, predict

__all__ = [
    "Correlation",
    "Modes",
    "bode_frequencies",
    "fit_percent",
    "frequency_response",
    "modes",
    "parameter_covariance",
    "residual_correlation",
    "settling_steps",
    "step_response",
]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Modes:
    """The modes of A, slowest first; conjugate pairs stand together.

    Attributes:
        poles: λ, complex ``(n,)``.
        poles_error: standard error of |λ|, ``(n,)``, NaN where unknown.
        damping: ζ of log λ / sample time, ``(n,)``: 1 does not swing, 0 swings for ever, below 0 grows.
        time_constant: −sample time / log |λ|, ``(n,)``: to 1/e of itself; infinite on the circle, negative beyond.
        frequency: |arg λ| / (2π sample time), ``(n,)``.
    """

    poles: Array
    poles_error: Array
    damping: Array
    time_constant: Array
    frequency: Array


def modes(A: Array, sample_time: float = 1.0, covariance_of_A: Array | None = None) -> Modes:
    """Return the modes of ``A (n, n)``.

    Args:
        A: the transition.
        sample_time: of a step.
        covariance_of_A: of A's entries, row by row, ``(n², n²)``.

    Examples:
        >>> modes(np.array([[0.5]]), 2.0).time_constant.round(3)
        array([2.885])
    """
    poles, right = np.linalg.eig(A)
    order = np.lexsort((poles.imag, np.round(-np.abs(poles), 12)))
    poles, right = poles[order].astype(complex), right[:, order]
    with np.errstate(divide="ignore", invalid="ignore"):
        s = np.log(poles) / sample_time
        damping = -s.real / np.abs(s)
        time_constant = -1 / s.real
    error = np.full(len(poles), np.nan)
    if covariance_of_A is not None:
        left = np.linalg.inv(right)
        for k, pole in enumerate(poles):
            # dλ = w^H dA v with w^H v = 1, and d|λ| = Re(λ̄ dλ) / |λ|
            gradient = np.outer(left[k], right[:, k]).ravel()
            toward = (np.conj(pole) * gradient).real / max(abs(pole), 1e-300)
            error[k] = np.sqrt(max(toward @ covariance_of_A @ toward, 0.0))
    return Modes(poles, error, damping, time_constant, np.abs(np.angle(poles)) / (2 * np.pi * sample_time))


def step_response(system: System, steps: int) -> Array:
    """Return outputs to a unit step in each input from rest, without the offset: ``(steps, p, m)``."""
    n, m = system.B.shape
    result, x = np.empty((steps, len(system.C), m)), np.zeros((n, m))
    for t in range(steps):
        result[t] = system.C @ x + system.D
        x = system.A @ x + system.B
    return result


def settling_steps(system: System, most: int = 500) -> int:
    """Return five of the slowest time constants, in steps, from 20 to ``most``: where a step response is over.

    >>> one = np.ones((1, 1))
    >>> settling_steps(System(0.9 * one, one, one, one, one, one[0], one))
    48
    """
    radius = system.radius()
    return min(max(int(np.ceil(-5 / np.log(radius))), 20), most) if 0 < radius < 1 else most


def bode_frequencies(system: System, sample_time: float = 1.0, points: int = 400) -> Array:
    """Return frequencies from well below the slowest mode up to the Nyquist frequency, evenly on a logarithm."""
    nyquist = 0.5 / sample_time
    slowest = min(1e-2, 1 - min(system.radius(), 1 - 1e-6))
    return np.geomspace(slowest * nyquist / 10, nyquist, points)


def frequency_response(system: System, frequencies: Array, sample_time: float = 1.0) -> Array:
    """Return G(e^{iωT}) = C (e^{iωT} − A)^{-1} B + D, complex ``(frequencies, p, m)``.

    Args:
        system: the system.
        frequencies: in cycles per unit of time.
        sample_time: T.
    """
    z = np.exp(2j * np.pi * np.asarray(frequencies) * sample_time)
    resolvent = z[:, None, None] * np.eye(system.order) - system.A
    return np.asarray(
        system.C @ np.linalg.solve(resolvent, np.broadcast_to(system.B, (len(z), *system.B.shape))) + system.D
    )


def parameter_covariance(system: System, layout: Layout, data: Experiments, S: Array, burn_in: int = 0) -> Array:
    """Return the covariance of θ's estimate, ``(parameters, parameters)``: the inverse of Σ Jᵀ S^{-1} J.

    In the n² directions that only change the basis the information is zero; a pseudo-inverse leaves them out, so that
    the errors are those at a fixed basis (and those of poles, D and offset do not depend on it). Right where residuals
    are white: an output-error model of a system with noise inside is better known than this says, or worse.
    """
    x, predicted = predict(system, data)
    counted = Criterion(data, burn_in).counted
    values, vectors = np.linalg.eigh(S)
    whiten = (vectors / np.sqrt(np.maximum(values, values[-1] * 1e-15))).T
    information = np.zeros((layout.size(), layout.size()))
    innovation = np.where(data.observed, data.outputs - predicted, 0.0)
    for at, J in sensitivities(system, layout, data, x, innovation):
        flat = (whiten @ (J * counted[at].T[:, :, None]).reshape(len(S), -1)).reshape(-1, J.shape[2])
        information += flat.T @ flat
    scale = np.sqrt(np.diag(information))
    scale[scale == 0] = 1.0
    information = information / scale[:, None] / scale
    values, vectors = np.linalg.eigh(information)
    kept = np.zeros(len(values), dtype=bool)
    kept[-layout.count() :] = values[-layout.count() :] > values[-1] * 1e-14
    half = vectors[:, kept] / np.sqrt(values[kept])
    inverse = half @ half.T
    return np.asarray(inverse / scale[:, None] / scale)


@dataclass(frozen=True)
class Correlation:
    """Correlations of residuals, with the band that chance stays within.

    Attributes:
        lags: ``(L,)``: of the autocorrelation 0 to L - 1.
        own: of each residual with its own past, ``(L, p)``.
        input_lags: ``(K,)``, negative where the residual comes before the input.
        with_inputs: of residual q at t with input k at t - lag, ``(K, p, m)``.
        band: 99 % of white noise lies within ± this, for ``own``.
        input_band: likewise for ``with_inputs``, ``(p, m)``: wider where residual and input are both slow.
    """

    lags: Array
    own: Array
    input_lags: Array
    with_inputs: Array
    band: float
    input_band: Array


def residual_correlation(data: Experiments, residuals: Array, most: int = 25) -> Correlation:
    """Return the correlations of residuals ``(N, p)`` with their past and with the inputs, over all experiments.

    Pairs with a missing output are left out. The band of the second: Ljung 1999, equation (16.67).
    """
    m = data.inputs.shape[1]
    longest = max(data.lengths)
    lags = np.arange(min(most, longest - 1) + 1)
    both = np.arange(-lags[-1], lags[-1] + 1)
    e = np.where(data.observed, residuals, np.nan)
    e = (e - np.nanmean(e, axis=0)) / np.nanstd(e, axis=0)
    spread = data.inputs.std(axis=0) if m else np.ones(0)
    u = (data.inputs - data.inputs.mean(axis=0)) / np.where(spread == 0, 1, spread)
    pieces = list(zip(data.split(e), data.split(u), strict=True))

    def mean_product(of: Any, lag: int) -> Array:
        # One product for every pair of columns, averaged over the pairs that are there.
        products = []
        for a, b in of:
            head, tail = (a[lag:], b[: len(b) - lag]) if lag >= 0 else (a[:lag], b[-lag:])
            products.append(head[:, :, None] * tail[:, None, :])
        together = np.concatenate(products)
        there = np.maximum((~np.isnan(together)).sum(axis=0), 1)
        return np.asarray(np.nansum(together, axis=0) / there)

    ee = [(a, a) for a, _ in pieces]
    uu = [(b, b) for _, b in pieces]
    own = np.stack([np.diag(mean_product(ee, lag)) for lag in lags.tolist()])
    shape = (len(both), e.shape[1], m)
    with_inputs = np.stack([mean_product(pieces, lag) for lag in both.tolist()]) if m else np.zeros(shape)
    of_inputs = np.stack([np.diag(mean_product(uu, lag)) for lag in lags.tolist()]) if m else np.zeros((len(lags), 0))
    count = max(int(data.observed.all(axis=1).sum()), 1)
    z99 = 2.5758
    variance = 1 + 2 * np.einsum("lq,lm->qm", own[1:], of_inputs[1:])
    band = z99 * np.sqrt(np.maximum(variance, 0.1) / count)
    return Correlation(lags, own, both, with_inputs, z99 / count**0.5, band)


def fit_percent(data: Experiments, predicted: Array) -> Array:
    """Return 100 (1 − ‖y − ŷ‖ / ‖y − mean‖) of each output, ``(p,)``; NaN for a constant one."""
    percent = []
    for column, seen in enumerate(data.observed.T):
        y = data.outputs[seen, column]
        spread = np.linalg.norm(y - y.mean()) if len(y) else 0.0
        percent.append(100 * (1 - np.linalg.norm(y - predicted[seen, column]) / spread) if spread > 0 else np.nan)
    return np.array(percent)
