"""The record of one backward pass through one layer: norms by step, in bins; and what is logged of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from retrograd.norms import norm

__all__ = ["Record", "binned", "log", "step_norms", "tensorboard"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Record:
    """One backward pass through one layer in one direction. A norm is over the batch and the states of a step.

    Attributes:
        backward: the number of the backward pass through the model, from 0.
        module: the module's name in the model.
        layer: the layer in the module, from 0.
        direction: ``"forward"`` or ``"backward"``.
        edges: bounds of the bins, ``(bins + 1,)``: a bin holds the steps ``edges[i]`` to ``edges[i + 1] − 1``, counted
            from 0; one step each, unless the sequence is longer than the recorder's ``steps``.
        delta_norm: the largest ‖δ_t‖ of each bin, ``(bins,)``, δ_t = dL/dh_t being the whole gradient of a state; None
            if it is not known, for the reason in ``note``.
        direct_norm: the largest ‖g_t‖ of each bin, g_t being the gradient that arrives at the module's output from the
            loss and the layers above; None below the last layer, for cells, and if only the final state had a gradient.
        cell_norm: the largest ‖dL/dc_t‖ of each bin, of an LSTM; None for others.
        total: √Σ ‖δ_t‖² over all steps. If δ_t is not known, this and the following are of g_t.
        first: ‖δ_t‖ at the first step.
        last: ‖δ_t‖ at the last step.
        zeros: steps at which ‖δ_t‖ is exactly 0.
        not_finite: steps at which it is NaN or infinite.
        call: the number of the module's call among those in this pass, in their forward order, from 0.
        note: the reason why something is missing.
    """

    backward: int
    module: str
    layer: int
    direction: str
    edges: Array
    delta_norm: Array | None
    direct_norm: Array | None
    cell_norm: Array | None
    total: float
    first: float
    last: float
    zeros: int
    not_finite: int
    call: int = 0
    note: str = ""

    @property
    def measured(self) -> str:
        """``"delta"`` if ``total`` and the attributes after it are of δ_t, ``"direct"`` if they are of g_t."""
        return "direct" if self.delta_norm is None else "delta"

    @property
    def decades(self) -> float:
        """log10 of the ratio of ‖δ‖ at the end of its way back to that at the beginning: negative if it vanishes.

        NaN if δ is not known.
        """
        if self.delta_norm is None:
            return float("nan")
        end, begin = (self.last, self.first) if self.direction == "backward" else (self.first, self.last)
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(np.log10(end) - np.log10(begin))

    def __str__(self) -> str:
        """Return one line: module, quantity, norms, and the note."""
        what = "‖dL/dh_t‖" if self.measured == "delta" else "‖g_t‖, what arrives at its output,"
        call = f", call {self.call}" if self.call else ""
        return (
            f"{self.module}, layer {self.layer}, {self.direction}{call}: {what} {self.first:.3g} at the first step, "
            f"{self.last:.3g} at the last ({self.zeros} zero, {self.not_finite} not finite)"
            + (f"; {self.note}" if self.note else "")
        )


def step_norms(values: Tensor) -> Array:
    """Return the norm of each step's gradient, of ``(time, ...)``, as float64.

    >>> step_norms(Tensor([[3.0, 4.0], [0.0, 1.0]])).tolist()
    [5.0, 1.0]
    """
    found = norm(values.detach())
    while found.ndim > 1:
        found = norm(found)
    return found.cpu().numpy()


def binned(values: Array | None, edges: Array) -> Array | None:
    """Return the largest value of each bin; NaN if one of its values is NaN."""
    return None if values is None else np.maximum.reduceat(values, edges[:-1])


def tensorboard(writer: Any) -> tuple[Any, bool]:
    """Return a writer, and whether it was created here for a folder."""
    if not isinstance(writer, (str, Path)):
        return writer, False
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f"writer is the folder {writer}, which needs tensorboard: pip install tensorboard"
        ) from None
    return SummaryWriter(str(writer)), True


def log(writer: Any, record: Record, norms: Array) -> None:
    """Write a record to a TensorBoard writer; δ_t and g_t have different tags."""
    what = "gradient" if record.measured == "delta" else "gradient arriving at the output"
    label = f"{what}/{record.module}/layer {record.layer} {record.direction}"
    label += f" call {record.call}" if record.call else ""
    writer.add_scalar(f"{label}/norm", record.total, record.backward)
    if np.isfinite(record.decades):
        writer.add_scalar(f"{label}/decades over the way back", record.decades, record.backward)
    positive = norms[np.isfinite(norms) & (norms > 0)]
    if len(positive):
        writer.add_histogram(f"{label}/log10 of each step", np.log10(positive), record.backward)
