"""How far intervals reach: by the errors that came before, the newest most."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from retrograd.estimators import AutoForecaster
from retrograd.estimators.auto.intervals import Spread

Array = np.ndarray[Any, Any]


def spread_of(errors: np.ndarray, deviation: float = 1.0, **how: Any) -> Spread:
    """Return the spread of forecasts 1, 2, ... steps ahead that were off by ``errors (n, K)``."""
    steps = np.arange(1, errors.shape[1] + 1)
    observed, forecasts = (np.exp(errors), np.ones_like(errors)) if how.get("logs") else (errors, np.zeros_like(errors))
    return Spread.of(observed, forecasts, lambda at: np.full(len(at), deviation), steps, steps, **how)


def test_the_ends_of_intervals_of_logarithms_are_numbers() -> None:
    none, one = np.zeros((2, 1)), np.ones(1)
    assert spread_of(none, 1e4, logs=True, usual=0.1).bound(one, 0.975, np.array([0]))[0] < 2
    assert np.isfinite(spread_of(none + 1, 1e4, logs=True).bound(one, 0.975, np.array([0]))).all()


def test_conformal_intervals_hold_the_part_they_say() -> None:
    random, covered = np.random.default_rng(0), []
    for _ in range(60):
        errors = random.standard_t(3, (400, 2)) * [1.0, 2.0]
        spread = spread_of(errors)
        assert spread.conformal
        new = np.abs(random.standard_t(3, (1000, 2)) * [1.0, 2.0])
        reaches = [spread.reach(level, np.array([0, 1])) for level in (0.8, 0.95)]
        covered.append([(new <= reach).mean(axis=0) for reach in reaches])
    np.testing.assert_allclose(np.mean(covered, axis=0), [[0.8, 0.8], [0.95, 0.95]], atol=0.03)


def test_conformal_intervals_go_by_the_newest_errors() -> None:
    random = np.random.default_rng(1)
    errors = random.standard_normal((400, 3)) * np.where(np.arange(400) < 200, 4.0, 1.0)[:, None]
    errors[::7, 0] = np.nan
    spread = spread_of(errors)
    np.testing.assert_allclose(spread.reach(0.8, np.arange(3)), 1.28, rtol=0.3)
    # The formulas, by loops: what is known at each origin, then the quantile.
    means = np.nanmean(errors**2, axis=0)
    padded = np.concatenate([errors, np.full((3, 3), np.nan)])
    scales = []
    for t in range(403):
        above = below = 3.0
        for r in range(t + 1):
            for h in (1, 2, 3):
                if r - h >= 0 and padded[r - h, h - 1] == padded[r - h, h - 1]:
                    above += 0.5 ** ((t - r) / 5) * padded[r - h, h - 1] ** 2 / means[h - 1] / 3
                    below += 0.5 ** ((t - r) / 5) / 3
        scales.append(np.sqrt(above / below))
    np.testing.assert_allclose(spread.scale, scales)
    for column, reach in enumerate(spread.reach(0.9, np.arange(3))):
        sizes = [
            (abs(error) / scales[t], 0.5 ** ((402 - t) / 25))
            for t, error in enumerate(errors[:, column])
            if error == error
        ]
        total = sum(weight for _, weight in sizes) + 1
        within = [size for size, _ in sizes if sum(w for s, w in sizes if s <= size) >= 0.9 * total]
        np.testing.assert_allclose(reach, min(within) * scales[-1])


@pytest.mark.parametrize("stride", [1, 3])
def test_later_errors_join_the_spread(stride: int) -> None:
    errors = np.random.default_rng(2).standard_normal((200, 4))
    whole, first = spread_of(errors, stride=stride), spread_of(errors[:150], stride=stride)
    later = first.after(whole.errors[len(first.errors) - first.waiting :], whole.late)
    np.testing.assert_array_equal(later.errors, whole.errors)
    np.testing.assert_allclose(later.reach(0.9, np.arange(4)), whole.reach(0.9, np.arange(4)))


def test_intervals_take_up_the_errors_of_rows_that_came_since() -> None:
    random = np.random.default_rng(3)
    calm, wild = random.standard_normal(240), 5 * random.standard_normal(60)
    y = np.concatenate([calm, wild])
    fitted = AutoForecaster().fit(y[:240], fh=[1, 2])
    upper = fitted.backtest(y, start=240, alpha=0.9)[:, :, 0]
    before = fitted.predict_quantiles(alpha=[0.9]).to_numpy()[:, 0]
    np.testing.assert_allclose(upper[0], before)
    assert (upper[-1] > 2 * before).all()
    fitted.update(y[240:298], update_params=False)
    after = fitted.predict_quantiles(alpha=[0.9]).to_numpy()[:, 0]
    np.testing.assert_allclose(after, upper[-1], rtol=0.15)  # there, not every row was a turn
