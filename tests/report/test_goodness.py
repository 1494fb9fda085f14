"""How good forecasts are, in words."""

from __future__ import annotations

import numpy as np

from retrograd.estimators.backtesting import Rolled
from retrograd.report.goodness import Goodness


def judged(observed: list[float], names: tuple[str, ...] = ("y",)) -> list[str]:
    there = np.repeat(np.array(observed).reshape(-1, 1, 1), len(names), axis=2)
    flat = np.zeros_like(there)
    model = Rolled("forecast", there, flat, np.ones(len(names)), {80.0: (flat - 1, flat + 1)})
    naive = Rolled("last value", there, flat + 2, np.ones(len(names)))
    return Goodness(names, "first", "last", [model], [naive], np.array([1])).sentences()


def test_values_that_are_known_are_judged() -> None:
    assert judged([0.5, 2.0, np.nan]) == [
        "Held out, the RMSE of the forecast is 1.458, 37 % above that of the last value, 1.061: repeating values would "
        "have been better there. Of the values there, 50 % lie in the 80 % interval."
    ]


def test_where_nothing_is_known_nothing_is_judged() -> None:
    said = "no value that was held out is known: there is nothing to judge the forecast by."
    assert judged([np.nan, np.nan]) == [said.capitalize()]
    assert judged([np.nan], ("a", "b")) == [f"a: {said}", f"b: {said}"]
