"""Dense transitions that stay stable while they are trained: W is a function of the numbers that are trained.

    rnn = LinearRNN(3, 64, transition="orthogonal")

Each is a parametrisation of ``torch.nn.utils.parametrize``: ``rnn.weight_hh_l0`` is W, and the optimizer sees V, from
which W is made. All are differentiable to any order.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

__all__ = ["TRANSITIONS", "Eigenvalues", "Orthogonal", "SpectralNorm", "restart", "stabilise"]


class Orthogonal(nn.Module):
    """W = exp(V - V^T), orthogonal: no state grows and none fades.

    The exponential reaches every rotation (Lezcano-Casado, Martínez-Rubio, Cheap Orthogonal Constraints in Neural
    Networks, 2019). At the start W turns planes by angles uniform in ±π, as in Henaff, Szlam, LeCun, Recurrent
    Orthogonal Networks and Long-Memory Tasks, 2016.

    Examples:
        >>> W = Orthogonal()(torch.randn(4, 4))
        >>> torch.testing.assert_close(W @ W.mT, torch.eye(4), atol=1e-5, rtol=0)
    """

    def forward(self, V: Tensor) -> Tensor:
        """Return W of any V, ``(H, H)``."""
        W: Tensor = torch.linalg.matrix_exp(V - V.mT)
        return W

    @torch.no_grad()
    def initial(self, W: Tensor) -> Tensor:
        """Return V for the start, where W is to be like ``W``."""
        V, planes = torch.zeros_like(W), len(W) // 2
        even = torch.arange(planes, device=W.device) * 2
        V[even, even + 1] = torch.empty(planes, device=W.device, dtype=W.dtype).uniform_(-math.pi, math.pi)
        return V


class SpectralNorm(nn.Module):
    """W = V · min(1, 1 / ‖V‖₂): no state grows in any step.

    The norm is the largest singular value itself, not an estimate by power iteration, so that derivatives are exact.

    Examples:
        >>> bool(torch.linalg.matrix_norm(SpectralNorm()(torch.randn(4, 4)), 2) <= 1 + 1e-6)
        True
    """

    def forward(self, V: Tensor) -> Tensor:
        """Return W of any V, ``(H, H)``."""
        W: Tensor = V / torch.linalg.matrix_norm(V, 2).clamp(min=1)
        return W

    @torch.no_grad()
    def initial(self, W: Tensor) -> Tensor:
        """Return V for the start: W itself."""
        return W.clone()


class Eigenvalues(nn.Module):
    """W = P Λ P⁻¹ with eigenvalues r exp(±iθ), 0 < r < 1: no state grows in the long run.

    V has two columns more than W. Its first H are P. The others hold log(-log r) and θ of plane k in row k. An odd H
    has one real eigenvalue, r of its last plane.

    Examples:
        >>> made = Eigenvalues()
        >>> bool((torch.linalg.eigvals(made(made.initial(torch.empty(4, 4)))).abs() < 1).all())
        True
    """

    def forward(self, V: Tensor) -> Tensor:
        """Return W, ``(H, H)``, of V ``(H, H + 2)``."""
        size, planes = len(V), len(V) // 2
        P, r, theta = V[:, :size], torch.exp(-torch.exp(V[:, size])), V[:planes, size + 1]
        first, second = P[:, 0 : 2 * planes : 2], P[:, 1 : 2 * planes : 2]
        cos, sin = r[:planes] * torch.cos(theta), r[:planes] * torch.sin(theta)
        # P Λ: Λ turns plane k, of columns 2k and 2k + 1, by θ and shrinks it by r
        turned = torch.stack((first * cos + second * sin, second * cos - first * sin), -1).flatten(1)
        turned = torch.cat((turned, P[:, 2 * planes :] * r[planes : planes + size % 2]), 1)
        W: Tensor = torch.linalg.solve(P, turned, left=False)
        return W

    @torch.no_grad()
    def initial(self, W: Tensor) -> Tensor:
        """Return V for the start: P orthogonal, r² uniform in [0, 1], θ uniform in [0, π], as on LRU's ring."""
        size = len(W)
        V = W.new_zeros(size, size + 2)
        nn.init.orthogonal_(V[:, :size])
        squared = 1 - torch.rand(size, device=W.device, dtype=W.dtype)
        V[:, size] = torch.log(-0.5 * torch.log(squared.clamp(1e-4, 1 - 1e-6)))
        V[:, size + 1].uniform_(0, math.pi)
        return V


TRANSITIONS: dict[str, type[Orthogonal] | type[SpectralNorm] | type[Eigenvalues]] = {
    "orthogonal": Orthogonal,
    "spectral_norm": SpectralNorm,
    "eigenvalues": Eigenvalues,
}


def stabilise(module: nn.Module, name: str, transition: str) -> None:
    """Make the parameter ``name`` of a module a function of what is trained.

    Args:
        module: that has the parameter, ``(H, H)``.
        name: of the parameter.
        transition: ``"orthogonal"``, ``"spectral_norm"`` or ``"eigenvalues"``.
    """
    made = TRANSITIONS[transition]()
    weight = getattr(module, name)
    setattr(module, name, nn.Parameter(made.initial(weight)))
    # unsafe: V may have another shape. There is no right inverse: assigning W raises, as not every W can be made.
    parametrize.register_parametrization(module, name, made, unsafe=True)


@torch.no_grad()
def restart(module: nn.Module) -> None:
    """Draw what every stable transition of a module is made of anew."""
    for made in getattr(module, "parametrizations", {}).values():
        made.original.copy_(made[0].initial(made[0](made.original)))
