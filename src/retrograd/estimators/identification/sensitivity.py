"""Derivatives of a system's predictions, as scans.

The sensitivity of ŷ_t to a parameter θ follows the same recurrence,

    s_{t+1} = Ã_t s_t + f_t          ∂ŷ_t/∂θ = C s_t + g_t,

and what θ sends in, f_t, is a unit vector times a known signal: x_j for A_ij, u_k for B_ik, e_q for K_iq. So for
constant Ã the response of output q to a signal σ entering at any state is one row of the transposed scan,

    r_{t+1} = Ã^T r_t + C_q^T σ_t          [r_t]_i = response of ŷ_q to σ entering at state i,

one scan row for every pair (output, signal), whose states ARE the columns of the Jacobian: nothing is computed twice.
x0 enters once: its row has no drive and starts at C_q.

The Jacobian comes piece by piece of time, each as large as a cache holds: a fit of N steps keeps sums over the pieces,
never all of it. A piece that begins within an experiment goes on from the sensitivities at the end of the one before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

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
)
from retrograd.estimators.identification.triangles import least_squares

__all__ = ["initial_states", "jacobian", "linear_part", "of_start", "sensitivities"]

Array = np.ndarray[Any, Any]

# Numbers of the Jacobian that a piece has.
PIECE = 1 << 19
# Of the largest standard deviation of an output's residuals, in units of its spread: what the others have at least.
LEAST_NOISE = 1e-6
# Of the least squares' sum of squared errors: below it that of the system's own x0 shows that digits were lost.
OWN_IS_BETTER = 1 - 1e-6
# Steps that a piece has at least.
LEAST_STEPS = 256


def jacobian(system: System, layout: Layout, data: Experiments) -> tuple[Array, Array, Array]:
    """Return states ``(N, n)``, predictions ``(N, p)``, and ∂ŷ/∂θ of every one, ``(p, N, parameters)``."""
    x, predicted = predict(system, data)
    innovation = np.where(data.observed, data.outputs - predicted, 0.0)
    pieces = [J for _, J in sensitivities(system, layout, data, x, innovation)]
    return x, predicted, np.concatenate(pieces, axis=1)


def sensitivities(
    system: System, layout: Layout, data: Experiments, x: Array, innovation: Array
) -> Iterator[tuple[slice, Array]]:
    """Yield the Jacobian by pieces of time: which steps, and ∂ŷ/∂θ of these, ``(p, steps, parameters)``.

    Args:
        system: the system.
        layout: the free parameters.
        data: the experiments.
        x: states of its predictor over the data, ``(N, n)``.
        innovation: e ``(N, p)``, 0 where an output is missing.
    """
    # Without a gain nothing is lost with an output.
    constant = data.complete or not system.K.any()
    gain = None if constant else filter_of(tensors(system), data).gain
    most = max(PIECE // (layout.outputs * layout.size()), LEAST_STEPS)
    carried: Tensor | None = None
    for first, spans, continued in _pieces(data, most):
        at = slice(spans[0][0], spans[-1][1])
        piece = data if at == slice(0, len(x)) else data.part(spans)
        before = carried if continued else None
        if gain is None:
            J, carried = _of_constant(system, layout, piece, x[at], innovation[at], first, before)
        else:
            J, carried = _of_masked(system, layout, piece, x[at], innovation[at], first, before, gain[at])
        yield at, J


def _pieces(data: Experiments, most: int) -> Iterator[tuple[int, list[tuple[int, int]], bool]]:
    """Yield the first experiment, the spans and whether the first span goes on within an experiment.

    Experiments longer than ``most`` are cut, shorter ones taken together.
    """
    together: list[tuple[int, int]] = []
    first = 0
    for number, (start, length) in enumerate(zip(data.starts.tolist(), data.lengths, strict=True)):
        if together and start + length - together[0][0] > most:
            yield first, together, False
            together = []
        if length > most:
            for cut in range(start, start + length, most):
                yield number, [(cut, min(cut + most, start + length))], cut > start
            continue
        first = first if together else number
        together = [*together, (start, start + length)]
    if together:
        yield first, together, False


def _of_constant(
    system: System, layout: Layout, data: Experiments, x: Array, e: Array, first: int = 0, before: Tensor | None = None
) -> tuple[Array, Tensor]:
    """One row of the transposed scan for every (output, signal): see the head of this file.

    Returns the Jacobian of the piece, and the rows at the step after it.
    """
    n, p = layout.order, layout.outputs
    steps, u = len(x), data.inputs
    at = layout.slices()
    # The last one stands for x0, which sends nothing in.
    signals = {"x": x if "A" in at else x[:, :0], "u": u, "e": e[:, : p * layout.innovations]}
    signals |= {"one": np.ones((steps, int(layout.innovations))), "x0": np.zeros((steps, 1))}
    sigma = np.concatenate(list(signals.values()), axis=1)
    closed = system.A - system.K @ system.C if layout.innovations else system.A
    transposed = Dense(torch.from_numpy(np.ascontiguousarray(closed.T)))
    C = torch.from_numpy(np.ascontiguousarray(system.C))
    drive = torch.from_numpy(np.ascontiguousarray(sigma.T))[None, :, :, None] * C[:, None, None, :]
    rows = drive.reshape(p * sigma.shape[1], steps, n)
    if before is None:
        begin = torch.zeros(p, sigma.shape[1], 1, n, dtype=torch.float64)
        begin[:, -1, 0] = C
        before = begin.view(-1, 1, n)
    # response[q, j, t, i]: of output q at t to signal j entering at state i.
    found = states_before(transposed, rows, data, before)
    after = (found[:, -1] @ torch.from_numpy(closed) + rows[:, -1])[:, None]
    response = found.view(p, -1, steps, n).numpy()

    result = np.zeros((p, steps, layout.size()))
    ends = np.cumsum([signal.shape[1] for signal in signals.values()])[:-1]
    responses = dict(zip(signals, np.split(response, ends, axis=1), strict=True))
    for name, signal in (("A", "x"), ("B", "u"), ("K", "e")):
        if name in at:
            # (q, j, t, i) → (q, t, i, j): rows of the parameter are states, columns are signals
            result[:, :, at[name]] = responses[signal].transpose(0, 2, 3, 1).reshape(p, steps, -1)
    # C, D and offset pass to their own output at once, and back into the state through the innovation: −K.
    for name, direct, signal in (("C", x, "x"), ("D", u, "u"), ("offset", np.ones((steps, 1)), "one")):
        if name not in at or direct.shape[1] == 0:
            continue
        width = direct.shape[1]
        if system.K.any():
            result[:, :, at[name]] = -np.einsum("qjti,il->qtlj", responses[signal], system.K).reshape(p, steps, -1)
        for q in range(p):
            result[q, :, at[name].start + q * width : at[name].start + (q + 1) * width] += direct
    if layout.free_x0:
        _put_start(result[:, :, at["x0"]], responses["x0"][:, 0], data, first)
    return result, after


def _put_start(block: Array, of_start: Array, data: Experiments, first: int) -> None:
    """Write ∂ŷ/∂x0 ``(p, steps, n)`` to the columns of the experiments that the steps belong to."""
    n = of_start.shape[2]
    for number, (start, length) in enumerate(zip(data.starts.tolist(), data.lengths, strict=True), first):
        block[:, start : start + length, number * n : (number + 1) * n] = of_start[:, start : start + length]


def _of_masked(
    system: System,
    layout: Layout,
    data: Experiments,
    x: Array,
    e: Array,
    first: int = 0,
    before: Tensor | None = None,
    gain: Tensor | None = None,
) -> tuple[Array, Tensor]:
    """The general case, Ã_t varying with what is observed: one scan row for every parameter.

    Gains across gaps are taken as they are: columns of A, C and K are near, all others exact.
    """
    n, p, steps, u = layout.order, layout.outputs, len(x), data.inputs
    at, count = layout.slices(), layout.size()
    drive, direct = np.zeros((count, steps, n)), np.zeros((p, steps, count))
    eye = np.eye(n)
    gain = filter_of(tensors(system), data).gain if gain is None else gain
    for name, signal in (("A", x), ("B", u), ("K", e)):
        # Parameter (i, j) sends signal j into state i.
        drive[at[name]] = np.einsum("ik,tj->ijtk", eye, signal).reshape(-1, steps, n)
    for name, signal in (("C", x), ("D", u), ("offset", np.ones((steps, 1)))):
        if name not in at or signal.shape[1] == 0:
            continue
        back = -np.einsum("tkq,tj->qjtk", gain.numpy(), signal)
        drive[at[name]] = back.reshape(-1, steps, n)
        direct[:, :, at[name]] = np.einsum("lq,tj->ltqj", np.eye(p), signal).reshape(p, steps, -1)
    if before is None:
        before = torch.zeros(count, len(data.lengths), n, dtype=torch.float64)
        if layout.free_x0:
            for number in range(len(data.lengths)):
                begin = at["x0"].start + (first + number) * n
                before[begin : begin + n, number] = torch.eye(n, dtype=torch.float64)
    parts = tensors(system)
    rows = torch.from_numpy(drive)
    transition = Dense(parts["A"] - gain @ parts["C"])
    found = states_before(transition, rows, data, before)
    after = (found[:, -1] @ transition.W[-1].mT + rows[:, -1])[:, None]
    return np.asarray(direct + np.einsum("qk,jtk->qtj", system.C, found.numpy())), after


def of_start(system: System, data: Experiments) -> Array:
    """Return ∂ŷ_t/∂x0 of the experiment that t belongs to, ``(p, N, n)``: one scan row for each state."""
    n = system.order
    transition, _ = recurrence(tensors(system), data)
    drive = torch.zeros(n, len(data.inputs), n, dtype=torch.float64)
    s = states_before(transition, drive, data, torch.eye(n, dtype=torch.float64)[:, None])
    return np.asarray((s.numpy() @ system.C.T).transpose(2, 1, 0))


def initial_states(system: System, data: Experiments) -> System:
    """Return the system with the x0 of each experiment that predicts it best: linear least squares, ``(E, n)``.

    Outputs count by the inverse of their residuals' variance, where that is known. Directions of the state that the
    outputs do not show stay zero. Where the system's own x0 predicts an experiment better, by more than rounding, it
    stays: in a basis of nearly parallel states the least squares lose more digits than it has.
    """
    blank = replace(system, x0=np.zeros((len(data.lengths), system.order)))
    _, predicted = predict(blank, data)
    columns = of_start(blank, data) * data.observed.T[:, :, None]
    weight = np.ones(data.outputs.shape[1])
    half: Array | None = None
    if system.K.any() and not data.complete:
        # Steps count by how well they are foretold.
        half = np.linalg.inv(np.linalg.cholesky(filter_of(tensors(system), data).covariance.numpy()))
        columns = np.einsum("tqr,rti->qti", half, columns)
    elif system.root is not None:
        # Whatever the outputs' units are: noise counts in that of each one's spread.
        spread = np.array(
            [y[seen].std() if seen.any() else 0.0 for y, seen in zip(data.outputs.T, data.observed.T, strict=True)]
        )
        spread = np.where(spread > 0, spread, 1.0)
        size = np.linalg.norm(system.root, axis=1) / spread
        # Where there is no noise, no output may outweigh all others without end.
        weight = 1 / (spread * np.maximum(size, LEAST_NOISE * max(size.max(), 1e-300)))
        columns = columns * weight[:, None, None]

    def errors(of_run: Array) -> Array:
        e = np.where(data.observed, data.outputs - of_run, 0.0) * weight
        return e if half is None else (half @ e[:, :, None])[..., 0]

    x0 = blank.x0.copy()
    for number, (rows, error) in enumerate(
        zip(data.split(columns.transpose(1, 0, 2)), data.split(errors(predicted)), strict=True)
    ):
        design = rows.reshape(-1, system.order)
        if np.isfinite(design).all() and np.isfinite(error).all():
            x0[number] = least_squares(design, error.ravel())
    found = replace(blank, x0=x0)
    if system.x0.shape != x0.shape or not system.x0.any():
        return found
    with np.errstate(over="ignore", invalid="ignore"):
        of_found, of_own = (
            np.array([(part**2).sum() for part in data.split(errors(predict(tried, data)[1]))])
            for tried in (found, system)
        )
        better = of_own < OWN_IS_BETTER * of_found
    return replace(found, x0=np.where(better[:, None], system.x0, x0))


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
    free = replace(layout, free_dynamics=False)
    e = np.zeros_like(data.outputs) if innovation is None else innovation
    pieces = sensitivities(blank, free, data, np.empty((len(e), 0)), e)
    design = np.concatenate([J.transpose(1, 0, 2)[data.observed[at]] for at, J in pieces])
    theta = least_squares(design, (data.outputs if innovation is None else data.outputs - innovation)[data.observed])
    parts = {name: theta[at].reshape(free.shapes()[name]) for name, at in free.slices().items()}
    return replace(blank, **parts)
