"""A loss function that the caller gives: its value, and its gradient in all that it was computed from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["Loss", "LossGradient", "loss_gradient", "scalar"]

Loss = Callable[[Tensor], Tensor]


class LossGradient(NamedTuple):
    """A loss and its gradient.

    Attributes:
        value: the loss.
        argument: ∂loss/∂argument.
        others: the gradient of every other tensor that the loss was computed from and that requires one, by the tensor:
            parameters of the loss itself, and those named as ``arguments``, as a penalty on a weight reads them.
    """

    value: Tensor
    argument: Tensor
    others: dict[Tensor, Tensor]


def loss_gradient(loss: Loss, argument: Tensor, arguments: Iterable[Any] = ()) -> LossGradient:
    """Return the loss and its gradient.

    Args:
        loss: a function of one tensor that returns a real scalar tensor.
        argument: what it is called with.
        arguments: further tensors whose gradient is asked for where the loss reads them, leaves or not.

    Raises:
        ValueError: the loss is no real scalar tensor, or does not depend on its argument.
    """
    with torch.enable_grad():
        leaf = argument.detach().requires_grad_()
        value = scalar(loss(leaf))
        sources = _sources(value, [array for array in arguments if isinstance(array, Tensor) and array.requires_grad])
        if not any(source is leaf for source in sources):
            raise ValueError("loss returned a tensor that does not depend on its argument: no gradient can start")
        others = [source for source in sources if source is not leaf]
        gradient, *of_others = torch.autograd.grad(value, [leaf, *others], materialize_grads=True)
    return LossGradient(value.detach(), gradient, dict(zip(others, of_others, strict=True)))


def scalar(value: Any) -> Tensor:
    """Return what a loss returned, without axes; raise ``ValueError`` where no gradient can start from it."""
    if not isinstance(value, Tensor) or value.numel() != 1 or value.is_complex():
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"loss returned {shape}, expected a real scalar tensor")
    if not value.requires_grad:
        raise ValueError("loss returned a tensor that does not depend on its argument: no gradient can start")
    return value.reshape(())


def _sources(value: Tensor, stops: list[Tensor]) -> list[Tensor]:
    """Return the leaves that a value's graph ends in; at a tensor of ``stops`` it ends in that one."""
    stop_at = {(stop.grad_fn, stop.output_nr): stop for stop in stops}
    found: list[Tensor] = []
    edges, walked = [(value.grad_fn, value.output_nr)], set()
    while edges:
        edge = edges.pop()
        node, _ = edge
        if node is None or edge in walked:
            continue
        walked.add(edge)
        if edge in stop_at:
            found.append(stop_at[edge])
        elif node.name() == "torch::autograd::AccumulateGrad":
            found.append(node.variable)  # type: ignore[attr-defined]
        else:
            edges += node.next_functions
    return found
