"""The recurrent model as a contender: from its linear start, trained by bptt at the horizon asked for.

A trained network (:mod:`retrograd.estimators.recurrent.network`), h_t = W h_{t-1} + B y_t + b, ŷ_{t+1} = C h_t + c, is
an innovations model with the state x_{t+1} = [h_t, 1]: with e_t = y_t − ŷ_t,

    x_{t+1} = [W + B C, B c + b; 0, 1] x_t + [B; 0] e_t          y_t = [C, c] x_t + e_t
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from retrograd.errors import InputError
from retrograd.estimators.auto.innovations import Innovations
from retrograd.estimators.recurrent.estimator import Recurrent

__all__ = ["trained"]

Array = np.ndarray[Any, Any]

# Rows below which nothing is trained, steps of the closed loop at most, and states where there is no season.
_FEWEST, _LONGEST, _STATES = 40, 24, 8


def trained(y: Array, season: int, horizon: int) -> Innovations:
    """Train a network and return it as an innovations model.

    Args:
        y: ``(T,)``.
        season: the states hold it; 1 for none.
        horizon: steps that matter.

    Raises:
        InputError: there are too few rows, or they are all alike.
    """
    if len(y) < max(_FEWEST, 3 * season) or np.ptp(y) == 0:
        raise InputError(f"y has {len(y)} rows: too few, or too alike, to train a network")
    loop = min(horizon, _LONGEST, len(y) // 6)
    model = Recurrent(max(_STATES, season + 2 if season > 1 else 0), closed_loop=loop if loop > 1 else None).fit(y)
    network = model.network_
    w = {name: weight.detach().cpu().numpy() for name, weight in network.weights.items()}
    mean, scale = float(network.target_scaling.mean[0]), float(network.target_scaling.scale[0])
    W, B, b, C, c = w["weight_hh"], w["weight_ih"][:, 0], w["bias"], w["weight_out"][0], float(w["bias_out"][0])
    states = len(W)
    A = np.eye(states + 1)
    A[:states, :states], A[:states, states] = W + np.outer(B, C), B * c + b
    found = Innovations(
        A=A,
        K=np.append(B, 0.0) / scale,
        C=np.append(C, c) * scale,
        offset=mean,
        x0=np.append(w["h0"], 1.0),
        lag=0,
        variance=0.0,
    )
    errors = (y - np.append(mean, found.forecast(y, 0, len(y) - 1, np.array([1]))[:, 0]))[states:]
    return replace(found, variance=float((errors**2).sum()) / max(1, len(errors) - states))
