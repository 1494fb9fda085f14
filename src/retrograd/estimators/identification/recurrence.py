"""A system's predictor over data, and the error of its predictions, as the arguments of one scan and its loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from retrograd.core.transition import Dense
from retrograd.estimators.identification.experiments import Experiments
from retrograd.estimators.identification.system import System, recurrence, tensors, with_unit_states

__all__ = ["scan_of"]


def scan_of(system: System, data: Experiments, covariance: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Return ``A``, ``u``, ``h0`` and ``loss`` of one experiment; the states are in coordinates of unit second moments.

    The loss is Σ e_t^T S^{-1} e_t / 2N of the residuals e_t, S being ``covariance``.
    """
    # Coordinates are anyone's choice, and sizes go with them: in these every direction counts as much as it moves.
    parts = tensors(with_unit_states(system, data))
    transition, drive = recurrence(parts, data)
    # A state of the model stands before its step; the first one is h_0, and the last drive makes no prediction.
    W = transition.W if transition.W.ndim == 2 else transition.W[:-1]
    fixed = torch.from_numpy(data.outputs - data.inputs @ system.D.T - system.offset)[1:]
    seen = torch.from_numpy(data.observed)[1:]
    weight = torch.linalg.inv(torch.from_numpy(covariance))

    def loss(states: Tensor) -> Tensor:
        e = torch.where(seen, fixed - states @ parts["C"].mT, 0.0)
        return torch.as_tensor((e @ weight * e).sum() / (2 * len(e)))

    return {"A": Dense(W), "u": drive[:-1], "h0": parts["x0"][0], "loss": loss}
