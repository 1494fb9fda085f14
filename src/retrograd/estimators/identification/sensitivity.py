"""Derivatives of a system's predictions, as scans.

The sensitivity of ŷ_t to a parameter θ follows the same recurrence,

    s_{t+1} = Ã_t s_t + f_t          ∂ŷ_t/∂θ = C s_t + g_t,

and what θ sends in, f_t, is a unit vector times a known signal: x_j for A_ij, u_k for B_ik, e_q for K_iq. So for
constant Ã the response of output q to a signal σ entering at any state is one row of the transposed scan,

    r_{t+1} = Ã^T r_t + C_q^T σ_t          [r_t]_i = response of ŷ_q to σ entering at state i,

one scan row for every pair (output, signal), whose states ARE the columns of the Jacobian: nothing is computed twice.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from retrograd.core.transition import Dense
from retrograd.estimators.identification.experiments import Experiments
from retrograd.estimators.identification.kalman import filter_of
from retrograd.estimators.identification.system import (
    Layout,
    System,
    predict,
    recurrence,
    states_before,
    tensors,
    unpack,
)

__all__ = ["initial_states", "jacobian", "least_squares", "linear_part", "of_start"]

Array = np.ndarray[Any, Any]


def jacobian(system: System, layout: Layout, data: Experiments) -> tuple[Array, Array, Array]:
    """Return states ``(N, n)``, predictions ``(N, p)``, and ∂ŷ/∂θ of every one, ``(p, N, parameters)``."""
    x, predicted = predict(system, data)
    innovation = np.where(data.observed, data.outputs - predicted, 0.0)
    constant = data.complete or not layout.innovations
    sensitivities = _of_constant if constant else _of_masked
    return x, predicted, sensitivities(system, layout, data, x, innovation)


def _of_constant(system: System, layout: Layout, data: Experiments, x: Array, e: Array) -> Array:
    """One row of the transposed scan for every (output, signal): see the head of this file."""
    n, m, p = layout.order, layout.inputs, layout.outputs
    steps, u = len(x), data.inputs
    signals = [x, u, *([e, np.ones((steps, 1))] if layout.innovations else [])]
    sigma = np.concatenate(signals, axis=1)
    closed = system.A - system.K @ system.C if layout.innovations else system.A
    transposed = Dense(torch.from_numpy(np.ascontiguousarray(closed.T)))
    C = torch.from_numpy(system.C)
    drive = torch.from_numpy(np.ascontiguousarray(sigma.T))[None, :, :, None] * C[:, None, None, :]
    rows = drive.reshape(p * sigma.shape[1], steps, n)
    # response[q, j, t, i]: of output q at t to signal j entering at state i.
    response = states_before(transposed, rows, data, None).view(p, -1, steps, n).numpy()

    result = np.zeros((p, steps, sum(int(np.prod(shape)) for shape in layout.shapes().values())))
    at = layout.slices()

    def put(name: str, of_signals: Array) -> None:
        # (q, j, t, i) → (q, t, i, j): rows of the parameter are states, columns are signals
        result[:, :, at[name]] = of_signals.transpose(0, 2, 3, 1).reshape(p, steps, -1)

    of_x, of_u, of_e = response[:, :n], response[:, n : n + m], response[:, n + m : n + m + p]
    put("A", of_x)
    put("B", of_u)
    if layout.innovations:
        put("K", of_e)
    # C, D and offset pass to their own output at once, and back into the state through the innovation: −K.
    for name, direct, through in (
        ("C", x, of_x),
        ("D", u, of_u),
        ("offset", np.ones((steps, 1)), response[:, n + m + p :]),
    ):
        if name not in at or direct.shape[1] == 0:
            continue
        block = np.zeros((p, steps, p, direct.shape[1]))
        block[np.arange(p), :, np.arange(p)] = direct
        if layout.innovations:
            block -= np.einsum("qjti,il->qtlj", through, system.K)
        result[:, :, at[name]] = block.reshape(p, steps, -1)
    if layout.free_x0:
        block = np.zeros((p, steps, layout.experiments, n))
        block[:, np.arange(steps), data.owner] = of_start(system, data)
        result[:, :, at["x0"]] = block.reshape(p, steps, -1)
    return result


def _of_masked(system: System, layout: Layout, data: Experiments, x: Array, e: Array) -> Array:
    """The general case, Ã_t varying with what is observed: one scan row for every parameter.

    Gains across gaps are taken as they are: columns of A, C and K are near, all others exact.
    """
    n, p, steps, u = layout.order, layout.outputs, len(x), data.inputs
    at = layout.slices()
    count = sum(int(np.prod(shape)) for shape in layout.shapes().values())
    drive, direct = np.zeros((count, steps, n)), np.zeros((p, steps, count))
    first = np.zeros((count, len(data.lengths), n))
    eye = np.eye(n)
    gain = filter_of(tensors(system), data).gain.numpy()
    for name, signal in (("A", x), ("B", u), ("K", e)):
        # Parameter (i, j) sends signal j into state i.
        drive[at[name]] = np.einsum("ik,tj->ijtk", eye, signal).reshape(-1, steps, n)
    for name, signal in (("C", x), ("D", u), ("offset", np.ones((steps, 1)))):
        if name not in at or signal.shape[1] == 0:
            continue
        back = -np.einsum("tkq,tj->qjtk", gain, signal)
        drive[at[name]] = back.reshape(-1, steps, n)
        direct[:, :, at[name]] = np.einsum("lq,tj->ltqj", np.eye(p), signal).reshape(p, steps, -1)
    if layout.free_x0:
        first[at["x0"]] = np.einsum("ef,ik->eifk", np.eye(layout.experiments), eye).reshape(-1, layout.experiments, n)
    transition, _ = recurrence(tensors(system), data)
    s = states_before(transition, torch.from_numpy(drive), data, torch.from_numpy(first)).numpy()
    return np.asarray(direct + np.einsum("qk,jtk->qtj", system.C, s))


def of_start(system: System, data: Experiments) -> Array:
    """Return ∂ŷ_t/∂x0 of the experiment that t belongs to, ``(p, N, n)``: one scan row for each state."""
    n = system.order
    transition, _ = recurrence(tensors(system), data)
    drive = torch.zeros(n, len(data.inputs), n, dtype=torch.float64)
    s = states_before(transition, drive, data, torch.eye(n, dtype=torch.float64)[:, None])
    return np.asarray((s.numpy() @ system.C.T).transpose(2, 1, 0))


def initial_states(system: System, data: Experiments) -> System:
    """Return the system with the x0 of each experiment that predicts it best: linear least squares, ``(E, n)``.

    Directions of the state that the outputs do not show stay zero.
    """
    blank = replace(system, x0=np.zeros((len(data.lengths), system.order)))
    _, predicted = predict(blank, data)
    residual = np.where(data.observed, data.outputs - predicted, 0.0)
    columns = of_start(blank, data) * data.observed.T[:, :, None]
    if system.K.any() and not data.complete:
        # Steps count by how well they are foretold.
        half = np.linalg.inv(np.linalg.cholesky(filter_of(tensors(system), data).covariance.numpy()))
        residual = (half @ residual[:, :, None])[..., 0]
        columns = np.einsum("tqr,rti->qti", half, columns)
    x0 = blank.x0.copy()
    for number, (rows, error) in enumerate(
        zip(data.split(columns.transpose(1, 0, 2)), data.split(residual), strict=True)
    ):
        design = rows.reshape(-1, system.order)
        if np.isfinite(design).all() and np.isfinite(error).all():
            x0[number] = least_squares(design, error.ravel())
    return replace(blank, x0=x0)


def linear_part(A: Array, C: Array, layout: Layout, data: Experiments, innovation: Array | None = None) -> System:
    """Return the system with these A and C whose free run is nearest to the outputs: least squares, B to x0 together.

    Args:
        A: ``(n, n)``, stable.
        C: ``(p, n)``.
        layout: which parameters are free.
        data: the experiments.
        innovation: e_t ``(N, p)`` estimated beforehand: then K is found too, as the gain from them.
    """
    n, m, p = layout.order, layout.inputs, layout.outputs
    blank = System(
        A, np.zeros((n, m)), C, np.zeros((p, m)), np.zeros((n, p)), np.zeros(p), np.zeros((layout.experiments, n))
    )
    x, _ = predict(blank, data)
    e = np.zeros_like(data.outputs) if innovation is None else innovation
    J = _of_constant(blank, layout, data, x, e)
    free = np.ones(J.shape[2], dtype=bool)
    for name in ("A", "C"):
        free[layout.slices()[name]] = False
    design = J[:, :, free].transpose(1, 0, 2)[data.observed]
    target = data.outputs - (0 if innovation is None else innovation)
    theta = layout.pack(blank)
    theta[free] = least_squares(design, target[data.observed])
    return unpack(layout, theta)


def least_squares(design: Array, target: Array) -> Array:
    """Return the least-squares solution of ``design (N, k)`` to ``target (N,)`` or ``(N, p)``, columns scaled alike.

    By a QR factorisation first: the singular values of a tall matrix are those of its small triangle.

    >>> least_squares(np.array([[1.0], [2.0], [3.0]]), np.array([2.0, 4.0, 6.0]))
    array([2.])
    """
    scale = np.linalg.norm(design, axis=0)
    scale[scale == 0] = 1.0
    k = design.shape[1]
    both = np.concatenate([design / scale, target.reshape(len(target), -1)], axis=1)
    triangle = np.asarray(np.linalg.qr(both, mode="r"))
    solution = np.linalg.lstsq(triangle[:, :k], triangle[:, k:], rcond=1e-10)[0] / scale[:, None]
    return np.asarray(solution[:, 0] if target.ndim == 1 else solution)
