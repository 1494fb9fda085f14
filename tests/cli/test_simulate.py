"""`retrograd simulate`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cli.tank import fitted, retrograd, run
from retrograd.estimators import StateSpace

__all__ = ["fitted", "retrograd", "run"]  # fixtures


def test_simulate(retrograd: Any, run: Path, tmp_path: Path) -> None:
    pd.DataFrame({"flow": [1.0, 0.0, 0.0]}).to_csv(tmp_path / "u.csv", index=False)
    model = StateSpace.load(run)
    ran = retrograd("simulate", "run", "u.csv")
    assert ran.code == 0
    expected = model.simulate(np.array([[1.0], [0.0], [0.0]]))
    assert np.allclose(pd.read_csv(io.StringIO(ran.out))["level"], expected[:, 0])
    assert retrograd("simulate", "run", "u.csv", "--x0", "fit", "--out", "y.csv").code == 0
    expected = model.simulate(np.array([[1.0], [0.0], [0.0]]), model.x0_[0])
    assert np.allclose(pd.read_csv(tmp_path / "y.csv")["level"], expected[:, 0])
    again = retrograd("simulate", "run", "u.csv", "--out", "y.csv")
    assert again.code == 2
    assert "exists: use --overwrite" in again.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere", "u.csv"), "run folder nowhere does not exist: "),
        (("run",), "FILE is missing: a table with the columns flow"),
        (("run", "tank.csv", "--x0", "middle"), "--x0 is 'middle'"),
        (("run", "tank.csv", "--steps", "900"), "--steps is 900, tank.csv has 205 rows"),
        (("run", "sunless.csv"), "sunless.csv does not exist"),
    ],
)
def test_simulate_refuses(retrograd: Any, run: Path, arguments: tuple[str, ...], message: str) -> None:
    ran = retrograd("simulate", *arguments)
    assert ran.code == 2
    assert message in ran.err
    assert ran.err.count("\n") == 1
