"""What a fit is judged by: N/2 log det of the residuals' covariance, with what does not count left out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from retrograd.estimators.identification.experiments import Experiments

__all__ = ["Criterion", "widened"]

Array = np.ndarray[Any, Any]

# Residual variances, in units of the outputs' own, below which a fit counts as perfect: log det S stays finite.
LEAST_VARIANCE = 1e-24
# Of the residuals' mean variance: what every direction of S is given beside its own.
WIDENING = 1e-8
# And above which it counts as none.
MOST_VARIANCE = 1e8


@dataclass(frozen=True)
class Criterion:
    """V(θ) over some experiments, with the first ``burn_in`` steps of each and all missing outputs left out.

    Attributes:
        data: the experiments.
        burn_in: steps.
    """

    data: Experiments
    burn_in: int = 0
    counted: Array = field(init=False)

    def __post_init__(self) -> None:
        counted = self.data.observed.copy()
        for start in self.data.starts:
            counted[start : start + self.burn_in] = False
        object.__setattr__(self, "counted", counted)

    def residuals(self, predicted: Array) -> Array:
        """Return e ``(N, p)``, 0 where it does not count."""
        return np.where(self.counted, self.data.outputs - predicted, 0.0)

    def covariance(self, residuals: Array) -> Array:
        """Return S ``(p, p)``: diagonal where outputs are missing one by one."""
        rows = self.counted.all(axis=1)
        if (self.counted.any(axis=1) == rows).all():
            return np.asarray(residuals.T @ residuals / max(rows.sum(), 1))
        return np.diag((residuals**2).sum(axis=0) / np.maximum(self.counted.sum(axis=0), 1))

    def value(self, residuals: Array) -> float:
        """Return V, infinite where a run goes off."""
        with np.errstate(over="ignore", invalid="ignore"):
            S = widened(self.covariance(residuals))
        # Where a run goes off, its residuals are of rank one to rounding, and their determinant says nothing.
        if not (np.trace(S) < MOST_VARIANCE):
            return float("inf")
        counts = self.counted.sum(axis=0)
        log = np.linalg.slogdet(S)[1] * counts[0] if (counts == counts[0]).all() else float(counts @ np.log(np.diag(S)))
        return float(0.5 * log)

    def weight(self, residuals: Array) -> Array:
        """Return M ``(p, p)``, the inverse of the widened S and its trace's part: ∂V/∂θ = −Σ_t (∂ŷ_t/∂θ)ᵀ M e_t."""
        inverse = np.linalg.inv(widened(self.covariance(residuals)))
        return np.asarray(inverse + WIDENING * np.trace(inverse) / len(inverse) * np.eye(len(inverse)))


def widened(S: Array) -> Array:
    """Return S with no direction of next to no variance.

    A determinant rewards without end one combination of the outputs whose residuals vanish, whatever the others do:
    where data have no noise, that is where it would lead.
    """
    p = len(S)
    return np.asarray(S + (WIDENING * np.trace(S) / p + LEAST_VARIANCE) * np.eye(p))
