"""Linear read-outs of a window: :class:`retrograd.estimators.forecasting.model.ForecastModel` of one series or many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from retrograd.errors import InputError
from retrograd.estimators.evaluation import autoregression
from retrograd.estimators.forecasting.fit import Group
from retrograd.estimators.forecasting.model import ForecastModel
from retrograd.estimators.forecasting.readout import Moments, Weights
from retrograd.estimators.forecasting.settings import Instance, Settings
from retrograd.estimators.forecasting.states import Difference, Lags

__all__ = ["Windows"]

Array = np.ndarray[Any, Any]

# Least squares, but for features that are collinear.
_NO_RIDGE = 1e-9
# Rows below which there is no autoregression.
_FEWEST = 5


@dataclass(frozen=True)
class Windows:
    """A fitted read-out, and which of its model's series it forecasts."""

    model: ForecastModel
    number: int = 0

    @classmethod
    def fit(cls, y: Array, x: Array, steps: Array, **asked: Any) -> Windows:
        """Fit to one series ``(T,)`` and its inputs ``(T, E)``; ``asked`` are the arguments of :func:`settings`.

        Raises:
            InputError: the series is too short.
        """
        return cls(_model([y], [x], steps, settings(**asked)))

    @classmethod
    def autoregression(cls, y: Array) -> Windows:
        """Fit an AR, its order by AIC, by least squares.

        Raises:
            InputError: the series is too short.
        """
        if len(y) < _FEWEST:
            raise InputError(f"y has {len(y)} rows, an autoregression needs {_FEWEST}")
        asked = settings(lags=autoregression(y, len(y))[1], recursive=True, ridge=_NO_RIDGE)
        return cls(_model([y], [np.zeros((len(y), 0))], np.array([1]), asked))

    @classmethod
    def shared(cls, series: Sequence[Array], inputs: Sequence[Array], steps: Array, **asked: Any) -> list[Windows]:
        """Fit one read-out to many series, each scaled by itself, and return the rule of each.

        Raises:
            InputError: one of the series is too short.
        """
        model = _model(series, inputs, steps, settings(**asked))
        return [cls(model, number) for number in range(len(series))]

    @property
    def burn(self) -> int:
        """The first row that can be an origin."""
        return self.model.states.burn

    @property
    def ridge(self) -> float:
        """The penalty that was chosen."""
        return self.model.groups[0].ridge

    def forecast(self, y: Array, x: Array, start: int, stop: int, steps: Array) -> Array:
        """Return forecasts from the rows ``start`` to ``stop`` as the last known ones, ``(stop - start, K)``."""
        # A window is all that it remembers: rows long before the first origin change nothing.
        skip = max(0, start - self.burn - int(steps[-1]))
        inputs = x[skip:, : len(self.model.x_mean)]
        instance = Instance("", y[skip:, None], inputs)
        return np.asarray(self.model.predict_from(self.number, instance, start - skip, stop - skip, steps)[:, :, 0])

    def deviation(self, y: Array, steps: Array) -> Array:
        """Return the standard deviation of forecasts, ``(K,)``."""
        return np.asarray(self.model.deviation(self.number, steps)[:, 0])

    def arrays(self) -> dict[str, Array]:
        """Return the numbers that it forecasts by."""
        model, group = self.model, self.model.groups[0]
        return {
            "horizons": model.horizons,
            "lags": np.array([self.model.states.width + (model.settings.difference == "last")]),
            "y": np.array([model.y_mean[self.number, 0], model.y_scale[self.number, 0]]),
            "x_mean": model.x_mean,
            "x_scale": model.x_scale,
            "states": group.weights.states,
            "inputs": group.weights.inputs,
            "ridge": np.array([group.ridge]),
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, Array], difference: Difference, recursive: bool) -> Windows:
        """Return the rule of :meth:`arrays`, to forecast by."""
        lags = int(arrays["lags"][0])
        asked = settings(difference=difference, recursive=recursive, lags=lags)
        weights = Weights(arrays["states"], arrays["inputs"])
        nothing = Moments(0, *(np.zeros(0) for _ in range(6)))
        group = Group(nothing, weights, float(arrays["ridge"][0]), np.ones(len(arrays["horizons"])))
        mean, scale = arrays["y"].reshape(2, 1, 1)
        errors, counts = np.zeros((1, 1, len(arrays["horizons"]))), np.zeros(1)
        scales = mean, scale, arrays["x_mean"], arrays["x_scale"]
        states = Lags(lags, difference)
        return cls(ForecastModel(asked, states, arrays["horizons"], *scales, [group], errors, counts, [], []))

    @staticmethod
    def shapes(
        arrays: dict[str, Array], difference: Difference, recursive: bool, steps: int
    ) -> dict[str, tuple[int, ...]]:
        """Return the shapes that :meth:`arrays` have of a rule fitted for ``steps`` horizons."""
        maps, inputs = 1 if recursive else steps, len(arrays["x_mean"])
        lags = int(arrays["lags"].reshape(-1)[0])
        features = lags if difference is None else lags - (difference == "last")
        return {
            "horizons": (maps,),
            "lags": (1,),
            "y": (2,),
            "x_mean": (inputs,),
            "x_scale": (inputs,),
            "states": (features + (difference is None), maps),
            "inputs": (maps, inputs),
            "ridge": (1,),
        }


def settings(
    *, lags: int, difference: Difference = None, recursive: bool = False, ridge: float | None = None
) -> Settings:
    """Return what a forecaster of lags is asked for."""
    return Settings(
        states="lags",
        lags=lags or None,
        hidden=1,
        recursive=recursive,
        difference=difference,
        scale=True,
        share=True,
        ridge=ridge,
        intercept=difference is None,
        epochs=0,
        optimizer="adam",
        lr=None,
        seed=0,
    )


def _model(series: Sequence[Array], inputs: Sequence[Array], steps: Array, asked: Settings) -> ForecastModel:
    instances = [Instance("", y[:, None], x[: len(y)]) for y, x in zip(series, inputs, strict=True)]
    return replace(ForecastModel.fit(instances, np.array([1]) if asked.recursive else steps, asked), tails=[])
