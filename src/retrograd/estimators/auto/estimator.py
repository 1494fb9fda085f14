"""The forecaster that needs no settings: it looks at each series, lets contenders compete, and takes the best.

Tables, dates and files are here; what happens to one series is in the files beside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from retrograd.errors import InputError, require_choice, require_whole
from retrograd.estimators.auto import files
from retrograd.estimators.auto.fitting import fit_all
from retrograd.estimators.auto.gaps import filled, inputs_on_the_grid, on_the_grid, without_holes
from retrograd.estimators.auto.leaderboard import by_step, comparison, leaderboard, lines
from retrograd.estimators.auto.recipes import Options
from retrograd.estimators.auto.series import Series
from retrograd.estimators.auto.understanding import understand
from retrograd.estimators.forecasting.protocol import ARRAYS, ForecasterBase, Horizon
from retrograd.estimators.forecasting.tables import (
    Clock,
    beside,
    by_instance,
    independent_columns,
    read_instances,
    to_table,
)
from retrograd.estimators.model_files import Saved, restored, write_model
from retrograd.tables.align import by_name

__all__ = ["AutoForecaster"]

Array = np.ndarray[Any, Any]


class AutoForecaster(ForecasterBase):
    """Forecast by whatever forecasts each series best: no settings needed.

    For every series: its seasons, trend and spread are found (``understood_``); baselines, autoregressions, linear
    read-outs of windows (:class:`retrograd.estimators.Forecaster`) and innovations models
    (:class:`retrograd.estimators.StateSpace`) forecast its last rows from a rolling origin, fitted to the rows before;
    the best of them, or the mean of the best few where that errs less, is fitted to all rows. Where nothing beats
    repeating values, that is what forecasts. Forecasts by logarithms are medians.

    Rows that the times lack and missing values are filled to be learnt from, and not judged by. Inputs that stand
    still or follow from others are left out. ``predict`` without X forecasts by the contenders that take no inputs.

    Args:
        season: ``"auto"``: from times and data; a number of steps, several, or None for none.
        transform: ``"auto"``: the series and its logarithm compete; ``"log"``, or None for the series alone.
        difference: what windows and innovations models subtract: ``"auto"``: all ways compete; ``"last"``, the last
            value; a number of steps, the value so many steps before; None, nothing.
        progress: called with the part of a fit that is done, from 0 to 1.
        refit: fit what was chosen again, to all rows; False keeps the fits to the rows before those that judged.

    Attributes:
        understood_: each series in one line.
        leaderboard_: RMSE, MAE, MASE, sMAPE of every contender over the rolling origin, and its weight in the forecast;
            the row ``"chosen"`` is that of the forecast itself.
        leaderboard_by_step_: RMSE of the same at every step ahead, a column a step.
        chosen_: what forecasts each series, and how it compares to the seasonal naive, in one line.

    Examples:
        >>> import numpy as np
        >>> from retrograd.estimators import AutoForecaster
        >>> t = np.arange(120)
        >>> forecaster = AutoForecaster().fit(10 + t / 20 + np.sin(2 * np.pi * t / 12), fh=range(1, 13))
        >>> expected = 10 + (120 + np.arange(12)) / 20 + np.sin(2 * np.pi * np.arange(12) / 12)
        >>> bool(np.abs(forecaster.predict() - expected).max() < 1e-3)
        True
        >>> print(forecaster.understood_)
        120 rows, 0 to 119; season 12; no gaps; a trend; as steady high as low: no logs
    """

    def __init__(
        self,
        season: int | Sequence[int] | str | None = "auto",
        transform: str | None = "auto",
        difference: int | str | None = "auto",
        progress: Callable[[float], None] | None = None,
        *,
        refit: bool = True,
    ) -> None:
        self.season = season
        self.transform = transform
        self.difference = difference
        self.progress = progress
        self.refit = refit

    def _needs_fh(self) -> bool:
        return True

    def _fit(self, y: pd.DataFrame, X: pd.DataFrame | None, fh: Horizon | None) -> AutoForecaster:
        assert fh is not None
        options, seasons, logs = self._options(), _seasons(self.season), _logs(self.transform, y)
        self._columns, self._index_names = y.columns, y.index.names
        self._input_names = [] if X is None else list(X.columns)
        parts = self._instances(y, X, {})
        self._clocks = {key: Clock.of(index) for key, index, *_ in parts}
        self._useful = independent_columns(np.concatenate([x for *_, x in parts]))
        labels, series = [], []
        for key, index, values, x in parts:
            for column, name in enumerate(self._columns):
                labels.append((*(() if key is None else key if isinstance(key, tuple) else (key,)), name))
                given = np.ascontiguousarray(values[:, column])
                found = understand(given, index, self._clocks[key].step, seasons, logs)
                whole = filled(given, min(found.seasons, default=1))
                series.append(Series(whole, x[:, self._useful], ~np.isnan(given), found))
        outcomes = fit_all(series, fh.steps, options, self.progress)
        self._members = [outcome.member for outcome in outcomes]
        said, tables, by_steps = {}, {}, {}
        for label, each, outcome in zip(labels, series, outcomes, strict=True):
            judged = outcome.judgement, outcome.choice
            said[label] = str(each.found), comparison(*judged)
            tables[label] = leaderboard(outcome.member.y, *judged, outcome.member.season)
            by_steps[label] = by_step(*judged, fh.steps)
        several = len(said) > 1
        self.understood_ = lines({label: line for label, (line, _) in said.items()}, several)
        self.chosen_ = lines({label: line for label, (_, line) in said.items()}, several)
        self.leaderboard_: pd.DataFrame = pd.concat(tables) if several else tables[labels[0]]
        self.leaderboard_by_step_: pd.DataFrame = pd.concat(by_steps) if several else by_steps[labels[0]]
        return self

    def _predict(self, fh: Horizon, X: pd.DataFrame | None) -> pd.DataFrame:
        table: pd.DataFrame = self._arranged(self._centers(fh, X), fh.steps, self._columns)
        return table

    def _predict_quantiles(self, fh: Horizon, X: pd.DataFrame | None, alpha: list[float]) -> pd.DataFrame:
        centers, count = self._centers(fh, X), len(self._columns)
        assert self._fh is not None
        places = np.searchsorted(self._fh.steps, fh.steps)
        bounds = np.empty((len(centers), count, len(alpha)))
        for number, member in enumerate(self._members):
            rows = slice(number // count * len(places), (number // count + 1) * len(places))
            column = number % count
            for place, each in enumerate(alpha):
                bounds[rows, column, place] = member.bound(centers[rows, column], each, places, blind=X is None)
        columns = pd.MultiIndex.from_product([list(self._columns), alpha])
        table: pd.DataFrame = self._arranged(bounds.reshape(len(bounds), -1), fh.steps, columns)
        return table

    def _predict_interval(self, fh: Horizon, X: pd.DataFrame | None, coverage: list[float]) -> pd.DataFrame:
        alpha = [bound for level in coverage for bound in (0.5 - level / 2, 0.5 + level / 2)]
        table = self._predict_quantiles(fh, X, alpha)
        table.columns = pd.MultiIndex.from_product([list(self._columns), coverage, ["lower", "upper"]])
        return table

    def _update(self, y: pd.DataFrame, X: pd.DataFrame | None, update_params: bool) -> AutoForecaster:
        if list(y.columns) != list(self._columns):
            raise InputError(f"y has columns {list(y.columns)}, the forecaster was fitted to {list(self._columns)}")
        if X is None and self._input_names:
            raise InputError(f"X is None, but the forecaster was fitted with the inputs {self._input_names}")
        assert self._fh is not None
        order, count = list(self._clocks), len(self._columns)
        for key, index, values, x in self._instances(y, X, self._clocks):
            if key not in self._clocks:
                raise InputError(f"y has the instance {key!r}, which was not fitted")
            unseen = np.asarray(index > self._clocks[key].last[0])
            if not unseen.any():
                continue
            first = order.index(key) * count
            for column in range(count):
                new = values[unseen, column], x[unseen][:, self._useful]
                member = self._members[first + column].longer(*new, self._fh.steps, update_params)
                self._members[first + column] = member
            self._clocks[key] = replace(self._clocks[key], last=index[-1:])
        return self

    def backtest(self, y: Any, X: Any = None, *, start: int, stride: int = 1, alpha: float | None = None) -> Array:
        """Forecast from every origin of a later part, without fitting again, of a forecaster of one instance.

        Args:
            y: the whole series, ``(T, series)`` or ``(T,)``, with the past that the first origin needs.
            X: its inputs, ``(T, inputs)``; None forecasts by the contenders that take none.
            start: row of the first step to predict: the first origin is the row before.
            stride: how many rows between two origins.
            alpha: give this quantile of the values instead of the forecasts; it goes by the errors of the windows
                before too, as far as their values are known at its origin.

        Returns:
            ``(windows, K, series)``: forecast ``[i, k]`` is of row ``start + stride * i + fh[k] - 1``. The last window
            is the last one whose targets are all in y.

        Raises:
            InputError: there is too little before ``start`` or after it, or there are several instances.
        """
        self._check_is_fitted()
        assert self._fh is not None
        table, steps = to_table(y)[0], self._fh.steps
        if table.shape[1] != len(self._columns) or len(self._clocks) > 1:
            raise InputError(
                f"y has {table.shape[1]} series, the forecaster was fitted to {len(self._columns)} of "
                f"{len(self._clocks)} instances: backtest takes all series of one instance"
            )
        ((_, _, values, x),) = self._instances(table.set_axis(self._columns, axis=1), beside(X, table), {})
        first, stop = start - 1, len(values) - int(steps[-1])
        least = self.least - 1
        if first < least or stop <= first:
            raise InputError(
                f"start is {start}: it must be from {least + 1} (the rows that forecasts look back to) to {stop} (the "
                f"last target is {int(steps[-1])} rows after an origin; y has {len(values)} rows)"
            )
        found, x = [], x[:, self._useful]
        for column, member in enumerate(self._members):
            given = np.ascontiguousarray(values[:, column])
            series, known = filled(given, member.season), ~np.isnan(given)
            forecaster = member.blind if X is None else member.mixture
            each = forecaster.from_origins(series, x, first, stop, steps)
            if alpha is not None:
                each = member.moving(each, alpha, series, x, known, first, blind=X is None)
            found.append(each[::stride])
        return np.stack(found, axis=2)

    @property
    def least(self) -> int:
        """The first row that can be predicted: the rows before it are those that forecasts look back to."""
        return 1 + max(each.least for member in self._members for each in (member.mixture, member.blind))

    @property
    def steps(self) -> Array:
        """The steps ahead that it was fitted for."""
        self._check_is_fitted()
        assert self._fh is not None
        return np.array(self._fh.steps)

    @property
    def input_names(self) -> list[Any]:
        """Names of the inputs that it was fitted with."""
        return list(self._input_names)

    @property
    def without_inputs(self) -> list[str]:
        """What forecasts each series where inputs are not known ahead, in one line each."""
        self._check_is_fitted()
        return [member.blind.described for member in self._members]

    @property
    def repeats(self) -> list[bool]:
        """Whether a baseline alone forecasts, for each series: nothing beat it."""
        self._check_is_fitted()
        return [all(fit.contender.is_naive for fit in member.mixture.fits) for member in self._members]

    @property
    def takes_inputs(self) -> bool:
        """Whether a forecast of some series takes inputs, where they are known ahead."""
        self._check_is_fitted()
        return any(member.mixture is not member.blind for member in self._members)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write the model to a folder: ``model.safetensors`` and ``config.json``, whole, no pickle.

        Raises:
            InputError: the folder has a model and ``overwrite`` is false, or names are neither text nor numbers.
        """
        write_model(Path(folder), self.saved(), overwrite=overwrite)

    @classmethod
    def load(cls, folder: str | Path) -> AutoForecaster:
        """Read what :meth:`save` wrote.

        Raises:
            InputError: the folder holds no such forecaster, or a newer version wrote it.
        """
        return restored(Path(folder), (files.KIND,), cls.from_saved)

    def saved(self) -> Saved:
        """Return what files hold of the forecaster."""
        self._check_is_fitted()
        return files.saved_of(self)

    @classmethod
    def from_saved(cls, saved: Saved) -> AutoForecaster:
        """Return the forecaster of :meth:`saved`."""
        config = saved.config
        parameters = dict(config["parameters"])
        season = parameters.pop("season")
        forecaster = cls(tuple(season) if isinstance(season, list) else season, **parameters)
        forecaster._clocks = files.clocks_of(config)
        forecaster._columns = pd.Index(config["columns"], name=config["columns_name"])
        forecaster._index_names, forecaster._input_names = config["index_names"], config["input_names"]
        forecaster._useful = np.array(config["useful"], dtype=np.int64)
        forecaster._form, forecaster._fh = config["form"], Horizon.of(config["fh"])
        forecaster._members = files.members_of(saved)
        forecaster.understood_, forecaster.chosen_ = config["understood"], config["chosen"]
        forecaster.leaderboard_, forecaster.leaderboard_by_step_ = files.tables_of(saved)
        forecaster._is_fitted = True
        return forecaster

    def tails(self) -> tuple[pd.DataFrame, pd.DataFrame | None]:
        """Return the series that it goes on from, and their inputs, as tables; inputs that were left out are 0."""
        count = len(self._columns)
        firsts = self._members[::count]
        values = [
            np.stack([member.y for member in self._members[at * count : (at + 1) * count]], axis=1)
            for at in range(len(firsts))
        ]
        y = self._tables_of_tails(values, self._columns)
        if not self._input_names:
            return y, None
        inputs = [np.zeros((len(member.x), len(self._input_names))) for member in firsts]
        for x, member in zip(inputs, firsts, strict=True):
            x[:, self._useful] = member.x
        return y, self._tables_of_tails(inputs, pd.Index(self._input_names))

    # From tables to arrays, and back.

    def _options(self) -> Options:
        if self.difference not in ("auto", "last", None):
            require_whole("difference", self.difference)
        return Options(self.transform, self.difference, bool(self.refit))

    def _instances(
        self, y: pd.DataFrame, X: pd.DataFrame | None, clocks: dict[Any, Clock]
    ) -> list[tuple[Any, Any, Array, Array]]:
        """Return key, times, values (NaN where missing) and inputs of every instance, a row for every step of it."""
        if X is not None:
            X = by_name("X", X, [str(name) for name in self._input_names])
        counted = self._form in ARRAYS
        grid = on_the_grid(y, {} if counted else clocks)
        X = None if X is None else inputs_on_the_grid(X, grid)
        found = []
        for (key, index, instance), (_, part) in zip(
            read_instances(without_holes(grid), X, (), clocks, counted=counted), by_instance(grid), strict=True
        ):
            x = instance.x if X is not None else np.zeros((len(index), len(self._input_names)))
            found.append((key, index, np.where(part.isna(), np.nan, instance.y), x))
        return found

    def _centers(self, fh: Horizon, X: pd.DataFrame | None) -> Array:
        count, found = len(self._columns), []
        for number, (key, clock) in enumerate(self._clocks.items()):
            ahead = None
            if X is not None:
                wanted = np.arange(1, int(fh.steps[-1]) + 1)
                ahead = self._known_ahead(key, clock, X, wanted, fh.steps)[:, self._useful]
            members = self._members[number * count : (number + 1) * count]
            found.append(np.stack([member.forecast(ahead, fh.steps) for member in members], axis=1))
        return np.concatenate(found)


def _seasons(season: Any) -> list[int] | None:
    """Return the seasons that were given; None for ``"auto"``."""
    if isinstance(season, str):
        if season == "auto":
            return None
        raise InputError(f"season is {season!r}, expected 'auto', a number of steps, several of them, or None")
    given = [] if season is None else list(season) if isinstance(season, Sequence) else [season]
    return [require_whole("season", each, 2) for each in given]


def _logs(transform: Any, y: pd.DataFrame) -> bool | None:
    """Return whether to take logarithms; None for ``"auto"``."""
    if transform is None or transform == "auto":
        return None if transform == "auto" else False
    require_choice("transform", transform, ["auto", "log"])
    least = y.min()
    if float(least.min()) <= 0:
        raise InputError(
            f"transform is 'log', but {least.idxmin()!r} is {float(least.min()):g} at its lowest: logarithms want "
            "values above 0; take transform='auto'"
        )
    return True
