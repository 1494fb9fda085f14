"""How a forecaster is fitted: windows cut into parts, the ridge chosen between them, states refined.

The parts are contiguous in time. Leaving out each in turn chooses the ridge, and tells how much larger errors are on
windows that were not fitted; the last one judges the training of the states.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from retrograd.errors import InputError
from retrograd.estimators.forecasting.readout import (
    Moments,
    Piece,
    Weights,
    choose_ridge,
    cross_validated,
    penalties,
    solve,
)
from retrograd.estimators.forecasting.recursion import direct
from retrograd.estimators.forecasting.refinement import refine
from retrograd.estimators.forecasting.settings import Settings
from retrograd.estimators.forecasting.states import Linear
from retrograd.estimators.recurrent.training import Epoch

__all__ = ["Group", "add_feature_gradients", "fit_group", "folds_of", "refined"]

Array = np.ndarray[Any, Any]

# Contiguous parts of the training data, and how many windows are too few to leave one out.
_FOLDS, _FEWEST = 5, 10


@dataclass(frozen=True)
class Group:
    """Series with one read-out: what was learnt of them.

    Attributes:
        moments: of all training windows.
        weights: the read-out.
        ridge: λ relative to the mean of Σ z².
        inflation: mean squared error of windows that were left out over that of fitted ones, ``(K,)``.
    """

    moments: Moments
    weights: Weights
    ridge: float
    inflation: Array


def folds_of(
    pieces: Sequence[Piece],
    series: dict[int, list[int]],
    ranges: list[tuple[int, int]],
    horizons: Array,
    *,
    require: bool = False,
) -> list[Moments]:
    """Return the moments of contiguous parts of the training windows; of all in one if there are few."""
    windows = sum(ranges[number][1] - ranges[number][0] for number in series)
    parts = _FOLDS if windows >= _FEWEST or require else 1
    folds: list[Moments] = []
    for part in range(parts):
        total: Moments | None = None
        for number, columns in series.items():
            edges = np.linspace(*ranges[number], parts + 1).round().astype(int)
            found = Moments.of(pieces[number], columns, int(edges[part]), int(edges[part + 1]), horizons)
            total = found if total is None else total + found
        assert total is not None
        if total.count:
            folds.append(total)
    if require and len(folds) < 2:
        raise InputError(
            f"epochs is above 0, but there are only {windows} training windows: one part of them judges the training; "
            "give more data or leave epochs at 0"
        )
    return folds


def fit_group(folds: list[Moments], settings: Settings) -> Group:
    """Return the read-out of all parts together, and how its error grows on windows that were left out."""
    # Small factorisations: threads would wait for each other longer than they work.
    with threadpool_limits(1, user_api="blas"):
        ridge = settings.ridge if settings.ridge is not None else choose_ridge(folds, settings.intercept)
        total = sum(folds[1:], start=folds[0])
        weights = solve(total, ridge, settings.intercept)
        fitted = total.squared_error(weights) / total.count
        inflation = np.ones_like(fitted)
        if len(folds) > 1:
            try:
                left_out = cross_validated(folds, ridge, settings.intercept)
            except InputError:  # four fifths of the data are fewer windows than lags: no part can be left out
                left_out = fitted
            inflation = np.maximum(1.0, np.divide(left_out, fitted, out=np.ones_like(fitted), where=fitted > 0))
    return Group(total, weights, ridge, inflation)


def refined(
    states: Linear,
    pieces_under: Callable[[Linear], list[Piece]],
    series: list[dict[int, list[int]]],
    ranges: list[tuple[int, int]],
    horizons: Array,
    settings: Settings,
) -> tuple[Linear, list[Epoch]]:
    """Train the states on all parts but the last, which judges the iterates.

    Args:
        states: where to start.
        pieces_under: returns the instances with the states along them.
        series: columns by instance, of every read-out.
        ranges: origins of each instance.
        horizons: of the read-out.
        settings: what was asked for.

    Returns:
        The best states, and the history.
    """
    pieces = pieces_under(states)
    edges = [np.linspace(start, stop, _FOLDS + 1).round().astype(int) for start, stop in ranges]
    fitted_ranges = [(int(edge[0]), int(edge[-2])) for edge in edges]
    ridges = []
    for columns in series:
        folds = folds_of(pieces, columns, ranges, horizons, require=True)
        with threadpool_limits(1, user_api="blas"):
            ridges.append(settings.ridge if settings.ridge is not None else choose_ridge(folds, settings.intercept))

    def objective(trained: Linear, wanted: bool) -> tuple[float, float, list[Array] | None]:
        parts = pieces_under(trained)
        gradients = [np.zeros((part.y.shape[1], len(part.y), trained.width)) for part in parts]
        loss = held_out = 0.0
        for columns, ridge in zip(series, ridges, strict=True):
            *fitted, last = folds_of(parts, columns, ranges, horizons, require=True)
            moments = sum(fitted[1:], start=fitted[0])
            if not (np.isfinite(moments.gram).all() and np.isfinite(last.gram).all()):
                return float("nan"), float("inf"), gradients
            weights = solve(moments, ridge, settings.intercept)
            size = len(horizons) * len(series)
            penalty, input_penalty = penalties(moments, ridge, settings.intercept)
            W, beta = weights.states[: trained.width], weights.inputs
            penalised = penalty * float((W**2).sum()) + input_penalty * float((beta**2).sum())
            loss += (float(moments.squared_error(weights).sum()) + penalised) / moments.count / size
            held_out += float(last.squared_error(weights).sum()) / last.count / size
            if wanted:
                # λ itself is in proportion to the mean of Σ z²: that is its part.
                shrink = ridge * float((W**2).sum()) / trained.width
                factor = 2 / moments.count / size
                add_feature_gradients(parts, columns, fitted_ranges, horizons, weights, (factor, shrink), gradients)
        return loss, held_out, [gradient[:, settings.season :] for gradient in gradients]

    return refine(
        states,
        [piece.y for piece in pieces],
        objective,
        epochs=settings.epochs,
        optimizer=settings.optimizer,
        lr=settings.lr,
    )


def add_feature_gradients(
    pieces: Sequence[Piece],
    series: dict[int, list[int]],
    ranges: list[tuple[int, int]],
    horizons: Array,
    weights: Weights,
    factors: tuple[float, float],
    gradients: list[Array],
) -> None:
    """Add factor (Σ_h residual_h W_h + shrink z_t) of the windows in ``ranges``, which is ∂L/∂z_t.

    Args:
        pieces: the instances.
        series: the columns of each that share the read-out.
        ranges: origins of each.
        horizons: of the read-out.
        weights: of the read-out.
        factors: factor and shrink.
        gradients: ``(C, T, width)`` of each instance.
    """
    factor, shrink = factors
    places = np.arange(len(horizons))
    for number, columns in series.items():
        piece, gradient = pieces[number], gradients[number]
        for first, last in piece.blocks(*ranges[number], 4 * len(horizons)):
            for column in columns:
                predicted = direct(piece, weights, places, column, first, last, horizons, based=False)
                residual = predicted - piece.targets(column, first, last, horizons)
                width = gradient.shape[2]
                pull = residual @ weights.states[:width].T + shrink * piece.features(column, first, last)[:, :width]
                gradient[column, first:last] += factor * pull
