"""The command line as a user calls it, in an empty folder of its own."""

from __future__ import annotations

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


@pytest.fixture
def retrograd(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["retrograd", *arguments])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        printed = capsys.readouterr()
        return Ran(stopped.value.code or 0, printed.out, printed.err)  # type: ignore[arg-type]

    return run
