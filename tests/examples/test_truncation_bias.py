"""Truncated gradients stop short of the memory that is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gallery import draws

# x label, y label and their scales, by axis of the picture.
AXES = [
    ("window k, steps", "truncated against whole ∂L/∂W_hh", "log", "log"),
    ("memory 1 / (1 − λ), steps", "mean squared error", "log", "linear"),
]


@pytest.mark.slow
def test_truncation_shortens_the_memory_that_is_found(example: Any, tmp_path: Path) -> None:
    module = example("truncation_bias")
    result = module.compute(seeds=3)
    assert (np.diff(result.relative_error, axis=1) <= 1e-12).all()
    assert result.relative_error[:, -1] == pytest.approx(0, abs=1e-12)
    memory, best = module.memory(result.stopped), module.memory(result.best)[:, None]
    windows = np.array(module.WINDOWS)
    assert (memory[:, windows <= 8] < 0.6 * best).all()
    assert (np.diff(memory[:, windows <= 32], axis=1) > 0).all()
    np.testing.assert_allclose(memory[:, windows >= 128], np.broadcast_to(best, (3, 2)), rtol=0.01)
    # The whole gradient, λ in both its places, is the loss's slope.
    x, y = module.data(0)
    slope = (module.loss(0.9 + 1e-5, x, y) - module.loss(0.9 - 1e-5, x, y)) / 2e-5
    assert module.gradient(0.9, x, y, module.STEPS) == pytest.approx(slope, rel=1e-6)
    axes = draws(module, result, tmp_path / "truncation_bias.png", AXES)
    # The crosses are means, as the text's numbers are.
    drawn = {container.get_label(): container.lines[0].get_xdata()[0] for container in axes[1].containers}
    assert drawn["k = 8"] == pytest.approx(module.figures(result)["memory, k = 8"])


def test_training_with_truncated_gradients_stops_at_the_root(example: Any) -> None:
    module = example("truncation_bias")
    x, y = module.data(0)
    rate = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([rate], lr=0.02)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.97)
    for _ in range(250):
        rate.grad = torch.tensor(module.gradient(float(rate.detach()), x, y, 8), dtype=torch.float64)
        optimizer.step()
        schedule.step()
    assert float(rate.detach()) == pytest.approx(module.stop(x, y, 8), abs=2e-4)
