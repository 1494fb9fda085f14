"""Some rows of a table's file, without reading the others: byte ranges of a text, row groups of Parquet.

For processes that share the rows of one long table. What a table *is* (its dates, gaps and order, what is missing) one
process finds out from all of it (:func:`retrograd.tables.read_table`); it tells the others at which bytes their rows
stand, and they check what they read by a digest. Workbooks and packed texts are not read in part.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from retrograd.errors import InputError
from retrograd.tables.columns import numbers_of
from retrograd.tables.kind import table_file
from retrograd.tables.packed import DAMAGED
from retrograd.tables.source import Frame, ReadOptions, header_of, shape_of

__all__ = ["places_of_rows", "read_rows"]

Array = np.ndarray[Any, Any]

_BLOCK = 1 << 24


def places_of_rows(source: str, rows: Sequence[int], options: ReadOptions | None = None) -> list[int] | None:
    r"""Return at which bytes of a text rows of data begin; None where the file is no plain text, or has fewer rows.

    Args:
        source: the file.
        rows: counted from 0, increasing; the number of all rows stands for the file's end.
        options: what is said of the file.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "a.csv"
        ...     _ = path.write_text("x,y\n1,2\n3,4\n")
        ...     places_of_rows(str(path), [0, 1, 2])
        [4, 8, 12]
    """
    options = options or ReadOptions()
    with table_file(source) as (path, kind):
        if kind in (".parquet", ".xlsx") or path.suffix.lower() != kind:
            return None
        layout, _ = header_of(path, source, options)
        if layout.encoding.lower().replace("_", "-").startswith(("utf-16", "utf-32")):
            return None
        return _line_ends(path, [layout.skip_rows + row for row in rows])


def _line_ends(path: Path, lines: Sequence[int]) -> list[int] | None:
    """Return the byte behind the end of each of these lines; a line break within quotes ends none."""
    found: list[int] = []
    before, begin, quoted = 0, 0, False
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            data = np.frombuffer(block, dtype=np.uint8)
            breaks = np.flatnonzero(data == ord("\n"))
            quotes = np.flatnonzero(data == ord('"'))
            if quoted or len(quotes):
                outside = (np.searchsorted(quotes, breaks) % 2 == 0) != quoted
                breaks, quoted = breaks[outside], quoted != bool(len(quotes) % 2)
            while len(found) < len(lines) and lines[len(found)] < before + len(breaks):
                found.append(begin + int(breaks[lines[len(found)] - before]) + 1)
            if len(found) == len(lines):
                return found
            before, begin = before + len(breaks), begin + len(block)
    # The last line may have no break.
    return [*found, begin] if len(found) == len(lines) - 1 and lines[-1] == before else None


def read_rows(
    source: str,
    names: Sequence[str],
    rows: slice,
    places: tuple[int, int] | None = None,
    options: ReadOptions | None = None,
) -> Array | None:
    """Return columns of some rows as numbers, float64 ``(rows, columns)``; None where they cannot be read alone.

    Args:
        source: the file.
        names: the columns.
        rows: counted from 0.
        places: of a text, at which byte the first of them begins and the last ends (:func:`places_of_rows`).
        options: what is said of the file.
    """
    options = options or ReadOptions()
    try:
        with table_file(source) as (path, kind):
            if kind == ".parquet":
                frame = Frame(_of_row_groups(path, names, rows), 1, None, options.na)
            elif places is not None:
                frame = _of_bytes(path, source, names, places, options)
            else:
                return None
            values = numbers_of(source, frame, names, np.arange(rows.start, rows.stop))
    except (InputError, ImportError, IndexError, *DAMAGED):  # whoever reads all of the file says what is wrong with it
        return None
    return values if len(values) == rows.stop - rows.start else None


def _of_bytes(path: Path, source: str, names: Sequence[str], places: tuple[int, int], options: ReadOptions) -> Frame:
    layout, header = header_of(path, source, options)
    with path.open("rb") as file:
        file.seek(places[0])
        text = file.read(places[1] - places[0])
    columns = [header.index(name) for name in names]
    frame: pd.DataFrame = pd.read_csv(
        io.BytesIO(text),
        header=None,
        names=list(range(len(header))),
        index_col=False,
        usecols=columns,
        decimal=layout.decimal,
        na_values=list(options.na),
        skipinitialspace=True,
        **shape_of(layout),
    )[columns]
    frame.columns = pd.Index(names)
    return Frame(frame, 1, layout, options.na)


def _of_row_groups(path: Path, names: Sequence[str], rows: slice) -> pd.DataFrame:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        counts = [file.metadata.row_group(k).num_rows for k in range(file.metadata.num_row_groups)]
        begins = np.concatenate([[0], np.cumsum(counts)])
        wanted = [k for k in range(len(counts)) if begins[k] < rows.stop and begins[k + 1] > rows.start]
        frame: pd.DataFrame = file.read_row_groups(wanted, columns=list(names)).to_pandas()
    first = rows.start - int(begins[wanted[0]])
    frame = frame[list(names)].iloc[first : first + rows.stop - rows.start]
    return frame
