"""`retrograd forecast --data`: a run goes on from rows that came after its data, without a new fit."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cli.command import retrograd
from retrograd.estimators import Recurrent, StateSpace

__all__ = ["retrograd"]  # a fixture

KINDS = {
    "auto": (),
    "forecaster": ("--readout", "recursive", "--lags", "4"),
    "state-space": ("--order", "2"),
    "recurrent": ("--hidden", "3", "--epochs", "2"),
}


def table(folder: Path) -> pd.DataFrame:
    """Rows of an AR(1) with an input; the last ten are kept for later."""
    random = np.random.default_rng(1)
    u, y = random.standard_normal(80), np.zeros(80)
    for t in range(1, 80):
        y[t] = 0.8 * y[t - 1] + u[t] + 0.1 * random.standard_normal()
    whole = pd.DataFrame({"t": np.arange(1, 81), "y": 5 + y, "u": u})
    whole[:70].to_csv(folder / "d.csv", index=False)
    whole[68:].to_csv(folder / "more.csv", index=False)  # two of them are known already
    return whole


def forecast(retrograd: Any, *options: str) -> pd.DataFrame:
    ran = retrograd("forecast", "run", *options)
    assert ran.code == 0, ran.err
    return pd.read_csv(io.StringIO(ran.out))


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] * (kind != "forecaster")) for kind in KINDS]
)
def test_a_forecast_after_later_rows_is_nearer_to_what_they_lead_to(retrograd: Any, tmp_path: Path, kind: str) -> None:
    table(tmp_path)
    fit = ("fit", "d.csv", "--target", "y", "--time", "t", "--test", "0", "--horizon", "3", "--out", "run")
    assert retrograd(*fit, "--model", kind, *KINDS[kind]).code == 0
    before, after = forecast(retrograd), forecast(retrograd, "--data", "more.csv")
    assert before["t"].tolist() == [71, 72, 73]
    assert after["t"].tolist() == [81, 82, 83]
    assert list(before) == list(after)
    assert not np.allclose(before["y"], after["y"])
    # Rows one by one give what all at once give; nothing is fitted to them.
    lines = (tmp_path / "more.csv").read_text().splitlines()
    Path("more.csv").write_text("\n".join(lines[:1] + lines[3:]) + "\n")
    pd.testing.assert_frame_equal(forecast(retrograd, "--data", "more.csv"), after)


@pytest.mark.parametrize("kind", ["state-space", "recurrent"])
def test_the_state_goes_on_from_where_the_run_ended(retrograd: Any, tmp_path: Path, kind: str) -> None:
    whole = table(tmp_path)
    fit = ("fit", "d.csv", "--target", "y", "--inputs", "u", "--test", "0", "--horizon", "0", "--out", "run")
    assert retrograd(*fit, "--model", kind, *KINDS[kind]).code == 0
    # All rows but the known ones, in a table without times; the last two have no target.
    later = whole[70:].drop(columns="t").reset_index(drop=True)
    later.assign(y=later["y"].where(later.index < 8)).to_csv("more.csv", index=False)
    found = forecast(retrograd, "--data", "more.csv", "--horizon", "2")
    assert found["step"].tolist() == [79, 80]
    y, u = whole["y"].to_numpy(), whole["u"].to_numpy()[:, None]
    if kind == "recurrent":
        model = Recurrent.load("run")
        expected = model.forecast(2, u[78:], state=model.state_after(y[:78], u[:78]))
    else:
        system = StateSpace.load("run")
        expected = system.forecast(2, u[78:], state=system.state_after(u[:78], y[:78], system.x0_[0])).mean
    np.testing.assert_allclose(found["y"], np.asarray(expected)[:, 0], rtol=1e-9)


REFUSED = {
    "t,y\n70,1\n": "more.csv has no row after 70, where the data of the run end",
    "t,y\n2024-01-01,1\n": "has 2024-01-01, the data of the run end at 70: write times alike",
    "t,y\n71.5,1\n": "71.5 does not follow 70",
    "t,z\n71,1\n": "more.csv has no column 'y'",
    "t,y\n71,1\n73,2\n": "more.csv lacks a target at 72, and a forecaster needs each: fill it",
}


def test_later_rows_that_do_not_follow_are_refused_in_one_line(retrograd: Any, tmp_path: Path) -> None:
    table(tmp_path)
    fit = ("fit", "d.csv", "--target", "y", "--time", "t", "--model", "forecaster", "--lags", "2", "--out", "run")
    assert retrograd(*fit).code == 0
    for content, message in REFUSED.items():
        Path("more.csv").write_text(content)
        ran = retrograd("forecast", "run", "--data", "more.csv")
        assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1)
        assert message in ran.err
    assert "--series is for a run of many series" in retrograd("forecast", "run", "--series", "a").err
