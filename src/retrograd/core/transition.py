"""What A_t is: a structure, its arrays, its action and its gradient.

A structure is a class. In *normal form* each of its arrays is ``(groups, steps, ...)``: ``groups`` divides the batch,
row ``b`` uses the transition ``b // (batch / groups)``; ``steps`` is 1 for a time-invariant transition. Nothing is ever
expanded to (batch, time). A new structure is a subclass with ``apply``, ``apply_adjoint``, ``gradient`` and
``product``: the reference backend, every derivative and vmap then work with it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from retrograd.errors import require_floating

__all__ = ["STRUCTURES", "Dense", "Diagonal", "LogDiagonal", "Transition"]

STRUCTURES: dict[str, type[Transition]] = {}
_ONES = (1, 1)


class Transition(ABC):
    """A linear map h ↦ A_t h for every step t.

    Attributes:
        structure: the name of the class in :data:`STRUCTURES`.
        ranks: how many axes each array has behind ``(groups, steps)``.
        tensors: the arrays as they were given, with axes that broadcast to ``(batch, time, ...)``.
    """

    structure: ClassVar[str]
    ranks: ClassVar[tuple[int, ...]]
    tensors: tuple[Tensor, ...]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        STRUCTURES[cls.structure] = cls

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> Transition:
        """Return the transition of arrays that were checked before."""
        made = object.__new__(cls)
        made.tensors = tuple(tensors)
        return made

    # --- what a structure defines: one step, for arrays and states that broadcast ---

    @staticmethod
    @abstractmethod
    def apply(arrays: Sequence[Tensor], x: Tensor) -> Tensor:
        """Return A x for arrays ``(..., *)`` without their step axis and x ``(..., width)``."""

    @staticmethod
    @abstractmethod
    def apply_adjoint(arrays: Sequence[Tensor], x: Tensor) -> Tensor:
        """Return A^H x for arrays ``(..., *)`` without their step axis and x ``(..., width)``."""

    @abstractmethod
    def gradient(self, delta: Tensor, previous: Tensor) -> tuple[Tensor, ...]:
        """Return ∂L/∂A_t = δ_t h_{t-1}^H, kept to the structure and summed where A is shared.

        Args:
            delta: δ_t = ∂L/∂h_t, ``(batch, time, width)``.
            previous: h_{t-1}, ``(batch, time, width)``.

        Returns:
            one array of the shape of each of :attr:`arrays`.
        """

    @abstractmethod
    def product(self, earlier: Transition) -> Transition:
        """Return A_t · earlier_t, step by step, in the same structure."""

    # --- what follows ---

    @property
    def arrays(self) -> tuple[Tensor, ...]:
        """The arrays in normal form, ``(groups, steps, ...)``: views of :attr:`tensors`."""
        return tuple([self._in_normal_form(i) for i in range(len(self.ranks))])

    def normal(self) -> Tensor:
        """Return the first array in normal form, ``(groups, steps, ...)``."""
        return self._in_normal_form(0)

    def _in_normal_form(self, i: int) -> Tensor:
        x = self.tensors[i]
        missing = 2 + self.ranks[i] - x.ndim
        return x.view(*_ONES[:missing], *x.shape) if missing else x

    @property
    def groups(self) -> int:
        """How many parts of the batch have a transition of their own."""
        return self.sizes[0]

    @property
    def steps(self) -> int:
        """1 for a time-invariant transition, else the time."""
        return self.sizes[1]

    @property
    def sizes(self) -> tuple[int, int]:
        """The groups and the steps: each 1, unless an array has more."""
        groups = steps = 1
        for x, rank in zip(self.tensors, self.ranks):  # noqa: B905 (strict costs as much as the loop)
            before = x.shape[: x.ndim - rank]
            if before and steps == 1:
                steps = before[-1]
            if len(before) > 1 and groups == 1:
                groups = before[-2]
        return groups, steps

    @property
    def invariant(self) -> bool:
        """Whether A_t is the same at every step."""
        return self.steps == 1

    @property
    def width(self) -> int:
        """How many numbers a state has."""
        return self.tensors[0].shape[-1]

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the first array."""
        return self.tensors[0].dtype

    @property
    def device(self) -> torch.device:
        """Where the first array lies."""
        return self.tensors[0].device

    def to(self, dtype: torch.dtype) -> Transition:
        """Return the transition in another dtype."""
        return self.of([x.to(dtype) for x in self.tensors])

    def plain(self) -> Transition:
        """Return the same maps in a structure whose array holds the elements of A_t."""
        return self

    def detach(self) -> Transition:
        """Return the transition without its history."""
        return self.of([x.detach() for x in self.tensors])

    def at(self, steps: slice) -> Transition:
        """Return the transitions of some steps."""
        return self.of([x if x.shape[1] == 1 else x[:, steps] for x in self.arrays])

    def at_step(self, t: int, batch: int) -> list[Tensor]:
        """Return the arrays of step t without a step axis, for a row of ``(batch, width)`` each, or one for all."""
        found = [x[:, 0 if x.shape[1] == 1 else t] for x in self.arrays]
        return [x if x.shape[0] in (1, batch) else x.repeat_interleave(batch // x.shape[0], 0) for x in found]

    def act(self, x: Tensor) -> Tensor:
        """Return A_t x_t for every step of x ``(batch, time, width)``."""
        return self._by_group(self.apply, x)

    def adjoint_act(self, x: Tensor) -> Tensor:
        """Return A_t^H x_t for every step of x ``(batch, time, width)``."""
        return self._by_group(self.apply_adjoint, x)

    def _by_group(self, apply: Any, x: Tensor) -> Tensor:
        groups = self.groups
        grouped = x.reshape(groups, x.shape[0] // groups, *x.shape[1:])
        result: Tensor = apply([array.unsqueeze(1) for array in self.arrays], grouped)
        return result.reshape(x.shape)

    def tangent_act(self, tangents: Sequence[Tensor | None], x: Tensor) -> Tensor | None:
        """Return Ȧ_t x_t for tangents of :attr:`tensors`; None where all are None. A is linear in each array."""
        return self._sum_over(tangents, lambda A: A.act(x))

    def tangent_adjoint_act(self, tangents: Sequence[Tensor | None], x: Tensor) -> Tensor | None:
        """Return Ȧ_t^H x_t for tangents of :attr:`tensors`; None where all are None."""
        return self._sum_over(tangents, lambda A: A.adjoint_act(x))

    def _sum_over(self, tangents: Sequence[Tensor | None], acted: Any) -> Tensor | None:
        total: Tensor | None = None
        for i, tangent in enumerate(tangents):
            if tangent is not None:
                part = acted(self.of([*self.tensors[:i], tangent, *self.tensors[i + 1 :]]))
                total = part if total is None else total + part
        return total

    def like_given(self, gradient: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return arrays in normal form in the shapes of :attr:`tensors`."""
        given = self.tensors
        return tuple([d if d.ndim == given[i].ndim else d.view(given[i].shape) for i, d in enumerate(gradient)])

    def __repr__(self) -> str:
        x = self.tensors[0]
        return f"{type(self).__name__}(shape={tuple(x.shape)}, dtype={x.dtype}, device={str(x.device)!r})"


class Dense(Transition):
    """Dense transitions: h_t = W_t h_{t-1} + u_t.

    Args:
        W: matrices that broadcast to ``(batch, time, H, H)``: ``(H, H)``, ``(T, H, H)``, ``(B, 1, H, H)`` or
            ``(B, T, H, H)``; any floating or complex dtype.

    Raises:
        TypeError: ``W`` is not a floating or complex tensor.
        ValueError: ``W`` is not square or has another rank.

    Examples:
        >>> Dense(torch.eye(3))
        Dense(shape=(3, 3), dtype=torch.float32, device='cpu')
    """

    structure = "dense"
    ranks = (2,)

    def __init__(self, W: Tensor) -> None:
        require_floating("Dense: W", W)
        if not 2 <= W.ndim <= 4:
            raise ValueError(_rank("Dense: W", W, "(H, H), (T, H, H), (B, 1, H, H) or (B, T, H, H)"))
        if W.shape[-1] != W.shape[-2]:
            raise ValueError(f"Dense: W has shape {tuple(W.shape)}, expected square matrices (..., H, H)")
        self.tensors = (W,)

    @property
    def W(self) -> Tensor:
        """The matrices, as given."""
        return self.tensors[0]

    @staticmethod
    def apply(arrays: Sequence[Tensor], x: Tensor) -> Tensor:
        """Return W x."""
        return (arrays[0] @ x.unsqueeze(-1)).squeeze(-1)

    @staticmethod
    def apply_adjoint(arrays: Sequence[Tensor], x: Tensor) -> Tensor:
        """Return W^H x."""
        return (arrays[0].mH @ x.unsqueeze(-1)).squeeze(-1)

    def gradient(self, delta: Tensor, previous: Tensor) -> tuple[Tensor, ...]:
        """Return Σ δ_t h_{t-1}^H: of a time-invariant W one matrix product over all (batch, time) of a group."""
        W = self.normal()
        d, h = (x.reshape(W.shape[0], x.shape[0] // W.shape[0], *x.shape[1:]) for x in (delta, previous))
        if W.shape[1] == 1:
            # reshape, not flatten: torch's older vmap has no rule for that.
            d, h = (x.reshape(W.shape[0], x.shape[1] * x.shape[2], x.shape[3]) for x in (d, h))
            product = d.transpose(1, 2) @ h.conj()
        else:
            product = d.permute(0, 2, 3, 1) @ h.permute(0, 2, 1, 3).conj()
        return (product.reshape(W.shape),)

    def product(self, earlier: Transition) -> Dense:
        """Return W_t · earlier_t."""
        return Dense(self.normal() @ earlier.normal())


class Diagonal(Transition):
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

    structure = "diagonal"
    ranks = (1,)

    def __init__(self, a: Tensor) -> None:
        require_floating("Diagonal: a", a)
        if not 1 <= a.ndim <= 3:
            raise ValueError(_rank("Diagonal: a", a, "(D,), (T, D), (B, 1, D) or (B, T, D)"))
        self.tensors = (a,)

    @classmethod
    def from_log(cls, log_a: Tensor) -> LogDiagonal:
        """Return the transition exp(log_a): positive gates (real) or log-polar ones (complex); -inf is a gate of 0.

        ``log_a`` has a shape and a dtype that :class:`Diagonal` takes. Kernels exponentiate it on their way: the gates
        are never an array of their own, and in half precision they are those of float32.
        """
        return LogDiagonal(log_a)

    @property
    def a(self) -> Tensor:
        """The diagonals, as given."""
        return self.tensors[0]

    @staticmethod
    def apply(arrays: Sequence[Tensor], x: Tensor) -> Tensor:
        """Return a * x."""
        return arrays[0] * x

    @staticmethod
    def apply_adjoint(arrays: Sequence[Tensor], x: Tensor) -> Tensor:
        """Return conj(a) * x."""
        return arrays[0].conj() * x

    def gradient(self, delta: Tensor, previous: Tensor) -> tuple[Tensor, ...]:
        """Return Σ δ_t * conj(h_{t-1})."""
        a = self.normal()
        d, h = (x.reshape(a.shape[0], x.shape[0] // a.shape[0], *x.shape[1:]) for x in (delta, previous))
        return ((d * h.conj()).sum(dim=(1, 2) if a.shape[1] == 1 else 1).reshape(a.shape),)

    def product(self, earlier: Transition) -> Diagonal:
        """Return a_t * earlier_t."""
        return Diagonal(self.normal() * earlier.normal())


class LogDiagonal(Diagonal):
    """Diagonal transitions by their logarithm, as :meth:`Diagonal.from_log` makes them.

    ∂L/∂(log a_t) = δ_t conj(a_t h_{t-1}), in this order: where a_t is 0 (log_a = -inf, or far below the range of its
    dtype), it is 0, and not a 0 times what may have overflowed.
    """

    structure = "log_diagonal"

    def __init__(self, log_a: Tensor) -> None:
        require_floating("Diagonal.from_log: log_a", log_a)
        if not 1 <= log_a.ndim <= 3:
            raise ValueError(_rank("Diagonal.from_log: log_a", log_a, "(D,), (T, D), (B, 1, D) or (B, T, D)"))
        self.tensors = (log_a,)

    @property
    def a(self) -> Tensor:
        """The diagonals exp(log_a), in the shape of log_a: computed at every call."""
        return torch.exp(self.tensors[0])

    def plain(self) -> Diagonal:
        """Return :class:`Diagonal` of exp(log_a)."""
        return Diagonal(self.a)

    @staticmethod
    def apply(arrays: Sequence[Tensor], x: Tensor) -> Tensor:
        """Return exp(log_a) * x."""
        return torch.exp(arrays[0]) * x

    @staticmethod
    def apply_adjoint(arrays: Sequence[Tensor], x: Tensor) -> Tensor:
        """Return conj(exp(log_a)) * x."""
        return torch.exp(arrays[0]).conj() * x

    def gradient(self, delta: Tensor, previous: Tensor) -> tuple[Tensor, ...]:
        """Return Σ δ_t * conj(a_t h_{t-1})."""
        return super().gradient(delta, self.act(previous))

    def tangent_act(self, tangents: Sequence[Tensor | None], x: Tensor) -> Tensor | None:
        """Return Ȧ_t x_t = l̇_t a_t x_t for the tangent l̇ of log_a."""
        return super().tangent_act(tangents, self.act(x))

    def tangent_adjoint_act(self, tangents: Sequence[Tensor | None], x: Tensor) -> Tensor | None:
        """Return Ȧ_t^H x_t = conj(l̇_t a_t) x_t for the tangent l̇ of log_a."""
        return super().tangent_adjoint_act(tangents, self.adjoint_act(x))

    def _sum_over(self, tangents: Sequence[Tensor | None], acted: Any) -> Tensor | None:
        return None if tangents[0] is None else acted(Diagonal.of([tangents[0]]))

    def product(self, earlier: Transition) -> LogDiagonal:
        """Return a_t * earlier_t, of another :class:`LogDiagonal`."""
        return LogDiagonal(self.normal() + earlier.normal())


def _rank(name: str, x: Tensor, shapes: str) -> str:
    return f"{name} has shape {tuple(x.shape)}, expected {shapes}"
