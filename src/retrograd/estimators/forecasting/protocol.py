"""The public methods of a forecaster: they read tables, and hand results back in the caller's kind.

The names and meanings are those of sktime's forecasters (:mod:`retrograd.estimators.sktime` makes one of
them). A forecaster has the inner methods ``_fit``, ``_predict``, ``_predict_interval``, ``_predict_quantiles`` and
``_update``, which take and return tables: a column a series, instances as outer levels of a ``MultiIndex``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from retrograd.errors import InputError, require_number
from retrograd.estimators.forecasting.tables import (
    NAMELESS,
    Clock,
    beside,
    inputs_ahead,
    instance_of,
    to_table,
    with_instances,
)
from retrograd.tables.align import by_name

__all__ = ["ARRAYS", "ForecasterBase", "Horizon"]

Array = np.ndarray[Any, Any]

# Forms of y that have no times.
ARRAYS = ("vector", "matrix", "list")


@dataclass(frozen=True)
class Horizon:
    """Steps ahead, distinct and in order."""

    steps: Array

    @classmethod
    def of(cls, fh: Any) -> Horizon:
        """Read an integer, a range, a list or an array of steps.

        Raises:
            InputError: they are not distinct whole numbers ≥ 1.

        Examples:
            >>> Horizon.of(range(1, 4)).steps
            array([1, 2, 3])
        """
        if isinstance(fh, Horizon):
            return fh
        steps = np.atleast_1d(np.asarray(fh))
        whole = steps.ndim == 1 and len(steps) > 0 and np.issubdtype(steps.dtype, np.integer)
        if not whole or (steps < 1).any() or len(set(steps.tolist())) < len(steps):
            raise InputError(f"fh is {fh!r}, expected steps ahead: distinct whole numbers of at least 1")
        return cls(np.sort(steps).astype(np.int64))


class ForecasterBase(BaseEstimator):  # type: ignore[misc]  # scikit-learn is not typed
    """What every forecaster does with the caller's data."""

    _form: str
    _clocks: dict[Any, Clock]
    _fh: Horizon | None
    _input_names: list[Any]
    _index_names: Any

    def fit(self, y: Any, X: Any = None, fh: Any = None) -> Any:
        """Fit to the past.

        Args:
            y: ``(T,)`` or ``(T, series)`` array or pandas object, a panel with a ``MultiIndex`` (instance, time), or a
                list of arrays.
            X: inputs known ahead, beside y.
            fh: steps ahead; a direct read-out needs them now.

        Returns:
            The estimator itself.

        Raises:
            InputError: an argument, or the data, cannot be used; the message says which, and what to do.
        """
        table, self._form = to_table(y)
        self._fh = None if fh is None else Horizon.of(fh)
        if self._fh is None and self._needs_fh():
            raise InputError(
                "fh is None: a direct read-out is fitted for its horizons, so fit needs them, e.g. fh=range(1, 25)"
            )
        self._fit(table, beside(X, table), self._fh)
        self._is_fitted = True
        return self

    def predict(self, fh: Any = None, X: Any = None) -> Any:
        """Return forecasts in the kind of y.

        Args:
            fh: steps ahead; those of ``fit`` by default.
            X: inputs at the times to predict (a recursive read-out also goes through the times between).

        Raises:
            InputError: inputs are missing, or ``fh`` is not what a direct read-out was fitted for.
        """
        return self._out(self._predict(self._horizon(fh), self._ahead(X)))

    def predict_interval(self, fh: Any = None, X: Any = None, coverage: float | Sequence[float] = 0.9) -> pd.DataFrame:
        """Return a table with columns (series, coverage, "lower" or "upper")."""
        levels = _parts("coverage", coverage)
        return self._predict_interval(self._horizon(fh), self._ahead(X), levels)

    def predict_quantiles(
        self, fh: Any = None, X: Any = None, alpha: float | Sequence[float] = (0.05, 0.95)
    ) -> pd.DataFrame:
        """Return a table with columns (series, alpha)."""
        levels = _parts("alpha", alpha)
        return self._predict_quantiles(self._horizon(fh), self._ahead(X), levels)

    def update(self, y: Any, X: Any = None, update_params: bool = True) -> Any:
        """Append newer values, and with ``update_params`` fit again with their windows added to the old ones.

        States, scaling and the penalty stay as they are. Values at times that were seen already are left out; arrays
        have no times and go on where the series ended.
        """
        self._check_is_fitted()
        table, _ = to_table(y)
        self._update(table, beside(X, table), update_params)
        return self

    def fit_predict(self, y: Any, X: Any = None, fh: Any = None, X_pred: Any = None) -> Any:
        """Fit, then predict."""
        return self.fit(y, X, fh).predict(X=X_pred)

    @property
    def is_fitted(self) -> bool:
        """Whether ``fit`` was called."""
        return bool(getattr(self, "_is_fitted", False))

    @property
    def cutoff(self) -> pd.Index | None:
        """The last time that was seen, in an index of length 1; None before ``fit``."""
        clocks = getattr(self, "_clocks", {})
        return max((clock.last for clock in clocks.values()), key=lambda last: last[0]) if clocks else None

    def clone(self) -> Any:
        """Return an unfitted forecaster with the same parameters."""
        from sklearn.base import clone

        return clone(self)

    def _check_is_fitted(self) -> None:
        if not self.is_fitted:
            raise NotFittedError(f"this {type(self).__name__} is not fitted: call fit first")

    def _horizon(self, fh: Any) -> Horizon:
        self._check_is_fitted()
        if fh is None and self._fh is None:
            raise InputError("fh is None, in fit too: say how many steps ahead, e.g. fh=range(1, 25)")
        asked = self._fh if fh is None else Horizon.of(fh)
        assert asked is not None
        if self._needs_fh() and not set(asked.steps) <= set(self._fh.steps if self._fh else ()):
            fitted = [] if self._fh is None else self._fh.steps.tolist()
            raise InputError(
                f"fh is {asked.steps.tolist()}, but the read-out was fitted for {fitted}: fit again with all of them"
            )
        return asked

    def _ahead(self, X: Any) -> pd.DataFrame | None:
        if X is None or isinstance(X, pd.DataFrame):
            return X
        return to_table(X)[0]

    @abstractmethod
    def tails(self) -> tuple[pd.DataFrame, pd.DataFrame | None]:
        """Return the ends of the series that it goes on from, and of their inputs, as tables."""

    def _tables_of_tails(self, values: list[Array], columns: Any) -> pd.DataFrame:
        """Return the last rows of every instance under their times."""
        times = [clock.before(len(part)) for part, clock in zip(values, self._clocks.values(), strict=True)]
        joined = np.concatenate([part[len(part) - len(index) :] for part, index in zip(values, times, strict=True)])
        index = times[0] if None in self._clocks else with_instances(list(self._clocks), times, self._index_names)
        table: pd.DataFrame = pd.DataFrame(joined, index=index, columns=columns)
        return table

    def _known_ahead(self, key: Any, clock: Clock, X: pd.DataFrame | None, wanted: Array, steps: Array) -> Array:
        """Return an instance's inputs ``wanted`` steps ahead, ``(len(wanted), E)``; ``steps`` are those to predict."""
        times = clock.after(wanted)
        if X is None:
            raise InputError(
                f"X is None, but the forecaster was fitted with the inputs {self._input_names}: give their values at "
                f"the times to predict, {times[0]} to {times[-1]}"
            )
        X = by_name("X", X, [str(name) for name in self._input_names])
        return inputs_ahead(instance_of(X, key), times, wanted, steps, counted=self._form in ARRAYS)

    def _arranged(self, values: Array, steps: Array, columns: Any) -> Any:
        """Return ``(I × K, ...)`` values under their instances and times."""
        times = [clock.after(steps) for clock in self._clocks.values()]
        if None in self._clocks:
            return pd.DataFrame(values, index=times[0], columns=columns)
        index = with_instances(list(self._clocks), times, self._index_names)
        return pd.DataFrame(values, index=index, columns=columns)

    def _out(self, table: pd.DataFrame) -> Any:
        if self._form == "series":
            series = table.iloc[:, 0]
            series.name = None if series.name == NAMELESS else series.name
            return series
        if self._form == "vector":
            return table.to_numpy()[:, 0]
        if self._form == "matrix":
            return table.to_numpy()
        if self._form == "list":
            return [part.droplevel(0).to_numpy() for _, part in table.groupby(level=0)]
        if self._form == "frames":
            return [part.droplevel(0) for _, part in table.groupby(level=0)]
        return table

    @abstractmethod
    def _needs_fh(self) -> bool: ...

    @abstractmethod
    def _fit(self, y: pd.DataFrame, X: pd.DataFrame | None, fh: Horizon | None) -> Any: ...

    @abstractmethod
    def _predict(self, fh: Horizon, X: pd.DataFrame | None) -> pd.DataFrame: ...

    @abstractmethod
    def _predict_interval(self, fh: Horizon, X: pd.DataFrame | None, coverage: list[float]) -> pd.DataFrame: ...

    @abstractmethod
    def _predict_quantiles(self, fh: Horizon, X: pd.DataFrame | None, alpha: list[float]) -> pd.DataFrame: ...

    @abstractmethod
    def _update(self, y: pd.DataFrame, X: pd.DataFrame | None, update_params: bool) -> Any: ...


def _parts(name: str, given: float | Sequence[float]) -> list[float]:
    """Return probabilities as a list; 95 is none."""
    parts = list(given) if isinstance(given, Sequence | np.ndarray) and not isinstance(given, str) else [given]
    return [require_number(name, part, above=0, below=1) for part in parts]
