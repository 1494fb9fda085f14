"""A forecast of a random walk costs what the page says."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gallery import draws, lines

# x label, y label and their scales, by axis of the picture.
AXES = [
    ("step (0: end of the data)", "value", "linear", "linear"),
    ("horizon h, steps", "off the best forecast,\nroot mean square (units of y)", "log", "log"),
]


@pytest.mark.slow
def test_learning_that_a_walk_is_one_has_its_price(example: Any, tmp_path: Path) -> None:
    random_walk = example("random_walk")
    result = random_walk.compute(seeds=12)
    learned, fixed, mean_step = (random_walk.size(result.off[kind]) for kind in random_walk.LOOKS)
    for kind, fits in result.fits.items():
        for one in fits:
            assert one.error == pytest.approx(random_walk.NOISE, rel=0.05)
            assert one.eigenvalue == pytest.approx(1, abs=1e-9 if kind == random_walk.FIXED else 2e-3)
    # With the eigenvalue given, the forecast is the mean step's but for the first steps; to learn it costs more.
    off = result.off[random_walk.FIXED][:, -1] - result.off[random_walk.MEAN_STEP][:, -1]
    assert np.abs(off).max() < 0.5
    assert learned[-1] > 1.3 * fixed[-1]
    # A mean step is off by σ/√T: of twelve, the root mean square is within 0.4 and 1.7 of it but once in 10⁴.
    expected = random_walk.HORIZON * random_walk.NOISE / math.sqrt(random_walk.STEPS)
    assert 0.4 * expected < mean_step[-1] < 1.7 * expected
    horizons = np.arange(1, random_walk.HORIZON + 1)
    for one in result.fits[random_walk.FIXED]:
        np.testing.assert_allclose(one.deviation, np.sqrt(horizons), rtol=0.1)
    # The intervals take their weights for the true ones: they are somewhat too narrow, not too wide.
    assert 0.8 < result.covered[random_walk.LEARNED][:, -1].mean() < 0.95
    assert 0.92 < result.covered[random_walk.FIXED][:, -1].mean() < 0.955
    axes = draws(random_walk, result, tmp_path / "random_walk.png", AXES)
    assert {"learned", "eigenvalue 1 given", "last value + mean step"} <= set(lines(axes[0])) & set(lines(axes[1]))
    drawn = lines(axes[0])["last value + mean step"].get_ydata()
    np.testing.assert_allclose(drawn, result.walks[0][-1] + result.mean_step[0] * horizons)


def test_fits_of_a_walk_end_where_the_loss_is_smallest(example: Any) -> None:
    random_walk = example("random_walk")
    walk = random_walk.compute(seeds=1).walks[0]
    free, fixed = random_walk.fit(walk, False), random_walk.fit(walk, True)
    assert free.error <= fixed.error + 1e-9
    # Of an MA(1) about a drift, the smallest error that scipy finds.
    from scipy.optimize import minimize
    from scipy.signal import lfilter

    steps = np.diff(walk)

    def error(parameters: np.ndarray[Any, Any]) -> float:
        theta, drift, first = parameters
        return float((lfilter([1.0], [1.0, theta], steps - drift, zi=[first])[0][5:] ** 2).mean())

    best = math.sqrt(minimize(error, [0.01, 0.1, 0.0], method="Nelder-Mead", options={"maxiter": 4000}).fun)
    assert fixed.error == pytest.approx(best, rel=2e-3)
