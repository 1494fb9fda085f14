"""`retrograd fit --series`: a long table in, a forecast and scores of every series out."""

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

FIT = ("fit", "shops.csv", "--series", "shop", "--target", "sold", "--time", "month")


def write_shops(folder: Path, **more: Any) -> pd.DataFrame:
    """Three shops, the rows of all in order of time: one with a season, one that grows, one short."""
    random, parts = np.random.default_rng(0), []
    for name, rows in (("north", 72), ("south", 60), ("new", 14)):
        t = np.arange(72 - rows, 72)
        sold = 50 + (20 * np.sin(np.pi * t / 6) if name == "north" else 0.5 * t) + random.standard_normal(rows)
        times = pd.date_range("2018-01-01", periods=72, freq="MS")[t]
        parts.append(pd.DataFrame({"month": times, "shop": name, "sold": sold, "cost": 100 - sold / 2}))
    table = pd.concat(parts).sort_values("month", kind="stable").assign(**more)
    table.to_csv(folder / "shops.csv", index=False)
    return table


def test_every_series_is_forecast_and_judged(retrograd: Any, tmp_path: Path) -> None:
    table = write_shops(tmp_path)
    ran = retrograd(*FIT, "--horizon", "4", "--out", "run")
    assert ran.code == 0, ran.err
    assert "3 series of 14 to 72 rows, 146 in all" in ran.out
    assert "north: 72 monthly rows, 2018-01 to 2023-12; season 12;" in ran.out  # of all rows, the held-out ones too
    assert "as good as the seasonal naive or better for" in ran.out
    assert {path.name for path in Path("run").iterdir()} == FILES
    forecast = pd.read_csv("run/forecast.csv")
    assert list(forecast) == ["shop", "month", "sold", "sold_lower_80", "sold_upper_80", "sold_lower", "sold_upper"]
    assert forecast.groupby("shop", sort=False).size().to_dict() == {"north": 4, "south": 4, "new": 4}
    assert (forecast.groupby("shop")["month"].first() == "2024-01-01").all()
    north = forecast[forecast["shop"] == "north"]["sold"]
    np.testing.assert_allclose(north, 50 + 20 * np.sin(np.pi * np.arange(72, 76) / 6), atol=3)
    panel = table.set_index(["shop", "month"])[["sold"]]
    held_out = panel.groupby(level="shop", sort=False).tail(4)
    fitted = AutoForecaster().fit(panel.drop(held_out.index), fh=[1, 2, 3, 4]).update(held_out)
    np.testing.assert_allclose(forecast["sold"], fitted.predict()["sold"], rtol=1e-6)
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert metrics["north: forecast, 1 to 4 ahead"]["RMSE"] < 0.7 * metrics["north: last value, 1 to 4 ahead"]["RMSE"]
    predictions = pd.read_csv("run/predictions.csv")
    assert len(predictions) == 146
    assert predictions.groupby("shop")["sold_held_out"].count().to_dict() == {"north": 4, "south": 4, "new": 4}
    page = Path("run/report.html").read_text()
    assert all(f">{name}</th>" in page for name in ("north", "south", "new"))
    assert retrograd("forecast", "run").out == Path("run/forecast.csv").read_text()
    some = pd.read_csv(io.StringIO(retrograd("forecast", "run", "--series", "new", "--horizon", "2").out))
    pd.testing.assert_frame_equal(some, forecast[forecast["shop"] == "new"][:2].reset_index(drop=True))
    for options, message in (
        (("--series", "nw"), "--series names 'nw', which the run does not have: north, south, new"),
        (("--horizon", "5"), "fitted for 4 steps"),
        (("--inputs-file", "shops.csv"), "the model in run has no exogenous inputs"),
        (("--data", "shops.csv"), "shops.csv has no row after 2023-12-01, where the data of the run end"),
    ):
        refused = retrograd("forecast", "run", *options)
        assert (refused.code, refused.out, len(refused.err.splitlines())) == (2, "", 1)
        assert message in refused.err
    # Later rows of one series; one month has none.
    Path("more.csv").write_text("month,shop,sold\n2023-12-01,new,0\n2024-01-01,new,90\n2024-03-01,new,92\n")
    later = pd.read_csv(io.StringIO(retrograd("forecast", "run", "--data", "more.csv").out))
    assert later.groupby("shop", sort=False)["month"].first().tolist() == ["2024-01-01", "2024-01-01", "2024-04-01"]
    times = pd.MultiIndex.from_product([["new"], pd.date_range("2024-01-01", periods=3, freq="MS")])
    fitted.update(pd.DataFrame({"sold": [90.0, np.nan, 92.0]}, index=times), update_params=False)
    np.testing.assert_allclose(later["sold"], fitted.predict()["sold"], rtol=1e-6)
    Path("more.csv").write_text("month,shop,sold\n2024-01-01,new,90\n2024-01-01,west,90\n")
    message = "more.csv: row 3 is of shop 'west', which the run does not have: it has north, south, new"
    assert message in retrograd("forecast", "run", "--data", "more.csv").err


@pytest.mark.slow
def test_several_targets(retrograd: Any, tmp_path: Path) -> None:
    write_shops(tmp_path)
    ran = retrograd(*FIT, "--target", "cost", "--horizon", "2", "--test", "0.2", "--level", "50", "--out", "run")
    assert ran.code == 0, ran.err
    names = ["sold", "sold_lower_50", "sold_upper_50", "cost", "cost_lower_50", "cost_upper_50"]
    assert list(pd.read_csv("run/forecast.csv")) == ["shop", "month", *names]
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert "south: forecast, 1 to 2 ahead: cost" in metrics


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--model", "forecaster"), "--series is for --model auto"),
        (("--inputs", "cost"), "--inputs are of one series"),
        (("--time", "shop"), "column 'shop' is asked for twice among --series, --target and --time"),
        (("--horizon", "0"), "--horizon is 0, expected a whole number of at least 1"),
        (("--horizon", "1000000000"), "--horizon is 1000000000, expected at most "),
        (("--series", "ship"), "shops.csv has no column 'ship': did you mean 'shop'"),
    ],
)
def test_refused(retrograd: Any, tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    write_shops(tmp_path)
    ran = retrograd(*FIT, *options)
    assert ran.code == 2
    assert message in ran.err
    assert len(ran.err.splitlines()) == 1
    assert not Path("runs").exists()


def test_a_row_and_its_series_are_named(retrograd: Any, tmp_path: Path) -> None:
    write_shops(tmp_path)
    lines = (tmp_path / "shops.csv").read_text().splitlines()
    lines[7] = lines[7].replace(lines[7].split(",")[2], "many")
    (tmp_path / "shops.csv").write_text("\n".join(lines) + "\n")
    ran = retrograd(*FIT)
    assert "row 8, column 'sold' is 'many'" in ran.err
    lines[7] = lines[7].replace("north", "").replace("many", "5")
    (tmp_path / "shops.csv").write_text("\n".join(lines) + "\n")
    assert "row 8, column 'shop' is missing: every row needs its series" in retrograd(*FIT).err
