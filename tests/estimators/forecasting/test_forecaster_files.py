"""The forecaster in a folder: what is loaded is what was saved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError

from estimators.forecasting.loads import CONFIGURATIONS, loads
from retrograd.errors import InputError
from retrograd.estimators.forecasting.estimator import Forecaster

OLD = Path(__file__).parents[1] / "data" / "forecaster-v1"


@pytest.mark.parametrize("options", CONFIGURATIONS, ids=str)
@pytest.mark.parametrize("form", ["table", "series", "vector", "list", "panel"])
def test_a_saved_forecaster_is_the_same_forecaster(options: dict[str, Any], form: str, tmp_path: Path) -> None:
    y = loads(20)
    if "calendar" in options and form in ("vector", "list"):
        options = {name: value for name, value in options.items() if name != "calendar"}
    old, new = {
        "table": (y.iloc[:400], y.iloc[400:]),
        "series": (y["load0"].iloc[:400], y["load0"].iloc[400:]),
        "vector": (y["load0"].to_numpy()[:400], y["load0"].to_numpy()[400:]),
        "list": ([y[name].to_numpy()[:400] for name in y], [y[name].to_numpy()[400:] for name in y]),
        "panel": tuple(
            pd.concat({i: part[[name]].set_axis(["load"], axis=1) for i, name in enumerate(y)}, names=["site", "date"])
            for part in (y.iloc[:400], y.iloc[400:])
        ),
    }[form]
    forecaster = Forecaster(**options).fit(old, fh=[1, 2, 7])
    forecaster.save(tmp_path / "model")
    assert {"model.safetensors", "config.json"} == {path.name for path in (tmp_path / "model").iterdir()}
    again = Forecaster.load(tmp_path / "model")
    assert again.get_params() == forecaster.get_params()
    for _ in range(2):
        one, other = forecaster.predict(), again.predict()
        if form == "list":
            one, other = np.concatenate(one), np.concatenate(other)
        assert type(one) is type(other)
        np.testing.assert_array_equal(one, other)
        if isinstance(one, (pd.DataFrame, pd.Series)):
            assert one.index.equals(other.index)
            assert one.index.names == other.index.names
        intervals = [model.predict_interval(coverage=[0.5, 0.9]).to_numpy() for model in (forecaster, again)]
        np.testing.assert_array_equal(*intervals)
        forecaster.update(new)
        again.update(new)


def test_a_folder_is_never_overwritten_unasked(tmp_path: Path) -> None:
    forecaster = Forecaster(lags=3).fit(loads(5), fh=[1])
    forecaster.save(tmp_path / "model")
    with pytest.raises(InputError, match=r"model.safetensors exists: take another folder, or overwrite=True"):
        forecaster.save(tmp_path / "model")
    forecaster.save(tmp_path / "model", overwrite=True)
    with pytest.raises(NotFittedError, match=r"not fitted"):
        Forecaster().save(tmp_path / "other")


def test_folders_that_hold_no_forecaster_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is no finished run: config.json is missing"):
        Forecaster.load(tmp_path)
    Forecaster(lags=3).fit(loads(5), fh=[1]).save(tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    with pytest.raises(InputError, match=r"has format 99, this version reads up to 2: install a newer"):
        Forecaster.load(tmp_path / "model")
    path.write_text("{")
    with pytest.raises(InputError, match=r"is no model that can be read: JSONDecodeError"):
        Forecaster.load(tmp_path / "model")


def test_files_of_an_older_version_keep_loading() -> None:
    """The folder was written by the first version, and what it forecast then stands beside it."""
    forecaster = Forecaster.load(OLD)
    expected = json.loads((OLD / "forecast.json").read_text())
    predicted = forecaster.predict()
    assert [str(time) for time in predicted.index] == expected["times"]
    np.testing.assert_allclose(predicted.to_numpy(), expected["values"], rtol=1e-10)
    forecaster.update(loads(20).iloc[400:])
    np.testing.assert_allclose(forecaster.predict().to_numpy(), expected["updated"], rtol=1e-8)
