"""What every forecaster asks of its arguments."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from retrograd.errors import InputError
from retrograd.estimators import Forecaster


@pytest.mark.parametrize("part", [95, 0, 1, -0.5, float("nan"), "0.9"])
def test_what_is_no_part_of_one_has_no_interval(part: Any) -> None:
    fitted = Forecaster(lags=4).fit(np.arange(20.0), fh=[1, 2])
    with pytest.raises(InputError, match=r"coverage is .*, expected a finite number above 0 and below 1"):
        fitted.predict_interval(coverage=part)
    with pytest.raises(InputError, match=r"alpha is .*, expected a finite number above 0 and below 1"):
        fitted.predict_quantiles(alpha=[0.5, part])


def test_nothing_is_no_series() -> None:
    with pytest.raises(InputError, match=r"y has shape \(0,\): there is nothing in it"):
        Forecaster(lags=4).fit(np.zeros(0), fh=[1])
