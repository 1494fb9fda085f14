"""`retrograd fit --model state-space`, and what `forecast` makes of its run."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cli.command import FILES
from cli.tank import FIT, fitted, retrograd, run, write_table
from retrograd.estimators import StateSpace

__all__ = ["fitted", "retrograd", "run"]  # fixtures


def training(folder: Path) -> tuple[Any, Any]:
    table = pd.read_csv(folder / "tank.csv").iloc[:160]
    return table[["flow"]].to_numpy(), table[["level"]].to_numpy()


def test_a_run_folder_has_everything(run: Path, tmp_path: Path) -> None:
    said = (tmp_path / "said.txt").read_text()
    assert "The free run of level" not in said
    assert "State-space model: output error, order 1, 1 inputs, 1 outputs" in said
    assert "free run, held out" in said
    found = {path.name for path in (tmp_path / "run").iterdir()}
    assert found == FILES
    model = StateSpace.load(tmp_path / "run")
    assert model.poles_[0].real == pytest.approx(0.8, abs=0.02)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["free run, held out"]["RMSE"] < 0.2 < metrics["training mean"]["RMSE"]
    page = (tmp_path / "run" / "report.html").read_text()
    for heading in (
        "What the residuals still hold",
        "Training",
        "Poles",
        "Frequency response",
        "Step response",
        "Choice of the order",
    ):
        assert heading in page
    assert "cycles per h" in page
    log_likelihood = f"{model.log_likelihood(*training(tmp_path)):.2f}".replace("-", "−")
    assert f'<th scope="row">log-likelihood</th><td>{log_likelihood}</td>' in page
    assert "Time constants in h, frequencies in cycles per h." in said


def test_predictions_are_the_model_s(run: Path, tmp_path: Path) -> None:
    table = pd.read_csv(tmp_path / "tank.csv").iloc[:200]
    model = StateSpace.load(run)
    written = pd.read_csv(run / "predictions.csv")
    expected = model.predict(table[["flow"]].to_numpy(), table[["level"]].to_numpy(), x0=model.x0_[0])[:, 0]
    assert np.allclose(written["level_one_step"], expected)
    # Output error reads no output: the free run is the same simulation, from the training part's end on.
    assert np.allclose(written["level_free_run"].iloc[160:], expected[160:])
    assert written["level_free_run"].iloc[:160].isna().all()


def test_the_forecast_has_intervals_and_can_be_made_again(retrograd: Any, run: Path) -> None:
    first = pd.read_csv(run / "forecast.csv")
    assert first.columns.tolist() == ["hour", "level", "level_lower_80", "level_upper_80", "level_lower", "level_upper"]
    assert first["hour"].iloc[0] == "2024-01-09 08:00:00" or first["hour"].iloc[0].startswith("2024-01-09T08")
    assert ((first["level_lower"] < first["level"]) & (first["level"] < first["level_upper"])).all()
    again = retrograd("forecast", str(run))
    assert again.code == 0
    assert np.allclose(pd.read_csv(io.StringIO(again.out))["level_upper"], first["level_upper"])
    ran = retrograd("forecast", str(run), "--horizon", "6")
    assert ran.code == 2
    assert "the inputs flow are known for 5 steps after the last target" in ran.err


def test_a_forecast_asks_for_the_inputs_that_it_needs(retrograd: Any, tmp_path: Path) -> None:
    write_table(tmp_path / "tank.csv")
    assert retrograd("fit", "tank.csv", *FIT, "--order", "1", "--out", "run").code == 0
    ran = retrograd("forecast", "run")
    assert ran.code == 2
    assert "the inputs flow are not known beyond the data of run: give those of the coming steps" in ran.err
    pd.DataFrame({"flow": [1.0, 0.0]}).to_csv(tmp_path / "u.csv", index=False)
    assert len(pd.read_csv(io.StringIO(retrograd("forecast", "run", "--inputs-file", "u.csv").out))) == 2


def test_parameters_that_are_wider_than_the_terminal_are_left_to_the_report(
    retrograd: Any, fitted: Path, tmp_path: Path
) -> None:
    write_table(tmp_path / "tank.csv")
    wide = retrograd("fit", "tank.csv", *FIT, "--order", "5", "--noise", "innovations", "--out", "wide")
    assert wide.code == 0, wide.err
    for said, printed in (((fitted / "said.txt").read_text(), True), (wide.out, False)):
        assert ("standard error, at this basis" in said) is printed
        assert ("The report has the parameters" in said) is not printed
    assert "A, row 5" in (tmp_path / "wide" / "report.html").read_text()


def test_missing_targets_are_let_be(retrograd: Any, tmp_path: Path) -> None:
    path = write_table(tmp_path / "tank.csv")
    table = pd.read_csv(path)
    table.loc[[10, 11, 190], "level"] = np.nan
    table.to_csv(path, index=False)
    assert retrograd("fit", "tank.csv", *FIT, "--order", "1", "--out", "run").code == 0
    assert pd.read_csv(tmp_path / "run" / "predictions.csv")["level_one_step"].notna().all()
    table.loc[5, "flow"] = np.nan
    table.to_csv(path, index=False)
    ran = retrograd("fit", "tank.csv", *FIT, "--order", "1", "--out", "other")
    assert ran.code == 2
    assert "column 'flow' is missing" in ran.err


def test_without_inputs_and_with_the_order_found(retrograd: Any, tmp_path: Path) -> None:
    ran = retrograd(
        "fit", "sunspots", "--target", "sunspots", "--time", "year", "--model", "state-space", "--noise", "innovations",
        "--horizon", "4", "--out", "run",
    )  # fmt: skip
    assert ran.code == 0
    assert "innovations, order" in ran.out
    assert pd.read_csv(tmp_path / "run" / "forecast.csv")["year"].tolist() == [2009, 2010, 2011, 2012]
    assert "Information criteria" in (tmp_path / "run" / "report.html").read_text()
    alone = retrograd("simulate", "run", "--steps", "3", "--x0", "end")
    expected = pd.read_csv(tmp_path / "run" / "forecast.csv")["sunspots"][:3]
    assert np.allclose(pd.read_csv(io.StringIO(alone.out))["sunspots"], expected)
    assert "has no inputs: give --steps" in retrograd("simulate", "run").err


def test_a_free_run_that_does_not_carry_over_is_said_on_terminal_and_page(retrograd: Any, tmp_path: Path) -> None:
    """The level follows the square of the flow, which turns round for the held-out rows alone."""
    random = np.random.default_rng(0)
    u, y = np.abs(random.standard_normal(200)), np.zeros(200)
    u[160:] *= -1
    for t in range(199):
        y[t + 1] = 0.8 * y[t] + u[t] ** 2
    pd.DataFrame({"flow": u, "level": y}).to_csv(tmp_path / "tank.csv", index=False)
    fit = ("fit", "tank.csv", "--target", "level", "--inputs", "flow", "--model", "state-space", "--order", "2")
    ran = retrograd(*fit, "--horizon", "0", "--out", "run")
    assert ran.code == 0, ran.err
    page = (tmp_path / "run" / "report.html").read_text()
    for said in (ran.out, page):
        assert "The free run of level fits −" in said.replace("fits -", "fits −")
        assert "or --model recurrent, which is not linear." in said


# --- refusals of fit ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--order", "0"), "--order is '0', expected a whole number from 1, or auto"),
        (("--order", "four"), "--order is 'four', expected a whole number from 1, or auto"),
        (("--order", "500"), "order 500 has 1502 parameters, the data 160 observed outputs"),
        (("--noise", "white"), "--noise is 'white'"),
        (("--noise", "inovations"), "did you mean 'innovations'"),
        (("--hidden", "3"), "--hidden belongs to --model recurrent, not to state-space"),
        (("--resume",), "--resume belongs to --model recurrent"),
        (("--lags", "3"), "--lags belongs to --model forecaster"),
    ],
)
def test_fit_refuses(retrograd: Any, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    write_table(tmp_path / "tank.csv")
    ran = retrograd("fit", "tank.csv", *FIT, *arguments, "--out", "run")
    assert ran.code == 2
    assert message in ran.err
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_overwritten_unasked(retrograd: Any, run: Path) -> None:
    before = (run / "config.json").read_bytes()
    ran = retrograd("fit", "tank.csv", *FIT, "--order", "2", "--out", "run")
    assert ran.code == 2
    assert "--out run is not empty: --overwrite replaces it" in ran.err
    assert (run / "config.json").read_bytes() == before
    assert retrograd("fit", "tank.csv", *FIT, "--order", "2", "--out", "run", "--overwrite").code == 0


def test_overwriting_leaves_nothing_of_another_kind_of_run(retrograd: Any, run: Path, tmp_path: Path) -> None:
    recurrent = (
        "fit",
        "tank.csv",
        "--target",
        "level",
        "--inputs",
        "flow",
        "--model",
        "recurrent",
        "--epochs",
        "2",
        "--hidden",
        "2",
    )
    for arguments, more in (
        (recurrent, {"checkpoint.safetensors"}),
        (("fit", "tank.csv", *FIT, "--order", "1"), set()),
    ):
        assert retrograd(*arguments, "--out", "run", "--overwrite").code == 0
        assert {path.name for path in (tmp_path / "run").iterdir()} == FILES | more


def test_a_constant_input_is_named(retrograd: Any, tmp_path: Path) -> None:
    write_table(tmp_path / "tank.csv", flow=np.ones(200))
    ran = retrograd("fit", "tank.csv", *FIT, "--out", "run")
    assert ran.code == 2
    assert "input flow is constant (1)" in ran.err
