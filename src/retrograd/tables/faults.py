"""Lines of a file that are not what they seem: titles above the header, data in its place, a total below the rows."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise
from typing import Any

import pandas as pd

from retrograd.errors import InputError, shortened

__all__ = ["LOOKED_AT", "refuse_data_as_header", "refuse_footer", "refuse_titles"]

# Lines in which a header is looked for, and rows that a last one is held against.
LOOKED_AT = 50
_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?([eE][+-]?\d+)?")
_DATE = re.compile(r"(\d{4}[-/.]\d{1,2}([-/.]\d{1,2})?|\d{1,2}[-/.]\d{1,2}[-/.]\d{4})\b")


def refuse_data_as_header(header: Sequence[str], source: str) -> None:
    """Raise where what should be names are dates and numbers; numbers that go up, such as years, may be names.

    >>> refuse_data_as_header(["1990", "1991", "1992"], "a.csv")
    >>> refuse_data_as_header(["2024-01-01", "5.5"], "a.csv")
    Traceback (most recent call last):
        ...
    retrograd.errors.InputError: a.csv: the first line ('2024-01-01', '5.5') has data, expected the names of the...
    """
    numbers = [float(name.replace(",", ".")) for name in header if _NUMBER.fullmatch(name)]
    dates = sum(1 for name in header if _DATE.match(name) and not _NUMBER.fullmatch(name))
    if len(numbers) + dates < len(header) or len(header) < 2:
        return
    steps = [after - before for before, after in pairwise(numbers)]
    names = all(step == 1 for step in steps) or (len(numbers) > 2 and all(step > 0 for step in steps))
    if (dates and numbers) or not (dates or names):
        shown = ", ".join(repr(shortened(name)) for name in header[:3]) + ", …" * (len(header) > 3)
        raise InputError(
            f"{source}: the first line ({shown}) has data, expected the names of the columns: put a line with names "
            "above it"
        )


def refuse_titles(names: Collection[str], lines: Iterable[tuple[int, Sequence[Any]]], source: str) -> None:
    """Raise where a line has all names that are wanted, and the header has not.

    Args:
        names: of the columns that are wanted.
        lines: numbers of lines below the header, from 1, and their cells.
        source: the file.
    """
    for number, cells in lines:
        texts = [str(cell).strip() for cell in cells]
        numbers = sum(1 for text in texts if _NUMBER.fullmatch(text))
        if set(names) <= set(texts) and not numbers:
            raise InputError(f"{source}: the names of the columns stand in row {number}: give skip_rows={number - 1}")
        if texts and texts[0] in names and numbers:
            raise InputError(
                f"{source}: {shortened(texts[0])!r} is no column, but begins row {number}: rows have to go on in time, "
                "and each column to be one quantity; turn the table (transpose it)"
            )


def refuse_footer(
    frame: pd.DataFrame, header: Sequence[str], wanted: Collection[int], source: str, first_row: int
) -> None:
    """Raise where the last row is none of the data by what it has in other columns: ``Total`` below dates.

    Args:
        frame: the last rows, with all columns.
        header: their names.
        wanted: places of the columns that are read: what is no number there is refused anyway.
        source: the file.
        first_row: the number of the row with index 0.
    """
    for place, name in enumerate(header):
        cells = frame.iloc[-LOOKED_AT:, place]
        if place in wanted or len(cells) < 4 or cells.dtype.kind not in "OM":
            continue
        last, before = cells.iloc[-1], cells.iloc[:-1].astype(str)
        lacks = bool(pd.isna(last))
        words = isinstance(last, str) and re.search(r"\d", last) is None
        if (lacks and before.str.match(_DATE).all()) or (words and before.str.contains(r"\d", regex=True).all()):
            shown = "nothing" if lacks else repr(shortened(str(last)))
            raise InputError(
                f"{source}: row {first_row + int(str(frame.index[-1]))}, the last one, has {shown} in column "
                f"{shortened(name)!r}, unlike the rows above: take it out if it is a total or a note"
            )
