"""The report's part on the gradient's flow shows the numbers of the analysis."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
import torch

from retrograd import Dense, Diagonal
from retrograd.insight import Analysis, Sweep, analyse
from retrograd.report import RunReport, flow_figures


def analysis(W: torch.Tensor | None = None, time: int = 60) -> Analysis:
    u = torch.randn(time, 3, generator=torch.Generator().manual_seed(0))
    W = torch.tensor([[0.9, 0.5, 0.0], [0.0, 0.8, 0.5], [0.0, 0.0, 0.7]]) if W is None else W
    return analyse(Sweep.of_scan(Dense(W), u, loss=lambda states: states.square().mean()))


def report(found: Analysis | None) -> RunReport:
    nothing: dict[str, Any] = {field.name: None for field in dataclasses.fields(RunReport)}
    return RunReport(**{**nothing, "analysis": found})


def quads(part: Any) -> dict[str, Any]:
    ((_, figure),) = part.plots
    (renderer,) = figure.renderers
    return dict(renderer.data_source.data)


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
    palette = flow_figures._palette()
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
    ((_, figure),) = lags.plots
    assert np.array_equal(np.asarray(figure.renderers[0].data_source.data["y"]), found.jacobians.norm)
    assert angles.x_range is errors.x_range


def test_no_gradient_no_shares() -> None:
    silent = report(analyse(Sweep.of_scan(Diagonal(torch.tensor([0.5])), torch.zeros(4, 1))))
    assert flow_figures.lag_map(silent) is None
    assert flow_figures.truncation(silent) is None
    assert flow_figures.through_lags(silent) is not None
