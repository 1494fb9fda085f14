"""`retrograd fit --model auto`: a table in, the best forecast and the contenders' scores out."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cli.command import FILES, retrograd
from retrograd.estimators import AutoForecaster

__all__ = ["retrograd"]  # a fixture


def write_sales(folder: Path) -> pd.DataFrame:
    t, random = np.arange(120), np.random.default_rng(0)
    values = np.exp(4 + t / 100 + 0.2 * np.sin(2 * np.pi * t / 12) + 0.03 * random.standard_normal(120))
    table: pd.DataFrame = pd.DataFrame({"month": pd.date_range("2013-01-01", periods=120, freq="MS"), "sales": values})
    table.to_csv(folder / "sales.csv", index=False)
    return table


def test_a_run_and_its_forecast(retrograd: Any, tmp_path: Path) -> None:
    table = write_sales(tmp_path)
    ran = retrograd(
        "fit", "sales.csv", "--target", "sales", "--time", "month", "--model", "auto", "--horizon", "6", "--out", "run"
    )
    assert ran.code == 0, ran.err
    assert "season 12; no gaps; a trend; grows with its level: logs" in " ".join(ran.err.split())
    assert "that of the seasonal naive (12)" in " ".join(ran.err.split())
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES
    y = pd.Series(table["sales"].to_numpy(), pd.DatetimeIndex(table["month"]))
    forecast = pd.read_csv(tmp_path / "run" / "forecast.csv")
    np.testing.assert_allclose(forecast["sales"], AutoForecaster().fit(y, fh=range(1, 7)).predict(), rtol=1e-6)
    assert (forecast["sales_lower"] < forecast["sales"]).all()
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["one step, held out"]["RMSE"] < 0.5 * metrics["last value, one step"]["RMSE"]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "seasonal naive (12) with drift" in page
    again = retrograd("forecast", "run", "--horizon", "3")
    assert again.code == 0
    np.testing.assert_allclose(pd.read_csv(io.StringIO(again.out))["sales"], forecast["sales"][:3])
    longer = retrograd("forecast", "run", "--horizon", "8")
    assert longer.code == 2
    assert "fitted for 6 steps" in longer.err


@pytest.mark.slow
def test_inputs_known_ahead(retrograd: Any, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    price = random.standard_normal(75)
    sold = 5 + 2 * price + 0.1 * random.standard_normal(75)
    sold[70:] = np.nan
    pd.DataFrame({"price": price, "sold": sold}).to_csv(tmp_path / "shop.csv", index=False)
    options = ("--target", "sold", "--inputs", "price", "--model", "auto", "--out", "run")
    ran = retrograd("fit", "shop.csv", *options)
    assert ran.code == 0, ran.err
    forecast = pd.read_csv(tmp_path / "run" / "forecast.csv")
    np.testing.assert_allclose(forecast["sold"], 5 + 2 * price[70:], atol=0.6)
