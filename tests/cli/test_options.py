"""The library's messages in the words of the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cli.command import retrograd
from retrograd.cli.options import in_options
from retrograd.errors import InputError

__all__ = ["retrograd"]  # a fixture

OPTIONS = ("--lr", "--clip", "--horizon", "--target", "--inputs", "--test", "--fill", "--closed-loop", "--stable")


@pytest.mark.parametrize(
    ("message", "arguments", "said"),
    [
        ("horizon is 31, expected 0 to 30", (), "--horizon is 31, expected 0 to 30"),
        ("try a smaller lr, or clip=1", ("lr",), "try a smaller --lr, or --clip 1"),
        ("set fill='forward' or fill='linear'", (), "set --fill forward or --fill linear"),
        (
            "asked for twice among targets and inputs",
            ("targets", "inputs"),
            "asked for twice among --target and --inputs",
        ),
        # The user's own words, and words that are no argument here, stay.
        ("test is 'test', expected a date", (), "--test is 'test', expected a date"),
        ("the inputs lr and horizon are known for 3 steps", (), "the inputs lr and horizon are known for 3 steps"),
        ("states is 'lag', try states='lags'", (), "states is 'lag', try states='lags'"),
        ("the model's target is not the data's target", (), "the model's target is not the data's target"),
        # Flags have no value; some options have another name.
        ("try closed_loop=True or stability=True", (), "try --closed-loop or --stable"),
    ],
)
def test_arguments_become_options(message: str, arguments: tuple[str, ...], said: str) -> None:
    assert in_options(InputError(message, *arguments), OPTIONS) == said


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("fit", "d.csv"), "retrograd fit d.csv --target 'the value' --time day (or other)"),
        (("fit", "d.csv", "--series", "shop"), "--target 'the value' --time day --series shop (or other)"),
        (("fit", "d.csv", "--inputs", "the value", "--time", "n"), "retrograd fit d.csv --target other --time n"),
        (("backtest", "sunspots"), "retrograd backtest sunspots --target sunspots --time year"),
    ],
)
def test_a_command_without_a_target_is_told_the_one_for_its_table(
    retrograd: Any, tmp_path: Path, command: tuple[str, ...], said: str
) -> None:
    rows = [f"2024-01-{k:02},{k},{'ab'[k % 2]},{k * k % 7},{k % 3}" for k in range(1, 20)]
    (tmp_path / "d.csv").write_text("\n".join(["day,n,shop,the value,other", *rows]) + "\n")
    ran = retrograd(*command)
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1)
    assert "--target is missing: name the column to predict, as in: retrograd " in ran.err
    assert ran.err.rstrip().endswith(said)
