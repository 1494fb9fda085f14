"""`retrograd fit` and `retrograd forecast`, as a user calls them: the run folder, resuming, and every refusal."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cli.command import FILES, call, retrograd
from retrograd import report
from retrograd.cli import fit_recurrent
from retrograd.estimators import Epoch, Trainer
from retrograd.report import RunReport

__all__ = ["retrograd"]  # a fixture

FAST = ["--model", "recurrent", "--epochs", "3", "--hidden", "3"]


def write_table(path: Path, rows: int = 60, future: int = 0, **columns: Any) -> Path:
    t = np.arange(rows + future)
    y = np.sin(t / 3) * 10 + 50
    table = pd.DataFrame(
        {
            "day": pd.date_range("2024-01-01", periods=rows + future),
            "sales": np.where(t < rows, y, np.nan),
            "returns": np.where(t < rows, np.cos(t / 3), np.nan),
            "price": np.cos(t / 5),
            **columns,
        }
    )
    table.to_csv(path, index=False)
    return path


def digests(folder: Path, *, page: bool = True) -> dict[str, str]:
    """Digest of every file; ``page=False``: without the report, whose elements have random names."""
    files = [path for path in sorted(folder.iterdir()) if page or path.name != "report.html"]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table and a run."""
    folder = tmp_path_factory.mktemp("shop")
    write_table(folder / "shop.csv")
    assert call(folder, "fit", "shop.csv", "--target", "sales", "--time", "day", *FAST, "--out", "run").code == 0
    return folder


@pytest.fixture
def run_folder(shop: Path, tmp_path: Path) -> Path:
    """A copy of it for one test."""
    shutil.copytree(shop, tmp_path, dirs_exist_ok=True)
    return tmp_path / "run"


# --- the main job ---


@pytest.mark.slow
def test_sunspots_with_the_demo_defaults_beat_ar9(retrograd: Any, tmp_path: Path) -> None:
    # The demo's own command, from the Makefile.
    makefile = (Path(__file__).parents[2] / "Makefile").read_text()
    (command,) = re.findall(r"retrograd (fit .*)", makefile)
    ran = retrograd(*command.replace("runs/sunspots", "run").split())
    assert ran.code == 0, ran.err
    assert {path.name for path in Path("run").iterdir()} == FILES | {"checkpoint.safetensors"}
    found = pd.read_csv("run/predictions.csv", index_col="year")
    tested = found.loc[1921:1955]
    mse = float(((tested.sunspots - tested.sunspots_one_step) ** 2).mean())
    assert mse < 189.2  # AR(9), fitted to the same years
    metrics = json.loads(Path("run/metrics.json").read_text())
    held_out = found.loc[1921:]
    assert metrics["one step, held out"]["MSE"] == pytest.approx(
        float(((held_out.sunspots - held_out.sunspots_one_step) ** 2).mean()), rel=1e-12
    )
    assert held_out.sunspots_one_step.notna().all()
    assert metrics["free run, held out"]["MSE"] < metrics["training mean"]["MSE"]
    forecast = pd.read_csv("run/forecast.csv")
    assert forecast.year.tolist() == list(range(2009, 2031))
    assert forecast.sunspots.between(-50, 250).all()  # original units
    assert "below that of the last value" in ran.out
    assert "run/report.html" in ran.out


def test_several_targets_inputs_known_ahead_and_dates(retrograd: Any, tmp_path: Path) -> None:
    write_table(tmp_path / "shop.csv", future=5)
    arguments = ["fit", "shop.csv", "--target", "sales,returns", "--inputs", "price", "--time", "day", *FAST]
    ran = retrograd(*arguments, "--test", "2024-02-20")
    assert ran.code == 0, ran.err
    forecast = pd.read_csv("runs/shop/forecast.csv")
    ends = ("", "_lower_80", "_upper_80", "_lower", "_upper")
    assert list(forecast) == ["day", *(name + end for name in ("sales", "returns") for end in ends)]
    assert forecast.day.tolist() == [f"2024-03-0{day}" for day in range(1, 6)]
    metrics = json.loads(Path("runs/shop/metrics.json").read_text())
    assert "one step, held out: returns" in metrics
    config = json.loads(Path("runs/shop/config.json").read_text())
    assert config["target"]["names"] == ["sales", "returns"]


def test_parquet_is_the_same_data(retrograd: Any, run_folder: Path) -> None:
    pd.read_csv("shop.csv", parse_dates=["day"]).to_parquet("same.parquet")
    assert retrograd("fit", "same.parquet", "--target", "sales", "--time", "day", *FAST).code == 0
    assert Path("runs/same/forecast.csv").read_bytes() == (run_folder / "forecast.csv").read_bytes()


@pytest.mark.parametrize("closed", [False, True])
def test_the_verdict_is_on_the_loss_that_was_trained(
    retrograd: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: bool
) -> None:
    write_table(tmp_path / "shop.csv", rows=100, sales=50 + np.random.default_rng(0).normal(size=100))
    sweeps: list[Any] = []
    pages: list[RunReport] = []
    analyse = fit_recurrent.analyse

    def noted(sweep: Any) -> Any:
        sweeps.append(sweep)
        return analyse(sweep)

    monkeypatch.setattr(fit_recurrent, "analyse", noted)
    monkeypatch.setattr(report, "write_report", lambda path, page: pages.append(page))
    options = ["--closed-loop"] if closed else []
    ran = retrograd(
        "fit", "shop.csv", "--target", "sales", "--model", "recurrent", "--horizon", "12", "--epochs", "60", *options
    )
    assert ran.code == 0, ran.err
    (sweep,), (page,) = sweeps, pages
    assert sweep.time == (12 if closed else 79)
    # The best weights are those before the last update, or after it.
    lowest = min(row["loss"] for row in page.history)
    assert 0.98 * lowest < sweep.loss <= lowest * (1 + 1e-4)
    assert page.trained_on == (
        "the error of free runs of 12 steps, started all along the training part"
        if closed
        else "the one-step error over the training part"
    )


def test_nobody_is_told_to_try_what_was_tried(retrograd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pd.DataFrame({"y": 1.02 ** np.arange(100.0)}).to_csv("up.csv", index=False)
    common = ["fit", "up.csv", "--target", "y", "--model", "recurrent", "--epochs", "60", "--horizon", "10"]
    for options, advice in (
        ([], "Try --closed-loop, or a smaller --hidden."),
        (["--closed-loop"], "Try a --horizon above 10, or a smaller --hidden."),
    ):
        ran = retrograd(*common, *options, "--overwrite")
        assert "The closed loop is unstable" in ran.out
        assert advice in ran.out
        assert ran.out.count("--closed-loop") == advice.count("--closed-loop")


def test_nothing_held_out(retrograd: Any, tmp_path: Path) -> None:
    write_table(tmp_path / "shop.csv")
    assert retrograd("fit", "shop.csv", "--target", "sales", "--test", "0", *FAST).code == 0
    metrics = json.loads(Path("runs/shop/metrics.json").read_text())
    assert list(metrics) == ["one step, training"]


def test_a_series_that_explodes_in_closed_loop_leaves_valid_json(retrograd: Any, tmp_path: Path) -> None:
    pd.DataFrame({"y": 1.5 ** np.arange(400.0)}).to_csv("up.csv", index=False)
    ran = retrograd(
        "fit", "up.csv", "--target", "y", "--model", "recurrent", "--test", "0.5", "--epochs", "60", "--horizon", "200"
    )
    assert ran.code == 0, ran.err
    text = Path("runs/up/metrics.json").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    json.loads(text)


# --- the same result again ---


def test_a_run_that_ctrl_c_ends_is_resumed_to_the_unbroken_one(
    retrograd: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_table(tmp_path / "shop.csv")
    common = ["fit", "shop.csv", "--target", "sales", "--model", "recurrent", "--hidden", "3", "--epochs", "9"]
    assert retrograd(*common, "--out", "whole").code == 0
    step = Trainer.step

    def pressed(trainer: Trainer) -> Epoch:
        if len(trainer.history) == 3:
            signal.raise_signal(signal.SIGINT)
        return step(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", pressed)
        ran = retrograd(*common, "--out", "parts")
    assert ran.code == 130
    assert "Stopped after epoch 4 of 9" in ran.out
    assert f"{shlex.join(['retrograd', *common, '--out', 'parts'])} --resume" in ran.out
    assert not Path("parts/model.safetensors").exists()
    assert retrograd(*common, "--out", "parts", "--resume").code == 0
    assert digests(Path("whole"), page=False) == digests(Path("parts"), page=False)


@pytest.mark.slow
def test_ctrl_c_keeps_a_checkpoint_and_resume_gives_the_unbroken_result(tmp_path: Path) -> None:
    write_table(tmp_path / "shop.csv", rows=400)
    command = [sys.executable, "-m", "retrograd", "fit", "shop.csv", "--target", "sales", "--model", "recurrent"]
    command += ["--epochs", "1500"]

    def run(*more: str) -> subprocess.Popen[str]:
        pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen([*command, *more], cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}, **pipes)

    whole = run("--out", "whole")
    whole.communicate()
    part = run("--out", "part")
    # The first checkpoint is written after the first epoch.
    while not (tmp_path / "part" / "checkpoint.safetensors").exists() and part.poll() is None:
        time.sleep(0.02)
    time.sleep(0.3)
    part.send_signal(signal.SIGINT)
    out, err = part.communicate()
    assert part.returncode == 130, out + err
    assert "Stopped after epoch" in out
    assert "--resume" in out
    assert not (tmp_path / "part" / "model.safetensors").exists()
    rest = run("--out", "part", "--resume")
    assert rest.wait() == 0
    rest.communicate()
    assert digests(tmp_path / "part", page=False) == digests(tmp_path / "whole", page=False)


# --- forecast ---


def test_forecast_of_a_run_agrees_exactly_with_fit(retrograd: Any, run_folder: Path, tmp_path: Path) -> None:
    write_table(tmp_path / "ahead.csv", future=4)
    command = ["fit", "ahead.csv", "--target", "sales", "--inputs", "price", "--time", "day", *FAST]
    assert retrograd(*command, "--out", "priced").code == 0
    for out in ("run", "priced"):
        assert retrograd("forecast", out, "--out", f"{out}.csv").code == 0
        assert Path(f"{out}.csv").read_bytes() == Path(out, "forecast.csv").read_bytes()
        assert retrograd("forecast", out).out == Path(out, "forecast.csv").read_text()
    longer = retrograd("forecast", "run", "--horizon", "30").out.splitlines()
    assert longer[:11] == Path("run/forecast.csv").read_text().splitlines()
    assert len(longer) == 31
    pd.DataFrame({"price": np.cos(np.arange(60, 70) / 5)}).to_csv("prices.csv", index=False)
    given = retrograd("forecast", "priced", "--inputs-file", "prices.csv").out.splitlines()
    assert given[:5] == Path("priced/forecast.csv").read_text().splitlines()
    assert len(given) == 11
    pd.DataFrame({"price": 1000 * np.cos(np.arange(60, 70) / 5)}).to_csv("cents.csv", index=False)
    said = retrograd("forecast", "priced", "--inputs-file", "cents.csv").err
    assert said.startswith("price is ")
    assert "in the data learnt from: the forecast goes far beyond these" in said


# --- one clear line, exit code 2, and nothing touched ---


def csv_text(*rows: str) -> str:
    return "day,sales,price\n" + "".join(f"{row}\n" for row in rows)


GOOD = [f"{t},{50 + t % 7},{t % 3}" for t in range(30)]
BAD_FIT: dict[str, tuple[str | None, list[str], str]] = {
    "missing file": (None, [], r"data.csv"),
    "missing column": (csv_text(*GOOD), ["--target", "sale"], r"did you mean 'sales'"),
    "text": (csv_text(*GOOD[:5], "5,many,1", *GOOD[6:]), [], r"row 7.*many"),
    "empty file": ("", [], r"empty"),
    "header only": (csv_text(), [], r"data.csv"),
    "one row": (csv_text(GOOD[0]), [], r"data.csv"),
    "constant column": (csv_text(*(f"{t},5,1" for t in range(30))), [], r"sales.*constant"),
    "NaN": (csv_text(*GOOD[:5], "5,,1", *GOOD[6:]), ["--closed-loop"], r"row 7.*--fill"),
    "long horizon": (csv_text(*GOOD), ["--horizon", "31"], r"--horizon is 31, expected 0 to 30"),
    "optimizer": (csv_text(*GOOD), ["--optimizer", "adm"], r"--optimizer is 'adm': did you mean 'adam'"),
    "test": (csv_text(*GOOD), ["--test", "soon"], r"--test"),
    "device": (csv_text(*GOOD), ["--device", "tpu"], r"--device is 'tpu'"),
    "no gpu": (csv_text(*GOOD), ["--device", "cuda:99"], r"--device is 'cuda:99', which torch cannot use here"),
    "hidden": (csv_text(*GOOD), ["--hidden", "0"], r"--hidden is 0, expected a whole number of at least 1"),
    "rate": (csv_text(*GOOD), ["--lr", "nan"], r"--lr is nan"),
    "closed loop": (csv_text(*GOOD), ["--closed-loop", "--horizon", "1"], r"--closed-loop .* --horizon 1 steps"),
    "unknown future": (csv_text(*GOOD), ["--inputs", "price", "--horizon", "3"], r"known for 0 steps after"),
    "both": (csv_text(*GOOD), ["--resume", "--overwrite"], r"give one of them"),
    "divergence": (csv_text(*GOOD), ["--optimizer", "sgd", "--lr", "1e200"], r"stopped at epoch \d.*smaller --lr"),
}


@pytest.mark.parametrize("case", BAD_FIT)
def test_bad_input_is_one_clear_line(retrograd: Any, case: str) -> None:
    text, options, message = BAD_FIT[case]
    if text is not None:
        Path("data.csv").write_text(text)
    target = [] if "--target" in options else ["--target", "sales"]
    ran = retrograd("fit", "data.csv", *target, "--model", "recurrent", *options)
    assert ran.code == 2
    lines = [line for line in ran.err.splitlines() if line.startswith("retrograd: ")]
    assert len(lines) == 1
    re.search(message, lines[0]) or pytest.fail(lines[0])
    if case != "divergence":
        assert ran.err.splitlines() == lines
        assert not Path("runs").exists()


def test_divergence_keeps_the_best_model_so_far(retrograd: Any) -> None:
    Path("data.csv").write_text(csv_text(*GOOD))
    ran = retrograd("fit", "data.csv", "--target", "sales", "--model", "recurrent", "--optimizer", "sgd", "--lr", "1e6")
    assert ran.code == 2
    assert "the best model so far" in ran.err
    assert {path.name for path in Path("runs/data").iterdir()} == FILES | {"checkpoint.safetensors"}
    assert retrograd("forecast", "runs/data").code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], r"--out run is not empty: --resume continues that run, --overwrite replaces it"),
        (["--overwrite", "--hidden", "-1"], r"--hidden is -1"),
        (["--overwrite", "--test", "7"], r"--test"),
        (["--resume", "--lr", "0.5"], r"--lr is 0.5, the training in .* has 0.01: keep it"),
        (["--resume", "--test", "0.4"], r"the training data are not those of"),
        (["--resume", "--epochs", "2"], r"--epochs is 2, the training in .* has 3 behind it"),
    ],
)
def test_an_existing_run_is_left_alone(retrograd: Any, run_folder: Path, arguments: list[str], message: str) -> None:
    before = digests(run_folder)
    command = ["fit", "shop.csv", "--target", "sales", "--time", "day", *FAST, "--out", "run", *arguments]
    if "--test" in arguments and "7" in arguments:
        command[1] = "missing.csv"
        message = r"missing.csv"
    ran = retrograd(*command)
    assert ran.code == 2
    assert re.search(message, ran.err), ran.err
    assert digests(run_folder) == before


def test_overwrite_replaces_the_run(retrograd: Any, run_folder: Path) -> None:
    before = digests(run_folder)
    recurrent = ["--model", "recurrent", "--epochs", "5", "--hidden", "3"]
    command = ["fit", "shop.csv", "--target", "sales", *recurrent, "--out", "run", "--overwrite"]
    assert retrograd(*command).code == 0
    after = digests(run_folder)
    assert set(after) == set(before)
    assert all(after[name] != before[name] for name in ("model.safetensors", "forecast.csv", "report.html"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_folder_is_named(retrograd: Any, tmp_path: Path) -> None:
    write_table(tmp_path / "shop.csv")
    (tmp_path / "closed").mkdir(mode=0o500)
    ran = retrograd("fit", "shop.csv", "--target", "sales", *FAST, "--out", "closed/run")
    assert ran.code == 2
    assert "--out closed/run cannot be written" in ran.err


def test_an_out_that_is_or_lies_below_a_file_is_named(retrograd: Any, tmp_path: Path) -> None:
    write_table(tmp_path / "shop.csv")
    for out in ("shop.csv", "shop.csv/run"):
        before = (tmp_path / "shop.csv").read_bytes()
        ran = retrograd("fit", "shop.csv", "--target", "sales", *FAST, "--out", out)
        assert ran.code == 2
        assert f"--out {out}" in ran.err
        assert (tmp_path / "shop.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["forecast", "ru"], r"run folder ru does not exist: did you mean 'run'"),
        (["forecast", "run", "--horizon", "0"], r"--horizon is 0, expected a whole number from 1 to 1000000"),
        (["forecast", "run", "--inputs-file", "shop.csv"], r"has no exogenous inputs"),
        (["forecast", "run", "--out", "shop.csv"], r"shop.csv exists: use --overwrite"),
        (["forecast", "run", "--out", "nowhere/f.csv"], r"--out nowhere/f.csv"),
    ],
)
def test_a_bad_forecast_is_refused(retrograd: Any, run_folder: Path, arguments: list[str], message: str) -> None:
    ran = retrograd(*arguments)
    assert ran.code == 2
    assert len(ran.err.splitlines()) == 1
    assert re.search(message, ran.err), ran.err


def test_metrics_are_finite_numbers(retrograd: Any, run_folder: Path) -> None:
    metrics = json.loads((run_folder / "metrics.json").read_text())
    assert all(math.isfinite(value) for row in metrics.values() for value in row.values())
