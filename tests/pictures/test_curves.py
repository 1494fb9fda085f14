"""One rule for every picture: zero, infinity, NaN and what is left out are told apart; an axis fits its curves."""

from __future__ import annotations

import numpy as np
import pytest

from retrograd.pictures.curves import EXPONENT, LINEAR, LOG, Curve, few, scale_for


@pytest.mark.parametrize(
    ("values", "scale"),
    [([1, 9], LINEAR), ([0, 9], LINEAR), ([1, 11], LOG), ([1, 1e280], EXPONENT), ([1e-280, 0], EXPONENT), ([], LINEAR),
     ([np.nan, np.inf, 0], LINEAR)],
)  # fmt: skip
def test_an_axis_shows_decades_where_numbers_span_one(values: list[float], scale: str) -> None:
    assert scale_for([Curve("a", np.arange(len(values)), np.array(values, dtype=float))]) == scale


def test_zero_infinity_and_nan_are_marked_apart_and_what_is_left_out_is_not() -> None:
    curve = Curve("a", np.arange(5), np.array([0.0, np.inf, np.nan, 1.0, np.nan]), left_out=np.arange(5) == 4)
    assert {kind: list(np.flatnonzero(mask)) for kind, mask in curve.marks()} == {
        "zero": [0],
        "infinite": [1],
        "nan": [2],
    }


def test_marks_are_few_but_keep_the_ends() -> None:
    mask = np.zeros(1000, dtype=bool)
    mask[[5, 7]] = mask[100:900] = True
    at = few(mask, 50)
    assert {5, 7, 100, 899} <= set(at.tolist())
    assert len(at) < 60
    assert mask[at].all()
