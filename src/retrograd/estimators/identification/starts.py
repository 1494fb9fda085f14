"""Where a refinement starts from: subspace estimates, with everything that is linear fitted to the data."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from retrograd.errors import InputError
from retrograd.estimators.identification.bounds import drawn_in, with_forgetting_gain
from retrograd.estimators.identification.criterion import Criterion
from retrograd.estimators.identification.experiments import Experiments
from retrograd.estimators.identification.sensitivity import linear_part, sensitivities
from retrograd.estimators.identification.subspace import Subspace
from retrograd.estimators.identification.system import Layout, System, predict, with_unit_states
from retrograd.estimators.identification.triangles import AT_ONCE, least_squares, solution, triangle_of

__all__ = ["Starts", "extended"]

Array = np.ndarray[Any, Any]

# Block rows of the subspace, as far as the order and the data allow: few see fast modes well, many slow ones.
BLOCK_ROWS = (10, 15, 25, 40)
# Columns that their Hankel matrix has at most, beyond the smallest one that holds the order.
MOST_COLUMNS = 400
# Where a start is unstable, its modes are drawn in to this radius; with innovations a gain holds them.
STABLE_START = {False: 0.995, True: 0.9999}
# Poles that a further state may start with.
NEW_POLES = (0.95, 0.7, 0.2, -0.4, -0.9)
# Without a bound on A, a start may grow so much from the first step to the last (its logarithm), ...
MOST_GROWTH = 7.0
# ... or, where the data say so and it fits better, as much as leaves their other modes a digit.
UTMOST_GROWTH = 35.0


class Starts:
    """Where fits to some experiments start from; what does not depend on the order is computed once.

    Attributes:
        data: the experiments.
        stable: whether modes beyond :data:`STABLE_START` are drawn in to it.
        seed: of the starts beyond the subspace ones.
    """

    def __init__(self, data: Experiments, *, stable: bool = True, seed: int | None = 0) -> None:
        self.data, self.stable, self.seed = data, stable, seed
        self._filled = _centred(data)
        self._subspaces: dict[int, list[Subspace] | InputError] = {}
        self._innovations: dict[int, Array] = {}

    def singular_values(self, order: int) -> Array:
        """Return those that orders are judged by: of the centred data, with as many block rows as they allow.

        Raises:
            InputError: there is too little data for the order.
        """
        return self._widest(order).singular_values

    def rank(self) -> int | None:
        """Return the numerical rank of the outputs' future given the past; None where the data show no end of it.

        Noise, and outputs that are interpolated, fill every direction.
        """
        if not self.data.complete:
            return None
        try:
            widest = self._widest(1)
        except InputError:
            return None
        return widest.rank if widest.rank < len(widest.singular_values) else None

    def _widest(self, order: int) -> Subspace:
        for block_rows in reversed(self._block_rows(order)):
            found = self._of(block_rows)
            if not isinstance(found, InputError):
                return found[0]
        assert isinstance(found, InputError)
        raise found

    def systems(self, layout: Layout, count: int) -> list[System]:
        """Return ``count`` systems: subspace estimates, best first by the criterion; then perturbed ones.

        A and C come from every weighting and several numbers of block rows; given those, the free run is linear in B,
        D, offset and x0 (and in K, with the residuals of a long autoregression for innovations): least squares. A
        predictor that does not forget gets another K.

        Raises:
            InputError: there is too little data for the order; the message says how much is needed.
        """
        n, data = layout.order, self.data
        judge = Criterion(data)
        longest = max(*data.lengths, 10)
        radii = [STABLE_START[layout.innovations]]
        if not self.stable:
            radii = [float(np.exp(growth / longest)) for growth in (MOST_GROWTH, UTMOST_GROWTH)]
        found: list[tuple[float, System]] = []
        refused: InputError | None = None
        for block_rows in self._block_rows(n):
            subspaces = self._of(block_rows)
            if isinstance(subspaces, InputError):
                refused = refused or subspaces
                continue
            innovation = self._innovation(block_rows) if layout.innovations else None
            for subspace, radius in product(subspaces, radii):
                try:
                    A, C = subspace.transition(n)
                    if radius > radii[0] and np.abs(np.linalg.eigvals(A)).max() <= radii[0]:
                        continue  # as it was with the smaller radius
                    system = linear_part(drawn_in(A, radius), C, layout, data, innovation)
                except (InputError, np.linalg.LinAlgError) as error:  # a free run that leaves the range of numbers
                    refused = refused or InputError(str(error))
                    continue
                if innovation is not None:
                    system = with_forgetting_gain(system, innovation.T @ innovation / len(innovation), 1 - 1 / longest)
                system = with_unit_states(system, data)
                value = judge.value(judge.residuals(predict(system, data)[1]))
                found.append((value, system))
        if not found:
            assert refused is not None
            raise InputError(f"order {n} asks for more than the data have: {refused}")
        found.sort(key=lambda pair: pair[0])
        systems = [system for _, system in found[:count]]
        random = np.random.default_rng(self.seed)
        while len(systems) < count:
            best = systems[0]
            A = drawn_in(best.A + 0.1 * random.standard_normal(best.A.shape) / n**0.5, STABLE_START[False])
            # Without innovations K is zero, and such a predictor forgets as A does.
            systems.append(linear_part(A, best.C, layout, data))
        return systems

    def unbounded(self, layout: Layout) -> System | None:
        """Return the best start whose modes are left beyond the circle; None where no subspace has one there."""
        found = [self._of(block_rows) for block_rows in self._block_rows(layout.order)]
        subspaces = [one for several in found if not isinstance(several, InputError) for one in several]
        free = copy(self)
        free.stable = False
        try:
            transitions = [subspace.transition(layout.order)[0] for subspace in subspaces]
            grows = any(np.abs(np.linalg.eigvals(A)).max() > 1 for A in transitions)
            return free.systems(layout, 1)[0] if grows else None
        except (InputError, np.linalg.LinAlgError):  # no start without the bound can be run
            return None

    def _block_rows(self, order: int) -> list[int]:
        """Return numbers of block rows that hold the order, in matrices of bounded width; at least one."""
        width = 2 * (self.data.inputs.shape[1] + self.data.outputs.shape[1])
        tried = sorted({max(order + 1, rows) for rows in (*BLOCK_ROWS, 0)})
        return tried[:1] + [rows for rows in tried[1:] if rows * width <= MOST_COLUMNS]

    def _of(self, block_rows: int) -> list[Subspace] | InputError:
        if block_rows not in self._subspaces:
            try:
                self._subspaces[block_rows] = Subspace.each(self._filled, block_rows=block_rows)
            except InputError as error:
                self._subspaces[block_rows] = error
        return self._subspaces[block_rows]

    def _innovation(self, block_rows: int) -> Array:
        if block_rows not in self._innovations:
            self._innovations[block_rows] = _long_autoregression(self._filled, block_rows)
        return self._innovations[block_rows]


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
        x, _ = predict(tried, data)
        pieces = sensitivities(tried, layout, data, x, e)
        design = np.concatenate([J[:, :, drives].transpose(1, 0, 2)[data.observed[at]] for at, J in pieces])
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
    both = np.concatenate([data.outputs, data.inputs], axis=1)

    def pieces() -> Iterator[tuple[Array, slice]]:
        for start, length in zip(data.starts.tolist(), data.lengths, strict=True):
            for first in range(start + lags, start + length, AT_ONCE):
                at = slice(first, min(first + AT_ONCE, start + length))
                windows = np.lib.stride_tricks.sliding_window_view(both[at.start - lags : at.stop], lags, axis=0)[:-1]
                yield np.concatenate([windows.reshape(len(windows), -1), data.inputs[at]], axis=1), at

    residuals = np.zeros_like(data.outputs)
    if max(data.lengths) > lags:
        triangle = triangle_of(np.concatenate([design, data.outputs[at]], axis=1) for design, at in pieces())
        found = solution(triangle, triangle.shape[1] - data.outputs.shape[1])
        for design, at in pieces():
            residuals[at] = data.outputs[at] - design @ found
    return residuals
