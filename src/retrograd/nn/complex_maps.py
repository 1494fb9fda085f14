"""Real inputs into complex states and back, and a continuous-time diagonal made discrete.

Complex weights are stored as real parameters ``(rows, columns, 2)``, real and imaginary part last, so that optimizers,
``dtype=`` and files treat them as any other. Both maps are then one real matrix product: u = B x is [B_re; B_im] x, its
rows in turn, and Re(C h) is [C_re, -C_im] [h_re; h_im].
"""

from __future__ import annotations

import torch
from torch import Tensor

from retrograd.core.linear import linear
from retrograd.nn.recurrence import wide

__all__ = ["DISCRETISATIONS", "as_complex", "as_real", "discretised", "enter", "leave"]

DISCRETISATIONS = ("zoh", "bilinear")


def as_complex(weight: Tensor) -> Tensor:
    """Return the complex numbers of ``(..., 2)``, of 64 bits at least."""
    return torch.view_as_complex(wide(weight).contiguous())


def as_real(weight: Tensor) -> Tensor:
    """Return complex numbers as ``(..., 2)``."""
    return torch.view_as_real(weight)


def enter(x: Tensor, B: Tensor) -> Tensor:
    """Return B x_t for every step: x ``(..., time, inputs)`` real, B ``(states, inputs)`` complex."""
    rows = as_real(B).permute(0, 2, 1).reshape(-1, B.shape[1]).to(x.dtype)
    return as_complex(linear(x, rows, None, "auto").reshape(*x.shape[:-1], B.shape[0], 2))


def leave(h: Tensor, C: Tensor) -> Tensor:
    """Return Re(C h_t) for every step: h ``(..., time, states)``, C ``(outputs, states)`` complex."""
    columns = torch.stack((C.real, -C.imag), -1).flatten(1)
    return linear(as_real(h).flatten(-2), columns, None, "auto")


def discretised(method: str, rate: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
    """Return Ā and the factor of B for h' = a h + B x held over steps of Δ.

    zoh: Ā = exp(Δa), B̄ = a⁻¹ (exp(Δa) - 1) B. bilinear: Ā = (1 + Δa/2) / (1 - Δa/2), B̄ = Δ / (1 - Δa/2) B.

    Args:
        method: ``"zoh"`` or ``"bilinear"``.
        rate: a, complex, its real part negative.
        delta: Δ > 0, real.

    Examples:
        >>> discretised("zoh", torch.tensor([-1.0 + 0j]), torch.tensor([0.5]))[0].real
        tensor([0.6065])
    """
    if method == "zoh":
        return torch.exp(delta * rate), torch.expm1(delta * rate) / rate
    half = delta * rate / 2
    return (1 + half) / (1 - half), delta / (1 - half)
