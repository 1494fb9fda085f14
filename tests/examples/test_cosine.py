"""A cosine that feeds itself goes on, whatever the seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from gallery import PICTURES, draws
from PIL import Image

# x label, y label and their scales, by axis of the picture.
AXES = [
    ("", "value", "linear", "linear"),
    ("", "", "linear", "linear"),
    ("", "", "linear", "linear"),
    ("step", "value", "linear", "linear"),
    ("step", "", "linear", "linear"),
    ("step", "", "linear", "linear"),
    ("epoch (dotted: from here on, fewer inputs are the truth)", "mean squared error,\nlargest error", "linear", "log"),
]


@pytest.mark.parametrize("seed", [0, 1, 3])
def test_a_cosine_goes_on_by_itself(example: Any, tmp_path: Path, seed: int) -> None:
    cosine = example("cosine")
    epochs = cosine.train(seed)
    found = cosine.figures(epochs)
    assert max(found["within"], found["beyond"]) < cosine.GOOD
    assert epochs[-1].error() == max(found["within"], found["beyond"])
    assert epochs[0].error() > 0.9
    assert found["eigenvalue"] == pytest.approx(1, abs=5e-4)
    assert found["period"] == pytest.approx(cosine.PERIOD, rel=1e-3)
    # No stage ends with a larger loss than it began with.
    for stage in range(cosine.LAST + 1):
        losses = [epoch.loss for epoch in epochs if epoch.stage == stage]
        assert not losses or losses[-1] <= losses[0]
    if seed == 3:
        axes = draws(cosine, epochs, tmp_path / "cosine.png", AXES)
        # The given steps and those beyond the training are shaded, in every panel.
        assert [len(axis.patches) for axis in axes[:6]] == [2] * 6
        cosine.animate(epochs[:5], tmp_path / "cosine.gif")
        with Image.open(tmp_path / "cosine.gif") as made, Image.open(PICTURES / "cosine.gif") as shown:
            assert made.format == shown.format == "GIF"
            assert made.size == shown.size
            assert shown.n_frames > 30


def test_fewer_and_fewer_inputs_of_the_cosine_are_the_truth(example: Any) -> None:
    cosine = example("cosine")
    shares = [int(cosine.fed_back(stage).sum()) for stage in cosine.STAGES]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, cosine.STEPS - cosine.GIVEN)
    assert not cosine.fed_back(cosine.LAST)[: cosine.GIVEN].any()
