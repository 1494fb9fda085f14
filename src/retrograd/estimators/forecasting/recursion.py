"""Predictions of a read-out: direct, or a one-step read-out applied to its own predictions.

Reading its own prediction closes the loop of the recurrence: with w what a new value (or change) sends into the state,

    z_{t+1} = A z_t + w (C z_t + v_{t+1}) = (A + w C) z_t + w v_{t+1}         v_t = β x_t + c

so a recursive forecast is a scan, and read at every horizon again one linear map of the state at the origin,
M_h = C (A + w C)^{h-1}, plus what the inputs send in between, Σ_k ψ_{h-k} v_{t+k} with ψ_0 = 1 and
ψ_j = C (A + w C)^{j-1} w.
Both are summed over the differences. The same ψ carry innovations, so a forecast's variance is σ² Σ_{j<h} ψ_j².
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from scipy.linalg import toeplitz

from retrograd.core.scan import scan
from retrograd.core.transition import Dense
from retrograd.estimators.forecasting.readout import Piece, Weights

__all__ = ["ClosedLoop", "closed_loop", "direct", "recursive"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class ClosedLoop:
    """A recursive read-out, seen from the origin.

    Attributes:
        states: M, ``(D, H)``: ŷ_{t+h} = base + Mᵀ_h z_t + Σ_k ψ_{h-k} v_{t+k}.
        psi: ψ_0..ψ_{H-1}, ``(H,)``: what an innovation does to the value j steps later.
    """

    states: Array
    psi: Array


def closed_loop(A: Array, w: Array, C: Array, steps: int, lag: int) -> ClosedLoop:
    """Iterate a one-step read-out: rows C (A + w C)^{j} for every j by one scan, summed over differences.

    Args:
        A: transition ``(D, D)``.
        w: where a new value (or change of it) comes in, ``(D,)``.
        C: one-step read-out ``(D,)``.
        steps: H.
        lag: of the differences that are summed up again; 0 for none.

    Examples:
        An AR(1) with coefficient 0.5, three steps ahead.

        >>> loop = closed_loop(np.zeros((1, 1)), np.ones(1), np.array([0.5]), 3, 0)
        >>> loop.states, loop.psi
        (array([[0.5  , 0.25 , 0.125]]), array([1.  , 0.5 , 0.25]))
    """
    F = A + np.outer(w, C)
    row = torch.from_numpy(np.ascontiguousarray(C, dtype=np.float64))
    u = torch.zeros(steps, len(C), dtype=torch.float64)
    u[0] = row
    rows = scan(Dense(torch.from_numpy(np.ascontiguousarray(F.T))), u)[0].numpy()
    psi = np.concatenate([[1.0], rows[:-1] @ w])
    if lag:
        for start in range(lag):
            rows[start::lag] = rows[start::lag].cumsum(axis=0)
            psi[start::lag] = psi[start::lag].cumsum()
    return ClosedLoop(rows.T, psi)


def direct(
    piece: Piece,
    weights: Weights,
    places: Array,
    column: int,
    start: int,
    stop: int,
    steps: Array,
    *,
    based: bool = True,
) -> Array:
    """Return scaled predictions ``(stop - start, K)``; without ``based`` those of the differenced targets."""
    found = piece.features(column, start, stop) @ weights.states[:, places]
    if piece.x.shape[1]:
        found += np.einsum("kne,ke->nk", piece.inputs(start, stop, steps), weights.inputs[places])
    return np.asarray(found + piece.base(column, start, stop, steps)) if based else found


def recursive(
    piece: Piece, weights: Weights, loop: ClosedLoop, column: int, start: int, stop: int, steps: Array
) -> Array:
    """Return scaled predictions ``(stop - start, K)`` of the closed loop."""
    longest = int(steps[-1])
    width = loop.states.shape[0]
    found = piece.features(column, start, stop)[:, :width] @ loop.states[:, steps - 1]
    if piece.x.shape[1] or piece.intercept:
        # v_t, what inputs and intercept send in at every step that the windows reach.
        rows = slice(start + 1, stop + longest)
        one_step = piece.inputs(start, stop + longest - 1, np.array([1]))[0]
        drive = one_step @ weights.inputs[0] + (weights.states[width, 0] if piece.intercept else 0.0)
        assert len(drive) == rows.stop - rows.start
        response = toeplitz(loop.psi, np.zeros(longest))[steps - 1]
        found = found + sliding_window_view(drive, longest) @ response.T
    return np.asarray(found + piece.base(column, start, stop, steps))
