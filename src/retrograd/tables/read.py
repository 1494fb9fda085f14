"""Tables in: read and check.

A table is one row a step: target columns, exogenous input columns, a time axis. Whatever cannot be used is refused
with one line that names the file, the row and the column; nothing is guessed and nothing is dropped.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retrograd.errors import InputError, near_names, require_choice

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Table", "future_times", "read_inputs", "read_table", "split_index", "time_text"]

Array = np.ndarray[Any, Any]

SHIPPED = {"sunspots": "sunspots.csv", "hair_dryer": "hair_dryer.csv"}
FILLS = ("forward", "linear")
# Fewer rows than this cannot be split into something to learn from and something to predict.
FEWEST_ROWS = 3


@dataclass(frozen=True)
class Table:
    """A series: N steps with targets, then F steps of which only the inputs are known.

    Attributes:
        source: as the user named it, for messages.
        time_label: name of the time axis, ``"step"`` without a time column.
        time: ``(N + F,)`` increasing numbers, or datetime64[ns]; 1..N+F without a time column.
        target_names: the O predicted columns.
        targets: ``(N, O)`` float64, finite, or NaN where a missing one was let be.
        input_names: the E exogenous columns.
        inputs: ``(N + F, E)`` float64, finite.
        filled: how many missing values were filled.
    """

    source: str
    time_label: str
    time: Array
    target_names: list[str]
    targets: Array
    input_names: list[str]
    inputs: Array
    filled: int = 0

    @property
    def steps(self) -> int:
        """N: steps with targets."""
        return len(self.targets)

    @property
    def future(self) -> int:
        """F: steps after them with inputs alone."""
        return len(self.time) - len(self.targets)


def read_table(
    source: str,
    *,
    targets: Sequence[str],
    inputs: Sequence[str] = (),
    time: str | None = None,
    fill: str | None = None,
    missing_targets: bool = False,
) -> Table:
    """Read and check a table.

    Args:
        source: a ``.csv`` (also compressed) or ``.parquet`` file, or the name of a data set that the package carries:
            ``sunspots``, ``hair_dryer``.
        targets: the columns to predict.
        inputs: exogenous columns. Last rows that have these but no target are the known future.
        time: a column of increasing numbers or dates.
        fill: what to put in place of a missing value: ``"forward"``, the last one before it; ``"linear"``, the line
            between its neighbours.
        missing_targets: whether a missing target is left as NaN where ``fill`` is None, instead of being refused.

    Raises:
        InputError: the file, a column or a value cannot be used; the message says which, where, and what to do.

    Examples:
        >>> table = read_table("sunspots", targets=["sunspots"], time="year")
        >>> table.steps, table.time[[0, -1]].tolist(), table.targets[:2].tolist()
        (309, [1700, 2008], [[5.0], [11.0]])
    """
    if fill is not None:
        require_choice("fill", fill, FILLS)
    named = [*targets, *inputs, *([] if time is None else [time])]
    for name in named:
        if named.count(name) > 1:
            raise InputError(
                f"column {name!r} is asked for twice among targets, inputs and time", "targets", "inputs", "time"
            )
    frame, first_row = _read(source)
    _require_columns(source, frame, named)
    if len(frame) < FEWEST_ROWS:
        count = "no rows" if len(frame) == 0 else f"{len(frame)} row{'s' * (len(frame) > 1)}"
        raise InputError(f"{source} has {count} of data, expected at least {FEWEST_ROWS}")

    axis = np.arange(1, len(frame) + 1) if time is None else _times(source, frame[time], time, first_row)
    y, z = (_numbers(source, frame, names, first_row) for names in (targets, inputs))
    steps = len(y)
    if inputs:
        while steps and np.isnan(y[steps - 1]).all() and not np.isnan(z[steps - 1]).any():
            steps -= 1
        if steps < FEWEST_ROWS:
            raise InputError(f"{source} has {steps} rows with a target, expected at least {FEWEST_ROWS}")
    values = np.concatenate([y[:steps], z[:steps]], axis=1)
    filled = 0
    if np.isnan(values).any():
        filled = int(np.isnan(values).sum())
        values = _fill(source, values, [*targets, *inputs], fill, first_row, len(targets) if missing_targets else 0)
        filled -= int(np.isnan(values).sum())
    _require_no_gap(source, z[steps:], inputs, first_row + steps)
    outputs = len(targets)
    return Table(
        source,
        "step" if time is None else time,
        axis,
        list(targets),
        np.ascontiguousarray(values[:, :outputs]),
        list(inputs),
        np.concatenate([values[:, outputs:], z[steps:]]),
        filled,
    )


def read_inputs(source: str, names: Sequence[str]) -> Array:
    """Read exogenous columns alone: ``(F, E)``, the steps that follow a series.

    Raises:
        InputError: the file, a column or a value cannot be used.
    """
    frame, first_row = _read(source)
    _require_columns(source, frame, names)
    values = _numbers(source, frame, names, first_row)
    _require_no_gap(source, values, names, first_row)
    return values


def split_index(table: Table, test: str) -> int:
    """Return the index of the first held-out step, N where nothing is held out.

    Args:
        table: the data.
        test: a fraction below 1 (the share held out at the end), or the date or number at which the held-out part
            starts.

    Raises:
        InputError: ``test`` is neither, or leaves nothing to train on or nothing to test.

    Examples:
        >>> table = read_table("sunspots", targets=["sunspots"], time="year")
        >>> [split_index(table, test) for test in ("0", "0.2", "1921")]
        [309, 247, 221]
    """
    dates = table.time.dtype.kind == "M"
    steps, times = table.steps, table.time[: table.steps]
    number = _number(test)
    if number is not None and 0 <= number < 1:
        start = steps - round(number * steps)
        if number and start == steps:
            raise InputError(f"test is {test!r}, which holds out none of {steps} steps: take a larger fraction")
    else:
        at = _date(test) if dates else number
        if at is None:
            kind = "a date" if dates else "a number"
            raise InputError(
                f"test is {test!r}, expected a fraction below 1, or {kind} on the axis {table.time_label!r}"
            )
        first, last = time_text(times[[0, -1]])
        start = int(np.searchsorted(times, at))
        if start in (0, steps):
            raise InputError(f"test is {test!r}, expected {table.time_label} after {first} and up to {last}")
    if start < FEWEST_ROWS:
        raise InputError(f"test is {test!r}, which leaves {start} steps to train on, expected at least {FEWEST_ROWS}")
    return start


def future_times(time: Array, count: int) -> Array:
    """Return the ``count`` times that follow an axis: as its calendar goes, or by its median spacing.

    >>> future_times(np.array([1700, 1701, 1702]), 2)
    array([1703, 1704])
    >>> time_text(future_times(np.array(["2024-01-31", "2024-02-29", "2024-03-31"], "datetime64[ns]"), 2))
    ['2024-04-30', '2024-05-31']
    """
    if time.dtype.kind == "M":
        import pandas as pd

        # Its calendar (month ends, business days) where three times or more show one.
        index = pd.DatetimeIndex(time, freq="infer") if len(time) > 2 else pd.DatetimeIndex(time)
        if index.freq is None:
            steps = np.diff(time).astype("timedelta64[ns]").astype(np.int64)
            step = np.timedelta64(int(np.median(steps)), "ns") if len(steps) else np.timedelta64(1, "D")
            return np.asarray(time[-1] + step * np.arange(1, count + 1))
        ahead = pd.date_range(index[-1], periods=count + 1, freq=index.freq)[1:]
        return np.asarray(ahead.to_numpy(), dtype="datetime64[ns]")
    spacing = float(np.median(np.diff(time))) if len(time) > 1 else 1.0
    whole = time.dtype.kind in "iu" and spacing.is_integer()
    return np.asarray(time[-1] + (int(spacing) if whole else spacing) * np.arange(1, count + 1))


def time_text(time: Array) -> list[str]:
    """Return each time as text: numbers in full, dates in ISO 8601, without the hours if all are midnight.

    >>> time_text(np.array([1700.0, 1700.5])), time_text(np.array(["2024-01-31"], "datetime64[ns]"))
    (['1700.0', '1700.5'], ['2024-01-31'])
    """
    if time.dtype.kind != "M":
        return [str(value) for value in time.tolist()]
    for unit in ("D", "s", "ms", "us"):
        if (time.astype(f"datetime64[{unit}]") == time).all():
            return [str(text) for text in np.datetime_as_string(time, unit=unit)]
    return [str(text) for text in np.datetime_as_string(time)]


def _read(source: str) -> tuple[pd.DataFrame, int]:
    """Return the table and the number of its first row in the file."""
    import pandas as pd

    with ExitStack() as stack:
        path = Path(source)
        if not path.exists() and source in SHIPPED:
            path = stack.enter_context(as_file(files("retrograd") / "datasets" / SHIPPED[source]))
        suffixes = [suffix.lower() for suffix in path.suffixes]
        if not path.exists():
            siblings = sorted(p.name for p in path.parent.iterdir() if p.is_file()) if path.parent.is_dir() else []
            tables = [name for name in siblings if ".csv" in name.lower() or ".parquet" in name.lower()]
            raise InputError(f"{source} does not exist: {near_names(path.name, [*tables, *SHIPPED])}")
        if path.is_dir():
            raise InputError(f"{source} is a folder, expected a .csv or .parquet file")
        if ".csv" not in suffixes[-2:] and suffixes[-1:] != [".parquet"]:
            raise InputError(f"{source} is no table that can be read: expected a .csv or .parquet file")
        try:
            if suffixes[-1] == ".parquet":
                frame, first_row = pd.read_parquet(path), 1
                if frame.index.name is not None:  # a time index is a column like any other
                    frame = frame.reset_index()
            else:
                frame, first_row = _read_csv(path), 2  # the header is row 1
        except pd.errors.EmptyDataError:
            raise InputError(f"{source} is empty") from None
        except (ValueError, OSError, EOFError, zlib.error, pd.errors.ParserError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise InputError(f"{source} cannot be read as a table: {reason}") from None
    # What pandas makes of a header: spaces are no part of a name, and a name that comes twice means neither.
    names = [str(name).strip() for name in frame.columns]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{source} has more than one column {name!r}: rename one")
    frame.columns = pd.Index(names)
    return frame, first_row


def _read_csv(path: Path) -> pd.DataFrame:
    import pandas as pd

    # Read once without a header, so that pandas renames no double name.
    header = pd.read_csv(path, header=None, nrows=1, dtype=str, encoding="utf-8-sig", keep_default_na=False)
    frame = pd.read_csv(
        path,
        header=None,
        skiprows=1,
        names=list(range(header.shape[1])),
        index_col=False,
        encoding="utf-8-sig",
        skipinitialspace=True,
        skip_blank_lines=False,
        low_memory=False,
    )
    frame.columns = pd.Index(header.iloc[0])
    # An editor's empty last line is no row.
    while len(frame) and frame.iloc[-1].isna().all():
        frame = frame.iloc[:-1]
    return frame


def _require_columns(source: str, frame: pd.DataFrame, names: Sequence[str]) -> None:
    for name in names:
        if name not in frame.columns:
            raise InputError(f"{source} has no column {name!r}: {near_names(name, map(str, frame.columns))}")


def _numbers(source: str, frame: pd.DataFrame, names: Sequence[str], first_row: int) -> Array:
    """Return columns as float64 ``(rows, columns)``, NaN where missing."""
    import pandas as pd

    values = np.empty((len(frame), len(names)))
    for column, name in enumerate(names):
        series = frame[name]
        if pd.api.types.is_datetime64_any_dtype(series) or pd.api.types.is_timedelta64_dtype(series):
            raise InputError(f"{source}: column {name!r} holds times, expected numbers")
        numbers = pd.to_numeric(series, errors="coerce")
        text = numbers.isna() & series.notna()
        if text.any():
            row = int(text.to_numpy().argmax())
            value = str(series.iloc[row])
            hint = ": write decimals with a point" if _number(value.replace(",", ".")) is not None else ""
            raise InputError(f"{source}: row {first_row + row}, column {name!r} is {value!r}, expected a number{hint}")
        values[:, column] = numbers.to_numpy(dtype=np.float64, na_value=np.nan)
        infinite = np.isinf(values[:, column])
        if infinite.any():
            row = int(infinite.argmax())
            raise InputError(f"{source}: row {first_row + row}, column {name!r} is infinite, expected a finite number")
    return values


def _times(source: str, series: pd.Series[Any], name: str, first_row: int) -> Array:
    """Return a time column as increasing numbers or datetime64[ns]."""
    import pandas as pd

    if series.isna().any():
        row = int(series.isna().to_numpy().argmax())
        raise InputError(f"{source}: row {first_row + row} has no time in column {name!r}")
    if pd.api.types.is_numeric_dtype(series) and not pd.api.types.is_bool_dtype(series):
        axis: Array = series.to_numpy()
    else:
        dates = pd.to_datetime(series, errors="coerce", utc=True, format="mixed" if series.dtype == object else None)
        if dates.isna().any():
            row = int(dates.isna().to_numpy().argmax())
            raise InputError(
                f"{source}: row {first_row + row}, column {name!r} is {str(series.iloc[row])!r}, expected a number or "
                "a date such as 2024-12-31"
            )
        axis = dates.dt.tz_localize(None).to_numpy().astype("datetime64[ns]")
    late = axis[1:] <= axis[:-1]
    if late.any():
        row = int(late.argmax()) + 1
        before, here = time_text(axis[row - 1 : row + 1])
        raise InputError(
            f"{source}: column {name!r} does not increase: row {first_row + row} has {here} after {before}; sort the "
            "table, and leave one row a time"
        )
    return axis


def _fill(source: str, values: Array, names: Sequence[str], fill: str | None, first_row: int, may_miss: int) -> Array:
    """Return values with the missing ones filled; the first ``may_miss`` columns may keep theirs."""
    missing = np.isnan(values)
    if fill is not None:
        import pandas as pd

        frame = pd.DataFrame(values)
        frame = frame.ffill() if fill == "forward" else frame.interpolate(method="linear", limit_area="inside")
        values = frame.to_numpy()
    left = np.isnan(values)
    if fill is None:
        left[:, :may_miss] = False
    if left.any():
        row, column = (int(i) for i in np.argwhere(left)[0])
        where = f"{source}: row {first_row + row}, column {names[column]!r} is missing"
        if fill is None:
            count = int(missing.sum())
            raise InputError(
                f"{where} ({count} missing value{'s' * (count > 1)} in all): set fill='forward' or "
                "fill='linear', or remove the rows"
            )
        reason = "no value comes before it" if fill == "forward" else "it has no neighbours on both sides"
        raise InputError(f"{where} and fill={fill!r} cannot fill it: {reason}; remove the row")
    return values


def _require_no_gap(source: str, values: Array, names: Sequence[str], first_row: int) -> None:
    missing = np.isnan(values)
    if missing.any():
        row, column = (int(i) for i in np.argwhere(missing)[0])
        raise InputError(
            f"{source}: row {first_row + row}, column {names[column]!r} is missing: every step needs every input"
        )


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _date(text: str) -> Any:
    import pandas as pd

    try:
        date = pd.Timestamp(text)
    except ValueError:
        return None
    if date is pd.NaT:
        return None
    return (date.tz_convert("UTC").tz_localize(None) if date.tzinfo else date).to_datetime64()
