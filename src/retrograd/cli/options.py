"""Options that several commands share, and the library's messages in the words of the command line."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from retrograd.errors import InputError

__all__ = ["Reading", "in_options", "names_of", "reads_tables"]

# Arguments whose option is not "--" and their own name.
_OTHER = {
    "targets": "--target",
    "stability": "--stable",
    "fh": "--horizon",
    "learning_rate": "--lr",
    "folder": "--out",
}
# Text in quotes is the user's own; a word may be followed by the value that the message gives it.
_WORD = re.compile(
    r"(?<!\w)'[^']*'|\"[^\"]*\"|(?<![\w.-])(?P<name>[a-z_]\w*)(?:=(?P<value>'[^']*'|[\w.]+))?(?![\w(=-])"
)


def in_options(error: InputError, options: Collection[str]) -> str:
    """Return the message of an error, with a command's options in place of the library's arguments.

    An argument is a word that the error declares, the first word of ``lr is 0``, and every word with a value.

    Args:
        error: from the library.
        options: those that the command has: an argument without an option stays as it is.

    >>> in_options(InputError("lr is 0, expected a number above 0"), ["--lr"])
    '--lr is 0, expected a number above 0'
    >>> in_options(InputError("row 7 is missing: set fill='linear'"), ["--fill"])
    'row 7 is missing: set --fill linear'
    """
    message = str(error)
    first = re.match(r"([a-z_]\w*) is ", message)
    declared = {*error.arguments, *([first[1]] if first else [])}

    def translated(found: re.Match[str]) -> str:
        name, value = found["name"], found["value"]
        option = _OTHER.get(name, "--" + str(name).replace("_", "-"))
        if name is None or option not in options or (value is None and name not in declared):
            return found[0]
        # A flag is given, not set.
        return option if value in (None, "True") else f"{option} {value.strip(chr(39))}"

    return _WORD.sub(translated, message)


@dataclass(frozen=True)
class Reading:
    """What the command line was told of a table.

    Attributes:
        file: how it is written (:class:`retrograd.tables.ReadOptions`).
        axis: its time axis (:class:`retrograd.tables.TimeOptions`).
    """

    file: Any
    axis: Any


_PANEL = "Reading the table"


def _reading(
    date_format: Annotated[
        str | None,
        typer.Option("--date-format", rich_help_panel=_PANEL, help="How times are written: '%d/%m/%Y', or number."),
    ] = None,
    dayfirst: Annotated[
        bool | None,
        typer.Option("--dayfirst/--monthfirst", rich_help_panel=_PANEL, help="Whether 01/02/2024 is 1 February."),
    ] = None,
    time_zone: Annotated[
        str | None, typer.Option("--time-zone", rich_help_panel=_PANEL, help="Where clocks are: Europe/Berlin.")
    ] = None,
    freq: Annotated[
        str | None,
        typer.Option("--freq", rich_help_panel=_PANEL, help="Step of the time axis: a number, or D, MS, B, 15min."),
    ] = None,
    sort: Annotated[bool, typer.Option("--sort", rich_help_panel=_PANEL, help="Put rows in order of time.")] = False,
    resample: Annotated[
        str | None,
        typer.Option("--resample", metavar="RULE", rich_help_panel=_PANEL, help="Take the mean of every D, h, MS."),
    ] = None,
    sep: Annotated[str | None, typer.Option("--sep", rich_help_panel=_PANEL, help="Separator of fields.")] = None,
    decimal: Annotated[
        str | None, typer.Option("--decimal", rich_help_panel=_PANEL, help="Sign before decimals: . or ,")
    ] = None,
    thousands: Annotated[
        str | None, typer.Option("--thousands", rich_help_panel=_PANEL, help="Sign between thousands.")
    ] = None,
    encoding: Annotated[
        str | None, typer.Option("--encoding", rich_help_panel=_PANEL, help="Of a text, such as cp1252.")
    ] = None,
    skip_rows: Annotated[int, typer.Option("--skip-rows", rich_help_panel=_PANEL, help="Lines before the header.")] = 0,
    na: Annotated[
        list[str] | None, typer.Option("--na", rich_help_panel=_PANEL, help="A text that stands for a missing value.")
    ] = None,
    sheet: Annotated[str | None, typer.Option("--sheet", rich_help_panel=_PANEL, help="Sheet of a workbook.")] = None,
) -> Reading:
    from retrograd.tables import ReadOptions, TimeOptions

    return Reading(
        ReadOptions(sep, decimal, thousands, encoding, skip_rows, tuple(na or ()), sheet),
        TimeOptions(date_format, dayfirst, freq, sort, resample, time_zone),
    )


def reads_tables(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say how a table is written; it gets them as its argument ``reading``."""
    shared = inspect.signature(_reading, eval_str=True).parameters
    own = inspect.signature(command, eval_str=True).parameters

    def run(**arguments: Any) -> None:
        given = {name: arguments.pop(name) for name in shared}
        command(**arguments, reading=_reading(**given))

    both = [p for p in (*own.values(), *shared.values()) if p.name != "reading"]
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in both]
    )
    run.__annotations__ = {p.name: p.annotation for p in both}
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    return run


def names_of(given: Sequence[str], columns: Collection[str] = ()) -> list[str]:
    """Return the columns that an option names: each a column's whole name, or several with commas between.

    >>> names_of(["a, b", "load, kW"], ["a", "b", "load, kW"])
    ['a', 'b', 'load, kW']
    """
    return [name.strip() for text in given for name in ([text] if text.strip() in columns else text.split(","))]
