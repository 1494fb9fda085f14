"""w(A) = max_θ λ_max(H(θ)), H(θ) = (e^{iθ} A + e^{-iθ} A^H) / 2: a grid of angles, and a climb from the best of them.

Where w is reached at θ*, H has an eigenvalue of at least w cos(π / N) at the nearest of N angles: a climb starts from
every angle that has as much, and so finds w to rounding. Where two maxima lie closer than the angles do it may end at
the lower one, which is at most 1 − cos(π / N) = 0.05 % below.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["numerical_radius"]

# N, and how often an angle is improved.
_ANGLES = 96
_ASCENTS = 100


def numerical_radius(A: Tensor) -> float:
    """Return w(A) of ``(H, H)`` in double, of norm about 1.

    >>> round(numerical_radius(torch.tensor([[0.0, 1.0], [0.0, 0.0]], dtype=torch.float64)), 12)
    0.5
    """
    real, A = not A.is_complex(), A.to(torch.complex128)
    # λ_max(H(θ + π)) = −λ_min(H(θ)); of a real A, θ and −θ give the same.
    angles = np.arange(_ANGLES // 4 + 1 if real else _ANGLES // 2) * (2 * np.pi / _ANGLES)
    values = torch.stack([torch.linalg.eigvalsh(_turned(A, angle)) for angle in angles])
    angles = np.concatenate([angles, angles + np.pi])
    sizes = torch.cat([values[:, -1], -values[:, 0]]).cpu().numpy()
    return max(_climb(A, float(angle)) for angle in angles[sizes >= np.cos(np.pi / _ANGLES) * sizes.max()])


def _turned(A: Tensor, angle: float) -> Tensor:
    """Return H(θ)."""
    by = A * complex(np.cos(angle), np.sin(angle))
    return (by + by.mH) / 2


def _climb(A: Tensor, angle: float) -> float:
    """Return a local maximum of λ_max(H(θ)), by Newton's steps.

    With v its eigenvector, λ' = v^H H' v and λ'' = −λ + 2 Σ_j |v_j^H H' v|² / (λ − λ_j). Where such a step does not
    rise: for a unit vector v the best angle is −arg(v^H A v), and for an angle the best v is the eigenvector; in turn,
    the value never falls, but comes close in many steps only.
    """
    largest, sure = 0.0, None
    for _ in range(_ASCENTS):
        values, vectors = torch.linalg.eigh(_turned(A, angle))
        risen = float(values[-1]) - largest
        if risen < 0 and sure is not None:
            angle, sure = sure, None
            continue
        largest, v = max(float(values[-1]), largest), vectors[:, -1]
        if risen <= 4 * np.finfo(float).eps * largest:
            break
        sure = -float(torch.vdot(v, A @ v).angle())
        by = A * complex(np.cos(angle), np.sin(angle))
        moved = vectors.mH @ (0.5j * (by - by.mH) @ v)
        slope = float(moved[-1].real)
        curvature = float(2 * (moved[:-1].abs().square() / (values[-1] - values[:-1])).sum() - values[-1])
        angle = angle - slope / curvature if curvature < 0 else sure
    return largest
