"""The forecaster on plain arrays: scale, remember, fit the read-out, predict, extend.

:class:`retrograd.estimators.Forecaster` brings tables, dates and horizons to this form and back. A series is one column
of one instance; all series share one read-out (a global model), or each has its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from retrograd.errors import InputError
from retrograd.estimators.forecasting.fit import Group, add_feature_gradients, fit_group, folds_of, refined
from retrograd.estimators.forecasting.readout import Moments, Piece, inverse, solve
from retrograd.estimators.forecasting.recursion import ClosedLoop, closed_loop, direct, recursive
from retrograd.estimators.forecasting.settings import Instance, Settings, look_back
from retrograd.estimators.forecasting.states import Lags, Linear, strongest_periods
from retrograd.estimators.recurrent.training import Epoch
from retrograd.tables.scale import mean_and_deviation

__all__ = ["ForecastModel"]

Array = np.ndarray[Any, Any]

# Residuals of so many windows a series, evenly spread, are enough for a variance.
_RESIDUALS = 4096
# Forecasts stay within so many times as far from the mean as the rows so far, or as so many deviations.
_FAR, _DEVIATIONS = 4, 5


@dataclass
class ForecastModel:
    """A fitted forecaster of I instances with C columns each.

    Attributes:
        settings: what was asked for.
        states: the recurrence.
        horizons: of the read-out, ``(K,)``; 1 alone if it is recursive.
        y_mean: ``(I, C)``.
        y_scale: ``(I, C)``.
        x_mean: ``(E,)``.
        x_scale: ``(E,)``.
        groups: one, or one for every series.
        errors: sums of squared residuals, scaled, ``(I, C, K)``.
        counts: how many residuals, ``(I,)``.
        tails: the last rows, from which forecasts start.
        history: of the training, if there was one.
    """

    settings: Settings
    states: Lags | Linear
    horizons: Array
    y_mean: Array
    y_scale: Array
    x_mean: Array
    x_scale: Array
    groups: list[Group]
    errors: Array
    counts: Array
    tails: list[Instance]
    history: list[Epoch]

    @classmethod
    def fit(cls, instances: list[Instance], horizons: Array, settings: Settings) -> ForecastModel:
        """Fit to finite arrays.

        Args:
            instances: one or more, with the same columns.
            horizons: steps ahead, increasing, ``(K,)``.
            settings: what is asked for.

        Raises:
            InputError: there is too little data, or ridge is 0 and there are collinear features.
        """
        longest = int(horizons[-1])
        lags = look_back(instances, longest, settings)
        y_mean = np.zeros((len(instances), instances[0].y.shape[1]))
        y_scale = np.ones_like(y_mean)
        x_all = np.concatenate([instance.x for instance in instances])
        x_mean, x_scale = np.zeros(x_all.shape[1]), np.ones(x_all.shape[1])
        if settings.scale:
            found = [mean_and_deviation(instance.y) for instance in instances]
            y_mean, deviation = (np.stack(parts) for parts in zip(*found, strict=True))
            # A series that never changes has no scale of its own.
            y_scale = np.where(deviation > 1e-12 * np.abs(y_mean), deviation, 1.0)
            x_mean, x_scale = mean_and_deviation(x_all)
            x_scale[x_scale == 0] = 1.0  # one of a calendar pair may stand still
        states: Lags | Linear
        scaled = [(each.y - mean) / scale for each, mean, scale in zip(instances, y_mean, y_scale, strict=True)]
        if settings.states == "lags":
            states = Lags(lags, settings.difference)
        else:
            periods = strongest_periods(max(scaled, key=len), settings.hidden // 2)
            states = Linear.untrained(
                settings.states, settings.hidden, lags, periods, settings.difference, settings.seed
            )
        shape = (*y_mean.shape, len(horizons))
        model = cls(
            settings,
            states,
            horizons,
            y_mean,
            y_scale,
            x_mean,
            x_scale,
            [],
            np.zeros(shape),
            np.zeros(len(instances)),
            [],
            [],
        )
        if settings.epochs:
            assert isinstance(states, Linear)

            def pieces_under(trained: Linear) -> list[Piece]:
                model.states = trained
                return [model.piece(number, instance) for number, instance in enumerate(instances)]

            ranges = model._ranges(pieces_under(states))
            model.states, model.history = refined(
                states, pieces_under, model._series(len(instances)), ranges, horizons, settings
            )
        pieces = [model.piece(number, instance) for number, instance in enumerate(instances)]
        for series in model._series(len(instances)):
            folds = folds_of(pieces, series, model._ranges(pieces), horizons)
            model.groups.append(fit_group(folds, settings))
        for number, (piece, (start, stop)) in enumerate(zip(pieces, model._ranges(pieces), strict=True)):
            model._add_errors(number, piece, start, stop)
        model.tails = [model._tail(each, piece) for each, piece in zip(instances, pieces, strict=True)]
        return model

    def piece(self, number: int, instance: Instance) -> Piece:
        """Return an instance scaled, with the states along it."""
        y = (instance.y - self.y_mean[number]) / self.y_scale[number]
        x = (instance.x - self.x_mean) / self.x_scale
        trajectory = self.states.run(y, instance.before)
        return Piece(y, x, trajectory, self.settings.difference, self.settings.intercept)

    def predict(self, number: int, x_ahead: Array, steps: Array) -> Array:
        """Return forecasts from the end of an instance, ``(K, C)``.

        Args:
            number: which instance.
            x_ahead: its inputs at steps 1 to the last of ``steps``, ``(H, E)``.
            steps: horizons wanted, among those of the read-out if that is direct.
        """
        tail = self.tails[number]
        known = replace(tail, x=np.concatenate([tail.x, x_ahead]))
        last = len(tail.y) - 1
        return np.asarray(self.predict_from(number, known, last, last + 1, steps)[0])

    def predict_from(self, number: int, instance: Instance, start: int, stop: int, steps: Array) -> Array:
        """Return forecasts from every origin (last known row) ``start`` to ``stop``, ``(stop - start, K, C)``."""
        piece = self.piece(number, instance)
        found = np.empty((stop - start, len(steps), piece.y.shape[1]))
        for column in range(piece.y.shape[1]):
            group = self._group(number, column)
            loop = self._closed_loop(group, int(steps[-1])) if self.settings.recursive else None
            for first, last in piece.blocks(start, stop, self.states.width + int(steps[-1]) * (1 + piece.x.shape[1])):
                found[first - start : last - start, :, column] = (
                    direct(piece, group.weights, self._places(steps), column, first, last, steps)
                    if loop is None
                    else recursive(piece, group.weights, loop, column, first, last, steps)
                )
        low, high = self._bounds(number, instance.y[:stop])
        forecasts = found * self.y_scale[number] + self.y_mean[number]
        return np.asarray(np.clip(forecasts, low[start:, None], high[start:, None]))

    def deviation(self, number: int, steps: Array) -> Array:
        """Return the standard deviation of the forecast errors of an instance, ``(K, C)``, in its units."""
        columns = []
        for column in range(self.errors.shape[1]):
            group = self._group(number, column)
            # An instance without a window of its own has the others' errors.
            own = self.counts[number] > 0
            error = self.errors[number, column] if own else self.errors.mean(axis=(0, 1))
            variance = group.inflation * error / max(1.0, self.counts[number] if own else self.counts.mean())
            if self.settings.recursive:
                psi = self._closed_loop(group, int(steps[-1])).psi
                variance = (variance[0] * (psi**2).cumsum())[steps - 1]
            else:
                variance = variance[self._places(steps)]
            columns.append(np.sqrt(variance))
        return np.asarray(np.stack(columns, axis=1) * self.y_scale[number])

    def deviations_now(self, steps: Array) -> Array:
        """Return those of forecasts from the ends of all instances, below each other, ``(I K, C)``.

        A forecast by the features z errs by the noise and by what its weights are off: its variance is
        1 + zᵀ (Σ z zᵀ + λ I)⁻¹ z times that of the noise. The usual size of the second part is in :meth:`deviation`; it
        is larger where the newest rows are like none before, as after a wild value.
        """
        every, inverses = [], {}
        for number, tail in enumerate(self.tails):
            piece, last, found = self.piece(number, tail), len(tail.y) - 1, self.deviation(number, steps)
            low, high = (end[-1] for end in self._bounds(number, tail.y))
            for column in range(found.shape[1]):
                group = self._group(number, column)
                if id(group) not in inverses:
                    inverses[id(group)] = inverse(group.moments, group.ridge, self.settings.intercept)
                G, usual = inverses[id(group)]
                z = piece.features(column, last, last + 1)[0]
                found[:, column] *= np.sqrt(max(1.0, (1 + float(z @ G @ z)) / (1 + usual)))
            every.append(np.minimum(found, (high - low) / 2))
        return np.concatenate(every)

    def _bounds(self, number: int, y: Array) -> tuple[Array, Array]:
        """Return how far down and up forecasts from every row go, ``(T, C)``.

        That is so many times as far from the mean as the rows so far, or as so many deviations: what runs off is cut.
        """
        mean, scale = self.y_mean[number], self.y_scale[number]
        far = _FAR * np.maximum(np.maximum.accumulate(np.abs(y - mean), axis=0), _DEVIATIONS * scale)
        return mean - far, mean + far

    def extend(self, new: dict[int, tuple[Array, Array]], learn: bool) -> None:
        """Append rows ``y (N, C)``, ``x (N, E)`` to instances; with ``learn`` fit again, old windows and new ones."""
        longest = int(self.horizons[-1])
        pieces: dict[int, tuple[Instance, Piece, int, int]] = {}
        for number, (y, x) in new.items():
            tail = self.tails[number]
            longer = replace(tail, y=np.concatenate([tail.y, y]), x=np.concatenate([tail.x, x]))
            start = max(self.states.burn, len(tail.y) - longest)
            pieces[number] = longer, self.piece(number, longer), start, max(start, len(longer.y) - longest)
        if learn:
            for place, series in enumerate(self._series(len(self.tails))):
                moments = self.groups[place].moments
                for number, columns in series.items():
                    if number in pieces and pieces[number][3] > pieces[number][2]:
                        _, piece, start, stop = pieces[number]
                        moments = moments + Moments.of(piece, columns, start, stop, self.horizons)
                group = self.groups[place]
                weights = solve(moments, group.ridge, self.settings.intercept)
                self.groups[place] = replace(group, moments=moments, weights=weights)
        for number, (longer, piece, start, stop) in pieces.items():
            if learn and stop > start:
                self._add_errors(number, piece, start, stop)
            self.tails[number] = self._tail(longer, piece)

    def gradient_of_states(self, number: int, instance: Instance) -> tuple[Array, Array, float]:
        """Return the scaled values along an instance, ∂L/∂h_t, and L, the mean squared error at the horizons.

        Returns:
            ``(values (T, C), gradient (C, T, width), L)``, the gradient a season shorter if seasonal.

        Raises:
            InputError: the instance is too short for any window.
        """
        piece = self.piece(number, instance)
        ((start, stop),) = self._ranges([piece])
        if stop <= start:
            raise InputError(
                f"y has {len(piece.y)} rows, expected more than {self.states.burn + int(self.horizons[-1])}: the "
                "season and the longest horizon"
            )
        gradient = np.zeros((piece.y.shape[1], len(piece.y), self.states.width))
        count, loss = (stop - start) * gradient.shape[0] * len(self.horizons), 0.0
        for column in range(len(gradient)):
            weights = self._group(number, column).weights
            moments = Moments.of(piece, [column], start, stop, self.horizons)
            loss += float(moments.squared_error(weights).sum()) / count
            add_feature_gradients(
                [piece], {0: [column]}, [(start, stop)], self.horizons, weights, (2 / count, 0.0), [gradient]
            )
        return piece.y, gradient[:, self.settings.season :], loss

    def _group(self, number: int, column: int) -> Group:
        return self.groups[0 if self.settings.share else number * self.y_mean.shape[1] + column]

    def _series(self, instances: int) -> list[dict[int, list[int]]]:
        """Return, for every group, its columns by instance."""
        columns = range(self.y_mean.shape[1])
        if self.settings.share:
            return [{number: list(columns) for number in range(instances)}]
        return [{number: [column]} for number in range(instances) for column in columns]

    def _ranges(self, pieces: Sequence[Piece]) -> list[tuple[int, int]]:
        """Return the origins of each instance that have all their targets."""
        burn, longest = self.states.burn, int(self.horizons[-1])
        return [(burn, max(burn, len(piece.y) - longest)) for piece in pieces]

    def _places(self, steps: Array) -> Array:
        return np.searchsorted(self.horizons, steps)

    def _closed_loop(self, group: Group, steps: int) -> ClosedLoop:
        A, w = self.states.recurrence()
        lag = {None: 0, "last": 1}.get(self.settings.difference, self.settings.difference)  # type: ignore[arg-type]
        return closed_loop(A, w, group.weights.states[: len(w), 0], steps, int(lag or 0))

    def _add_errors(self, number: int, piece: Piece, start: int, stop: int) -> None:
        stride = max(1, -(-(stop - start) // _RESIDUALS))
        for origin_block in piece.blocks(start, stop, 4 * len(self.horizons)):
            first, last = origin_block
            skip = -(first - start) % stride
            for column in range(piece.y.shape[1]):
                weights = self._group(number, column).weights
                places = np.arange(len(self.horizons))
                predicted = direct(piece, weights, places, column, first, last, self.horizons, based=False)
                residual = (piece.targets(column, first, last, self.horizons) - predicted)[skip::stride]
                self.errors[number, column] += (residual**2).sum(axis=0)
            self.counts[number] += len(range(first + skip, last, stride))

    def _tail(self, instance: Instance, piece: Piece) -> Instance:
        keep = self.states.burn + int(self.horizons[-1]) + 1
        row = max(0, len(instance.y) - keep)
        before = instance.before if row == 0 else piece.trajectory.before(row)
        return Instance(instance.name, instance.y[row:].copy(), instance.x[row : len(instance.y)].copy(), before)
