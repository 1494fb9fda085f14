"""What A_t is: its structure, its shapes, its action and its gradient.

Inside, a transition is one tensor whose rank tells the structure: ``(groups, steps, D)`` is diagonal and
``(groups, steps, H, H)`` dense. ``groups`` divides the batch: row ``b`` uses the transition ``b // (batch / groups)``;
``steps`` is 1 for a time-invariant transition. Nothing is ever expanded to (batch, time).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from retrograd.errors import require_floating

__all__ = ["Dense", "Diagonal", "Transition", "apply_adjoint", "apply_transition", "transition_gradient"]

_ONES = (1, 1)


@dataclass(frozen=True, eq=False)
class Dense:
    """Dense transitions: h_t = W_t h_{t-1} + u_t.

    Args:
        W: matrices that broadcast to ``(batch, time, H, H)``: ``(H, H)``, ``(T, H, H)``, ``(B, 1, H, H)`` or
            ``(B, T, H, H)``; any floating or complex dtype.

    Raises:
        TypeError: ``W`` is not a floating or complex tensor.
        ValueError: ``W`` is not square or has another rank.

    Examples:
        >>> Dense(torch.eye(3)).W.shape
        torch.Size([3, 3])
    """

    W: Tensor

    def __post_init__(self) -> None:
        _check_array("Dense", "W", self.W, 2, 4, "(H, H), (T, H, H), (B, 1, H, H) or (B, T, H, H)")
        if self.W.shape[-1] != self.W.shape[-2]:
            raise ValueError(f"Dense: W has shape {tuple(self.W.shape)}, expected square matrices (..., H, H)")

    def normal(self) -> Tensor:
        """Return W as ``(groups, steps, H, H)``."""
        shape = self.W.shape
        return self.W if len(shape) == 4 else self.W.view(*_ONES[: 4 - len(shape)], *shape)


@dataclass(frozen=True, eq=False)
class Diagonal:
    """Diagonal transitions: h_t = a_t * h_{t-1} + u_t, element by element.

    Args:
        a: diagonals that broadcast to ``(batch, time, D)``: ``(D,)``, ``(T, D)``, ``(B, 1, D)`` or ``(B, T, D)``;
            any floating or complex dtype.

    Raises:
        TypeError: ``a`` is not a floating or complex tensor.
        ValueError: ``a`` has another rank.

    Examples:
        >>> Diagonal.from_log(torch.zeros(3)).a
        tensor([1., 1., 1.])
    """

    a: Tensor

    def __post_init__(self) -> None:
        _check_array("Diagonal", "a", self.a, 1, 3, "(D,), (T, D), (B, 1, D) or (B, T, D)")

    @classmethod
    def from_log(cls, log_a: Tensor) -> Diagonal:
        """Return the transition exp(log_a): positive gates (real) or log-polar ones (complex)."""
        return cls(torch.exp(log_a))

    def normal(self) -> Tensor:
        """Return a as ``(groups, steps, D)``."""
        shape = self.a.shape
        return self.a if len(shape) == 3 else self.a.view(*_ONES[: 3 - len(shape)], *shape)


Transition = Dense | Diagonal


def _check_array(owner: str, name: str, array: Tensor, low: int, high: int, shapes: str) -> None:
    require_floating(f"{owner}: {name}", array)
    if not low <= array.ndim <= high:
        raise ValueError(f"{owner}: {name} has shape {tuple(array.shape)}, expected {shapes}")


def _by_group(A: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return A as (groups, 1, steps, ...) and x as (groups, rows, time, width), which broadcast."""
    groups = A.shape[0]
    return A.unsqueeze(1), x.reshape(groups, x.shape[0] // groups, *x.shape[1:])


def apply_transition(A: Tensor, x: Tensor) -> Tensor:
    """Return A_t x_t for every step of x ``(batch, time, width)``."""
    A_, x_ = _by_group(A, x)
    y = A_ * x_ if A.ndim == 3 else (A_ @ x_.unsqueeze(-1)).squeeze(-1)
    return y.reshape(x.shape)


def apply_adjoint(A: Tensor, x: Tensor) -> Tensor:
    """Return A_t^H x_t for every step of x ``(batch, time, width)``."""
    return apply_transition(A.conj() if A.ndim == 3 else A.mH, x)


def transition_gradient(A: Tensor, delta: Tensor, previous: Tensor) -> Tensor:
    """Return ∂L/∂A_t = δ_t h_{t-1}^H, kept to A's structure and summed where A is shared.

    Args:
        A: the transition, ``(groups, steps, D)`` or ``(groups, steps, H, H)``; only its shape is used.
        delta: δ_t = ∂L/∂h_t, ``(batch, time, width)``.
        previous: h_{t-1}, ``(batch, time, width)``.

    For a time-invariant dense A the sum over (batch, time) is one matrix product.
    """
    _, d = _by_group(A, delta)
    _, h = _by_group(A, previous)
    invariant = A.shape[1] == 1
    if A.ndim == 3:
        return (d * h.conj()).sum(dim=(1, 2) if invariant else 1).reshape(A.shape)
    if invariant:
        product = d.flatten(1, 2).transpose(1, 2) @ h.flatten(1, 2).conj()
    else:
        product = d.permute(0, 2, 3, 1) @ h.permute(0, 2, 1, 3).conj()
    return product.reshape(A.shape)
