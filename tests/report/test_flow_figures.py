"""The report's part on the gradient's flow shows the numbers of the analysis."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
import torch

from retrograd import Dense, Diagonal
from retrograd.insight import Analysis, LagMap, Sweep, analyse
from retrograd.pictures.palette import AGAINST, ALONG, NO_SUCH_STEP, diverging
from retrograd.report import RunReport, flow_figures
from retrograd.report.plot import Part


def analysis(W: torch.Tensor | None = None, time: int = 60) -> Analysis:
    u = torch.randn(time, 3, generator=torch.Generator().manual_seed(0))
    W = torch.tensor([[0.9, 0.5, 0.0], [0.0, 0.8, 0.5], [0.0, 0.0, 0.7]]) if W is None else W
    return analyse(Sweep.of_scan(Dense(W), u, loss=lambda states: states.square().mean()))


def report(found: Analysis | None) -> RunReport:
    nothing: dict[str, Any] = {field.name: None for field in dataclasses.fields(RunReport)}
    return RunReport(**{**nothing, "analysis": found})


def drawn(part: Part | None, number: int = 0) -> Any:
    """A figure of a part."""
    assert part is not None
    return part.plots[number][1]


def quads(part: Part | None) -> dict[str, Any]:
    """The cells of the heat map."""
    return dict(drawn(part).renderers[0].data_source.data)


def legend(figure: Any) -> dict[str, Any]:
    """What the legend names, and the numbers of it."""
    items = [item for layout in figure.legend for item in layout.items]
    return {item.label.value: item.renderers[0].data_source.data for item in items}


def linear(*values: float, time: int = 5) -> Analysis:
    a = torch.tensor(values, dtype=torch.float64)
    u = torch.randn(time, len(values), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return analyse(Sweep.of_scan(Dense(torch.diag(a)), u))


def with_map(share: list[list[float]], size: float = 1.0) -> Analysis:
    found = np.array(share)
    return dataclasses.replace(analysis(), lag_map=LagMap(np.arange(found.shape[1] + 1), found, size))


def test_without_an_analysis_there_is_nothing() -> None:
    empty = report(None)
    assert flow_figures.verdict(empty) == ()
    assert [draw(empty) for draw in (flow_figures.through_lags, flow_figures.lag_map, flow_figures.truncation)] == [
        None
    ] * 3


def test_the_verdict_is_told_whole() -> None:
    found = analysis()
    told = flow_figures.verdict(report(found))
    assert told[0] == "Verdict: healthy."
    assert set(found.verdict.evidence) <= set(told)
    assert all(any(advice.text in line for line in told) for advice in found.verdict.advice)


def test_the_heat_map_has_every_share_and_no_more() -> None:
    found = analysis()
    part = flow_figures.lag_map(report(found))
    data = quads(part)
    assert sum(data["share"]) == pytest.approx(1)
    # Of step t only the lags below t are there.
    assert len(data["share"]) == 60 * 61 // 2
    assert (np.asarray(data["first"]) < np.asarray(data["right"])).all()
    # Colours: the sign, and the decades above a millionth.
    share, level = np.asarray(data["share"]), np.asarray(data["level"])
    assert (np.sign(level) == np.where(np.abs(share) > 1e-6, np.sign(share), 0)).all()
    largest = np.abs(share).argmax()
    assert abs(level[largest]) == pytest.approx(np.log10(abs(share[largest])) + 6, rel=1e-6)
    long = flow_figures.lag_map(report(analysis(time=1000)))
    assert len(quads(long)["share"]) < 160 * 60
    assert sum(quads(long)["share"]) == pytest.approx(1)


def test_the_palette_is_light_in_the_middle_and_dark_at_both_ends() -> None:
    palette = diverging(flow_figures.SHADES)
    light = [sum(int(color[i : i + 2], 16) for i in (1, 3, 5)) for color in palette]
    middle = len(palette) // 2
    assert palette[middle] == "#ffffff"
    assert all(a < b for a, b in itertools.pairwise(light[: middle + 1]))
    assert all(a > b for a, b in itertools.pairwise(light[middle:]))


def test_curves_are_on_logarithmic_axes_with_zeros_marked() -> None:
    found = analysis()
    part = flow_figures.truncation(report(found))
    assert part is not None
    (_, errors), (_, angles) = part.plots
    line, marker = errors.renderers
    drawn = np.asarray(line.data_source.data["y"])
    want = found.truncation.relative_error
    # h_0 is zero: the lags up to 58 are all there is, and windows of 59 and 60 steps lose nothing.
    assert np.array_equal(drawn[:-2], want[:-2])
    assert np.isnan(drawn[-2:]).all()
    assert list(marker.data_source.data["x"]) == [59, 60]
    lags = flow_figures.through_lags(report(found))
    assert lags is not None
    (_, figure), _ = lags.plots
    assert np.array_equal(np.asarray(figure.renderers[0].data_source.data["y"]), found.jacobians.norm)
    assert angles.x_range is errors.x_range


def test_no_gradient_no_shares() -> None:
    silent = report(analyse(Sweep.of_scan(Diagonal(torch.tensor([0.5])), torch.zeros(4, 1))))
    assert flow_figures.lag_map(silent) is None
    assert flow_figures.truncation(silent) is None
    assert flow_figures.through_lags(silent) is not None


def told(found: Analysis) -> str:
    return " ".join(flow_figures.verdict(report(found)))


def test_why_there_are_no_shares_is_told() -> None:
    assert "is not drawn" not in told(analysis())
    silent = analyse(Sweep.of_scan(Diagonal(torch.tensor([0.5])), torch.zeros(4, 1)))
    assert "is not drawn: the gradient is zero: it has no shares" in told(silent)
    for size, word in ((np.nan, "not a number"), (np.inf, "infinite")):
        found = with_map([[np.nan]], size)
        assert f"is not drawn: the gradient is {word}" in told(found)
        assert flow_figures.lag_map(report(found)) is None
        assert flow_figures.truncation(report(found)) is None


def test_what_rounding_hides_is_left_out_and_said_so() -> None:
    found = linear(0.5, 0.1, time=100)
    part = flow_figures.through_lags(report(found))
    assert part is not None
    first = np.isnan(found.jacobians.resolved[:, 1]).argmax()
    assert f"below the rounding of the product of matrices (from k = {first} on)" in part.reading
    assert list(legend(drawn(part))) == ["largest", "second"]
    # Neither line is at hand where nothing comes near it.
    near = flow_figures.through_lags(report(linear(0.9, 0.8)))
    assert near is not None
    assert "1/1000" in part.reading
    assert "1/1000" not in near.reading


def test_a_norm_beyond_float64_is_drawn_by_its_logarithm() -> None:
    found = linear(2.0, 2.0, time=1500)
    part = flow_figures.through_lags(report(found))
    assert part is not None
    figure = drawn(part)
    assert figure.yaxis.axis_label.text == "log₁₀ of the singular value"
    assert np.array_equal(legend(figure)["largest"]["y"], found.jacobians.log10_norm)
    assert "largest: infinite in float64" not in legend(figure)
    infinite = legend(figure)["second: infinite in float64"]
    assert (np.asarray(infinite["y"]) > max(found.jacobians.log10_norm)).all()
    assert "infinite in float64 has its mark at the top edge" in part.reading
    # Of 1500 lags some are looked at: their points are marked, and hidden with their line.
    (item, *_) = figure.legend[0].items
    assert len(item.renderers) == 2
    assert item.renderers[1].data_source is item.renderers[0].data_source


def test_angles_of_zero_have_an_axis_of_degrees_and_stand_on_it() -> None:
    found = analyse(Sweep.of_scan(Diagonal(torch.zeros(2)), torch.ones(20, 2), loss=lambda h: h[:, ::2].square().sum()))
    assert not found.truncation.angle.any()
    angles = drawn(flow_figures.truncation(report(found)), 1)
    assert angles.y_range.start < 0
    assert angles.y_range.end > 45
    assert set(legend(angles)["0 in float64"]["y"]) == {0.0}


def test_a_window_that_keeps_nothing_has_no_angle() -> None:
    found = analysis()
    angle, error = found.truncation.angle.copy(), found.truncation.relative_error.copy()
    angle[:3] = np.nan
    error[0] = np.nan
    broken = dataclasses.replace(found.truncation, angle=angle, relative_error=error)
    part = flow_figures.truncation(report(dataclasses.replace(found, truncation=broken)))
    assert part is not None
    assert "G_k = 0 has none (2 of them)" in part.reading
    for number in (0, 1):
        assert list(legend(drawn(part, number))["not a number"]["x"]) == [1]


def test_a_share_that_is_no_number_is_neither_zero_nor_absent() -> None:
    part = flow_figures.lag_map(report(with_map([[0.5, 0.0, 0.0], [np.nan, 0.2, 0.0], [0.3, 0.0, 0.0]])))
    assert part is not None
    cells, broken, absent = drawn(part).renderers
    assert len(cells.data_source.data["share"]) == 5
    assert broken.glyph.hatch_pattern == "x"
    assert list(broken.data_source.data["left"]) == [1.5]
    assert absent.glyph.fill_color == NO_SUCH_STEP
    assert list(absent.data_source.data["bottom"]) == [1, 2]
    assert "Hatched cells" in part.reading
    assert {"share: not a number", "share: 0 in float64"} <= set(legend(drawn(part, 1)))
    whole = flow_figures.lag_map(report(analysis()))
    assert whole is not None
    assert "Hatched" not in whole.reading


def test_shares_beyond_one_have_colours_of_their_own() -> None:
    part = flow_figures.lag_map(report(with_map([[90.0, 0.0], [-90.0, 1.0]])))
    mapper = drawn(part).renderers[0].glyph.fill_color.transform
    assert (mapper.low, mapper.high) == (-8, 8)


def test_shares_are_summed_by_lag() -> None:
    found = analysis()
    part = flow_figures.lag_map(report(found))
    assert part is not None
    shares, figure = found.lag_map.by_lag, drawn(part, 1)
    named = legend(figure)
    for name, mask, color in (("along the gradient", shares > 0, ALONG), ("against the gradient", shares < 0, AGAINST)):
        if mask.any():
            assert np.array_equal(named[name]["y"], np.abs(shares[mask]))
            (item,) = [item for item in figure.legend[0].items if item.label.value == name]
            assert item.renderers[0].glyph.fill_color == color
    assert type(figure.y_scale).__name__ == "LogScale"
    # A loss at one step has one column: its lags are all there is.
    (one,) = [flow_figures.lag_map(report(linear(0.9, 0.5, time=30)))]
    assert one is not None
    assert len(one.plots) == 1
    assert "looks at step 30 alone" in one.reading
    assert "along the gradient" in legend(drawn(one))


def test_memory_of_every_mode() -> None:
    part = flow_figures.through_lags(report(linear(1.0, -1.0, 0.5, 0.0, 1.25, 0.9, time=30)))
    named = legend(drawn(part, 1))
    assert np.allclose(named["time constant: 1/e is left"]["y"], [-1 / np.log(0.9), -1 / np.log(0.5)])
    assert np.allclose(named["memory horizon: 1 % is left"]["y"], np.log(0.01) / np.log([0.9, 0.5]))
    assert list(named["never forgets, |λ| = 1 (top edge)"]["x"]) == [2, 3]
    assert list(named["forgets at once, λ = 0 (bottom edge)"]["x"]) == [6]
    assert list(named["grows: e times as much"]["x"]) == [1]
    assert part is not None
    assert "length of the sequence, 30 steps" in part.reading
    steps = analyse(Sweep.of_scan(Dense(torch.eye(2).expand(4, 2, 2) * 0.5), torch.ones(4, 2)))
    alone = flow_figures.through_lags(report(steps))
    assert alone is not None
    assert len(alone.plots) == 1


def test_one_step_is_seen() -> None:
    found = analyse(Sweep.of_scan(Dense(0.9 * torch.eye(2)), torch.ones(1, 2), torch.ones(2)))
    errors = drawn(flow_figures.truncation(report(found)))
    assert list(legend(errors)["0 in float64"]["x"]) == [1]
    assert list(legend(drawn(flow_figures.lag_map(report(found))))["along the gradient"]["y"]) == [pytest.approx(1)]
