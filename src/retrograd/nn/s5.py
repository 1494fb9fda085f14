"""S5: one continuous-time diagonal system of many inputs and outputs, discretised at a learned step.

Smith, Warrington, Linderman, Simplified State Space Layers for Sequence Modeling, 2023 (arXiv 2208.04933).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from retrograd.core.transition import Diagonal
from retrograd.errors import require_choice, require_number
from retrograd.nn.cell import require_size
from retrograd.nn.complex_maps import DISCRETISATIONS, as_complex, as_real, discretised, enter, leave
from retrograd.nn.recurrence import Along, Recurrence, wide

__all__ = ["S5", "hippo_normal"]


class S5(Recurrence):
    """h'(t) = Λ h(t) + B x(t), y = 2 Re(C h) + D x, discretised: h_t = Λ̄ h_{t-1} + B̄ x_t.

    Λ starts as the eigenvalues with positive imaginary part of the normal part of the HiPPO-LegS matrix, B = V^H B_0
    and C = C_0 V with its eigenvectors V; their conjugates are implied, hence the 2. Re Λ < 0 always.

    Args:
        features: of x_t and y_t.
        state_size: complex numbers of a state: half of the paper's P.
        blocks: HiPPO matrices on the diagonal at the start; it divides ``state_size``.
        method: ``"zoh"`` or ``"bilinear"``.
        delta_min: least step Δ of a state at the start; log Δ is uniform.
        delta_max: largest one.
        reverse: run from the last step to the first.
        backend: what runs the scan.
        time_mesh: the ranks on which its time lies, as :func:`retrograd.nn.shard_time` takes them.
        device: where the parameters lie.
        dtype: their floating dtype, real.

    Raises:
        InputError: ``method`` is neither, or a number outside its range.
        ValueError: ``blocks`` does not divide ``state_size``.

    Examples:
        >>> layer = S5(3, 8)
        >>> layer(torch.randn(2, 100, 3))[0].shape, bool((layer.eigenvalues().abs() < 1).all())
        (torch.Size([2, 100, 3]), True)
    """

    complex_state = True

    def __init__(
        self,
        features: int,
        state_size: int,
        *,
        blocks: int = 1,
        method: str = "zoh",
        delta_min: float = 0.001,
        delta_max: float = 0.1,
        reverse: bool = False,
        backend: str = "auto",
        time_mesh: Any = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(features, features, state_size, reverse, backend, time_mesh)
        require_size("blocks", blocks)
        if state_size % blocks:
            raise ValueError(f"blocks is {blocks}, expected a divisor of state_size, {state_size}")
        require_choice("method", method, DISCRETISATIONS)
        self.method, self.blocks = method, blocks
        self.delta_min = require_number("delta_min", delta_min, above=0)
        self.delta_max = require_number("delta_max", delta_max, least=self.delta_min)

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape, device=device, dtype=dtype))

        self.decay_log = parameter(state_size)  # log(-Re Λ)
        self.frequency = parameter(state_size)  # Im Λ
        self.delta_log = parameter(state_size)
        self.B = parameter(state_size, features, 2)
        self.C = parameter(features, state_size, 2)
        self.D = parameter(features)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Take Λ and V from HiPPO, draw B_0 and C_0 as LeCun, D from a standard normal, log Δ uniformly."""
        rate, V = hippo_normal(2 * self.state_size // self.blocks)
        with torch.no_grad():
            rate = rate.repeat(self.blocks)
            self.decay_log.copy_(torch.log(-rate.real))
            self.frequency.copy_(rate.imag)
            V = torch.block_diag(*[V] * self.blocks).to(self.B.device)  # (2 state_size, state_size)
            B = torch.randn(len(V), self.input_size, device=V.device, dtype=torch.float64) / self.input_size**0.5
            C = torch.randn(self.input_size, len(V), device=V.device, dtype=torch.float64) / len(V) ** 0.5
            self.B.copy_(as_real(V.mH @ B.to(V.dtype)))
            self.C.copy_(as_real(C.to(V.dtype) @ V))
            nn.init.normal_(self.D)
            self.delta_log.uniform_(math.log(self.delta_min), math.log(self.delta_max))

    def discrete(self) -> tuple[Tensor, Tensor]:
        """Return Λ̄ and the factor of B, ``(state_size,)`` complex."""
        rate = torch.complex(-torch.exp(wide(self.decay_log)), wide(self.frequency))
        return discretised(self.method, rate, torch.exp(wide(self.delta_log)))

    def eigenvalues(self) -> Tensor:
        """Return Λ̄, ``(state_size,)`` complex."""
        return self.discrete()[0]

    def run(self, x: Tensor, state: Tensor | None, along: Along) -> tuple[Tensor, Tensor]:
        """Return y_t and the last h_t."""
        a, factor = self.discrete()
        h, last = along.scan(Diagonal(a), enter(x, factor.unsqueeze(1) * as_complex(self.B)), state)
        return torch.addcmul(leave(h, 2 * as_complex(self.C)), self.D, x), last


def hippo_normal(size: int) -> tuple[Tensor, Tensor]:
    """Return the eigenvalues with positive imaginary part of HiPPO-LegS' normal part, and their eigenvectors.

    A_nk = -½ for n = k, -√((n + ½)(k + ½)) for n > k and its negative for n < k: -½ I plus a skew matrix S, and -i S is
    Hermitian.

    Args:
        size: of the matrix, even.

    Returns:
        Λ, ``(size / 2,)`` complex128, and V, ``(size, size / 2)``.

    Examples:
        >>> hippo_normal(2)[0]
        tensor([-0.5000+0.8660j], dtype=torch.complex128)
    """
    root = torch.sqrt(torch.arange(size, dtype=torch.float64) + 0.5)
    outer = torch.outer(root, root)
    skew = torch.triu(outer, 1) - torch.tril(outer, -1)
    frequency, V = torch.linalg.eigh(-1j * skew.to(torch.complex128))
    half = slice(size // 2, None)  # in ascending order, in pairs ±
    return torch.complex(torch.full_like(frequency[half], -0.5), frequency[half]), V[:, half]
