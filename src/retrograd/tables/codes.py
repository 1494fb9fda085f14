"""Numbers that stand for something else: -999 for a missing value, 202452 for a week.

Files write such numbers and do not say so. Taken as quantities they would ruin a forecast without a word: they are
refused, with the argument that decides.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from retrograd.errors import InputError

__all__ = ["number_of", "refuse_parts_of_years", "without_codes"]

Array = np.ndarray[Any, Any]

# Said of a file whose numbers all are values.
_NO_CODES = "none"
# Nines alone (99 is a count like any other), the ends of integers, and what netCDF, GRIB and others write.
_NINES = re.compile(r"(-9{2,}|9{3,})(\.9+)?$")
_ENDS = (32767.0, -32768.0, 65535.0, 2147483647.0, -2147483648.0, 4294967295.0)
_HUGE = 1e15
# Years with a part of the year behind: the numbers of one year, those of them that are used, what the part is, and how
# to write it.
_PARTS = (
    (10, 4, "quarters", "write them like 2024Q1"),
    (100, 53, "weeks", "give date_format='%G%V'"),
    (1000, 366, "days of a year", "give date_format='%Y%j'"),
)
# Days from one to the next.
_LENGTHS = {"months": (28, 29, 30, 31), "quarters": (90, 91, 92), "years": (365, 366)}
_PARTS_BEHIND_A_POINT = (
    (10, 4, "quarters", "write them like 2024Q1"),
    (100, 12, "months", "write them like 2024-01"),
)


def without_codes(source: str, name: str, values: Array, rows: Array, na: Sequence[str]) -> Array:
    """Return a column with the numbers that ``na`` names as NaN; refuse what looks like another one of these.

    Args:
        source: the file, for messages.
        name: the column, for messages.
        values: ``(N,)`` finite, or NaN.
        rows: their numbers in the file, for messages.
        na: texts that stand for a missing value; ``"none"``: no number does.

    Raises:
        InputError: a number such as -999 lies further from all others than these from each other (999: three times).

    Examples:
        >>> without_codes("a.csv", "y", np.array([5.0, -999.0, 6.0]), np.arange(2, 5), ["-999"])
        array([ 5., nan,  6.])
    """
    named = [number for number in map(number_of, na) if number is not None]
    if named:
        values = np.where(np.isin(values, named), np.nan, values)
    known = values[~np.isnan(values)]
    if _NO_CODES in na or not len(known):
        return values
    codes = [value for value in (known.min(), known.max()) if _is_code(value)]
    others = known[~np.isin(known, codes)]
    if len(others) < 3:
        return values
    for code in codes:
        # A series may well rise to 99; few fall to -99.
        if np.abs(others - code).min() > (1 if code < 0 else 3) * np.ptp(others):
            found = np.flatnonzero(values == code)
            where = f"in row {rows[found[0]]}" + (f" and {len(found) - 1} more" if len(found) > 1 else "")
            raise InputError(
                f"{source}: column {name!r} is {code:.10g} {where}, far from all other values ({others.min():.6g} to "
                f"{others.max():.6g}): set na='{code:.10g}' where that stands for a missing value, na='{_NO_CODES}' "
                "where it does not"
            )
    return values


def number_of(text: str) -> float | None:
    """Return the number that a text is, None where it is none."""
    try:
        return float(text)
    except ValueError:
        return None


def _is_code(value: float) -> bool:
    return bool(_NINES.match(f"{value:.12g}")) or value in _ENDS or abs(value) >= _HUGE


def refuse_parts_of_years(times: Array, where: str) -> None:
    """Raise where numbers can be years with a part of the year behind: after 202452 comes 202501, not 202453.

    Args:
        times: ``(N,)`` finite numbers of a time column. Months as in 202401 are no matter of this.
        where: the column, for messages.

    Raises:
        InputError: they can be.
    """
    if len(times) < 2:
        return
    if times.dtype.kind in "iu":
        _refuse_calendar_lengths(times, where)
        found = [part for part in _PARTS if _fits(*np.divmod(times, part[0]), part[1])]
        found = [part for part in found if part[0] != 100 or (times % 100).max() > 12]
    else:
        found = [part for part in _PARTS_BEHIND_A_POINT if _fits(*_split(times, part[0]), part[1])]
        if _fits(*_split(times, 10_000)[::-1], 12):  # 01.2024 was read as 1.2024
            found = [_PARTS_BEHIND_A_POINT[1]]
    for _, _, what, instead in found:
        raise InputError(
            f"{where} holds numbers like {times[-1]:.10g}, which can be {what}: {instead}, or set "
            "date_format='number' where they are numbers"
        )


def _refuse_calendar_lengths(times: Array, where: str) -> None:
    """Raise where whole numbers lie as far apart as months, quarters or years, in days, seconds or milliseconds."""
    for unit in (1, 86_400, 86_400_000):
        steps, rest = np.divmod(np.diff(times), unit)
        if rest.any() or not np.ptp(steps):
            continue
        for what, lengths in _LENGTHS.items():
            if np.isin(steps, lengths).all():
                raise InputError(
                    f"{where} holds numbers like {times[-1]}, which can be {what} counted in days or seconds: write "
                    "them as dates, or set date_format='number' where they are numbers"
                )


def _split(times: Array, parts: int) -> tuple[Array, Array]:
    """Return the digits before and behind the point; what is more than these is no part."""
    scaled = times * parts
    whole, behind = np.divmod(np.rint(scaled), parts)
    return whole, np.where(np.abs(scaled - np.rint(scaled)) < 1e-6, behind, 0)


def _fits(year: Array, part: Array, most: int) -> bool:
    years, parts = (year >= 1700) & (year < 2200), (part >= 1) & (part <= most)
    return bool(years.all() and parts.all() and max(np.ptp(part), np.ptp(year)) > 0)
