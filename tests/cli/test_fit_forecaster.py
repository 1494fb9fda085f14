"""`retrograd fit --model forecaster`."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cli.command import FILES, retrograd
from retrograd.estimators import Forecaster
from retrograd.tables.read import read_table

__all__ = ["retrograd"]  # a fixture

SUNSPOTS = ("sunspots", "--target", "sunspots", "--time", "year", "--model", "forecaster", "--lags", "9")


@pytest.mark.parametrize("readout", ["direct", "recursive"])
def test_a_run_and_its_forecast(retrograd: Any, tmp_path: Path, readout: str) -> None:
    ran = retrograd("fit", *SUNSPOTS, "--readout", readout, "--horizon", "5", "--test", "1921", "--out", "run")
    assert ran.code == 0, ran.err
    found = {path.name for path in (tmp_path / "run").iterdir()}
    assert found == FILES
    assert {path.name for path in tmp_path.iterdir()} == {"run"}
    y = read_table("sunspots", targets=["sunspots"]).targets[:, 0]
    steps = list(range(1, 6))
    model = Forecaster(lags=9, readout=readout).fit(y, fh=steps if readout == "direct" else None)
    forecast = pd.read_csv(tmp_path / "run" / "forecast.csv")
    assert np.allclose(forecast["sunspots"], np.ravel(model.predict(steps)))
    assert (forecast["sunspots_lower"] < forecast["sunspots_upper"]).all()
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["one step, held out"]["MSE"] < 0.5 * metrics["last value, one step"]["MSE"]
    # Why the report shows no gradient.
    page = (tmp_path / "run" / "report.html").read_text()
    assert "No gradient through time is shown, as the fit has none: the state is the look-back itself, the last" in page
    assert "the ridge solution, in closed form" in page
    assert "How the gradient flows back" not in page
    again = retrograd("forecast", "run", "--horizon", "3")
    assert again.code == 0
    assert np.allclose(pd.read_csv(io.StringIO(again.out))["sunspots"], forecast["sunspots"][:3])
    longer = retrograd("forecast", "run", "--horizon", "8")
    if readout == "direct":
        assert longer.code == 2
        assert "the direct read-out was fitted for 5 steps" in longer.err
    else:
        assert len(pd.read_csv(io.StringIO(longer.out))) == 8


def test_nothing_held_out(retrograd: Any, tmp_path: Path) -> None:
    ran = retrograd("fit", *SUNSPOTS, "--test", "0", "--out", "run")
    assert ran.code == 0, ran.err
    assert "judged with the recursive read-out" in ran.out
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert list(metrics) == ["one step, training"]
    assert 10 < metrics["one step, training"]["RMSE"] < 20
    free_run = pd.read_csv(tmp_path / "run" / "predictions.csv")["sunspots_free_run"]
    assert free_run.isna().all()


def test_inputs_known_ahead(retrograd: Any, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    x = random.standard_normal(306)
    y = np.zeros(306)
    for t in range(1, 306):
        y[t] = 0.5 * y[t - 1] + x[t]
    table = pd.DataFrame({"x": x, "y": np.where(np.arange(306) < 300, y, np.nan)})
    table.to_csv(tmp_path / "t.csv", index=False)
    ran = retrograd(
        "fit", "t.csv", "--target", "y", "--inputs", "x", "--model", "forecaster", "--lags", "5", "--out", "r"
    )
    assert ran.code == 0, ran.err
    forecast = pd.read_csv(tmp_path / "r" / "forecast.csv")
    assert len(forecast) == 6
    assert abs(forecast["y"][0] - y[300]) < 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--readout", "both"), "--readout is 'both'"),
        (("--lags", "400"), "a forecast of it needs at least 400"),
        (("--lags", "0"), "--lags is 0, expected a whole number of at least 1"),
        (("--order", "3"), "--order belongs to --model state-space, not to forecaster"),
    ],
)
def test_fit_refuses(retrograd: Any, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    ran = retrograd("fit", *SUNSPOTS, *arguments, "--out", "run")
    assert ran.code == 2
    assert message in ran.err
    assert not (tmp_path / "run").exists()


def test_a_wild_last_value_is_named(retrograd: Any) -> None:
    table = pd.DataFrame({"day": pd.date_range("2024-01-01", periods=60), "y": 10 + np.cos(np.arange(60.0) ** 2)})
    table.loc[59, "y"] = 1e6
    table.to_csv("wild.csv", index=False)
    ran = retrograd("fit", "wild.csv", "--target", "y", "--time", "day", "--model", "forecaster", "--horizon", "3")
    assert ran.code == 0, ran.err
    (line,) = (line for line in ran.out.splitlines() if line.startswith("y is 1e+06 at day 2024-02-29, "))
    assert line.endswith("if it is an error, correct it or leave it blank, and fit again.")
