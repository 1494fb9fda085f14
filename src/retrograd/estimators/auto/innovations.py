"""Innovations models of one series: a state, what moves it, and what it says of the next value.

    x_{t+1} = A x_t + K e_t          z_t = C x_t + offset + e_t

z is the series, or its differences over ``lag`` rows, which forecasts sum up again. A forecast h steps ahead is
C A^{h-1} x_{t+1}, and its error is Σ_{j<h} ψ_j e_{t+h-j} with ψ_0 = 1, ψ_j = C A^{j-1} K.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from retrograd.errors import InputError
from retrograd.estimators.forecasting.states import Difference
from retrograd.estimators.identification.estimator import StateSpace

__all__ = ["Innovations"]

Array = np.ndarray[Any, Any]

# Rows below which nothing is identified.
_FEWEST = 30


@dataclass(frozen=True)
class Innovations:
    """A model in innovations form.

    Attributes:
        A: ``(n, n)``.
        K: ``(n,)``.
        C: ``(n,)``.
        offset: of z.
        x0: the state before the first row, ``(n,)``.
        lag: rows of the difference; 0 for none.
        variance: of e.
    """

    A: Array
    K: Array
    C: Array
    offset: float
    x0: Array
    lag: int
    variance: float

    @classmethod
    def fit(cls, y: Array, difference: Difference) -> Innovations:
        """Identify it: the order is :class:`retrograd.estimators.StateSpace`'s choice.

        Raises:
            InputError: there are too few rows, or they are all alike.
        """
        lag = {None: 0, "last": 1}.get(difference, difference)  # type: ignore[arg-type]
        z = _differences(y, int(lag or 0))
        if len(z) < _FEWEST or np.ptp(z) == 0:
            raise InputError(f"y has {len(y)} rows: too few, or too alike, for an innovations model")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = StateSpace(noise="innovations", max_order=6, max_iter=50, stability=True).fit(None, z)
        variance = float(model.innovation_covariance_[0, 0])
        system = model.A_, model.K_[:, 0], model.C_[0], float(model.offset_[0]), model.x0_[0]
        return cls(*system, int(lag or 0), variance)

    @property
    def burn(self) -> int:
        """The first row that can be an origin."""
        return self.lag

    def forecast(self, y: Array, start: int, stop: int, steps: Array) -> Array:
        """Return forecasts from the rows ``start`` to ``stop`` as the last known ones, ``(stop - start, K)``."""
        z = _differences(y, self.lag)
        longest = int(steps[-1])
        # Row k of ahead is C A^k.
        ahead = np.empty((longest, len(self.C)))
        row = self.C
        for k in range(longest):
            ahead[k], row = row, row @ self.A
        state, states = self.x0, np.empty((stop - start, len(self.C)))
        predictor, drive = self.A - np.outer(self.K, self.C), z - self.offset
        for t in range(stop - self.lag):
            state = predictor @ state + self.K * drive[t]
            if t + self.lag >= start:
                states[t + self.lag - start] = state
        found = states @ ahead.T + self.offset
        if self.lag:
            rows = np.arange(start, stop)[:, None] + np.arange(1, self.lag + 1) - self.lag
            base = y[rows]
            for k in range(longest):
                found[:, k] += base[:, k] if k < self.lag else found[:, k - self.lag]
        return np.asarray(found[:, steps - 1])

    def deviation(self, y: Array, steps: Array) -> Array:
        """Return the standard deviation of forecasts, ``(K,)``."""
        psi, state = np.ones(int(steps[-1])), self.K
        for k in range(1, len(psi)):
            psi[k], state = self.C @ state, self.A @ state
            if 0 < self.lag <= k:
                psi[k] += psi[k - self.lag]
        return np.asarray(np.sqrt(self.variance * (psi**2).cumsum())[steps - 1])

    def arrays(self) -> dict[str, Array]:
        """Return the numbers that it forecasts by."""
        rest = np.array([self.offset, self.lag, self.variance])
        return {"A": self.A, "K": self.K, "C": self.C, "x0": self.x0, "rest": rest}

    @classmethod
    def from_arrays(cls, arrays: dict[str, Array]) -> Innovations:
        """Return the model of :meth:`arrays`."""
        offset, lag, variance = arrays["rest"].tolist()
        return cls(arrays["A"], arrays["K"], arrays["C"], offset, arrays["x0"], int(lag), variance)

    @staticmethod
    def shapes(arrays: dict[str, Array]) -> dict[str, tuple[int, ...]]:
        """Return the shapes that :meth:`arrays` have of a model of this order."""
        order = len(arrays["C"])
        return {"A": (order, order), "K": (order,), "C": (order,), "x0": (order,), "rest": (3,)}


def _differences(y: Array, lag: int) -> Array:
    return y[lag:] - y[: len(y) - lag] if lag else y
