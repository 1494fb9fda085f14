"""A tank whose level follows its inflow, and a run of `retrograd fit --model state-space` on it."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cli.command import call, retrograd

__all__ = ["FIT", "fitted", "retrograd", "run", "write_table"]

FIT = ("--target", "level", "--inputs", "flow", "--time", "hour", "--model", "state-space")


def write_table(path: Path, rows: int = 200, future: int = 0, **columns: Any) -> Path:
    random = np.random.default_rng(0)
    u = random.standard_normal(rows + future)
    y = np.zeros(rows + future)
    for t in range(rows + future - 1):
        y[t + 1] = 0.8 * y[t] + u[t]
    y = y + 20 + 0.1 * random.standard_normal(len(y))
    y[rows:] = np.nan
    table = {"hour": pd.date_range("2024-01-01", periods=rows + future, freq="h"), "flow": u, "level": y, **columns}
    pd.DataFrame(table).to_csv(path, index=False)
    return path


@cache  # every module that imports the fixture has one of its own
def _made(base: Path) -> Path:
    folder = base / "tank"
    folder.mkdir()
    write_table(folder / "tank.csv", future=5)
    ran = call(folder, "fit", "tank.csv", *FIT, "--order", "1", "--out", "run")
    assert ran.code == 0, ran.err
    (folder / "said.txt").write_text(ran.out)
    return folder


@pytest.fixture(scope="session")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the table and the run."""
    return _made(tmp_path_factory.getbasetemp())


@pytest.fixture
def run(fitted: Path, tmp_path: Path) -> Path:
    """A copy of it for one test."""
    shutil.copytree(fitted, tmp_path, dirs_exist_ok=True)
    return tmp_path / "run"
