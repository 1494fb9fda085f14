"""The scale of columns: to mean 0 and standard deviation 1, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from retrograd.errors import InputError

__all__ = ["Scaling", "mean_and_deviation"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Scaling:
    """Standard scaling of columns: to mean 0 and standard deviation 1.

    Attributes:
        mean: ``(C,)``, in the columns' units.
        scale: standard deviations ``(C,)``, in the columns' units.

    Examples:
        >>> scaling = Scaling.fit(np.array([[1.0], [3.0]]), ["sales"])
        >>> scaling.apply(np.array([[5.0]])), scaling.invert(np.array([[3.0]]))
        (array([[3.]]), array([[5.]]))
    """

    mean: Array
    scale: Array

    @classmethod
    def fit(cls, values: Array, names: Sequence[str], argument: str = "targets") -> Scaling:
        """Return the scaling of ``values (N, C)``, NaN where missing; ``argument`` is what a message calls them.

        Raises:
            InputError: a column is constant.
        """
        for column, name in enumerate(names):
            known = values[~np.isnan(values[:, column]), column]
            if not len(known):
                raise InputError(f"{argument} {name} is missing throughout the training part: leave it out", argument)
            if (known == known[0]).all():
                raise InputError(
                    f"{argument} {name} is constant ({known[0]:g}) in the training part, rows 1 to "
                    f"{len(values)} of the data: there is nothing to learn from it; leave it out, or train on more",
                    argument,
                )
        return cls(*mean_and_deviation(values))

    def apply(self, values: Array) -> Array:
        """Return ``values (..., C)`` scaled."""
        return np.asarray((values - self.mean) / self.scale)

    def invert(self, values: Array) -> Array:
        """Return scaled ``values (..., C)`` in the columns' units."""
        return np.asarray(values * self.scale + self.mean)


def mean_and_deviation(values: Array) -> tuple[Array, Array]:
    """Return mean and standard deviation of the known values of columns ``(N, C)``.

    In units of the largest value, so that no square leaves the range of float64.

    >>> mean_and_deviation(np.array([[1e200], [3e200]]))
    (array([2.e+200]), array([1.e+200]))
    """
    size = np.abs(np.nan_to_num(values)).max(axis=0, initial=0.0)
    size = np.where(size > 0, size, 1.0)
    scaled = values / size
    if not np.isnan(scaled).any():
        return np.asarray(scaled.mean(axis=0) * size), np.asarray(scaled.std(axis=0) * size)
    return np.asarray(np.nanmean(scaled, axis=0) * size), np.asarray(np.nanstd(scaled, axis=0) * size)
