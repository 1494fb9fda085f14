"""`retrograd check` on the command line."""

from __future__ import annotations

from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from cli.command import retrograd
from retrograd.cli import check as check_module
from retrograd.rnn.agreement import QUANTITIES, Row

__all__ = ["retrograd"]  # a fixture

check = check_module.check


def invoke(*arguments: str) -> Any:
    app = typer.Typer()
    app.command("check")(check)
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "80"})


def test_on_the_command_line() -> None:
    done = invoke("--time", "6", "--hidden", "3", "--batch", "2", "--dtype", "float32", "--seed", "3")
    assert done.exit_code == 0, done.output
    assert "comparisons agree" in done.output
    assert "Allowed" in done.output
    assert "closed loop" in done.output
    assert "…" not in done.output  # nothing is cut off on 80 columns


def test_exit_code_1_if_anything_is_out_of_tolerance(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [Row("open loop", "bptt, native", q, 1e9 if q == "x" else 1.0, 10.0) for q in QUANTITIES]
    monkeypatch.setattr(check_module, "agreement", lambda **_: rows)
    done = invoke()
    assert done.exit_code == 1
    assert "FAIL" in done.output
    assert "1 of 9 comparisons are out of tolerance" in done.output


def test_options_that_cannot_be(retrograd: Any) -> None:
    done = retrograd("check", "--time", "0")
    assert done.code == 2
    assert done.err == "retrograd: --time is 0, expected a whole number from 1 to 100000\n"
