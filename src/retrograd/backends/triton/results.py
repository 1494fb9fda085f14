"""What scans and adjoints share, whatever the structure of their transitions."""

from __future__ import annotations

import torch
from torch import Tensor

from retrograd.core.steps import EMPTY, Steps

__all__ = ["carried", "for_adjoint"]


def for_adjoint(g: Tensor, g_final: Tensor, codes: Steps | None, delta: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return memory for δ, or the one given, and for ∂L/∂h0.

    Kernels write the rows of ∂L/∂h0 that enter a sequence with steps; an empty one hands its gradient on.
    """
    delta = torch.empty(g.shape, dtype=g.dtype, device=g.device) if delta is None else delta
    if codes is None:
        return delta, torch.empty(g_final.shape, dtype=g.dtype, device=g.device)
    return delta, torch.where((codes.ends == EMPTY)[:, None], g_final, torch.zeros_like(g_final))


def carried(x: Tensor) -> Tensor:
    """Return x in the dtype in which states are carried, without a pending conjugation."""
    return (x.float() if x.dtype.itemsize == 2 else x).resolve_conj().resolve_neg()
