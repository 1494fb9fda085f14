"""Where a refinement starts from: subspace estimates, with everything that is linear fitted to the data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from retrograd.errors import InputError
from retrograd.estimators.identification.experiments import Experiments
from retrograd.estimators.identification.prediction_error import Criterion, forgetting_radius
from retrograd.estimators.identification.sensitivity import least_squares, linear_part
from retrograd.estimators.identification.subspace import Subspace
from retrograd.estimators.identification.system import Layout, System, predict, with_unit_states

__all__ = ["start_systems", "subspace_of"]

Array = np.ndarray[Any, Any]

# Block rows of the subspace, as far as the order and the data allow: few see fast modes well, many slow ones.
BLOCK_ROWS = (10, 15, 25, 40)
# Where a start is unstable, its modes are drawn in to this radius.
STABLE_START = 0.995


def subspace_of(data: Experiments, order: int, weighting: str = "moesp") -> Subspace:
    """Return the subspace that orders are judged by: of the centred data, with as many block rows as they allow."""
    centred = _centred(data)
    for block_rows in reversed(_block_rows(order)):
        try:
            return Subspace.of(centred, block_rows=block_rows, weighting=weighting)
        except InputError as error:
            refused = error
    raise refused


def _block_rows(order: int) -> list[int]:
    return sorted({max(order + 1, rows) for rows in (*BLOCK_ROWS, 0)})


def start_systems(
    data: Experiments, layout: Layout, count: int, *, stable: bool = True, seed: int | None = 0
) -> list[System]:
    """Return ``count`` systems to start from: subspace estimates, best first by the criterion; then perturbed ones.

    A and C come from every weighting and several numbers of block rows; given those, the free run is linear in B, D,
    offset and x0 (and in K, with the residuals of a long autoregression for innovations): least squares. With
    ``stable``, modes beyond :data:`STABLE_START` are drawn in to it.

    Raises:
        InputError: there is too little data for the order; the message says how much is needed.
    """
    n = layout.order
    filled = _centred(data)
    judge = Criterion(data)
    radius = forgetting_radius(data) if layout.innovations else float("inf")
    found: list[tuple[float, System]] = []
    refused: InputError | None = None
    for block_rows in _block_rows(n):
        try:
            candidates = [subspace.transition(n) for subspace in Subspace.each(filled, block_rows=block_rows)]
        except InputError as error:
            refused = refused or error
            continue
        innovation = _long_autoregression(filled, block_rows) if layout.innovations else None
        for A, C in candidates:
            system = linear_part(_drawn_in(A) if stable else A, C, layout, data, innovation)
            system = with_unit_states(_with_stable_predictor(system, radius), data)
            value = judge.value(judge.residuals(predict(system, data)[1]), np.zeros(1), np.zeros(1))
            found.append((value, system))
    if not found:
        assert refused is not None
        raise InputError(f"order {n} asks for more than the data have: {refused}")
    found.sort(key=lambda pair: pair[0])
    systems = [system for _, system in found[:count]]
    random = np.random.default_rng(seed)
    while len(systems) < count:
        best = systems[0]
        A = _drawn_in(best.A + 0.1 * random.standard_normal(best.A.shape) / n**0.5)
        systems.append(_with_stable_predictor(linear_part(A, best.C, layout, data), radius))
    return systems


def _centred(data: Experiments) -> Experiments:
    """Return the data with each column's mean taken off and missing outputs interpolated: good enough for a start."""
    outputs = data.outputs.copy()
    for column in range(outputs.shape[1]):
        seen = data.observed[:, column]
        mean = outputs[seen, column].mean()
        for piece, there in zip(data.split(np.arange(len(outputs))), data.split(seen), strict=True):
            if there.any() and not there.all():
                outputs[piece[~there], column] = np.interp(piece[~there], piece[there], outputs[piece[there], column])
            elif not there.any():
                outputs[piece, column] = mean
        outputs[:, column] -= mean
    return replace(
        data, inputs=data.inputs - data.inputs.mean(axis=0), outputs=outputs, observed=np.ones_like(data.observed)
    )


def _drawn_in(A: Array, radius: float = STABLE_START) -> Array:
    values, vectors = np.linalg.eig(A)
    size = np.abs(values)
    if (size <= radius).all():
        return A
    inside = np.where(size > radius, values / np.maximum(size, 1e-300) * radius, values)
    return np.asarray(np.linalg.solve(vectors.T, (vectors * inside).T).T.real)


def _with_stable_predictor(system: System, radius: float) -> System:
    """Return the system with K shrunk until A − K C is within ``radius``, A drawn in if even K = 0 is not."""
    while system.K.any() and system.predictor_radius() > radius:
        system = replace(system, K=system.K / 2 if np.abs(system.K).max() > 1e-6 else np.zeros_like(system.K))
    return system if system.predictor_radius() <= radius else replace(system, A=_drawn_in(system.A, 0.99 * radius))


def _long_autoregression(data: Experiments, lags: int) -> Array:
    """Return estimated innovations ``(N, p)``: residuals of y on the last ``lags`` inputs and outputs (0 before)."""
    designs, targets, places = [], [], []
    both = np.concatenate([data.outputs, data.inputs], axis=1)
    for rows in data.split(np.arange(len(both))):
        if len(rows) > lags:
            windows = np.lib.stride_tricks.sliding_window_view(both[rows], lags, axis=0)[:-1]
            designs.append(np.concatenate([windows.reshape(len(windows), -1), data.inputs[rows[lags:]]], axis=1))
            targets.append(data.outputs[rows[lags:]])
            places.append(rows[lags:])
    residuals = np.zeros_like(data.outputs)
    if designs:
        design, target = np.concatenate(designs), np.concatenate(targets)
        fitted = design @ least_squares(design, target)
        residuals[np.concatenate(places)] = target - fitted
    return residuals
