"""Every part of the gradient, by source step and lag, against a backward pass for each."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from insight.sweeps import EPS, STRUCTURES, brute_parts, draw, square, sweep_of, tenth
from retrograd import Diagonal
from retrograd.errors import InputError
from retrograd.insight import Sweep, lag_map, lag_parts
from retrograd.insight.products import lag_grid
from retrograd.problem import Loss


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("loss", [square, tenth])
def test_parts_are_those_of_brute_force_and_sum_to_the_gradient(structure: str, loss: Loss) -> None:
    sweep, want = sweep_of(structure, loss), brute_parts(*draw(structure), loss)
    parts = lag_parts(sweep)
    assert (parts - want).abs().max() <= 100 * EPS * want.abs().max()
    assert (parts.sum((0, 1)) - sweep.gradient).abs().max() <= 100 * EPS * want.abs().max()
    assert (parts == 0)[torch.ones(12, 12).triu(1).bool()].all()


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("edges", [None, "all", [3, 5, 6, 11], [1, 2, 4, 8], [7]])
@pytest.mark.parametrize("loss", [square, tenth])
def test_shares_are_those_of_the_parts(structure: str, edges: list[int] | str | None, loss: Loss) -> None:
    sweep, parts = sweep_of(structure, loss), brute_parts(*draw(structure), loss)
    found = lag_map(sweep, edges)
    G = parts.sum((0, 1))
    each = (parts.conj() * G).real.flatten(2).sum(-1) / G.abs().square().sum()
    want = torch.stack([each[:, a:b].sum(1) for a, b in zip(found.edges[:-1], found.edges[1:], strict=True)], 1)
    assert np.abs(found.share - want.numpy()).max() <= 100 * EPS * each.abs().max()
    assert found.share.sum() == pytest.approx(1, abs=100 * EPS)
    assert found.by_lag.sum() == pytest.approx(found.by_step.sum())
    assert found.gradient_norm == pytest.approx(G.norm().item())


def test_small_shares_are_right_too_not_differences_of_large_ones() -> None:
    sweep = Sweep.of_scan(Diagonal(torch.tensor([1e-3], dtype=torch.float64)), torch.ones(300, 1), loss=square)
    found = lag_map(sweep).by_lag
    # Of a constant drive every lag passes on a thousandth.
    assert found[5] / found[4] == pytest.approx(1e-3, rel=0.02)
    assert found[12] / found[0] == pytest.approx(1e-48, rel=0.1)  # lags from 16 on


def test_a_gradient_of_zero_has_no_shares() -> None:
    sweep = Sweep.of_scan(Diagonal(torch.tensor([0.5])), torch.zeros(4, 1))
    assert np.isnan(lag_map(sweep).share).all()
    assert lag_map(sweep).gradient_norm == 0


def test_what_cannot_be_asked_for() -> None:
    sweep = sweep_of("dense")
    with pytest.raises(InputError, match="from 0 to 12"):
        lag_map(sweep, [13])
    with pytest.raises(InputError, match="'all' or None"):
        lag_map(sweep, "every")
    long = Sweep.of_scan(Diagonal(torch.tensor([0.5])), torch.ones(9000, 1))
    with pytest.raises(InputError, match="617 MB, expected at most 256 MB"):
        lag_parts(long)


@pytest.mark.parametrize("longest", [1, 7, 256, 257, 300, 4096, 4097])
def test_grids_of_lags_go_from_the_least_to_the_longest(longest: int) -> None:
    grid = lag_grid(longest, None, 1)
    assert (grid[0], grid[-1]) == (1, longest)
    assert all(a < b for a, b in itertools.pairwise(grid))
    if longest > 256:
        assert len(grid) <= 16 + np.log2(longest / 64)
        assert {4, 6, 8, 12, 24, 48, 64} <= set(grid)
        assert max(b / a for a, b in itertools.pairwise(grid) if a >= 8) <= 2


@pytest.mark.parametrize("scale", [1e-250, 1e-160, 1e160, 1e250])
@pytest.mark.parametrize("structure", ["dense", "diagonal"])
def test_the_size_of_the_loss_changes_no_share(structure: str, scale: float) -> None:
    A, u, h0 = draw(structure)
    plain = lag_map(Sweep.of_scan(A, u, h0, loss=square))
    found = lag_map(Sweep.of_scan(A, u, h0, loss=lambda states: scale * square(states)))
    np.testing.assert_allclose(found.share, plain.share, atol=100 * EPS)
    assert found.gradient_norm == pytest.approx(scale * plain.gradient_norm, rel=100 * EPS)
