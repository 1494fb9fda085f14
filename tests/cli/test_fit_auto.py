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
from retrograd.cli.coming import Coming
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
    ran = retrograd("fit", "sales.csv", "--target", "sales", "--time", "month", "--horizon", "6", "--out", "run")
    assert ran.code == 0, ran.err
    assert ran.err == ""  # the bar is for a terminal
    lines = ran.out.splitlines()
    assert lines[0] == ("120 monthly rows, 2013-01 to 2022-12; season 12; no gaps; a trend; grows with its level: logs")
    assert "RMSE of the forecast is" in ran.out
    assert "below that of the seasonal naive (12)" in ran.out
    assert all(word in ran.out for word in ("contender", "RMSE", "MAE", "MASE", "sMAPE", "weight", "drift", "AR"))
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES
    y = pd.Series(table["sales"].to_numpy(), pd.DatetimeIndex(table["month"]))
    forecast = pd.read_csv(tmp_path / "run" / "forecast.csv")
    np.testing.assert_allclose(forecast["sales"], AutoForecaster().fit(y, fh=range(1, 7)).predict(), rtol=1e-6)
    ends = [forecast[f"sales_{end}"] for end in ("lower", "lower_80", "upper_80", "upper")]
    assert (ends[0] < ends[1]).all()
    assert (ends[1] < forecast["sales"]).all()
    assert (forecast["sales"] < ends[2]).all()
    assert (ends[2] < ends[3]).all()
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["one step, held out"]["RMSE"] < 0.5 * metrics["last value, one step"]["RMSE"]
    ours, naive = (metrics[f"{name}, 1 to 6 ahead"] for name in ("forecast", "seasonal naive (12)"))
    assert ours["RMSE"] < 0.6 * naive["RMSE"]
    assert 60 <= ours["in 95 %"] <= 100
    page = (tmp_path / "run" / "report.html").read_text()
    assert "seasonal naive (12) with drift" in page
    again = retrograd("forecast", "run", "--horizon", "3")
    assert again.code == 0
    pd.testing.assert_frame_equal(pd.read_csv(io.StringIO(again.out)), forecast[:3])
    one = retrograd("forecast", "run", "--level", "50")
    assert list(pd.read_csv(io.StringIO(one.out))) == ["month", "sales", "sales_lower_50", "sales_upper_50"]
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
    options = ("--target", "sold", "--inputs", "price", "--out", "run")
    ran = retrograd("fit", "shop.csv", *options)
    assert ran.code == 0, ran.err
    forecast = pd.read_csv(tmp_path / "run" / "forecast.csv")
    np.testing.assert_allclose(forecast["sold"], 5 + 2 * price[70:], atol=0.6)


def test_inputs_that_are_not_known_ahead_leave_a_forecast_without_them(retrograd: Any, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    price, y = random.standard_normal(36), np.full(36, 5.0)
    for t in range(1, 36):
        y[t] = 5 + 0.5 * (y[t - 1] - 5) + 2 * price[t] + 0.1 * random.standard_normal()
    pd.DataFrame({"price": price, "sold": y}).to_csv("shop.csv", index=False)
    fit = ("fit", "shop.csv", "--target", "sold", "--inputs", "price", "--horizon", "3", "--season", "none")
    ran = retrograd(*fit, "--out", "run")
    assert ran.code == 0, ran.err
    assert "The inputs are known for 0 of the 3 steps, so forecast.csv takes none." in ran.out
    metrics = json.loads(Path("run/metrics.json").read_text())
    blind, told = (metrics[f"forecast{name}, 1 to 3 ahead"]["RMSE"] for name in ("", ", inputs known"))
    assert told < 0.5 * blind
    model = AutoForecaster([], "auto").fit(y, price, fh=[1, 2, 3])
    np.testing.assert_allclose(pd.read_csv("run/forecast.csv")["sold"], model.predict(), rtol=1e-6)
    assert f"Without them: {model.without_inputs[0]}." in ran.out
    assert "inputs" not in model.without_inputs[0]
    again = retrograd("forecast", "run")
    assert again.out == Path("run/forecast.csv").read_text()
    assert "The inputs price are known for 0 of the 3 steps: the forecast takes none of them" in again.err
    pd.DataFrame({"price": [3.0, -3.0, 0.0]}).to_csv("next.csv", index=False)
    known = pd.read_csv(io.StringIO(retrograd("forecast", "run", "--inputs-file", "next.csv").out))
    np.testing.assert_allclose(known["sold"], model.predict(X=np.array([3.0, -3.0, 0.0])), rtol=1e-6)
    refused = retrograd(*fit[:-2], "--model", "forecaster", "--out", "other")
    assert refused.code == 2
    assert "the inputs are known for 0 steps after the last target" in refused.err
    assert "or --model auto, which has forecasts without inputs" in refused.err


def test_what_is_known_of_the_series_is_taken(retrograd: Any, tmp_path: Path) -> None:
    write_sales(tmp_path)
    known = ("--season", "12", "--transform", "log", "--difference", "12", "--no-refit", "--level", "90")
    ran = retrograd(
        "fit", "sales.csv", "--target", "sales", "--time", "month", *known, "--horizon", "3", "--out", "run"
    )
    assert ran.code == 0, ran.err
    assert "logs, as asked" in ran.out
    assert "less the last value" not in ran.out
    assert list(pd.read_csv("run/forecast.csv")) == ["month", "sales", "sales_lower_90", "sales_upper_90"]
    settings = json.loads(Path("run/config.json").read_text())["run"]["settings"]
    assert settings["season"] == "12"
    assert settings["refit"] is False
    train = pd.read_csv("sales.csv")["sales"].to_numpy()
    model = AutoForecaster([12], "log", 12).fit(train[:96], fh=[1, 2, 3]).update(train[96:], update_params=False)
    np.testing.assert_allclose(pd.read_csv("run/forecast.csv")["sales"], model.predict(), rtol=1e-9)


def test_where_nothing_beats_repeating_values_that_is_said(retrograd: Any, tmp_path: Path) -> None:
    y = np.resize([3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0], 70)
    pd.DataFrame({"day": pd.date_range("2024-01-01", periods=70), "y": y}).to_csv("week.csv", index=False)
    ran = retrograd("fit", "week.csv", "--target", "y", "--time", "day", "--horizon", "7")
    assert ran.code == 0, ran.err
    assert "Forecast by: seasonal naive (7); nothing beats it." in ran.out
    assert "is 0, as that of the seasonal naive (7)" in ran.out
    np.testing.assert_allclose(pd.read_csv("runs/week/forecast.csv")["y"], y[:7])


def test_a_choice_that_the_held_out_end_changed_is_said(retrograd: Any) -> None:
    y = np.concatenate([10 + np.random.default_rng(0).standard_normal(60), np.zeros(30)])
    pd.DataFrame({"y": y}).to_csv("stopped.csv", index=False)
    ran = retrograd("fit", "stopped.csv", "--target", "y", "--horizon", "3")
    assert ran.code == 0, ran.err
    assert "; nothing beats it." in ran.out
    assert "What forecast the held-out end was chosen from the rows before it: " in ran.out


def test_rows_keep_their_names_beside_wide_numbers(retrograd: Any) -> None:
    noise = 1e-7 * np.random.default_rng(0).standard_normal(60)
    pd.DataFrame({"y": 1e-7 * np.arange(60) + noise}).to_csv("narrow.csv", index=False)
    ran = retrograd("fit", "narrow.csv", "--target", "y", "--horizon", "3")
    assert ran.code == 0, ran.err
    held_out = ran.out[ran.out.index("Held out: ") :]
    assert all(name in held_out for name in ("forecast by", "last value", "drift", "seconds"))


@pytest.mark.parametrize("rows", [4, 7, 12])
def test_a_short_table_has_an_answer(retrograd: Any, rows: int) -> None:
    pd.DataFrame({"y": np.arange(rows) + np.resize([0.1, 0.3], rows)}).to_csv("short.csv", index=False)
    ran = retrograd("fit", "short.csv", "--target", "y")
    assert ran.code == 0, ran.err
    forecast = pd.read_csv("runs/short/forecast.csv")
    assert len(forecast) > 0
    assert np.isfinite(forecast).to_numpy().all()


def test_intervals_that_are_not_finite_are_not_laid_to_the_forecast(
    retrograd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pd.DataFrame({"y": np.arange(12) + np.resize([0.1, 0.3], 12)}).to_csv("short.csv", index=False)
    assert retrograd("fit", "short.csv", "--target", "y", "--horizon", "2").code == 0
    fine, wild = np.ones((2, 1)), np.array([[1.0], [np.inf]])
    for coming, message in (
        (Coming(fine, {95: (fine, np.inf * fine)}), "the forecast is finite, but its intervals are not from step 1 on"),
        (Coming(fine, {95: (fine, wild)}), "intervals are not from step 2 on: the model's errors"),
        (Coming(wild, {95: (wild, wild)}), "the forecast is not finite from step 2 on: the model's own loop"),
    ):
        monkeypatch.setattr("retrograd.cli.forecast.coming_of", lambda *_, coming=coming, **__: coming)
        ran = retrograd("forecast", "runs/short")
        assert ran.code == 2
        assert message in ran.err
        assert "below 1" not in ran.err


@pytest.mark.slow
def test_a_series_that_grows_exactly_goes_on(retrograd: Any) -> None:
    pd.DataFrame({"y": 1.5 ** np.arange(40.0)}).to_csv("up.csv", index=False)
    assert retrograd("fit", "up.csv", "--target", "y", "--horizon", "1").code == 0
    np.testing.assert_allclose(pd.read_csv("runs/up/forecast.csv")["y"], 1.5**40, rtol=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--season", "monthly"), "--season is 'monthly', expected auto, none or numbers of steps such as 24,168"),
        (("--season", "1"), "--season is 1, expected a whole number of at least 2"),
        (("--season", "24,0"), "--season is 0, expected a whole number of at least 2"),
        (("--difference", "soon"), "--difference is 'soon', expected auto, last, none or a season, a number of steps"),
        (("--transform", "boxcox"), "--transform is 'boxcox'"),
        (("--transform", "sqrt"), "--transform is 'sqrt': there are: auto, log, none"),
        (("--difference", "0"), "--difference is 0, expected a whole number of at least 1"),
        (("--difference", "96"), "--difference is 96, but there are 96 rows to learn from"),
        (("--season", "12,200"), "--season is 200, but there are 96 rows to learn from"),
        (("--level", "120"), "--level is '120', expected levels in per cent"),
        (
            ("--hidden", "4"),
            "--hidden belongs to --model recurrent, not to auto: leave it out, or take --model recurrent",
        ),
        (("--model", "recurrent", "--season", "12"), "--season belongs to --model auto, not to recurrent"),
        (("--model", "forecaster", "--no-refit"), "--no-refit belongs to --model auto, not to forecaster"),
    ],
)
def test_fit_refuses(retrograd: Any, tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    write_sales(tmp_path)
    ran = retrograd("fit", "sales.csv", "--target", "sales", "--time", "month", *options)
    assert ran.code == 2
    assert message in ran.err
    assert len(ran.err.splitlines()) == 1
    assert not Path("runs").exists()
