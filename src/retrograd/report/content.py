"""The content of a page as plain records; :mod:`retrograd.report.page` renders them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from retrograd.report.series import Panel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Content", "Section", "TextTable", "plural"]


@dataclass(frozen=True)
class TextTable:
    """A table of text; the first column names its rows.

    Attributes:
        caption: what it shows.
        header: names of the columns; empty for none.
        rows: as many cells each, or fewer.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """Pictures under one heading.

    Attributes:
        heading: of the section.
        reading: how to read the pictures.
        lead: sentences above them, on what matters most.
        figures: static pictures, each a ``matplotlib.figure.Figure``.
        panels: pictures that the reader zooms.
        points: what else is to be said, in a list.
        tables: numbers, below that.
    """

    heading: str
    reading: str
    figures: Sequence[Figure] = ()
    panels: Sequence[Panel] = ()
    points: Sequence[str] = ()
    tables: Sequence[TextTable] = ()
    lead: Sequence[str] = ()


@dataclass(frozen=True)
class Content:
    """A page, from top to bottom.

    Attributes:
        title: the page's heading.
        judged: what the rows of ``metrics`` are.
        metrics: rows of named numbers.
        sections: the pictures.
        settings: what was run.
        summary: tables of the fit's numbers.
    """

    title: str
    judged: str
    metrics: Mapping[str, Mapping[str, float]]
    sections: Sequence[Section]
    settings: Mapping[str, str]
    summary: Sequence[TextTable] = field(default=())


def plural(unit: str) -> str:
    """Return a unit of time as it reads after "in".

    >>> plural("step"), plural("h"), plural("unit of minutes")
    ('steps', 'h', 'units of minutes')
    """
    first, space, rest = unit.partition(" ")
    return f"{first}s{space}{rest}" if first in ("step", "unit") else unit
