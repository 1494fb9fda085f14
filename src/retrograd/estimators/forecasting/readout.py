"""Read-outs in closed form: from what a state remembers at an origin t to the values at t + h.

    direct       ŷ_{t+h} = base + W_h z_t + β_h x_{t+h}              one map for every horizon h
    recursive    ŷ_{t+1} = base + C z_t + β x_{t+1}, then again from its own prediction

``base`` is what differencing subtracts from the target: y_t (``"last"``), the newest value of the same season, or
nothing; x is differenced in the same way. Every W_h is the ridge solution of one regression on the same features, so
all of them come from one Cholesky factor of the Gram matrix Σ z zᵀ + λ I; the few inputs of each horizon are taken in
by their Schur complement. Gram matrices are sums over windows: they are built in blocks, added up over series, and
kept, so that new data is an addition.

What a recursive read-out says many steps ahead is in :mod:`retrograd.estimators.forecasting.recursion`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from retrograd.errors import InputError
from retrograd.estimators.forecasting.states import Difference, Trajectory

__all__ = ["Moments", "Piece", "Weights", "choose_ridge", "cross_validated", "inverse", "penalties", "solve"]

Array = np.ndarray[Any, Any]

# Numbers in one block of features, targets and inputs: 16 MB.
_BLOCK = 1 << 21
# What "auto" tries, relative to the mean square of a feature, and on how many horizons it judges.
_RIDGES = 10.0 ** np.arange(-8, 1.01, 0.5)
_JUDGED = 48
# The part of a feature that no other explains, below which Cholesky's answer is rounding.
_COLLINEAR = 1e-12
# Changes of an input below this part of its size are none.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Piece:
    """One instance: its series and inputs, scaled, and the states along them.

    Attributes:
        y: ``(T, C)``.
        x: ``(≥ T, E)``; rows beyond T are the known future.
        trajectory: the states.
        difference: ``None``, ``"last"`` or a season.
        intercept: whether a constant stands beside the features.
    """

    y: Array
    x: Array
    trajectory: Trajectory
    difference: Difference
    intercept: bool

    def features(self, column: int, start: int, stop: int) -> Array:
        """Return z_t, and 1 if there is an intercept: ``(stop - start, D)``."""
        z = self.trajectory.features(column, start, stop)
        return np.concatenate([z, np.ones((len(z), 1))], axis=1) if self.intercept else z

    def base_rows(self, start: int, stop: int, horizons: Array) -> Array | None:
        """Return the rows whose values are subtracted, ``(stop - start, K or 1)``."""
        origins = np.arange(start, stop)[:, None]
        if self.difference is None:
            return None
        if self.difference == "last":
            return origins
        return np.asarray(origins - self.difference + 1 + (horizons - 1) % self.difference)

    def base(self, column: int, start: int, stop: int, horizons: Array) -> Array:
        """Return what is added to a prediction, ``(stop - start, K or 1)``."""
        rows = self.base_rows(start, stop, horizons)
        return np.zeros((stop - start, 1)) if rows is None else np.asarray(self.y[rows, column])

    def targets(self, column: int, start: int, stop: int, horizons: Array) -> Array:
        """Return y_{t+h} less its base, ``(stop - start, K)``."""
        rows = np.arange(start, stop)[:, None] + horizons
        return np.asarray(self.y[rows, column] - self.base(column, start, stop, horizons))

    def inputs(self, start: int, stop: int, horizons: Array) -> Array:
        """Return x_{t+h} less its base, by horizon: ``(K, stop - start, E)``."""
        ahead = self.x[np.arange(start, stop) + horizons[:, None]]
        rows = self.base_rows(start, stop, horizons)
        if rows is None:
            return ahead
        # A sine does not differ from itself a period ahead, but for rounding, which must not be taken for an input.
        change = ahead - self.x[rows.T]
        change[np.abs(change) <= _ROUNDING * np.abs(self.x).max(axis=0, initial=0.0)] = 0.0
        return np.asarray(change)

    def blocks(self, start: int, stop: int, numbers: int) -> Iterator[tuple[int, int]]:
        """Cut origins into blocks of about ``_BLOCK`` numbers, ``numbers`` being those of one origin."""
        step = max(16, _BLOCK // max(1, numbers))
        for first in range(start, stop, step):
            yield first, min(first + step, stop)


@dataclass(frozen=True)
class Moments:
    """All that a least squares fit of K horizons needs to know of n windows; sums, so they can be added.

    Attributes:
        count: n.
        gram: Σ z zᵀ, ``(D, D)``.
        cross: Σ z y_h, ``(D, K)``.
        energy: Σ y_h², ``(K,)``.
        input_gram: Σ x_h x_hᵀ, ``(K, E, E)``.
        input_cross: Σ z x_hᵀ, ``(D, K, E)``.
        input_target: Σ x_h y_h, ``(K, E)``.

    Examples:
        >>> from retrograd.estimators.forecasting.states import Lags
        >>> y = np.arange(6.0)[:, None] ** 2
        >>> piece = Piece(y, np.empty((6, 0)), Lags(2, None).run(y), None, False)
        >>> moments = Moments.of(piece, [0], 1, 4, np.array([1, 2]))
        >>> moments.count, moments.cross.shape, float(moments.gram[0, 0])
        (3, (2, 2), 98.0)
    """

    count: int
    gram: Array
    cross: Array
    energy: Array
    input_gram: Array
    input_cross: Array
    input_target: Array

    @classmethod
    def of(cls, piece: Piece, columns: Sequence[int], start: int, stop: int, horizons: Array) -> Moments:
        """Return the moments of the windows with origins ``start`` to ``stop`` of some series, taken together."""
        E, K = piece.x.shape[1], len(horizons)
        D = piece.features(columns[0], start, start).shape[1]
        gram, cross, energy = np.zeros((D, D)), np.zeros((D, K)), np.zeros(K)
        input_gram, input_cross, input_target = np.zeros((K, E, E)), np.zeros((D, K, E)), np.zeros((K, E))
        for first, last in piece.blocks(start, stop, D + K * (1 + E)):
            z_sum, y_sum = np.zeros((last - first, D)), np.zeros((last - first, K))
            for column in columns:
                z, y = piece.features(column, first, last), piece.targets(column, first, last, horizons)
                gram += z.T @ z
                cross += z.T @ y
                energy += np.einsum("nk,nk->k", y, y)
                if E:
                    z_sum += z
                    y_sum += y
            if E:  # the same inputs for every series, so the series' sums are enough
                x = piece.inputs(first, last, horizons)
                input_gram += len(columns) * (x.transpose(0, 2, 1) @ x)
                input_cross += (z_sum.T @ x).transpose(1, 0, 2)
                input_target += (x.transpose(0, 2, 1) @ y_sum.T[:, :, None])[:, :, 0]
        return cls((stop - start) * len(columns), gram, cross, energy, input_gram, input_cross, input_target)

    def __add__(self, other: Moments) -> Moments:
        """Return the moments of both sets of windows."""
        return Moments(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def at(self, which: Array) -> Moments:
        """Return the moments of some of the K horizons only."""
        return Moments(
            self.count,
            self.gram,
            self.cross[:, which],
            self.energy[which],
            self.input_gram[which],
            self.input_cross[:, which],
            self.input_target[which],
        )

    def squared_error(self, weights: Weights) -> Array:
        """Return the sum of squared errors of a read-out over these windows, ``(K,)``."""
        W, beta = weights.states, weights.inputs
        error = self.energy - 2 * (W * self.cross).sum(axis=0) + (W * (self.gram @ W)).sum(axis=0)
        error -= 2 * (beta * self.input_target).sum(axis=1)
        error += np.einsum("ke,kef,kf->k", beta, self.input_gram, beta)
        error += 2 * np.einsum("dk,dke,ke->k", W, self.input_cross, beta)
        # A perfect fit leaves rounding, of either sign.
        return np.asarray(np.maximum(error, 0.0))


@dataclass(frozen=True)
class Weights:
    """A read-out of K horizons.

    Attributes:
        states: W, ``(D, K)``; the last row is the intercept, if there is one.
        inputs: β, ``(K, E)``.
    """

    states: Array
    inputs: Array


def penalties(moments: Moments, ridge: float, intercept: bool) -> tuple[float, float]:
    """Return λ of the state's weights and of the inputs': ``ridge`` times the mean Σ z² and Σ x²."""
    scale = np.diag(moments.gram)[: len(moments.gram) - intercept]
    inputs = np.diagonal(moments.input_gram, axis1=1, axis2=2)
    mean = float(scale.mean()) if len(scale) else 0.0
    # A series of zeros has no scale: any penalty gives it its weights, zero.
    return ridge * (mean if mean > 0 else 1.0), ridge * (float(inputs.mean()) if inputs.size else 0.0)


def solve(moments: Moments, ridge: float, intercept: bool) -> Weights:
    """Minimise Σ (y_h − W_h z − β_h x_h)² + λ (|W_h|² + |β_h|²) for every horizon, by one Cholesky factor.

    Args:
        moments: of the windows to fit.
        ridge: λ relative to the mean of Σ z², so that it means the same for any number of windows.
        intercept: whether the last feature is a constant, which is not penalised.

    Raises:
        InputError: the ridge is zero and the features are collinear.
    """
    D = len(moments.gram)
    penalty, input_penalty = penalties(moments, ridge, intercept)
    system = moments.gram + np.diag(np.where(np.arange(D) < D - intercept, penalty, 0.0))
    try:
        factor = cho_factor(system, lower=True)
        own_part = np.diag(factor[0]) ** 2 / np.diag(system)
        if D and own_part.min() < _COLLINEAR:
            raise LinAlgError(f"feature {int(own_part.argmin())}")
    except (LinAlgError, ValueError) as error:
        raise InputError(
            f"ridge is {ridge:g} and the {D} features of the state are collinear in the training part (a constant or "
            f"perfectly periodic series, or more lags than windows: {moments.count}): set ridge='auto' or above 0, or "
            "take fewer lags"
        ) from error
    E = moments.input_target.shape[1]
    K = len(moments.energy)
    if E == 0:
        return Weights(cho_solve(factor, moments.cross), np.zeros((K, 0)))
    both = cho_solve(factor, np.concatenate([moments.cross, moments.input_cross.reshape(D, K * E)], axis=1))
    W, Z = both[:, :K], both[:, K:].reshape(D, K, E)
    schur = moments.input_gram - np.einsum("dke,dkf->kef", moments.input_cross, Z)
    schur += input_penalty * np.eye(E)
    left = moments.input_target - np.einsum("dke,dk->ke", Z, moments.cross)
    # A daily input does not differ from itself a day ago: at such horizons its weight is zero, not noise.
    beta = (np.linalg.pinv(schur, rcond=1e-10, hermitian=True) @ left[:, :, None])[:, :, 0]
    return Weights(W - np.einsum("dke,ke->dk", Z, beta), beta)


def inverse(moments: Moments, ridge: float, intercept: bool) -> tuple[Array, float]:
    """Return (Σ z zᵀ + λ I)⁻¹ ``(D, D)``, zeros if there is none, and the mean of zᵀ times it times z over windows."""
    D = len(moments.gram)
    penalty, _ = penalties(moments, ridge, intercept)
    try:
        found = np.linalg.inv(moments.gram + np.diag(np.where(np.arange(D) < D - intercept, penalty, 0.0)))
    except np.linalg.LinAlgError:
        found = np.zeros((D, D))
    return found, float((found * moments.gram).sum()) / max(1, moments.count)


def cross_validated(folds: Sequence[Moments], ridge: float, intercept: bool) -> Array:
    """Return the mean squared error of each fold's windows under the fit to all others, ``(K,)``."""
    total = _sum(folds)
    error = np.zeros_like(total.energy)
    for index, fold in enumerate(folds):
        rest = _sum([other for place, other in enumerate(folds) if place != index])
        error += fold.squared_error(solve(rest, ridge, intercept))
    return error / total.count


def choose_ridge(folds: Sequence[Moments], intercept: bool) -> float:
    """Return the ridge with the lowest cross-validated error over contiguous parts of the training data.

    Args:
        folds: moments of the parts, in the order of time.
        intercept: whether the last feature is a constant.
    """
    if len(folds) < 2:
        return 1.0
    K = len(folds[0].energy)
    some = np.unique(np.linspace(0, K - 1, min(K, _JUDGED)).round().astype(int))
    judged = [fold.at(some) for fold in folds]
    errors = np.full(len(_RIDGES), np.inf)
    for place, ridge in enumerate(_RIDGES):
        try:
            errors[place] = float(cross_validated(judged, float(ridge), intercept).mean())
        except InputError:  # too small to tell these features apart: no candidate
            continue
    return float(_RIDGES[int(np.argmin(errors))])


def _sum(parts: Sequence[Moments]) -> Moments:
    first, *others = parts
    for other in others:
        first = first + other
    return first
