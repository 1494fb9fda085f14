"""What to predict, and by which times: as the command line says, or one line with the command that says it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

import numpy as np

from retrograd.cli.options import Reading, names_of
from retrograd.errors import InputError
from retrograd.tables.columns import numbers_of, times_of
from retrograd.tables.source import columns_of, read_frame

__all__ = ["targets_of"]

# Names that a message lists at most.
MOST_NAMES = 12


def targets_of(
    given: Sequence[str] | None,
    command: str,
    file: str,
    reading: Reading,
    time: str | None,
    others: Sequence[str] = (),
    series: str | None = None,
) -> list[str]:
    """Return the columns that ``--target`` names.

    Args:
        given: what the option was given.
        command: its name.
        file: the table.
        reading: what was said of the table.
        time: the column that ``--time`` names.
        others: columns that ``--inputs`` names.
        series: the column that ``--series`` names.

    Raises:
        InputError: it names none; the message has the command for this table.
    """
    columns = columns_of(file, reading.file)
    if given:
        return names_of(given, columns)
    numbers, times = _kinds(file, reading)
    taken = {time, series, *others}
    numbers = [name for name in numbers if name not in taken] or [name for name in columns if name not in taken]
    if not numbers:
        raise InputError(f"--target is missing: {file} has no other column to predict")
    words = ["retrograd", command, file, "--target", numbers[0]]
    words += ["--time", time or times[0]] if time or times else []
    words += ["--series", series] if series else []
    more = ", ".join(numbers[1:MOST_NAMES]) + ", …" * (len(numbers) > MOST_NAMES)
    raise InputError(
        f"--target is missing: name the column to predict, as in: {shlex.join(words)}"
        + (f" (or {more})" if more else "")
    )


def _kinds(file: str, reading: Reading) -> tuple[list[str], list[str]]:
    """Return the columns of numbers, and those that may be the times: dates, or numbers that go up by steps."""
    frame = read_frame(file, reading.file)
    rows = np.arange(frame.first_row, frame.first_row + len(frame.columns))
    numbers, dates, steps = [], [], []
    for name in map(str, frame.columns):
        try:
            values = numbers_of(file, frame, [name], rows)[:, 0]
        except InputError:
            dates += [name] if _are_times(frame.columns[name], rows, reading) else []
            continue
        changes = np.diff(values)
        if len(changes) and bool((changes > 0).all()) and float(np.ptp(changes)) <= 1e-9 * float(changes[0]):
            steps.append(name)
        else:
            numbers.append(name)
    return numbers, [*dates, *steps]


def _are_times(column: Any, rows: Any, reading: Reading) -> bool:
    try:
        times_of(column, "", rows, reading.axis)
    except InputError as error:
        return "expected" not in str(error)
    return True
