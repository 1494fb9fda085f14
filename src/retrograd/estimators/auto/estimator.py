"""The forecaster that needs no settings: it looks at each series, lets contenders compete, and takes the best.

Tables, dates and files are here; what happens to one series is in the files beside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from retrograd.errors import InputError, require_choice, require_whole
from retrograd.estimators.auto import files
from retrograd.estimators.auto.contenders import Contender, Fitted, contenders
from retrograd.estimators.auto.intervals import Spread
from retrograd.estimators.auto.leaderboard import by_step, comparison, leaderboard, lines
from retrograd.estimators.auto.selection import Selection, select
from retrograd.estimators.auto.understanding import understand
from retrograd.estimators.forecasting.protocol import ForecasterBase, Horizon
from retrograd.estimators.forecasting.tables import (
    Clock,
    beside,
    instance_of,
    read_instances,
    require_independent,
    rows_ahead,
    to_table,
    with_instances,
)
from retrograd.estimators.model_files import Saved, restored, write_model
from retrograd.tables.align import by_name

__all__ = ["AutoForecaster", "Member"]

Array = np.ndarray[Any, Any]

ARRAYS = ("vector", "matrix", "list")


@dataclass(frozen=True)
class Member:
    """One series and what forecasts it.

    Attributes:
        y: ``(T,)``.
        x: its inputs, ``(T, E)``.
        fits: the chosen contenders, fitted to all rows.
        weights: of their mean.
        spread: of its errors.
    """

    y: Array
    x: Array
    fits: list[Fitted]
    weights: Array
    spread: Spread

    def forecast(self, x_ahead: Array, steps: Array) -> Array:
        """Return forecasts from the last row, ``(K,)``."""
        last = len(self.y) - 1
        return np.asarray(self.from_origins(self.y, np.concatenate([self.x, x_ahead]), last, last + 1, steps)[0])

    def from_origins(self, y: Array, x: Array, start: int, stop: int, steps: Array) -> Array:
        """Return forecasts from the rows ``start`` to ``stop`` of a series as the last known ones, ``(n, K)``."""
        found = [fit.forecast(y, x, start, stop, steps) for fit in self.fits]
        return np.asarray(np.einsum("m,mnk->nk", self.weights, np.stack(found)))

    @property
    def least(self) -> int:
        """The first row that can be an origin."""
        return max(int(fit.rule.burn) for fit in self.fits)

    def longer(self, y: Array, x: Array, steps: Array, learn: bool) -> Member:
        """Return it with more rows, the chosen contenders fitted to them too if it shall ``learn``."""
        y, x = np.concatenate([self.y, y]), np.concatenate([self.x, x])
        fits = [fit.again().fit(y, x, steps) for fit in self.fits] if learn else self.fits
        return replace(self, y=y, x=x, fits=fits)


class AutoForecaster(ForecasterBase):
    """Forecast by whatever forecasts each series best: no settings needed.

    For every series: its seasons, trend and spread are found (``understood_``); baselines, autoregressions, linear
    read-outs of windows (:class:`retrograd.estimators.Forecaster`) and innovations models
    (:class:`retrograd.estimators.StateSpace`) forecast its last rows from a rolling origin, fitted to the rows before;
    the best of them, or the mean of the best few where that errs less, is fitted to all rows. Where nothing beats
    repeating values, that is what forecasts. Forecasts by logarithms are medians.

    Args:
        season: ``"auto"``: from times and data; a number of steps, several, or None for none.
        transform: ``"auto"``: from the data, contenders with and without logarithms compete; ``"log"`` or None for all.
        difference: what models forecast relative to: ``"auto"``, whatever errs least; ``"last"``, the last value; a
            season, the value so many steps before; None, nothing.
        progress: called with the part of a fit that is done, from 0 to 1.

    Attributes:
        understood_: each series in one line.
        leaderboard_: RMSE, MAE, MASE, sMAPE of every contender over the rolling origin, and its weight in the forecast;
            the row ``"chosen"`` is that of the forecast itself.
        leaderboard_by_step_: RMSE of the same at every step ahead, a column a step.
        chosen_: what forecasts each series, and how it compares to repeating values, in one line.

    Examples:
        >>> import numpy as np
        >>> from retrograd.estimators import AutoForecaster
        >>> t = np.arange(120)
        >>> forecaster = AutoForecaster().fit(10 + t / 20 + np.sin(2 * np.pi * t / 12), fh=range(1, 13))
        >>> expected = 10 + (120 + np.arange(12)) / 20 + np.sin(2 * np.pi * np.arange(12) / 12)
        >>> bool(np.abs(forecaster.predict() - expected).max() < 1e-3)
        True
        >>> print(forecaster.understood_)
        120 rows, 0 to 119; season 12; a trend; as steady high as low: no logs
    """

    def __init__(
        self,
        season: int | Sequence[int] | str | None = "auto",
        transform: str | None = "auto",
        difference: int | str | None = "auto",
        progress: Callable[[float], None] | None = None,
    ) -> None:
        self.season = season
        self.transform = transform
        self.difference = difference
        self.progress = progress

    def _needs_fh(self) -> bool:
        return True

    def _fit(self, y: pd.DataFrame, X: pd.DataFrame | None, fh: Horizon | None) -> AutoForecaster:
        assert fh is not None
        seasons, logs = _seasons(self.season), _logs(self.transform, y)
        self._columns, self._index_names = y.columns, y.index.names
        self._input_names = [] if X is None else list(X.columns)
        parts = self._instances(y, X, {})
        self._clocks = {key: Clock.of(index) for key, index, _ in parts}
        require_independent(np.concatenate([each.x for _, _, each in parts]), self._input_names, 0)
        said: dict[Any, tuple[str, str]] = {}
        self._members, tables, steps = [], {}, {}
        count = len(parts) * len(self._columns)
        for key, index, instance in parts:
            for column, name in enumerate(self._columns):
                label = (*(() if key is None else key if isinstance(key, tuple) else (key,)), name)
                series = np.ascontiguousarray(instance.y[:, column])
                found = understand(series, index, self._clocks[key].step, seasons, logs)
                tried = _asked(contenders(series, found, int(fh.steps[-1])), self.difference, logs, found.seasons)
                longest_season = found.seasons[-1] if found.seasons else 1
                told = _part_of(self.progress, len(said), count)
                selection = select(series, instance.x, fh.steps, tried, longest_season, told)
                self._members.append(_member(series, instance.x, fh.steps, selection, found.logs))
                said[label] = str(found), comparison(selection)
                tables[label] = leaderboard(series, selection, found.seasons[0] if found.seasons else 1)
                steps[label] = by_step(selection, fh.steps)
        several = len(said) > 1
        self.understood_ = lines({label: line for label, (line, _) in said.items()}, several)
        self.chosen_ = lines({label: line for label, (_, line) in said.items()}, several)
        self.leaderboard_: pd.DataFrame = pd.concat(tables) if several else next(iter(tables.values()))
        self.leaderboard_by_step_: pd.DataFrame = pd.concat(steps) if several else next(iter(steps.values()))
        return self

    def _predict(self, fh: Horizon, X: pd.DataFrame | None) -> pd.DataFrame:
        table: pd.DataFrame = self._table(self._centers(fh, X), fh.steps, self._columns)
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
                bounds[rows, column, place] = member.spread.bound(centers[rows, column], each, places)
        columns = pd.MultiIndex.from_product([list(self._columns), alpha])
        table: pd.DataFrame = self._table(bounds.reshape(len(bounds), -1), fh.steps, columns)
        return table

    def _predict_interval(self, fh: Horizon, X: pd.DataFrame | None, coverage: list[float]) -> pd.DataFrame:
        alpha = [bound for level in coverage for bound in (0.5 - level / 2, 0.5 + level / 2)]
        table = self._predict_quantiles(fh, X, alpha)
        table.columns = pd.MultiIndex.from_product([list(self._columns), coverage, ["lower", "upper"]])
        return table

    def _update(self, y: pd.DataFrame, X: pd.DataFrame | None, update_params: bool) -> AutoForecaster:
        if list(y.columns) != list(self._columns):
            raise InputError(f"y has columns {list(y.columns)}, the forecaster was fitted to {list(self._columns)}")
        assert self._fh is not None
        order, count = list(self._clocks), len(self._columns)
        for key, index, instance in self._instances(y, X, self._clocks):
            if key not in self._clocks:
                raise InputError(f"y has the instance {key!r}, which was not fitted")
            unseen = np.asarray(index > self._clocks[key].last[0])
            if not unseen.any():
                continue
            first = order.index(key) * count
            for column in range(count):
                new = instance.y[unseen, column], instance.x[unseen]
                member = self._members[first + column].longer(*new, self._fh.steps, update_params)
                self._members[first + column] = member
            self._clocks[key] = replace(self._clocks[key], last=index[-1:])
        return self

    def backtest(self, y: Any, X: Any = None, *, start: int, stride: int = 1, alpha: float | None = None) -> Array:
        """Forecast from every origin of a later part, without fitting again, of a forecaster of one instance.

        Args:
            y: the whole series, ``(T, series)`` or ``(T,)``, with the past that the first origin needs.
            X: its inputs, ``(T, inputs)``.
            start: row of the first step to predict: the first origin is the row before.
            stride: how many rows between two origins.
            alpha: give this quantile of the values instead of the forecasts.

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
        ((_, _, instance),) = self._instances(table.set_axis(self._columns, axis=1), beside(X, table), {})
        first, stop = start - 1, len(instance.y) - int(steps[-1])
        least = self.least - 1
        if first < least or stop <= first:
            raise InputError(
                f"start is {start}: it must be from {least + 1} (the rows that forecasts look back to) to {stop} (the "
                f"last target is {int(steps[-1])} rows after an origin; y has {len(instance.y)} rows)"
            )
        found, places = [], np.arange(len(steps))
        for column, member in enumerate(self._members):
            series = np.ascontiguousarray(instance.y[:, column])
            center = member.from_origins(series, instance.x, first, stop, steps)[::stride]
            found.append(center if alpha is None else member.spread.bound(center, alpha, places))
        return np.stack(found, axis=2)

    @property
    def least(self) -> int:
        """The first row that can be predicted: the rows before it are those that forecasts look back to."""
        return 1 + max(member.least for member in self._members)

    @property
    def steps(self) -> Array:
        """The steps ahead that it was fitted for."""
        self._check_is_fitted()
        assert self._fh is not None
        return np.array(self._fh.steps)

    @property
    def input_names(self) -> list[Any]:
        """Names of the inputs known ahead."""
        return list(self._input_names)

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
        parameters = config["parameters"]
        season = parameters["season"]
        others = parameters.get("transform", "auto"), parameters.get("difference", "auto")
        forecaster = cls(tuple(season) if isinstance(season, list) else season, *others)
        forecaster._clocks = files.clocks_of(config)
        forecaster._columns = pd.Index(config["columns"], name=config["columns_name"])
        forecaster._index_names, forecaster._input_names = config["index_names"], config["input_names"]
        forecaster._form, forecaster._fh = config["form"], Horizon.of(config["fh"])
        forecaster._members = [
            Member(y, x, fits, weights, Spread(*spread)) for y, x, fits, weights, spread in files.members_of(saved)
        ]
        forecaster.understood_, forecaster.chosen_ = config["understood"], config["chosen"]
        forecaster.leaderboard_, forecaster.leaderboard_by_step_ = files.leaderboards_of(saved)
        forecaster._is_fitted = True
        return forecaster

    # From tables to arrays, and back.

    def _instances(self, y: pd.DataFrame, X: pd.DataFrame | None, clocks: dict[Any, Clock]) -> list[Any]:
        if X is None and self._input_names:
            raise InputError(f"X is None, but the forecaster was fitted with the inputs {self._input_names}")
        X = None if X is None else by_name("X", X, [str(name) for name in self._input_names])
        return read_instances(y, X, (), clocks, counted=self._form in ARRAYS)

    def _centers(self, fh: Horizon, X: pd.DataFrame | None) -> Array:
        count, found = len(self._columns), []
        for number, (key, clock) in enumerate(self._clocks.items()):
            ahead = self._ahead_of(key, clock, X, fh.steps)
            members = self._members[number * count : (number + 1) * count]
            found.append(np.stack([member.forecast(ahead, fh.steps) for member in members], axis=1))
        return np.concatenate(found)

    def _ahead_of(self, key: Any, clock: Clock, X: pd.DataFrame | None, steps: Array) -> Array:
        longest = int(steps[-1])
        if not self._input_names:
            return np.zeros((longest, 0))
        wanted = np.arange(1, longest + 1)
        times = clock.after(wanted)
        if X is None:
            raise InputError(
                f"X is None, but the forecaster was fitted with the inputs {self._input_names}: give their values at "
                f"the times to predict, {times[0]} to {times[-1]}"
            )
        X = by_name("X", X, [str(name) for name in self._input_names])
        return rows_ahead(instance_of(X, key), times, wanted, steps, counted=self._form in ARRAYS)

    def _table(self, values: Array, steps: Array, columns: Any) -> Any:
        times = [clock.after(steps) for clock in self._clocks.values()]
        if None in self._clocks:
            return pd.DataFrame(values, index=times[0], columns=columns)
        index = with_instances(list(self._clocks), times, self._index_names)
        return pd.DataFrame(values, index=index, columns=columns)


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


def _asked(tried: list[Contender], difference: Any, logs: bool | None, seasons: Sequence[int]) -> list[Contender]:
    """Return the contenders that have what was asked for, beside the baselines and the AR."""
    if difference not in ("auto", "last", None, *seasons):
        lengths = " or ".join(map(str, seasons)) or "a season, of which the series has none"
        raise InputError(f"difference is {difference!r}, expected 'auto', 'last', None or {lengths}")

    def fits(each: Contender) -> bool:
        simple = each.is_naive or each.family == "autoregression"
        return simple or (difference in ("auto", each.difference) and logs in (None, each.logs))

    return [each for each in tried if fits(each)]


def _part_of(progress: Callable[[float], None] | None, done: int, count: int) -> Callable[[float], None] | None:
    """Return what tells ``progress`` of one series among ``count``, of which ``done`` are behind it."""
    return None if progress is None else lambda part: progress((done + part) / count)


def _member(y: Array, x: Array, steps: Array, selection: Selection, logs: bool) -> Member:
    fits = [judged.fitted.again().fit(y, x, steps) for judged in selection.chosen]
    logs = logs and bool((selection.forecasts > 0).all())
    deviation = np.stack([fit.deviation(y, steps, logs) for fit in fits])
    longest = int(steps[-1])
    spread = Spread.of(selection.observed, selection.forecasts, selection.weights @ deviation, logs, longest)
    return Member(y, x, fits, selection.weights, spread)
