"""`retrograd compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cli.tank import FIT, fitted, retrograd, run
from retrograd.estimators import Forecaster, StateSpace

__all__ = ["fitted", "retrograd", "run"]  # fixtures


def test_compare(retrograd: Any, run: Path, tmp_path: Path) -> None:
    assert retrograd("fit", "tank.csv", *FIT, "--order", "2", "--out", "second").code == 0
    ran = retrograd("compare", "run", "second", "tank.csv", "--rows", "101:200", "--out", "both.png")
    assert ran.code == 0
    table = pd.read_csv(tmp_path / "tank.csv").iloc[100:200]
    percent = StateSpace.load(run).fit_percent(table[["flow"]].to_numpy(), table[["level"]].to_numpy())[0]
    assert f"{percent:.2f}" in ran.out
    assert (tmp_path / "both.png").read_bytes()[:4] == b"\x89PNG"


def test_the_page_holds_any_models_against_the_data(retrograd: Any, run: Path, tmp_path: Path) -> None:
    table = pd.read_csv(tmp_path / "tank.csv")
    table["twice"] = 2 * table["level"] + np.random.default_rng(1).standard_normal(len(table))
    table.to_csv(tmp_path / "tank.csv", index=False)
    other = ["--target", "twice", "--inputs", "flow", "--model", "state-space", "--noise", "innovations"]
    assert retrograd("fit", "tank.csv", *other, "--order", "1", "--out", "other").code == 0
    compared = ("compare", "run", "other", "tank.csv", "--steps-ahead", "3", "--time", "hour")
    ran = retrograd(*compared, "--out", "page.html")
    assert ran.code == 0, ran.err
    data = table.iloc[:200]
    model = StateSpace.load(tmp_path / "other")
    predicted = model.predict(data[["flow"]].to_numpy(), data[["twice"]].to_numpy(), 3)[:, 0]
    assert f"{np.sqrt(np.mean((predicted - data['twice']) ** 2)):.4g}" in ran.out
    page = (tmp_path / "page.html").read_text()
    for text in ("run, other against tank", "3 steps ahead", "run: level", "other: twice", "order 1, innovations"):
        assert text in page
    refused = retrograd(*compared, "--out", "picture.svg")
    assert refused.code == 2
    assert "run and other have other inputs or outputs" in refused.err
    assert not (tmp_path / "picture.svg").exists()


def test_data_that_say_too_little(retrograd: Any, run: Path, tmp_path: Path) -> None:
    table = pd.read_csv(tmp_path / "tank.csv").iloc[:30]
    table.assign(level=7.0).to_csv(tmp_path / "flat.csv", index=False)
    ran = retrograd("compare", "run", "flat.csv")
    assert ran.code == 0
    assert "–" in ran.out  # no spread to be a percentage of
    assert "nan" not in ran.out
    table.assign(level=np.where(np.arange(30) == 9, 20.0, np.nan)).iloc[:10].to_csv(tmp_path / "one.csv", index=False)
    ran = retrograd("compare", "run", "one.csv")
    assert ran.code == 2
    assert "one.csv has 1 measured outputs there, run needs more than its 1 states" in ran.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run",), "compare wants at least one run folder and one table"),
        (("run", "sunspots"), "sunspots has no column 'level'"),
        (("run", "tank.csv", "--rows", "50:20"), "--rows is '50:20', expected A:B with 1 <= A < B <= 200"),
        (("run", "tank.csv", "--rows", "7:7"), "--rows is '7:7', expected A:B"),
        (("run", "tank.csv", "--out", "a.txt"), "--out a.txt is no page and no picture"),
        (("tank.csv", "run"), "tank.csv is a file, expected a folder that holds a model"),
        (("run", "tank.csv", "--steps-ahead", "0"), "--steps-ahead is 0, expected a whole number of at least 1"),
    ],
)
def test_compare_refuses(retrograd: Any, run: Path, arguments: tuple[str, ...], message: str) -> None:
    ran = retrograd("compare", *arguments)
    assert ran.code == 2
    assert message in ran.err


def write_wave() -> None:
    t, random = np.arange(100), np.random.default_rng(0)
    pd.DataFrame({"y": 5 + np.sin(t / 3) + 0.1 * random.standard_normal(100)}).to_csv("wave.csv", index=False)


def test_a_forecaster_is_judged_by_its_predictions(retrograd: Any, tmp_path: Path) -> None:
    write_wave()
    options = ("--model", "forecaster", "--lags", "6", "--horizon", "3", "--out", "run")
    assert retrograd("fit", "wave.csv", "--target", "y", *options).code == 0
    ran = retrograd("compare", "run", "wave.csv", "--steps-ahead", "3", "--out", "page.html")
    assert ran.code == 0, ran.err
    y = pd.read_csv("wave.csv")[["y"]].to_numpy()
    forecasts = Forecaster.load("run").backtest(y, start=6, fh=[3])[:, 0, 0]
    assert f"{np.sqrt(np.mean((forecasts - y[8:, 0]) ** 2)):.4g}" in ran.out
    assert "Free run" not in Path("page.html").read_text()
    short = retrograd("compare", "run", "wave.csv", "--rows", "1:6")
    assert short.code == 2
    assert "the data have 6 rows there, run needs 7: 6 to look back at, 1 ahead" in short.err


@pytest.mark.slow
def test_runs_of_every_kind_stand_beside_each_other(retrograd: Any, tmp_path: Path) -> None:
    write_wave()
    fit = ("fit", "wave.csv", "--target", "y", "--horizon", "3", "--out")
    for name, options in (
        ("auto", ("--test", "0")),
        ("recurrent", ("--model", "recurrent", "--hidden", "3", "--epochs", "40")),
        ("system", ("--model", "state-space", "--order", "2", "--noise", "innovations")),
    ):
        assert retrograd(*fit, name, *options).code == 0
    runs = ("auto", "recurrent", "system")
    for ahead in ("1", "3"):
        ran = retrograd("compare", *runs, "wave.csv", "--steps-ahead", ahead)
        assert ran.code == 0, ran.err
        assert all(name in ran.out for name in runs)
    assert retrograd("compare", "auto", "system", "wave.csv", "--out", "both.png").code == 0
    far = retrograd("compare", "auto", "wave.csv", "--steps-ahead", "4")
    assert far.code == 2
    assert "--steps-ahead is 4, but auto was fitted for 3 steps" in far.err
