"""Checks of arguments: what passes, and the one line for what does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from retrograd.errors import InputError, require_number, require_whole


@pytest.mark.parametrize("value", [1, 7, np.int64(7)])
def test_whole_numbers_come_back_as_int(value: Any) -> None:
    assert type(require_whole("lags", value)) is int


@pytest.mark.parametrize("value", [0, -1, True, 2.0, "2", None, float("nan")])
def test_what_is_no_whole_number_is_named(value: Any) -> None:
    with pytest.raises(InputError, match=r"^lags is .*, expected a whole number of at least 1$"):
        require_whole("lags", value)


def test_numbers_within_their_limits_pass() -> None:
    assert require_number("lr", np.float32(0.5), above=0) == 0.5
    assert require_number("ridge", 0, least=0) == 0


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), "0.1", None, True, 1j])
def test_what_is_no_number_in_the_limits_is_named(value: Any) -> None:
    with pytest.raises(InputError, match=r"^lr is .*, expected a finite number above 0$"):
        require_number("lr", value, above=0)
    with pytest.raises(InputError, match=r"expected a finite number of at least 0 and below 1$"):
        require_number("part", 1, least=0, below=1)
