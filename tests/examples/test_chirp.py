"""A chirp is demodulated as well as can be."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gallery import draws, lines

# x label, y label and their scales, by axis of the picture.
AXES = [
    ("step t", "angle of a_t, cycles a step", "linear", "linear"),
    ("", "symbol error rate", "linear", "log"),  # its x axis is the one below
    ("epoch", "short of the\nmatched filter, dB", "linear", "log"),
    ("E_s / N_0, dB", "rate after 1000\nepochs / exact", "linear", "linear"),
]


@pytest.mark.slow
def test_a_chirp_is_demodulated_as_well_as_can_be(example: Any, tmp_path: Path) -> None:
    module = example("chirp")
    result = module.compute(count=20_000, ends=(), seeds=0)
    assert result.matches[-1] > -0.15
    assert max(result.matches) <= 1e-9
    assert np.abs(result.tracks[module.EPOCHS] - module.frequency()).max() < 0.005
    expected = module.bound(module.DECIBELS)
    spread = np.sqrt(expected * (1 - expected) / result.count)
    rates = result.errors[module.EPOCHS] / result.count
    # Within five deviations of the bound, and what 0.15 dB more noise makes of it.
    assert (np.abs(rates - expected) < 5 * spread + (module.bound(module.DECIBELS - 0.15) - expected)).all()
    assert (result.errors[0] / result.count > 0.7).all()
    axes = draws(module, result, tmp_path / "chirp.png", AXES)
    assert set(lines(axes[0])) == {"the chirp", *module.SHOWN.values()}
    np.testing.assert_allclose(lines(axes[0])["the chirp"].get_ydata(), module.frequency())


def test_a_perfect_receiver_turns_as_the_chirp_does(example: Any) -> None:
    module = example("chirp")
    rise = 2 * math.pi * module.RISE
    alpha = 2 * math.pi * (module.FREQUENCY + module.RISE - module.RISE / module.SAMPLES / 2)
    numbers = [torch.tensor(value, dtype=torch.float64) for value in (alpha, rise, -50.0)]
    receiver = module.Receiver(*numbers)
    np.testing.assert_allclose(receiver.track(), module.frequency(), atol=1e-12)
    assert receiver.match() == pytest.approx(0, abs=1e-9)


@pytest.mark.slow
def test_chirps_that_end_low_are_found_from_other_starts(example: Any) -> None:
    module = example("chirp")
    assert all(module.finds(end, seed) for end, seed in ((0.22, 1), (0.22, 2), (0.27, 3)))
