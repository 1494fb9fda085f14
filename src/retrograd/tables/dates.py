"""Times as they are written: which dates a column of text, numbers or stamps holds, where that is certain.

A column is read in every way that its own rows allow. One way left is the reading; two that give different times are
refused, with the argument that decides. Nothing is completed: a clock time without a date, a word such as ``today``
and a year of two digits are no date.
"""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from retrograd.errors import InputError
from retrograd.tables.codes import refuse_parts_of_years
from retrograd.tables.step import Step

__all__ = ["read_times"]

# Rows that a reading is tried on before it is tried on all.
_SAMPLE = 64
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p")
_DAY_FIRST, _MONTH_FIRST, _YEAR_FIRST = ("%d", "%m", "%Y"), ("%m", "%d", "%Y"), ("%Y", "%m", "%d")
_NAMED = tuple(
    form.replace("%b", month)
    for month in ("%b", "%B")
    for form in (
        "%b %Y",
        "%b-%Y",
        "%b/%Y",
        "%Y %b",
        "%Y-%b",
        "%d %b %Y",
        "%d-%b-%Y",
        "%d/%b/%Y",
        "%d. %b %Y",
        "%d%b%Y",
        "%b %d %Y",
        "%b %d, %Y",
        "%Y %b %d",
        "%Y-%b-%d",
        "%a %d %b %Y",
        "%a, %d %b %Y",
        "%a %b %d %Y",
    )
)
_MONTHS = ("%m/%Y", "%m-%Y", "%m.%Y", "%Y/%m", "%Y.%m")
_QUARTER = re.compile(r"(?:(?P<y1>\d{4})[ -]?[Qq](?P<q1>[1-4])|[Qq](?P<q2>[1-4])[ /-]?(?P<y2>\d{4}))$")
_WEEK = re.compile(r"\d{4}-?W\d{2}(-?\d)?$")
_SHORT_YEAR = re.compile(
    r"(\d{1,2}[-/. ]\d{1,2}[-/. ]\d{1,2}|[A-Za-z]{3,9}[-/. ']{1,2}\d{2}|\d{2}[-/. ][A-Za-z]{3,9}([-/. ]\d{2})?)\b(?!\d)"
)
_CLOCK_ONLY = re.compile(r"\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?( ?[AaPp][Mm])?$")


def read_times(
    values: pd.Series[Any],
    where: str,
    rows: Any,
    *,
    date_format: str | None = None,
    dayfirst: bool | None = None,
    time_zone: str | None = None,
    points: bool = True,
) -> Any:
    """Read a column of times.

    Args:
        values: numbers, text, dates or periods; none missing.
        where: the column, for messages.
        rows: the number of each row in its file, for messages.
        date_format: how text or whole numbers are written, as ``strptime`` has it; ``"number"`` keeps whole numbers.
        dayfirst: whether 01/02/2024 is the first of February (True) or the second of January (False).
        time_zone: where the clocks are: of stamps with offsets, the zone to go on in; of others, the zone they are in.
        points: whether text with a point, such as 12.2024, may be a number.

    Returns:
        an index of numbers, a ``DatetimeIndex`` (with its zone, where the stamps have one) or a ``PeriodIndex``.

    Raises:
        InputError: a value is no time, or the column can be read in two ways.

    Examples:
        >>> read_times(pd.Series(["31/01/2024", "29/02/2024"]), "column 'day'", range(2, 4))
        DatetimeIndex(['2024-01-31', '2024-02-29'], dtype='datetime64[...]', freq=None)
    """
    if not pd.api.types.is_numeric_dtype(values) and not values.isna().any():
        values = _as_written(values, points)
    times = _read(values, where, rows, date_format, dayfirst, time_zone)
    if time_zone is None:
        return times
    if not isinstance(times, pd.DatetimeIndex):
        raise InputError(f"{where} holds no stamps with a clock time: leave time_zone out", "time_zone")
    try:
        # An hour that comes twice as the clocks go back is told by its order.
        return times.tz_localize(time_zone, ambiguous="infer") if times.tz is None else times.tz_convert(time_zone)
    except (KeyError, ValueError) as error:  # pytz and zoneinfo name an unknown zone in different ways
        reason = str(error).strip("'").partition(chr(10))[0]
        if "dst" in reason:
            reason = "where clocks go back, its rows do not tell which of two hours is meant: write the offsets"
        raise InputError(f"time_zone is {time_zone!r}, which the times cannot be in: {reason}") from None


def _read(
    values: pd.Series[Any], where: str, rows: Any, date_format: str | None, dayfirst: bool | None, zone: str | None
) -> Any:
    if values.isna().any():
        row = int(values.isna().to_numpy().argmax())
        raise InputError(f"{where}: row {rows[row]} has no time")
    if isinstance(values.dtype, pd.PeriodDtype):
        return pd.PeriodIndex(values)
    if pd.api.types.is_datetime64_any_dtype(values):
        return pd.DatetimeIndex(values)
    if pd.api.types.is_bool_dtype(values) or pd.api.types.is_complex_dtype(values):
        raise InputError(f"{where} holds {values.dtype} values, expected numbers or dates")
    if pd.api.types.is_timedelta64_dtype(values):
        raise InputError(f"{where} holds lengths of time, expected numbers or dates")
    if pd.api.types.is_numeric_dtype(values):
        return _read_numbers(values, where, rows, date_format)
    text = values.map(lambda value: value.isoformat() if hasattr(value, "isoformat") else str(value).strip())
    wordy = ~text.str.contains(r"\d", regex=True)
    if wordy.any():  # pandas would read "today" and "now"
        row = int(wordy.to_numpy().argmax())
        raise InputError(f"{where}: row {rows[row]} is {_short(text.iloc[row])}, expected a number or a date")
    if date_format is not None:
        return _read_format(text, where, rows, date_format, zone)
    return _read_text(text, where, rows, dayfirst, zone)


def _as_written(values: pd.Series[Any], points: bool) -> pd.Series[Any]:
    """Return text as numbers, where all of it can be."""
    if not all(_is_number(value, points) for value in values.head(_SAMPLE)):
        return values
    numbers = pd.to_numeric(values, errors="coerce")
    return values if numbers.isna().any() else numbers


def _is_number(value: Any, points: bool) -> bool:
    if isinstance(value, str):
        if "." in value and not points:
            return False
        return re.fullmatch(r"\s*[+-]?\d+(\.\d*)?([eE][+-]?\d+)?\s*", value) is not None
    return isinstance(value, (int, float, np.number)) and not isinstance(value, (bool, np.bool_))


def _read_numbers(values: pd.Series[Any], where: str, rows: Any, date_format: str | None) -> Any:
    array = values.to_numpy()
    if array.dtype == object or array.dtype.kind not in "iuf":
        array = values.to_numpy(dtype=np.float64)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        row = int((~np.isfinite(array)).argmax())
        raise InputError(f"{where}: row {rows[row]} is {array[row]}, expected a finite time")
    if array.dtype.kind == "u" and len(array) and array.max() >= 2**63:
        raise InputError(f"{where}: {array.max()} is beyond 64-bit integers, expected smaller numbers or dates")
    if array.dtype.kind in "iu":
        array = array.astype(np.int64)
    if date_format not in (None, "number"):
        if array.dtype.kind == "f" and (array == np.rint(array)).all():
            array = array.astype(np.int64)
        text = pd.Series(array).astype(str)
        return _read_format(text, where, rows, str(date_format))
    numbers = pd.Index(array)
    if date_format is None:
        refuse_parts_of_years(array, where)
        for form, name in (("%Y%m%d", "20231231"), ("%Y%m", "202312")):
            dates = _as_dates(array, form)
            if dates is not None:
                return _one_of(
                    {"number": numbers, form: dates},
                    where,
                    f"holds whole numbers like {array[0]}, which can be dates such as {name}: give date_format, "
                    f"{form!r} or 'number'",
                )
    return numbers


def _as_dates(array: np.ndarray[Any, Any], form: str) -> Any:
    """Return whole numbers as dates written with no sign between, where all of them can be such dates."""
    if array.dtype.kind == "f":
        if not (array == np.rint(array)).all():
            return None
        array = array.astype(np.int64)
    digits = 8 if form == "%Y%m%d" else 6
    if not len(array) or len(str(array.min())) != digits or len(str(array.max())) != digits:
        return None
    dates = pd.to_datetime(pd.Series(array).astype(str), format=form, errors="coerce")
    return None if dates.isna().any() else pd.DatetimeIndex(dates)


def _read_format(text: pd.Series[Any], where: str, rows: Any, form: str, zone: str | None = None) -> Any:
    written, asked = text, form
    if ("%V" in form and "%u" not in form) or (("%W" in form or "%U" in form) and "%w" not in form):
        # A week starts on its Monday.
        text, form = text + " 1", form + (" %u" if "%V" in form else " %w")
    try:
        dates = pd.to_datetime(text, format=form, errors="coerce", utc="%z" in form)
    except ValueError as error:
        raise InputError(f"date_format is {asked!r}, which is no format of dates: {error}") from None
    _require_all(dates, written, where, rows, f"a date written as date_format {asked!r} says")
    if "%z" in form:
        return _with_offsets(text, pd.DatetimeIndex(dates), zone)
    index = pd.DatetimeIndex(dates)
    return _past_century(index) if "%y" in form else index


def _past_century(index: pd.DatetimeIndex) -> Any:
    """Return dates with years of two digits in the latest century of which none lies in the future."""
    early = index - pd.DateOffset(years=100)
    return pd.DatetimeIndex(np.where(index > pd.Timestamp.today(), early, index))


def _read_text(text: pd.Series[Any], where: str, rows: Any, dayfirst: bool | None, zone: str | None) -> Any:
    pairs = text.str.extract(r"^(\d{4})([-/])(\d{2})$")
    if len(text) > 1 and pairs.notna().all(axis=None):
        year, month = pairs[0].astype(int), pairs[2].astype(int)
        if ((year + 1) % 100 == month).all():
            form = f"%Y{pairs[1].iloc[0]}%m"
            raise InputError(
                f"{where}: row {rows[0]} is {_short(text.iloc[0])}, a month, or two years: set date_format={form!r}, "
                "or write one year"
            )
    quarters = _quarters(text)
    if quarters is not None:
        return quarters
    iso = _iso(text, zone)
    if iso is not None:
        return iso
    readings = dict(_readings(text, dayfirst))
    if readings:
        names = " or ".join(repr(form) for form in readings)
        return _one_of(
            readings,
            where,
            f"can be read two ways (row {rows[0]} is {_short(text.iloc[0])}): give date_format, {names}, or dayfirst",
        )
    raise InputError(f"{where}: {_why_not(text, rows)}", "date_format")


def _one_of(readings: dict[str, Any], where: str, otherwise: str) -> Any:
    """Return the reading that alone increases along a step; raise where that leaves none or several."""
    regular = {form: times for form, times in readings.items() if _is_regular(times)}
    kept = list((regular or readings).values())
    if all(kept[0].equals(other) for other in kept[1:]):
        return kept[0]
    raise InputError(f"{where} {otherwise}", "date_format", "dayfirst")


def _is_regular(times: pd.Index) -> bool:
    if not times.is_monotonic_increasing or not times.is_unique:
        return False
    try:
        return not len(Step.find(times).missing(times)) if len(times) > 2 else True
    except InputError:
        return False


def _readings(text: pd.Series[Any], dayfirst: bool | None) -> Iterator[tuple[str, pd.DatetimeIndex]]:
    """Yield every format in which all rows are dates."""
    orders = {None: (_DAY_FIRST, _MONTH_FIRST), True: (_DAY_FIRST,), False: (_MONTH_FIRST,)}[dayfirst]
    dated = [sign.join(order) for sign in "/-. " for order in (*orders, _YEAR_FIRST)]
    sample = text.head(_SAMPLE)
    for day in (*dated, *_NAMED, *_MONTHS):
        for clock in _CLOCKS if "%d" in day else ("",):
            form = day + clock
            if pd.to_datetime(sample, format=form, errors="coerce").isna().any():
                continue
            dates = pd.to_datetime(text, format=form, errors="coerce")
            if not dates.isna().any():
                yield form, pd.DatetimeIndex(dates)


def _iso(text: pd.Series[Any], zone: str | None) -> Any:
    """Return dates of ISO 8601, with and without clock times, with one zone or offset, or none."""
    shape = r"\d{4}-\d{2}(-\d{2}([T ]\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?( ?(Z|UTC|[+-]\d{2}:?\d{2}))?)?)?$"
    weeks = text.str.match(_WEEK)
    if weeks.all():
        whole = text.str.replace("-", "", regex=False)
        whole = whole.where(whole.str.len() == 8, whole + "1")
        dates = pd.to_datetime(whole, format="%GW%V%u", errors="coerce")
        return None if dates.isna().any() else pd.DatetimeIndex(dates)
    if not text.str.match(shape).all():
        return None
    zoned = text.str.contains(r"(?:Z|UTC|[+-]\d{2}:?\d{2})$", regex=True) & text.str.contains(":", regex=False)
    if zoned.any() and not zoned.all():
        return None
    dates = pd.to_datetime(text, format="ISO8601", errors="coerce", utc=bool(zoned.all()))
    if dates.isna().any():
        return None
    return _with_offsets(text, pd.DatetimeIndex(dates), zone) if zoned.all() else pd.DatetimeIndex(dates)


def _with_offsets(text: pd.Series[Any], universal: pd.DatetimeIndex, given: str | None) -> Any:
    """Return times in the zone that their written offsets tell.

    One offset is kept. Offsets that change are those of the zones where clocks change so; all of these have to agree on
    the years that follow. A zone that is given is asked for later.
    """
    if given is not None:
        return universal
    offsets = text.str.extract(r"(Z|UTC|[+-]\d{2}:?\d{2})$", expand=False).map(_minutes).to_numpy()
    if (offsets == offsets[0]).all():
        if offsets[0] == 0:
            return universal
        return universal.tz_convert(pd.Timestamp(0, tz=f"{'+' if offsets[0] > 0 else '-'}{_clock(offsets[0])}").tz)
    changes = np.flatnonzero(np.diff(offsets))
    rows = np.unique(np.concatenate([[0], changes, changes + 1, [len(offsets) - 1]]))
    few, wanted = universal[rows], pd.to_timedelta(offsets[rows], unit="min")
    ahead = pd.date_range(universal[-1], periods=3 * 366, freq="D")
    found: dict[tuple[int, ...], str] = {}
    for zone in sorted(zoneinfo.available_timezones(), key=_familiar):
        local = few.tz_convert(zone).tz_localize(None)
        if (local - few.tz_localize(None) == wanted).all():
            later = ahead.tz_convert(zone).tz_localize(None) - ahead.tz_localize(None)
            found.setdefault(tuple(later.astype("int64")), zone)
    if len(found) == 1:
        return universal.tz_convert(next(iter(found.values())))
    kind = "no zone has these" if not found else f"zones such as {' and '.join(list(found.values())[:2])} differ later"
    raise InputError(
        f"the offsets of the times change along the column, and {kind}: give time_zone, such as 'Europe/Berlin'",
        "time_zone",
    )


def _familiar(zone: str) -> tuple[int, str]:
    """Return a key that sorts zones of the same clock by how well they are known."""
    region, _, city = zone.partition("/")
    known = ("Europe", "America", "Asia", "Australia", "Pacific", "Africa")
    return (known.index(region) if city and region in known else len(known), zone)


def _minutes(offset: str) -> int:
    if offset in ("Z", "UTC"):
        return 0
    digits = offset[1:].replace(":", "")
    return (1 if offset[0] == "+" else -1) * (60 * int(digits[:2]) + int(digits[2:]))


def _clock(minutes: int) -> str:
    return f"{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"


def _quarters(text: pd.Series[Any]) -> Any:
    if not text.str.match(_QUARTER).all():
        return None
    parts = text.str.extract(_QUARTER)
    year, quarter = parts["y1"].fillna(parts["y2"]), parts["q1"].fillna(parts["q2"])
    return pd.PeriodIndex(year + "Q" + quarter, freq="Q")


def _require_all(dates: pd.Series[Any], text: pd.Series[Any], where: str, rows: Any, expected: str) -> None:
    if dates.isna().any():
        row = int(dates.isna().to_numpy().argmax())
        raise InputError(f"{where}: row {rows[row]} is {_short(text.iloc[row])}, expected {expected}", "date_format")


def _why_not(text: pd.Series[Any], rows: Any) -> str:
    if text.str.match(_CLOCK_ONLY).all():
        return f"row {rows[0]} is {_short(text.iloc[0])}, a clock time without a date: add the date"
    if text.str.match(_SHORT_YEAR).all():
        return (
            f"row {rows[0]} is {_short(text.iloc[0])}, whose year has two digits: give date_format, such as "
            "'%d/%m/%y', '%y-%m-%d' or '%b-%y'"
        )
    dates = pd.to_datetime(text, format="ISO8601", errors="coerce", utc=True)
    row = int(dates.isna().to_numpy().argmax()) if dates.isna().any() else 0
    return (
        f"row {rows[row]} is {_short(text.iloc[row])}, expected a number or a date such as 2024-12-31, the same way in "
        "every row (date_format says which)"
    )


def _short(value: Any) -> str:
    text = str(value)
    return repr(text if len(text) <= 60 else text[:57] + "...")
