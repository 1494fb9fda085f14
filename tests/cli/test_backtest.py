"""`retrograd backtest`: models and naive forecasts on the same rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cli.command import retrograd

__all__ = ["retrograd"]  # a fixture


@pytest.fixture
def shop(retrograd: Any) -> Any:
    """A table in the working folder, and the command."""
    t, random = np.arange(120), np.random.default_rng(0)
    y = 50 + 10 * np.sin(np.pi * t / 6) + random.standard_normal(120)
    pd.DataFrame({"month": pd.date_range("2013-01-01", periods=120, freq="MS"), "y": y}).to_csv("shop.csv", index=False)
    return lambda *more: retrograd("backtest", "shop.csv", "--target", "y", "--time", "month", *more)


def test_models_and_baselines_by_steps_ahead(shop: Any) -> None:
    ran = shop("--models", "forecaster,state-space", "--horizon", "4", "--level", "90", "--out", "b.csv")
    assert ran.code == 0, ran.err
    assert "21 rows in turn" in ran.out
    table = pd.read_csv("b.csv")
    assert list(table) == ["target", "model", "steps ahead", "RMSE", "in 90 %"]
    assert set(table["model"]) >= {"forecaster", "state-space", "seasonal naive (12)", "last value", "drift", "AR"}
    y = pd.read_csv("shop.csv")["y"].to_numpy()
    naive = table[table["model"] == "seasonal naive (12)"]["RMSE"].to_numpy()
    rows = np.arange(96, 117)
    for step in range(4):
        error = y[rows + step] - y[rows + step - 12]
        assert naive[step] == pytest.approx(np.sqrt((error**2).mean()))
    held = table[table["model"] == "state-space"]
    assert (held["RMSE"] < 1.5).all()
    assert held["in 90 %"].between(60, 100).all()


@pytest.mark.parametrize("out", ["b.html", "b.png"])
def test_a_page_and_a_picture(shop: Any, out: str) -> None:
    ran = shop("--models", "forecaster", "--horizon", "3", "--out", out)
    assert ran.code == 0, ran.err
    written = Path(out).read_bytes()
    assert written.startswith(b"\x89PNG" if out.endswith("png") else b"<!DOCTYPE html>")
    assert shop("--models", "none", "--horizon", "3").code == 0
    again = shop("--models", "none", "--out", out)
    assert again.code == 2
    assert "exists: use --overwrite" in again.err


def test_what_cannot_be_fitted_is_said_and_left_out(retrograd: Any) -> None:
    pd.DataFrame({"y": np.full(30, 7.0)}).to_csv("flat.csv", index=False)
    ran = retrograd("backtest", "flat.csv", "--target", "y", "--models", "recurrent,auto")
    assert ran.code == 0, ran.err
    assert "recurrent is left out: " in ran.out
    assert "last value" in ran.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--models", "arima"), "--models is 'arima'"),
        (("--test", "0"), "nothing is held out to judge forecasts by: hold out the last rows (--test)"),
        (("--horizon", "500"), "--horizon is 500, expected a whole number from 1 to 120"),
        (("--out", "b.txt"), "--out b.txt is no page, picture or table"),
        (("--level", "0"), "--level is '0', expected levels in per cent"),
    ],
)
def test_backtest_refuses(shop: Any, options: tuple[str, ...], message: str) -> None:
    ran = shop(*options)
    assert ran.code == 2
    assert message in ran.err
    assert len(ran.err.splitlines()) == 1
