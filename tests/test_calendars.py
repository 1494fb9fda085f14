"""Every way to a forecast goes on by the calendar: the command line, a forecaster, an identified system."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from calendars import AHEAD, CALENDARS, INFERRED
from cli.command import retrograd  # noqa: F401  (a fixture)
from retrograd.estimators import Forecaster, StateSpace
from retrograd.tables import Step
from retrograd.tables.time_axis import time_text

# Fits of a few iterations, or of a low order: what files and times are about.
pytestmark = pytest.mark.filterwarnings("ignore::retrograd.estimators.identification.cautions.IdentificationWarning")


def _series(name: str) -> tuple[pd.Series, list[Any]]:
    times = CALENDARS[name][0]
    known = times[:-AHEAD]
    values = 10 + np.sin(np.arange(len(known))) + 0.1 * np.random.default_rng(0).standard_normal(len(known))
    return pd.Series(values, known, name="y"), list(times[-AHEAD:])


@pytest.mark.parametrize("name", CALENDARS)
def test_a_forecaster_and_a_system(name: str) -> None:
    y, wanted = _series(name)
    forecast = Forecaster(lags=1, readout="recursive").fit(y).predict(range(1, AHEAD + 1))
    assert list(forecast.index) == wanted
    assert list(StateSpace(order=1, optimizer="adam", max_iter=2).fit(None, y).forecast(AHEAD).time) == wanted


@pytest.mark.parametrize("name", CALENDARS)
def test_a_hole_is_refused_or_counts_as_missing(name: str) -> None:
    y, wanted = _series(name)
    holed = y.drop(y.index[len(y) // 2])
    with pytest.raises(ValueError, match=r"lacks a step|without a step"):
        Forecaster(lags=1, readout="recursive").fit(holed)
    model = StateSpace(order=1, optimizer="adam", max_iter=2)
    if name in INFERRED:
        with pytest.raises(ValueError, match="without a step"):
            model.fit(None, holed)
        return
    model.fit(None, holed)
    assert list(model.forecast(AHEAD).time) == wanted
    assert model.data_.observed.sum() == len(holed)


# A page a run takes a second: the command line's part of `make test` is those whose text differs in kind.
_FAST = ("month ends", "local days", "quarterly periods", "by two")


@pytest.mark.parametrize(
    "name", [name if name in _FAST else pytest.param(name, marks=pytest.mark.slow) for name in CALENDARS]
)
def test_the_command_line(name: str, tmp_path: Path, retrograd: Any) -> None:  # noqa: F811
    y, wanted = _series(name)
    source = tmp_path / "t.csv"
    pd.DataFrame({"t": time_text(y.index), "y": y.to_numpy()}).to_csv(source, index=False)
    command = f"fit {source} --target y --time t --model forecaster --lags 1 --test 0 --horizon {AHEAD} --out run"
    ran = retrograd(*command.split())
    if "change along the column" in ran.err:  # the offsets alone do not tell New York from Havana
        ran = retrograd(*command.split(), "--time-zone", str(y.index.tz))
    assert ran.code == 0, ran.err
    got = pd.read_csv("run/forecast.csv", dtype=str)["t"].tolist()
    expected = pd.Index(wanted)
    if isinstance(expected, pd.PeriodIndex) and expected.freqstr.startswith(("M", "D")):
        expected = expected.to_timestamp()  # their text is that of dates
    elif isinstance(expected, pd.DatetimeIndex) and expected.tz is not None:
        assert [pd.Timestamp(text) for text in got] == list(expected)
        return
    assert got == time_text(expected)
    assert str(Step.find(pd.Index(y.index))) in ran.out or isinstance(y.index, pd.PeriodIndex)
