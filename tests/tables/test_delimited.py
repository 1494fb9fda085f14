"""Delimited text: separator, decimal sign and encoding are found where certain, refused where not."""

from __future__ import annotations

from typing import Any

import pytest

from retrograd.errors import InputError
from retrograd.tables.delimited import Layout, find_layout

FOUND: dict[str, tuple[bytes, Layout]] = {
    "plain": (b"a,b\n1,2\n", Layout()),
    "one column": (b"a\n1\n2\n", Layout()),
    "semicolons": (b"a;b\n1.5;2\n", Layout(";")),
    "decimal commas": (b"a;b\n1,5;2\n3,25;4\n", Layout(";", ",")),
    "decimal commas, one with three digits": (b"a;b\n1,234;2,5\n", Layout(";", ",")),
    "thousands and decimals": (b"a;b\n1.234,56;2\n", Layout(";", ",", ".")),
    "English thousands": (b'a,b\n"1,234.5",2\n', Layout(thousands=",")),
    "thousands set apart by spaces": (b"a;b\n1 234,5;2\n", Layout(";", ",", " ")),
    "tabs": (b"a\tb\n1\t2\n", Layout("\t")),
    "bars": (b"a|b\n1|2\n", Layout("|")),
    "spaces": (b"a b\n1 2\n3 4\n", Layout(r"\s+")),
    "a clock time is no column": (b"day,load\n2024-01-01 00:00,1\n", Layout()),
    "German dates are no numbers": (b"date;v\n01.02.2024;1,5\n", Layout(";", ",")),
    "a name with a comma": (b'"a,b",c\n1,2\n', Layout()),
    "a mark of UTF-8": (b"\xef\xbb\xbfa,b\n1,2\n", Layout(encoding="utf-8-sig")),
    "UTF-16": ("a,b\n1,2\n".encode("utf-16"), Layout(encoding="utf-16")),
}


@pytest.mark.parametrize("name", FOUND)
def test_found(name: str) -> None:
    content, layout = FOUND[name]
    assert find_layout(content, "t.csv") == layout


@pytest.mark.parametrize(
    ("content", "given", "message"),
    [
        (b"a,b;c\n1,2;3\n", {}, r"commas and semicolons between its fields: give sep"),
        (b"a;b\n1,500;2\n3,250;4\n", {}, r"'1,500', whose comma may stand before decimals or between thousands"),
        (b"a;b\n1,5;2.5\n", {}, r"'1,5' and '2.5': give decimal"),
        (b"a,b\n1,\xe9\n", {}, r"row 2 is not UTF-8 text: give encoding"),
        (b"a,b\n1,\0\n", {}, r"row 2 holds a NUL byte"),
        (b"", {}, r"t.csv is empty"),
        (b"a,b\n", {"encoding": "foo"}, r"encoding is 'foo', which Python does not know"),
        (b"a,b\n1,2\n", {"encoding": "rot13"}, r"encoding is 'rot13', which Python does not know"),
        (b"a,b\n1,2\n", {"encoding": "hex"}, r"encoding is 'hex', which Python does not know"),
        (b"a,b\n", {"decimal": "::"}, r"decimal is '::', expected one character"),
        (b"a,b\n", {"decimal": ",", "thousands": ","}, r"decimal and thousands are both ','"),
        (b"a,b\n", {"skip_rows": -1}, r"skip_rows is -1, expected 0 or more"),
    ],
)
def test_refused_with_what_decides(content: bytes, given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_layout(content, "t.csv", **given)


def test_what_is_given_is_not_asked() -> None:
    content = b"a;b\n1,500;2\n"
    assert find_layout(content, "t.csv", decimal=",") == Layout(";", ",")
    assert find_layout(content, "t.csv", thousands=",") == Layout(";", ".", ",")
    assert find_layout(b"a,b;c\n1,2;3\n", "t.csv", sep=";") == Layout(";", ",")
    assert find_layout(b"# a note, with a comma\na;b\n1;2\n", "t.csv", skip_rows=1) == Layout(";", skip_rows=1)


def test_says_what_differs_from_plain_csv() -> None:
    assert str(Layout()) == ""
    assert str(Layout(";", ",")) == "fields separated by semicolons, decimals after a comma"
