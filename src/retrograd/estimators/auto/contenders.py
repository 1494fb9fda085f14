"""What competes for a series: baselines, autoregressions, windows with a linear read-out, innovations models.

A :class:`Contender` is a recipe; fitted, it forecasts from any row of the series it is given. All of them are linear in
the past of the series, or of its logarithm; forecasts by logarithms are those of the median, exp of the forecast.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from retrograd.errors import InputError
from retrograd.estimators.auto.baselines import Naive
from retrograd.estimators.auto.understanding import Understanding
from retrograd.estimators.evaluation import autoregression
from retrograd.estimators.forecasting.fit import Group
from retrograd.estimators.forecasting.model import ForecastModel
from retrograd.estimators.forecasting.readout import Moments, Weights
from retrograd.estimators.forecasting.settings import Instance, Settings
from retrograd.estimators.forecasting.states import Difference, Lags
from retrograd.estimators.identification.estimator import StateSpace

__all__ = ["Contender", "Fitted", "contenders", "shapes_of"]

Array = np.ndarray[Any, Any]

# The longest look-back that is tried unasked, and how many rows an innovations model is worth its time for.
_LONGEST, _SHORT = 336, 300
# Least squares, but for features that are collinear.
_NO_RIDGE = 1e-9


class _Rule(Protocol):
    """What a fitted contender forecasts by, in the units (or logarithms) that it was fitted to."""

    @property
    def burn(self) -> int: ...

    def forecast(self, y: Array, x: Array, start: int, stop: int, steps: Array) -> Array: ...

    def deviation(self, y: Array, steps: Array) -> Array: ...

    def arrays(self) -> dict[str, Array]: ...


@dataclass(frozen=True)
class Contender:
    """A recipe for forecasts of one series.

    Attributes:
        name: in words.
        family: ``"naive"``, ``"autoregression"``, ``"windows"`` or ``"innovations"``.
        difference: what is subtracted: ``"last"``, a season, or None. Of the naive family, the season repeated.
        lags: the look-back; of a naive one, 1 with drift and 0 without.
        recursive: one step ahead and again from there, or a map for every horizon.
        logs: of the logarithm.
        ridge: the penalty where it is known, as from an earlier fit.
    """

    name: str
    family: str
    difference: Difference = None
    lags: int = 0
    recursive: bool = False
    logs: bool = False
    ridge: float | None = None

    def fit(self, y: Array, x: Array, steps: Array) -> Fitted:
        """Fit to a series ``(T,)`` and its inputs ``(T, E)`` for horizons ``(K,)``.

        Raises:
            InputError: the series is too short for it.
        """
        z = np.log(y) if self.logs else y
        rule: Any
        if self.family == "naive":
            assert isinstance(self.difference, int)
            if len(y) <= self.difference:
                raise InputError(f"y has {len(y)} rows, {self.name} needs more than its season")
            rule = _Repetition(Naive.fit(z, self.difference, bool(self.lags)))
        elif self.family == "innovations":
            rule = _Innovations.fit(z, self.difference)
        else:
            rule = _Windows.fit(z, x, steps, self)
        return Fitted(self, rule)

    @property
    def kin(self) -> tuple[str, str]:
        """What it has in common with contenders that err alike: the family and what is subtracted."""
        if self.family != "windows":
            return self.family, ""
        return self.family, "season" if isinstance(self.difference, int) else str(self.difference)

    @property
    def is_naive(self) -> bool:
        """Whether it repeats values, with no model."""
        return self.family == "naive"

    def rule_of(self, arrays: dict[str, Array]) -> Any:
        """Return the rule that :meth:`Fitted.arrays` were those of."""
        kind = {"naive": _Repetition, "innovations": _Innovations}.get(self.family, _Windows)
        return kind.from_arrays(arrays, self)  # type: ignore[attr-defined]


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
        if not self.contender.logs:
            return np.asarray(self.rule.forecast(y, x, start, stop, steps))
        z = np.log(y)
        # A logarithm that runs away would overflow: e^2 times the largest value so far is far enough.
        return np.asarray(np.exp(np.minimum(self.rule.forecast(z, x, start, stop, steps), z.max() + 2.0)))

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
        if isinstance(self.rule, _Windows):
            return replace(self.contender, ridge=self.rule.model.groups[0].ridge)
        return self.contender

    def arrays(self) -> dict[str, Array]:
        """Return the numbers that it forecasts by."""
        arrays: dict[str, Array] = self.rule.arrays()
        return arrays


@dataclass(frozen=True)
class _Repetition:
    naive: Naive

    @property
    def burn(self) -> int:
        return self.naive.season - 1

    def forecast(self, y: Array, x: Array, start: int, stop: int, steps: Array) -> Array:
        return self.naive.forecast(y, start, stop, steps)

    def deviation(self, y: Array, steps: Array) -> Array:
        # Independent changes from season to season add up.
        season = self.naive.season
        changes = y[season:] - y[:-season] - season * self.naive.drift
        return np.asarray(np.sqrt(float((changes**2).mean()) * ((steps - 1) // season + 1)))

    def arrays(self) -> dict[str, Array]:
        return {"repetition": np.array([self.naive.season, self.naive.drift])}

    @classmethod
    def from_arrays(cls, arrays: dict[str, Array], contender: Contender) -> _Repetition:
        season, drift = arrays["repetition"].tolist()
        return cls(Naive(int(season), drift))


@dataclass(frozen=True)
class _Windows:
    model: ForecastModel

    @property
    def burn(self) -> int:
        return self.model.states.burn

    @classmethod
    def fit(cls, z: Array, x: Array, steps: Array, contender: Contender) -> _Windows:
        settings = _settings(contender)
        if contender.family == "autoregression":
            x = x[:, :0]
            settings = replace(settings, ridge=_NO_RIDGE, lags=autoregression(z, len(z))[1])
        instance = Instance("", z[:, None], x[: len(z)])
        horizons = np.array([1]) if contender.recursive else steps
        return cls(ForecastModel.fit([instance], horizons, settings))

    def forecast(self, y: Array, x: Array, start: int, stop: int, steps: Array) -> Array:
        # A window is all that it remembers: rows long before the first origin change nothing.
        skip = max(0, start - self.burn - int(steps[-1]))
        inputs = x[skip:, : len(self.model.x_mean)]
        instance = Instance("", y[skip:, None], inputs)
        return np.asarray(self.model.predict_from(0, instance, start - skip, stop - skip, steps)[:, :, 0])

    def deviation(self, y: Array, steps: Array) -> Array:
        return np.asarray(self.model.deviation(0, steps)[:, 0])

    def arrays(self) -> dict[str, Array]:
        model, group = self.model, self.model.groups[0]
        return {
            "horizons": model.horizons,
            "lags": np.array([self.model.states.width + (model.settings.difference == "last")]),
            "y": np.array([model.y_mean[0, 0], model.y_scale[0, 0]]),
            "x_mean": model.x_mean,
            "x_scale": model.x_scale,
            "states": group.weights.states,
            "inputs": group.weights.inputs,
            "ridge": np.array([group.ridge]),
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, Array], contender: Contender) -> _Windows:
        settings, lags = _settings(contender), int(arrays["lags"][0])
        weights = Weights(arrays["states"], arrays["inputs"])
        nothing = Moments(0, *(np.zeros(0) for _ in range(6)))
        group = Group(nothing, weights, float(arrays["ridge"][0]), np.ones(len(arrays["horizons"])))
        mean, scale = arrays["y"].reshape(2, 1, 1)
        states = Lags(lags, settings.difference)
        x_mean, x_scale = arrays["x_mean"], arrays["x_scale"]
        errors, counts = np.zeros((1, 1, len(arrays["horizons"]))), np.zeros(1)
        model = ForecastModel(
            settings, states, arrays["horizons"], mean, scale, x_mean, x_scale, [group], errors, counts, [], []
        )
        return cls(model)


def _settings(contender: Contender) -> Settings:
    return Settings(
        states="lags",
        lags=contender.lags or None,
        hidden=1,
        recursive=contender.recursive,
        difference=contender.difference,
        scale=True,
        share=True,
        ridge=contender.ridge,
        intercept=contender.difference is None,
        epochs=0,
        optimizer="adam",
        lr=None,
        seed=0,
    )


@dataclass(frozen=True)
class _Innovations:
    """x_{t+1} = A x_t + K e_t, z_t = C x_t + offset + e_t, of the differences z over ``lag`` rows (0: of y itself)."""

    A: Array
    K: Array
    C: Array
    offset: float
    x0: Array
    lag: int
    variance: float

    @property
    def burn(self) -> int:
        return self.lag

    @classmethod
    def fit(cls, y: Array, difference: Difference) -> _Innovations:
        lag = {None: 0, "last": 1}.get(difference, difference)  # type: ignore[arg-type]
        z = y[lag:] - y[: len(y) - lag] if lag else y
        if len(z) < 30 or np.ptp(z) == 0:
            raise InputError(f"y has {len(y)} rows: too few, or too alike, for an innovations model")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = StateSpace(noise="innovations", max_order=6, max_iter=50).fit(None, z)
        variance = float(model.innovation_covariance_[0, 0])
        system = model.A_, model.K_[:, 0], model.C_[0], float(model.offset_[0]), model.x0_[0]
        return cls(*system, int(lag or 0), variance)

    def forecast(self, y: Array, x: Array, start: int, stop: int, steps: Array) -> Array:
        z = y[self.lag :] - y[: len(y) - self.lag] if self.lag else y
        longest = int(steps[-1])
        # Row k of ahead is C A^k.
        ahead = np.empty((longest, len(self.C)))
        row = self.C
        for k in range(longest):
            ahead[k], row = row, row @ self.A
        state, found = self.x0, np.empty((stop - start, longest))
        for t in range(stop - self.lag):
            state = self.A @ state + self.K * (z[t] - self.C @ state - self.offset)
            origin = t + self.lag
            if origin >= start:
                found[origin - start] = ahead @ state + self.offset
        if self.lag:
            rows = np.arange(start, stop)[:, None] + np.arange(1, self.lag + 1) - self.lag
            base = y[rows]
            for k in range(longest):
                found[:, k] += base[:, k] if k < self.lag else found[:, k - self.lag]
        return found[:, steps - 1]

    def deviation(self, y: Array, steps: Array) -> Array:
        psi, state = np.ones(int(steps[-1])), self.K
        for k in range(1, len(psi)):
            psi[k], state = self.C @ state, self.A @ state
            if 0 < self.lag <= k:
                psi[k] += psi[k - self.lag]
        return np.asarray(np.sqrt(self.variance * (psi**2).cumsum())[steps - 1])

    def arrays(self) -> dict[str, Array]:
        return {
            "A": self.A,
            "K": self.K,
            "C": self.C,
            "x0": self.x0,
            "rest": np.array([self.offset, self.lag, self.variance]),
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, Array], contender: Contender) -> _Innovations:
        offset, lag, variance = arrays["rest"].tolist()
        return cls(arrays["A"], arrays["K"], arrays["C"], offset, arrays["x0"], int(lag), variance)


def shapes_of(contender: Contender, arrays: dict[str, Array], steps: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes that :meth:`Fitted.arrays` have of a contender fitted for ``steps`` horizons."""
    if contender.family == "naive":
        return {"repetition": (2,)}
    if contender.family == "innovations":
        order = len(arrays["C"])
        return {"A": (order, order), "K": (order,), "C": (order,), "x0": (order,), "rest": (3,)}
    maps, inputs = 1 if contender.recursive else steps, len(arrays["x_mean"])
    lags = int(arrays["lags"].reshape(-1)[0])
    features = lags if contender.difference is None else lags - (contender.difference == "last")
    return {
        "horizons": (maps,),
        "lags": (1,),
        "y": (2,),
        "x_mean": (inputs,),
        "x_scale": (inputs,),
        "states": (features + (contender.difference is None), maps),
        "inputs": (maps, inputs),
        "ridge": (1,),
    }


def contenders(y: Array, found: Understanding, longest: int) -> list[Contender]:
    """Return what is tried for a series, the simplest first.

    Args:
        y: ``(T,)``.
        found: what it is like.
        longest: the longest horizon.
    """
    recipes = _Recipes(len(y), longest)
    seasons = [season for season in found.seasons if season < len(y) // 2]
    recipes.naive("last value", 1, 0)
    recipes.naive("drift", 1, 1)
    for season in seasons:
        recipes.naive(f"seasonal naive ({season})", season, 0)
        recipes.naive(f"seasonal naive ({season}) with drift", season, 1)
    recipes.add("autoregression", Contender("AR", "autoregression", recursive=True))
    positive = bool(y.min() > 0)
    scales = [found.logs] if not positive or len(y) > 5000 else [False, True]
    for logs in scales:
        _windows(recipes, seasons, logs)
    if len(y) <= _SHORT:
        differences: list[Difference] = [seasons[0]] if seasons else [None, "last"]
        for difference in differences:
            recipes.innovations(difference, found.logs if seasons else scales[0])
    return recipes.found


@dataclass
class _Recipes:
    """Recipes without doubles, none with a look-back that the rows do not allow."""

    rows: int
    longest: int
    found: list[Contender] = field(default_factory=list)

    def add(self, name: str, contender: Contender) -> None:
        if all(replace(contender, name=each.name) != each for each in self.found):
            self.found.append(contender)

    def naive(self, name: str, season: int, drift: int) -> None:
        self.add(name, Contender(name, "naive", season, drift))

    def windows(self, difference: Difference, lags: int, recursive: bool, logs: bool) -> None:
        season = difference if isinstance(difference, int) else 0
        if lags < 2 or 2 * lags + season + (1 if recursive else self.longest) > self.rows:
            return
        how = "recursive" if recursive else "direct"
        name = f"{how}, {lags} lags, {_less(difference)}{', logs' if logs else ''}"
        self.add(name, Contender(name, "windows", difference, lags, recursive, logs))

    def innovations(self, difference: Difference, logs: bool) -> None:
        name = f"innovations, {_less(difference)}{', logs' if logs else ''}"
        self.add(name, Contender(name, "innovations", difference, 0, True, logs))


def _windows(recipes: _Recipes, seasons: Sequence[int], logs: bool) -> None:
    usual = max(2, min(_LONGEST, (recipes.rows - recipes.longest) // 10))
    looks = [usual] if seasons else [usual // 2, usual, 2 * usual]
    for season in seasons:
        looks += [season + 1, 2 * season + 1]
    looks = sorted({min(look, _LONGEST) for look in looks})
    for lags in looks:
        recipes.windows("last", lags, False, logs)
    for lags in (usual, looks[-1]):
        recipes.windows(None, lags, False, logs)
    recipes.windows(None, looks[-1], True, logs)
    recipes.windows("last", looks[-1], True, logs)
    for season in seasons:
        for lags in (season + 1, usual):
            recipes.windows(season, lags, False, logs)
        recipes.windows(season, season + 1, True, logs)


def _less(difference: Difference) -> str:
    if difference is None:
        return "as it is"
    return "less the last value" if difference == "last" else f"less the value {difference} before"
