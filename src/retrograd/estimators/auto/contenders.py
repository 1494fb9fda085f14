"""A contender: a recipe for forecasts of one series; fitted, it forecasts from any row of the series it is given.

All of them are linear in the past of the series, or of its logarithm; forecasts by logarithms are those of the median,
exp of the forecast.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from retrograd.errors import InputError
from retrograd.estimators.auto.baselines import Naive
from retrograd.estimators.auto.innovations import Innovations
from retrograd.estimators.auto.pattern import Pattern
from retrograd.estimators.auto.profile import Profile
from retrograd.estimators.auto.trained import trained
from retrograd.estimators.auto.windows import Windows
from retrograd.estimators.forecasting.states import Difference
from retrograd.estimators.recurrent.training import DivergenceError

__all__ = ["Contender", "Fitted", "logarithm"]

Array = np.ndarray[Any, Any]

# Forecasts of a model stay within so many ranges of the series so far above its largest and below its smallest value;
# those of a series that was never negative are not either. Of the logarithm they stay within as many ranges of it, but
# one wild value widens that by itself: no more room is given than the values or nine tenths of the logarithms ask for.
_ROOM, _MOST = 1.0, 0.9
# Families of :class:`Pattern`: of the values, and of the changes.
_PATTERNS = ("pattern", "pattern of changes")


@dataclass(frozen=True)
class Contender:
    """A recipe for forecasts of one series.

    Attributes:
        name: in words.
        family: ``"naive"``, ``"autoregression"``, ``"windows"``, ``"shared"`` (windows of many
            series), ``"innovations"``, ``"recurrent"``, ``"profile"``, a mean season, or ``"pattern"`` and
            ``"pattern of changes"``, an autoregression about one.
        difference: what is subtracted: ``"last"``, a season, or None. Of the naive family, the season repeated;
            of a recurrent model, the season that its states hold; of a profile or pattern, its season.
        lags: the look-back; of a pattern, the order; of a naive one, 1 with drift and 0 without.
        recursive: one step ahead and again from there, or a map for every horizon.
        logs: of the logarithm.
        ridge: the penalty where it is known, as from an earlier fit.
        inputs: whether it takes inputs; only windows can.
    """

    name: str
    family: str
    difference: Difference = None
    lags: int = 0
    recursive: bool = False
    logs: bool = False
    ridge: float | None = None
    inputs: bool = False

    def fit(self, y: Array, x: Array, steps: Array) -> Fitted:
        """Fit to a series ``(T,)`` and its inputs ``(T, E)`` for horizons ``(K,)``.

        Raises:
            InputError: the series is too short for it, or its fit runs off.
        """
        try:
            return self._fit(y, x, steps)
        except (DivergenceError, np.linalg.LinAlgError) as error:
            raise InputError(f"{self.name} runs off: {error}") from None

    def _fit(self, y: Array, x: Array, steps: Array) -> Fitted:
        assert self.family != "shared"  # of one series alone it would be another contender
        z = np.log(y) if self.logs else y
        rule: Any
        if self.family == "naive":
            assert isinstance(self.difference, int)
            rule = Naive.fit(z, self.difference, bool(self.lags))
        elif self.family == "innovations":
            rule = Innovations.fit(z, self.difference)
        elif self.family == "recurrent":
            rule = trained(z, max(self.season, 1), int(steps[-1]))
        elif self.family == "profile":
            rule = Profile.fit(z, self.season)
        elif self.family in _PATTERNS:
            rule = Pattern.fit(z, self.season, self.lags, of_changes=self.family != _PATTERNS[0])
        elif self.family == "autoregression":
            rule = Windows.autoregression(z)
        else:
            rule = Windows.fit(z, x if self.inputs else x[:, :0], steps, **self.asked)
        return Fitted(self, rule)

    @property
    def asked(self) -> dict[str, Any]:
        """What a read-out of windows is asked for."""
        return {name: getattr(self, name) for name in ("difference", "lags", "recursive", "ridge")}

    @property
    def kin(self) -> tuple[str, str]:
        """What it has in common with contenders that err alike: the family and what is subtracted."""
        if self.family not in ("windows", "shared"):
            return self.family, ""
        return self.family, "season" if self.season else str(self.difference)

    @property
    def season(self) -> int:
        """Steps of the season that is subtracted, 0 if none is."""
        return self.difference if isinstance(self.difference, int) else 0

    @property
    def is_naive(self) -> bool:
        """Whether it repeats values, with no model."""
        return self.family == "naive"

    @property
    def for_any_steps(self) -> bool:
        """Whether one fit forecasts any number of steps ahead."""
        return self.recursive or self.family == "naive"

    def rule_of(self, arrays: dict[str, Array]) -> Any:
        """Return the rule that :meth:`Fitted.arrays` were those of."""
        if self.family == "naive":
            return Naive.from_arrays(arrays)
        if self.family in ("innovations", "recurrent"):
            return Innovations.from_arrays(arrays)
        if self.family == "profile":
            return Profile.from_arrays(arrays)
        if self.family in _PATTERNS:
            return Pattern.from_arrays(arrays)
        return Windows.from_arrays(arrays, self.difference, self.recursive)

    def shapes(self, arrays: dict[str, Array], steps: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes that :meth:`Fitted.arrays` have of a fit for ``steps`` horizons."""
        if self.family == "naive":
            return Naive.shapes()
        if self.family in ("innovations", "recurrent"):
            return Innovations.shapes(arrays)
        if self.family == "profile":
            return Profile.shapes(self.season)
        if self.family in _PATTERNS:
            return Pattern.shapes(arrays)
        return Windows.shapes(arrays, self.difference, self.recursive, steps)


@dataclass(frozen=True)
class Fitted:
    """A contender after its fit."""

    contender: Contender
    rule: Any

    def forecast(self, y: Array, x: Array, start: int, stop: int, steps: Array) -> Array:
        """Return forecasts from the rows ``start`` to ``stop`` as the last known ones, ``(stop - start, K)``.

        Args:
            y: the series up to the last origin or beyond, ``(T,)``.
            x: inputs up to the last step predicted, ``(≥ T, E)``.
            start: the first origin.
            stop: one after the last.
            steps: horizons, increasing, among those of the fit.
        """
        z = logarithm(y) if self.contender.logs else y
        if not isinstance(self.rule, Windows):
            found = np.asarray(self.rule.forecast(z, start, stop, steps))
        else:
            found = np.asarray(self.rule.forecast(z, x, start, stop, steps))
        low, high = (each.accumulate(z)[start:stop, None] for each in (np.minimum, np.maximum))
        if not self.contender.is_naive:
            room = _ROOM * (high - low)
            above = np.minimum(room, _room_of_logs(z[: start + 1], low, high)) if self.contender.logs else room
            found = np.clip(found, low - room, high + above)
        if self.contender.logs:
            return np.asarray(np.exp(found))
        return np.asarray(np.where(low >= 0, np.maximum(found, 0.0), found))

    def deviation(self, y: Array, steps: Array, logs: bool) -> Array:
        """Return the standard deviation of forecasts from the last row, ``(K,)``, as the fit itself has it.

        Args:
            y: the series that was fitted.
            steps: horizons.
            logs: of the logarithm.
        """
        own = np.asarray(self.rule.deviation(np.log(y) if self.contender.logs else y, steps))
        # To first order: a deviation of the logarithm is one relative to the level.
        level = float(np.abs(y[-max(12, int(steps[-1])) :]).mean())
        if self.contender.logs == logs or level == 0:
            return own
        return own * level if self.contender.logs else own / level

    def again(self) -> Contender:
        """Return the recipe with the penalty that this fit chose, for a fit to more rows that need not choose."""
        windows = self.contender.family == "windows"
        return replace(self.contender, ridge=self.rule.ridge) if windows else self.contender

    def on(self, y: Array, x: Array, steps: Array) -> Fitted:
        """Return it fitted again, to these rows; one of many series, or one whose fit fails, stays what it is."""
        if self.contender.family == "shared":
            return self
        try:
            return self.again().fit(y, x, steps)
        except InputError:
            return self

    def arrays(self) -> dict[str, Array]:
        """Return the numbers that it forecasts by."""
        arrays: dict[str, Array] = self.rule.arrays()
        return arrays


def _room_of_logs(z: Array, low: Array, high: Array) -> Array:
    """Return how far above its highest so far a forecast of a logarithm may go, whatever a single wild value says.

    Args:
        z: the logarithm up to the first origin.
        low: its lowest up to every origin.
        high: its highest up to every origin.
    """
    of_values = np.log1p(-_ROOM * np.expm1(low - high))
    ends = np.quantile(z, [(1 - _MOST) / 2, (1 + _MOST) / 2])
    return np.asarray(np.maximum(of_values, _ROOM * float(np.ptp(ends)) / _MOST))


def logarithm(y: Array) -> Array:
    """Return log y; of a value that is not positive, that of the smallest one that is.

    >>> logarithm(np.array([1.0, 0.0, np.e]))
    array([0., 0., 1.])
    """
    positive = y > 0
    return np.asarray(np.log(np.where(positive, y, y[positive].min(initial=np.inf) if positive.any() else 1.0)))
