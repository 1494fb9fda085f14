"""Files in: every kind of table, and what is damaged, misnamed or would lose a field is refused in one line."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from retrograd.errors import InputError
from retrograd.tables.source import ReadOptions, read_frame

_TABLE = pd.DataFrame({"a": [1, 3], "b": [2.5, 4.0]})
_TEXT = b"a,b\n1,2.5\n3,4.0\n"


def write(folder: Path, name: str, content: bytes) -> str:
    path = folder / name
    path.write_bytes(content)
    return str(path)


def test_every_kind_of_file(tmp_path: Path) -> None:
    sources = [
        write(tmp_path, name, content)
        for name, content in (
            ("t.csv", _TEXT),
            ("t.txt", _TEXT.replace(b",", b" ")),
            ("t.tsv", _TEXT.replace(b",", b"\t")),
            ("lines.csv", _TEXT + b"\n\n"),
            ("mac.csv", _TEXT.replace(b"\n", b"\r")),
            ("windows.csv", _TEXT.replace(b"\n", b"\r\n")),
            ("t.csv.gz", gzip.compress(_TEXT, mtime=0)),
            ("t.csv.bz2", bz2.compress(_TEXT)),
            ("t.csv.xz", lzma.compress(_TEXT)),
            ("utf16.csv", _TEXT.decode().encode("utf-16")),
            ("german.csv", b"a;b\n1;2,5\n3;4,0\n"),
        )
    ]
    with zipfile.ZipFile(tmp_path / "t.csv.zip", "w") as archive:
        archive.writestr("inside.csv", _TEXT)
    _TABLE.to_parquet(tmp_path / "t.parquet")
    sources += [str(tmp_path / "t.csv.zip"), str(tmp_path / "t.parquet")]
    for source in sources:
        pd.testing.assert_frame_equal(read_frame(source).columns, _TABLE)
        assert list(read_frame(source, names=["b"]).columns["b"]) == [2.5, 4.0]


def test_workbooks(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    with pd.ExcelWriter(tmp_path / "book.xlsx") as book:
        _TABLE.to_excel(book, sheet_name="data", index=False)
        _TABLE.to_excel(book, sheet_name="more", index=False)
    source = str(tmp_path / "book.xlsx")
    with pytest.raises(InputError, match=r"has 2 sheets: give sheet, one of 'data', 'more'"):
        read_frame(source)
    pd.testing.assert_frame_equal(read_frame(source, ReadOptions(sheet="data")).columns, _TABLE)
    with pytest.raises(InputError, match=r"has no sheet 'date': did you mean 'data'"):
        read_frame(source, ReadOptions(sheet="date"))


def test_rows_are_numbered_as_in_the_file(tmp_path: Path) -> None:
    assert read_frame(write(tmp_path, "t.csv", _TEXT)).first_row == 2
    noted = write(tmp_path, "noted.csv", b"# a note\n" + _TEXT)
    assert read_frame(noted, ReadOptions(skip_rows=1)).first_row == 3


def test_progress_ends_at_one(tmp_path: Path) -> None:
    parts: list[float] = []
    read_frame(write(tmp_path, "t.csv", b"a\n" + b"1\n" * 450_000), progress=parts.append)
    assert parts == sorted(parts)
    assert len(parts) == 3
    assert parts[-1] == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("wide.csv", b"a,b\n1,2\n3,4\n5,6,7\n", r"row 4 has 3 fields, the header 2; decimals written with a comma"),
        ("all.csv", b"a,b\n1,5,2,5\n3,5,4,5\n", r"row 2 has 4 fields, the header 2; decimals written with a comma"),
        ("dup.csv", b"a,a\n1,2\n", r"more than one column 'a'"),
        ("empty.csv", b"", r"is empty"),
        ("t.foo", b"1", r"no table that can be read: expected .csv"),
        ("t.xls", b"1", r"save it as .xlsx or .csv"),
        ("packed.csv", gzip.compress(_TEXT, mtime=0), r"a .gz file by its content: rename it"),
        ("plain.csv.gz", _TEXT, r"no .gz file by its content: it is damaged, or has the wrong name"),
        ("cut.csv.gz", gzip.compress(_TEXT * 999, mtime=0)[:60], r"cannot be read as a table: Compressed file ended"),
        ("plain.parquet", b"hello", r"no .parquet file by its content"),
        ("cut.parquet", b"PAR1hello", r"cannot be read as a table"),
        ("late.csv", b"a,b\n" + b"1,2\n" * 100_000 + b"1,\xe9\n", r"not text of one encoding: give encoding"),
        ("quote.csv", b'a,b\n1,"2\n3,4\n', r"cannot be read as a table"),
    ],
)
def test_refused_in_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    source = write(tmp_path, name, content)
    for names in (None, ["a"]):
        with pytest.raises(InputError, match=message) as refused:
            read_frame(source, names=names)
        assert "\n" not in str(refused.value)


def test_trailing_separators_lose_nothing(tmp_path: Path) -> None:
    assert list(read_frame(write(tmp_path, "t.csv", b"a,b\n1,2,\n3,4,\n")).columns["b"]) == [2, 4]


def test_names(tmp_path: Path) -> None:
    source = write(tmp_path, "t.csv", b'"a,b", c \n1,2\n')
    assert list(read_frame(source, names=["a,b", "c"]).columns) == ["a,b", "c"]
    with pytest.raises(InputError, match=r"no column 'd': there are: a,b, c"):
        read_frame(source, names=["d"])
    said = r"sunspot does not exist: did you mean 'sunspots'\? There are: .*sunspots \(comes with retrograd\)"
    with pytest.raises(InputError, match=said):
        read_frame("sunspot")
    with pytest.raises(InputError, match=r"is a folder"):
        read_frame(str(tmp_path))
