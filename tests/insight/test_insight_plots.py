"""Pictures show the numbers, say what their axes are, and tell zero, infinity, NaN and nothing from each other."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from insight.sweeps import sweep_of
from retrograd import Dense, Diagonal
from retrograd.errors import InputError
from retrograd.insight import Analysis, Jacobians, LagMap, Sweep, analyse
from retrograd.pictures.palette import AGAINST, ALONG, BLUE, GREEN, VERMILLION

PICTURES = ("flow", "jacobians", "lag_map", "truncation", "spectrum", "memory")


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def diagonal(*values: float) -> Diagonal:
    return Diagonal(torch.tensor(values, dtype=torch.float64))


def every(states: torch.Tensor) -> torch.Tensor:
    return states.abs().square().sum()


def seventh(states: torch.Tensor) -> torch.Tensor:
    return states[:, 6::7].square().sum()


def long_sweep() -> Sweep:
    u = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    return Sweep.of_scan(Dense(torch.tensor([[0.9, 0.5, 0.0], [0.0, 0.8, 0.5], [0.0, 0.0, 0.7]])), u)


def gates() -> Sweep:
    a = 0.6 + 0.4 * torch.rand(60, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return Sweep.of_scan(Diagonal(a), normal(1, 60, 3), loss=every)


SWEEPS: dict[str, Callable[[], Sweep]] = {
    "long": long_sweep,
    "vanishing": lambda: Sweep.of_scan(Dense(torch.diag(torch.tensor([0.5, 0.1]))), normal(1, 100, 2)),
    "exploding": lambda: Sweep.of_scan(Dense(1.2 * torch.eye(6)), normal(1, 200, 6), loss=every),
    "astronomical": lambda: Sweep.of_scan(Dense(2 * torch.eye(2)), normal(1, 1500, 2)),
    "near the end of float64": lambda: Sweep.of_scan(diagonal(1e100, 1e-100), 1e-150 * normal(1, 3, 2), loss=every),
    "gates": gates,
    "one step": lambda: Sweep.of_scan(Dense(0.9 * torch.eye(2)), normal(1, 1, 2), normal(1, 2)),
    "every seventh": lambda: Sweep.of_scan(Dense(0.9 * torch.eye(3)), normal(2, 300, 3), loss=seventh),
    "complex": lambda: sweep_of("diagonal complex"),
    "nilpotent": lambda: Sweep.of_scan(diagonal(0.0, 0.0), normal(1, 20, 2), loss=lambda h: every(h[:, 1::2])),
}


def axes_of(figure: Figure) -> list[Axes]:
    return [axis for axis in figure.axes if axis.get_label() != "<colorbar>"]


def labels(figure: Figure) -> set[str]:
    """What the legend says, and the notes above it."""
    (legend,) = figure.legends
    return {text.get_text() for text in (*legend.get_texts(), legend.get_title())}


def line(axis: Axes, label: str) -> Line2D:
    (found,) = [line for line in axis.lines if line.get_label() == label]
    return found


def across(axis: Axes, label: str) -> list[float]:
    return [float(x) for x in np.asarray(line(axis, label).get_xdata())]


def up(axis: Axes, label: str) -> list[float]:
    return [float(y) for y in np.asarray(line(axis, label).get_ydata())]


def lone(axis: Axes) -> list[tuple[float, float]]:
    """The points of markers without a name: those that a line does not show."""
    drawn = [line for line in axis.lines if str(line.get_label()).startswith("_") and line.get_marker() == "o"]
    return [point for line in drawn for point in zip(line.get_xdata(), line.get_ydata(), strict=True)]


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("case", SWEEPS)
def test_every_axis_is_labelled_and_no_text_is_cut_off(case: str, name: str) -> None:
    found = analyse(SWEEPS[case]())
    if name in ("lag_map", "truncation") and found.lag_map.missing:
        pytest.skip("has no shares")
    figure = getattr(found.plot, name)()
    figure.set_dpi((75, 200)[list(SWEEPS).index(case) % 2])  # each picture in both
    figure.savefig(io.BytesIO(), dpi="figure")  # warnings, of overflow for one, are errors
    # In inches: all that is drawn, every text included.
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert min(drawn.x0, drawn.y0, width - drawn.x1, height - drawn.y1) > 0
    axes = axes_of(figure)
    assert axes[0].get_title()
    assert axes[0].get_ylabel()
    assert all(axis.get_ylabel() or axis.get_shared_y_axes().joined(axis, axes[0]) for axis in axes)
    assert axes[-1].get_xlabel()


def test_curves_are_the_numbers_on_logarithmic_axes() -> None:
    found = analyse(long_sweep())
    (axis,) = found.plot.flow().axes
    assert np.array_equal(axis.lines[0].get_ydata(), found.flow.delta_norm)
    assert axis.get_yscale() == "log"
    (axis,) = found.plot.jacobians().axes
    assert np.array_equal(axis.lines[0].get_ydata(), found.jacobians.norm)
    top, bottom = found.plot.truncation().axes
    assert np.array_equal(top.lines[0].get_ydata()[:-1], found.truncation.relative_error[:-1])
    assert bottom.get_ylabel() == "angle to G, degrees"
    # Of 500 steps some windows are looked at only: they are marked, and as they go in octaves, so does their axis.
    assert top.lines[0].get_marker() == "o"
    assert bottom.get_xscale() == "log"


def test_zeros_and_what_is_infinite_are_marked_and_named() -> None:
    silent = analyse(Sweep.of_scan(diagonal(0.0, 0.0), normal(5, 2)))
    figure = silent.plot.flow()
    assert "‖∂L/∂h_t‖, whole: 0 in float64" in labels(figure)
    # On a linear axis zero has its place; on one of decades its mark stands at the edge.
    zeros = line(figure.axes[0], "‖∂L/∂h_t‖, whole: 0 in float64")
    assert zeros.get_transform() == figure.axes[0].transData
    assert list(zeros.get_ydata()) == [0] * 4
    overflown = analyse(Sweep.of_scan(diagonal(1e200), torch.ones(5, 1)))
    figure = overflown.plot.flow()
    assert "‖∂L/∂h_t‖, whole: infinite in float64" in labels(figure)
    assert not any("not a number" in label for label in labels(figure))


def test_not_a_number_is_not_infinity() -> None:
    u = normal(50, 2)
    u[20, 0] = torch.nan
    figure = analyse(Sweep.of_scan(Dense(0.9 * torch.eye(2)), u, loss=every)).plot.flow()
    assert "‖∂L/∂h_t‖, whole: not a number" in labels(figure)
    assert not any("infinite" in label for label in labels(figure))


def test_what_rounding_hides_is_left_out_and_said_so() -> None:
    found = analyse(SWEEPS["vanishing"]())
    assert np.isnan(found.jacobians.resolved[:, 1]).any()
    figure = found.plot.jacobians()
    axis = figure.axes[0]
    first = np.isnan(found.jacobians.resolved[:, 1]).argmax()
    assert any(
        f"below the rounding of the product of matrices (from k = {first} on)" in text for text in labels(figure)
    )
    assert not any("infinite" in text or "not a number" in text for text in labels(figure))
    assert {line.get_label() for line in axis.lines} == {"largest", "second", "1", "1/1000"}


def test_a_norm_beyond_float64_is_drawn_by_its_logarithm() -> None:
    found = analyse(SWEEPS["astronomical"]())
    figure = found.plot.jacobians()
    axis = figure.axes[0]
    assert up(axis, "largest") == found.jacobians.log10_norm.tolist()
    assert up(axis, "largest")[-1] > 450
    assert axis.get_yscale() == "linear"
    assert axis.get_ylabel() == "log₁₀ of the singular value"
    assert "largest: infinite in float64" not in labels(figure)
    assert "second: infinite in float64" in labels(figure)
    assert [up(axis, name)[0] for name in ("1", "1/1000")] == [0, -3]


def test_a_point_without_a_neighbour_is_seen() -> None:
    found = analyse(SWEEPS["near the end of float64"]())
    zero = np.array([1.0, 0.0, 100.0, 0.0, 1e-3])
    apart = dataclasses.replace(found, flow=dataclasses.replace(found.flow, delta_norm=zero, direct_norm=zero))
    (axis,) = apart.plot.flow().axes
    assert lone(axis) == [(1, 1.0), (3, 100.0), (5, 1e-3)]
    (axis,) = analyse(SWEEPS["one step"]()).plot.flow().axes
    assert len(lone(axis)) == 1
    assert axis.get_xlim() == (0, 2)
    top, bottom = analyse(SWEEPS["one step"]()).plot.truncation().axes
    assert lone(top) == lone(bottom) == [(1, 0.0)]


def test_differences_in_the_last_digit_are_no_curve() -> None:
    W = torch.linalg.qr(normal(4, 4)).Q
    (axis,) = analyse(Sweep.of_scan(Dense(W), normal(1, 50, 4))).plot.jacobians().axes
    low, high = axis.get_ylim()
    assert low < 0 < 1 < high < 2


def test_angles_of_zero_have_an_axis_of_degrees() -> None:
    found = analyse(SWEEPS["nilpotent"]())
    assert not found.truncation.angle.any()
    axis = found.plot.truncation().axes[1]
    low, high = axis.get_ylim()
    assert -10 < low < 0
    assert high > 45


def test_a_window_that_keeps_nothing_has_no_angle() -> None:
    found = analyse(long_sweep())
    angle = found.truncation.angle.copy()
    angle[:3] = np.nan
    bare = dataclasses.replace(found, truncation=dataclasses.replace(found.truncation, angle=angle))
    figure = bare.plot.truncation()
    assert any("G_k = 0 has none (3 of them)" in text for text in labels(figure))
    assert not any("not a number" in text for text in labels(figure))
    error = found.truncation.relative_error.copy()
    error[:3] = np.nan
    broken = dataclasses.replace(bare, truncation=dataclasses.replace(bare.truncation, relative_error=error))
    assert {"relative error: not a number", "angle: not a number"} <= labels(broken.plot.truncation())


@pytest.mark.parametrize("most", [1, 5, 12, 100])
def test_a_coarse_map_keeps_the_sum(most: int) -> None:
    found = analyse(sweep_of("dense")).lag_map
    edges, share = found.coarse(most)
    assert (edges[0], edges[-1], len(share)) == (0, 12, min(most, 12))
    assert np.nansum(share) == pytest.approx(1)
    # Where no step of a bin has so long a past there is no share, not one of zero.
    assert np.isnan(share[0]).sum() == 12 - edges[1]
    assert not np.isnan(share[-1]).any()


def with_map(share: Any) -> Analysis:
    share = np.array(share, dtype=float)
    found = analyse(SWEEPS["gates"]())
    return dataclasses.replace(found, lag_map=LagMap(np.arange(share.shape[1] + 1), share, 1.0))


def test_a_share_that_is_no_number_is_neither_zero_nor_absent() -> None:
    figure = with_map([[0.5, 0.0, 0.0], [np.nan, 0.2, 0.0], [0.3, 0.0, 0.0]]).plot.lag_map()
    figure.draw_without_rendering()
    heat, beside = axes_of(figure)
    absent, shares = [mesh.get_array() for mesh in heat.collections if isinstance(mesh, QuadMesh)]
    # Rows are lags, columns steps: grey is drawn where a step has no such lag, and there only.
    assert np.array_equal(~np.ma.getmaskarray(absent), [[0, 0, 0], [1, 0, 0], [1, 1, 0]])
    assert np.array_equal(np.ma.getmaskarray(shares), [[0, 1, 0], [1, 0, 0], [1, 1, 0]])
    assert heat.patch.get_hatch()
    assert {"not finite", "no such step", "0, or less than 1e-06"} <= labels(figure)
    assert {"share: not a number", "share: 0 in float64"} <= labels(figure)
    assert up(beside, "share: not a number") == [0.5]
    whole = analyse(SWEEPS["gates"]()).plot.lag_map()
    assert not axes_of(whole)[0].patch.get_hatch()
    assert "not finite" not in labels(whole)


def test_shares_are_summed_by_lag_beside_the_map() -> None:
    found = analyse(SWEEPS["every seventh"]())
    heat, beside = axes_of(found.plot.lag_map())
    share = found.lag_map.by_lag
    for name, mask, color in (("along the gradient", share > 0, ALONG), ("against the gradient", share < 0, AGAINST)):
        assert np.array_equal(across(beside, name), np.where(mask, np.abs(share), np.nan), equal_nan=True)
        assert up(beside, name) == (np.arange(len(share)) + 0.5).tolist()
        assert line(beside, name).get_color() == color
    assert beside.get_xscale() == "log"
    assert heat.get_shared_y_axes().joined(heat, beside)
    assert line(beside, "along the gradient").get_marker() != line(beside, "against the gradient").get_marker()


def test_a_loss_at_one_step_has_shares_by_lag_and_no_map_of_one_column() -> None:
    found = analyse(long_sweep())
    figure = found.plot.lag_map()
    (axis,) = figure.axes
    assert not any(isinstance(mesh, QuadMesh) for mesh in axis.collections)
    assert "step 500 alone" in axis.get_title()
    drawn = np.nansum([np.abs(up(axis, name)) for name in ("along the gradient",)])
    share = found.lag_map.by_lag
    assert drawn == pytest.approx(share[share > 0].sum())
    assert axis.get_xlabel() == "lag k, steps (not to scale)"
    ticks = {label.get_text() for label in axis.get_xticklabels()}
    assert ticks <= {str(edge) for edge in found.lag_map.edges}


@pytest.mark.parametrize(("size", "word"), [(0.0, "zero"), (np.nan, "not a number"), (np.inf, "infinite")])
def test_a_gradient_without_shares_says_which(size: float, word: str) -> None:
    found = with_map(np.full((3, 3), np.nan))
    found = dataclasses.replace(found, lag_map=dataclasses.replace(found.lag_map, gradient_norm=size))
    for picture in (found.plot.lag_map, found.plot.truncation):
        with pytest.raises(InputError, match=f"the gradient is {word}"):
            picture()


def test_what_cannot_be_drawn_says_why() -> None:
    for picture in ("spectrum", "memory"):
        with pytest.raises(InputError, match=f"{picture}: .* no one spectrum"):
            getattr(analyse(sweep_of("dense steps")).plot, picture)()
    with pytest.raises(InputError, match="gradient is zero"):
        analyse(Sweep.of_scan(diagonal(0.5), torch.zeros(4, 1))).plot.lag_map()
    for interval in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(InputError, match="interval is"):
            analyse(gates()).plot.memory(interval)


def modes() -> Analysis:
    a = torch.tensor([1.0, -1.0, 0.5, 0.0, 1.25, 0.9])
    return analyse(Sweep.of_scan(Diagonal(a.double()), normal(1, 30, 6), loss=every))


def test_modes_outside_the_circle_look_different() -> None:
    figure = modes().plot.spectrum()
    (axis,) = figure.axes
    points = {str(dots.get_label()): dots for dots in axis.collections if isinstance(dots, PathCollection)}
    assert list(points) == [
        "eigenvalues inside: they fade (3 of 6)", "eigenvalues on it: they stay (2 of 6)",
        "eigenvalues outside: they grow (1 of 6)",
    ]  # fmt: skip
    (outside,) = [np.asarray(dots.get_offsets()) for name, dots in points.items() if "outside" in name]
    assert outside.tolist() == [[1.25, 0]]
    assert len({len(dots.get_paths()[0].vertices) for dots in points.values()}) == 3
    assert len({tuple(dots.get_edgecolor()[0]) for dots in points.values()}) == 3
    assert axis.get_aspect() == 1


def test_means_over_time_are_not_called_eigenvalues() -> None:
    figure = analyse(gates()).plot.spectrum()
    assert figure.axes[0].get_title() == "Mean rates of the channels\n(geometric means over time)"
    assert not any("eigenvalue" in text for text in labels(figure))
    assert any("mean rates" in text for text in labels(figure))


def test_memory_of_every_mode() -> None:
    found = modes()
    figure = found.plot.memory()
    (axis,) = figure.axes
    assert axis.get_yscale() == "log"
    assert axis.get_ylabel() == "time, steps"
    # From the slowest: 1.25 grows; 1 and -1 stay; 0.9 and 0.5 fade; 0 is gone at once.
    assert np.allclose(up(axis, "time constant: 1/e is left"), [-1 / np.log(0.9), -1 / np.log(0.5)])
    assert np.allclose(up(axis, "memory horizon: 1 % is left"), np.log(0.01) / np.log([0.9, 0.5]))
    assert across(axis, "time constant: 1/e is left") == [4, 5]
    assert across(axis, "never forgets, |λ| = 1") == [2, 3]
    assert across(axis, "forgets at once, λ = 0") == [6]
    assert np.allclose(up(axis, "grows: e times as much"), [1 / np.log(1.25)])
    assert line(axis, "grows: e times as much").get_color() == VERMILLION
    assert line(axis, "time constant: 1/e is left").get_color() == BLUE
    assert line(axis, "never forgets, |λ| = 1").get_color() == GREEN
    assert up(axis, "the sequence: 30 steps")[0] == 30
    low, high = axis.get_ylim()
    assert low < min(up(axis, "time constant: 1/e is left"))
    assert high > 30
    (axis,) = found.plot.memory(0.25, "s").axes
    assert np.allclose(up(axis, "time constant: 1/e is left"), [-0.25 / np.log(0.9), -0.25 / np.log(0.5)])
    assert axis.get_ylabel() == "time, s"


def test_a_norm_that_underflows_is_not_called_zero() -> None:
    found = analyse(gates())
    through = Jacobians(np.arange(3), np.array([[1.0], [0.0], [0.0]]), np.array([0.0, -400.0, -np.inf]), np.zeros(3))
    (axis,) = dataclasses.replace(found, jacobians=through).plot.jacobians().axes
    assert np.array_equal(up(axis, "largest")[:2], [0, -400])
    assert across(axis, "largest: 0 in float64") == [2]
