"""What backpropagation through time computes, and step 4: the update."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

__all__ = ["Gradients"]

ArrayT = TypeVar("ArrayT", Tensor, "np.ndarray[Any, Any]")


@dataclass(frozen=True)
class Gradients(Generic[ArrayT]):
    """Everything that backpropagation through time computes. Arrays are of the kind given (tensor or NumPy).

    Shapes are for x of ``(batch, time, inputs)``; without the batch axis if x has none. A gradient has the shape
    and dtype of the argument it belongs to, and is None only where that argument was not given. Where memory was
    bounded, the arrays with a row for every step (states, outputs, inputs, delta, x) are None.

    Attributes:
        loss: value of the loss function, if one was given.
        states: h_t, ``(batch, time, hidden)``.
        outputs: y_t = C h_t + c, ``(batch, time, outputs)``, if ``weight_out`` was given.
        inputs: the x_t that each step consumed, ``(batch, time, inputs)``: outputs where fed back.
        delta: δ_t = ∂L/∂h_t, the whole gradient of each state, ``(batch, time, hidden)``.
        x: ∂L/∂x; zero where feedback put an output in x's place.
        h0: ∂L/∂h_0 (given or not), ``(batch, hidden)``, or summed over the batch for an h0 of ``(hidden,)``.
        weight_hh: ∂L/∂W_hh, ``(hidden, hidden)``.
        weight_ih: ∂L/∂W_ih, ``(hidden, inputs)``.
        bias: ∂L/∂b, ``(hidden,)``; given or not.
        weight_out: ∂L/∂C, ``(outputs, hidden)``.
        bias_out: ∂L/∂c, ``(outputs,)``; whenever ``weight_out`` was given.
        contributions: on request, each step's part in the weight gradients (summed over the batch), by name, with a
            leading time axis: summing over it gives the gradient.
    """

    loss: ArrayT | None
    states: ArrayT | None
    outputs: ArrayT | None
    inputs: ArrayT | None
    delta: ArrayT | None
    x: ArrayT | None
    h0: ArrayT
    weight_hh: ArrayT
    weight_ih: ArrayT
    bias: ArrayT
    weight_out: ArrayT | None
    bias_out: ArrayT | None
    contributions: dict[str, ArrayT] | None
    _given: dict[str, ArrayT] = field(repr=False)

    def assign(self) -> None:
        """Write each gradient into ``.grad`` (replacing it) of the given tensors that require one.

        Raises:
            TypeError: the arguments were NumPy arrays.
            ValueError: none of the given tensors requires a gradient.
        """
        wanted = [n for n, p in self._given.items() if isinstance(p, Tensor) and p.requires_grad]
        if not wanted:
            self._refuse_numpy("assign()")
            raise ValueError("assign(): none of the given tensors has requires_grad=True; there is no .grad to write")
        self._write_grad(wanted)

    def update(self, optimizer: torch.optim.Optimizer | None = None, *, lr: float | None = None) -> None:
        """Step 4. With ``lr``: W ← W − lr ∂L/∂W in place, for every weight and bias given.

        Args:
            optimizer: any ``torch.optim`` optimizer over the tensors that were given; their ``.grad`` is written and
                ``optimizer.step()`` called. For one that needs a closure, call :meth:`assign` inside it.
            lr: learning rate of the plain rule.

        Raises:
            TypeError: both or neither of optimizer and lr, or an optimizer with NumPy arrays.
            ValueError: the optimizer holds none of the given tensors.
        """
        if (optimizer is None) == (lr is None):
            raise TypeError("update() takes either an optimizer or lr=")
        if optimizer is not None:
            held = {id(p) for group in optimizer.param_groups for p in group["params"]}
            wanted = [n for n, p in self._given.items() if id(p) in held]
            if not wanted:
                self._refuse_numpy("update(optimizer)")
                raise ValueError("update(optimizer): the optimizer holds none of the tensors given to bptt")
            self._write_grad(wanted)
            optimizer.step()
            return
        with torch.no_grad():
            for name, parameter in self._given.items():
                if name not in ("x", "h0"):
                    parameter -= lr * getattr(self, name)

    def _write_grad(self, names: list[str]) -> None:
        for name in names:
            parameter = self._given[name]
            assert isinstance(parameter, Tensor)
            parameter.grad = getattr(self, name).clone()

    def _refuse_numpy(self, call: str) -> None:
        if not any(isinstance(p, Tensor) for p in self._given.values()):
            raise TypeError(f"{call} needs torch tensors, bptt was given NumPy arrays; use update(lr=...)")
