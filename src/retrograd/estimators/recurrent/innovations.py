"""How far a network's forecasts may be off: its errors one step ahead, passed on through its closed loop.

With e_t = y_t − ŷ_t the innovations, in the targets' units, and D the diagonal of their scales, the network is

    h_t = (W_hh + W_ih C) h_{t-1} + W_ih D⁻¹ e_t + ...          y_{t+1} = D C h_t + e_{t+1} + ...

where W_ih is the part that reads the targets and the dots do not depend on the innovations. So the error of a forecast
k steps ahead is Σ_{j<k} Ψ_j e_{t+k-j}, with the impulse response

    Ψ_0 = 1          Ψ_j = D C (W_hh + W_ih C)^{j-1} W_ih D⁻¹

and its covariance Σ_{j<k} Ψ_j S Ψ_jᵀ, if the innovations are white with covariance S.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from retrograd.estimators.recurrent.network import Network

__all__ = ["forecast_variance", "innovation_covariance", "panel_covariances"]

Array = np.ndarray[Any, Any]


def innovation_covariance(network: Network, targets: Array, inputs: Array) -> Array:
    """Return S ``(O, O)`` over a series ``(N, O)`` and its inputs ``(N, E)``: Σ e_t e_tᵀ / (M − H − 1).

    M counts the steps whose targets are all known, without the first H: there the initial state speaks. The read-out of
    each target has H + 1 weights. Where there are too few steps for either, they are taken as they are.
    """
    errors, states = (targets - network.one_step(targets, inputs))[1:], len(network.weights["h0"])
    known = errors[np.isfinite(errors).all(axis=1)]
    known = known[states:] if len(known) >= 3 * states + 2 else known
    spent = states + 1 if len(known) >= 2 * states + 2 else 0
    return np.asarray(known.T @ known / max(1, len(known) - spent))


def panel_covariances(networks: Mapping[str, Network], series: Mapping[str, Array]) -> dict[str, Array]:
    """Return by name the S ``(O, O)`` of each series ``(N, O)`` of a panel, in its units.

    A series with few steps has that of all series together, each in its own scale.
    """
    scaled, found, few = [], {}, []
    for name, network in networks.items():
        y, scale = series[name], network.target_scaling.scale
        found[name] = innovation_covariance(network, y, y[:, :0])
        errors = ((y - network.one_step(y, y[:, :0])) / scale)[1:]
        known = errors[np.isfinite(errors).all(axis=1)]
        scaled.append(known)
        if len(known) < 5 * (len(network.weights["h0"]) + 1):
            few.append(name)
    together = np.concatenate(scaled)
    shared = together.T @ together / max(1, len(together))
    return found | {
        name: shared * np.outer(networks[name].target_scaling.scale, networks[name].target_scaling.scale)
        for name in few
    }


def forecast_variance(network: Network, covariance: Array, horizon: int) -> Array:
    """Return the variance of each target's forecast error, 1 to ``horizon`` steps ahead: ``(horizon, O)``.

    Args:
        network: the network.
        covariance: of its innovations, ``(O, O)``.
        horizon: steps.
    """
    w = {name: weight.detach().cpu().numpy() for name, weight in network.weights.items()}
    scale = network.target_scaling.scale
    reads = w["weight_ih"][:, : len(scale)] / scale
    closed, says = w["weight_hh"] + w["weight_ih"][:, : len(scale)] @ w["weight_out"], scale[:, None] * w["weight_out"]
    variance, psi = np.empty((horizon, len(scale))), np.eye(len(scale))
    with np.errstate(over="ignore", invalid="ignore"):  # a closed loop that grows leaves the numbers
        for step in range(horizon):
            variance[step] = np.einsum("ij,jk,ik->i", psi, covariance, psi)
            psi, reads = says @ reads, closed @ reads
        return np.asarray(variance.cumsum(axis=0))
