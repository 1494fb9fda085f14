"""LRU: a linear recurrence with a complex diagonal, stable by its parameters and normalised at the start.

Orvieto, Smith, Gu, Fernando, Gulcehre, Pascanu, De, Resurrecting Recurrent Neural Networks for Long Sequences, 2023
(arXiv 2303.06349), section 3 and the pseudocode of appendix A.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from retrograd.core.transition import Diagonal
from retrograd.errors import require_number
from retrograd.nn.complex_maps import as_complex, enter, leave
from retrograd.nn.recurrence import Along, Recurrence, wide

__all__ = ["LRU"]


class LRU(Recurrence):
    """h_t = λ h_{t-1} + γ B x_t, y_t = Re(C h_t) + D x_t, with λ = exp(-exp(ν) + i exp(θ)), so that |λ| < 1.

    At the start λ lies uniformly on a ring (|λ|² and the phase are uniform; lemma 3.2) and γ = √(1 - |λ|²), so that a
    state has the variance of its inputs however long its memory is (section 3.4).

    Args:
        features: of x_t and y_t.
        state_size: complex numbers of a state.
        r_min: least |λ| at the start.
        r_max: largest |λ| at the start.
        max_phase: phases lie in [0, max_phase] at the start.
        normalise: multiply the inputs by γ; without, γ = 1.
        reverse: run from the last step to the first.
        backend: what runs the scan.
        time_mesh: the ranks on which its time lies, as :func:`retrograd.nn.shard_time` takes them.
        device: where the parameters lie.
        dtype: their floating dtype, real.

    Attributes:
        nu_log: ν, ``(state_size,)``; theta_log: θ; gamma_log: log γ, with ``normalise``.
        B: ``(state_size, features, 2)``, real and imaginary part last; C: ``(features, state_size, 2)``.
        D: ``(features,)``.

    Raises:
        InputError: a number is outside its range.

    Examples:
        >>> layer = LRU(3, 8, r_min=0.9)
        >>> y, state = layer(torch.randn(2, 100, 3))
        >>> y.shape, state.dtype, bool((layer.eigenvalues().abs() > 0.9).all())
        (torch.Size([2, 100, 3]), torch.complex64, True)
    """

    complex_state = True

    def __init__(
        self,
        features: int,
        state_size: int,
        *,
        r_min: float = 0.0,
        r_max: float = 1.0,
        max_phase: float = 2 * math.pi,
        normalise: bool = True,
        reverse: bool = False,
        backend: str = "auto",
        time_mesh: Any = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(features, features, state_size, reverse, backend, time_mesh)
        self.r_min = require_number("r_min", r_min, least=0, below=1)
        self.r_max = require_number("r_max", r_max, above=self.r_min)
        if self.r_max > 1:
            raise ValueError(f"r_max is {r_max}, expected at most 1: |λ| above 1 is not stable")
        self.max_phase = require_number("max_phase", max_phase, above=0)
        self.normalise = normalise

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape, device=device, dtype=dtype))

        self.nu_log = parameter(state_size)
        self.theta_log = parameter(state_size)
        self.gamma_log = parameter(state_size) if normalise else None
        self.B = parameter(state_size, features, 2)
        self.C = parameter(features, state_size, 2)
        self.D = parameter(features)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw λ on the ring, B and C as Glorot, D from a standard normal."""
        with torch.no_grad():
            # |λ|² = u (r_max² - r_min²) + r_min², u in (0, 1]: of u = 0 the logarithm is infinite where r_min = 0
            u = 1 - torch.rand_like(self.nu_log) * (1 - 1e-4)
            squared = (u * (self.r_max**2 - self.r_min**2) + self.r_min**2).clamp(max=1 - 1e-6)
            self.nu_log.copy_(torch.log(-0.5 * torch.log(squared)))
            self.theta_log.copy_(torch.log(self.max_phase * (1 - torch.rand_like(self.theta_log))))
            if self.gamma_log is not None:
                self.gamma_log.copy_(0.5 * torch.log1p(-squared))
            nn.init.normal_(self.B, std=(2 * self.input_size) ** -0.5)
            nn.init.normal_(self.C, std=self.state_size**-0.5)
            nn.init.normal_(self.D)

    def eigenvalues(self) -> Tensor:
        """Return λ, ``(state_size,)`` complex."""
        return torch.polar(torch.exp(-torch.exp(wide(self.nu_log))), torch.exp(wide(self.theta_log)))

    def run(self, x: Tensor, state: Tensor | None, along: Along) -> tuple[Tensor, Tensor]:
        """Return y_t and the last h_t."""
        B = as_complex(self.B)
        if self.gamma_log is not None:
            B = torch.exp(wide(self.gamma_log)).unsqueeze(1) * B
        h, last = along.scan(Diagonal(self.eigenvalues()), enter(x, B), state)
        return torch.addcmul(leave(h, as_complex(self.C)), self.D, x), last
