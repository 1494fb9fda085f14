"""A forecaster as one of sktime's: its own checks, and files that older versions wrote."""

from __future__ import annotations

import json
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from retrograd.errors import InputError
from retrograd.estimators import AutoForecaster, Forecaster

pytest.importorskip("sktime", reason="sktime is not installed")

from sktime.base import load
from sktime.forecasting.base import ForecastingHorizon
from sktime.utils.estimator_checks import check_estimator

from retrograd.estimators import SktimeForecaster

OLD = Path(__file__).parent / "data" / "forecaster-v1"

# Of sktime's checks, those of the interface, and one fit of everything that it gives.
FAST = (
    "test_constructor", "test_get_params", "test_set_params", "test_clone", "test_required_params",
    "test_valid_estimator_class_tags", "test_get_test_params", "test_inheritance", "test_class_has_doctest_example",
)  # fmt: skip


def waves(steps: int = 120) -> pd.DataFrame:
    index = pd.date_range("2024-01-01", periods=steps, freq="h", name="date")
    t = np.arange(steps)
    return pd.DataFrame({"a": np.sin(t / 3), "b": np.cos(t / 4) + 0.1 * np.sin(t)}, index=index)


def checked(**options: Any) -> dict[str, Any]:
    with warnings.catch_warnings():
        # sktime's and skbase's own, of their test data and coming versions; some are raised on purpose.
        warnings.simplefilter("ignore")
        found = check_estimator(SktimeForecaster, raise_exceptions=False, verbose=False, **options)
    return {name: result for name, result in found.items() if result != "PASSED"} | {"count": len(found)}


def test_the_interface_is_sktimes() -> None:
    found = checked(tests_to_run=list(FAST))
    assert found.pop("count") >= len(FAST)
    assert found == {}


@pytest.mark.slow
def test_sktimes_own_checks_pass() -> None:
    found = checked()
    assert found.pop("count") > 500
    assert found == {}


@pytest.mark.parametrize("readout", ["direct", "recursive"])
def test_it_says_what_the_forecaster_says(readout: str) -> None:
    y = waves()
    plain = Forecaster(lags=12, readout=readout).fit(y[:100], fh=[1, 3])
    wrapped = SktimeForecaster(Forecaster(lags=12, readout=readout)).fit(y[:100], fh=[1, 3])
    pd.testing.assert_frame_equal(wrapped.predict(), plain.predict(), check_freq=False)
    if readout == "recursive":  # for a direct one, sktime wants the horizon of the fit
        absolute = ForecastingHorizon(y.index[[100, 102]], is_relative=False)
        pd.testing.assert_frame_equal(wrapped.predict(absolute), plain.predict(), check_freq=False)
    np.testing.assert_array_equal(wrapped.predict_interval([1, 3], coverage=0.9), plain.predict_interval(coverage=0.9))
    wrapped.update(y[100:])
    plain.update(y[100:])
    pd.testing.assert_frame_equal(wrapped.predict([1, 3]), plain.predict(), check_freq=False)
    assert wrapped.get_params()["forecaster__lags"] == 12


@pytest.mark.parametrize("readout", ["direct", "recursive"])
def test_a_horizon_of_times_is_of_these_times_where_instances_end_apart(readout: str) -> None:
    y = waves()
    ends = {"a": 110, "b": 104}
    panel = pd.concat(
        {name: y[[name]][:end].set_axis(["x"], axis=1) for name, end in ends.items()}, names=["site", "date"]
    )
    times = y.index[[111, 113]]
    forecaster = Forecaster(lags=12, readout=readout)
    fh = ForecastingHorizon(times, is_relative=False, freq="h")
    wrapped = SktimeForecaster(forecaster).fit(panel, fh=fh)
    found = wrapped.predict()
    plain = clone(forecaster).fit(panel, fh=[2, 4, 8, 10]).predict()
    for name in ends:
        assert found.loc[name].index.equals(times)
        np.testing.assert_array_equal(found.loc[name], plain.loc[name].loc[times])
    assert wrapped.predict_interval(coverage=0.9).index.equals(found.index)
    between = ForecastingHorizon(times + pd.Timedelta("30min"), is_relative=False, freq="30min")
    with pytest.raises(InputError, match="is no step ahead of an instance that ends at"):
        SktimeForecaster(forecaster).fit(panel, fh=between)


@pytest.mark.parametrize("form", ["table", "series", "array", "panel"])
def test_a_saved_one_is_the_same(form: str, tmp_path: Path) -> None:
    y = waves()
    given: Any = {
        "table": y,
        "series": y["a"],
        "array": y["a"].to_numpy(),
        "panel": pd.concat({name: y[[name]].set_axis(["x"], axis=1) for name in y}, names=["site", "date"]),
    }[form]
    wrapped = SktimeForecaster(Forecaster(lags=12)).fit(given, fh=[1, 2])
    wrapped.save(tmp_path / "m").close()
    with ZipFile(tmp_path / "m.zip") as archive:
        assert archive.namelist() == ["_metadata"]  # no pickled object
    again = load(str(tmp_path / "m"))
    np.testing.assert_array_equal(again.predict(), wrapped.predict())
    assert type(again.predict()) is type(wrapped.predict())
    if form != "array":  # an array has no times: sktime counts the rows that it is given
        assert again.cutoff.equals(wrapped.cutoff)
    if hasattr(wrapped.predict(), "index"):
        assert again.predict().index.names == wrapped.predict().index.names
    # The folder alone is the forecaster's own.
    np.testing.assert_array_equal(np.ravel(Forecaster.load(tmp_path / "m").predict()), np.ravel(wrapped.predict()))
    with pytest.raises(InputError, match="exists: take another folder"):
        wrapped.save(tmp_path / "m")


def test_a_zip_of_an_older_version_keeps_loading(tmp_path: Path) -> None:
    """It names the module and the class of that version."""
    shutil.copytree(OLD, tmp_path / "old")
    with ZipFile(tmp_path / "old.zip", "w") as archive:
        archive.writestr("_metadata", "cretrograd.estimators.forecaster\nForecaster\n.")
    expected = json.loads((OLD / "forecast.json").read_text())
    found = load(str(tmp_path / "old"))
    assert isinstance(found, SktimeForecaster)
    np.testing.assert_allclose(found.predict().to_numpy(), expected["values"], rtol=1e-10)


def test_without_sktime_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import retrograd.estimators

    monkeypatch.delitem(sys.modules, "retrograd.estimators.sktime")
    monkeypatch.setitem(sys.modules, "sktime", None)
    monkeypatch.setitem(sys.modules, "sktime.datatypes", None)
    with pytest.raises(ModuleNotFoundError, match=r"SktimeForecaster needs sktime.*: pip install sktime"):
        _ = retrograd.estimators.SktimeForecaster


def test_the_automatic_forecaster_is_one_too(tmp_path: Path) -> None:
    y = waves(60)
    X = pd.DataFrame({"u": np.cos(np.arange(60.0)), "still": 1.0}, index=y.index)
    plain = AutoForecaster(difference="last", transform=None).fit(y[:50], X[:50], fh=[1, 3])
    wrapped = SktimeForecaster(AutoForecaster(difference="last", transform=None)).fit(y[:50], X[:50], fh=[1, 3])
    ahead = X[50:53]
    pd.testing.assert_frame_equal(wrapped.predict(X=ahead), plain.predict(X=ahead), check_freq=False)
    np.testing.assert_array_equal(
        wrapped.predict_interval(X=ahead, coverage=0.9), plain.predict_interval(X=ahead, coverage=0.9)
    )
    assert wrapped.get_params()["forecaster__difference"] == "last"
    wrapped.save(tmp_path / "model")
    loaded = load(str(tmp_path / "model"))
    np.testing.assert_allclose(loaded.predict(X=ahead), plain.predict(X=ahead), rtol=1e-12)
