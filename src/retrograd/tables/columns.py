"""Columns of a table as numbers and as times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from retrograd.errors import InputError
from retrograd.tables.codes import number_of, without_codes
from retrograd.tables.dates import read_times
from retrograd.tables.delimited import Layout, numerals, thousands_in
from retrograd.tables.rows import TimeOptions
from retrograd.tables.source import Frame
from retrograd.tables.values import as_numbers

__all__ = ["labels_of", "numbers_of", "times_of"]

Array = np.ndarray[Any, Any]


def numbers_of(source: str, frame: Frame, names: Sequence[str], rows: Array) -> Array:
    """Return columns as float64 ``(rows, columns)``, NaN where missing.

    Raises:
        InputError: a value is no finite number, or a code for a missing one.
    """
    layout = frame.layout or Layout()
    values = np.empty((len(frame.columns), len(names)))
    for column, name in enumerate(names):
        series = frame.columns[name]
        written = series.map(lambda value: isinstance(value, str)) if series.dtype.kind == "O" else None
        if written is not None and written.any():
            numbers = numerals(series[written].astype("object"), layout)
            wrong = numbers.index[numbers.isna() & (series[written].str.strip() != "")]
            if len(wrong):
                row, value = int(wrong[0]), str(series[wrong[0]])
                shown = value if len(value) <= 60 else value[:57] + "..."
                raise InputError(
                    f"{source}: row {rows[row]}, column {name!r} is {shown!r}, expected a number"
                    f"{_how_to_read(value.strip(), layout)}"
                )
            series = series.astype("object")
            series[written] = numbers
        values[:, column] = as_numbers(f"{source}: column {name!r}", series)
        infinite = np.isinf(values[:, column])
        if infinite.any():
            row = rows[int(infinite.argmax())]
            raise InputError(f"{source}: row {row}, column {name!r} is infinite, expected a finite number")
        values[:, column] = without_codes(source, name, values[:, column], rows, frame.na)
    return values


def _how_to_read(value: str, layout: Layout) -> str:
    """Return what may make a number of a text, as the end of a message; empty where nothing would."""
    sign = thousands_in(value)
    if layout.decimal == "," and number_of(value) is not None:
        return ": decimals come after a comma in this file; set decimal or thousands to '.' where that is wrong"
    if sign is not None and sign not in (layout.decimal, layout.thousands):
        return f": set thousands={sign!r}"
    if layout.decimal == "." and "," in value and number_of(value.replace(",", ".")) is not None:
        return ": give decimal=',', or write decimals with a point"
    return ""


def labels_of(column: pd.Series[Any]) -> pd.Series[Any]:
    """Return names as text without spaces around, whole numbers without a point; missing ones stay so."""
    whole = column.map(lambda value: int(value) if isinstance(value, float) and value.is_integer() else value)
    text: pd.Series[Any] = whole.astype("object").map(lambda value: str(value).strip(), na_action="ignore")
    return text.mask(text == "")


def times_of(column: Any, where: str, rows: Array, asked: TimeOptions, layout: Layout | None = None) -> Any:
    """Return a column as times."""
    if layout is not None and asked.date_format is None and column.dtype.kind == "O":
        column = _numbers_as_written(column, layout)
    return read_times(
        column,
        where,
        rows,
        date_format=asked.date_format,
        dayfirst=asked.dayfirst,
        time_zone=asked.time_zone,
        points=layout is None or layout.decimal == ".",
    )


def _numbers_as_written(column: Any, layout: Layout) -> Any:
    """Return a column of times with the numbers of a layout, where all of its texts are numbers of it."""
    written = column.map(lambda value: isinstance(value, str))
    numbers = numerals(column[written].astype("object"), layout)
    if not written.any() or numbers.isna().any():
        return column
    column = column.astype("object")
    column[written] = numbers.astype("int64") if (numbers % 1 == 0).all() else numbers
    return column
