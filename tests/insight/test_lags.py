"""Every part of the gradient, by source step and lag, against a backward pass for each."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from insight.sweeps import EPS, OF_SEQUENCES, STRUCTURES, brute_parts, draw, square, sweep_of, tenth, unexcited
from retrograd import Diagonal
from retrograd.errors import InputError
from retrograd.insight import Sweep, lag_map, lag_parts, truncation
from retrograd.insight.products import lag_grid
from retrograd.rnn.loss import Loss


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("loss", [square, tenth])
def test_parts_are_those_of_brute_force_and_sum_to_the_gradient(structure: str, loss: Loss) -> None:
    sweep, want = sweep_of(structure, loss), brute_parts(*draw(structure), loss)
    parts = lag_parts(sweep)
    assert (parts - want).abs().max() <= 100 * EPS * want.abs().max()
    assert (parts.sum((0, 1)) - sweep.gradient).abs().max() <= 100 * EPS * want.abs().max()
    assert (parts == 0)[torch.ones(12, 12).triu(1).bool()].all()


@pytest.mark.parametrize("structure", [*STRUCTURES, *OF_SEQUENCES])
@pytest.mark.parametrize("edges", [None, "all", [3, 5, 6, 11], [1, 2, 4, 8], [7], []])
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


@pytest.mark.parametrize("structure", ["dense", "dense steps", "diagonal", "diagonal complex", "diagonal steps"])
@pytest.mark.parametrize("time", [2, 3, 5, 64, 65, 300])
def test_long_bins_are_sums_of_the_lags_in_them(structure: str, time: int) -> None:
    A, u, h0 = draw(structure, time, 0.4)
    sweep = Sweep.of_scan(A, u, h0, loss=square)
    each, few = lag_map(sweep, "all"), lag_map(sweep, [edge for edge in (1, 7, 17, 50, 64, 201) if edge < time])
    want, scale = (np.add.reduceat(share, few.edges[:-1], axis=1) for share in (each.share, np.abs(each.share)))
    assert np.abs(few.share - want).max() <= 100 * EPS * scale.max()
    assert few.share.sum() == pytest.approx(1, abs=100 * EPS)
    # What windows keep is what the lags below them give.
    kept = truncation(sweep, "all").share
    assert np.abs(kept - each.by_lag.cumsum()).max() <= 200 * EPS * np.abs(each.share).sum()


@pytest.mark.parametrize("structure", ["dense", "dense steps", "diagonal", "diagonal steps"])
def test_powers_that_overflow_where_the_gradient_does_not(structure: str) -> None:
    sweep = unexcited(structure)
    found = lag_map(sweep)
    assert np.isfinite(found.share).all()
    assert found.share.sum() == pytest.approx(1, abs=100 * EPS)
    alone = lag_map(Sweep.of_scan(Diagonal(torch.tensor([0.5]).double()), torch.ones(1200, 1), loss=square))
    np.testing.assert_allclose(found.share, alone.share, rtol=1e-10, atol=1e-300)


def test_what_a_product_loses_by_underflow_is_not_lost() -> None:
    # A gate of 1e-200 and, ten steps on, one of 1e200; the input is as large as the first is small.
    a = torch.ones(40, 1, dtype=torch.float64)
    a[10:12], a[20:22] = 1e-200, 1e200
    u, g = torch.zeros(40, 1).double(), torch.zeros(40, 1).double()
    u[0], g[30], g[39] = 1e250, 1e-240, 1e-240
    sweep = Sweep.of_scan(Diagonal(a), u, grad_states=g)
    found = lag_map(sweep)
    assert found.share.sum() == pytest.approx(1, abs=100 * EPS)


def test_a_gradient_of_zero_has_no_shares() -> None:
    sweep = Sweep.of_scan(Diagonal(torch.tensor([0.5])), torch.zeros(4, 1))
    assert np.isnan(lag_map(sweep).share).all()
    assert lag_map(sweep).gradient_norm == 0
    exploded = Sweep.of_scan(Diagonal(torch.tensor([4.0])), torch.ones(700, 1), loss=square)
    assert np.isnan(lag_map(exploded).share).all()
    assert not np.isfinite(lag_map(exploded).gradient_norm)


def test_what_cannot_be_asked_for() -> None:
    sweep = sweep_of("dense")
    with pytest.raises(InputError, match="from 0 to 12"):
        lag_map(sweep, [13])
    with pytest.raises(InputError, match=r"edges are \[1.7\], expected whole numbers from 0 to 12"):
        lag_map(sweep, [1.7])  # type: ignore[list-item]
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
        assert len(grid) <= 11 + np.log2(longest / 16)
        assert {4, 6, 8, 12, 16, 32, 64} <= set(grid)
        assert max(b / a for a, b in itertools.pairwise(grid) if a >= 8) <= 2


@pytest.mark.parametrize("scale", [1e-250, 1e-160, 1e160, 1e250])
@pytest.mark.parametrize("structure", ["dense", "diagonal"])
def test_the_size_of_the_loss_changes_no_share(structure: str, scale: float) -> None:
    A, u, h0 = draw(structure)
    plain = lag_map(Sweep.of_scan(A, u, h0, loss=square))
    found = lag_map(Sweep.of_scan(A, u, h0, loss=lambda states: scale * square(states)))
    np.testing.assert_allclose(found.share, plain.share, atol=100 * EPS)
    assert found.gradient_norm == pytest.approx(scale * plain.gradient_norm, rel=100 * EPS)
