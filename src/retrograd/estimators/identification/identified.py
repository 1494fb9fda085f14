"""An identified system: the frozen record between the estimator and what is made of it (pictures, summary, files)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from retrograd.errors import InputError, require_number, require_whole
from retrograd.estimators.identification.analysis import fit_percent
from retrograd.estimators.identification.criterion import Criterion
from retrograd.estimators.identification.experiments import Experiments, are_several, read_experiments
from retrograd.estimators.identification.kalman import deviance, filter_of, smoothed
from retrograd.estimators.identification.sensitivity import initial_states
from retrograd.estimators.identification.system import (
    System,
    final_state,
    predict,
    predict_ahead,
    root_of,
    tensors,
)
from retrograd.estimators.threads import threads_for
from retrograd.tables.align import rows_ahead
from retrograd.tables.time_axis import TimeAxis

__all__ = ["Forecast", "Identified", "Smoothed", "require_data"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Forecast:
    """What comes next, with its uncertainty. All are ``(horizon, outputs)``, in the outputs' own units.

    Attributes:
        mean: the expected outputs.
        lower: lower end of the prediction interval.
        upper: its upper end.
        level: its probability.
        time: the times of the steps, an index; None where the data had none.
    """

    mean: Any
    lower: Any
    upper: Any
    level: float
    time: Any = None


@dataclass(frozen=True)
class Smoothed:
    """What all outputs, before and after, say of every step.

    Attributes:
        mean: the outputs ``(N, p)``: as they are where observed, expected where missing.
        lower: lower end of the interval of each; the output itself where it was observed.
        upper: its upper end.
        states: expected states ``(N, n)``.
        level: the interval's probability.
    """

    mean: Any
    lower: Any
    upper: Any
    states: Array
    level: float


@dataclass(frozen=True)
class Identified:
    """An identified system, in the data's own units, with how it was found.

    Attributes:
        system: the matrices, and the initial state of each experiment of the fit.
        input_names: the m inputs.
        output_names: the p outputs.
        innovation_covariance: S ``(p, p)`` of the residuals fitted.
        final_state: the state after the last experiment of the fit, ``(n,)``.
        singular_values: of the subspace that orders are judged by.
        order_criteria: ``{order: (AIC, BIC)}`` where the order was chosen, else empty.
        history: criterion per step after every iteration, and of the validation part (NaN without one).
        converged: whether the criterion stopped falling.
        stop_reason: why the refinement stopped, in words.
        sample_time: time from step to step, in the user's unit.
        axis: the end of the last experiment's time axis; None where it had none.
        noise: ``"output-error"`` or ``"innovations"``.
        reasons: sentences that say why order, noise model and start or refinement are what they are.
        cautions: what to look at twice, a sentence each.
        final_covariance: of the state after the last experiment, ``(n, n)``; None where no output was missing.
    """

    system: System
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    innovation_covariance: Array
    final_state: Array
    singular_values: Array
    order_criteria: dict[int, tuple[float, float]]
    history: list[tuple[float, float]]
    converged: bool
    stop_reason: str
    sample_time: float = 1.0
    axis: TimeAxis | None = None
    final_covariance: Array | None = None
    noise: str = "innovations"
    reasons: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()

    @property
    def poles(self) -> Array:
        """Eigenvalues of A, complex, largest first."""
        poles = np.linalg.eigvals(self.system.A).astype(complex)
        return poles[np.argsort(-np.abs(poles), kind="stable")]

    @property
    def predictor_poles(self) -> Array | None:
        """Eigenvalues of A − K C, complex; None for an output-error model, where they are those of A."""
        system = self.system
        return np.linalg.eigvals(system.A - system.K @ system.C).astype(complex) if system.K.any() else None

    def read(self, U: Any, Y: Any) -> Experiments:
        """Return data with the inputs and outputs of the system: by name in tables, by place in arrays.

        Raises:
            InputError: they have others.
        """
        data = read_experiments(U, Y, input_names=self.input_names, output_names=self.output_names)
        for name, found, expected in (
            ("U", data.inputs.shape[1], len(self.input_names)),
            ("Y", data.outputs.shape[1], len(self.output_names)),
        ):
            if found != expected:
                raise InputError(f"{name} has {found} columns, the model was fitted with {expected}")
        return data

    def started(self, data: Experiments, x0: Any = None) -> System:
        """Return the system with x0 ``(n,)`` in every experiment; None: the state that fits each experiment best."""
        if x0 is None:
            return initial_states(self.system, data)
        state = np.asarray(x0, dtype=np.float64)
        if state.shape != (self.system.order,):
            raise InputError(f"x0 has shape {state.shape}, expected (order,) = ({self.system.order},)")
        return replace(self.system, x0=np.tile(state, (len(data.lengths), 1)))

    def predict_ahead(self, data: Experiments, k: int, x0: Any = None) -> Array:
        """Return predictions k steps ahead, from ``x0`` or the state that fits each experiment best: ``(N, p)``."""
        with self.threads(data):
            return predict_ahead(self.started(data, x0), data, k)

    def judged(self, data: Experiments, k: int | None = None) -> tuple[Array, Array]:
        """Return predictions ``(N, p)`` of the free run, or k steps ahead, and the fit in percent of each output.

        Each experiment starts from the state that fits it best.
        """
        system = self.system.free_running() if k is None else self.system
        with self.threads(data):
            predicted = predict_ahead(initial_states(system, data), data, k or 1)
        return predicted, fit_percent(data, predicted)

    def simulate(self, U: Any, x0: Any = None, *, steps: int | None = None) -> Any:
        """Run freely; see :meth:`retrograd.estimators.StateSpace.simulate`."""
        if U is None and steps is None:
            raise InputError("simulate: the model has no inputs to count steps by: give steps", "steps")
        if are_several(U):
            return [self.simulate(part, x0) for part in U]
        length = steps if U is None else len(U)
        nothing: Any = np.full((int(length or 0), len(self.output_names)), np.nan)
        if isinstance(U, (pd.DataFrame, pd.Series)):
            nothing = pd.DataFrame(nothing, index=U.index, columns=list(self.output_names))
        data = self.read(U, nothing)
        started = self.started(data, np.zeros(self.system.order) if x0 is None else x0)
        with self.threads(data):
            return self.like(U, predict(started.free_running(), data)[1])

    def forecast(
        self,
        horizon: int,
        U_future: Any,
        state: Any,
        level: float,
        axis: TimeAxis | None = None,
        covariance: Array | None = None,
        also: Array | float = 0.0,
    ) -> Forecast:
        """Go on from a state at the end of ``axis``; see :meth:`retrograd.estimators.StateSpace.forecast`.

        ``also (horizon, p)`` is added to the variance.
        """
        from scipy.stats import norm

        horizon = require_whole("horizon", horizon)
        level = require_number("level", level, above=0, below=1)
        time = None if axis is None else axis.ahead(horizon)
        if U_future is None:
            if self.input_names:
                raise InputError(f"U_future is None: give the {horizon} coming values of {', '.join(self.input_names)}")
            mean = self.simulate(None, state, steps=horizon)
        else:
            mean = self.simulate(rows_ahead("U_future", U_future, time, horizon), state)
        spread = norm.ppf(0.5 + level / 2) * np.sqrt(self.forecast_variance(horizon, covariance) + also)
        return Forecast(mean, mean - spread, mean + spread, level, time)

    def forecast_variance(self, horizon: int, covariance: Array | None = None) -> Array:
        """Return the variance of each output's forecast error, 1 to ``horizon`` steps ahead: ``(horizon, p)``.

        Args:
            horizon: steps.
            covariance: of the state to go on from, ``(n, n)``; None: it is known.
        """
        S, system = self.innovation_covariance, self.system
        P = np.zeros_like(system.A) if covariance is None else covariance
        result = np.empty((horizon, len(S)))
        for step in range(horizon):
            result[step] = np.diag(system.C @ P @ system.C.T + S)
            P = system.A @ P @ system.A.T + system.K @ S @ system.K.T
        return result

    def covariance_after(self, data: Experiments) -> Array | None:
        """Return the covariance of the state after the last experiment; None where no output is missing."""
        return None if data.complete else filter_of(tensors(self.system), data).final.numpy()[-1]

    def smooth(self, data: Experiments, level: float) -> Smoothed:
        """Return states and outputs given all outputs; see :meth:`retrograd.estimators.StateSpace.smooth`."""
        from scipy.stats import norm

        level = require_number("level", level, above=0, below=1)
        with self.threads(data):
            system = initial_states(self.system, data)
            x, predicted = predict(system, data)
            e = np.where(data.observed, data.outputs - predicted, 0.0)
            states, outputs, covariance = smoothed(system, data, filter_of(tensors(system), data), x, e)
        variance = np.where(data.observed, 0.0, np.diagonal(covariance, axis1=1, axis2=2).clip(min=0.0))
        mean = np.where(data.observed, data.outputs, outputs)
        spread = norm.ppf(0.5 + level / 2) * np.sqrt(variance)
        return Smoothed(mean, mean - spread, mean + spread, states, level)

    def state_after(self, data: Experiments, x0: Any = None) -> Array:
        """Return the state at the first step after the last experiment, ``(n,)``."""
        with self.threads(data):
            system = self.started(data, x0)
            return np.asarray(final_state(system, data, predict(system, data)[0])[-1])

    def log_likelihood(self, system: System, data: Experiments, burn_in: int = 0) -> float:
        """Return the Gaussian log-likelihood of data, of which the first ``burn_in`` steps do not count."""
        counted = Criterion(data, burn_in).counted
        parts = tensors(replace(system, root=root_of(self.innovation_covariance)))
        with self.threads(data):
            filtered = filter_of(parts, data)
            e = torch.from_numpy(data.outputs - predict(system, data)[1])
        total = float(deviance(e, filtered.covariance, counted))
        return -0.5 * (total + float(counted.sum()) * float(np.log(2 * np.pi)))

    def threads(self, data: Experiments) -> Any:
        """Return a context in which scans over data take as many threads as serve."""
        return threads_for(len(data.outputs) * self.system.order**2)

    def like(self, given: Any, values: Array) -> Any:
        """Return ``values (N, p)`` as the caller's kind: a DataFrame with the index of ``given`` where it has one."""
        if not hasattr(given, "index") or isinstance(given, (list, tuple)):
            return values
        return pd.DataFrame(values, index=given.index[: len(values)], columns=list(self.output_names))


def require_data(data: Experiments | None) -> Experiments:
    """Return the data of a fit; raise :class:`InputError` where they are not there any more."""
    if data is None:
        raise InputError("this model was loaded from a file, which does not hold the data of its fit: give U and Y")
    return data
