"""The command line as a user calls it, in an empty folder of its own."""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path
from typing import Any

import pytest

from retrograd import cli

FILES = {
    "model.safetensors",
    "config.json",
    "metrics.json",
    "predictions.csv",
    "forecast.csv",
    "report.html",
}


class Ran:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


def call(folder: Path, *arguments: str) -> Ran:
    """Run a command in a folder."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))  # with a buffer for bytes, as a terminal has
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["retrograd", *arguments])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
    for stream in (out, err):
        stream.flush()
    said = [stream.buffer.getvalue().decode() for stream in (out, err)]  # type: ignore[attr-defined]
    return Ran(stopped.value.code or 0, *said)  # type: ignore[arg-type]


@pytest.fixture
def retrograd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Ran:
        return call(tmp_path, *arguments)

    return run
