"""Identification of linear state-space models: subspace start, exact gradients through time, predictions, forecasts.

    x_{t+1} = A x_t + B u_t + K e_t          y_t = C x_t + D u_t + offset + e_t

Output error (K = 0) fits the free run; innovations fit one step ahead, and K is the stationary Kalman gain.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from retrograd.errors import InputError, require_choice, require_number, require_whole
from retrograd.estimators.identification.analysis import fit_percent, free_running
from retrograd.estimators.identification.experiments import Experiments, are_several, read_experiments
from retrograd.estimators.identification.identify import NOISES, OPTIMIZERS, STARTS_OF_STATE, identify
from retrograd.estimators.identification.prediction_error import Criterion
from retrograd.estimators.identification.recurrence import scan_of
from retrograd.estimators.identification.sensitivity import initial_states
from retrograd.estimators.identification.system import System, final_state, predict

if TYPE_CHECKING:
    from retrograd.estimators.identification.plots import Plots
    from retrograd.estimators.identification.summary import Summary

__all__ = ["Forecast", "StateSpace"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Forecast:
    """What comes next, with its uncertainty. All are ``(horizon, outputs)``, in the outputs' own units.

    Attributes:
        mean: the expected outputs.
        lower: lower end of the prediction interval.
        upper: its upper end.
        level: its probability.
    """

    mean: Any
    lower: Any
    upper: Any
    level: float


class StateSpace(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """A linear state-space model, identified from inputs and outputs.

    Inputs U are ``(N, m)`` and outputs Y ``(N, p)`` (or ``(N,)``), NumPy or pandas; lists of those are several
    experiments of one system, of any lengths; ``U=None`` is an autonomous system; NaN in Y is a missing output. The
    caller's arrays are never changed.

    Args:
        order: n, the number of states; ``"auto"`` takes the one with the lowest BIC.
        max_order: the largest that ``"auto"`` tries.
        noise: ``"output-error"``: K = 0, the free run is fitted, whatever disturbs the outputs; ``"innovations"``: K
            is fitted too, one step ahead, for systems with noise inside.
        x0: ``"estimate"``: one initial state an experiment; ``"zero"``: none.
        burn_in: so many first steps of every experiment do not count (for ``x0="zero"``).
        feedthrough: whether u_t acts on y_t at once (D free).
        stability: keep A's eigenvalues within 0.9999.
        optimizer: ``"lm"`` (Levenberg-Marquardt), ``"lbfgs"``, ``"adam"``; ``"auto"``: lm where the Jacobian is small.
        max_iter: iterations at most.
        tol: the criterion's fall per step below which a fit has converged.
        ridge: penalty on the parameters, per step and in the scaled outputs' units.
        starts: how many subspace starts are refined; the best is kept.
        validation: fraction at the end of every experiment held out: the iterate that is best there is kept.
        sample_time: time from step to step, in the user's unit; scales time constants and frequencies alone.
        random_state: seed of the starts beyond the subspace ones.

    Attributes:
        A_, B_, C_, D_, K_, offset_: the system's matrices, for inputs and outputs in their own units.
        x0_: initial states ``(experiments, n)``.
        order_: n.
        innovation_covariance_: S ``(p, p)`` of the residuals fitted: of the free run, or of one step ahead.
        singular_values_: of the subspace that orders are judged by.
        order_criteria_: for ``order="auto"``, ``{n: (AIC, BIC)}``; else empty.
        history_: criterion per step after each iteration, beside that of the validation part.
        converged_: whether the criterion stopped falling.

    Raises:
        InputError: (from ``fit``) inputs are missing, constant or collinear; too few steps for the order; shapes.

    Reference:
        Ljung 1999, *System Identification*, 2nd ed., chapters 7 and 10; the subspace start: see
        :mod:`retrograd.estimators.identification.subspace`.

    Examples:
        >>> random = np.random.default_rng(0)
        >>> u = random.standard_normal((400, 1))
        >>> y = np.zeros(400)
        >>> for t in range(399):
        ...     y[t + 1] = 0.8 * y[t] + u[t, 0]
        >>> model = StateSpace(order=1).fit(u, y + 0.1 * random.standard_normal(400))
        >>> model.poles_.round(2), round(model.score(u, y), 2)
        (array([0.8+0.j]), 1.0)
    """

    def __init__(
        self,
        order: int | str = "auto",
        *,
        max_order: int = 10,
        noise: str = "output-error",
        x0: str = "estimate",
        burn_in: int = 0,
        feedthrough: bool = True,
        stability: bool = True,
        optimizer: str = "auto",
        max_iter: int = 200,
        tol: float = 1e-6,
        ridge: float = 0.0,
        starts: int = 1,
        validation: float = 0.0,
        sample_time: float = 1.0,
        random_state: int | None = 0,
    ) -> None:
        self.order = order
        self.max_order = max_order
        self.noise = noise
        self.x0 = x0
        self.burn_in = burn_in
        self.feedthrough = feedthrough
        self.stability = stability
        self.optimizer = optimizer
        self.max_iter = max_iter
        self.tol = tol
        self.ridge = ridge
        self.starts = starts
        self.validation = validation
        self.sample_time = sample_time
        self.random_state = random_state

    # --- fit ---

    def fit(self, U: Any, Y: Any) -> StateSpace:
        """Identify the system.

        Args:
            U: inputs; None for none.
            Y: outputs.

        Returns:
            The estimator itself.
        """
        self._check_parameters()
        data = read_experiments(U, Y)
        found = identify(data, self)
        self._keep(found.system, data.input_names, data.output_names)
        self.innovation_covariance_, self.final_state_ = found.innovation_covariance, found.final_state
        self.singular_values_, self.order_criteria_ = found.singular_values, found.order_criteria
        self.history_ = found.fit.history
        self.converged_, self.stop_reason_ = found.fit.converged, found.fit.reason
        self._data = data
        if not self.converged_ and self.optimizer != "adam":
            message = f"not converged: {self.stop_reason_}; raise max_iter, try starts=3, or a lower order"
            warnings.warn(message, ConvergenceWarning, stacklevel=2)
        return self

    def _check_parameters(self) -> None:
        require_choice("noise", self.noise, NOISES)
        require_choice("x0", self.x0, STARTS_OF_STATE)
        require_choice("optimizer", self.optimizer, OPTIMIZERS)
        if self.order != "auto":
            if isinstance(self.order, str):
                raise InputError(f"order is {self.order!r}, expected a whole number of at least 1, or 'auto'")
            require_whole("order", self.order)
        for name, least in (("max_order", 1), ("max_iter", 1), ("starts", 1), ("burn_in", 0)):
            require_whole(name, getattr(self, name), least)
        for name in ("tol", "ridge"):
            require_number(name, getattr(self, name), least=0)
        require_number("validation", self.validation, least=0, below=1)
        require_number("sample_time", self.sample_time, above=0)

    def _keep(self, system: System, input_names: tuple[str, ...], output_names: tuple[str, ...]) -> None:
        self.system_ = system
        self.A_, self.B_, self.C_, self.D_, self.K_ = system.A, system.B, system.C, system.D, system.K
        self.offset_, self.x0_ = system.offset, system.x0
        self.order_ = system.order
        self.input_names_, self.output_names_ = input_names, output_names
        self.n_features_in_ = len(input_names)

    # --- use ---

    @property
    def poles_(self) -> Array:
        """Eigenvalues of A, complex, largest first."""
        self._check_fitted()
        poles = np.linalg.eigvals(self.A_).astype(complex)
        return poles[np.argsort(-np.abs(poles), kind="stable")]

    def simulate(self, U: Any, x0: Any = None, *, steps: int | None = None) -> Any:
        """Run the model freely: outputs from inputs alone.

        Args:
            U: inputs ``(N, m)``, or a list of experiments; None for an autonomous model.
            x0: initial state ``(n,)``; zero by default. :meth:`initial_state` estimates one from data.
            steps: how many, for an autonomous model.

        Returns:
            Outputs ``(N, p)``: a list for a list, a DataFrame for a DataFrame.
        """
        self._check_fitted()
        if U is None and steps is None:
            raise InputError("simulate: the model has no inputs to count steps by: give steps")
        if are_several(U):
            return [self.simulate(part, x0) for part in U]
        length = steps if U is None else len(U)
        data = self._read(U, np.full((int(length or 0), len(self.output_names_)), np.nan))
        started = self._started(data, np.zeros(self.order_) if x0 is None else x0)
        _, outputs = predict(free_running(started), data)
        return self._like(U, outputs)

    def initial_state(self, U: Any, Y: Any, *, free: bool = False) -> Array:
        """Return the state at the first step that fits the outputs best, ``(n,)`` (``(E, n)`` for a list).

        Args:
            U: inputs.
            Y: outputs.
            free: best for the free run, instead of for predictions one step ahead.
        """
        self._check_fitted()
        data = self._read(U, Y)
        x0 = initial_states(free_running(self.system_) if free else self.system_, data).x0
        return x0 if are_several(Y) else x0[0]

    def predict(self, U: Any, Y: Any = None, k: int = 1, *, x0: Any = None) -> Any:
        """Predict each output k steps ahead: from outputs up to k steps before it, and all inputs.

        Args:
            U: inputs; None for an autonomous model.
            Y: outputs to predict from; None: the free run from a zero state, as scikit-learn's ``predict(X)``.
            k: steps ahead. For output error every k is the free run.
            x0: state at the first step, ``(n,)``; by default the one that fits all of Y best (so for a system whose
                start is felt for long, give one: ``model.x0_[0]`` where the data begin with those of the fit).

        Returns:
            Predictions ``(N, p)``; the first k - 1 come from the initial state alone.
        """
        self._check_fitted()
        if Y is None:
            return self.simulate(U, x0)
        k = require_whole("k", k)
        data = self._read(U, Y)
        predicted = self._ahead(self._started(data, x0), data, k)
        if are_several(Y):
            return [self._like(y, part) for y, part in zip(Y, data.split(predicted), strict=True)]
        return self._like(Y, predicted)

    def _ahead(self, system: System, data: Experiments, k: int) -> Array:
        states, predicted = predict(system, data)
        if k == 1 or not system.K.any():
            return predicted
        result = predict(free_running(system), data)[1]
        # Every step's filtered state runs on freely for k - 1 steps: a batch of N short experiments.
        for start, length in zip(data.starts.tolist(), data.lengths, strict=True):
            count = length - (k - 1)
            if count < 1:
                continue
            x = states[start : start + count]
            for step in range(k - 1):
                x = x @ system.A.T + data.inputs[start + step : start + step + count] @ system.B.T
            at = slice(start + k - 1, start + length)
            result[at] = x @ system.C.T + data.inputs[at] @ system.D.T + system.offset
        return result

    def score(self, U: Any, Y: Any, sample_weight: Any = None) -> float:
        """Return R² of the free run (the initial state estimated from Y), averaged over outputs."""
        if sample_weight is not None:
            raise InputError("score takes no sample_weight")
        return float(np.mean(1 - (1 - self.fit_percent(U, Y) / 100) ** 2))

    def fit_percent(self, U: Any, Y: Any, k: int | None = None) -> Array:
        """Return 100 (1 − ‖y − ŷ‖ / ‖y − mean‖) of each output, ``(p,)``: of the free run, or k steps ahead."""
        self._check_fitted()
        data = self._read(U, Y)
        system = free_running(self.system_) if k is None else self.system_
        return fit_percent(data, self._ahead(initial_states(system, data), data, k or 1))

    def forecast(
        self,
        horizon: int,
        U_future: Any = None,
        *,
        U: Any = None,
        Y: Any = None,
        state: Any = None,
        level: float = 0.95,
    ) -> Forecast:
        """Forecast the steps after the data of the fit (the last experiment), or after other data.

        The interval holds the innovations to come, Σ_j Ψ_j S Ψ_jᵀ with Ψ_0 = 1 and Ψ_j = C A^{j-1} K, taken for
        Gaussian; it does not hold what is not known about the parameters.

        Args:
            horizon: steps.
            U_future: inputs of those steps, ``(horizon, m)``.
            U: inputs of other data to go on from.
            Y: their outputs.
            state: the state to go on from, ``(n,)``, where it is known (:meth:`state_after`).
            level: probability of the interval.
        """
        from scipy.stats import norm

        self._check_fitted()
        horizon = require_whole("horizon", horizon)
        level = require_number("level", level, above=0, below=1)
        if state is None:
            state = self.final_state_ if Y is None else self.state_after(U, Y)
        if U_future is None:
            if self.input_names_:
                raise InputError(
                    f"U_future is None: give the {horizon} coming values of {', '.join(self.input_names_)}"
                )
            mean = self.simulate(None, state, steps=horizon)
        else:
            if len(U_future) < horizon:
                raise InputError(f"U_future has {len(U_future)} steps, horizon is {horizon}")
            mean = self.simulate(U_future[:horizon], state)
        spread = norm.ppf(0.5 + level / 2) * np.sqrt(self.forecast_variance(horizon))
        return Forecast(mean, mean - spread, mean + spread, level)

    def state_after(self, U: Any, Y: Any, x0: Any = None) -> Array:
        """Return the state at the first step after the data, ``(n,)`` (after the last experiment of a list).

        Args:
            U: inputs.
            Y: outputs.
            x0: the state at the data's first step; by default the one that fits them best.
        """
        self._check_fitted()
        data = self._read(U, Y)
        system = self._started(data, x0)
        return np.asarray(final_state(system, data, predict(system, data)[0])[-1])

    def forecast_variance(self, horizon: int) -> Array:
        """Return the variance of each output's forecast error, 1 to ``horizon`` steps ahead: ``(horizon, p)``."""
        self._check_fitted()
        S = self.innovation_covariance_
        through, total, result = self.K_, S.copy(), np.empty((horizon, len(S)))
        for step in range(horizon):
            result[step] = np.diag(total)
            psi = self.C_ @ through
            total = total + psi @ S @ psi.T
            through = self.A_ @ through
        return result

    def log_likelihood(self, U: Any = None, Y: Any = None) -> float:
        """Return the Gaussian log-likelihood of data (those of the fit by default), given initial states.

        Exact for output error, missing outputs included, and for innovations where no output is missing.
        """
        self._check_fitted()
        data = self._data_of_fit() if Y is None else self._read(U, Y)
        system = self.system_ if Y is None else initial_states(self.system_, data)
        criterion = Criterion(data, 0.0, self.burn_in)
        e = criterion.residuals(predict(system, data)[1])
        total = 0.0
        # Missing outputs leave the marginal of those that are there.
        for pattern in np.unique(criterion.counted, axis=0):
            if pattern.any():
                rows = e[(criterion.counted == pattern).all(axis=1)][:, pattern]
                S = self.innovation_covariance_[np.ix_(pattern, pattern)]
                quadratic = np.einsum("ti,ij,tj->", rows, np.linalg.inv(S), rows)
                total -= 0.5 * (len(rows) * np.linalg.slogdet(2 * np.pi * S)[1] + quadratic)
        return float(total)

    def recurrence(self, U: Any, Y: Any, *, experiment: int = 0) -> dict[str, Any]:
        """Return the predictor over data as a scan, ``A``, ``u`` and ``h0``, and the ``loss`` of its residuals.

        The states are in coordinates in which their second moments over the data are 1; the loss is
        Σ e_t^T S^{-1} e_t / 2N, whose gradient is that of the fit's criterion. U and Y are as :meth:`fit` takes them;
        of lists of several, ``experiment`` says which.
        """
        if are_several(Y):
            U, Y = None if U is None else U[experiment], Y[experiment]
        self._check_fitted()
        data = self._read(U, Y)
        return scan_of(initial_states(self.system_, data), data, self.innovation_covariance_)

    # --- look ---

    def summary(self) -> Summary:
        """Return fit, information criteria, poles, standard errors, tests of the residuals; printing it shows all."""
        from retrograd.estimators.identification.summary import Summary

        self._check_fitted()
        return Summary.of(self, self._data_of_fit())

    @cached_property
    def plot(self) -> Plots:
        """Pictures, as matplotlib figures: ``plot.compare``, ``residuals``, ``poles``, ``bode``, ``step``, …."""
        from retrograd.estimators.identification.plots import Plots

        return Plots(self)

    # --- take elsewhere ---

    def to_scipy(self) -> Any:
        """Return a ``scipy.signal.StateSpace`` (discrete; the offset is not part of it)."""
        from scipy.signal import StateSpace as Discrete

        self._check_fitted()
        return Discrete(self.A_, self.B_, self.C_, self.D_, dt=self.sample_time)

    def to_control(self) -> Any:
        """Return a ``control.StateSpace`` of python-control (discrete, with signal names; without the offset)."""
        self._check_fitted()
        try:
            import control
        except ModuleNotFoundError:
            raise InputError("to_control needs python-control: pip install control") from None
        return control.ss(
            self.A_, self.B_, self.C_, self.D_, self.sample_time,
            inputs=list(self.input_names_), outputs=list(self.output_names_),
        )  # fmt: skip

    def to_torch(self) -> Any:
        """Return a :class:`retrograd.nn.StateSpace` with the same numbers, float64, to train on or to build in."""
        from retrograd.nn import StateSpace as Module

        self._check_fitted()
        return Module.from_matrices(self.A_, self.B_, self.C_, self.D_, self.K_, self.offset_, self.x0_[-1])

    def save(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write the model to a folder: ``model.safetensors`` and ``config.json``, whole, no pickle.

        Raises:
            InputError: the folder has a model and ``overwrite`` is false, or cannot be written.
        """
        from retrograd.estimators.identification import files

        self._check_fitted()
        files.save(self, Path(folder), overwrite=overwrite)

    @classmethod
    def load(cls, folder: str | Path) -> StateSpace:
        """Read what :meth:`save` wrote, by this version or an older one.

        Raises:
            InputError: the folder holds no such model, or a newer version wrote it.
        """
        from retrograd.estimators.identification import files

        return files.load(cls, Path(folder))

    # --- inside ---

    def _check_fitted(self) -> None:
        if not hasattr(self, "system_"):
            raise NotFittedError("this StateSpace is not fitted yet: call fit(U, Y) first")

    def _data_of_fit(self) -> Experiments:
        if getattr(self, "_data", None) is None:
            raise InputError("this model was loaded from a file, which does not hold the data of its fit: give U and Y")
        return self._data

    def _read(self, U: Any, Y: Any) -> Experiments:
        data = read_experiments(U, Y)
        for name, found, expected in (
            ("U", data.inputs.shape[1], len(self.input_names_)),
            ("Y", data.outputs.shape[1], len(self.output_names_)),
        ):
            if found != expected:
                raise InputError(f"{name} has {found} columns, the model was fitted with {expected}")
        return data

    def _started(self, data: Experiments, x0: Any) -> System:
        """Return the system with x0 ``(n,)`` in every experiment, or the best of each where there is none."""
        if x0 is None:
            return initial_states(self.system_, data)
        state = np.asarray(x0, dtype=np.float64)
        if state.shape != (self.order_,):
            raise InputError(f"x0 has shape {state.shape}, expected (order,) = ({self.order_},)")
        return replace(self.system_, x0=np.tile(state, (len(data.lengths), 1)))

    def _like(self, given: Any, values: Array) -> Any:
        if not hasattr(given, "index") or isinstance(given, (list, tuple)):
            return values
        import pandas as pd

        return pd.DataFrame(values, index=given.index[: len(values)], columns=list(self.output_names_))
