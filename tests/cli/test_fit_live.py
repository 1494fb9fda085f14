"""`retrograd fit --live`: the same result as without it, and a page that says how it ended."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cli.command import retrograd
from report.live_client import Stream, ask
from retrograd.report import live
from retrograd.report.live import view as module

__all__ = ["retrograd"]  # a fixture

FIT = ("fit", "wave.csv", "--target", "y", "--hidden", "3", "--epochs", "40")


@pytest.fixture(autouse=True)
def table(tmp_path: Path) -> None:
    t = np.arange(80)
    pd.DataFrame({"y": np.sin(t / 3) + np.cos(t / 5)}).to_csv(tmp_path / "wave.csv", index=False)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """A page is open from before the first epoch on; what it got, once the command has ended."""
    got: list[tuple[str, Any]] = []
    began = module.LiveView.__enter__
    ended = module.LiveView.__exit__
    reading: list[threading.Thread] = []

    def enter(view: live.LiveView) -> live.LiveView:
        entered = began(view)
        stream = Stream(view.url)

        def read() -> None:
            with stream:
                got.extend(stream)

        reading.append(threading.Thread(target=read))
        reading[0].start()
        return entered

    def leave(*arguments: Any) -> None:
        ended(*arguments)
        reading[0].join()

    monkeypatch.setattr(module.LiveView, "__enter__", enter)
    monkeypatch.setattr(module.LiveView, "__exit__", leave)
    return got


def files(folder: str) -> dict[str, bytes]:
    """Every file but the report, whose elements have random names."""
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.name != "report.html"}


@pytest.mark.parametrize("options", [(), ("--closed-loop",), ("--optimizer", "lbfgs", "--test", "0")])
def test_the_result_is_bit_for_bit_that_without_it(
    retrograd: Any, watched: list[Any], options: tuple[str, ...]
) -> None:
    assert retrograd(*FIT, *options, "--out", "plain").code == 0
    ran = retrograd(*FIT, *options, "--out", "live", "--live")
    assert ran.code == 0, ran.err
    assert files("live") == files("plain")
    assert {path.name for path in Path("live").iterdir()} == {path.name for path in Path("plain").iterdir()}
    kinds = [kind for kind, _ in watched]
    assert kinds[-1] == "end"
    assert {"status", "frame", "pictures"} <= set(kinds)
    status = [content for kind, content in watched if kind == "status"][-1]
    assert status["state"] == "done"
    assert status["epoch"] == status["epochs"] == 40
    assert status["report"] == str(Path("live", "report.html"))


def test_the_address_is_the_first_line_and_is_gone_in_the_end(retrograd: Any) -> None:
    ran = retrograd(*FIT, "--live")
    found = re.fullmatch(r"Live view: (http://127\.0\.0\.1:\d+/[\w-]{32}/)", ran.err.splitlines()[0])
    assert found is not None
    with pytest.raises(ConnectionRefusedError):
        ask(found.group(1))


def test_a_training_that_is_resumed_shows_its_whole_history(retrograd: Any, watched: list[Any]) -> None:
    assert retrograd(*FIT).code == 0
    assert retrograd(*FIT[:-1], "50", "--resume", "--live").code == 0
    pictures = [content for kind, content in watched if kind == "pictures"]
    assert pictures[-1]["loss"]["epoch"] == list(range(1, 51))


def test_a_divergence_is_what_the_page_is_told(retrograd: Any, watched: list[Any]) -> None:
    ran = retrograd(*FIT, "--optimizer", "sgd", "--lr", "1e200", "--live")
    assert ran.code == 2
    status = [content for kind, content in watched if kind == "status"][-1]
    assert status["state"] == "stopped"
    assert f"retrograd: {status['reason']}" in ran.err.splitlines()
    assert "try a smaller --lr" in status["reason"]


@pytest.mark.parametrize("model", ["state-space", "forecaster"])
def test_another_model_says_why_it_has_no_live_view(retrograd: Any, model: str) -> None:
    ran = retrograd("fit", "wave.csv", "--target", "y", "--model", model, "--live")
    assert ran.code == 2
    (line,) = ran.err.splitlines()
    assert "--live shows training by backpropagation through time, epoch by epoch" in line
    assert f"--model {model} has no such epochs" in line
    assert not Path("runs").exists()


def test_no_port_is_one_clear_line(retrograd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any, **__: Any) -> None:
        raise OSError(98, "Address already in use")

    monkeypatch.setattr(live.LiveView, "__init__", none)
    ran = retrograd(*FIT, "--live")
    assert ran.code == 2
    assert ran.err.splitlines() == ["retrograd: --live: no port can be opened on this machine: Address already in use"]
