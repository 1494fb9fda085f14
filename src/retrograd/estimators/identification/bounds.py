"""Where A and A − K C may lie: modes at the circle are drawn in one by one, and a predictor forgets by its gain.

A predictor x_{t+1} = F x_t + …, F = A − K C, forgets its first state where F lies within the unit circle. Near the
circle innovations are bought with that state, so that F has a prior beside the likelihood, as smooth as F itself is,

    P(F) = −½ log det(1 − F ⊗ F) = ½ Σ_k (tr F^k)² / k          ∂P/∂Fᵀ = Σ_k tr(F^k) F^{k−1} = Σ_i λ_i (1 − λ_i F)^{-1}

(λ_i the eigenvalues of F). For one state it is −½ log(1 − λ²), the logarithm of how much the data say of the first
state: what integrating over that state, instead of fitting it, takes off the likelihood. It is a constant number of
nats beside a likelihood that grows with N, zero at F = 0, and infinite at the circle.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from retrograd.estimators.identification.matrices import System

__all__ = [
    "drawn_in",
    "drawn_in_tensor",
    "forgetting",
    "forgetting_curvature",
    "forgetting_gradient",
    "modes_at",
    "with_forgetting_gain",
]

Array = np.ndarray[Any, Any]

# How near to a bound a mode counts as lying on it.
AT_BOUND = 1e-7


def drawn_in(A: Array, radius: float) -> Array:
    """Return A with the modes beyond ``radius`` drawn in to it, and every other mode as it was.

    >>> drawn_in(np.diag([2.0, 0.5]), 1.0)
    array([[1. , 0. ],
           [0. , 0.5]])
    >>> delay = np.diag([2.0, 0.0, 0.0, 0.0]) + np.diag([0.0, 1.5, 1.5], 1)  # a chain of three states has one mode
    >>> drawn_in(delay, 1.0).tolist() == (delay / 2).tolist()
    True
    """
    largest = np.abs(np.linalg.eigvals(A)).max()
    if largest <= radius:
        return A
    try:
        return np.asarray(drawn_in_tensor(torch.from_numpy(np.ascontiguousarray(A)), radius).numpy())
    except RuntimeError:  # modes that coincide have no basis, says torch: all are drawn in alike
        return np.asarray(A * (radius / largest))


def drawn_in_tensor(A: Tensor, radius: float) -> Tensor:
    """Do as :func:`drawn_in`, differentiably where A's modes are distinct."""
    values, vectors = torch.linalg.eig(A)
    size = values.detach().abs()
    if not bool((size > radius).any()):
        return A
    scale = torch.where(size > radius, radius / values.abs().clamp_min(1e-300), 1.0) - 1
    change = torch.linalg.solve(vectors, vectors * (values * scale), left=False)
    drawn: Tensor = A + change.real
    return drawn


def modes_at(A: Array, radius: float) -> Array:
    """Return ∂|λ|/∂A of every mode (one of a conjugate pair) that lies at ``radius`` or beyond: ``(k, n, n)``."""
    size, slopes = _sizes(A)
    return slopes[size >= radius * (1 - AT_BOUND)]


def _sizes(A: Array) -> tuple[Array, Array]:
    """Return |λ| ``(k,)`` of every mode (one of a conjugate pair) but those at zero, and ∂|λ|/∂A ``(k, n, n)``."""
    values, right = np.linalg.eig(A)
    at = np.flatnonzero((np.abs(values) > 1e-8) & (values.imag >= 0))
    if not len(at):
        return np.zeros(0), np.zeros((0, *A.shape))
    left = np.linalg.pinv(right)
    # dλ = wᴴ dA v with wᴴ v = 1, and d|λ| = Re(λ̄ dλ) / |λ|
    slopes = np.stack([(np.conj(values[k]) / np.abs(values[k]) * np.outer(left[k], right[:, k])).real for k in at])
    return np.abs(values[at]), slopes


def forgetting(F: Array) -> float:
    """Return P(F), infinite at the unit circle and beyond it.

    >>> bool(round(forgetting(np.array([[0.6]])), 6) == round(-0.5 * np.log(1 - 0.36), 6))
    True
    """
    values = np.linalg.eigvals(F)
    if not np.abs(values).max() < 1:
        return float("inf")
    return float(-0.5 * np.log(np.abs(1 - np.outer(values, values.conj()))).sum())


def forgetting_gradient(F: Array) -> Array:
    """Return ∂P/∂F ``(n, n)``."""
    values = np.linalg.eigvals(F).astype(complex)
    eye = np.eye(len(F))
    return np.asarray((values[:, None, None] * np.linalg.inv(eye - values[:, None, None] * F)).sum(axis=0).real.T)


def forgetting_curvature(F: Array) -> Array:
    """Return matrices R_k ``(k, n, n)`` so that Σ_k R_k R_kᵀ, each taken as a vector, is near P's Hessian.

    Near the circle that of −½ log(1 − r²) in a mode's size r, (1 + r²) / (1 − r²)², outweighs all else.
    """
    size, slopes = _sizes(F)
    return np.asarray((np.sqrt(1 + size**2) / np.maximum(1 - size**2, 1e-12))[:, None, None] * slopes)


def with_forgetting_gain(system: System, S: Array, radius: float) -> System:
    """Return the system with A − K C within ``radius``: A stays, and K is a Kalman gain where it is not yet.

    With innovations of covariance S, the state's noise is K e and the output's is e; the stationary Kalman gain of that
    pair has the spectrum of the outputs and moves the zeros beyond the circle to their inverses. What is still too slow
    then gets noise on every state, more of it until the predictor forgets.
    """
    if system.predictor_radius() <= radius:
        return system
    A, C, K = system.A, system.C, system.K
    S = S + (1e-9 * np.trace(S) / len(S) + 1e-24) * np.eye(len(S))
    unit = np.trace(S) / max(float((C**2).sum()), 1e-300) * np.eye(len(A))
    for more in (0.0, *np.geomspace(1e-8, 1e2, 11).tolist()):
        try:
            P = scipy.linalg.solve_discrete_are(A.T, C.T, K @ S @ K.T + more * unit, S, s=K @ S)
            found = replace(system, K=np.linalg.solve(C @ P @ C.T + S, (A @ P @ C.T + K @ S).T).T)
        except (np.linalg.LinAlgError, ValueError):
            continue
        if found.predictor_radius() <= radius:
            return found
    # A mode that the outputs do not show: no gain reaches it.
    return replace(system, A=drawn_in(A, radius), K=np.zeros_like(K))
