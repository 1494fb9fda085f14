"""The prediction-error method: from a subspace start to the system whose predictions are best.

With residuals e_t(θ) = y_t − ŷ_t(θ), in output error (K = 0) those of the free run, else innovations, and S their
covariance, minus the Gaussian log-likelihood with S concentrated out is, up to a constant,

    V(θ) = N/2 log det S(θ)          ∂V/∂θ = −Σ_t (∂ŷ_t/∂θ)ᵀ S^{-1} e_t

(Ljung 1999, *System Identification*, 2nd ed., sections 7.4 and 10.2). The prior P of
:mod:`retrograd.estimators.identification.bounds` is added: with innovations 4 P(A − K C), the predictor forgets its
first state; in output error P(A), weighed by the residuals' colour, so that drift is not bought with slow modes.

Levenberg-Marquardt takes the Jacobian from :func:`retrograd.estimators.identification.sensitivity.sensitivities`,
L-BFGS and Adam the gradient from one scan and its adjoint: exact backpropagation through time. A state-space basis is
arbitrary: n² directions of θ change nothing, and damping alone keeps the steps away from them (McKelvey, Helmersson and
Ribarits 2004, Automatica 40:1629).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retrograd.estimators.identification.bounds import (
    drawn_in,
    drawn_in_tensor,
    forgetting,
    forgetting_curvature,
    forgetting_gradient,
    modes_at,
)
from retrograd.estimators.identification.criterion import Criterion, widened
from retrograd.estimators.identification.experiments import Experiments
from retrograd.estimators.identification.kalman import deviance, filter_of
from retrograd.estimators.identification.sensitivity import initial_states, sensitivities
from retrograd.estimators.identification.system import (
    Layout,
    System,
    predict,
    predict_tensors,
    tensors,
    unpack,
)

__all__ = ["Criterion", "Fit", "Refinement"]

Array = np.ndarray[Any, Any]

# Weight of the prior with innovations. A pair of modes at the circle fits a wave of any frequency: of N/2 of those
# white noise holds one that is worth log N nats, as much as the prior of weight 1 asks there, and a fit would take it.
FORGETS = 4.0
# What is zero where it is not free.
FIXED = ("B", "K", "C", "D", "offset", "x0")


@dataclass(frozen=True)
class Fit:
    """The outcome of a refinement.

    Attributes:
        system: the best iterate.
        value: V of it, per step, on the data fitted.
        judged: what fits are compared by: V per observed output on the validation part, without one ``value``.
        history: V per step after every iteration, and of the validation part where there is one (else NaN).
        converged: whether V no longer fell.
        reason: why it stopped, in words.
    """

    system: System
    value: float
    judged: float
    history: list[tuple[float, float]]
    converged: bool
    reason: str


@dataclass
class Refinement:
    """How a start is refined.

    Attributes:
        criterion: on the data fitted.
        layout: the free parameters.
        validation: the same on held-out data, whose best iterate is kept; None keeps the last.
        ridge: of the mean square: ``ridge · N · ‖θ‖² / 2`` is added over A, B, C, D, K.
        colour: of the residuals, steps for each independent one: weight of an output-error fit's prior.
        radius: the spectral radius of A is kept at or below it; None leaves it free.
        iterations: at most so many.
        tolerance: V per step must fall by more than this, else it has converged.
        patience: with validation, stop after so many iterations that did not improve it.
        report: called after each iteration with its number, V per step and the validation's.
    """

    criterion: Criterion
    layout: Layout
    validation: Criterion | None = None
    ridge: float = 0.0
    colour: float = 1.0
    radius: float | None = None
    iterations: int = 200
    tolerance: float = 1e-6
    patience: int = 20
    report: Callable[[int, float, float], None] | None = None

    def __post_init__(self) -> None:
        driven = self.layout.inputs > 0 and not self.layout.innovations
        self._penalty = np.zeros(self.layout.size())
        for name, at in self.layout.slices().items():
            if name not in ("offset", "x0", "root"):
                self._penalty[at] = self.ridge * self.criterion.counted.sum()
        # Beyond the circle, where a fit without a bound may go, the prior is infinite.
        self._forgets = FORGETS if self.layout.innovations else self.colour * (driven and self.radius is not None)
        self._steps = max(int(self.criterion.counted.any(axis=1).sum()), 1)

    def run(self, start: System, optimizer: str) -> Fit:
        """Refine by ``"lm"``, ``"lbfgs"`` or ``"adam"``."""
        start = self._inside(start)
        if self.layout.free_root and start.root is None:
            e = self.criterion.residuals(predict(start, self.criterion.data)[1])
            start = replace(start, root=np.linalg.cholesky(widened(self.criterion.covariance(e))))
        self._history: list[tuple[float, float]] = []
        self._best: tuple[float, System] = (float("inf"), start)
        self._since = 0
        system, converged, reason = {"lm": self._lm, "lbfgs": self._lbfgs, "adam": self._adam}[optimizer](start)
        if self.validation is not None:
            system = self._best[1]
        value = self._judge(self.layout.pack(system), system) / self._steps
        judged = value if self.validation is None else self._best[0]
        return Fit(system, value, judged, self._history, converged, reason)

    # --- Levenberg-Marquardt: (JᵀJ + λ diag) step = Jᵀ e, whitened ---

    def _lm(self, system: System) -> tuple[System, bool, str]:
        theta = self.layout.pack(system)
        damping, growth, small = 1e-2, 2.0, 0
        value = self._judge(theta, system)
        for number in range(1, self.iterations + 1):
            hessian, gradient = self._normal_equations(system, theta)
            if not (np.isfinite(hessian).all() and np.isfinite(gradient).all()):
                return system, False, "the derivatives leave the range of numbers: the model grows too fast"
            # A parameter that nothing depends on has no curvature: it must not be divided by.
            scale = np.maximum(np.diag(hessian), 1e-10 * np.diag(hessian).max() + 1e-300)
            before, walls = value, self._walls(system)
            while True:
                step = _step(hessian + damping * np.diag(scale), gradient, walls)
                tried = self._inside(unpack(self.layout, theta + step))
                moved = self.layout.pack(tried)
                new = self._judge(moved, tried)
                if new < value:
                    gain = (value - new) / max(0.5 * step @ (damping * scale * step - gradient), 1e-300)
                    # Nielsen 1999: the damping follows how well the quadratic model foretold the gain. From a gain of
                    # 0.94 up it falls to a third; a model that foretells none to rounding gives one without end.
                    damping, growth = max(damping * max(1 / 3, 1 - (2 * min(gain, 1.0) - 1) ** 3), 1e-10), 2.0
                    system, theta, value = tried, moved, new
                    break
                damping, growth = damping * growth, 2 * growth
                if damping > 1e14:
                    at_bound = self._at_bound(system)
                    return system, not at_bound, f"{at_bound}no step lowers the criterion any more"
            small = small + 1 if before - value < self.tolerance * self._steps else 0
            if self._stop(number, system, value):
                return system, True, "the validation part no longer improves"
            if small >= 3:
                return system, True, f"{self._at_bound(system)}the criterion no longer falls"
        return system, False, f"{self.iterations} iterations were not enough"

    def _normal_equations(self, system: System, theta: Array) -> tuple[Array, Array]:
        if self.layout.free_root:
            return self._across_gaps(system, theta)
        x, predicted = predict(system, self.criterion.data)
        e = self.criterion.residuals(predicted)
        whiten = np.linalg.cholesky(self.criterion.weight(e)).T
        hessian, slope = self._sums(system, x, predicted, e @ whiten.T, whiten)
        added, prior = self._of_priors(system)
        return hessian + added, self._penalty * theta - slope + prior

    def _of_priors(self, system: System) -> tuple[Array, Array]:
        """Return what the priors add to the Hessian, and the gradient of the one on forgetting."""
        if not self._forgets:
            return np.diag(self._penalty), np.zeros_like(self._penalty)
        F = system.A - system.K @ system.C
        curved = np.array([self._through(system, slope) for slope in forgetting_curvature(F)])
        curved = curved.reshape(-1, len(self._penalty))
        gradient = self._forgets * self._through(system, forgetting_gradient(F))
        return np.diag(self._penalty) + self._forgets * curved.T @ curved, gradient

    def _through(self, system: System, of_F: Array) -> Array:
        """Return a gradient in F = A − K C as one in θ."""
        zero = unpack(self.layout, np.zeros_like(self._penalty))
        return self.layout.pack(replace(zero, A=of_F, K=-of_F @ system.C.T, C=-system.K.T @ of_F))

    def _sums(self, system: System, x: Array, predicted: Array, white: Array, whiten: Array) -> tuple[Array, Array]:
        """Return Σ JᵀJ and Σ Jᵀ e of the whitened derivatives; ``whiten`` is ``(p, p)``, or one a step."""
        data, counted = self.criterion.data, self.criterion.counted
        size = self.layout.size()
        hessian, slope = np.zeros((size, size)), np.zeros(size)
        innovation = np.where(data.observed, data.outputs - predicted, 0.0)
        for at, J in sensitivities(system, self.layout, data, x, innovation):
            if not counted[at].all():
                J *= counted[at].T[:, :, None]
            if whiten.ndim == 3:
                J = np.einsum("tqr,rti->qti", whiten[at], J)
            else:
                J = (whiten @ J.reshape(len(whiten), -1)).reshape(J.shape)
            flat = J.reshape(-1, size)
            hessian += flat.T @ flat
            slope += white[at].T.reshape(-1) @ flat
        return hessian, slope

    def _across_gaps(self, system: System, theta: Array) -> tuple[Array, Array]:
        """The same with outputs missing: the exact gradient, and a Gauss-Newton matrix of gains taken as they are."""
        half = np.linalg.inv(np.linalg.cholesky(filter_of(tensors(system), self.criterion.data).covariance.numpy()))
        x, predicted = predict(system, self.criterion.data)
        hessian, _ = self._sums(system, x, predicted, np.zeros_like(predicted), half)
        hessian += self._of_priors(system)[0]
        # Of S = R Rᵀ: with X = R^{-1} dR the information is tr((X + Xᵀ)²) / 2 a step.
        p, at = len(system.C), self.layout.slices()["root"]
        inverse: Array = np.linalg.inv(theta[at].reshape(p, p))
        of_R = np.einsum("ik,jl->ijkl", inverse, np.eye(p)).reshape(p, p, p * p)
        both = ((of_R + of_R.transpose(1, 0, 2)) / 2**0.5).reshape(p * p, p * p)
        hessian[at, at] += self.criterion.counted.sum() / p * both.T @ both
        return hessian, self._value_and_gradient(theta)[1] * self._steps

    # --- first-order methods: the gradient is one scan and its adjoint ---

    def _lbfgs(self, system: System) -> tuple[System, bool, str]:
        from scipy.optimize import minimize

        numbers = iter(range(1, self.iterations + 1))

        def after(theta: Array) -> None:
            at = self._inside(unpack(self.layout, theta))
            if self._stop(next(numbers), at, self._judge(theta, at)):
                raise StopIteration

        result = minimize(
            lambda theta: self._value_and_gradient(theta),
            self.layout.pack(system),
            jac=True,
            method="L-BFGS-B",
            callback=after,
            options={"maxiter": self.iterations, "maxfun": 3 * self.iterations, "ftol": self.tolerance, "gtol": 1e-9},
        )
        # 0: converged; 99: the callback stopped it.
        done = result.status in (0, 99) or result.nit < self.iterations
        return self._inside(unpack(self.layout, result.x)), done, str(result.message)

    def _adam(self, system: System) -> tuple[System, bool, str]:
        theta = torch.from_numpy(self.layout.pack(system)).requires_grad_()
        optimizer = torch.optim.Adam([theta], lr=1e-2)
        decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.iterations, eta_min=1e-4)
        best = (float("inf"), theta.detach().clone())
        for number in range(1, self.iterations + 1):
            value, gradient = self._value_and_gradient(theta.detach().numpy())
            if value < best[0]:
                best = (value, theta.detach().clone())
            theta.grad = torch.from_numpy(gradient)
            optimizer.step()
            decay.step()
            at = self._inside(unpack(self.layout, theta.detach().numpy().copy()))
            if self._stop(number, at, value * self._steps):
                return (
                    self._inside(unpack(self.layout, best[1].numpy())),
                    True,
                    "the validation part no longer improves",
                )
        return self._inside(unpack(self.layout, best[1].numpy())), True, f"{self.iterations} iterations are done"

    def _value_and_gradient(self, theta: Array) -> tuple[float, Array]:
        """Return V per step and its gradient, A drawn in to the radius first; a wall where V is not finite."""
        free = torch.from_numpy(np.array(theta)).requires_grad_()
        zero = unpack(self.layout, np.zeros_like(theta))
        parts = {name: torch.from_numpy(getattr(zero, name)) for name in FIXED}
        for (name, shape), at in zip(self.layout.shapes().items(), self.layout.slices().values(), strict=True):
            parts[name] = free[at].view(shape)
        if self.radius is not None:
            parts["A"] = drawn_in_tensor(parts["A"], self.radius)
        if self.layout.free_root:
            likelihood = across_gaps(parts, self.criterion)
            value = float(likelihood.detach())
        else:
            _, predicted = predict_tensors(parts, self.criterion.data)
            e = self.criterion.residuals(predicted.detach().numpy())
            value = self.criterion.value(e)
        value += float(0.5 * (self._penalty * theta**2).sum())
        if self._forgets:
            closed = parts["A"] - parts["K"] @ parts["C"]
            F = closed.detach().numpy()
            value += self._forgets * forgetting(F)
        if not np.isfinite(value):
            return 1e10, np.zeros_like(theta)
        if self.layout.free_root:
            ends, slopes = [likelihood], [torch.ones((), dtype=torch.float64)]
        else:
            ends, slopes = [predicted], [torch.from_numpy(-e @ self.criterion.weight(e))]
        if self._forgets:
            ends, slopes = [*ends, closed], [*slopes, torch.from_numpy(self._forgets * forgetting_gradient(F))]
        (slope,) = torch.autograd.grad(ends, free, slopes)
        gradient = slope.numpy() + self._penalty * theta
        return value / self._steps, np.where(np.isfinite(gradient), gradient, 0.0) / self._steps

    # --- what all of them share ---

    def _judge(self, theta: Array, system: System) -> float:
        """Return V and the priors: infinite where the predictor does not forget its initial state."""
        prior = self._forgets * forgetting(system.A - system.K @ system.C) if self._forgets else 0.0
        if not np.isfinite(prior):
            return prior
        prior += float(0.5 * (self._penalty * theta**2).sum())
        if self.layout.free_root:
            with torch.no_grad():
                value = float(across_gaps(tensors(system), self.criterion)) + prior
            return value if np.isfinite(value) else float("inf")
        predicted = predict(system, self.criterion.data)[1]
        with np.errstate(over="ignore", invalid="ignore"):
            e = self.criterion.residuals(predicted)
        return self.criterion.value(e) + prior

    def _walls(self, system: System) -> Array:
        """Return the gradient in θ of the size of every mode of A that lies at the bound, ``(k, parameters)``."""
        if self.radius is None:
            return np.zeros((0, len(self._penalty)))
        of_A = modes_at(system.A, self.radius)
        walls = np.zeros((len(of_A), len(self._penalty)))
        walls[:, self.layout.slices()["A"]] = of_A.reshape(len(of_A), system.A.size)
        return walls

    def _at_bound(self, system: System) -> str:
        """Return words that say so where a mode of A lies at its bound, else none."""
        return f"stopped at a bound, a mode of A of size {self.radius:g}: " if len(self._walls(system)) else ""

    def _inside(self, system: System) -> System:
        if self.radius is None:
            return system
        return replace(system, A=drawn_in(system.A, self.radius))

    def _stop(self, number: int, system: System, value: float) -> bool:
        """Note an iteration; return whether the validation part has stopped improving."""
        held_out = float("nan")
        if self.validation is not None:
            judged = (
                initial_states(system, self.validation.data)
                if self.layout.free_x0
                else _from_zero(system, self.validation.data)
            )
            e = self.validation.residuals(predict(judged, self.validation.data)[1])
            held_out = self.validation.value(e) / max(self.validation.counted.sum(), 1)
            if held_out < self._best[0]:
                self._best, self._since = (held_out, system), 0
            else:
                self._since += 1
        self._history.append((value / self._steps, held_out))
        if self.report is not None:
            self.report(number, value / self._steps, held_out)
        return self.validation is not None and self._since >= self.patience


def across_gaps(parts: dict[str, Tensor], criterion: Criterion) -> Tensor:
    """Return V with a Kalman filter across gaps, ½ Σ_t log det S_t + e_tᵀ S_t^{-1} e_t − (outputs that count at t).

    Where nothing is missing and S is the residuals' covariance it is the V above.
    """
    data = criterion.data
    filtered = filter_of(parts, data)
    e = torch.from_numpy(data.outputs) - predict_tensors(parts, data, filtered.gain)[1]
    counted = criterion.counted
    return 0.5 * (deviance(e, filtered.covariance, counted) - float(counted.sum()))


def _step(hessian: Array, gradient: Array, walls: Array) -> Array:
    """Return the step to the quadratic model's minimum, along the walls that it would cross."""
    step = np.linalg.solve(hessian, -gradient)
    crossed = walls[walls @ step > 0]
    if len(crossed) == 0:
        return np.asarray(step)
    along = np.linalg.solve(hessian, crossed.T)
    return np.asarray(step - along @ np.linalg.lstsq(crossed @ along, crossed @ step, rcond=None)[0])


def _from_zero(system: System, data: Experiments) -> System:
    return replace(system, x0=np.zeros((len(data.lengths), system.order)))
