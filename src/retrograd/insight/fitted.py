"""The sweep of a fitted model: its recurrence over data, and what its error on them sends into every state."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from retrograd.core.transition import Dense
from retrograd.errors import InputError
from retrograd.estimators.recurrent.estimator import Recurrent
from retrograd.estimators.recurrent.training import free_runs
from retrograd.insight.sweep import Sweep

if TYPE_CHECKING:
    from retrograd.estimators.forecasting.estimator import Forecaster
    from retrograd.estimators.identification.estimator import StateSpace

__all__ = ["sweep_of"]


def sweep_of(model: Any, U: Any, Y: Any, experiment: int, horizon: int | None) -> Sweep:
    """Return the sweep of a fitted model; see :meth:`Sweep.of_estimator`."""
    if isinstance(model, Recurrent):
        return _of_recurrent(model, U, Y, horizon)
    if horizon is not None:
        raise InputError(f"horizon is {horizon}: only a Recurrent is trained on free runs, leave it out")
    if _is(model, "identification.estimator", "StateSpace"):
        return _of_state_space(model, U, Y, experiment)
    if _is(model, "forecasting.estimator", "Forecaster"):
        return _of_forecaster(model, U, Y, experiment)
    raise TypeError(
        f"model is {type(model).__name__}, expected a StateSpace, Forecaster or Recurrent of retrograd.estimators"
    )


def _is(model: Any, module: str, name: str) -> bool:
    """Whether it is of an estimator's class, which was loaded to make it: the others are not loaded to find out."""
    loaded = sys.modules.get(f"retrograd.estimators.{module}")
    return loaded is not None and isinstance(model, getattr(loaded, name))


def _of_recurrent(model: Recurrent, U: Any, Y: Any, horizon: int | None) -> Sweep:
    Y = np.asarray(Y, dtype=float).reshape(len(Y), -1)
    x, y = model.series(Y, np.empty((len(Y), 0)) if U is None else np.asarray(U, dtype=float))
    weights: dict[str, Any] = model.weights
    if horizon is None:
        return Sweep.of_weights(x, **weights, loss=lambda outputs: (outputs - y).square().mean())
    if not 2 <= horizon <= len(x):
        raise InputError(f"horizon is {horizon}, expected from 2 to {len(x)}, the steps of the series less one")
    asked, _ = free_runs(model.weights, x, y, horizon)
    return Sweep.of_weights(**asked)


def _of_state_space(model: StateSpace, U: Any, Y: Any, experiment: int) -> Sweep:
    from retrograd.estimators.identification.experiments import are_several
    from retrograd.estimators.identification.sensitivity import initial_states
    from retrograd.estimators.identification.system import recurrence, tensors, with_unit_states

    if are_several(Y):
        U, Y = None if U is None else U[experiment], Y[experiment]
    model._check_fitted()
    data = model._read(U, Y)
    # Coordinates are anyone's choice, and sizes go with them: in these every direction counts as much as it moves.
    parts = tensors(with_unit_states(initial_states(model.system_, data), data))
    transition, drive = recurrence(parts, data)
    # A state of the model stands before its step; the first one is h_0, and the last drive makes no prediction.
    W = transition.W if transition.W.ndim == 2 else transition.W[:-1]
    fixed = torch.from_numpy(data.outputs - data.inputs @ model.D_.T - model.offset_)[1:]
    seen = torch.from_numpy(data.observed)[1:]
    weight = torch.linalg.inv(torch.from_numpy(model.innovation_covariance_))

    def criterion(states: Tensor) -> Tensor:
        e = torch.where(seen, fixed - states @ parts["C"].mT, 0.0)
        return torch.as_tensor((e @ weight * e).sum() / (2 * len(e)))

    return Sweep.of_scan(Dense(W), drive[:-1], parts["x0"][0], loss=criterion, made_of="system")


def _of_forecaster(model: Forecaster, X: Any, y: Any, experiment: int) -> Sweep:
    from retrograd.estimators.forecasting.states import Linear

    if not model.is_fitted:
        raise InputError("this Forecaster is not fitted: call fit first")
    states = model._model.states
    if not isinstance(states, Linear):
        raise InputError(
            f"states are 'lags': the gradient of a window goes back {model._model.states.width} steps and no further; "
            "only 'diagonal' and 'dense' states have a recurrence to follow"
        )
    values, gradient, loss = model._model.gradient_of_states(experiment, model._one(y, X))
    with torch.no_grad():
        A, u, h0 = states.driven(values)
        sweep = Sweep.of_scan(A, u, h0, grad_states=states.as_states(torch.from_numpy(gradient)), made_of="system")
    return replace(sweep, loss=loss)
