"""Columns of a table as numbers and as times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from retrograd.errors import InputError
from retrograd.tables.dates import read_times
from retrograd.tables.rows import TimeOptions
from retrograd.tables.values import as_numbers

__all__ = ["number_of", "numbers_of", "times_of"]

Array = np.ndarray[Any, Any]


def numbers_of(source: str, frame: pd.DataFrame, names: Sequence[str], rows: Array) -> Array:
    """Return columns as float64 ``(rows, columns)``, NaN where missing."""
    values = np.empty((len(frame), len(names)))
    for column, name in enumerate(names):
        series = frame[name]
        where = f"{source}: column {name!r}"
        if series.map(lambda value: isinstance(value, str)).any() if series.dtype.kind == "O" else False:
            numbers = pd.to_numeric(series.astype("object"), errors="coerce")
            text = (numbers.isna() & series.notna()).to_numpy()
            if text.any():
                row = int(text.argmax())
                value = str(series.iloc[row])
                decimal = number_of(value.replace(",", ".")) is not None
                hint = ": give decimal=',', or write decimals with a point" if decimal else ""
                shown = value if len(value) <= 60 else value[:57] + "..."
                raise InputError(f"{source}: row {rows[row]}, column {name!r} is {shown!r}, expected a number{hint}")
            series = numbers
        values[:, column] = as_numbers(where, series)
        infinite = np.isinf(values[:, column])
        if infinite.any():
            row = rows[int(infinite.argmax())]
            raise InputError(f"{source}: row {row}, column {name!r} is infinite, expected a finite number")
    return values


def times_of(column: Any, where: str, rows: Array, asked: TimeOptions) -> Any:
    """Return a column as times."""
    return read_times(
        column, where, rows, date_format=asked.date_format, dayfirst=asked.dayfirst, time_zone=asked.time_zone
    )


def number_of(text: str) -> float | None:
    """Return the number that a text is, None where it is none."""
    try:
        return float(text)
    except ValueError:
        return None
