"""Forecasts of one or many series: a linear recurrence that remembers the past, and a read-out in closed form.

The tables, dates and horizons are here; the arithmetic is in :mod:`retrograd.estimators.forecasting.model`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from retrograd.errors import InputError, near_names
from retrograd.estimators.forecasting import files
from retrograd.estimators.forecasting.calendar import calendar_inputs, calendar_names, require_change
from retrograd.estimators.forecasting.model import ForecastModel
from retrograd.estimators.forecasting.protocol import Base, Horizon
from retrograd.estimators.forecasting.settings import Instance, Settings
from retrograd.estimators.forecasting.states import Difference, Linear
from retrograd.estimators.forecasting.tables import (
    Clock,
    as_lists,
    beside,
    form_of,
    instance_of,
    read_instances,
    require_independent,
    rows_ahead,
    to_table,
    with_instances,
)
from retrograd.estimators.model_files import Saved
from retrograd.estimators.recurrent.training import Epoch

__all__ = ["Forecaster"]

Array = np.ndarray[Any, Any]

# Forms of y that have no times.
ARRAYS = ("vector", "matrix", "list")


class Forecaster(Base):
    """Forecast one or many series by a linear recurrence and a linear read-out, with sktime's protocol.

    With y the series (scaled, differenced) and x inputs known ahead,

        h_t = A h_{t-1} + w y_t          ŷ_{t+h} = base_t + W_h h_t + β_h x_{t+h}

    The read-out is the ridge solution, all horizons by one Cholesky factor. With lags as states, ``direct`` and
    ``difference="last"`` this is NLinear (Zeng et al., "Are Transformers Effective for Time Series Forecasting?",
    2023) at its optimum. Where sktime is installed this is one of its forecasters: every method, pipeline and splitter
    of sktime applies; without it, the methods here take arrays, pandas objects and lists of them.

    Args:
        states: what is remembered: ``"lags"``, the last values; ``"diagonal"``, exponential memories with
            logarithmically spaced time constants and oscillators at the strongest periods of the data; ``"dense"``, a
            full transition matrix started from those.
        lags: how many values a look-back has, or the longest time constant of other states. By default as many as
            leave about ten times as many windows, at most 336.
        hidden: width of diagonal (complex) or dense (real) states.
        readout: ``"direct"``, one map for every horizon, or ``"recursive"``, one step ahead and again from there.
        difference: what is subtracted from window and target: ``"last"``, the last value; a number of steps, the value
            one season before; None, nothing.
        scale: scale every series, and the inputs, to mean 0 and deviation 1 over the training part.
        calendar: inputs made from the dates of the index: any of ``"minute"``, ``"hour"``, ``"weekday"``, ``"day"``,
            ``"month"``; ``"hour*3"`` for three harmonics.
        share: one read-out for all series (a global model), or one for each.
        ridge: penalty relative to the mean square of a feature; ``"auto"`` takes the best of a grid by
            cross-validation over five contiguous parts of the training data.
        intercept: a constant beside the state; by default only without differencing.
        epochs: steps of training of diagonal or dense states by exact gradients through time, the read-out being at its
            optimum in each.
        optimizer: ``"sgd"``, ``"adam"``, ``"adamw"`` or ``"lbfgs"``.
        lr: learning rate; the optimizer's own by default.
        seed: of a dense state's first coordinates.

    Attributes:
        ridge_: the penalty taken, of every read-out.
        history_: loss and gradient norm of every epoch.

    Examples:
        >>> import numpy as np
        >>> from retrograd.estimators import Forecaster
        >>> t = np.arange(200)
        >>> y = 10 + np.sin(2 * np.pi * t / 12)
        >>> forecaster = Forecaster(lags=24).fit(y, fh=[1, 2, 3])
        >>> expected = 10 + np.sin(2 * np.pi * (t[-1] + [1, 2, 3]) / 12)
        >>> bool(np.abs(forecaster.predict() - expected).max() < 1e-3)
        True
    """

    _tags = {  # noqa: RUF012 (sktime's way of saying what an estimator can do)
        "authors": ["retrograd"],
        "python_dependencies": None,
        "y_inner_mtype": ["pd.DataFrame", "pd-multiindex", "pd_multiindex_hier"],
        "X_inner_mtype": ["pd.DataFrame", "pd-multiindex", "pd_multiindex_hier"],
        "capability:multivariate": True,
        "capability:exogenous": True,
        "capability:insample": False,
        "capability:pred_int": True,
        "capability:pred_int:insample": False,
        "capability:missing_values": False,
        "capability:categorical_in_X": False,
        "capability:update": True,
        "requires-fh-in-fit": True,
        "X-y-must-have-same-index": True,
    }
    # What an update needs is kept in moments and a tail, not as the data itself.
    _config = {"remember_data": False}  # noqa: RUF012

    def __init__(
        self,
        states: str = "lags",
        *,
        lags: int | None = None,
        hidden: int = 32,
        readout: str = "direct",
        difference: Difference = "last",
        scale: bool = True,
        calendar: Sequence[str] = (),
        share: bool = True,
        ridge: str | float = "auto",
        intercept: bool | None = None,
        epochs: int = 0,
        optimizer: str = "adam",
        lr: float | None = None,
        seed: int = 0,
    ) -> None:
        self.states = states
        self.lags = lags
        self.hidden = hidden
        self.readout = readout
        self.difference = difference
        self.scale = scale
        self.calendar = calendar
        self.share = share
        self.ridge = ridge
        self.intercept = intercept
        self.epochs = epochs
        self.optimizer = optimizer
        self.lr = lr
        self.seed = seed
        super().__init__()
        self._y = self._X = None  # where sktime keeps the data, if it is configured to
        if hasattr(self, "set_tags") and readout == "recursive":
            self.set_tags(**{"requires-fh-in-fit": False})

    # The protocol's inner methods: tables in, tables out.

    def _needs_fh(self) -> bool:
        return self.readout != "recursive"

    def fit(self, y: Any, X: Any = None, fh: Any = None) -> Forecaster:
        """Fit to the past.

        Args:
            y: ``(T,)`` or ``(T, series)`` array or pandas object, a panel with a ``MultiIndex`` (instance, time), or a
                list of arrays.
            X: inputs known ahead, beside y.
            fh: steps ahead; a direct read-out needs them now.

        Raises:
            InputError: an argument, or the data, cannot be used; the message says which, and what to do.
        """
        super().fit(as_lists(y), as_lists(X), fh)
        self._form = form_of(y)
        return self

    def predict(self, fh: Any = None, X: Any = None) -> Any:
        """Return forecasts in the kind of y.

        Args:
            fh: steps ahead; those of ``fit`` by default.
            X: inputs at the times to predict (a recursive read-out also goes through the times between).

        Raises:
            InputError: inputs are missing, or ``fh`` is not what a direct read-out was fitted for.
        """
        found = super().predict(fh, as_lists(X))
        # Arrays come back as arrays of their own shape.
        if self._form == "vector":
            return found[:, 0] if np.ndim(found) == 2 else found
        return [np.asarray(part) for part in found] if self._form == "list" else found

    def update(self, y: Any, X: Any = None, update_params: bool = True) -> Forecaster:
        """Append newer values, and with ``update_params`` fit again with their windows added to the old ones.

        States, scaling and the penalty stay as they are. Values at times that were seen already are left out; arrays
        have no times and go on where the series ended.
        """
        super().update(as_lists(y), as_lists(X), update_params)
        return self

    def _fit(self, y: pd.DataFrame, X: pd.DataFrame | None, fh: Any) -> Forecaster:
        if (loaded := files.LOADING.get()) is not None:
            self._model, about = loaded
            for name, value in about.items():
                setattr(self, f"_{name}", value)
            self._publish()
            return self
        settings = Settings.of(self)
        self._columns, self._index_names = y.columns, y.index.names
        self._input_names = [] if X is None else list(X.columns)
        parts = self._instances(y, X)
        self._clocks = {key: Clock.of(index) for key, index, _ in parts}
        instances = [instance for _, _, instance in parts]
        self._check_inputs(np.concatenate([instance.x for instance in instances]))
        steps = np.array([1]) if settings.recursive else self._steps(fh)
        self._model = ForecastModel.fit(instances, steps, settings)
        self._publish()
        return self

    def _predict(self, fh: Any, X: pd.DataFrame | None) -> pd.DataFrame:
        steps = self._steps(fh)
        found = []
        for number, (key, clock) in enumerate(self._clocks.items()):
            found.append(self._model.predict(number, self._ahead_of(key, clock, X, steps), steps))
        table: pd.DataFrame = self._table(np.concatenate(found), steps, self._columns)
        return table

    def _predict_quantiles(self, fh: Any, X: pd.DataFrame | None, alpha: list[float]) -> pd.DataFrame:
        from scipy.stats import norm

        steps = self._steps(fh)
        center = self._predict(fh, X).to_numpy()
        deviation = np.concatenate([self._model.deviation(number, steps) for number in range(len(self._clocks))])
        bounds = center[:, :, None] + deviation[:, :, None] * norm.ppf(np.asarray(alpha, dtype=float))
        columns = pd.MultiIndex.from_product([self._variables(), alpha])
        table: pd.DataFrame = self._table(bounds.reshape(len(bounds), -1), steps, columns)
        return table

    def _predict_interval(self, fh: Any, X: pd.DataFrame | None, coverage: list[float]) -> pd.DataFrame:
        alpha = [bound for level in coverage for bound in (0.5 - level / 2, 0.5 + level / 2)]
        table = self._predict_quantiles(fh, X, alpha)
        table.columns = pd.MultiIndex.from_product([self._variables(), coverage, ["lower", "upper"]])
        return table

    def _update(self, y: pd.DataFrame, X: pd.DataFrame | None = None, update_params: bool = True) -> Forecaster:
        new: dict[int, tuple[Array, Array]] = {}
        order = list(self._clocks)
        if list(y.columns) != list(self._columns):
            raise InputError(f"y has columns {list(y.columns)}, the forecaster was fitted to {list(self._columns)}")
        for key, index, instance in self._instances(y, X, moving=self._form in ARRAYS):
            if key not in self._clocks:
                raise InputError(
                    f"y has the instance {key!r}, which was not fitted: {near_names(str(key), map(str, order))}"
                )
            unseen = np.asarray(index > self._clocks[key].last[0])
            if not unseen.any():
                continue
            self._clocks[key].require_next(index[unseen][0])
            new[order.index(key)] = instance.y[unseen], instance.x[unseen]
            clock = Clock.of(index)
            self._clocks[key] = Clock(clock.last, clock.freq or self._clocks[key].freq)
        self._model.extend(new, update_params)
        return self

    # What else a user needs.

    def backtest(
        self, y: Any, X: Any = None, *, start: int, fh: Any = None, stride: int = 1, instance: Any = None
    ) -> Array:
        """Forecast from every origin of a later part, without fitting again: rolling origins, all at once.

        Args:
            y: the whole series of one instance, ``(T, series)`` or ``(T,)``, with the past that the first origin needs.
            X: its inputs, ``(T, inputs)``.
            start: row of the first step to predict: the first origin is the row before.
            fh: steps ahead; those of ``fit`` by default.
            stride: how many rows between two origins.
            instance: which one it is, of a forecaster fitted to several.

        Returns:
            ``(windows, K, series)``: forecast ``[i, k]`` is of row ``start + stride * i + fh[k] - 1``. The last window
            is the last one whose targets are all in y.

        Raises:
            InputError: there is too little before ``start`` or after it, or the columns are not those of ``fit``.

        Examples:
            >>> import numpy as np
            >>> y = np.sin(np.arange(300.0))
            >>> forecaster = Forecaster(lags=10).fit(y[:200], fh=[1, 2])
            >>> forecaster.backtest(y, start=200).shape
            (99, 2, 1)
        """
        number, series = self._number(instance), self._one(y, X)
        steps = self._model.horizons if fh is None and self._needs_fh() else Horizon.of(self.fh if fh is None else fh)
        steps = np.asarray(steps.to_relative(self.cutoff) if not isinstance(steps, np.ndarray) else steps)
        if self._needs_fh() and not set(steps.tolist()) <= set(self._model.horizons.tolist()):
            raise InputError(
                f"fh is {steps.tolist()}, but the read-out was fitted for other steps: fit again with these"
            )
        first, stop = start - 1, len(series.y) - int(steps[-1])
        burn = self._model.states.burn
        if first < burn or stop <= first:
            raise InputError(
                f"start is {start}: it must be from {burn + 1} (the look-back before it) to {stop} (the last target is "
                f"{int(steps[-1])} rows after an origin; y has {len(series.y)} rows)"
            )
        return self._model.predict_from(number, series, first, stop, steps)[::stride]

    def recurrence(self, X: Any, y: Any, *, experiment: int = 0) -> dict[str, Any]:
        """Return the states over a series as a scan, ``A``, ``u`` and ``h0``, and the ``loss`` of their forecasts.

        Every column is a sequence. The loss is the mean squared error at the horizons, scaled as in the training and
        without the penalty, to first order in the states: its value and its gradient are exact.

        Args:
            X: inputs; None for none.
            y: one instance's series, with the columns of ``fit``.
            experiment: which instance of ``fit`` it is, by its number.

        Raises:
            InputError: the forecaster is not fitted, its states are lags, or y is too short.
        """
        if not self.is_fitted:
            raise InputError("this Forecaster is not fitted: call fit first")
        states = self._model.states
        if not isinstance(states, Linear):
            raise InputError(
                f"states are 'lags': the gradient of a window goes back {states.width} steps and no further; "
                "only 'diagonal' and 'dense' states have a recurrence to follow"
            )
        values, gradient, value = self._model.gradient_of_states(experiment, self._one(y, X))
        with torch.no_grad():
            A, u, h0 = states.driven(values)
            g = states.as_states(torch.from_numpy(gradient)).conj()

        def loss(states: Tensor) -> Tensor:
            return value + torch.as_tensor((g * (states - states.detach())).real.sum())

        return {"A": A, "u": u, "h0": h0, "loss": loss}

    def save(self, folder: str | Path | None = None, *, overwrite: bool = False) -> Any:
        """Write ``model.safetensors`` and ``config.json``: all that :meth:`load`, forecasts and updates need.

        Where sktime is installed, a small ``folder.zip`` beside it leads :func:`sktime.base.load` to the folder.

        Args:
            folder: made if it is not there. None returns a pair for :func:`sktime.base.load` instead.
            overwrite: replace what is there.

        Raises:
            InputError: there is something, or names in the data are neither text nor numbers.
        """
        if not self.is_fitted:
            raise InputError("this Forecaster is not fitted: call fit first")
        if folder is None:
            return type(self), files.as_bytes(self)
        return files.write(self, Path(folder), overwrite)

    @classmethod
    def load(cls, folder: str | Path) -> Forecaster:
        """Read what :meth:`save` wrote, now or in an older version.

        Raises:
            InputError: the folder holds no forecaster, or a newer version wrote it.
        """
        forecaster: Forecaster = files.read(cls, Path(folder))
        return forecaster

    def saved(self) -> Saved:
        """Return what files hold of the forecaster."""
        if not self.is_fitted:
            raise InputError("this Forecaster is not fitted: call fit first")
        return files.saved_of(self)

    @classmethod
    def from_saved(cls, saved: Saved) -> Forecaster:
        """Return the forecaster of :meth:`saved`."""
        forecaster: Forecaster = files.from_saved(cls, saved)
        return forecaster

    @classmethod
    def load_from_serial(cls, serial: bytes) -> Forecaster:
        """Read what ``save(None)`` returned, as :func:`sktime.base.load` does."""
        forecaster: Forecaster = files.from_bytes(cls, serial)
        return forecaster

    @classmethod
    def load_from_path(cls, serial: str | Path) -> Forecaster:
        """Read the folder that a ``.zip`` beside it leads to, as :func:`sktime.base.load` does."""
        return cls.load(Path(serial).with_suffix(""))

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        """Return settings for sktime's checks."""
        return [
            {"lags": 3},
            {"states": "diagonal", "hidden": 4, "readout": "recursive", "difference": None, "ridge": 0.01},
        ]

    # From tables to arrays.

    def _instances(
        self, y: pd.DataFrame, X: pd.DataFrame | None, *, moving: bool = False
    ) -> list[tuple[Any, Any, Instance]]:
        """Return key, times and arrays of every instance, which go on where they ended if they are ``moving``."""
        if X is not None and list(X.columns) != self._input_names:
            raise InputError(f"X has columns {list(X.columns)}, the forecaster was fitted with {self._input_names}")
        if X is None and self._input_names:
            raise InputError(f"X is None, but the forecaster was fitted with the inputs {self._input_names}")
        return read_instances(y, X, self.calendar, self._clocks if moving else {})

    def _one(self, y: Any, X: Any) -> Instance:
        """Return the whole series of one instance, whose columns are those of ``fit``."""
        table = to_table(y)[0]
        if table.shape[1] != len(self._columns):
            raise InputError(f"y has {table.shape[1]} series, the forecaster was fitted to {len(self._columns)}")
        ((_, _, series),) = self._instances(table.set_axis(self._columns, axis=1), beside(X, table))
        return series

    def _check_inputs(self, x: Array) -> None:
        made = len(calendar_names(self.calendar))
        require_change(x[:, :made], self.calendar)
        require_independent(x, [*calendar_names(self.calendar), *self._input_names], made)

    def _ahead_of(self, key: Any, clock: Clock, X: pd.DataFrame | None, steps: Array) -> Array:
        """Return the inputs of steps 1 to the last, ``(H, E)``; of a direct read-out only those at ``steps``."""
        longest = int(steps[-1])
        made = len(calendar_names(self.calendar))
        ahead = np.zeros((longest, made + len(self._input_names)))
        if not ahead.shape[1]:
            return ahead
        wanted = steps if self._needs_fh() else np.arange(1, longest + 1)
        times = clock.after(wanted)
        ahead[wanted - 1, :made] = calendar_inputs(times, self.calendar)
        if not self._input_names:
            return ahead
        if X is None:
            raise InputError(
                f"X is None, but the forecaster was fitted with the inputs {self._input_names}: give their values at "
                f"the times to predict, {times[0]} to {times[-1]}"
            )
        counted = self._form in ARRAYS
        ahead[wanted - 1, made:] = rows_ahead(instance_of(X, key), times, wanted, steps, counted=counted)
        return ahead

    @property
    def _fh_given(self) -> Array | None:
        """The horizon that the protocol's base holds, in steps."""
        fh = getattr(self, "_fh", None)
        return None if fh is None else self._steps(fh)

    def _steps(self, fh: Any) -> Array:
        return np.asarray(fh.to_relative(self.cutoff), dtype=np.int64)

    def _table(self, values: Array, steps: Array, columns: Any) -> Any:
        """Return ``(I × K, ...)`` values under their instances and times."""
        times = [clock.after(steps) for clock in self._clocks.values()]
        if None in self._clocks:
            return pd.DataFrame(values, index=times[0], columns=columns)
        index = with_instances(list(self._clocks), times, self._index_names)
        return pd.DataFrame(values, index=index, columns=columns)

    def _variables(self) -> list[Any]:
        return list(self._columns)

    def _number(self, instance: Any) -> int:
        keys = list(self._clocks)
        if instance is None and len(keys) == 1:
            return 0
        if instance not in keys:
            raise InputError(f"instance is {instance!r}: {near_names(str(instance), map(str, keys))}")
        return keys.index(instance)

    def _publish(self) -> None:
        self.ridge_ = [group.ridge for group in self._model.groups]
        self.history_: list[Epoch] = list(self._model.history)
