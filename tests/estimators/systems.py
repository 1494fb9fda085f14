"""Systems to identify, their data, and the loop that they are judged by."""

from __future__ import annotations

from typing import Any

import numpy as np

from retrograd.estimators.identification.matrices import System

Array = np.ndarray[Any, Any]


def random_system(
    seed: int, order: int = 3, inputs: int = 2, outputs: int = 2, experiments: int = 1, gain: float = 0.1
) -> System:
    """Return a stable system with everything in it: feedthrough, offset, initial states, innovation gain."""
    random = np.random.default_rng(seed)
    A = random.standard_normal((order, order))
    A *= 0.8 / np.abs(np.linalg.eigvals(A)).max()
    C = random.standard_normal((outputs, order))
    K = gain * random.standard_normal((order, outputs))
    while np.abs(np.linalg.eigvals(A - K @ C)).max() > 0.9:
        K *= 0.5
    return System(
        A,
        random.standard_normal((order, inputs)),
        C,
        random.standard_normal((outputs, inputs)),
        K,
        random.standard_normal(outputs),
        random.standard_normal((experiments, order)),
    )


def loop(system: System, U: list[Array], Y: list[Array]) -> Array:
    """Predict one step ahead, one step at a time: the definition itself. NaN in Y is a missing output (Kalman 1960)."""
    S = np.eye(len(system.C)) if system.root is None else system.root @ system.root.T
    predicted = []
    for first, inputs, outputs in zip(system.x0, U, Y, strict=True):
        x, P = first, np.zeros_like(system.A)
        for u, y in zip(inputs, outputs, strict=True):
            expected = system.C @ x + system.D @ u + system.offset
            predicted.append(expected)
            seen = ~np.isnan(y)
            if seen.all() and not P.any():
                x = system.A @ x + system.B @ u + system.K @ (y - expected)
                continue
            C = system.C[seen]
            of_error = C @ P @ C.T + S[np.ix_(seen, seen)]
            cross = system.A @ P @ C.T + (system.K @ S)[:, seen]
            gain = cross @ np.linalg.inv(of_error)
            x = system.A @ x + system.B @ u + gain @ (y - expected)[seen]
            P = system.A @ P @ system.A.T + system.K @ S @ system.K.T - gain @ cross.T
    return np.array(predicted)


def simulated(system: System, steps: int, noise: float, seed: int) -> tuple[Array, Array, Array]:
    """Return inputs, outputs and innovations of one run from the system's first initial state."""
    random = np.random.default_rng(seed)
    u = random.standard_normal((steps, system.B.shape[1]))
    e = noise * random.standard_normal((steps, len(system.C)))
    y, x = np.empty_like(e), system.x0[0]
    for t in range(steps):
        y[t] = system.C @ x + system.D @ u[t] + system.offset + e[t]
        x = system.A @ x + system.B @ u[t] + system.K @ e[t]
    return u, y, e
