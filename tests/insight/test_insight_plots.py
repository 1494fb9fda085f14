"""Pictures show the numbers, say what their axes are, and tell zero from nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes

from insight.sweeps import sweep_of
from retrograd import Dense, Diagonal
from retrograd.errors import InputError
from retrograd.insight import Sweep, analyse


def long_sweep() -> Sweep:
    u = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    return Sweep.of_scan(Dense(torch.tensor([[0.9, 0.5, 0.0], [0.0, 0.8, 0.5], [0.0, 0.0, 0.7]])), u)


@pytest.mark.parametrize("name", ["flow", "jacobians", "lag_map", "truncation", "spectrum"])
def test_every_axis_is_labelled(name: str) -> None:
    figure = getattr(analyse(long_sweep()).plot, name)()
    figure.draw_without_rendering()
    first, *_, last = [axis for axis in figure.axes if axis.get_label() != "<colorbar>"] * 2
    assert first.get_title()
    assert first.get_ylabel()
    assert last.get_xlabel()


def test_curves_are_the_numbers_on_logarithmic_axes() -> None:
    found = analyse(long_sweep())
    (axis,) = found.plot.flow().axes
    whole = axis.lines[0]
    assert np.array_equal(whole.get_ydata(), found.flow.delta_norm)
    assert axis.get_yscale() == "log"
    (axis,) = found.plot.jacobians().axes
    assert np.array_equal(axis.lines[0].get_ydata(), found.jacobians.norm)
    top, bottom = found.plot.truncation().axes
    assert np.array_equal(top.lines[0].get_ydata()[:-1], found.truncation.relative_error[:-1])
    assert bottom.get_ylabel() == "angle to G, degrees"


def labels(axis: Axes) -> set[str]:
    return {text.get_text() for text in axis.figure.legends[0].get_texts()}  # type: ignore[union-attr]


def test_zeros_and_what_is_not_finite_are_marked_and_named() -> None:
    silent = analyse(Sweep.of_scan(Diagonal(torch.tensor([0.0, 0.0])), torch.ones(5, 2)))
    (axis,) = silent.plot.flow().axes
    assert "‖∂L/∂h_t‖, whole: exactly 0" in labels(axis)
    overflown = analyse(Sweep.of_scan(Diagonal(torch.tensor([1e200], dtype=torch.float64)), torch.ones(5, 1)))
    (axis,) = overflown.plot.flow().axes
    assert "‖∂L/∂h_t‖, whole: not finite" in labels(axis)


@pytest.mark.parametrize("most", [1, 5, 12, 100])
def test_a_coarse_map_keeps_the_sum(most: int) -> None:
    found = analyse(sweep_of("dense")).lag_map
    edges, share = found.coarse(most)
    assert (edges[0], edges[-1], len(share)) == (0, 12, min(most, 12))
    assert np.nansum(share) == pytest.approx(1)
    # Where no step of a bin has so long a past there is no share, not one of zero.
    assert np.isnan(share[0]).sum() == 12 - edges[1]
    assert not np.isnan(share[-1]).any()


def test_what_cannot_be_drawn_says_why() -> None:
    with pytest.raises(InputError, match="no one spectrum"):
        analyse(sweep_of("dense steps")).plot.spectrum()
    with pytest.raises(InputError, match="gradient is zero"):
        analyse(Sweep.of_scan(Diagonal(torch.tensor([0.5])), torch.zeros(4, 1))).plot.lag_map()
