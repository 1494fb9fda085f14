"""Columns as numbers and times: a number means what the file says, and a code for something else is refused."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from retrograd.errors import InputError
from retrograd.tables import ReadOptions, TimeOptions, read_later, read_series, read_table
from retrograd.tables.time_axis import time_text

# --- numbers mean what they say ---

GERMAN_DAYS = ["31.12.2023", "01.01.2024", "02.01.2024", "03.01.2024"]


def numbers_in(folder: Path, text: str, time: str = "day", **options: Any) -> tuple[list[str], list[float]]:
    path = folder / "a.csv"
    path.write_text(text, encoding="utf-8")
    axis = TimeOptions(date_format=options.pop("date_format", None))
    table = read_table(
        str(path), targets=["y"], time=time, missing_targets=True, file=ReadOptions(**options), axis=axis
    )
    return time_text(table.time), table.targets[:, 0].tolist()


def test_a_point_between_thousands_leaves_german_dates_alone(tmp_path: Path) -> None:
    rows = zip(GERMAN_DAYS, ["12.345,5", "999", "1.234", "-1.000.000,25"], strict=True)
    times, values = numbers_in(tmp_path, "day;y\n" + "\n".join(map(";".join, rows)) + "\n")
    assert times == ["2023-12-31", "2024-01-01", "2024-01-02", "2024-01-03"]
    assert values == [12345.5, 999, 1234, -1000000.25]


@pytest.mark.parametrize("sign", [",", ".", " ", "'", "\u2019", "\u00a0", "\u202f"])
def test_whole_numbers_with_thousands(sign: str, tmp_path: Path) -> None:
    values = [f"1{sign}234{sign}56{k}" for k in range(4)]
    text = "day;y\n" + "".join(f"2024-01-0{k + 1};{value}\n" for k, value in enumerate(values))
    assert numbers_in(tmp_path, text)[1] == [1234560, 1234561, 1234562, 1234563]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["1,234.50", "1,5", "2,000.25", "7.5"], r"row 3, column 'y' is '1,5', expected a number"),
        (["2,5", "1.5", "3,25", "4,5"], r"row 3, column 'y' is '1.5', .*: decimals come after a comma in this file"),
        (["5.006", "5.157", "5.341", "999"], r"'5.006', whose point may stand before decimals or between thousands"),
        (["5.5", "5.5", "1,500,000", "12,34,567"], r"row 5, column 'y' is '12,34,567', expected a number"),
    ],
)
def test_numbers_that_can_be_two_are_none(cells: list[str], message: str, tmp_path: Path) -> None:
    text = "day;y\n" + "".join(f"2024-01-0{k + 1};{value}\n" for k, value in enumerate(cells))
    with pytest.raises(InputError, match=message):
        numbers_in(tmp_path, text)


def test_month_and_year_beside_decimal_commas_are_no_number(tmp_path: Path) -> None:
    text = "day;y\n" + "".join(f"01.{year};{year % 10},5\n" for year in range(2001, 2006))
    assert numbers_in(tmp_path, text, decimal=",")[0] == [f"{year}-01-01" for year in range(2001, 2006)]


# --- codes ---


@pytest.mark.parametrize("code", ["-999", "-99.9", "9999", "-32768", "9.96921e36", "1e20"])
def test_a_number_that_stands_for_a_missing_value(code: str, tmp_path: Path) -> None:
    cells = ["21.5", code, "20.25", code, "22.5", "21"]
    text = "day,y\n" + "".join(f"2024-01-0{k + 1},{value}\n" for k, value in enumerate(cells))
    with pytest.raises(InputError, match=r"column 'y' is \S+ in row 3 and 1 more, far from all other.*set na='"):
        numbers_in(tmp_path, text)
    got = np.array(numbers_in(tmp_path, text, na=(code,))[1])
    np.testing.assert_array_equal(got, [21.5, np.nan, 20.25, np.nan, 22.5, 21])
    assert numbers_in(tmp_path, text, na=("none",))[1][1] == float(code)


@pytest.mark.parametrize(
    "cells", [["998", "999", "1000", "997"], ["0", "-99", "120", "-50"], ["9999"] * 4, ["9", "99", "11", "7"]]
)
def test_a_value_among_others_is_no_code(cells: list[str], tmp_path: Path) -> None:
    text = "day,y\n" + "".join(f"2024-01-0{k + 1},{value}\n" for k, value in enumerate(cells))
    assert numbers_in(tmp_path, text)[1] == list(map(float, cells))


def test_codes_of_parquet_are_named_too(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pd.DataFrame({"y": [1.0, -999.0, 2.0, 3.0]}).to_parquet(path)
    read = partial(read_table, str(path), targets=["y"], missing_targets=True)
    with pytest.raises(InputError, match="set na='-999'"):
        read()
    assert np.isnan(read(file=ReadOptions(na=("-999",))).targets[1, 0])


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (["202451", "202452", "202501", "202502"], r"can be weeks: give date_format='%G%V'"),
        (["2023364", "2023365", "2024001"], r"can be days of a year: give date_format='%Y%j'"),
        (["20231", "20232", "20233", "20234", "20241"], r"can be quarters: write them like 2024Q1"),
        (["2023.11", "2023.12", "2024.01"], r"can be months: write them like 2024-01"),
        (["2023.3", "2023.4", "2024.1"], r"can be quarters"),
        (["1.2024", "2.2024", "3.2024"], r"can be months"),
    ],
)
def test_a_part_of_a_year_is_no_number(times: list[str], message: str, tmp_path: Path) -> None:
    text = "day,y\n" + "".join(f"{time},{k}.5\n" for k, time in enumerate(times))
    with pytest.raises(InputError, match=message):
        numbers_in(tmp_path, text)
    assert len(numbers_in(tmp_path, text, date_format="number")[1]) >= len(times)


@pytest.mark.parametrize("days", ["2023-10-28", "2023-10-29"])
def test_an_hour_that_comes_twice_is_told_by_its_order(days: str, tmp_path: Path) -> None:
    times = pd.date_range(days, periods=30, freq="h", tz="Europe/Berlin")
    text = "day,y\n" + "".join(f"{time:%Y-%m-%d %H:%M},{k}.5\n" for k, time in enumerate(times))
    path = tmp_path / "a.csv"
    path.write_text(text)
    table = read_table(str(path), targets=["y"], time="day", axis=TimeOptions(time_zone="Europe/Berlin"))
    assert table.time.tolist() == times.tolist()


def test_two_years_in_one_are_no_month(tmp_path: Path) -> None:
    text = "day,y\n" + "".join(f"{year}/{year % 100 + 1:02d},1.5\n" for year in range(2001, 2009))
    with pytest.raises(InputError, match=r"'2001/02', a month, or two years: set date_format='%Y/%m'"):
        numbers_in(tmp_path, text)


@pytest.mark.parametrize(("name", "kept"), [("hours of the day", range(9, 18)), ("days of the week", range(24))])
def test_hours_that_never_have_a_row_are_not_forecast(name: str, kept: range, tmp_path: Path) -> None:
    hours = pd.date_range("2024-01-01", periods=24 * 35, freq="h")
    hours = hours[hours.hour.isin(kept) & ((hours.dayofweek < 5) | (len(kept) < 24))]
    path = tmp_path / "a.csv"
    path.write_text("day,y\n" + "".join(f"{time},1.5\n" for time in hours))
    read = partial(read_table, str(path), targets=["y"], time="day", missing_targets=True)
    with pytest.raises(InputError, match=f"goes on by every hour, but some {name} never have a row.*give freq"):
        read()
    assert read(axis=TimeOptions(freq="h")).absent > 0


def test_weeks_and_days_of_a_year_are_read_where_that_is_said(tmp_path: Path) -> None:
    weeks = "day,y\n202051,1\n202052,2\n202053,3\n202101,4\n"
    assert numbers_in(tmp_path, weeks, date_format="%G%V")[0][-2:] == ["2020-12-28", "2021-01-04"]
    days = "day,y\n2023364,1\n2023365,2\n2024001,3\n"
    assert numbers_in(tmp_path, days, date_format="%Y%j")[0] == ["2023-12-30", "2023-12-31", "2024-01-01"]


# --- names of series ---


@pytest.mark.parametrize("kind", [".csv", ".xlsx", ".parquet"])
def test_names_of_series_are_text(kind: str, tmp_path: Path) -> None:
    frame = pd.DataFrame({
        "shop": ["007"] * 3 + ["7"] * 3 + ["7 "],
        "day": [1, 2, 3, 1, 2, 3, 4],
        "y": np.arange(7.0),
    })  # fmt: skip
    path = tmp_path / f"a{kind}"
    getattr(frame, {".csv": "to_csv", ".xlsx": "to_excel", ".parquet": "to_parquet"}[kind])(path, index=False)
    found = read_series(str(path), series="shop", targets=["y"], time="day")
    assert {name: table.targets[:, 0].tolist() for name, table in found.items()} == {
        "007": [0, 1, 2],
        "7": [3, 4, 5, 6],
    }
    axes = {name: table.axis for name, table in found.items()}
    frame.assign(day=frame["day"] + 3)[:3].to_csv(tmp_path / "later.csv", index=False)
    later = read_later(str(tmp_path / "later.csv"), ["y"], axes, series="shop")
    assert {name: each.values[:, 0].tolist() for name, each in later.items()} == {"007": [0, 1, 2]}


@pytest.mark.parametrize(("freq", "what"), [("MS", "months"), ("QS", "quarters"), ("YS", "years")])
@pytest.mark.parametrize("unit", [1, 86_400, 86_400_000])
def test_a_calendar_counted_in_days_or_seconds_is_to_be_written_as_dates(
    freq: str, what: str, unit: int, tmp_path: Path
) -> None:
    times = pd.date_range("2020-01-01", periods=12, freq=freq)
    days = (times - pd.Timestamp("1899-12-30")).days * unit
    text = "day,y\n" + "".join(f"{time},{k}.5\n" for k, time in enumerate(days))
    with pytest.raises(InputError, match=f"can be {what} counted in days or seconds: write them as dates"):
        numbers_in(tmp_path, text)
    weeks = "day,y\n" + "".join(f"{45000 + 7 * k},{k}.5\n" for k in range(9))
    assert numbers_in(tmp_path, weeks)[0][-1] == "45056"


def test_numbers_without_a_step(tmp_path: Path) -> None:
    text = "day,y\n" + "".join(f"{3**k},{k}.5\n" for k in range(9))
    with pytest.raises(InputError, match="write numbers that count days or seconds of a calendar as dates"):
        numbers_in(tmp_path, text)
