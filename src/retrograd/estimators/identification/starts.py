"""Where a refinement starts from: subspace estimates, with everything that is linear fitted to the data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from retrograd.errors import InputError
from retrograd.estimators.identification.bounds import drawn_in, with_forgetting_gain
from retrograd.estimators.identification.criterion import Criterion
from retrograd.estimators.identification.experiments import Experiments
from retrograd.estimators.identification.sensitivity import jacobian, least_squares, linear_part
from retrograd.estimators.identification.subspace import Subspace
from retrograd.estimators.identification.system import Layout, System, predict, with_unit_states

__all__ = ["extended", "start_systems", "subspace_of"]

Array = np.ndarray[Any, Any]

# Block rows of the subspace, as far as the order and the data allow: few see fast modes well, many slow ones.
BLOCK_ROWS = (10, 15, 25, 40)
# Where a start is unstable, its modes are drawn in to this radius; with innovations a gain holds them.
STABLE_START = {False: 0.995, True: 0.9999}
# Poles that a further state may start with.
NEW_POLES = (0.95, 0.7, 0.2, -0.4, -0.9)
# Without a bound on A, a start may grow so much from the first step to the last (its logarithm).
MOST_GROWTH = 7.0


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
    ``stable``, modes beyond :data:`STABLE_START` are drawn in to it; a predictor that does not forget gets another K.

    Raises:
        InputError: there is too little data for the order; the message says how much is needed.
    """
    n = layout.order
    filled = _centred(data)
    judge = Criterion(data)
    longest = max(*data.lengths, 10)
    radius = STABLE_START[layout.innovations] if stable else float(np.exp(MOST_GROWTH / longest))
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
            try:
                system = linear_part(drawn_in(A, radius), C, layout, data, innovation)
            except np.linalg.LinAlgError as error:  # a free run that leaves the range of numbers
                refused = refused or InputError(f"its free run runs off ({error})")
                continue
            if innovation is not None:
                system = with_forgetting_gain(system, innovation.T @ innovation / len(innovation), 1 - 1 / longest)
            system = with_unit_states(system, data)
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
        A = drawn_in(best.A + 0.1 * random.standard_normal(best.A.shape) / n**0.5, STABLE_START[False])
        # Without innovations K is zero, and such a predictor forgets as A does.
        systems.append(linear_part(A, best.C, layout, data))
    return systems


def extended(system: System, layout: Layout, data: Experiments) -> System:
    """Return the system with one more state, as ``layout`` has it, and the same predictions.

    The outputs read the state and nothing drives it yet: a first step of a refinement can. Its pole is the one with
    which that step, least squares in what drives it, takes most off the residuals.
    """
    n, p = system.order, len(system.C)
    predicted = predict(system, data)[1]
    e = np.where(data.observed, data.outputs - predicted, 0.0)
    direction = np.linalg.svd(e, full_matrices=False)[2][0]
    best: tuple[float, System] | None = None
    drives = np.concatenate(
        [np.arange(at.stop - width, at.stop) for name, width in _last_row(layout) for at in [layout.slices()[name]]]
    )
    for pole in NEW_POLES:
        A = np.zeros((n + 1, n + 1))
        A[:n, :n], A[n, n] = system.A, pole
        B, K = (np.concatenate([M, np.zeros((1, M.shape[1]))]) for M in (system.B, system.K))
        C = np.concatenate([system.C, direction.reshape(p, 1) * np.linalg.norm(system.C) / n**0.5], axis=1)
        x0 = np.concatenate([system.x0, np.zeros((len(system.x0), 1))], axis=1)
        tried = replace(system, A=A, B=B, C=C, K=K, x0=x0)
        design = jacobian(tried, layout, data)[2][:, :, drives].transpose(1, 0, 2)[data.observed]
        left = e[data.observed] - design @ least_squares(design, e[data.observed])
        value = float(left @ left)
        if best is None or value < best[0]:
            best = (value, tried)
    assert best is not None
    return best[1]


def _last_row(layout: Layout) -> list[tuple[str, int]]:
    """Return the parameters that drive the last state, and how many of each."""
    widths = {"B": layout.inputs, "K": layout.outputs, "x0": 1}
    return [(name, width) for name, width in widths.items() if name in layout.shapes()]


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
