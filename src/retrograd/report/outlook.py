"""The section on the forecast itself: the last rows, what comes after them, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from retrograd.pictures.palette import BLACK
from retrograd.pictures.series import Line
from retrograd.report.content import Section, TextTable
from retrograd.report.series import Ahead, panels

__all__ = ["section"]

Array = np.ndarray[Any, Any]

# Rows before the forecast that are drawn: so many horizons, between these bounds.
HORIZONS, FEWEST, MOST = 4, 40, 400
# Steps that the table lists, and targets that have one.
LISTED, TABLES = 12, 4


def section(
    time: Array,
    label: str,
    names: Sequence[str],
    observed: Array,
    ahead: Ahead,
    intervals_missing: str = "",
) -> Section | None:
    """Return the section; None without a forecast.

    Args:
        time: of the data, ``(N,)``.
        label: of the time axis.
        names: of the targets.
        observed: ``(N, O)``.
        ahead: the forecast.
        intervals_missing: why it has no interval, in words.
    """
    steps = len(ahead.time)
    if steps == 0:
        return None
    rows = slice(-min(max(HORIZONS * steps, FEWEST), MOST), None)
    lines = [Line("observed", observed[rows], BLACK, 1.5, measured=True)]
    drawn, notes = panels(time[rows], label, names, lines, len(time[rows]), ahead)
    reading = [f"The {steps} steps after the last row." if steps > 1 else "The step after the last row."]
    levels = " and ".join(f"{level:g}" for level in sorted(ahead.intervals))
    if levels:
        each = "each band has" if len(ahead.intervals) > 1 else "the band has"
        reading.append(
            f"At every step {each} the true value in it with a probability of {levels} %, as long as the series goes "
            "on as it went."
        )
    elif intervals_missing:
        reading.append(intervals_missing)
    tables = [_table(name, column, label, ahead, len(names) > 1) for column, name in enumerate(names[:TABLES])]
    return Section("Forecast", " ".join((*reading, *notes)), panels=drawn, tables=tables)


def _table(name: str, column: int, label: str, ahead: Ahead, several: bool) -> TextTable:
    ends = sorted(ahead.intervals.items())
    header = (label, "forecast", *(f"{level:g} %" for level, _ in ends))
    rows = [
        (
            _when(ahead.time[step]),
            f"{ahead.values[step, column]:.5g}",
            *(f"{lower[step, column]:.5g} to {upper[step, column]:.5g}" for _, (lower, upper) in ends),
        )
        for step in range(min(len(ahead.time), LISTED))
    ]
    more = f" (the first {LISTED} of {len(ahead.time)} steps)" if len(ahead.time) > LISTED else ""
    return TextTable(f"{name}{more}" if several or more else "The same in numbers", header, rows)


def _when(time: Any) -> str:
    if isinstance(time, np.datetime64):
        return str(time.astype("datetime64[s]")).replace("T00:00:00", "").replace("T", " ")
    return f"{time:g}" if isinstance(time, (float, np.floating)) else str(time)
