"""What does a transition do to a state, and so to a gradient, in the long run and on the way there?

Eigenvalues decide the long run: mode i passes on λ_i^k over k steps. Before that, where A is far from normal, ‖A^k‖ may
be much larger than the spectral radius says: transient growth (Trefethen, Embree, *Spectra and Pseudospectra*, 2005,
chapters 14-17). Bounds of it are the norm, ‖A^k‖ ≤ ‖A‖^k, and the numerical radius w, ‖A^k‖ ≤ 2 w^k (Berger 1965).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retrograd.errors import InputError
from retrograd.insight.flow import Jacobians, jacobians
from retrograd.insight.products import EVERY, lag_grid
from retrograd.insight.sweep import Sweep
from retrograd.norms import norm
from retrograd.transition import Dense, Diagonal

__all__ = ["Spectrum", "TransientGrowth", "spectrum", "transient_growth"]

Array = np.ndarray[Any, Any]

# A mode is remembered until this much of it is left.
LEFT = 0.01
# Angles at which the numerical radius is looked for first, and how often the best is then improved.
_ANGLES = 12
_ASCENTS = 100
# The square root of a difference of this many units of rounding.
_NORMAL = 1e-7


@dataclass(frozen=True)
class TransientGrowth:
    """The largest ‖A^k‖ for k from 0 to ``horizon``, and where it is."""

    largest: float
    lag: int
    horizon: int


@dataclass(frozen=True)
class Spectrum:
    """A transition's modes and norms; modes from the slowest to the fastest.

    Attributes:
        eigenvalues: λ, complex ``(H,)``.
        radius: max |λ|.
        norm: ‖A‖₂, the most that one step can make of a state.
        numerical_abscissa: the largest eigenvalue of (A + A^H) / 2.
        numerical_radius: w(A) = max_θ of the numerical abscissa of e^{iθ} A; between ‖A‖/2 and ‖A‖.
        transient: the largest ‖A^k‖ within the horizon asked for.
        departure: √(‖A‖_F² − Σ|λ|²) / ‖A‖_F, Henrici's departure from normality: 0 (normal) to 1 (nilpotent). What
            lies below 1e-7 is rounding of the difference, and is given as 0.
        eigenvector_condition: κ₂ of the eigenvectors' matrix, 1 where A is normal, infinite where A has too few.
        time_constant: −1 / log|λ|, steps until 1/e is left; infinite on the unit circle, negative beyond.
        horizon: log 0.01 / log|λ|, steps until a hundredth is left; infinite on the circle and beyond.
        frequency: |arg λ| / 2π, cycles a step.
        averaged: whether these are means over time of diagonal transitions that change (see :func:`spectrum`).
    """

    eigenvalues: Array
    radius: float
    norm: float
    numerical_abscissa: float
    numerical_radius: float
    transient: TransientGrowth
    departure: float
    eigenvector_condition: float
    time_constant: Array
    horizon: Array
    frequency: Array
    averaged: bool


def spectrum(
    A: Sweep | Dense | Diagonal | Tensor, horizon: int | None = None, *, through: Jacobians | None = None
) -> Spectrum:
    """Return the modes and norms of a transition.

    Of diagonal transitions that change with time, each channel's mode is the geometric mean of |a_t| over steps (and
    rows): what a step multiplies by on average.

    Args:
        A: one dense matrix, or diagonal transitions; a sweep gives its own.
        horizon: the longest product that transient growth is looked for in; a sweep's T, else 1000.
        through: a sweep's :func:`jacobians`, if they are at hand.

    Raises:
        InputError: A is dense and changes with time (there is no one spectrum: see :func:`jacobians`), or is not
            finite.

    Examples:
        >>> found = spectrum(torch.tensor([[0.9, 5.0], [0.0, 0.8]]))
        >>> round(found.radius, 3), round(found.norm, 3), round(found.transient.largest, 2), found.transient.lag
        (0.9, 5.141, 13.48, 6)
    """
    if isinstance(A, Sweep):
        horizon, a = A.time if horizon is None else horizon, A.A
    elif isinstance(A, (Dense, Diagonal)):
        a = A.normal().detach()
    else:
        a = Dense(A).normal().detach()
    horizon = 1000 if horizon is None else horizon
    if not bool(torch.isfinite(a).all()):
        raise InputError("spectrum: A holds NaN or infinity")
    a = a.to(torch.complex128 if a.is_complex() else torch.float64)
    if a.ndim == 3:
        averaged = a.shape[0] * a.shape[1] > 1
        values = torch.exp(a.abs().log().mean((0, 1))) if averaged else a[0, 0]
        eigenvalues, norms = values.to(torch.complex128), _norms_of_diagonal(values, horizon)
    elif a.shape[0] * a.shape[1] > 1:
        count = a.shape[0] * a.shape[1]
        raise InputError(f"spectrum: A has {count} dense matrices, expected one: jacobians() measures their product")
    else:
        averaged = False
        eigenvalues, vectors = torch.linalg.eig(a[0, 0])
        norms = _norms(a[0, 0], eigenvalues, vectors)
        norms["transient"] = transient_growth(a[0, 0], horizon, through)
    found = eigenvalues.numpy()
    found = found[np.lexsort((found.imag, np.round(-np.abs(found), 12)))]
    size = np.abs(found)
    with np.errstate(divide="ignore"):
        decay = np.log(size)
        time_constant = np.where(decay == 0, np.inf, -1 / np.where(decay == 0, -1, decay))
        memory = np.where(decay < 0, np.log(LEFT) / np.where(decay < 0, decay, -1), np.inf)
    return Spectrum(
        eigenvalues=found,
        radius=float(size[0]),
        time_constant=time_constant,
        horizon=memory,
        frequency=np.abs(np.angle(found)) / (2 * np.pi),
        averaged=averaged,
        **norms,
    )


def _norms_of_diagonal(values: Tensor, horizon: int) -> dict[str, Any]:
    radius = float(values.abs().max())
    with np.errstate(over="ignore"):
        transient = TransientGrowth(float(np.float64(radius) ** horizon), horizon, horizon)
    return {
        "norm": radius,
        "numerical_abscissa": float(values.real.max()),
        "numerical_radius": radius,
        "transient": transient if radius > 1 else TransientGrowth(1.0, 0, horizon),
        "departure": 0.0,
        "eigenvector_condition": 1.0,
    }


def _norms(matrix: Tensor, eigenvalues: Tensor, vectors: Tensor) -> dict[str, Any]:
    # Of length 1: what is very large or very small has no square.
    frobenius = norm(matrix.flatten()).item() or 1.0
    matrix, eigenvalues = matrix / frobenius, eigenvalues / frobenius
    departure = float((matrix.abs().square().sum() - eigenvalues.abs().square().sum()).clamp(min=0).sqrt())
    singular = torch.linalg.svdvals(vectors)
    return {
        "norm": float(torch.linalg.matrix_norm(matrix, 2)) * frobenius,
        "numerical_abscissa": float(torch.linalg.eigvalsh((matrix + matrix.mH) / 2)[-1]) * frobenius,
        "numerical_radius": _numerical_radius(matrix) * frobenius,
        "departure": departure if departure > _NORMAL else 0.0,
        "eigenvector_condition": float(singular[0] / singular[-1]) if singular[-1] > 0 else float("inf"),
    }


def transient_growth(W: Tensor, horizon: int, through: Jacobians | None = None) -> TransientGrowth:
    """Return the largest ‖W^k‖₂ for k from 0 to ``horizon``, W being ``(H, H)``.

    Every k up to 8 and one or two an octave are tried, then those between the neighbours of the best, 9 at a time:
    exact where ‖W^k‖ has one hill within each of those stretches. ``through`` are norms that are known already.

    >>> transient_growth(torch.tensor([[0.0, 7.0], [0.0, 0.0]]), 10)
    TransientGrowth(largest=7.0, lag=1, horizon=10)
    """
    A = W.to(torch.complex128 if W.is_complex() else torch.float64)[None, None]
    # A grid of a longer horizon, cut: up to 256 the default would be every lag.
    grid = sorted({*(lag for lag in lag_grid(max(horizon, EVERY + 1), None, 0) if lag < horizon), horizon})
    found = through if through is not None else jacobians(A, grid, longest=horizon, top=1)
    while True:
        best = int(np.argmax(found.log10_norm))
        lag, largest = int(found.lags[best]), float(found.norm[best])
        low, high = int(found.lags[max(best - 1, 0)]), int(found.lags[min(best + 1, len(found.lags) - 1)])
        if high - low <= 2:
            return TransientGrowth(largest, lag, horizon)
        between = {*np.linspace(low, high, min(high - low + 1, 9)).astype(int).tolist(), lag}
        found = jacobians(A, sorted(between), longest=horizon, top=1)


def _numerical_radius(matrix: Tensor) -> float:
    """Return max_θ of the largest eigenvalue of the Hermitian part of e^{iθ} A: a grid of angles, then Newton's steps.

    With H(θ) that part and v its eigenvector, λ' = v^H H' v and λ'' = −λ + 2 Σ_j |v_j^H H' v|² / (λ − λ_j). Where such
    a step does not rise: for a unit vector v the best angle is −arg(v^H A v), and for an angle the best v is the
    eigenvector; in turn, the value never falls, but comes close in many steps only.
    """
    A = matrix.to(torch.complex128)

    def turned(angles: Tensor) -> Tensor:
        by = A * torch.exp(1j * angles)[:, None, None]
        return (by + by.mH) / 2

    # Of a real A the angles θ and −θ give the same.
    angles = torch.linspace(0, 2 * np.pi if matrix.is_complex() else np.pi, _ANGLES + 1, dtype=torch.float64)
    angle = angles[torch.linalg.eigvalsh(turned(angles))[:, -1].argmax()]
    largest, sure = 0.0, None
    for _ in range(_ASCENTS):
        values, vectors = torch.linalg.eigh(turned(angle[None])[0])
        risen = float(values[-1]) - largest
        if risen < 0 and sure is not None:
            angle, sure = sure, None
            continue
        largest, v = max(float(values[-1]), largest), vectors[:, -1]
        if risen <= 4 * np.finfo(float).eps * largest:
            break
        sure = -torch.vdot(v, A @ v).angle()
        by = A * torch.exp(1j * angle)
        moved = vectors.mH @ (0.5j * (by - by.mH) @ v)
        slope = moved[-1].real
        curvature = 2 * (moved[:-1].abs().square() / (values[-1] - values[:-1])).sum() - values[-1]
        angle = angle - slope / curvature if curvature < 0 else sure
    return largest
