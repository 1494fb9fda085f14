"""Which kind of table a file is, by its name and its first bytes, and one line for whatever goes wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.resources import as_file, files
from pathlib import Path

import pandas as pd

from retrograd.errors import InputError, near_names
from retrograd.tables.packed import DAMAGED, PACKED

__all__ = ["SHIPPED", "first_line", "table_file"]

SHIPPED = {"airline": "airline.csv", "sunspots": "sunspots.csv", "hair_dryer": "hair_dryer.csv"}

_TEXT = (".csv", ".tsv", ".txt")
# The first bytes of files whose name may say otherwise.
_MARKS = (
    (b"\x1f\x8b", ".gz"),
    (b"BZh", ".bz2"),
    (b"\xfd7zXZ\0", ".xz"),
    (b"PK\x03\x04", ".zip"),
    (b"PAR1", ".parquet"),
)


@contextmanager
def table_file(source: str) -> Iterator[tuple[Path, str]]:
    """Yield a table's path and kind; whatever goes wrong with it is one line."""
    with ExitStack() as stack:
        path = Path(source)
        if not path.exists() and source in SHIPPED:
            path = stack.enter_context(as_file(files("retrograd") / "datasets" / SHIPPED[source]))
        try:
            yield path, _kind_of(path, source)
        except InputError:
            raise
        except pd.errors.EmptyDataError:
            raise InputError(f"{source} is empty") from None
        except UnicodeError:
            raise InputError(f"{source} is not text of one encoding: give encoding='cp1252', or another") from None
        except MemoryError:
            raise InputError(f"{source} does not fit in memory: name fewer columns, or split it") from None
        except DAMAGED as error:
            raise InputError(f"{source} cannot be read as a table: {first_line(error)}") from None


def _kind_of(path: Path, source: str) -> str:
    """Return the suffix that says how to read a file; raise where there is none, or its content is of another."""
    if not source.strip():
        raise InputError("the name of the table is empty: expected a file, .csv, .tsv, .txt, .parquet or .xlsx")
    if re.match(r"\w+://", source):
        raise InputError(f"{source} is an address, expected a file: download it, and name the file")
    if not path.exists():
        siblings = sorted(p.name for p in path.parent.iterdir() if p.is_file()) if path.parent.is_dir() else []
        tables = [name for name in siblings if any(kind in name.lower() for kind in (*_TEXT, ".parquet", ".xlsx"))]
        shipped = [f"{name} (comes with retrograd)" for name in SHIPPED]
        raise InputError(f"{source} does not exist: {near_names(path.name, [*tables, *SHIPPED], [*tables, *shipped])}")
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no regular file"
        raise InputError(f"{source} is {what}, expected a table: .csv, .tsv, .txt, .parquet or .xlsx")
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    packed = suffixes[-1] if suffixes and suffixes[-1] in PACKED else ""
    kind = (suffixes[-2] if len(suffixes) > 1 else "") if packed else (suffixes[-1] if suffixes else "")
    if kind not in (*_TEXT, ".parquet", ".xlsx") or (packed and kind not in _TEXT):
        hint = ": save it as .xlsx or .csv" if kind in (".xls", ".ods", ".xlsb", ".xlsm") else ""
        hint = ": unpack it, or name it as its table, .csv.zip" if packed == ".zip" and not kind else hint
        raise InputError(
            f"{source} is no table that can be read{hint or ': expected .csv, .tsv, .txt, .parquet or .xlsx'}"
        )
    with path.open("rb") as file:
        start = file.read(8)
    mark = next((name for sign, name in _MARKS if start.startswith(sign)), "")
    expected = packed or {".parquet": ".parquet", ".xlsx": ".zip"}.get(kind, "")
    if mark != expected and start:
        if mark:
            ending = f"{mark} or .xlsx" if mark == ".zip" else mark
            raise InputError(f"{source} is a {ending} file by its content: rename it so that its name says so")
        raise InputError(f"{source} is no {packed or kind} file by its content: it is damaged, or has the wrong name")
    return kind


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, cut."""
    text = str(error).strip().partition("\n")[0] or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."
