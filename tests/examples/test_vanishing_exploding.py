"""Gradients vanish and explode, and what cures them does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from gallery import draws

# x label, y label and their scales, by axis of the picture.
AXES = [
    ("step t", "‖∂L/∂h_t‖ / ‖∂L/∂h_T‖", "linear", "log"),
    ("start", "mean squared error (▲: above 100)", "linear", "log"),
    ("start", "", "linear", "log"),
]


@pytest.mark.slow
def test_gradients_vanish_explode_and_are_cured_by_what_the_page_says(example: Any, tmp_path: Path) -> None:
    module = example("vanishing_exploding")
    result = module.compute(seeds=2)
    found = module.figures(result)
    assert found["arrives of 0.9"] < 1e-7
    assert found["arrives of 1.1"] > 1e6
    assert all(one.kinds == ("vanishing",) for one in result.flows[0.9, "W"])
    assert all(one.kinds == ("exploding",) for one in result.flows[1.1, "W"])
    for radius in module.RADII:
        for flow in result.flows[radius, "orthogonal"]:
            assert flow.kinds == ("healthy",)
            assert 0.02 < flow.delta[0] / flow.delta[-1] < 2
    # As they are, neither learns; cutting does not bring back what has vanished; the orthogonal start cures both.
    assert min(result.losses[0.9, "W", False]) > 0.5
    assert min(result.losses[0.9, "W", True]) > 0.5
    assert min(result.losses[1.1, "W", False]) > 10
    for radius in module.RADII:
        for cut in (False, True):
            assert max(result.losses[radius, "orthogonal", cut]) < module.LEARNED
    # Cut, what exploded is at least brought down.
    assert max(result.losses[1.1, "W", True]) < 2
    axes = draws(module, result, tmp_path / "vanishing_exploding.png", AXES)
    assert [tick.get_text() for tick in axes[1].get_xticklabels()] == list(module.STARTS)


def test_lengths_are_cut_where_nine_in_ten_stay_below(example: Any) -> None:
    module = example("vanishing_exploding")
    weights = module.random_start(0.9, 0)
    limit = module.threshold(weights, 0)
    source, below = torch.Generator().manual_seed(0), 0
    for _ in range(module.DRAWN):
        x, target = module.sequences(source)
        parameters = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
        h, outputs = torch.zeros(len(x), module.STATES, dtype=torch.float64), None
        for t in range(module.STEPS):
            h = h @ parameters["weight_hh"].T + x[:, t] @ parameters["weight_ih"].T + parameters["bias"]
        outputs = h @ parameters["weight_out"].T + parameters["bias_out"]
        ((outputs - target) ** 2).mean().backward()
        below += bool(torch.cat([weight.grad.flatten() for weight in parameters.values()]).norm() < limit)
    assert below == 18
