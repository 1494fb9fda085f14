"""Sums over windows of lags, by products of transitions and source by source, against the products written out."""

from __future__ import annotations

import itertools

import pytest
import torch

from insight.sweeps import BATCH, EPS, OF_SEQUENCES, STRUCTURES, TIME, WIDTH, draw, matrices, square, sweep_of
from retrograd import Dense
from retrograd.insight import Sweep
from retrograd.insight.products import Sliding, bin_of_lag, bin_sums, by_source, pieces

ALL = (*STRUCTURES, *OF_SEQUENCES)
# Dense transitions that change with time have no windows: there the sources are followed one by one.
WITH_WINDOWS = [structure for structure in ALL if structure not in ("dense steps", "dense rows")]


def between(structure: str) -> torch.Tensor:
    """Return Φ(t, s) of every sequence, ``(B, T, T, H, H)``; zero where s > t."""
    A = matrices(draw(structure)[0], TIME)
    found = A.new_zeros(BATCH, TIME, TIME, WIDTH, WIDTH)
    for s in range(TIME):
        found[:, s, s] = torch.eye(WIDTH)
        for t in range(s + 1, TIME):
            found[:, t, s] = A[:, t] @ found[:, t - 1, s]
    return found


@pytest.mark.parametrize("structure", WITH_WINDOWS)
@pytest.mark.parametrize("edges", [[*range(TIME + 1)], [0, 3, 5, 6, 11, 12], [0, 1, 2, 4, 8, 12], [0, 12]])
def test_sums_over_windows_are_those_of_their_products(structure: str, edges: list[int]) -> None:
    A, x, _ = draw(structure)
    through, full = between(structure), A.normal()
    for rows, products in pieces(full, BATCH, TIME):
        for (first, last), found in zip(itertools.pairwise(edges), bin_sums(products, x[rows], edges), strict=True):
            want = torch.zeros_like(x[rows])
            for lag in range(first, last):
                for t in range(lag, TIME):
                    want[:, t] += (through[rows, t, t - lag] @ x[rows, t - lag, :, None])[..., 0]
            assert (found - want[:, first:]).abs().max() <= 100 * EPS * want.abs().max()


@pytest.mark.parametrize("structure", WITH_WINDOWS)
@pytest.mark.parametrize("width", [1, 2, 3, 7, TIME])
def test_windows_reach_ahead_as_they_reach_back(structure: str, width: int) -> None:
    A, x, _ = draw(structure)
    through = between(structure)
    for rows, products in pieces(A.normal(), BATCH, TIME):
        found = Sliding(products, x[rows], adjoint=True).below(width)
        want = torch.zeros_like(found)
        for s in range(TIME):
            for t in range(s, min(s + width, TIME)):
                want[:, s] += (through[rows, t, s].mH @ x[rows, t, :, None])[..., 0]
        assert (found - want).abs().max() <= 100 * EPS * want.abs().max()


@pytest.mark.parametrize("structure", ALL)
@pytest.mark.parametrize("some", [False, True])
def test_each_source_reaches_every_step_before_it(structure: str, some: bool) -> None:
    A, u, h0 = draw(structure)
    sweep = Sweep.of_scan(A, u, h0, loss=lambda states: square(states[..., 4::5, :])) if some else sweep_of(structure)
    through, steps = between(structure), []
    for step, sources, moved in by_source(sweep):
        assert sources.tolist() == [t for t in sweep.sources if t >= step]
        want = (through[:, sources, step].mH @ sweep.direct[:, sources, :, None])[..., 0]
        assert (moved - want).abs().max() <= 100 * EPS * want.abs().max()
        # All of them together are the whole gradient of the state.
        assert (moved.sum(1) - sweep.delta[:, step]).abs().max() <= 100 * EPS * sweep.delta.abs().max()
        steps.append(step)
    assert steps == [*range(sweep.sources[-1], -1, -1)]


def test_no_source_reaches_nothing() -> None:
    silent = Sweep.of_scan(Dense(torch.eye(2)), torch.ones(5, 2), grad_final=torch.zeros(2))
    assert list(by_source(silent)) == []
    assert bin_of_lag([0, 2, 3]).tolist() == [0, 0, 1]
