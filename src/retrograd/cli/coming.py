"""What comes next, by a model of any kind: the forecast, and the intervals that were asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from retrograd.errors import InputError

__all__ = ["Coming", "coming_of", "comings_of", "comings_of_networks", "levels_of", "require_fitted"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Coming:
    """The steps after the data.

    Attributes:
        mean: ``(horizon, O)``.
        intervals: by level in per cent, lower and upper ends ``(horizon, O)``.
    """

    mean: Array
    intervals: Mapping[float, tuple[Array, Array]] = field(default_factory=dict)


def levels_of(text: Any) -> tuple[float, ...]:
    """Return the levels that ``--level`` names, in per cent, the least first.

    >>> levels_of("95,80")
    (80, 95)
    """
    try:
        levels = sorted({float(part) for part in str(text).split(",")})
    except ValueError:
        levels = [0.0]
    if not all(1 <= level < 100 for level in levels):  # 0.95 is no level in per cent that anyone asks for
        raise InputError(f"--level is {text!r}, expected levels in per cent, from 1 to below 100, such as 80,95")
    return tuple(int(level) if level.is_integer() else level for level in levels)


def far_inputs(source: str, names: Sequence[str], values: Array, ranges: Array) -> list[str]:
    """Return a line for every input that goes far beyond what was learnt from: its unit may be another.

    Args:
        source: where the values are.
        names: of the inputs.
        values: of the coming steps, ``(F, E)``.
        ranges: least and largest value learnt from, ``(E, 2)``.

    >>> far_inputs("next.csv", ["price"], np.array([[5.0], [3000.0]]), np.array([[4.0, 9.0]]))[0][:55]
    'price is 5 to 3000 in next.csv, 4 to 9 in the data lear'
    """
    lines = []
    for name, column, (least, largest) in zip(names, values.T, ranges, strict=True):
        if len(column) and max(least - column.min(), column.max() - largest) > largest - least:
            lines.append(
                f"{name} is {column.min():.6g} to {column.max():.6g} in {source}, {least:.6g} to {largest:.6g} in the "
                "data learnt from: the forecast goes far beyond these; if the unit is another, convert it."
            )
    return lines


def coming_of(
    kind: str,
    model: Any,
    horizon: int,
    outputs: int,
    *,
    inputs: Array | None = None,
    times: Any = None,
    state: Array | None = None,
    levels: Sequence[float] = (),
) -> Coming:
    """Return the forecast of a fitted model, with its intervals.

    Args:
        kind: what ``--model`` calls it.
        model: the estimator.
        horizon: steps.
        outputs: how many targets.
        inputs: of those steps, ``(horizon, E)``; None for none.
        times: of those steps.
        state: where the data end, of a model that does not hold it.
        levels: of the intervals.

    Raises:
        InputError: the model was fitted for fewer steps.
    """
    if horizon == 0:
        nothing = np.empty((0, outputs))
        return Coming(nothing, dict.fromkeys(levels, (nothing, nothing)))
    if kind == "recurrent" and not levels:
        return Coming(model.forecast(horizon, inputs, state=state))
    if kind in ("recurrent", "state-space"):
        ahead = model.forecast_interval if kind == "recurrent" else model.forecast
        found = [ahead(horizon, inputs, state=state, level=level / 100) for level in levels]
        mean = found[0].mean if found else model.forecast(horizon, inputs, state=state).mean
        return Coming(mean, {level: (one.lower, one.upper) for level, one in zip(levels, found, strict=True)})
    return _of_forecaster(kind, model, horizon, outputs, inputs, times, levels)


def require_fitted(kind: str, fitted: int, horizon: int) -> None:
    """Raise InputError where a forecaster was fitted for fewer steps."""
    if horizon > fitted:
        what, advice = ("the contenders were judged and", "fit with a longer --horizon")
        if kind == "forecaster":
            what, advice = "the direct read-out was", "fit with --readout recursive"
        raise InputError(
            f"--horizon is {horizon}, but {what} fitted for {fitted} steps: take up to {fitted}, or {advice}"
        )


def comings_of(
    model: Any, names: Iterable[str], outputs: int, horizon: int, levels: Sequence[float]
) -> dict[str, Coming]:
    """Return by series what comes after the last row that a forecaster of many series knows.

    Args:
        model: the :class:`retrograd.estimators.AutoForecaster`.
        names: of the series.
        outputs: how many targets.
        horizon: steps.
        levels: of the intervals, in per cent.
    """
    require_fitted("auto", len(model.steps), horizon)
    steps = np.arange(1, horizon + 1)
    mean = model.predict(steps)
    ends = model.predict_interval(steps, coverage=[level / 100 for level in levels]) if levels else None
    found = {}
    for name in names:
        center, intervals = mean.loc[[name]].to_numpy(), {}
        if ends is not None:
            both = ends.loc[[name]].to_numpy().reshape(len(center), outputs, len(levels), 2)
            intervals = {level: (both[:, :, k, 0], both[:, :, k, 1]) for k, level in enumerate(levels)}
        found[name] = Coming(center, intervals)
    return found


def comings_of_networks(model: Any, names: Sequence[str], horizon: int, levels: Sequence[float]) -> dict[str, Coming]:
    """Return by series what comes next by a :class:`retrograd.estimators.RecurrentPanel`, as :func:`comings_of`."""
    mean = model.forecast(horizon, names)
    found = [model.forecast_interval(horizon, names, level=each / 100) for each in levels]
    return {
        name: Coming(
            mean[name], {level: (one[name].lower, one[name].upper) for level, one in zip(levels, found, strict=True)}
        )
        for name in names
    }


def _of_forecaster(
    kind: str, model: Any, horizon: int, outputs: int, inputs: Array | None, times: Any, levels: Sequence[float]
) -> Coming:
    import pandas as pd

    asked: Array | None = np.arange(1, horizon + 1)
    fitted = len(model.steps) if kind == "auto" else len(model._model.horizons) if model.readout == "direct" else None
    if fitted is not None:
        require_fitted(kind, fitted, horizon)
    X: Any = inputs
    if kind == "auto" and inputs is not None:
        X = pd.DataFrame(inputs, index=times, columns=model.input_names)
    elif fitted is not None and kind == "forecaster":
        # One map a step, and all of them at once: what is not asked for is cut off.
        asked = None
        if inputs is not None:
            X = np.concatenate([inputs, np.repeat(inputs[-1:], fitted - len(inputs), axis=0)])
    mean = np.asarray(model.predict(asked, X)).reshape(-1, outputs)
    if not levels:
        return Coming(mean[:horizon])
    table = model.predict_interval(asked, X, coverage=[level / 100 for level in levels])
    ends = np.asarray(table).reshape(len(mean), outputs, len(levels), 2)[:horizon]
    return Coming(mean[:horizon], {level: (ends[:, :, k, 0], ends[:, :, k, 1]) for k, level in enumerate(levels)})
