"""Lines that are not what they seem, in texts and workbooks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from retrograd.errors import InputError
from retrograd.tables import ReadOptions, read_table

ROWS = [("2024-01-01", 5.5), ("2024-01-02", 6.5), ("2024-01-03", 7.5), ("2024-01-04", 8.5)]


def read(folder: Path, kind: str, lines: list[tuple[Any, ...]], **options: Any) -> list[float]:
    path = folder / f"a{kind}"
    if kind == ".xlsx":
        pd.DataFrame(lines).to_excel(path, header=False, index=False)
    else:
        pd.DataFrame(lines).to_csv(path, header=False, index=False)
    table = read_table(str(path), targets=[options.pop("target", "y")], file=ReadOptions(**options))
    return table.targets[:, 0].tolist()


@pytest.mark.parametrize("kind", [".csv", ".xlsx"])
def test_lines_that_are_no_rows(kind: str, tmp_path: Path) -> None:
    head, values = ("day", "y"), [5.5, 6.5, 7.5, 8.5]
    assert read(tmp_path, kind, [head, *ROWS]) == values
    titled: list[tuple[Any, ...]] = [("Sales", None), ("of a shop", None), head, *ROWS]
    with pytest.raises(InputError, match="the names of the columns stand in row 3: give skip_rows=2"):
        read(tmp_path, kind, titled)
    assert read(tmp_path, kind, titled, skip_rows=2) == values
    with pytest.raises(InputError, match=r"the first line \('2024-01-01', '5.5'\) has data, expected the names"):
        read(tmp_path, kind, [*ROWS], target="5.5")
    for label, shown in (("Total", "'Total'"), (None, "nothing")):
        with pytest.raises(InputError, match=f"row 6, the last one, has {shown} in column 'day', unlike the rows"):
            read(tmp_path, kind, [head, *ROWS, (label, 28.0)])


def test_a_table_with_its_times_across_is_to_be_turned(tmp_path: Path) -> None:
    lines: list[tuple[Any, ...]] = [("year", 2001, 2002), ("price", 1.5, 2.5), ("sales", 2.5, 3.5), ("staff", 5, 6)]
    for kind in (".csv", ".xlsx"):
        with pytest.raises(InputError, match=r"'sales' is no column, but begins row 3: .* \(transpose it\)"):
            read(tmp_path, kind, lines, target="sales")


def test_names_may_be_numbers_and_last_rows_may_lack_values(tmp_path: Path) -> None:
    lines: list[tuple[Any, ...]] = [("day", 2024), *ROWS]
    assert read(tmp_path, ".xlsx", lines, target="2024") == [5.5, 6.5, 7.5, 8.5]
    years: list[tuple[Any, ...]] = [(2022, 2023, 2024), (1, 2, 3), (4, 5, 6), (7, 8, 9)]
    assert read(tmp_path, ".csv", years, target="2023") == [2, 5, 8]
    notes: list[tuple[Any, ...]] = [("note", "y"), ("room 1", 1.5), ("hall", 2.5), ("room 2", 3.5), ("yard", 4.5)]
    assert read(tmp_path, ".csv", notes) == [1.5, 2.5, 3.5, 4.5]
    lagging: list[tuple[Any, ...]] = [("x", "y"), ("a", 1.5), ("b", 2.5), ("a", 3.5), (None, 4.5)]
    assert read(tmp_path, ".csv", lagging) == [1.5, 2.5, 3.5, 4.5]


def test_a_spreadsheets_own_line_and_empty_lines_before_the_header(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("sep=;\n\nday;y\n2024-01-01;1,5\n2024-01-02;2,5\n2024-01-03;x\n")
    with pytest.raises(InputError, match="row 6, column 'y' is 'x'"):
        read_table(str(path), targets=["y"])
    path.write_text(path.read_text().replace("x", "3,5"))
    assert read_table(str(path), targets=["y"], time="day").targets[:, 0].tolist() == [1.5, 2.5, 3.5]


@pytest.mark.parametrize(("kind", "option"), [(".csv", "sheet"), (".xlsx", "sep"), (".xlsx", "encoding")])
def test_what_a_file_has_not_is_not_said_of_it(kind: str, option: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"{option} is 'x', but .*a{kind} has none"):
        read(tmp_path, kind, [("day", "y"), *ROWS], **{option: "x"})


def test_levels_of_the_index_of_parquet_are_columns(tmp_path: Path) -> None:
    frame = pd.DataFrame(ROWS, columns=["day", "y"]).assign(shop="a").set_index(["shop", "day"])
    frame.to_parquet(tmp_path / "a.parquet")
    assert read_table(str(tmp_path / "a.parquet"), targets=["y"], time="day").steps == 4
