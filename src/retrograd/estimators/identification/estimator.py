"""Identification of linear state-space models: subspace start, exact gradients through time, predictions, forecasts.

    x_{t+1} = A x_t + B u_t + K e_t          y_t = C x_t + D u_t + offset + e_t

Output error (K = 0) fits the free run; innovations fit one step ahead, and K is the stationary Kalman gain.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.exceptions import NotFittedError

from retrograd.errors import InputError, require_whole
from retrograd.estimators.identification.analysis import parameter_covariance
from retrograd.estimators.identification.cautions import IdentificationWarning
from retrograd.estimators.identification.conversions import Conversions
from retrograd.estimators.identification.experiments import Experiments, are_several, read_experiments
from retrograd.estimators.identification.files import from_parts, parts_of
from retrograd.estimators.identification.identified import Forecast, Identified, Smoothed, require_data
from retrograd.estimators.identification.identify import identify
from retrograd.estimators.identification.plots import SystemPlots
from retrograd.estimators.identification.recurrence import scan_of
from retrograd.estimators.identification.search import layout_of
from retrograd.estimators.identification.sensitivity import initial_states
from retrograd.estimators.identification.summary import Summary
from retrograd.estimators.identification.system import System, final_state, predict
from retrograd.estimators.identification.uncertainty import variance_through
from retrograd.estimators.model_files import Saved, restored, write_model

__all__ = ["StateSpace"]

Array = np.ndarray[Any, Any]

KIND = "state-space"


class StateSpace(Conversions, RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """A linear state-space model, identified from inputs and outputs.

    Inputs U are ``(N, m)`` and outputs Y ``(N, p)`` (or ``(N,)``), NumPy or pandas; lists of those are several
    experiments of one system, of any lengths; ``U=None`` is an autonomous system; NaN in Y is a missing output. The
    caller's arrays are never changed.

    Args:
        order: n, the number of states; ``"auto"`` takes the one with the lowest information criterion, and in output
            error a higher one where that runs clearly better over held-out blocks.
        max_order: the largest that ``"auto"`` tries; None: 12, and 16 without inputs, where seasons have to fit.
        noise: ``"output-error"``: K = 0, the free run is fitted, whatever disturbs the outputs; ``"innovations"``: K
            is fitted too, one step ahead, for systems with noise inside; ``"auto"``: innovations without inputs, else
            output error, or innovations where their free run is better over held-out blocks.
        x0: ``"estimate"``: one initial state an experiment; ``"zero"``: none.
        burn_in: so many first steps of every experiment do not count (for ``x0="zero"``).
        feedthrough: whether u_t acts on y_t at once (D free).
        stability: keep A's eigenvalues within 0.9999; ``"auto"``: so, unless a series without inputs grows beyond doubt
            (and ``order="auto"``).
        optimizer: ``"lm"`` (Levenberg-Marquardt), ``"lbfgs"``, ``"adam"``; ``"auto"``: lm where the Jacobian is small.
        max_iter: iterations at most; where outputs are missing, fewer of a very long series.
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
        noise_: the noise model: ``"output-error"`` or ``"innovations"``.
        reasons_: sentences that say why order and noise model are what they are, and whether the start was kept.
        innovation_covariance_: S ``(p, p)`` of the residuals fitted: of the free run, or of one step ahead.
        singular_values_: of the subspace that orders are judged by.
        order_criteria_: for ``order="auto"``, ``{n: (AIC, BIC)}``; else empty.
        cautions_: what to look at twice, a sentence each; ``fit`` warns of each.
        history_: criterion per step after each iteration, beside that of the validation part.
        converged_: whether the criterion stopped falling.
        identified_: all of these as one frozen record.

    Raises:
        InputError: (from ``fit``) inputs are missing, constant or collinear; too few steps for the order; shapes.

    Reference:
        Ljung 1999, *System Identification*, 2nd ed., chapters 7 and 10; the subspace start: ``subspace.py``.

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
        max_order: int | None = None,
        noise: str = "auto",
        x0: str = "estimate",
        burn_in: int = 0,
        feedthrough: bool = True,
        stability: bool | str = "auto",
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

        Warns:
            IdentificationWarning: the fit is to be looked at twice; each message says why, and what to try.
        """
        data = read_experiments(U, Y)
        self._keep(identify(data, self))
        self._data = data
        for caution in self.cautions_:
            warnings.warn(caution, IdentificationWarning, stacklevel=2)
        return self

    def _keep(self, found: Identified) -> None:
        system = found.system
        self.identified_, self.system_, self.order_ = found, system, system.order
        self.A_, self.B_, self.C_, self.D_, self.K_ = system.A, system.B, system.C, system.D, system.K
        self.offset_, self.x0_ = system.offset, system.x0
        self.innovation_covariance_, self.final_state_ = found.innovation_covariance, found.final_state
        self.singular_values_, self.order_criteria_ = found.singular_values, found.order_criteria
        self.history_, self.converged_, self.stop_reason_ = found.history, found.converged, found.stop_reason
        self.noise_, self.reasons_, self.cautions_ = found.noise, found.reasons, found.cautions
        self.input_names_, self.output_names_ = found.input_names, found.output_names
        self.n_features_in_ = len(found.input_names)

    # --- use ---

    @property
    def poles_(self) -> Array:
        """Eigenvalues of A, complex, largest first."""
        return self._found().poles

    def simulate(self, U: Any, x0: Any = None, *, steps: int | None = None) -> Any:
        """Run the model freely: outputs from inputs alone.

        Args:
            U: inputs ``(N, m)``, or a list of experiments; None for an autonomous model.
            x0: initial state ``(n,)``; zero by default. :meth:`initial_state` estimates one from data.
            steps: how many, for an autonomous model.

        Returns:
            Outputs ``(N, p)``: a list for a list, a DataFrame for a DataFrame.
        """
        return self._found().simulate(U, x0, steps=steps)

    def initial_state(self, U: Any, Y: Any, *, free: bool = False) -> Array:
        """Return the state at the first step that fits the outputs best, ``(n,)`` (``(E, n)`` for a list).

        Args:
            U: inputs.
            Y: outputs.
            free: best for the free run, instead of for predictions one step ahead.
        """
        found = self._found()
        x0 = initial_states(found.system.free_running() if free else found.system, found.read(U, Y)).x0
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
        found = self._found()
        if Y is None:
            return found.simulate(U, x0)
        k = require_whole("k", k)
        data = found.read(U, Y)
        predicted = found.predict_ahead(data, k, x0)
        if are_several(Y):
            return [found.like(y, part) for y, part in zip(Y, data.as_given(predicted), strict=True)]
        return found.like(Y, data.as_given(predicted)[0])

    def score(self, U: Any, Y: Any, sample_weight: Any = None) -> float:
        """Return R² of the free run (the initial state estimated from Y), averaged over outputs."""
        if sample_weight is not None:
            raise InputError("score takes no sample_weight")
        return float(np.mean(1 - (1 - self.fit_percent(U, Y) / 100) ** 2))

    def fit_percent(self, U: Any, Y: Any, k: int | None = None) -> Array:
        """Return 100 (1 − ‖y − ŷ‖ / ‖y − mean‖) of each output, ``(p,)``: of the free run, or k steps ahead."""
        found = self._found()
        return found.judged(found.read(U, Y), k)[1]

    def forecast(
        self,
        horizon: int,
        U_future: Any = None,
        *,
        U: Any = None,
        Y: Any = None,
        state: Any = None,
        level: float = 0.95,
        parameters: bool = False,
    ) -> Forecast:
        """Forecast the steps after the data of the fit (the last experiment), or after other data.

        The interval holds the innovations to come, Σ_j Ψ_j S Ψ_jᵀ with Ψ_0 = 1 and Ψ_j = C A^{j-1} K, taken for
        Gaussian, and what missing outputs leave unknown of the state; with ``parameters`` also what the data of the fit
        leave unknown of the parameters.

        Args:
            horizon: steps.
            U_future: inputs of those steps, ``(horizon, m)``; of a table with times, the rows at these.
            U: inputs of other data to go on from.
            Y: their outputs.
            state: the state to go on from, ``(n,)``, where it is known (:meth:`state_after`).
            level: probability of the interval.
            parameters: whether the interval holds the parameters' uncertainty, by the delta method; wants the data of
                the fit, and is right where residuals are white.
        """
        found = self._found()
        data = None if Y is None else found.read(U, Y)
        axis = data.time_axis if data is not None else found.axis if state is None else None
        covariance = None
        if state is None:
            covariance = found.final_covariance if data is None else found.covariance_after(data)

        def from_state(system: System) -> Array:
            if state is not None:
                return np.asarray(state, dtype=np.float64)
            if data is not None:
                return replace(found, system=system).state_after(data)
            if system is found.system:
                return found.final_state
            return np.asarray(final_state(system, self.data_, predict(system, self.data_)[0])[-1])

        def mean(system: System) -> Array:
            moved = replace(found, system=system)
            return np.asarray(moved.forecast(horizon, U_future, from_state(system), level, axis).mean)

        also: Array | float = 0.0
        if parameters:
            layout = layout_of(self, self.order_, self.data_, self.noise_)
            S = found.innovation_covariance
            sigma = parameter_covariance(found.system, layout, self.data_, S, self.burn_in)
            also = variance_through(found.system, layout, sigma, mean)
        return found.forecast(horizon, U_future, from_state(found.system), level, axis, covariance, also)

    def state_after(self, U: Any, Y: Any, x0: Any = None) -> Array:
        """Return the state at the first step after the data, ``(n,)`` (after the last experiment of a list).

        Args:
            U: inputs.
            Y: outputs.
            x0: the state at the data's first step; by default the one that fits them best.
        """
        found = self._found()
        return found.state_after(found.read(U, Y), x0)

    def smooth(self, U: Any, Y: Any, *, level: float = 0.95) -> Smoothed:
        """Return what all outputs, before and after, say of every step: missing outputs with intervals, and states.

        Args:
            U: inputs; None for none.
            Y: outputs, NaN where missing. Of several experiments the rows lie end to end.
            level: probability of the intervals.

        Examples:
            >>> y = np.sin(np.arange(60.0)) + 0.1 * np.random.default_rng(0).standard_normal(60)
            >>> model = StateSpace(order=2, noise="innovations").fit(None, y)
            >>> y[30] = np.nan
            >>> bool(round(model.smooth(None, y).mean[30, 0], 1) == round(np.sin(30.0), 1))
            True
        """
        found = self._found()
        return found.smooth(found.read(U, Y), level)

    def forecast_variance(self, horizon: int) -> Array:
        """Return the variance of each output's forecast error, 1 to ``horizon`` steps ahead: ``(horizon, p)``."""
        return self._found().forecast_variance(horizon)

    def log_likelihood(self, U: Any = None, Y: Any = None) -> float:
        """Return the exact Gaussian log-likelihood of data (by default the fit's), given initial states."""
        found = self._found()
        if Y is None:
            return found.log_likelihood(found.system, self.data_, self.burn_in)
        data = found.read(U, Y)
        with found.threads(data):
            return found.log_likelihood(initial_states(found.system, data), data, self.burn_in)

    def recurrence(self, U: Any, Y: Any, *, experiment: int = 0) -> dict[str, Any]:
        """Return the predictor over data as a scan, ``A``, ``u`` and ``h0``, and the ``loss`` of its residuals.

        The states are in coordinates in which their second moments over the data are 1; the loss is
        Σ e_t^T S^{-1} e_t / 2N, whose gradient is that of the fit's criterion. U and Y are as :meth:`fit` takes them;
        of lists of several, ``experiment`` says which.
        """
        if are_several(Y):
            U, Y = None if U is None else U[experiment], Y[experiment]
        found = self._found()
        data = found.read(U, Y)
        return scan_of(initial_states(found.system, data), data, found.innovation_covariance)

    # --- look ---

    def summary(self) -> Summary:
        """Return fit, information criteria, poles, standard errors, tests of the residuals; printing it shows all."""
        return Summary.of(self._found(), self.data_, self)

    @property
    def plot(self) -> SystemPlots:
        """Pictures, as matplotlib figures: ``plot.compare``, ``residuals``, ``poles``, ``bode``, ``step``, …."""
        return SystemPlots(self._found(), getattr(self, "_data", None))

    # --- take elsewhere: to_scipy, to_control, to_torch are of Conversions ---

    def save(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write the model to a folder: ``model.safetensors`` and ``config.json``, whole, no pickle.

        Raises:
            InputError: the folder has a model and ``overwrite`` is false, or cannot be written.
        """
        write_model(Path(folder), self.saved(), overwrite=overwrite)

    @classmethod
    def load(cls, folder: str | Path) -> StateSpace:
        """Read what :meth:`save` wrote, by this version or an older one.

        Raises:
            InputError: the folder holds no such model, or a newer version wrote it.
        """
        return restored(Path(folder), (KIND,), cls.from_saved)

    def saved(self) -> Saved:
        """Return what files hold of the model."""
        arrays, config = parts_of(self._found())
        return Saved(KIND, arrays, {"parameters": self.get_params(), **config})

    @classmethod
    def from_saved(cls, saved: Saved) -> StateSpace:
        """Return the model of :meth:`saved`."""
        model = cls(**saved.config["parameters"])
        model._keep(from_parts(saved.arrays, saved.config, model.sample_time))
        return model

    @property
    def data_(self) -> Experiments:
        """The data of the fit, packed; a file does not hold them."""
        return require_data(getattr(self, "_data", None))

    # --- inside ---

    def _found(self) -> Identified:
        """Return the identified system, with the sample time that holds now."""
        if not hasattr(self, "identified_"):
            raise NotFittedError("this StateSpace is not fitted yet: call fit(U, Y) first")
        return replace(self.identified_, sample_time=self.sample_time)
