"""The library's messages in the words of the command line."""

from __future__ import annotations

import pytest

from retrograd.cli.options import in_options
from retrograd.errors import InputError

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
