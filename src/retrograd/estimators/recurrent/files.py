"""A recurrent model as arrays and plain values, and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from retrograd.errors import InputError, require_whole
from retrograd.estimators.model_files import Saved, require_arrays, require_names
from retrograd.estimators.recurrent.network import WEIGHTS, Network
from retrograd.estimators.recurrent.training import Epoch
from retrograd.tables.scale import Scaling

__all__ = ["KIND", "model_of", "saved_of"]

KIND = "recurrent"


def saved_of(model: Any) -> Saved:
    """Return what files hold of a fitted model."""
    network = model.network_
    arrays = {name: np.asarray(weight.detach().cpu()) for name, weight in network.weights.items()}
    arrays["state"] = model.state_
    if hasattr(model, "innovation_covariance_"):
        arrays["innovation_covariance"] = model.innovation_covariance_
    return Saved(
        KIND,
        arrays,
        {
            "parameters": model.get_params(),
            "target": _described(network.target_names, network.target_scaling),
            "inputs": _described(network.input_names, network.input_scaling),
            "best_loss": model.best_loss_,
            "stop_reason": model.stop_reason_,
            "history": [[epoch.loss, epoch.gradient_norm] for epoch in model.history_],
        },
    )


def model_of(saved: Saved, unfitted: Callable[..., Any]) -> Any:
    """Return the model of :func:`saved_of`; ``unfitted`` makes one of parameters.

    Raises:
        InputError: the arrays do not fit the names and parameters.
    """
    arrays, config = saved.arrays, saved.config
    if saved.format == 1:
        named = ("hidden", "optimizer", "lr", "clip", "closed_loop", "seed")
        settings = config.get("settings", {})
        config = {"parameters": {name: settings[name] for name in named if name in settings}, **config}
        arrays = {**arrays, "state": np.concatenate([arrays["border.state"], arrays["border.target"]])}
        arrays = {name: arrays[name] for name in (*WEIGHTS, "state")}
    model = unfitted(**{**config["parameters"], "device": "cpu"})
    targets, inputs = (require_names(config[part]["names"], part) for part in ("target", "inputs"))
    H, P, E = require_whole("hidden", model.hidden), len(targets), len(inputs)
    shapes = {
        "weight_hh": (H, H), "weight_ih": (H, P + E), "bias": (H,), "h0": (H,), "weight_out": (P, H),
        "bias_out": (P,), "state": (H + P,),
    }  # fmt: skip
    # Files of older versions lack it.
    shapes |= {"innovation_covariance": (P, P)} if "innovation_covariance" in arrays else {}
    require_arrays(arrays, shapes)
    if P == 0:
        raise InputError("target has no names")
    model.network_ = Network(
        {name: torch.from_numpy(arrays[name].copy()) for name in WEIGHTS},
        targets,
        inputs,
        _scaling(config["target"], P),
        _scaling(config["inputs"], E),
    )
    model.state_, model.n_features_in_ = arrays["state"], E
    if "innovation_covariance" in arrays:
        model.innovation_covariance_ = arrays["innovation_covariance"]
    model.best_loss_, model.stop_reason_ = config.get("best_loss", float("nan")), config.get("stop_reason", "")
    model.history_ = [Epoch(number, *values) for number, values in enumerate(config.get("history", []), start=1)]
    return model


def _described(names: list[str], scaling: Scaling) -> dict[str, Any]:
    return {"names": names, "mean": scaling.mean.tolist(), "scale": scaling.scale.tolist()}


def _scaling(config: dict[str, Any], columns: int) -> Scaling:
    mean, scale = (np.array(config[name], dtype=np.float64) for name in ("mean", "scale"))
    require_arrays({"mean": mean, "scale": scale}, {"mean": (columns,), "scale": (columns,)})
    if not (scale > 0).all():
        raise InputError(f"a scale is {scale.min():g}, expected above 0")
    return Scaling(mean, scale)
