"""`retrograd compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cli.tank import FIT, fitted, retrograd, run
from retrograd.estimators import StateSpace

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
