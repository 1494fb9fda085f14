"""Files in: any table that a person has, as columns, with the number of each row in its file.

Text (``.csv .tsv .txt``, also compressed), ``.parquet`` and ``.xlsx``. A file that is damaged or misnamed, or a row
that would lose a field, is refused in one line.
"""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from retrograd.errors import InputError, near_names
from retrograd.tables.delimited import SEPARATORS, Layout, find_layout
from retrograd.tables.faults import LOOKED_AT, refuse_data_as_header, refuse_footer, refuse_titles
from retrograd.tables.kind import first_line, table_file
from retrograd.tables.packed import Counted, opened

__all__ = [
    "Frame",
    "ReadOptions",
    "columns_of",
    "header_of",
    "read_frame",
    "shape_of",
]

# Bytes from which the layout of a text is told, and rows of a piece of it.
_HEAD, _PIECE = 1 << 18, 200_000


@dataclass(frozen=True)
class ReadOptions:
    """What is said of a file instead of being found in it; None: found.

    Attributes:
        sep: the separator between the fields of a text.
        decimal: the sign before decimals.
        thousands: the sign between thousands.
        encoding: of a text.
        skip_rows: lines before the header.
        na: further texts that stand for a missing value; ``"none"``: numbers such as -999 do not.
        sheet: of a workbook, by name.
    """

    sep: str | None = None
    decimal: str | None = None
    thousands: str | None = None
    encoding: str | None = None
    skip_rows: int = 0
    na: tuple[str, ...] = ()
    sheet: str | None = None


@dataclass(frozen=True)
class Frame:
    """Columns of a file.

    Attributes:
        columns: as the file has them, names without spaces around.
        first_row: the number of the first row of data in the file, from 1.
        layout: how its texts are written, or None.
        na: texts that stand for a missing value.
    """

    columns: pd.DataFrame
    first_row: int
    layout: Layout | None = None
    na: tuple[str, ...] = ()


def read_frame(
    source: str,
    options: ReadOptions | None = None,
    *,
    names: Sequence[str] | None = None,
    labels: str | None = None,
    progress: Callable[[float], None] | None = None,
) -> Frame:
    """Read a table's columns.

    Args:
        source: a file, or the name of a data set that the package carries.
        options: what is said of the file.
        names: the columns that are wanted; all by default.
        labels: a column that is text whatever it looks like: 007 is no 7.
        progress: called with the part of the file that has been read.

    Raises:
        InputError: the file is none of the kinds, is damaged, or has no such column.

    Examples:
        >>> read_frame("sunspots").columns.shape
        (309, 2)
    """
    options = options or ReadOptions()
    with table_file(source) as (path, kind):
        _require_its_kind(options, kind, source)
        if kind == ".parquet":
            return _read_parquet(path, source, options, names)
        if kind == ".xlsx":
            return _read_workbook(path, source, options, names)
        return _read_text(path, source, options, names, labels, progress)


def _require_its_kind(options: ReadOptions, kind: str, source: str) -> None:
    """Raise where something is said that a file of this kind has not."""
    lacks = {".parquet": ("sep", "encoding", "skip_rows", "sheet"), ".xlsx": ("sep", "encoding")}.get(kind, ("sheet",))
    for name in lacks:
        if getattr(options, name):
            what = "a sheet of a workbook" if name == "sheet" else "the lines of a text"
            raise InputError(f"{name} is {getattr(options, name)!r}, but {source} has none: {name} is of {what}", name)


def columns_of(source: str, options: ReadOptions | None = None) -> list[str]:
    """Return the names of a table's columns, without reading its rows.

    Raises:
        InputError: as :func:`read_frame`.

    Examples:
        >>> columns_of("sunspots")
        ['year', 'sunspots']
    """
    options = options or ReadOptions()
    with table_file(source) as (path, kind):
        if kind == ".parquet":
            import pyarrow.parquet

            schema = pyarrow.parquet.read_schema(path)
            return [str(name) for name in schema.empty_table().to_pandas().reset_index().columns]
        if kind == ".xlsx":
            return [str(name) for name in _read_workbook(path, source, options, None).columns.columns]
        return header_of(path, source, options)[1]


def _read_parquet(path: Path, source: str, options: ReadOptions, names: Sequence[str] | None) -> Frame:
    try:
        frame = pd.read_parquet(path)
    except ImportError:
        raise InputError(f"{source} needs pyarrow: pip install pyarrow") from None
    if any(name is not None for name in frame.index.names):  # a time index is a column like any other
        frame = frame.reset_index()
    columns = _named(frame, [str(name) for name in frame.columns], source, names)
    return Frame(columns, 1, _layout_given(options), options.na)


def _read_workbook(path: Path, source: str, options: ReadOptions, names: Sequence[str] | None) -> Frame:
    try:
        book = pd.ExcelFile(path, engine="openpyxl")
    except ImportError:
        raise InputError(f"{source} needs openpyxl: pip install openpyxl, or save the table as .csv") from None
    with book:
        sheets = [str(name) for name in book.sheet_names]
        if options.sheet is None and len(sheets) > 1:
            raise InputError(
                f"{source} has {len(sheets)} sheets: give sheet, one of {', '.join(map(repr, sheets))}", "sheet"
            )
        sheet = options.sheet or sheets[0]
        if sheet not in sheets:
            raise InputError(f"{source} has no sheet {sheet!r}: {near_names(sheet, sheets)}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # openpyxl's, of styles and extensions that hold no values
            cells = book.parse(sheet, header=None, skiprows=options.skip_rows, na_values=list(options.na))
    if not len(cells):
        raise InputError(f"{source} is empty")
    header = [_name_of(cell) for cell in cells.iloc[0]]
    first = options.skip_rows + 2
    if names is not None and not set(names) <= set(header):
        refuse_titles(names, enumerate(cells.iloc[1:LOOKED_AT].to_numpy(), first), source)
    refuse_data_as_header(header, source)
    frame = cells.iloc[1:].reset_index(drop=True).infer_objects()
    columns = _named(frame, header, source, names)
    refuse_footer(frame, header, _places(header, source, names), source, first)
    return Frame(columns, first, _layout_given(options), options.na)


def _name_of(cell: Any) -> str:
    """Return a cell as the name of a column: 2020, where its column of reals made it 2020.0."""
    if pd.isna(cell):
        return ""
    return str(int(cell) if isinstance(cell, float) and cell.is_integer() else cell).strip()


def _layout_given(options: ReadOptions) -> Layout | None:
    """Return how numbers are written as text in cells of another type, where that is said."""
    if options.decimal is None and options.thousands is None:
        return None
    return find_layout(b"a", "", sep=",", decimal=options.decimal, thousands=options.thousands)


def _read_text(
    path: Path,
    source: str,
    options: ReadOptions,
    names: Sequence[str] | None,
    labels: str | None,
    progress: Callable[[float], None] | None,
) -> Frame:
    layout, header = header_of(path, source, options)
    shape = shape_of(layout)
    if names is not None and not set(names) <= set(header):
        refuse_titles(names, _first_lines(path, layout), source)
    wanted = _places(header, source, names)
    # Fields beyond the header would be dropped: pandas warns of them, unless the columns are chosen as it reads.
    pieces = []
    with opened(path) as file, warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        counted = Counted(file, path.stat().st_size, progress)
        try:
            for piece in pd.read_csv(
                counted,
                header=None,
                names=list(range(len(header))),
                index_col=False,
                skiprows=layout.skip_rows + 1,
                decimal=layout.decimal,
                dtype={header.index(labels): str} if labels in header else None,
                na_values=list(options.na),
                skipinitialspace=True,
                chunksize=_PIECE,
                **shape,
            ):
                pieces.append(piece[wanted])
                counted.report()
            refuse_footer(_without_empty_end(piece), header, wanted, source, layout.skip_rows + 2)
        except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
            reason = _wrong_width(path, source, layout, len(header))
            raise InputError(reason or f"{source} cannot be read as a table: {first_line(error)}") from None
        except pd.errors.EmptyDataError:
            pieces = [pd.DataFrame(columns=wanted)]
    frame = pd.concat(pieces, ignore_index=True) if len(pieces) > 1 else pieces[0]
    frame = _without_empty_end(frame)
    frame.columns = pd.Index([header[place] for place in wanted])
    return Frame(frame, layout.skip_rows + 2, layout, options.na)


def header_of(path: Path, source: str, options: ReadOptions) -> tuple[Layout, list[str]]:
    """Return how a text is written, and the names in its header."""
    with opened(path) as file:
        head = file.read(_HEAD)
    layout = find_layout(
        head,
        source,
        sep=options.sep or ("\t" if ".tsv" in [suffix.lower() for suffix in path.suffixes] else None),
        decimal=options.decimal,
        thousands=options.thousands,
        encoding=options.encoding,
        skip_rows=options.skip_rows,
    )
    first = pd.read_csv(
        io.BytesIO(head),
        header=None,
        nrows=1,
        skiprows=layout.skip_rows,
        dtype=str,
        keep_default_na=False,
        **shape_of(layout),
    )
    header = [str(name).strip() for name in first.iloc[0]]
    refuse_data_as_header(header, source)
    return layout, header


def _first_lines(path: Path, layout: Layout) -> Iterator[tuple[int, list[str]]]:
    """Yield the lines below the header with their numbers, cut at each separator that it may be."""
    with opened(path) as file:
        lines = file.read(_HEAD).decode(layout.encoding, errors="replace").splitlines()[:LOOKED_AT]
    for number, line in enumerate(lines[layout.skip_rows + 1 :], layout.skip_rows + 2):
        for separator in SEPARATORS:
            yield number, next(csv.reader([line], delimiter=separator), [])


def shape_of(layout: Layout) -> dict[str, Any]:
    """Return how pandas is told of a layout."""
    return {"sep": layout.sep, "encoding": layout.encoding, "skip_blank_lines": False}


def _without_empty_end(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows without an editor's empty last lines, which are no rows."""
    rows = len(frame)
    while rows and frame.iloc[rows - 1].isna().all():
        rows -= 1
    if rows == len(frame):
        return frame
    frame = frame.iloc[:rows].copy()
    for name in frame.columns:  # the empty lines made whole numbers real
        values = frame[name]
        if values.dtype.kind == "f" and (values == values.round()).all() and (values.abs() < 2**53).all():
            frame[name] = values.astype("int64")
    return frame


def _places(header: list[str], source: str, names: Sequence[str] | None) -> list[int]:
    """Return the places of the columns that are wanted; raise where a name is missing or comes twice."""
    for name in header:
        if header.count(name) > 1 and (name or names is None):
            raise InputError(f"{source} has more than one column {_cut(name)!r}: rename one")
    if names is None:
        return list(range(len(header)))
    for name in names:
        if name not in header:
            raise InputError(f"{source} has no column {_cut(name)!r}: {near_names(name, [_cut(n) for n in header])}")
    return sorted({header.index(name) for name in names})


def _named(frame: pd.DataFrame, header: list[str], source: str, names: Sequence[str] | None) -> Any:
    header = [name.strip() for name in header]
    wanted = _places(header, source, names)
    chosen = frame.iloc[:, wanted]
    chosen.columns = pd.Index([header[place] for place in wanted])
    return chosen


def _wrong_width(path: Path, source: str, layout: Layout, width: int) -> str | None:
    """Say which row of a text has more fields than its header."""
    with opened(path) as file:
        text = io.TextIOWrapper(file, encoding=layout.encoding, newline="")
        for _ in range(layout.skip_rows):
            text.readline()
        rows = csv.reader(text, delimiter=layout.sep) if len(layout.sep) == 1 else None
        if rows is None:
            return None
        for row in rows:
            filled = row[:width] + [cell for cell in row[width:] if cell.strip()]
            if len(filled) > width:
                number = rows.line_num + layout.skip_rows
                hint = ""
                if layout.sep == "," and any(re.fullmatch(r"\s*[-+]?\d+", cell) for cell in row[width - 1 :]):
                    hint = "; decimals written with a comma need another sign between fields, or quotes"
                return f"{source}: row {number} has {len(filled)} fields, the header {width}{hint}"
    return None


def _cut(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
