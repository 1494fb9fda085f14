"""How large is the gradient at every step, and how does a state act on a later one?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from retrograd.core.transition import Dense, Diagonal
from retrograd.errors import InputError, require_whole
from retrograd.insight.products import lag_grid
from retrograd.insight.scaled import of_dense, of_diagonal
from retrograd.insight.sweep import ONE_OF_THEM, Sweep, require_sweep
from retrograd.norms import norm

__all__ = ["Flow", "Jacobians", "flow", "jacobians", "transitions_of"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Flow:
    """Norms of the gradient at every step, over the states; without an axis B over the batch too.

    Attributes:
        delta_norm: ‖δ_t‖, the whole gradient of h_t, ``(T,)``.
        direct_norm: ‖g_t‖, what the loss sends straight into step t, ``(T,)``.
        by_sequence: ‖δ_t‖ of every sequence, ``(B, T)``.
        gradient_by_sequence: ‖Σ_t δ_t h_{t-1}^H‖ of every sequence, its part of ∂L/∂W_hh, ``(B,)``.
    """

    delta_norm: Array
    direct_norm: Array
    by_sequence: Array
    gradient_by_sequence: Array


def flow(sweep: Sweep) -> Flow:
    """Return the size of the gradient at every step.

    Examples:
        >>> import torch
        >>> from retrograd import Diagonal
        >>> flow(Sweep.of_scan(Diagonal(torch.tensor([0.5])), torch.ones(4, 1))).delta_norm
        array([0.125, 0.25 , 0.5  , 1.   ])
    """
    require_sweep("flow", sweep)
    by_sequence = norm(sweep.delta)
    return Flow(
        norm(by_sequence.mT).cpu().numpy(),
        norm(sweep.direct_norms.mT).cpu().numpy(),
        by_sequence.cpu().numpy(),
        norm(sweep.gradients.flatten(1)).cpu().numpy(),
    )


@dataclass(frozen=True)
class Jacobians:
    """∂h_s/∂h_{s-k} = A_s ... A_{s-k+1}, lag by lag; the gradient passes through its conjugate transpose.

    A product with a transition that is NaN or infinite is NaN.

    Attributes:
        lags: k, ``(K,)``, from 0.
        singular_values: the ``top`` largest, ``(K, top)``, largest first; infinite or 0 beyond the range of float64.
        log10_norm: log10 of the largest, ``(K,)``, which neither overflows nor underflows; −inf where it is exactly 0.
        rounding: bound of the rounding error relative to the norm, ``(K,)``; 0 for diagonal transitions, whose singular
            values are each right to k eps.
    """

    lags: Array
    singular_values: Array
    log10_norm: Array
    rounding: Array

    @property
    def norm(self) -> Array:
        """‖∂h_s/∂h_{s-k}‖₂, ``(K,)``."""
        return np.asarray(self.singular_values[:, 0])

    @property
    def resolved(self) -> Array:
        """The singular values, ``(K, top)``; NaN where they are smaller than the rounding error of the product.

        A product of k matrices of H rows is off by up to k H eps times its norm. The largest is always shown.
        """
        values, rounding = self.singular_values, self.rounding[:, None]
        # A diagonal's product may be infinite with a rounding of 0, and 0 × ∞ is NaN.
        rounding = np.where(rounding > 0, rounding * np.minimum(self.norm[:, None], np.finfo(float).max), 0.0)
        shown = np.where((values <= rounding) & (rounding > 0), np.nan, values)
        return np.concatenate([values[:, :1], shown[:, 1:]], axis=1)


def jacobians(
    A: Sweep | Dense | Diagonal | Tensor,
    lags: Sequence[int] | str | None = None,
    *,
    end: int | None = None,
    longest: int | None = None,
    top: int = 4,
    row: int = 0,
) -> Jacobians:
    """Return the singular values of ∂h_s/∂h_{s-k} for every lag k asked for, in float64.

    Args:
        A: a sweep, transitions, one matrix ``(H, H)``, or an array as :meth:`retrograd.Dense.normal` returns it.
        lags: the lags, from 0; ``"all"``; or None: every lag up to 256, of a longer sequence 0 to 8, 12, 16 and one an
            octave beyond.
        end: s, the step that the products end with, from 1; T by default.
        longest: the largest lag; s by default, which leads to h_0. Required for one matrix, which has no T.
        top: how many singular values to return.
        row: the sequence to look at, if each has transitions of its own.

    Raises:
        TypeError: A is none of these.
        InputError: a number is outside what is allowed, or not whole.

    Examples:
        >>> import torch
        >>> A = Dense(torch.tensor([[0.5, 4.0], [0.0, 0.5]]))
        >>> jacobians(A, longest=3).norm.round(3)
        array([1.   , 4.062, 4.016, 3.005])
        >>> jacobians(Diagonal(torch.tensor([[0.5], [0.1], [7.0]])), end=2).norm.round(3)
        array([1.  , 0.1 , 0.05])
    """
    a, time, batch = transitions_of("jacobians", A)
    groups, steps, width = len(a), a.shape[1], a.shape[-1]
    if end is not None:
        end = require_whole("jacobians: end", end, 1, time)
    elif time is not None:
        end = time
    if longest is None and end is None:
        raise InputError("jacobians: A is one matrix: give longest, the largest lag")
    longest = require_whole("jacobians: longest", end if longest is None else longest, 0, end)
    top, row = require_whole("jacobians: top", top), require_whole("jacobians: row", row, 0, batch - 1)
    wanted = lag_grid(longest, lags, 0)
    # The steps of one sequence that enter the products.
    own = a[row * groups // batch]
    own = own if steps == 1 else own[(end or 0) - wanted[-1] : end]
    # If the first transition is another one, it enters the product that reaches h_0.
    first = A.first if isinstance(A, Sweep) and wanted[-1] == end else None
    mantissa, exponent = of_diagonal(own, wanted) if a.ndim == 3 else of_dense(own, wanted, first)
    with np.errstate(divide="ignore", over="ignore", under="ignore"):
        decades = np.log10(mantissa[:, 0]) + exponent[:, 0] * np.log10(2)
        rounding = np.array(wanted) * (0.0 if a.ndim == 3 else width * np.finfo(float).eps)
        values = np.ldexp(mantissa[:, :top], exponent[:, :top])
        return Jacobians(np.array(wanted), values, decades, rounding)


def transitions_of(caller: str, A: Any) -> tuple[Tensor, int | None, int]:
    """Return A as (groups, steps, ...), the number of steps if A or the sweep has one, and the number of sequences."""
    if isinstance(A, Sweep):
        return A.A, A.time, len(A.states)
    if isinstance(A, Tensor):
        if A.ndim != 3 and A.ndim != 2 and (A.ndim != 4 or A.shape[-1] != A.shape[-2]):
            raise InputError(
                f"{caller}: A has shape {tuple(A.shape)}, expected one matrix (H, H), (groups, steps, H, H), of "
                "diagonals (groups, steps, H), or rg.Dense(W) or rg.Diagonal(a), which say which they are"
            )
        A = Diagonal(A) if A.ndim == 3 else Dense(A)
    if not isinstance(A, (Dense, Diagonal)):
        raise TypeError(
            f"{caller}: A is {type(A).__name__}, expected {ONE_OF_THEM if isinstance(A, dict) else 'a Sweep'}, "
            "rg.Dense(W), rg.Diagonal(a) or a torch.Tensor"
        )
    normal = A.plain().normal().detach()
    if normal.numel() == 0:
        raise InputError(f"{caller}: A has shape {tuple(normal.shape)}, expected at least one state, step and sequence")
    return normal, normal.shape[1] if normal.shape[1] > 1 else None, len(normal)
