"""What disturbs the outputs of an output-error model: residuals that last, taken for a process of each output.

    e_t = v_t + w_t          v_{t+1} = ρ v_t + (ρ − f) w_t          so that  w_t = e_t − ρ e_{t−1} + f w_{t−1}

an ARMA(1, 1) in innovations form: white noise on top of an autoregression of order 1, or of a walk (ρ near 1). Each v
is one more state, which the inputs do not reach and its own output's innovation drives; the plant stays what it was.
So the free run from rest is that of the plant, and predictions go on from the disturbance that the outputs show now.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from retrograd.estimators.identification.experiments import Experiments
from retrograd.estimators.identification.system import System, predict

__all__ = ["with_disturbances"]

Array = np.ndarray[Any, Any]

# Most that ρ is: below the bound on A's modes, which a disturbance does not run into.
LASTS = 0.9998
# Least share of an output's residual variance that a disturbance foretells.
WORTH = 0.1
# (ρ, f) that the search starts from: a walk under noise, and an autoregression.
BEGIN = ((0.99, 0.7), (0.7, 0.0))


def with_disturbances(system: System, data: Experiments) -> tuple[System, list[int]]:
    """Return the system with a disturbance for every output whose residuals last, and which outputs these are.

    Args:
        system: of output error, K = 0.
        data: experiments without missing outputs.
    """
    residuals = data.outputs - predict(system, data)[1]
    steps, p = residuals.shape
    found: list[tuple[int, float, float]] = []
    for column in range(p):
        rho, f, gain = _process(data.split(residuals[:, column]))
        # Two parameters have to pay as Schwarz's criterion has it.
        if gain > WORTH and -steps * np.log1p(-gain) > 2 * np.log(steps):
            found.append((column, rho, f))
    n, q = system.order, len(found)
    if not q:
        return system, []
    columns = [column for column, _, _ in found]
    A, K, shown = np.zeros((n + q, n + q)), np.zeros((n + q, p)), np.zeros((p, q))
    A[:n, :n] = system.A
    for k, (column, rho, f) in enumerate(found):
        A[n + k, n + k], K[n + k, column], shown[column, k] = rho, rho - f, 1.0
    none = np.zeros((q, system.B.shape[1]))
    return (
        replace(
            system,
            A=A,
            B=np.concatenate([system.B, none]),
            C=np.concatenate([system.C, shown], axis=1),
            K=K,
            x0=np.concatenate([system.x0, np.zeros((len(system.x0), q))], axis=1),
        ),
        columns,
    )


def _process(parts: list[Array]) -> tuple[float, float, float]:
    """Return ρ and f of the residuals of one output, and the share of their variance that they foretell."""
    from scipy.optimize import minimize
    from scipy.signal import lfilter

    total = sum(float(part @ part) for part in parts)
    if not 0 < total < np.inf:
        return 0.0, 0.0, 0.0

    def rest(at: Array) -> float:
        rho, f = LASTS * np.tanh(at)
        return sum(float(np.sum(lfilter([1, -rho], [1, -f], part) ** 2)) for part in parts) / total

    tried = [
        minimize(rest, np.arctanh(begin), method="Nelder-Mead", options={"maxiter": 80, "xatol": 1e-2, "fatol": 1e-5})
        for begin in BEGIN
    ]
    best = min(tried, key=lambda result: float(result.fun))
    rho, f = (LASTS * np.tanh(best.x)).tolist()
    return rho, f, 1 - float(best.fun)
