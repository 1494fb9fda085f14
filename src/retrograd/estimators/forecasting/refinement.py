"""Training of a recurrence by exact gradients through time, its read-out being at its optimum at every step.

The read-out that minimises the loss is solved anew in closed form for every recurrence; at that optimum the gradient of
the loss by the recurrence is the one with the read-out held fixed (variable projection, Golub and Pereyra, 1973). It
starts as ∂L/∂z_t at every step and goes back through the scan.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retrograd.estimators.forecasting.states import Linear
from retrograd.estimators.recurrent.training import OPTIMIZERS, WALL, DivergenceError, Epoch

__all__ = ["Objective", "refine"]

Array = np.ndarray[Any, Any]

# The loss on what is fitted and on what is held out, and, if asked, the former's gradient by the features of each
# instance, ``(series, T, width)``.
Objective = Callable[[Linear, bool], tuple[float, float, list[Array] | None]]


def refine(
    states: Linear, series: list[Array], objective: Objective, *, epochs: int, optimizer: str, lr: float | None
) -> tuple[Linear, list[Epoch]]:
    """Train a recurrence.

    Args:
        states: where to start.
        series: ``(T, C)`` of each instance.
        objective: see :data:`Objective`.
        epochs: steps of the optimizer.
        optimizer: a name in :data:`retrograd.estimators.OPTIMIZERS`.
        lr: learning rate; the optimizer's own by default.

    Returns:
        The stable recurrence with the lowest held-out loss, and the history.

    Raises:
        DivergenceError: a loss or gradient is not finite.
    """
    choice = OPTIMIZERS[optimizer]
    training = _Training(states, series, objective, choice.lr if lr is None else lr)
    stepper = choice.make(training.leaves, training.lr)
    history: list[Epoch] = []
    for number in range(1, epochs + 1):
        history.append(training.step(stepper, number))
    loss, held_out, _ = objective(training.trained, False)
    training.keep(loss, held_out)
    return training.best, history


class _Training:
    """The recurrence that is trained, and the best one so far."""

    def __init__(self, states: Linear, series: list[Array], objective: Objective, lr: float) -> None:
        self.trained = _copied(states)
        # A decay stays a decay: with angle 0 it has no imaginary part to read.
        self._angle = self.trained.parameters.get("angle")
        self._turning = None if self._angle is None else self._angle != 0
        self.leaves = [value.requires_grad_() for value in self.trained.parameters.values()]
        self.best, self._best_loss = states, float("inf")
        self._series, self._objective, self.lr = series, objective, lr

    def step(self, stepper: torch.optim.Optimizer, number: int) -> Epoch:
        """Run one epoch."""
        seen: list[tuple[float, float]] = []

        def closure() -> float:
            # Too long a step of a line search overflows: that is found below, and no reason for a warning.
            with np.errstate(over="ignore", invalid="ignore"):
                loss, held_out, gradients = self._objective(self.trained, True)
            assert gradients is not None
            if seen and not np.isfinite(loss):
                for leaf in self.leaves:
                    leaf.grad = torch.zeros_like(leaf)
                return WALL
            norm = self._backward(gradients)
            if not (np.isfinite(loss) and np.isfinite(norm)):
                raise DivergenceError(
                    f"training stopped at epoch {number}: the loss is {loss:.3g}, its gradient's norm {norm:.3g}: "
                    f"lr is {self.lr:g}, try a tenth of it, or states='diagonal', which cannot become unstable"
                )
            self.keep(loss, held_out)
            seen.append((loss, norm))
            return loss

        stepper.step(closure)
        return Epoch(number, *seen[0])

    def keep(self, loss: float, held_out: float) -> None:
        """Keep the recurrence if it is stable and the best so far."""
        if np.isfinite(loss) and held_out < self._best_loss and self.trained.radius() < 1:
            self.best, self._best_loss = _copied(self.trained), held_out

    def _backward(self, gradients: list[Array]) -> float:
        """Set the parameters' gradients from those of the features; return their norm."""
        trained = self.trained
        with torch.enable_grad():
            gain = trained._gain()
            total = torch.zeros((), dtype=torch.float64)
            for values, gradient in zip(self._series, gradients, strict=True):
                g = torch.from_numpy(gradient)
                total = total + (trained.states(values) * g).sum()
                if trained.difference == "last":
                    y = torch.from_numpy(np.ascontiguousarray(values.T)).unsqueeze(-1)
                    total = total - ((g * y).sum(dim=(0, 1)) * gain).sum()
        found: tuple[Tensor, ...] = torch.autograd.grad(total, self.leaves)
        for leaf, part in zip(self.leaves, found, strict=True):
            leaf.grad = part if self._turning is None or leaf is not self._angle else part * self._turning
        return float(torch.stack([part.norm() for part in found]).norm())


def _copied(states: Linear) -> Linear:
    """Return the same recurrence with tensors of its own, contiguous: L-BFGS reads each gradient as one vector."""
    copies = {
        name: value.detach().clone(memory_format=torch.contiguous_format) for name, value in states.parameters.items()
    }
    return Linear(states.kind, copies, states.difference)
