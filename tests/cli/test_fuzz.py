"""A few of the cases that `make fuzz` runs by the thousand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.fuzz import Fuzz, fuzzing


@pytest.fixture(scope="module")
def fuzz() -> Iterator[Fuzz]:
    with fuzzing() as running:
        yield running


@given(numbers=st.lists(st.integers(0, 2**32), min_size=4, max_size=4))
def test_whatever_is_given_is_served_or_refused_in_one_line(fuzz: Fuzz, numbers: list[int]) -> None:
    for number in numbers:
        fuzz.case(number)
