"""What is not known of the parameters, carried to what is made of them: the delta method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from retrograd.estimators.identification.matrices import System
from retrograd.estimators.identification.system import Layout, unpack

__all__ = ["variance_through"]

Array = np.ndarray[Any, Any]

# Part of a standard deviation over which a derivative is a difference.
STEP = 1e-3


def variance_through(system: System, layout: Layout, covariance: Array, made: Callable[[System], Array]) -> Array:
    """Return the variance of what ``made`` makes of a system, J Σ Jᵀ's diagonal, shaped as it is.

    With Σ = Σ_k l_k l_kᵀ, J l_k is the derivative along l_k, one standard deviation long: a central difference of two
    systems that far apart as no rounding shows, and in which directions of the basis alone have no part.

    Args:
        system: the system.
        layout: its free parameters.
        covariance: Σ of their estimate, ``(parameters, parameters)``.
        made: what is made of a system.

    Examples:
        >>> one = np.ones((1, 1))
        >>> system = System(0.5 * one, one, one, one, 0 * one, one[0], one)
        >>> sigma = np.diag([0.01, 0, 0, 0, 0, 0])  # of A alone; d(A²)/dA is 1
        >>> variance_through(system, Layout(1, 1, 1, 1), sigma, lambda s: s.A**2).round(8)
        array([[0.01]])
    """
    values, vectors = np.linalg.eigh(covariance)
    kept = values > values[-1] * 1e-15
    theta = layout.pack(system)
    total = np.zeros(())
    for direction in (vectors[:, kept] * np.sqrt(values[kept])).T:
        ahead, back = (
            made(replace(unpack(layout, theta + sign * STEP * direction), root=system.root)) for sign in (1, -1)
        )
        total = total + ((ahead - back) / (2 * STEP)) ** 2
    return np.asarray(total)
