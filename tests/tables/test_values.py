"""Values in: any kind of number as float64, a mask as missing, all else refused."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from retrograd.errors import InputError
from retrograd.tables.values import as_numbers, column_names

_NAN = float("nan")


@pytest.mark.parametrize(
    "values",
    [
        [1, _NAN, 3],
        np.array([1.0, _NAN, 3.0], dtype=np.float32),
        np.array([1.0, _NAN, 3.0], dtype=">f8"),
        np.array([1, None, 3], dtype=object),
        np.ma.masked_array([1.0, 1e6, 3.0], [False, True, False]),
        np.ma.masked_array([1, 10, 3], [False, True, False]),
        torch.tensor([1.0, _NAN, 3.0], requires_grad=True),
        pd.Series([1, pd.NA, 3], dtype=object),
        pd.Series([1, None, 3], dtype="Int64"),
        pd.Series([1, None, 3], dtype="Float32"),
        pd.Series([1, None, 3], dtype=pd.ArrowDtype(pa.int32())),
        pd.Series([Decimal(1), None, Decimal(3)]),
        pd.Series([Decimal(1), None, Decimal(3)], dtype=pd.ArrowDtype(pa.decimal128(8, 2))),
        pd.Series([Fraction(1), None, 3]),
        pd.Series(pd.arrays.SparseArray([1.0, _NAN, 3.0])),
    ],
    ids=lambda values: f"{type(values).__name__}-{getattr(values, 'dtype', '')}",
)
def test_numbers_of_every_kind(values: Any) -> None:
    np.testing.assert_array_equal(as_numbers("y", values), [1.0, np.nan, 3.0])


def test_a_table_of_several_kinds() -> None:
    table = pd.DataFrame({"a": pd.Series([1, None], dtype="Int64"), "b": [1.5, 2.5], "c": [Decimal("0.25"), 1]})
    np.testing.assert_array_equal(as_numbers("U", table), [[1.0, 1.5, 0.25], [np.nan, 2.5, 1.0]])
    assert as_numbers("U", table[[]]).shape == (2, 0)


def test_a_copy() -> None:
    values = np.ones(3)
    as_numbers("y", values)[0] = 5
    assert values[0] == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([1j]), "y holds complex numbers"),
        (pd.Series([1j]), "y holds complex numbers"),
        (pd.Series(pd.date_range("2024", periods=2)), "y holds dates"),
        (pd.Series(pd.date_range("2024", periods=2, tz="Asia/Tokyo")), "y holds dates"),
        (pd.Series(pd.period_range("2024", periods=2, freq="M")), "y holds dates"),
        (np.array(["2024-01-01"], "datetime64[D]"), "y holds dates"),
        (pd.Series(pd.to_timedelta([1], "s")), "y holds lengths of time"),
        (np.array([True]), "y holds booleans"),
        (pd.Series([True, None], dtype="boolean"), "y holds booleans"),
        (pd.Series([1, True], dtype=object), "y holds True"),
        (["1"], "y holds text"),
        (pd.Series(["1"]), r"y holds '1' \(str\)"),
        (pd.Series(["a"], dtype="category"), "y holds categories"),
        (pd.DataFrame({"t": pd.date_range("2024", periods=2)}), "y, column 't', holds dates"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "y has more than one column 'a'"),
        ([[1], [1, 2]], "y cannot be read as numbers"),
    ],
)
def test_what_is_no_number_is_refused(values: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        as_numbers("y", values)


def test_names() -> None:
    assert column_names(pd.Series([1], name="a")) == ("a",)
    assert column_names(pd.Series([1])) is None
