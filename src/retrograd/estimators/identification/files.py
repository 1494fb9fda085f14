"""A fitted state-space model on disk: its matrices, and how it was found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from retrograd.errors import InputError
from retrograd.estimators.identification.system import System
from retrograd.estimators.model_files import read_model, write_model

if TYPE_CHECKING:
    from retrograd.estimators.identification.estimator import StateSpace

__all__ = ["load", "save"]

# The format is raised whenever what the two files hold changes; load knows every older one.
KIND, FORMAT = "state-space", 1
MATRICES = ("A", "B", "C", "D", "K", "offset", "x0")


def save(model: StateSpace, folder: Path, *, overwrite: bool) -> None:
    """Write a fitted model; see :meth:`retrograd.estimators.StateSpace.save`."""
    arrays = {name: getattr(model.system_, name) for name in MATRICES}
    arrays |= {
        "innovation_covariance": model.innovation_covariance_,
        "final_state": model.final_state_,
        "singular_values": model.singular_values_,
    }
    config = {
        "model": KIND,
        "format": FORMAT,
        "inputs": list(model.input_names_),
        "outputs": list(model.output_names_),
        "parameters": model.get_params(),
        "converged": model.converged_,
        "stop_reason": model.stop_reason_,
        "order_criteria": [[order, *map(float, pair)] for order, pair in model.order_criteria_.items()],
        "history": [[value, None if np.isnan(held_out) else held_out] for value, held_out in model.history_],
    }
    write_model(folder, arrays, config, overwrite=overwrite)


def load(cls: type[StateSpace], folder: Path) -> StateSpace:
    """Read a model; see :meth:`retrograd.estimators.StateSpace.load`."""
    arrays, config = read_model(folder, KIND, FORMAT)
    try:
        model = cls(**config["parameters"])
        model._keep(
            System(**{name: arrays[name] for name in MATRICES}), tuple(config["inputs"]), tuple(config["outputs"])
        )
        model.innovation_covariance_ = arrays["innovation_covariance"]
        model.final_state_, model.singular_values_ = arrays["final_state"], arrays["singular_values"]
        model.converged_, model.stop_reason_ = config["converged"], config["stop_reason"]
        model.history_ = [(value, float("nan") if held is None else held) for value, held in config["history"]]
        model.order_criteria_ = {order: (aic, bic) for order, aic, bic in config["order_criteria"]}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder} is no model that can be read: {type(error).__name__}: {error}") from None
    return model
