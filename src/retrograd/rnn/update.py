"""Step 4, the update: W ← W − lr ∂L/∂W, or any optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from retrograd.errors import require_number

__all__ = ["Slot", "apply_update", "assign_gradients"]


class Slot(NamedTuple):
    """An array with its gradient; ``learns`` says whether the plain rule moves it."""

    array: Any
    gradient: Any
    learns: bool


def assign_gradients(slots: Sequence[Slot], given_to: str) -> None:
    """Write the gradient into ``.grad`` (replacing it) of every tensor that requires one.

    Raises:
        TypeError: there are only NumPy arrays.
        ValueError: no tensor requires a gradient.
    """
    wanted = [slot for slot in slots if isinstance(slot.array, Tensor) and slot.array.requires_grad]
    if not wanted:
        _refuse_numpy(slots, "assign()", given_to)
        raise ValueError(
            f"assign(): none of the tensors given to {given_to} has requires_grad=True; there is no .grad to write"
        )
    _write_grad(wanted)


def apply_update(
    slots: Sequence[Slot], optimizer: torch.optim.Optimizer | None, *, lr: float | None, given_to: str
) -> None:
    """Move every array that learns by the plain rule, or every one that the optimizer holds by the optimizer.

    Raises:
        TypeError: both or neither of optimizer and lr, or an optimizer with NumPy arrays alone.
        ValueError: lr is no finite number of at least 0, or the optimizer holds none of the arrays, or a parameter that
            nothing gave a gradient.
    """
    if (optimizer is None) == (lr is None):
        raise TypeError("update() takes either an optimizer or lr=")
    if optimizer is None:
        step = require_number("lr", lr.item() if isinstance(lr, Tensor) else lr, least=0)
        with torch.no_grad():
            for array, gradient, learns in slots:
                if learns:
                    array -= step * gradient
        return
    held = {id(p): p for group in optimizer.param_groups for p in group["params"]}
    wanted = [slot for slot in slots if id(slot.array) in held]
    if not wanted:
        _refuse_numpy(slots, "update(optimizer)", given_to)
        raise ValueError(
            f"update(optimizer): the optimizer holds none of the tensors given to {given_to} or read by its loss"
        )
    _require_gradients(list(held.values()), {id(slot.array) for slot in wanted}, given_to)
    _write_grad(wanted)
    optimizer.step()


def _require_gradients(held: list[Tensor], served: set[int], given_to: str) -> None:
    """Raise where the optimizer would leave a parameter as it is, unsaid. A parameter that is frozen may stay."""
    for i, p in enumerate(held):
        frozen = isinstance(p, nn.Parameter) and not p.requires_grad
        if id(p) not in served and p.grad is None and not frozen:
            raise ValueError(
                f"update(optimizer): the optimizer's parameter {i}, of shape {tuple(p.shape)}, has no gradient: it was "
                f"not given to {given_to} and the loss does not depend on it; leave it out of the optimizer"
            )


def _write_grad(slots: Sequence[Slot]) -> None:
    written: set[int] = set()
    for array, gradient, _ in slots:
        gradient = gradient.to(array.dtype, copy=True)
        # A tensor given as two arguments gets the sum.
        array.grad = array.grad + gradient if id(array) in written else gradient
        written.add(id(array))


def _refuse_numpy(slots: Sequence[Slot], call: str, given_to: str) -> None:
    if not any(isinstance(slot.array, Tensor) for slot in slots):
        raise TypeError(f"{call} needs torch tensors, {given_to} was given NumPy arrays; use update(lr=...)")
