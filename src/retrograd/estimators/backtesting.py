"""How forecasts from every row of a held-out end turn out: a rolling origin, the same for models and baselines.

A model is fitted once, to the rows before ``start``. Then it forecasts from row ``start - 1``, and from later ones,
with the data up to there, up to the last row whose targets are all known. Where the held-out end is shorter than the
horizon, it forecasts once, as far as that end goes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from retrograd.errors import InputError
from retrograd.estimators.auto.baselines import Naive
from retrograd.estimators.auto.contenders import Contender

__all__ = ["Origins", "Rolled", "baselines", "scale_of"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Origins:
    """Where forecasts start, and how far they go.

    Attributes:
        start: row of the first step to predict: the first origin is the row before.
        rows: of the data, N.
        steps: 1 to the horizon, ``(K,)``.
        stride: rows between two origins.

    Examples:
        >>> origins = Origins.of(start=7, rows=10, horizon=2)
        >>> origins.of_targets(np.arange(10.0)[:, None])[:, :, 0].tolist()
        [[7.0, 8.0], [8.0, 9.0]]
    """

    start: int
    rows: int
    steps: Array
    stride: int = 1

    @classmethod
    def of(cls, start: int, rows: int, horizon: int, most: int | None = None) -> Origins:
        """Return them for a held-out end; at most so many where ``most`` says so.

        Raises:
            InputError: nothing is held out.
        """
        held = rows - start
        if held < 1:
            raise InputError("nothing is held out to judge forecasts by: hold out the last rows (test)", "test")
        steps = np.arange(1, min(horizon, held) + 1)
        count = held - len(steps) + 1
        return cls(start, rows, steps, 1 if most is None else -(-count // most))

    @property
    def count(self) -> int:
        """How many origins there are."""
        return -(-(self.rows - self.start - len(self.steps) + 1) // self.stride)

    @property
    def places(self) -> Array:
        """The origins' rows, ``(n,)``."""
        return np.arange(self.start - 1, self.rows - len(self.steps), self.stride)

    def of_targets(self, targets: Array) -> Array:
        """Return what was to be forecast, ``(n, K, O)``, from ``targets (N, O)``."""
        return np.asarray(targets[self.places[:, None] + self.steps])


@dataclass(frozen=True)
class Rolled:
    """Forecasts from rolling origins, and what came.

    Attributes:
        name: of the model.
        observed: ``(n, K, O)``, NaN where missing.
        forecasts: ``(n, K, O)``.
        scale: mean absolute change of the training part, from season to season, ``(O,)``; what MASE is relative to.
        intervals: by level in per cent, lower and upper ends ``(n, K, O)``.
        seconds: of the fit; NaN where there is none.
        missing: why there are no intervals, in words.
    """

    name: str
    observed: Array
    forecasts: Array
    scale: Array
    intervals: Mapping[float, tuple[Array, Array]] = field(default_factory=dict)
    seconds: float = float("nan")
    missing: str = ""

    def scores(self, column: int) -> dict[str, float]:
        """Return RMSE, MAE, MASE and sMAPE of a target over all origins and steps."""
        observed, forecasts = self.observed[:, :, column], self.forecasts[:, :, column]
        there = np.isfinite(observed) & ~np.isnan(forecasts)
        if not there.any():
            return dict.fromkeys(("RMSE", "MAE", "MASE", "sMAPE"), float("nan"))
        y, f = observed[there], forecasts[there]
        with np.errstate(over="ignore", invalid="ignore"):
            error, size = np.abs(y - f), np.abs(y) + np.abs(f)
            relative = np.divide(200 * error, size, out=np.zeros_like(error), where=size > 0)
            mean, scale = float(error.mean()), float(self.scale[column])
            return {
                "RMSE": float(np.sqrt((error**2).mean())),
                "MAE": mean,
                "MASE": mean / scale if scale > 0 else float("nan"),
                "sMAPE": float(relative.mean()),
            }

    def by_step(self, column: int) -> Array:
        """Return the RMSE of a target at every step ahead, ``(K,)``."""
        with np.errstate(over="ignore", invalid="ignore"):
            squares = (self.observed[:, :, column] - self.forecasts[:, :, column]) ** 2
            counts = np.isfinite(squares).sum(axis=0)
            mean = np.full(len(counts), np.nan)
            np.divide(np.nansum(squares, axis=0), counts, out=mean, where=counts > 0)
            return np.asarray(np.sqrt(mean))

    def covered_by_step(self, column: int, level: float) -> Array:
        """Return how many per cent of a target's values lay in an interval at every step ahead, ``(K,)``."""
        lower, upper = (end[:, :, column] for end in self.intervals[level])
        observed = self.observed[:, :, column]
        counts = np.isfinite(observed).sum(axis=0)
        inside = ((lower <= observed) & (observed <= upper)).sum(axis=0)
        return np.asarray(100 * np.divide(inside, counts, out=np.full(len(counts), np.nan), where=counts > 0))

    def covered(self, column: int) -> dict[float, float]:
        """Return by level in per cent how many per cent of a target's values lay in their interval."""
        found, observed = {}, self.observed[:, :, column]
        there = np.isfinite(observed)
        for level, (lower, upper) in self.intervals.items():
            inside = (lower[:, :, column] <= observed) & (observed <= upper[:, :, column])
            found[level] = 100 * float(inside[there].mean()) if there.any() else float("nan")
        return found


def baselines(targets: Array, origins: Origins, seasons: Sequence[Sequence[int]]) -> list[Rolled]:
    """Return the forecasts that need no model, and those of an AR (by AIC), for ``targets (N, O)``.

    Args:
        targets: finite up to the last origin.
        origins: where forecasts start.
        seasons: the seasons of every target, shortest first. Each is repeated where all targets have the same; where
            they differ, the shortest of each.

    Examples:
        >>> y = np.tile([1.0, 2.0, 3.0, 4.0], 10)[:, None]
        >>> found = {one.name: one for one in baselines(y, Origins.of(32, 40, 4), [[4]])}
        >>> found["seasonal naive (4)"].scores(0)["RMSE"], found["last value"].scores(0)["RMSE"] > 1
        (0.0, True)
    """
    observed, scale = origins.of_targets(targets), scale_of(targets[: origins.start], seasons)
    short = [[season for season in each if season < origins.start] for each in seasons]
    repeated: dict[str, list[int]] = {}
    if any(each != short[0] for each in short):
        repeated["seasonal naive"] = [each[0] if each else 1 for each in short]
    else:
        repeated |= {f"seasonal naive ({season})": [season] * len(short) for season in short[0]}
    kinds = [
        (name + " with drift" * drifting, each, drifting) for name, each in repeated.items() for drifting in (0, 1)
    ]
    kinds += [("last value", [1] * len(seasons), 0), ("drift", [1] * len(seasons), 1)]
    found, stop = [], int(origins.places[-1]) + 1
    for name, lengths, drifting in kinds:
        forecasts = np.empty_like(observed)
        for column, season in enumerate(lengths):
            y = targets[:, column]
            naive = Naive.fit(y[: origins.start], season, bool(drifting))
            forecasts[:, :, column] = naive.forecast(y, origins.start - 1, stop, origins.steps)[:: origins.stride]
        found.append(Rolled(name, observed, forecasts, scale))
    with suppress(InputError):  # too short for it, or too alike
        parts = [_autoregression(targets[:, column], origins) for column in range(targets.shape[1])]
        found.append(Rolled("AR", observed, np.stack(parts, axis=2), scale))
    return found


def scale_of(train: Array, seasons: Sequence[Sequence[int]]) -> Array:
    """Return the mean absolute change from season to season, ``(O,)``, of ``train (N, O)``."""
    found = []
    for column, lengths in enumerate(seasons):
        y = train[:, column]
        lag = lengths[0] if lengths and len(y) > lengths[0] else 1
        changes = np.abs(y[lag:] - y[:-lag])
        found.append(float(np.nanmean(changes)) if np.isfinite(changes).any() else float("nan"))
    return np.array(found)


def _autoregression(y: Array, origins: Origins) -> Array:
    """Return an AR's forecasts from every origin, ``(n, K)``, one step ahead and again from there."""
    nothing = np.zeros((len(y), 0))
    fitted = Contender("AR", "autoregression", recursive=True).fit(
        y[: origins.start], nothing[: origins.start], origins.steps
    )
    return fitted.forecast(y, nothing, origins.start - 1, int(origins.places[-1]) + 1, origins.steps)[:: origins.stride]
