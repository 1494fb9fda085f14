"""Covariances of a Kalman filter at every step, in a logarithmic number of batched steps.

One step of the filter takes the covariance P of the state, before its outputs are seen, to that of the next one,

    f(P) = F (P^{-1} + J)^{-1} Fᵀ + Q = F (1 + P J)^{-1} P Fᵀ + Q

J being what the step's outputs say of its state, F and Q the transition and the noise given these outputs. Two of them
one after the other are again one (Särkkä and García-Fernández 2021, IEEE Trans. Automatic Control 66:299, eq. 15):

    E = (1 + Q₁ J₂)^{-1}        F = F₂ E F₁        Q = F₂ E Q₁ F₂ᵀ + Q₂        J = F₁ᵀ J₂ E F₁ + J₁

So the covariance before every even step is found from half as many steps, pairs of them, and that before every odd one
from the even one before it. N steps take 2 N such products in 2 log₂ N batches; autograd goes back through the batches.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Steps", "covariances_before"]


@dataclass(frozen=True)
class Steps:
    """Steps of a filter, one after the other.

    Attributes:
        F: ``(N, n, n)``; zero at a step after which the state is known.
        Q: ``(N, n, n)``, symmetric.
        J: ``(N, n, n)``, symmetric.
    """

    F: Tensor
    Q: Tensor
    J: Tensor

    def __getitem__(self, which: slice) -> Steps:
        """Return some of them."""
        return Steps(self.F[which], self.Q[which], self.J[which])

    def then(self, other: Steps) -> Steps:
        """Return each of these and then the same one of the others, as one step."""
        n = self.F.shape[-1]
        eye = torch.eye(n, dtype=self.F.dtype)
        both = torch.linalg.solve(eye + self.Q @ other.J, torch.cat([self.F, self.Q], dim=-1))
        EF, EQ = both[..., :n], both[..., n:]
        return Steps(
            other.F @ EF,
            _symmetric(other.F @ EQ @ other.F.mT) + other.Q,
            _symmetric(self.F.mT @ other.J @ EF) + self.J,
        )

    def of(self, P: Tensor) -> Tensor:
        """Return f(P) of each, ``(N, n, n)``."""
        eye = torch.eye(P.shape[-1], dtype=P.dtype)
        return _symmetric(self.F @ torch.linalg.solve(eye + P @ self.J, P) @ self.F.mT) + self.Q


def covariances_before(steps: Steps, first: Tensor) -> Tensor:
    """Return P before every step, ``(N, n, n)``, of P before the first one, ``(n, n)``.

    >>> half, one = torch.full((3, 1, 1), 0.5), torch.ones(3, 1, 1)
    >>> covariances_before(Steps(half, one, 0 * one), torch.zeros(1, 1)).ravel()
    tensor([0.0000, 1.0000, 1.2500])
    """
    if len(steps.F) == 1:
        return first[None]
    pairs = len(steps.F) // 2
    odd = steps[1::2]
    even = steps[0::2]
    before_even = covariances_before(even[:pairs].then(odd), first)
    before_odd = even[:pairs].of(before_even)
    if len(even.F) > pairs:
        before_even = torch.cat([before_even, odd[-1:].of(before_odd[-1:])])
        before_odd = torch.cat([before_odd, before_odd[-1:]])
    return torch.stack([before_even, before_odd], dim=1).flatten(0, 1)[: len(steps.F)]


def _symmetric(matrix: Tensor) -> Tensor:
    return 0.5 * (matrix + matrix.mT)
