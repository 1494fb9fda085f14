"""Values in: arrays and tables of any kind as float64, missing ones as NaN; what is no real number is refused.

A mask is kept as missing. Complex numbers, dates, lengths of time, booleans and text are not turned into numbers
without a word.
"""

from __future__ import annotations

import numbers
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from retrograd.errors import InputError

__all__ = ["as_numbers", "column_names"]

Array = np.ndarray[Any, Any]

_KINDS = {"c": "complex numbers", "M": "dates", "m": "lengths of time", "b": "booleans", "U": "text", "S": "bytes"}


def as_numbers(name: str, values: Any) -> Array:
    """Return values as a new float64 array of the same shape; NaN where missing or masked.

    Args:
        name: the argument, for messages.
        values: an array (masked too), a list, a tensor without a gradient, a pandas or pyarrow column or table.

    Raises:
        InputError: a value is no real number; the message names the column.

    Examples:
        >>> as_numbers("y", pd.Series([1, None, 3], dtype="Int64"))
        array([ 1., nan,  3.])
        >>> as_numbers("y", np.ma.masked_array([1.0, 9.0], [False, True]))
        array([ 1., nan])
    """
    if isinstance(values, pd.DataFrame):
        doubled = values.columns[values.columns.duplicated()]
        if len(doubled):
            raise InputError(f"{name} has more than one column {doubled[0]!r}: rename one")
        columns = [as_numbers(f"{name}, column {column!r},", values[column]) for column in values.columns]
        return np.stack(columns, axis=1) if columns else np.empty((len(values), 0))
    if isinstance(values, (pd.Series, pd.Index, pd.api.extensions.ExtensionArray)):
        return _of_column(name, values)
    mask = np.ma.getmaskarray(values) if isinstance(values, np.ma.MaskedArray) else None
    array = _plain(name, values)
    if array.dtype == object:
        flat = np.array([_number(name, value) for value in array.ravel()], dtype=np.float64)
        array = flat.reshape(array.shape)
    elif array.dtype.kind not in "iuf":
        raise InputError(f"{name} holds {_KINDS.get(array.dtype.kind, str(array.dtype))}, expected real numbers")
    result = np.array(array, dtype=np.float64)
    if mask is not None:
        result[mask] = np.nan
    return result


def column_names(values: Any) -> tuple[str, ...] | None:
    """Return the names of a table's columns as text, None where values have none.

    >>> column_names(pd.DataFrame({"a": [1], 2: [3]})), column_names(np.ones(3))
    (('a', '2'), None)
    """
    if hasattr(values, "columns"):
        return tuple(str(column) for column in values.columns)
    if isinstance(values, pd.Series) and values.name is not None:
        return (str(values.name),)
    return None


def _plain(name: str, values: Any) -> Array:
    if hasattr(values, "detach"):
        values = values.detach().cpu()
    try:
        return np.asarray(values)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} cannot be read as numbers: {str(error).partition(chr(10))[0]}") from None


def _of_column(name: str, values: Any) -> Array:
    dtype = values.dtype
    kind = getattr(dtype, "kind", "O")
    if isinstance(dtype, (pd.DatetimeTZDtype, pd.PeriodDtype)):
        kind = "M"
    if isinstance(dtype, pd.CategoricalDtype):
        raise InputError(f"{name} holds categories, expected real numbers: turn them into columns of 0 and 1")
    if kind in _KINDS:
        raise InputError(f"{name} holds {_KINDS[kind]}, expected real numbers")
    if kind in "iuf" and not isinstance(dtype, pd.StringDtype):
        if isinstance(values, pd.api.extensions.ExtensionArray):
            values = pd.Series(values)
        return np.array(values.to_numpy(dtype=np.float64, na_value=np.nan), copy=True)
    return np.array([_number(name, value) for value in values], dtype=np.float64)


def _number(name: str, value: Any) -> float:
    """Return one value of an object column; NaN where it is missing."""
    if value is None or value is pd.NA or value is pd.NaT:
        return float("nan")
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (numbers.Real, Decimal)):
        shown = repr(value)
        raise InputError(
            f"{name} holds {shown if len(shown) <= 60 else shown[:57] + '...'} ({type(value).__name__}), expected real "
            "numbers"
        )
    return float(value)
