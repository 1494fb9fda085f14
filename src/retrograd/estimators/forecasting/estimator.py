"""Forecasts of one or many series: a linear recurrence that remembers the past, and a read-out in closed form.

The tables, dates and horizons are here; the arithmetic is in :mod:`retrograd.estimators.forecasting.model`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
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
from retrograd.estimators.forecasting.protocol import ARRAYS, ForecasterBase, Horizon
from retrograd.estimators.forecasting.settings import Instance, Settings
from retrograd.estimators.forecasting.states import Difference, Linear
from retrograd.estimators.forecasting.tables import (
    Clock,
    beside,
    read_instances,
    require_independent,
    to_table,
)
from retrograd.estimators.model_files import Saved, restored, write_model
from retrograd.estimators.recurrent.training import Epoch
from retrograd.tables.align import by_name

__all__ = ["Forecaster"]

Array = np.ndarray[Any, Any]


class Forecaster(ForecasterBase):
    """Forecast one or many series by a linear recurrence and a linear read-out, with the methods of sktime.

    With y the series (scaled, differenced) and x inputs known ahead,

        h_t = A h_{t-1} + w y_t          ŷ_{t+h} = base_t + W_h h_t + β_h x_{t+h}

    The read-out is the ridge solution, all horizons by one Cholesky factor. With lags as states, ``direct`` and
    ``difference="last"`` this is NLinear (Zeng et al., "Are Transformers Effective for Time Series Forecasting?",
    2023) at its optimum. :class:`retrograd.estimators.SktimeForecaster` makes a forecaster of sktime of it, for its
    pipelines and splitters.

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

    # Tables in, tables out.

    def _needs_fh(self) -> bool:
        return not Settings.of(self).recursive

    def _fit(self, y: pd.DataFrame, X: pd.DataFrame | None, fh: Horizon | None) -> Forecaster:
        settings = Settings.of(self)
        self._columns, self._index_names = y.columns, y.index.names
        self._input_names = [] if X is None else list(X.columns)
        parts = self._instances(y, X)
        self._clocks = {key: Clock.of(index) for key, index, _ in parts}
        instances = [instance for _, _, instance in parts]
        self._check_inputs(np.concatenate([instance.x for instance in instances]))
        # A direct read-out was not let in without its horizons.
        steps = np.array([1]) if settings.recursive or fh is None else fh.steps
        self._model = ForecastModel.fit(instances, steps, settings)
        self._publish()
        return self

    def _predict(self, fh: Horizon, X: pd.DataFrame | None) -> pd.DataFrame:
        steps = fh.steps
        found = []
        for number, (key, clock) in enumerate(self._clocks.items()):
            found.append(self._model.predict(number, self._ahead_of(key, clock, X, steps), steps))
        table: pd.DataFrame = self._arranged(np.concatenate(found), steps, self._columns)
        return table

    def _predict_quantiles(self, fh: Horizon, X: pd.DataFrame | None, alpha: list[float]) -> pd.DataFrame:
        from scipy.stats import norm

        center = self._predict(fh, X).to_numpy()
        deviation = self._model.deviations_now(fh.steps)
        bounds = center[:, :, None] + deviation[:, :, None] * norm.ppf(np.asarray(alpha, dtype=float))
        columns = pd.MultiIndex.from_product([self._variables(), alpha])
        table: pd.DataFrame = self._arranged(bounds.reshape(len(bounds), -1), fh.steps, columns)
        return table

    def _predict_interval(self, fh: Horizon, X: pd.DataFrame | None, coverage: list[float]) -> pd.DataFrame:
        alpha = [bound for level in coverage for bound in (0.5 - level / 2, 0.5 + level / 2)]
        table = self._predict_quantiles(fh, X, alpha)
        table.columns = pd.MultiIndex.from_product([self._variables(), coverage, ["lower", "upper"]])
        return table

    def _update(self, y: pd.DataFrame, X: pd.DataFrame | None, update_params: bool) -> Forecaster:
        new: dict[int, tuple[Array, Array]] = {}
        order = list(self._clocks)
        if list(y.columns) != list(self._columns):
            raise InputError(f"y has columns {list(y.columns)}, the forecaster was fitted to {list(self._columns)}")
        for key, index, instance in self._instances(y, X, moving=True):
            if key not in self._clocks:
                raise InputError(
                    f"y has the instance {key!r}, which was not fitted: {near_names(str(key), map(str, order))}"
                )
            unseen = np.asarray(index > self._clocks[key].last[0])
            if not unseen.any():
                continue
            new[order.index(key)] = instance.y[unseen], instance.x[unseen]
            self._clocks[key] = replace(self._clocks[key], last=index[-1:])
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
        steps = self._horizon(fh).steps
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
        self._check_is_fitted()
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

    def save(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write the model to a folder: ``model.safetensors`` and ``config.json``, whole, no pickle.

        Raises:
            InputError: the folder has a model and ``overwrite`` is false, or names are neither text nor numbers.
        """
        write_model(Path(folder), self.saved(), overwrite=overwrite)

    @classmethod
    def load(cls, folder: str | Path) -> Forecaster:
        """Read what :meth:`save` wrote, by this version or an older one.

        Raises:
            InputError: the folder holds no forecaster, or a newer version wrote it.
        """
        return restored(Path(folder), (files.KIND,), cls.from_saved)

    def saved(self) -> Saved:
        """Return what files hold of the forecaster."""
        self._check_is_fitted()
        return files.saved_of(self)

    @classmethod
    def from_saved(cls, saved: Saved) -> Forecaster:
        """Return the forecaster of :meth:`saved`."""
        config = saved.config
        forecaster = cls(**{**config["parameters"], "calendar": tuple(config["parameters"]["calendar"])})
        forecaster._model = files.model_of(saved, Settings.of(forecaster))
        forecaster._clocks = files.clocks_of(config)
        forecaster._columns = pd.Index(config["columns"], name=config["columns_name"])
        forecaster._index_names, forecaster._input_names = config["index_names"], config["input_names"]
        forecaster._form, forecaster._is_fitted = config["form"], True
        forecaster._fh = None if config["fh"] is None else Horizon.of(config["fh"])
        forecaster._publish()
        return forecaster

    def tails(self) -> tuple[pd.DataFrame, pd.DataFrame | None]:
        """Return the ends of the series that it goes on from, and of their inputs, as tables."""
        tails, inputs = self._model.tails, self._input_names
        y = self._tables_of_tails([tail.y for tail in tails], self._columns)
        if not inputs:
            return y, None
        return y, self._tables_of_tails([tail.x[:, -len(inputs) :] for tail in tails], pd.Index(inputs))

    # From tables to arrays.

    def _instances(
        self, y: pd.DataFrame, X: pd.DataFrame | None, *, moving: bool = False
    ) -> list[tuple[Any, Any, Instance]]:
        """Return key, times and arrays of every instance, which go on where they ended if they are ``moving``."""
        if X is None and self._input_names:
            raise InputError(f"X is None, but the forecaster was fitted with the inputs {self._input_names}")
        X = None if X is None else by_name("X", X, [str(name) for name in self._input_names])
        clocks = self._clocks if moving else {}
        return read_instances(y, X, self.calendar, clocks, counted=self._form in ARRAYS)

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
        ahead[wanted - 1, made:] = self._known_ahead(key, clock, X, wanted, steps)
        return ahead

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
