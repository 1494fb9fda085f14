"""Norms of what may be very large or very small: gradients that explode or vanish."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["norm"]

# Below this, squares that count may have underflowed.
_LEAST = torch.finfo(torch.float64).tiny ** 0.5 / torch.finfo(torch.float64).eps


@torch.no_grad()
def norm(x: Tensor) -> Tensor:
    """Return ‖x‖₂ over the last axis, float64, without overflow or underflow on the way.

    Infinite or NaN only where x is (or its norm is beyond float64), zero only where x is zero.

    Examples:
        >>> norm(torch.tensor([[1e200, 1e100], [3e-200, 4e-200], [0.0, 0.0]], dtype=torch.float64)).tolist()
        [1e+200, 5e-200, 0.0]
    """
    found: Tensor = torch.linalg.vector_norm(x, dim=-1, dtype=torch.complex128 if x.is_complex() else torch.float64)
    if x.dtype not in (torch.float64, torch.complex128) or x.shape[-1] == 0:
        return found  # of a narrow type float64 holds the squares
    unsure = ~((found > _LEAST) & found.isfinite())
    if bool(unsure.any()):
        rows = x[unsure]
        largest = rows.abs().amax(-1, keepdim=True)
        # A power of two: scaling is exact.
        power = torch.exp2((torch.frexp(largest).exponent - 1).clamp(-1000, 1000).double())
        scale = torch.where((largest > 0) & largest.isfinite(), power, 1.0)
        found[unsure] = scale[..., 0] * torch.linalg.vector_norm(rows / scale, dim=-1)
    return found
