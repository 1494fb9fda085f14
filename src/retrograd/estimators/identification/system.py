"""A linear state-space system in innovations form: its predictions as scans.

    x_{t+1} = A x_t + B u_t + K e_t          ŷ_t = C x_t + D u_t + offset          e_t = y_t − ŷ_t

With e_t put in, the predictor is again a linear recurrence, x_{t+1} = Ã_t x_t + d_t, with

    Ã_t = A − K C          d_t = B u_t + K (y_t − D u_t − offset)

Where outputs are missing a Kalman filter's gain G_t takes the place of K, with a zero for every missing output
(:mod:`retrograd.estimators.identification.kalman`). K = 0 is the free run.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retrograd.core.scan import scan
from retrograd.core.sequences import previous_states
from retrograd.core.transition import Dense
from retrograd.estimators.identification.experiments import Experiments
from retrograd.estimators.identification.kalman import filter_of
from retrograd.estimators.identification.matrices import System

__all__ = [
    "Layout",
    "System",
    "final_state",
    "predict",
    "predict_ahead",
    "predict_tensors",
    "recurrence",
    "root_of",
    "states_before",
    "tensors",
    "unpack",
    "with_unit_states",
]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Layout:
    """Which parameters are free, and where each lies in the vector θ.

    Attributes:
        order: n.
        inputs: m.
        outputs: p.
        experiments: E.
        feedthrough: whether D is free (zero otherwise).
        innovations: whether K is free (zero otherwise).
        free_x0: whether each experiment's x0 is free (zero otherwise).
        free_offset: whether the offset is free (zero otherwise).
        free_root: whether the innovations' covariance is free beside the rest, as it is across gaps (else none).
        free_dynamics: whether A and C are free (else given).
    """

    order: int
    inputs: int
    outputs: int
    experiments: int
    feedthrough: bool = True
    innovations: bool = False
    free_x0: bool = True
    free_offset: bool = True
    free_root: bool = False
    free_dynamics: bool = True

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the free parameters' shapes, in their order in θ."""
        n, m, p = self.order, self.inputs, self.outputs
        shapes: dict[str, tuple[int, ...]] = {"A": (n, n)} if self.free_dynamics else {}
        shapes["B"] = (n, m)
        if self.innovations:
            shapes["K"] = (n, p)
        if self.free_dynamics:
            shapes["C"] = (p, n)
        if self.feedthrough:
            shapes["D"] = (p, m)
        if self.free_offset:
            shapes["offset"] = (p,)
        if self.free_x0:
            shapes["x0"] = (self.experiments, n)
        if self.free_root:
            shapes["root"] = (p, p)
        return shapes

    def slices(self) -> dict[str, slice]:
        """Return where each free parameter lies in θ."""
        found, at = {}, 0
        for name, shape in self.shapes().items():
            found[name] = slice(at, at + int(np.prod(shape)))
            at = found[name].stop
        return found

    def pack(self, system: System) -> Array:
        """Return θ."""
        return np.concatenate([getattr(system, name).ravel() for name in self.shapes()])

    def size(self) -> int:
        """Return the number of entries of θ."""
        return sum(int(np.prod(shape)) for shape in self.shapes().values())

    def count(self) -> int:
        """Return the number of parameters that the input-output behaviour depends on: n² fewer than free entries."""
        free = sum(int(np.prod(shape)) for name, shape in self.shapes().items() if name != "root")
        return free - self.order**2


def unpack(layout: Layout, theta: Array) -> System:
    """Return the system that θ describes; what is not free is zero."""
    n, m, p = layout.order, layout.inputs, layout.outputs
    parts = {
        name: theta[at].reshape(shape)
        for (name, shape), at in zip(layout.shapes().items(), layout.slices().values(), strict=True)
    }
    fixed = {"K": (n, p), "D": (p, m), "offset": (p,), "x0": (layout.experiments, n)}
    return System(**{**{name: np.zeros(shape) for name, shape in fixed.items()}, **parts})


def predict(system: System, data: Experiments) -> tuple[Array, Array]:
    """Return the states x_t ``(N, n)`` and predictions ŷ_t ``(N, p)``, each from outputs before t alone.

    With K = 0 no output is read: the free run. An unstable system may overflow, to infinities and NaN.
    """
    with torch.no_grad():
        x, predicted = predict_tensors(tensors(system), data)
    return x.numpy(), predicted.numpy()


def predict_ahead(system: System, data: Experiments, k: int) -> Array:
    """Return predictions k steps ahead ``(N, p)``: each from outputs up to k steps before it, and all inputs.

    The first k - 1 of an experiment come from its initial state alone.
    """
    states, predicted = predict(system, data)
    if k == 1 or not system.K.any():
        return predicted
    result = predict(system.free_running(), data)[1]
    # Every step's filtered state runs on freely for k - 1 steps: a batch of N short experiments.
    for start, length in zip(data.starts.tolist(), data.lengths, strict=True):
        count = length - (k - 1)
        if count < 1:
            continue
        x = states[start : start + count]
        for step in range(k - 1):
            x = x @ system.A.T + data.inputs[start + step : start + step + count] @ system.B.T
        at = slice(start + k - 1, start + length)
        result[at] = x @ system.C.T + data.inputs[at] @ system.D.T + system.offset
    return result


def tensors(system: System) -> dict[str, Tensor]:
    """Return the matrices as tensors, by their names."""
    arrays = {field.name: getattr(system, field.name) for field in fields(system)}
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items() if array is not None}


def predict_tensors(parts: dict[str, Tensor], data: Experiments, gain: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Do as :func:`predict`, differentiably in the matrices; with the gains of a filter where they are at hand."""
    transition, drive = recurrence(parts, data, gain)
    x = states_before(transition, drive[None], data, parts["x0"])[0]
    return x, x @ parts["C"].mT + torch.from_numpy(data.inputs) @ parts["D"].mT + parts["offset"]


def root_of(covariance: Array) -> Array:
    """Return R with R Rᵀ the covariance ``(p, p)``, which may be singular.

    >>> root_of(np.array([[4.0]]))
    array([[2.]])
    """
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)) @ vectors.T)


def final_state(system: System, data: Experiments, states: Array) -> Array:
    """Return x_{N+1} of every experiment, ``(E, n)``: the state at the first step after its data."""
    last = np.cumsum(data.lengths) - 1
    x, u, seen = states[last], data.inputs[last], data.observed[last]
    predicted = x @ system.C.T + u @ system.D.T + system.offset
    innovation = np.where(seen, data.outputs[last] - predicted, 0.0)
    gain = system.K if data.complete else filter_of(tensors(system), data).gain.numpy()[last]
    return np.asarray(x @ system.A.T + u @ system.B.T + (gain @ innovation[:, :, None])[..., 0])


def with_unit_states(system: System, data: Experiments) -> System:
    """Return the same system in the basis where the states of its run over the data have unit covariance.

    A basis is arbitrary; in this one parameters are of one size, and the same fit gives the same numbers.
    """
    x, _ = predict(system, data)
    if not np.isfinite(x).all():
        return system
    values, vectors = np.linalg.eigh(x.T @ x / len(x))
    if values[-1] <= 0:
        return system
    # A state that is never excited keeps a finite scale.
    T = (vectors / np.sqrt(np.maximum(values, values[-1] * 1e-12))).T[::-1]
    signs = np.sign((T * np.abs(T).max(axis=0)).sum(axis=1))
    return system.transformed(T * np.where(signs == 0, 1, signs)[:, None])


def recurrence(parts: dict[str, Tensor], data: Experiments, gain: Tensor | None = None) -> tuple[Dense, Tensor]:
    """Return Ã and d_t ``(N, n)`` of the predictor."""
    A, K, C = parts["A"], parts["K"], parts["C"]
    u = torch.from_numpy(data.inputs)
    drive = u @ parts["B"].mT
    if not (K.requires_grad or bool(K.any())):
        return Dense(A), drive
    seen = torch.from_numpy(data.observed)
    known = torch.where(seen, torch.from_numpy(data.outputs) - u @ parts["D"].mT - parts["offset"], 0.0)
    if data.complete:
        return Dense(A - K @ C), drive + known @ K.mT
    gain = filter_of(parts, data).gain if gain is None else gain
    return Dense(A - gain @ C), drive + (gain @ known[:, :, None])[..., 0]


def states_before(transition: Dense, drive: Tensor, data: Experiments, x0: Tensor | None) -> Tensor:
    """Return the state before every step, ``(rows, N, n)``, of ``drive (rows, N, n)``.

    Args:
        transition: Ã.
        drive: what comes in at each step.
        data: where experiments begin.
        x0: states at their first steps, broadcast to ``(rows, E, n)``; zero by default.
    """
    rows, _, n = drive.shape
    starts = torch.from_numpy(data.starts)
    before = drive.new_zeros(rows, len(starts), n)
    if x0 is not None:
        before = before + x0
    if len(starts) == 1:
        states, _ = scan(transition, drive, before[:, 0])
        return previous_states(states, before[:, 0], False)
    # A reset cuts the state off at an experiment's start: what x0 sends through it goes in with the drive.
    W = transition.W if transition.W.ndim == 2 else transition.W[starts]
    through = (W @ before[..., None])[..., 0]
    states, _ = scan(transition, drive.index_add(1, starts, through), reset=data.reset.expand(rows, -1))
    return previous_states(states, torch.zeros_like(before[:, 0]), False).index_copy(1, starts, before)
