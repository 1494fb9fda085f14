"""`retrograd fit --live` and `--log-dir`: the same result as without them, and files that follow the training."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cli.command import FILES, retrograd
from retrograd.cli import fit_recurrent
from retrograd.report import live

__all__ = ["retrograd"]  # a fixture

FIT = ("fit", "wave.csv", "--target", "y", "--model", "recurrent", "--hidden", "3", "--epochs", "12")


@pytest.fixture(autouse=True)
def table(tmp_path: Path) -> None:
    t = np.arange(80)
    pd.DataFrame({"y": np.sin(t / 3) + np.cos(t / 5)}).to_csv(tmp_path / "wave.csv", index=False)


def files(folder: str) -> dict[str, bytes]:
    """Every file but the pages."""
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.suffix != ".html"}


def state(page: str) -> str:
    found = re.search(r'<p role="status">(.*?)</p>', page)
    assert found is not None
    return found.group(1)


@pytest.mark.parametrize(
    "options",
    [(), pytest.param(("--closed-loop", "--optimizer", "lbfgs", "--test", "0"), marks=pytest.mark.slow)],
)
def test_the_result_is_bit_for_bit_that_without_them(retrograd: Any, options: tuple[str, ...]) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    assert retrograd(*FIT, *options, "--out", "plain").code == 0
    ran = retrograd(*FIT, *options, "--out", "live", "--live", "--log-dir", "logs")
    assert ran.code == 0, ran.err
    assert files("live") == files("plain")
    assert {path.name for path in Path("live").iterdir()} - {path.name for path in Path("plain").iterdir()} == {
        "live.html"
    }
    page = Path("live", "live.html").read_text()
    assert state(page).startswith("Training ended after 12 epochs.")
    assert '<a href="report.html">' in page
    assert 'http-equiv="refresh"' not in page

    log = accumulator.EventAccumulator("logs", size_guidance={"scalars": 0, "images": 0}).Reload()
    assert [event.step for event in log.Scalars("loss")] == list(range(1, 13))
    assert [event.step for event in log.Scalars("gradient norm")] == list(range(1, 13))
    pictures = ["Training", "Prediction against truth", "How the gradient flows back through time"]
    assert {*pictures, "Eigenvalues of the transition"} == set(log.Tags()["images"])
    assert [event.step for event in log.Images(pictures[1])] == [1, 12]


def test_a_resumed_training_continues_page_and_log_and_another_run_takes_the_page_away(retrograd: Any) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    shown = ("--live", "--log-dir", "logs")
    assert retrograd(*FIT, *shown).code == 0
    assert retrograd(*FIT[:-1], "15", "--resume", *shown).code == 0
    assert "15 of 15" in Path("runs/wave/live.html").read_text()
    log = accumulator.EventAccumulator("logs", size_guidance={"scalars": 0}).Reload()
    assert [event.step for event in log.Scalars("loss")] == list(range(1, 16))
    # The page of a run before does not stay.
    assert retrograd(*FIT[:-1], "1", "--overwrite").code == 0
    assert {path.name for path in Path("runs/wave").iterdir()} == FILES | {"checkpoint.safetensors"}


def test_a_divergence_is_what_the_page_says(retrograd: Any) -> None:
    # The first epoch is whole, and the weights after it are not.
    ran = retrograd(*FIT, "--optimizer", "sgd", "--lr", "1e60", "--live")
    assert ran.code == 2
    page = Path("runs/wave/live.html").read_text()
    assert state(page).startswith("Training stopped: training stopped at epoch")
    assert "try a smaller lr" in state(page)
    assert 'http-equiv="refresh"' not in page


def test_ctrl_c_is_what_the_page_says(retrograd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = live.LiveView.observe

    def interrupted(view: live.LiveView, trainer: Any) -> None:
        seen(view, trainer)
        if len(trainer.history) == 7:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(live.LiveView, "observe", interrupted)
    ran = retrograd(*FIT, "--live")
    assert ran.code == 130
    assert "--live --resume" in ran.out
    page = Path("runs/wave/live.html").read_text()
    assert state(page) == "Training stopped: interrupted after epoch 7; --resume continues it."
    assert 'http-equiv="refresh"' not in page


def test_a_full_disk_is_one_line_and_the_training_goes_on(retrograd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(live, "write_whole", full)
    monkeypatch.setattr(live, "PERIOD", 0.0)
    monkeypatch.setattr(live, "REST", 0)
    ran = retrograd(*FIT[:-1], "3", "--live")
    assert ran.code == 0
    said = [line for line in ran.err.splitlines() if "No space" in line]
    page = Path("runs", "wave", "live.html")
    assert said == [f"retrograd: writing {page} failed (No space left on device); the training goes on"]
    assert Path("runs/wave/report.html").is_file()


@pytest.mark.parametrize("option", [("--live",), ("--log-dir", "logs")])
@pytest.mark.parametrize("model", ["state-space", "forecaster"])
def test_another_model_says_why_it_has_no_epochs(retrograd: Any, model: str, option: tuple[str, ...]) -> None:
    ran = retrograd("fit", "wave.csv", "--target", "y", "--model", model, *option)
    assert ran.code == 2
    (line,) = ran.err.splitlines()
    assert f"{option[0]} shows training by backpropagation through time, epoch by epoch" in line
    assert f"--model {model} has no such epochs" in line
    assert not Path("runs").exists()


def test_a_log_that_cannot_be_is_refused_before_any_file_is_touched(
    retrograd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = retrograd(*FIT, "--log-dir", "wave.csv")
    assert (ran.code, ran.err) == (2, "retrograd: --log-dir wave.csv is a file, expected a folder\n")
    monkeypatch.setattr(fit_recurrent, "find_spec", lambda name: None)
    ran = retrograd(*FIT, "--log-dir", "logs")
    assert (ran.code, ran.err) == (
        2,
        "retrograd: --log-dir needs tensorboard: pip install tensorboard\n",
    )
    assert not Path("runs").exists()
    assert not Path("logs").exists()
