"""What is said of errors one step ahead."""

from __future__ import annotations

import numpy as np
import pytest

from retrograd.estimators.diagnosis import Residuals, movement
from retrograd.report import Story


@pytest.mark.parametrize(
    ("p", "said"),
    [
        (0.5, "; nothing of the past is left in them (Ljung-Box p 0.5)"),
        (0.04, "; hardly anything of the past is left in them (Ljung-Box p 0.04)"),
        (0.002, "; they go with their own past: something is left to predict (Ljung-Box p 0.002)"),
    ],
)
def test_what_is_left_is_said_by_how_likely_it_is(p: float, said: str) -> None:
    left = Residuals(50, 1.0, 0.0, False, {1: 0.01}, 0.28, p, 0, 1.0)
    y = np.random.default_rng(0).standard_normal(60)
    assert said in Story("", "60 rows", 1, movement(y, 1), left, "held out").sentences()[-1]
