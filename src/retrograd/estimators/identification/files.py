"""An identified system as arrays and plain values, and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from retrograd.errors import InputError
from retrograd.estimators.identification.identified import Identified
from retrograd.estimators.identification.system import System, root_of
from retrograd.estimators.model_files import require_arrays, require_names
from retrograd.tables.time_axis import TimeAxis

__all__ = ["from_parts", "parts_of"]

Array = np.ndarray[Any, Any]

MATRICES = ("A", "B", "C", "D", "K", "offset", "x0")


def parts_of(found: Identified) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return the arrays of a system by name, and all else as JSON has it."""
    arrays = {name: getattr(found.system, name) for name in MATRICES}
    arrays |= {
        "innovation_covariance": found.innovation_covariance,
        "final_state": found.final_state,
        "singular_values": found.singular_values,
    }
    if found.final_covariance is not None:
        arrays["final_covariance"] = found.final_covariance
    return arrays, {
        "inputs": list(found.input_names),
        "outputs": list(found.output_names),
        "noise": found.noise,
        "reasons": list(found.reasons),
        "cautions": list(found.cautions),
        "converged": found.converged,
        "stop_reason": found.stop_reason,
        "order_criteria": [[order, *map(float, pair)] for order, pair in found.order_criteria.items()],
        "axis": None if found.axis is None else found.axis.record(),
        "history": [[value, None if np.isnan(held_out) else held_out] for value, held_out in found.history],
    }


def from_parts(arrays: dict[str, Array], config: dict[str, Any], sample_time: float) -> Identified:
    """Return the system of :func:`parts_of`.

    Raises:
        InputError: the arrays do not fit the names, or each other.
    """
    m, p = len(require_names(config["inputs"], "inputs")), len(require_names(config["outputs"], "outputs"))
    n = len(arrays["A"])
    shapes = {
        "A": (n, n), "B": (n, m), "C": (p, n), "D": (p, m), "K": (n, p), "offset": (p,), "x0": (-1, n),
        "innovation_covariance": (p, p), "final_state": (n,), "singular_values": (-1,),
    }  # fmt: skip
    if "final_covariance" in arrays:
        shapes["final_covariance"] = (n, n)
    require_arrays(arrays, shapes)
    if not (n and p and len(arrays["x0"])):
        raise InputError(f"a system of {n} states and {p} outputs, fitted to {len(arrays['x0'])} experiments, is none")
    return Identified(
        system=System(**{name: arrays[name] for name in MATRICES}, root=root_of(arrays["innovation_covariance"])),
        input_names=tuple(config["inputs"]),
        output_names=tuple(config["outputs"]),
        innovation_covariance=arrays["innovation_covariance"],
        final_state=arrays["final_state"],
        final_covariance=arrays.get("final_covariance"),
        singular_values=arrays["singular_values"],
        order_criteria={order: (aic, bic) for order, aic, bic in config["order_criteria"]},
        history=[(value, float("nan") if held is None else held) for value, held in config["history"]],
        # Older files do not name it.
        noise=config.get("noise", "innovations" if arrays["K"].any() else "output-error"),
        reasons=tuple(config.get("reasons", ())),
        cautions=tuple(config.get("cautions", ())),
        converged=config["converged"],
        stop_reason=config["stop_reason"],
        sample_time=sample_time,
        axis=None if config.get("axis") is None else TimeAxis.from_record(config["axis"]),
    )
