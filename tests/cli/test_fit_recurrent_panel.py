"""`retrograd fit --series COLUMN --model recurrent`: one network over many series, which ranks may share."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cli.command import FILES, retrograd
from retrograd.estimators import RecurrentPanel

__all__ = ["retrograd"]  # a fixture

FIT = ("fit", "shops.csv", "--series", "shop", "--target", "sold", "--model", "recurrent", "--hidden", "4")


def write_shops(folder: Path) -> dict[str, Any]:
    """Waves of one period, of other sizes, lengths and levels; one with holes."""
    random, parts = np.random.default_rng(0), {}
    for number, (name, rows) in enumerate((("north", 80), ("south", 60), ("new", 21), ("east", 70))):
        wave = (number + 1) * np.sin(np.pi * np.arange(rows) / 6 + number) + 0.1 * random.standard_normal(rows)
        parts[name] = 10 * number + wave
    parts["east"][[20, 21, 40]] = np.nan
    rows = [pd.DataFrame({"shop": name, "sold": values}) for name, values in parts.items()]
    pd.concat(rows).to_csv(folder / "shops.csv", index=False)
    return parts


def test_one_network_forecasts_every_series(retrograd: Any, tmp_path: Path) -> None:
    shops = write_shops(tmp_path)
    ran = retrograd(*FIT, "--horizon", "6", "--epochs", "20", "--out", "run")
    assert ran.code == 0, ran.err
    assert "4 series of 21 to 80 rows, 231 in all" in ran.out
    assert {path.name for path in Path("run").iterdir()} == FILES | {"checkpoint.safetensors"}
    forecast = pd.read_csv("run/forecast.csv")
    for number, (name, values) in enumerate(shops.items()):
        t = np.arange(len(values), len(values) + 6)
        found = forecast[forecast["shop"] == name]["sold"]
        want = 10 * number + (number + 1) * np.sin(np.pi * t / 6 + number)
        np.testing.assert_allclose(found, want, atol=0.3 * (number + 1))
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert metrics["south: forecast, 1 to 6 ahead"]["RMSE"] < 0.5 * metrics["south: last value, 1 to 6 ahead"]["RMSE"]
    loaded = RecurrentPanel.load("run").forecast(6)
    np.testing.assert_allclose(forecast["sold"], np.concatenate([x[:, 0] for x in loaded.values()]), rtol=1e-9)
    assert retrograd("forecast", "run").out == Path("run/forecast.csv").read_text()
    half = pd.read_csv(io.StringIO(retrograd("forecast", "run", "--level", "50").out))
    assert list(half) == ["shop", *list(forecast)[1:-5], "sold", "sold_lower_50", "sold_upper_50"]
    assert (forecast["sold_lower_80"] < half["sold_lower_50"]).all()
    assert (half["sold_upper_50"] < forecast["sold_upper_80"]).all()
    assert "in 95 %" in metrics["south: forecast, 1 to 6 ahead"]


def test_rows_that_came_since_move_the_forecast_on(retrograd: Any, tmp_path: Path) -> None:
    shops = write_shops(tmp_path)
    assert retrograd(*FIT, "--epochs", "3", "--out", "run").code == 0
    later = pd.DataFrame({"step": [61, 62], "shop": "south", "sold": [10.0, 11.0]})
    later[["shop", "sold"]].to_csv("later.csv", index=False)
    moved = retrograd("forecast", "run", "--series", "south", "--data", "later.csv", "--horizon", "3")
    assert moved.code == 0, moved.err
    model = RecurrentPanel.load("run").update({"south": np.array([10.0, 11.0])})
    np.testing.assert_allclose(pd.read_csv(io.StringIO(moved.out))["sold"], model.forecast(3)["south"][:, 0], rtol=1e-9)
    assert len(shops["south"]) == 60


def test_a_wild_last_value_is_named_with_its_series(retrograd: Any, tmp_path: Path) -> None:
    shops = write_shops(tmp_path)
    shops["south"][-1] = 1e4
    pd.concat([pd.DataFrame({"shop": name, "sold": y}) for name, y in shops.items()]).to_csv("shops.csv", index=False)
    ran = retrograd(*FIT, "--epochs", "1", "--out", "run")
    assert ran.code == 0, ran.err
    (line,) = [line for line in ran.out.splitlines() if "usual changes" in line]
    assert line.startswith("south: sold is 10000 at step 60, ")
    assert "the forecast goes by it" in line
    assert "usual changes" in Path("run/report.html").read_text()


def test_it_resumes_in_the_same_bits(retrograd: Any, tmp_path: Path) -> None:
    write_shops(tmp_path)
    for out, *steps in (("whole", ("6",)), ("parts", ("3",), ("6", "--resume"))):
        for epochs in steps:
            assert retrograd(*FIT, "--out", out, "--epochs", *epochs).code == 0
    assert Path("whole/model.safetensors").read_bytes() == Path("parts/model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--closed-loop",), "--closed-loop is of one series"),
        (("--live",), "--live is of one series"),
        (("--time-parallel", "2"), "leave --time-parallel out"),
        (("--inputs", "sold"), "--inputs are of one series"),
        (("--resume", "--overwrite"), "give one of them"),
    ],
    ids=["closed-loop", "live", "time-parallel", "inputs", "both"],
)
def test_what_is_of_one_series_is_refused(given: tuple[str, ...], message: str, retrograd: Any, tmp_path: Path) -> None:
    write_shops(tmp_path)
    ran = retrograd(*FIT, *given)
    assert ran.code == 2
    assert message in ran.err


@pytest.mark.parametrize("model", ["auto", "recurrent", "forecaster"])
def test_ranks_that_would_all_do_the_same(
    model: str, retrograd: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    ran = retrograd("fit", "sunspots", "--target", "sunspots", "--model", model, "--out", str(tmp_path / "run"))
    assert ran.code == 2
    assert "torchrun has started 3 processes" in ran.err
    assert "--time-parallel 3" in ran.err
    assert not (tmp_path / "run").exists()


def over_two(folder: Path, out: str) -> set[str]:
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "retrograd"),
        *(*FIT, "--epochs", "5", "--out", out),
    ]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return {path.name for path in (folder / out).iterdir()}


@pytest.mark.slow
def test_two_ranks_of_torchrun_make_one_run(retrograd: Any, tmp_path: Path) -> None:
    write_shops(tmp_path)
    assert over_two(tmp_path, "one") == FILES | {"checkpoint.safetensors"}
    assert retrograd(*FIT, "--epochs", "5", "--out", "alone").code == 0
    alone, shared = (RecurrentPanel.load(folder).forecast(10) for folder in ("alone", tmp_path / "one"))
    for name, values in alone.items():
        np.testing.assert_allclose(shared[name], values, rtol=1e-9)
