"""Tables in: what is read, and one clear line for everything that cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from retrograd.errors import InputError
from retrograd.tables.read import Table, TimeOptions, read_inputs, read_table, split_index
from retrograd.tables.scale import Scaling
from retrograd.tables.step import Step
from retrograd.tables.time_axis import TimeAxis, time_text

ROWS = [f"2024-01-{day:02},{day * 1.5},{day % 3}" for day in range(1, 11)]


def written(folder: Path, rows: list[str], header: str = "day,sales,price", name: str = "shop.csv") -> str:
    path = folder / name
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return str(path)


def read(source: str, **options: Any) -> Table:
    return read_table(source, **{"targets": ["sales"], "time": "day", **options})


# --- what is read ---


def test_the_shipped_sunspots_are_whole() -> None:
    table = read_table("sunspots", targets=["sunspots"], time="year")
    assert table.time.tolist() == list(range(1700, 2009))
    assert (table.steps, table.future, table.filled) == (309, 0, 0)
    # The largest of all cycles had its maximum in 1957.
    assert (table.time[table.targets.argmax()], table.targets.max()) == (1957, 190.2)


def test_a_file_of_that_name_comes_before_the_shipped_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sunspots").write_text("a\n1\n")
    with pytest.raises(InputError, match=r"sunspots is no table that can be read: expected .csv"):
        read_table("sunspots", targets=["sunspots"])


def test_columns_dates_and_inputs(tmp_path: Path) -> None:
    table = read(written(tmp_path, ROWS), inputs=["price"])
    assert time_text(table.time)[:2] == ["2024-01-01", "2024-01-02"]
    np.testing.assert_array_equal(table.targets[:, 0], 1.5 * np.arange(1, 11))
    np.testing.assert_array_equal(table.inputs[:, 0], np.arange(1, 11) % 3)


def test_without_a_time_column_steps_count_from_one(tmp_path: Path) -> None:
    table = read(written(tmp_path, ROWS), time=None)
    assert table.time_label == "step"
    assert table.time.tolist() == list(range(1, 11))


def test_last_rows_with_inputs_alone_are_the_known_future(tmp_path: Path) -> None:
    source = written(tmp_path, [*ROWS, "2024-01-11,,5", "2024-01-12,,6"])
    table = read(source, inputs=["price"])
    assert (table.steps, table.future) == (10, 2)
    assert table.inputs[10:, 0].tolist() == [5, 6]
    with pytest.raises(InputError, match=r"row 12, column 'sales' is missing \(2 missing values in all\)"):
        read(source)


@pytest.mark.parametrize("name", ["same.parquet", "same.csv.gz"])
def test_other_formats_hold_the_same(tmp_path: Path, name: str) -> None:
    source = written(tmp_path, ROWS)
    frame = pd.read_csv(source, parse_dates=["day"])
    path = tmp_path / name
    frame.to_parquet(path) if name.endswith("parquet") else frame.to_csv(path, index=False)
    want, got = read(source, inputs=["price"]), read(str(path), inputs=["price"])
    np.testing.assert_array_equal(got.time, want.time)
    np.testing.assert_array_equal(got.targets, want.targets)
    np.testing.assert_array_equal(got.inputs, want.inputs)


def test_a_parquet_time_index_is_a_column(tmp_path: Path) -> None:
    frame = pd.read_csv(written(tmp_path, ROWS), parse_dates=["day"]).set_index("day")
    frame.to_parquet(tmp_path / "indexed.parquet")
    assert time_text(read(str(tmp_path / "indexed.parquet")).time)[0] == "2024-01-01"


def test_what_editors_leave_behind_is_tolerated(tmp_path: Path) -> None:
    path = tmp_path / "excel.csv"
    path.write_text("\ufeffday , sales,price\r\n" + "\r\n".join(ROWS) + "\r\n\r\n", encoding="utf-8")
    assert read(str(path)).steps == 10


@pytest.mark.parametrize(("fill", "value"), [("forward", 4.5), ("linear", 6.0)])
def test_missing_values_are_filled_when_asked(tmp_path: Path, fill: str, value: float) -> None:
    rows = [*ROWS[:3], "2024-01-04,,1", *ROWS[4:]]
    table = read(written(tmp_path, rows), fill=fill)
    assert table.targets[3, 0] == value
    assert table.filled == 1


# --- what is refused ---

BAD: dict[str, tuple[list[str], str, dict[str, Any], str]] = {
    "near column": (ROWS, "", {"targets": ["sale"]}, r"no column 'sale': did you mean 'sales'\? There are: day, sales"),
    "time column": (ROWS, "", {"time": "date"}, r"no column 'date'"),
    "twice": (ROWS, "", {"inputs": ["sales"]}, r"column 'sales' is asked for twice"),
    "double header": (ROWS, "day,sales,sales", {}, r"more than one column 'sales'"),
    "text": ([*ROWS[:4], "2024-01-05,lots,1"], "", {}, r"row 6, column 'sales' is 'lots', expected a number$"),
    "comma": (
        [*ROWS[:4], '2024-01-05,"3,5",1'],
        "",
        {},
        r"row 6.*'3,5', expected a number: give decimal=','",
    ),
    "infinite": ([*ROWS[:4], "2024-01-05,inf,1"], "", {}, r"row 6, column 'sales' is infinite"),
    "missing": ([*ROWS[:4], "2024-01-05,,1", *ROWS[5:]], "", {}, r"row 6, column 'sales' is missing .*fill='forward'"),
    "first": (["2024-01-01,,1", *ROWS[1:]], "", {"fill": "forward"}, r"row 2.*no value comes before it"),
    "last": ([*ROWS[:9], "2024-01-10,,1"], "", {"fill": "linear"}, r"row 11.*no neighbours on both sides"),
    "fill": (ROWS, "", {"fill": "zero"}, r"fill is 'zero': there are: forward, linear"),
    "order": ([ROWS[1], ROWS[0], *ROWS[2:]], "", {}, r"'day' does not increase: row 3 has 2024-01-01 after 2024-01-02"),
    "no time": ([*ROWS[:4], ",5,1", *ROWS[5:]], "", {}, r"column 'day': row 6 has no time"),
    "no date": ([*ROWS[:4], "soon,5,1", *ROWS[5:]], "", {}, r"column 'day': row 6 is 'soon', expected a number or a"),
    "no rows": ([], "", {}, r"has no rows of data, expected at least 3"),
    "one row": (ROWS[:1], "", {}, r"has 1 row of data, expected at least 3"),
    "future": ([*ROWS, "2024-01-11,,"], "", {"inputs": ["price"]}, r"row 12, column 'sales' is missing"),
    "times": (ROWS, "", {"targets": ["day"], "time": None}, r"row 2, column 'day' is '2024-01-01', expected a number"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_tables_are_named(tmp_path: Path, case: str) -> None:
    rows, header, options, message = BAD[case]
    with pytest.raises(InputError, match=message):
        read(written(tmp_path, rows, header or "day,sales,price"), **options)


def test_bad_files_are_named(tmp_path: Path) -> None:
    written(tmp_path, ROWS)
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "wrong.parquet").write_text("no parquet")
    (tmp_path / "bytes.csv").write_bytes(b"day,sales\n\xff\xfe\x00,1\n")
    (tmp_path / "folder.csv").mkdir()
    for name, message in {
        "shops.csv": r"shops.csv does not exist: did you mean 'shop.csv'",
        "empty.csv": r"empty.csv is empty",
        "wrong.parquet": r"wrong.parquet is no .parquet file by its content",
        "bytes.csv": r"bytes.csv: row 2 is not UTF-8 text: give encoding",
        "folder.csv": r"folder.csv is a folder",
        "notes.txt": r"notes.txt does not exist",
    }.items():
        with pytest.raises(InputError, match=message):
            read(str(tmp_path / name))


def test_inputs_alone_must_be_whole(tmp_path: Path) -> None:
    assert read_inputs(written(tmp_path, ROWS), ["price"]).values[:, 0].tolist() == [day % 3 for day in range(1, 11)]
    with pytest.raises(InputError, match=r"row 4, column 'price' is missing: every step needs every input"):
        read_inputs(written(tmp_path, [*ROWS[:2], "2024-01-03,1,", *ROWS[3:]]), ["price"])


# --- the axis ---


def series(time: Any) -> Table:
    return Table("t", "day", pd.Index(time), ["y"], np.zeros((len(time), 1)), [], np.zeros((len(time), 0)))


DAYS = np.arange("2024-01-01", "2024-01-11", dtype="datetime64[D]").astype("datetime64[ns]")


@pytest.mark.parametrize(
    ("time", "test", "start"),
    [
        (DAYS, "0", 10),
        (DAYS, "0.3", 7),
        (DAYS, "2024-01-04", 3),
        (DAYS, "2024-01-03 12:00", 3),
        (np.arange(1700, 1710), "1705", 5),
        (np.arange(1700, 1710), "1704.5", 5),
        (np.arange(1, 11), "4", 3),
    ],
)
def test_where_the_held_out_part_starts(time: Any, test: str, start: int) -> None:
    assert split_index(series(time), test) == start


@pytest.mark.parametrize(
    ("time", "test", "message"),
    [
        (DAYS, "soon", r"test is 'soon', expected a fraction below 1, or a date on the axis 'day'"),
        (np.arange(10), "soon", r"or a number on the axis 'day'"),
        (DAYS, "2025-01-01", r"expected day after 2024-01-01 and up to 2024-01-10"),
        (np.arange(1700, 1710), "1700", r"expected day after 1700 and up to 1709"),
        (DAYS, "0.9", r"leaves 1 step to train on, expected at least 3"),
        (DAYS, "0.01", r"holds out none of 10 steps"),
        (DAYS, "-0.1", r"test"),
        (DAYS, "nan", r"test"),
    ],
)
def test_a_bad_split_is_named(time: Any, test: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        split_index(series(time), test)


def test_a_gap_is_refused_filled_or_missing(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("day,u,y\n2024-01-31,1,1\n2024-02-29,2,2\n2024-04-30,4,4\n2024-05-31,5,5\n")
    with pytest.raises(InputError, match=r"lacks a step, going by every month, at its end: 2024-03-31; put"):
        read_table(str(path), targets=["y"], time="day")
    filled = read_table(str(path), targets=["y"], inputs=["u"], time="day", fill="linear")
    assert time_text(filled.time)[2] == "2024-03-31"
    assert filled.targets[:, 0].tolist() == filled.inputs[:, 0].tolist() == [1, 2, 3, 4, 5]
    assert filled.absent == 1
    missing = read_table(str(path), targets=["y"], time="day", missing_targets=True)
    np.testing.assert_array_equal(missing.targets[:, 0], [1, 2, np.nan, 4, 5])
    with pytest.raises(InputError, match="lacks a step"):
        read_table(str(path), targets=["y"], inputs=["u"], time="day", missing_targets=True)


def test_rows_out_of_order_are_sorted_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("t,y\n1,1\n3,3\n2,2\n4,4\n")
    with pytest.raises(InputError, match=r"does not increase: row 4 has 2 after 3; sort puts the rows in order"):
        read_table(str(path), targets=["y"], time="t")
    assert read_table(str(path), targets=["y"], time="t", axis=TimeOptions(sort=True)).targets[:, 0].tolist() == [
        1,
        2,
        3,
        4,
    ]
    path.write_text("t,y\n1,1\n2,3\n2,2\n4,4\n")
    with pytest.raises(InputError, match=r"has 2 twice, in rows 3 and 4: leave one row a time"):
        read_table(str(path), targets=["y"], time="t", axis=TimeOptions(sort=True))


def test_many_series_in_one_column_are_told_by_their_times(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,t,y\n" + "".join(f"{name},{t},{t}\n" for name in "ab" for t in range(1, 5)))
    with pytest.raises(InputError, match=r"has 1 twice, in rows 2 and 6: .* that tells them apart by series"):
        read_table(str(path), targets=["y"], time="t")


def test_irregular_stamps_are_refused_or_resampled(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    times = pd.Timestamp("2024-01-01") + pd.to_timedelta(np.sort(draw.integers(0, 86400 * 20, 400)), "s")
    path = tmp_path / "t.csv"
    pd.DataFrame({"t": times, "y": np.arange(400.0)}).to_csv(path, index=False)
    with pytest.raises(InputError, match=r"column 't': .* follow no step .* give freq, .* or resample"):
        read_table(str(path), targets=["y"], time="t")
    table = read_table(str(path), targets=["y"], time="t", axis=TimeOptions(resample="D"))
    assert table.steps == 20
    assert str(table.step) == "every day"
    assert table.targets[0, 0] == np.arange(400.0)[times < "2024-01-02"].mean()
    with pytest.raises(InputError, match=r"resample is 'foo', expected a pandas frequency"):
        read_table(str(path), targets=["y"], time="t", axis=TimeOptions(resample="foo"))


def test_inputs_of_the_future_are_found_by_time(tmp_path: Path) -> None:
    path = tmp_path / "u.csv"
    path.write_text("day,u\n" + "".join(f"2024-01-{day:02d},{day}\n" for day in range(1, 31)))
    axis = TimeAxis("day", pd.Timestamp("2024-01-20"), Step("day"), pd.DatetimeIndex([]))
    found = read_inputs(str(path), ["u"], time="day")
    assert found.ahead(axis, 3, "u.csv")[:, 0].tolist() == [21, 22, 23]
    assert found.ahead(axis, None, "u.csv")[:, 0].tolist() == list(range(21, 31))
    with pytest.raises(InputError, match=r"u.csv has no row at 2024-01-31: each step to forecast needs its inputs"):
        found.ahead(axis, 12, "u.csv")
    bare = read_inputs(str(path), ["u"])
    with pytest.raises(InputError, match=r"u.csv has 30 rows, the forecast 3 steps"):
        bare.ahead(axis, 3, "u.csv")
    assert len(bare.ahead(axis, 30, "u.csv")) == 30


def test_an_axis_is_kept_in_a_file() -> None:
    for times in (
        pd.date_range("2024-01-15", periods=3, freq="D"),
        pd.date_range("2024-03-30", periods=3, freq="D", tz="Europe/Berlin"),
        pd.period_range("2024-01", periods=3, freq="M"),
        pd.Index([1, 3, 5]),
        pd.Index([0.5, 1.0, 1.5]),
    ):
        axis = TimeAxis("t", times[0], Step.find(times), times[1:])
        back = TimeAxis.from_record(json.loads(json.dumps(axis.record())))
        assert list(back.ahead(4)) == list(axis.ahead(4))
        assert back.record() == axis.record()
    old = {"label": "t", "dtype": "datetime64[ns]", "recent": ["2024-01-31", "2024-02-29", "2024-03-31"], "known": []}
    assert time_text(TimeAxis.from_record(old).ahead(1)) == ["2024-04-30"]


# --- scaling ---


@given(arrays(np.float64, (6, 2), elements=st.floats(-1e6, 1e6, width=32)))
def test_scaling_is_undone_exactly_enough_and_changes_no_input(values: np.ndarray[Any, Any]) -> None:
    if (np.ptp(values, axis=0) < 1e-3).any():
        return
    before = values.copy()
    scaling = Scaling.fit(values, ["a", "b"])
    scaled = scaling.apply(values)
    np.testing.assert_allclose(scaled.std(axis=0), 1, rtol=1e-9)
    np.testing.assert_allclose(scaling.invert(scaled), values, rtol=0, atol=8 * np.finfo(float).eps * 1e6)
    np.testing.assert_array_equal(values, before)


def test_a_constant_column_is_named() -> None:
    with pytest.raises(InputError, match=r"inputs b is constant \(5\) in the training part, rows 1 to 4"):
        Scaling.fit(np.array([[0.0, 5], [1, 5], [2, 5], [3, 5]]), ["a", "b"], "inputs")


def test_missing_targets_may_stay_missing_inputs_may_not(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("u,y\n1,2\n2,\n3,4\n4,5\n")
    table = read_table(str(path), targets=["y"], inputs=["u"], missing_targets=True)
    assert np.array_equal(table.targets[:, 0], [2, np.nan, 4, 5], equal_nan=True)
    assert table.filled == 0
    assert read_table(str(path), targets=["y"], fill="linear", missing_targets=True).targets[1, 0] == 3
    path.write_text("u,y\n1,2\n,3\n3,4\n4,5\n")
    with pytest.raises(InputError, match="row 3, column 'u' is missing"):
        read_table(str(path), targets=["y"], inputs=["u"], missing_targets=True)


def test_a_target_without_a_value_is_named(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("y,z\n,1\n,2\n,3\n")
    with pytest.raises(InputError, match=r"d.csv: column 'y' is missing throughout: leave it out"):
        read_table(str(path), targets=["z", "y"], missing_targets=True)
