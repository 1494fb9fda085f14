"""The matrices of a linear state-space system, in whatever basis and units."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

__all__ = ["System"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class System:
    """The matrices of a system of order n with m inputs and p outputs, float64.

    Attributes:
        A: ``(n, n)``.
        B: ``(n, m)``.
        C: ``(p, n)``.
        D: ``(p, m)``.
        K: ``(n, p)``; zeros for an output-error model.
        offset: ``(p,)``.
        x0: the state at the first step of each experiment, ``(E, n)``.
        root: R ``(p, p)``, R Rᵀ being the covariance of e_t, of which gains across gaps know the shape; None: 1.
    """

    A: Array
    B: Array
    C: Array
    D: Array
    K: Array
    offset: Array
    x0: Array
    root: Array | None = None

    @property
    def order(self) -> int:
        """N."""
        return len(self.A)

    def transformed(self, T: Array) -> System:
        """Return the same system with the state T x.

        >>> one = np.ones((1, 1))
        >>> System(one, one, one, one, one, one[0], one).transformed(2 * one).C
        array([[0.5]])
        """
        inverse = np.linalg.inv(T)
        return replace(self, A=T @ self.A @ inverse, B=T @ self.B, C=self.C @ inverse, K=T @ self.K, x0=self.x0 @ T.T)

    def rescaled(self, input_scale: Array, output_scale: Array) -> System:
        """Return the system for inputs and outputs multiplied by ``input_scale (m,)`` and ``output_scale (p,)``."""
        return replace(
            self,
            B=self.B / input_scale,
            C=self.C * output_scale[:, None],
            D=self.D * output_scale[:, None] / input_scale,
            K=self.K / output_scale,
            offset=self.offset * output_scale,
            root=None if self.root is None else self.root * output_scale[:, None],
        )

    def free_running(self) -> System:
        """Return the system with K = 0: its predictions read no output."""
        return replace(self, K=np.zeros_like(self.K))

    def radius(self) -> float:
        """Return the spectral radius of A."""
        return float(np.abs(np.linalg.eigvals(self.A)).max())

    def predictor_radius(self) -> float:
        """Return the spectral radius of A − K C: how long a prediction remembers."""
        return float(np.abs(np.linalg.eigvals(self.A - self.K @ self.C)).max())
