"""What backpropagation through time computes, and step 4, the update of what was given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from retrograd.rnn.arguments import Arguments
from retrograd.rnn.update import Slot, apply_update, assign_gradients

__all__ = ["GradientTotals", "Gradients", "gradient_fields", "shapes"]

ArrayT = TypeVar("ArrayT", Tensor, "np.ndarray[Any, Any]")


@dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class GradientTotals(Generic[ArrayT]):
    """Gradients summed over all steps.

    Arrays are of the kind given (tensor or NumPy). A gradient has the shape and dtype of the argument it belongs to. It
    is None only where ``weight_out`` was not given.

    Attributes:
        loss: value of the loss function, if one was given.
        h0: ∂L/∂h_0 (given or not), ``(batch, hidden)``; summed over the batch for an h0 of ``(hidden,)``, and without
            the batch axis if x has none.
        weight_hh: ∂L/∂W_hh, ``(hidden, hidden)``.
        weight_ih: ∂L/∂W_ih, ``(hidden, inputs)``.
        bias: ∂L/∂b, ``(hidden,)``; given or not.
        weight_out: ∂L/∂C, ``(outputs, hidden)``.
        bias_out: ∂L/∂c, ``(outputs,)``; whenever ``weight_out`` was given.
        loss_parameters: the gradient of every other tensor that the loss reads and that requires one, as the weights of
            a head, by the tensor: ``g.loss_parameters[head.weight]``.
    """

    loss: ArrayT | None
    h0: ArrayT
    weight_hh: ArrayT
    weight_ih: ArrayT
    bias: ArrayT
    weight_out: ArrayT | None
    bias_out: ArrayT | None
    loss_parameters: dict[Tensor, Tensor]
    _given: dict[str, ArrayT] = field(default_factory=dict)

    def assign(self) -> None:
        """Write each gradient into ``.grad`` (replacing it) of the given tensors and loss parameters that require one.

        Raises:
            TypeError: the arguments were NumPy arrays.
            ValueError: none of the given tensors requires a gradient.
        """
        assign_gradients(self._slots(), "bptt")

    def update(self, optimizer: torch.optim.Optimizer | None = None, *, lr: float | None = None) -> None:
        """Step 4. With ``lr``: W ← W − lr ∂L/∂W in place, for every weight and bias given and every loss parameter.

        Args:
            optimizer: any ``torch.optim`` optimizer over tensors that were given and loss parameters. Their ``.grad``
                is written and ``optimizer.step()`` called. For one that needs a closure, call :meth:`assign` inside it.
            lr: learning rate of the plain rule.

        Raises:
            TypeError: both or neither of optimizer and lr, or an optimizer with NumPy arrays.
            ValueError: the optimizer holds none of these tensors, or another one that nothing gave a gradient.
        """
        apply_update(self._slots(), optimizer, lr=lr, given_to="bptt")

    def _slots(self) -> list[Slot]:
        given = [Slot(p, getattr(self, name), name not in ("x", "h0")) for name, p in self._given.items()]
        return given + [Slot(p, gradient, True) for p, gradient in self.loss_parameters.items()]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({shapes({f.name: getattr(self, f.name) for f in fields(self)})})"


@dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class Gradients(GradientTotals[ArrayT]):
    """Everything that backpropagation through time computes: the totals, and what has a row for every step.

    Shapes are for x of ``(batch, time, inputs)``; without the batch axis if x has none.

    Attributes:
        states: h_t, ``(batch, time, hidden)``.
        outputs: y_t = C h_t + c, ``(batch, time, outputs)``, if ``weight_out`` was given.
        inputs: the x_t that each step consumed, ``(batch, time, inputs)``: outputs where fed back.
        delta: δ_t = ∂L/∂h_t, the whole gradient of each state, ``(batch, time, hidden)``.
        x: ∂L/∂x; zero where feedback put an output in x's place.
        contributions: on request, each step's part in the weight gradients (summed over the batch), by name, with a
            leading time axis: summing over it gives the gradient.

    The others are those of :class:`GradientTotals`.
    """

    states: ArrayT
    outputs: ArrayT | None
    inputs: ArrayT
    delta: ArrayT
    x: ArrayT
    contributions: dict[str, ArrayT] | None


def gradient_fields(
    p: Arguments,
    loss: Tensor | None,
    h0: Tensor,
    weights: Mapping[str, Tensor],
    others: Mapping[Tensor, Tensor],
    x: Tensor | None = None,
) -> dict[str, Any]:
    """Return the fields of :class:`GradientTotals`, and ∂L/∂x where it is given, in the caller's terms.

    Where the loss reads an argument itself (a penalty on W_hh), the gradient is the sum over both ways.

    Args:
        p: the arguments.
        loss: the loss's value.
        h0: ∂L/∂h_0, ``(batch, hidden)``.
        weights: the gradient of each weight, by way of the states and the outputs.
        others: the gradient of the other tensors that the loss reads, straight from the loss.
        x: ∂L/∂x, ``(batch, time, inputs)``, by way of the states.
    """
    result = {name: p.to_caller(weights.get(name), name, batched=False) for name in p.sizes}
    result["h0"] = p.to_caller(p.sum_of_h0(h0), "h0")
    if x is not None:
        result["x"] = p.to_caller(x, "x")
    parameters = dict(others)
    for name, array in p.given.items():
        if name in result and isinstance(array, Tensor) and array in parameters:
            result[name] = result[name] + parameters.pop(array)
    return {**result, "loss": p.to_caller(loss), "loss_parameters": parameters}


def shapes(arrays: Mapping[str, Any]) -> str:
    """Return names with shapes, for a representation; what is None, empty or private is left out.

    >>> shapes({"h0": torch.zeros(2, 3), "bias_out": None, "parts": {"bias": torch.zeros(3)}})
    'h0=(2, 3), parts=[(3,)]'
    """
    shown = []
    for name, value in arrays.items():
        if isinstance(value, dict):
            value = [tuple(array.shape) for array in value.values()] or None
        if value is not None and not name.startswith("_"):
            shown.append(f"{name}={tuple(value.shape) if hasattr(value, 'shape') else value}")
    return ", ".join(shown)
