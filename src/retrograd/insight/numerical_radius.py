"""w(A) = max_θ λ_max(H(θ)), H(θ) = (e^{iθ} A + e^{-iθ} A^H) / 2: the largest of all local maxima.

A climb from the best of a grid of angles finds one. That no other is higher is a question to one eigenvalue problem:
the angles at which some eigenvalue of H is a given α. With t = tan(θ/2), cos θ = (1 − t²) / (1 + t²) and sin θ =
2t / (1 + t²),

    (1 + t²) (α I − H(θ)) = t² M − t i (A − A^H) + K          M = α I + H(0), K = α I − H(0)

is singular for a real t at these alone (He, Watson, *IMA J. Numer. Anal.* 17, 1997; Mengi, Overton, ibid. 25, 2005).
None at an α just above what was found: done. Otherwise λ_max is larger than α between two of them, and the climb goes
on from there.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["numerical_radius"]

# Angles looked at first, from 0 to 2π, and how often one is then improved.
_ANGLES = 24
_ASCENTS = 100
# How much higher, relative to the best, another maximum must be to be asked for, and how often one is.
_HIGHER = 1e-9
_ROUNDS = 50
# An angle with a smaller imaginary part counts as real: one too many costs an evaluation, one too few the maximum.
_REAL = 1e-5


def numerical_radius(A: Tensor) -> float:
    """Return w(A) of ``(H, H)`` in double, of norm about 1.

    >>> round(numerical_radius(torch.tensor([[0.0, 1.0], [0.0, 0.0]], dtype=torch.float64)), 12)
    0.5
    """
    real = not A.is_complex()
    # λ_max(H(θ + π)) = −λ_min(H(θ)); of a real A, θ and −θ give the same.
    angles = np.arange(_ANGLES // 4 + 1 if real else _ANGLES // 2) * (2 * np.pi / _ANGLES)
    found = np.array([_extremes(A, angle) for angle in angles])
    angles = np.concatenate([angles, angles + np.pi])
    sizes = np.concatenate([found[:, 1], -found[:, 0]])
    best = _climb(A, float(angles[sizes.argmax()]))
    # t = ∞ is θ = π: where λ_max is least, M is furthest from singular.
    base = (0.0 if sizes[angles == np.pi][0] <= sizes[0] else np.pi) if real else float(angles[sizes.argmin()]) - np.pi
    for _ in range(_ROUNDS):
        level = best * (1 + _HIGHER)
        crossings = _crossings(A, base, level)
        if not len(crossings):
            break
        between = (crossings + np.append(crossings[1:], crossings[0] + 2 * np.pi)) / 2
        values = [_extremes(A, angle)[1] for angle in between]
        if max(values) <= level:
            break
        best = max(best, _climb(A, float(between[int(np.argmax(values))])))
    return best


def _turned(A: Tensor, angle: float) -> Tensor:
    """Return H(θ)."""
    by = A * complex(np.cos(angle), np.sin(angle)) if angle else A
    return (by + by.mH) / 2


def _extremes(A: Tensor, angle: float) -> tuple[float, float]:
    values = torch.linalg.eigvalsh(_turned(A, angle))
    return float(values[0]), float(values[-1])


def _crossings(A: Tensor, base: float, level: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the angles, ascending, at which an eigenvalue of H is ``level``.

    With t = i μ the problem is μ² M − μ (A − A^H) − K, real where A is.
    """
    by = A * float(np.cos(base)) if not A.is_complex() else A * complex(np.cos(base), np.sin(base))
    one = torch.eye(len(A), dtype=A.dtype, device=A.device)
    middle = (by + by.mH) / 2
    solved = torch.linalg.solve(level * one + middle, torch.cat([level * one - middle, by - by.mH], 1))
    companion = torch.cat([torch.cat([torch.zeros_like(one), one], 1), solved])
    mu = torch.linalg.eigvals(companion).cpu().numpy()
    real = mu[np.abs(mu.real) <= _REAL * (1 + np.abs(mu) ** 2)]
    return np.sort((base + 2 * np.arctan(-real.imag)) % (2 * np.pi))


def _climb(A: Tensor, angle: float) -> float:
    """Return a local maximum of λ_max(H(θ)), by Newton's steps.

    With v its eigenvector, λ' = v^H H' v and λ'' = −λ + 2 Σ_j |v_j^H H' v|² / (λ − λ_j). Where such a step does not
    rise: for a unit vector v the best angle is −arg(v^H A v), and for an angle the best v is the eigenvector; in turn,
    the value never falls, but comes close in many steps only.
    """
    A = A.to(torch.complex128)
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
