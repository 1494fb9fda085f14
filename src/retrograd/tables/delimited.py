"""Delimited text: which separator, decimal sign and encoding a file has, where its own rows tell.

What its rows leave open is refused, with the argument that decides: a separator that fits as well as another, a comma
that may stand before decimals or between thousands, bytes that are not UTF-8.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pandas as pd

from retrograd.errors import InputError

__all__ = ["Layout", "find_layout", "numerals", "thousands_in"]

SEPARATORS = (",", ";", "\t", "|")
_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", r"\s+": "spaces"}
# Rows from which a layout is told.
_ROWS = 400
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# The first line by which spreadsheets say the separator.
_SEP_HINT = re.compile(r'"?sep=(.)"?$', re.IGNORECASE)
_SIGN = r"[+-]?"
_SPACES = " \u00a0\u202f'\u2019"
_DECIMAL_COMMA = re.compile(_SIGN + rf"(\d{{1,3}}(?:[.{_SPACES}]\d{{3}})+|\d+),\d+([eE][+-]?\d+)?$")
_DECIMAL_POINT = re.compile(_SIGN + rf"(\d{{1,3}}(?:[,{_SPACES}]\d{{3}})+|\d*)\.\d+([eE][+-]?\d+)?$")
_THOUSANDS = re.compile(_SIGN + rf"[1-9]\d{{0,2}}(?:(?P<sign>[,.{_SPACES}])\d{{3}})(?:(?P=sign)\d{{3}})*$")


@dataclass(frozen=True)
class Layout:
    """How a delimited file is written.

    Attributes:
        sep: the separator between the fields of a row; the pattern of white space for columns set with spaces.
        decimal: the sign before decimals, ``"."`` or ``","``.
        thousands: the sign between thousands, or None.
        encoding: of the text.
        skip_rows: how many lines stand before the header.
    """

    sep: str = ","
    decimal: str = "."
    thousands: str | None = None
    encoding: str = "utf-8"
    skip_rows: int = 0

    def __str__(self) -> str:
        """Say in words what differs from plain CSV; empty where nothing does."""
        parts = []
        if self.sep != ",":
            parts.append(f"fields separated by {_NAMES.get(self.sep, repr(self.sep))}")
        if self.decimal != ".":
            parts.append("decimals after a comma")
        if self.thousands is not None:
            parts.append(f"thousands set apart by {self.thousands!r}")
        if self.encoding not in ("utf-8", "utf-8-sig"):
            parts.append(f"encoding {self.encoding}")
        return ", ".join(parts)


def find_layout(
    head: bytes,
    source: str,
    *,
    sep: str | None = None,
    decimal: str | None = None,
    thousands: str | None = None,
    encoding: str | None = None,
    skip_rows: int = 0,
) -> Layout:
    r"""Find how a file is written from its first bytes; what is given is not asked of them.

    Args:
        head: the first bytes of the file, uncompressed.
        source: the file, for messages.
        sep: the separator between fields.
        decimal: the sign before decimals.
        thousands: the sign between thousands.
        encoding: of the text.
        skip_rows: lines before the header.

    Raises:
        InputError: the bytes are no text, or can be read in two ways.

    Examples:
        >>> find_layout(b"day;load\n1;2,5\n2;3,25\n", "load.csv")
        Layout(sep=';', decimal=',', thousands=None, encoding='utf-8', skip_rows=0)
    """
    for name, value in (("decimal", decimal), ("thousands", thousands), ("sep", sep)):
        if value is not None and (not value or (name != "sep" and len(value) != 1)):
            raise InputError(f"{name} is {value!r}, expected one character")
    if skip_rows < 0:
        raise InputError(f"skip_rows is {skip_rows}, expected 0 or more lines")
    encoding = encoding or _encoding_of(head, source)
    lines = _lines_of(head, source, encoding)[skip_rows:]
    if lines and (hint := _SEP_HINT.match(lines[0])):
        sep, lines, skip_rows = sep or hint[1], lines[1:], skip_rows + 1
    while lines and not lines[0].strip():
        lines, skip_rows = lines[1:], skip_rows + 1
    if not lines:
        raise InputError(f"{source} is empty")
    sep = sep or _separator_of(lines, source)
    cells = [cell for row in _rows(lines[1:], sep) for cell in row]
    if decimal is None:
        decimal, found = _decimal_of(cells, sep, source) if thousands is None else (_other(thousands), thousands)
        thousands = thousands or found
    if decimal == thousands:
        raise InputError(f"decimal and thousands are both {decimal!r}: they must differ", "decimal", "thousands")
    return Layout(sep, decimal, thousands, encoding, skip_rows)


def _encoding_of(head: bytes, source: str) -> str:
    for mark, name in _BOMS:
        if head.startswith(mark):
            return name
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # a character cut at the end is no error
    except UnicodeDecodeError as error:
        row = head[: error.start].count(b"\n") + 1
        raise InputError(
            f"{source}: row {row} is not UTF-8 text: give encoding, such as 'cp1252' (western Europe), or save the "
            "file as UTF-8",
            "encoding",
        ) from None
    return "utf-8"


def _lines_of(head: bytes, source: str, encoding: str) -> list[str]:
    try:
        if not getattr(codecs.lookup(encoding), "_is_text_encoding", True):
            raise LookupError
        text = codecs.getincrementaldecoder(encoding)().decode(head)
    except (LookupError, TypeError, ValueError) as error:
        if isinstance(error, UnicodeDecodeError):
            message = f"{source} is not text of encoding {encoding!r}: give another encoding"
            raise InputError(message, "encoding") from None
        raise InputError(f"encoding is {encoding!r}, which Python does not know: such as 'utf-8' or 'cp1252'") from None
    text = text.removeprefix("\ufeff")
    if "\0" in text:
        raise InputError(
            f"{source}: row {text[: text.index(chr(0))].count(chr(10)) + 1} holds a NUL byte: it is no text"
        )
    lines = text.splitlines()
    # The last line of a long head may be cut.
    return lines[:-1] if len(lines) > 2 and not text.endswith(("\n", "\r")) and len(lines) > _ROWS else lines


def _rows(lines: list[str], separator: str) -> list[list[str]]:
    lines = [line for line in lines[:_ROWS] if line.strip()]
    if len(separator) > 1:
        return [re.split(separator, line.strip()) for line in lines]
    return [[cell.strip() for cell in row] for row in csv.reader(io.StringIO("\n".join(lines)), delimiter=separator)]


def _separator_of(lines: list[str], source: str) -> str:
    """Return the separator that gives every row as many fields as the header, two or more."""
    fitting = []
    for separator in SEPARATORS:
        counts = Counter(len(row) for row in _rows(lines, separator))
        if len(counts) == 1 and next(iter(counts)) > 1:
            fitting.append(separator)
    if len(fitting) > 1:
        words = " and ".join(_NAMES[separator] for separator in fitting)
        raise InputError(f"{source} can be read with {words} between its fields: give sep, one of {fitting}", "sep")
    if fitting:
        return fitting[0]
    if any(separator in line for separator in SEPARATORS for line in lines[:_ROWS]):
        in_header = [separator for separator in SEPARATORS if separator in lines[0]]
        return in_header[0] if in_header else ","
    spaces = Counter(len(row) for row in _rows(lines, r"\s+"))
    numbers = all(re.fullmatch(r"[-+.\deE]+", cell) for row in _rows(lines[1:], r"\s+") for cell in row)
    return r"\s+" if len(spaces) == 1 and next(iter(spaces)) > 1 and numbers else ","


def _decimal_of(cells: list[str], sep: str, source: str) -> tuple[str, str | None]:
    """Return the sign before decimals and the one between thousands."""
    comma = [match for cell in cells if (match := _DECIMAL_COMMA.match(cell))]
    point = [match for cell in cells if (match := _DECIMAL_POINT.match(cell))]
    grouped = [match for cell in cells if (match := _THOUSANDS.match(cell))]
    sure_comma = [match for match in comma if not _THOUSANDS.match(match.string)]
    sure_point = [match for match in point if not _THOUSANDS.match(match.string)]
    # A few cells of the other kind are faults of their rows, which are named when they are read.
    if sure_comma and len(sure_comma) == len(sure_point):
        raise InputError(
            f"{source} has numbers such as {sure_comma[0].string!r} and {sure_point[0].string!r}: give decimal, "
            "'.' or ','",
            "decimal",
        )
    if sure_comma or sure_point:
        sure, decimal = (sure_comma, ",") if len(sure_comma) > len(sure_point) else (sure_point, ".")
        return decimal, _thousands_of(sure, [match["sign"] for match in grouped if match["sign"] != decimal])
    # Two groups, or a sign that stands before no decimals: between thousands.
    certain = [match["sign"] for match in grouped if match["sign"] in _SPACES or match.string.count(match["sign"]) > 1]
    if certain:
        return _other(certain[0]), certain[0]
    if comma:
        raise InputError(
            f"{source} has numbers such as {comma[0].string!r}, whose comma may stand before decimals or between "
            "thousands: give decimal=',' or thousands=','"
        )
    if point and sep == ";":  # where a comma is no separator, it may be the sign before decimals
        raise InputError(
            f"{source} has numbers such as {point[0].string!r}, whose point may stand before decimals or between "
            "thousands: give decimal='.' or thousands='.'"
        )
    return ".", None


def _thousands_of(decimals: list[re.Match[str]], signs: list[str]) -> str | None:
    """Return the sign between thousands in numbers with decimals, else the first of those found in whole numbers."""
    for match in decimals:
        for sign in f".,{_SPACES}":
            if sign in (match.group(1) or ""):
                return sign
    return signs[0] if signs else None


def thousands_in(text: str) -> str | None:
    """Return the sign between the thousands of a whole number; None where the text is none, or has no such sign.

    >>> thousands_in("1'234"), thousands_in("12.5")
    ("'", None)
    """
    match = _THOUSANDS.match(text)
    return None if match is None else match["sign"]


def numerals(texts: pd.Series[Any], layout: Layout) -> pd.Series[Any]:
    """Return texts as the numbers that a layout makes of them, NaN where they are none.

    A sign between thousands stands between groups of three digits: ``1,5`` is no number with thousands.

    >>> numerals(pd.Series(["1.234,5", "12,25", "1.5"]), Layout(decimal=",", thousands=".")).tolist()
    [1234.5, 12.25, nan]
    """
    texts = texts.str.strip()
    if layout.thousands is not None:
        sign, decimal = re.escape(layout.thousands), re.escape(layout.decimal)
        grouped = texts.str.match(_SIGN + rf"\d{{1,3}}(?:{sign}\d{{3}})+(?:{decimal}\d*)?(?:[eE][+-]?\d+)?$")
        texts = texts.where(~grouped, texts.str.replace(layout.thousands, "", regex=False))
    if layout.decimal != ".":
        texts = texts.where(~texts.str.contains(".", regex=False), "")
        texts = texts.str.replace(layout.decimal, ".", regex=False)
    return pd.to_numeric(texts, errors="coerce").astype("float64")


def _other(thousands: str) -> str:
    return "," if thousands == "." else "."
