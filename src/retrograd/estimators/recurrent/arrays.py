"""Tables as the arrays of a network, and predictions in the kind of the table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from retrograd.errors import InputError
from retrograd.estimators.identification.experiments import axis_of
from retrograd.tables.step import lacking
from retrograd.tables.values import as_numbers, column_names

__all__ = ["columns", "like", "read", "require_width"]

Array = np.ndarray[Any, Any]


def read(Y: Any, U: Any) -> tuple[Array, Array, tuple[list[str], list[str]]]:
    """Return targets ``(N, O)``, inputs ``(N, E)``, and the names of both."""
    targets = columns("Y", Y, missing=True)
    axis = axis_of("Y", Y)
    if axis is not None and len(axis.given) < len(axis.times):
        absent = np.setdiff1d(np.arange(len(axis.times)), axis.given)
        raise lacking("Y", axis.times[absent], axis.step)
    inputs = np.empty((len(targets), 0)) if U is None else columns("U", U)
    if len(inputs) != len(targets):
        raise InputError(f"U has {len(inputs)} steps, Y has {len(targets)}: they must be equal")
    names = [
        list(column_names(given) or [f"{letter}{number + 1}" for number in range(values.shape[1])])
        for given, values, letter in ((Y, targets, "y"), (U, inputs, "u"))
    ]
    return targets, inputs, (names[0], names[1])


def columns(argument: str, values: Any, *, missing: bool = False) -> Array:
    """Return values as columns ``(N, C)``, finite but for NaN where values may be missing."""
    array = as_numbers(argument, values)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or len(array) == 0:
        raise InputError(f"{argument} has shape {array.shape}, expected (steps, columns)")
    bad = np.isinf(array) if missing else ~np.isfinite(array)
    if bad.any():
        row, column = (int(place) for place in np.argwhere(bad)[0])
        raise InputError(f"{argument} is {array[row, column]:g} at step {row}, column {column}: fill it, or cut there")
    return array


def require_width(argument: str, values: Array, names: list[str]) -> None:
    """Raise InputError unless there are as many columns as names."""
    if values.shape[1] != len(names):
        raise InputError(f"{argument} has {values.shape[1]} columns, the model was fitted with {len(names)}")


def like(given: Any, values: Array, names: list[str]) -> Any:
    """Return values in the kind of what was given: a table for a table."""
    if not hasattr(given, "index") or isinstance(given, (list, tuple)):
        return values
    return pd.DataFrame(values, index=given.index[: len(values)], columns=names)
