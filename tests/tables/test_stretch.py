"""Rows read alone are those of the whole file."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from retrograd.tables import read_table
from retrograd.tables.source import ReadOptions
from retrograd.tables.stretch import places_of_rows, read_rows

RANGES = [(0, 3), (2, 9), (7, 12), (0, 12), (11, 12)]
TABLE = pd.DataFrame({
    "note": ["plain", 'a "quoted" word', "two\nlines", "x;y", *["z"] * 8],
    "y": np.sin(np.arange(12.0)) * 1e3,
    "count": [*range(11), 12],
    "hole": [1.5, np.nan, *np.arange(10.0)],
})  # fmt: skip
TEXTS: dict[str, tuple[str, ReadOptions]] = {
    "plain": (TABLE.to_csv(index=False), ReadOptions()),
    "no last break": (TABLE.to_csv(index=False).rstrip("\n"), ReadOptions()),
    "windows": (TABLE.to_csv(index=False, lineterminator="\r\n"), ReadOptions()),
    "semicolons": (TABLE.to_csv(index=False, sep=";", decimal=","), ReadOptions()),
    "a head": ("# made by hand\n\n" + TABLE.to_csv(index=False), ReadOptions(skip_rows=2)),
    "latin": (TABLE.assign(note="né").to_csv(index=False), ReadOptions(encoding="cp1252")),
}


def whole(source: Path, options: ReadOptions, name: str = "y") -> np.ndarray:
    return read_table(str(source), targets=[name, "hole"], missing_targets=True, file=options).targets


@pytest.mark.parametrize("kind", TEXTS)
def test_byte_ranges_of_a_text(kind: str, tmp_path: Path) -> None:
    text, options = TEXTS[kind]
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode(options.encoding or "utf-8"))
    want, borders = whole(path, options), sorted({row for pair in RANGES for row in pair})
    places = places_of_rows(str(path), borders, options)
    assert places is not None
    at = dict(zip(borders, places, strict=True))
    for first, last in RANGES:
        got = read_rows(str(path), ["y", "hole"], slice(first, last), (at[first], at[last]), options)
        assert got is not None
        np.testing.assert_array_equal(got, want[first:last])


@pytest.mark.parametrize("rows_a_group", [1, 5, 100])
def test_row_groups_of_parquet(rows_a_group: int, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    TABLE.to_parquet(path, row_group_size=rows_a_group)
    assert places_of_rows(str(path), [0, 3]) is None
    want = whole(path, ReadOptions(), "count")
    for first, last in RANGES:
        got = read_rows(str(path), ["count", "hole"], slice(first, last))
        assert got is not None
        np.testing.assert_array_equal(got, want[first:last])


def test_what_is_not_read_in_part(tmp_path: Path) -> None:
    text = TEXTS["plain"][0].encode()
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(text))
    assert places_of_rows(str(tmp_path / "a.csv.gz"), [0, 3]) is None
    assert read_rows(str(tmp_path / "a.csv.gz"), ["y"], slice(0, 3)) is None
    (tmp_path / "a.csv").write_bytes(text)
    assert places_of_rows(str(tmp_path / "a.csv"), [0, 99]) is None
    assert read_rows(str(tmp_path / "a.csv"), ["note"], slice(0, 2), (17, 40)) is None
    assert read_rows(str(tmp_path / "a.csv"), ["y"], slice(0, 9), (17, 40)) is None
