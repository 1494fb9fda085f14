"""What does a transition do to a state, and so to a gradient, in the long run and on the way there?

Eigenvalues decide the long run: mode i is multiplied by λ_i^k over k steps. Before that, if A is far from normal, ‖A^k‖
can be much larger than the spectral radius to the power k: transient growth (Trefethen, Embree, *Spectra and
Pseudospectra*, 2005, chapters 14-17). It is bounded by the norm, ‖A^k‖ ≤ ‖A‖^k, and by the numerical radius w,
‖A^k‖ ≤ 2 w^k (Berger 1965).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retrograd.core.transition import Dense, Diagonal
from retrograd.errors import InputError, require_whole
from retrograd.insight.flow import Jacobians, transitions_of
from retrograd.insight.growth import TransientGrowth, largest_power, transient_growth
from retrograd.insight.numerical_radius import numerical_radius
from retrograd.insight.scaled import in_double, product_of
from retrograd.insight.sweep import Sweep
from retrograd.norms import norm

__all__ = ["Spectrum", "TransientGrowth", "spectrum", "transient_growth"]

Array = np.ndarray[Any, Any]

# The memory horizon of a mode ends where this much of it is left.
LEFT = 0.01
# An ill-conditioned mode counts as on the unit circle up to this distance, and no further.
_NEAREST = 1e-6
_EPS = float(np.finfo(float).eps)


@dataclass(frozen=True)
class Spectrum:
    """A transition's modes and norms; modes from the slowest to the fastest.

    Rounding moves an eigenvalue of condition κ by up to κ H eps ‖A‖. A mode that close to the unit circle, and closer
    than 1e-6, counts as on it, so that no statement hangs on the last bit. If ``eigenvector_condition`` is above 1e8 or
    so, take the eigenvalues and what is computed from them with caution: those of a rotated 20 × 20 Jordan block at 0.5
    come out on a circle around 0.5, the largest being 0.66. The norms and ``transient`` are right all the same.

    Attributes:
        eigenvalues: λ, complex ``(H,)``.
        radius: max |λ|; exactly 1 if that mode is on the unit circle.
        norm: ‖A‖₂, by which one step can at most lengthen a state.
        numerical_abscissa: the largest eigenvalue of (A + A^H) / 2.
        numerical_radius: w(A) = max_θ of the numerical abscissa of e^{iθ} A; between ‖A‖/2 and ‖A‖, and at least the
            radius.
        transient: the largest ‖A^k‖ within the horizon asked for.
        departure: Henrici's departure from normality, √(1 − Σ|λ|² / ‖A‖_F²), which is the part of ‖A‖_F above the
            diagonal of the Schur form: from 0 (normal, to rounding) to 1 (nilpotent).
        eigenvector_condition: κ₂ of the eigenvectors' matrix; 1 if A is normal, infinite if A is defective.
        on_circle: whether |λ| is 1, to rounding.
        time_constant: −1 / log|λ|, steps until 1/e is left; infinite on the unit circle, negative beyond.
        horizon: log 0.01 / log|λ|, steps until a hundredth is left; infinite on the circle and beyond.
        frequency: |arg λ| / 2π, cycles a step.
        averaged: whether the modes are means over the steps and sequences of diagonal transitions (see
            :func:`spectrum`). ``norm``, ``numerical_abscissa`` and ``numerical_radius`` are then the largest of any
            step, ``transient`` the largest |a_t ... a_{t-k+1}| for any t.
    """

    eigenvalues: Array
    radius: float
    norm: float
    numerical_abscissa: float
    numerical_radius: float
    transient: TransientGrowth
    departure: float
    eigenvector_condition: float
    on_circle: Array
    time_constant: Array
    horizon: Array
    frequency: Array
    averaged: bool

    @property
    def outside(self) -> Array:
        """Which modes lie outside the unit circle, by more than rounding, ``(H,)``."""
        return np.asarray(self.time_constant < 0)


def spectrum(
    A: Sweep | Dense | Diagonal | Tensor, horizon: int | None = None, *, through: Jacobians | None = None
) -> Spectrum:
    """Return the modes and norms of a transition.

    Diagonal transitions that change with time have mean rates in place of modes: for each channel the geometric mean of
    a_t over steps and sequences, exp(mean log a_t), by which a step multiplies on average. The angle of a_t is counted
    from the mean direction of all a_t / |a_t|, at most half a turn to either side; for real a_t each negative step is
    half a turn.

    Args:
        A: one dense matrix, diagonal transitions, or a sweep, whose transitions are taken.
        horizon: the largest lag at which transient growth is looked for; by default a sweep's T, else 1000.
        through: the :func:`jacobians` of a dense sweep, if at hand: norms of powers that need not be computed.

    Raises:
        TypeError: A is none of these.
        InputError: A is dense and changes with time (it has no one spectrum: see :func:`jacobians`), or not finite.

    Examples:
        >>> found = spectrum(torch.tensor([[0.9, 5.0], [0.0, 0.8]]))
        >>> round(found.radius, 3), round(found.norm, 3), round(found.transient.largest, 2), found.transient.lag
        (0.9, 5.141, 13.48, 6)
    """
    if isinstance(A, Tensor):
        A = Dense(A)
    a, time, _ = transitions_of("spectrum", A)
    horizon = time if horizon is None and isinstance(A, Sweep) else horizon
    horizon = require_whole("spectrum: horizon", 1000 if horizon is None else horizon, 0)
    if not bool(torch.isfinite(a).all()):
        raise InputError("spectrum: A holds NaN or infinity")
    count, a = a.shape[0] * a.shape[1], in_double(a)
    if a.ndim == 3:
        found, near = _averaged(a.flatten(0, 1).cpu().numpy())
        return _ordered(found, near, count > 1, _norms_of_diagonal(a.cpu().numpy(), horizon))
    if count > 1:
        raise InputError(f"spectrum: A has {count} dense matrices, expected one: jacobians() measures their product")
    values, vectors = torch.linalg.eig(a[0, 0])
    norms = _norms(a[0, 0], values, vectors)
    if through is not None and isinstance(A, Sweep) and A.first is not None:
        # The longest product ends with another first transition: it is no power of A.
        through = Jacobians(*(part[:-1] for part in vars(through).values()))
    norms["transient"] = largest_power(a[0, 0], horizon, through)
    near = _conditions(vectors).cpu().numpy() * len(values) * _EPS * norms["norm"]
    return _ordered(values.cpu().numpy(), np.minimum(near, _NEAREST), False, norms)


def _ordered(values: Array, near: Array, averaged: bool, norms: dict[str, Any]) -> Spectrum:
    """Return the spectrum, modes from the slowest to the fastest; ``near`` is the rounding error of each."""
    size = np.minimum(np.abs(values), np.finfo(float).max)
    # Rounded, so that the moduli of conjugates are equal.
    order = np.lexsort((values.imag, np.round(-size / (size.max() or 1.0), 12)))
    values, near = values[order], near[order]
    size = np.abs(values)
    on_circle = np.abs(size - 1) <= near
    with np.errstate(divide="ignore"):
        decay = np.where(on_circle, 0.0, np.log(size))
        time_constant = np.where(on_circle, np.inf, -1 / np.where(on_circle, -1, decay))
        horizon = np.where(decay < 0, np.log(LEFT) / np.where(decay < 0, decay, -1), np.inf)
    return Spectrum(
        eigenvalues=values,
        radius=1.0 if on_circle[0] else float(size[0]),
        on_circle=on_circle,
        time_constant=time_constant,
        horizon=horizon,
        frequency=np.abs(np.angle(values)) / (2 * np.pi),
        averaged=averaged,
        **norms,
    )


def _conditions(vectors: Tensor) -> Tensor:
    """Return the condition of each eigenvalue, κ_i = ‖v_i‖ ‖w_i‖, w_i^H being the rows of V⁻¹; infinite without V⁻¹.

    A change of A by ε moves eigenvalue i by κ_i ε, to first order (Golub, Van Loan, *Matrix Computations*, 7.2.2).
    """
    inverse, failed = torch.linalg.inv_ex(vectors)
    found = inverse.norm(dim=1) * vectors.norm(dim=0)
    return found if int(failed) == 0 and bool(found.isfinite().all()) else torch.full_like(found, float("inf"))


def _averaged(a: Array) -> tuple[Array, Array]:
    """Return the geometric mean of each channel of ``(steps, H)``, and the rounding error of its modulus."""
    with np.errstate(divide="ignore"):
        logs = np.log(np.abs(a))
    spread = np.abs(np.where(np.isfinite(logs), logs, 0.0)).mean(0)
    if np.iscomplexobj(a):
        angles = np.angle(a)
        toward = np.angle(np.exp(1j * angles).mean(0))
        beside = (angles - toward + np.pi) % (2 * np.pi) - np.pi
        angle = toward + beside.mean(0)
    else:
        angle = np.pi * (a < 0).mean(0)
    # e^{iπ} in floating point has an imaginary part.
    turn = np.where(angle == np.pi, -1.0, np.exp(1j * angle))
    same = (a == a[0]).all(0)
    return np.where(same, a[0], np.exp(logs.mean(0)) * turn).astype(complex), 4 * _EPS * (1 + spread)


def _norms_of_diagonal(a: Array, horizon: int) -> dict[str, Any]:
    """Return the norms of diagonals ``(groups, steps, H)``, the largest of any step; all their products are normal."""
    size = np.abs(a)
    largest = float(size.max())
    return {
        "norm": largest,
        "numerical_abscissa": float(a.real.max()),
        "numerical_radius": largest,
        "transient": _rise(size, horizon),
        "departure": 0.0,
        "eigenvector_condition": 1.0,
    }


def _rise(size: Array, horizon: int) -> TransientGrowth:
    """Return the largest product of up to ``horizon`` successive steps of ``(groups, steps, H)``.

    With P the running sum of logarithms, this is the largest P_t − P_s with 0 ≤ t − s ≤ horizon, P_s being the lowest
    in a sliding window before t.
    """
    largest = float(size.max())
    none = TransientGrowth(1.0, 0, horizon)
    if largest <= 1 + 4 * _EPS or horizon == 0:
        return none
    if size.shape[1] == 1:  # the same at every step
        with np.errstate(over="ignore"):
            grown = float(np.float64(largest) ** horizon)
        return TransientGrowth(grown, horizon, horizon)
    with np.errstate(divide="ignore"):
        logs = np.log(size)
    # The logarithm of a zero is set below the sum of all rises, so that no product with it exceeds the empty one.
    logs = np.where(size > 0, logs, -1 - np.maximum(logs, 0).sum(1, keepdims=True))
    total = np.concatenate([np.zeros_like(logs[:, :1]), logs.cumsum(1)], 1)
    if horizon >= size.shape[1]:
        lowest = np.minimum.accumulate(total, axis=1)
    else:
        before = np.concatenate([np.repeat(total[:, :1], horizon, 1), total], 1)
        lowest = np.lib.stride_tricks.sliding_window_view(before, horizon + 1, axis=1).min(-1)
    group, last, channel = np.unravel_index(np.argmax(total - lowest), total.shape)
    first = max(int(last) - horizon, 0)
    first += int(np.argmin(total[group, first : last + 1, channel]))
    if first == last:
        return none
    # The sums of logarithms say where; the product itself is exact.
    part, power = product_of(*np.frexp(size[group, first:last, channel : channel + 1]))
    with np.errstate(over="ignore"):
        grown = float(np.ldexp(part, power)[0])
    return TransientGrowth(grown, int(last) - first, horizon)


def _norms(matrix: Tensor, eigenvalues: Tensor, vectors: Tensor) -> dict[str, Any]:
    # Scaled to norm 1, because squares of very large or very small numbers leave float64.
    scale = float(matrix.abs().max()) or 1.0
    matrix, eigenvalues = matrix / scale, eigenvalues / scale
    frobenius = norm(matrix.flatten()).item() or 1.0
    matrix, eigenvalues, scale = matrix / frobenius, eigenvalues / frobenius, scale * frobenius
    largest, radius = float(torch.linalg.matrix_norm(matrix, 2)), float(eigenvalues.abs().max())
    # The numerical radius lies between the two.
    between = radius < largest * (1 - len(matrix) * _EPS)
    departure = _departure(matrix, eigenvalues, vectors)
    singular = torch.linalg.svdvals(vectors)
    condition = float(singular[0] / singular[-1]) if singular[-1] > 0 else float("inf")
    return {
        "norm": largest * scale,
        "numerical_abscissa": float(torch.linalg.eigvalsh((matrix + matrix.mH) / 2)[-1]) * scale,
        "numerical_radius": (numerical_radius(matrix) if between else largest) * scale,
        "departure": departure,
        # Eigenvectors of equal eigenvalues need not come out orthogonal, even if A is normal.
        "eigenvector_condition": condition if departure > 0 else 1.0,
    }


def _departure(matrix: Tensor, eigenvalues: Tensor, vectors: Tensor) -> float:
    """Return the departure from normality of a matrix of Frobenius norm 1; 0 if it is within rounding.

    With V = QR the eigenvectors, Q^H A Q = R Λ R^{-1} is a Schur form. The size of its lower part is its error. For
    nearly defective matrices that is large, and the difference of squares loses fewer digits.
    """
    Q = torch.linalg.qr(vectors).Q
    schur = Q.mH @ matrix.to(Q.dtype) @ Q
    upper, lower = (float(torch.linalg.vector_norm(part)) for part in (schur.triu(1), schur.tril(-1)))
    rounding = len(matrix) * _EPS
    difference = float((1 - eigenvalues.abs().square().sum()).clamp(min=0).sqrt())
    found = difference if lower * difference > rounding else upper
    return min(found, 1.0) if found > 10 * rounding else 0.0
