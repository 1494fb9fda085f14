"""What windows keep of the gradient, against sums of brute-force parts and against real truncated backpropagation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from insight.sweeps import EPS, OF_SEQUENCES, STRUCTURES, brute_parts, draw, square, sweep_of, tenth, unexcited
from retrograd import Dense, Diagonal, Stream
from retrograd.errors import InputError
from retrograd.insight import Sweep, lag_parts, truncation
from retrograd.rnn.loss import Loss


@pytest.mark.parametrize("structure", [*STRUCTURES, *OF_SEQUENCES])
@pytest.mark.parametrize("wanted", [None, [1, 2, 5, 12], [3, 4, 9]])
@pytest.mark.parametrize("loss", [square, tenth])
def test_every_window_keeps_the_lags_below_it(structure: str, wanted: list[int] | None, loss: Loss) -> None:
    found = truncation(sweep_of(structure, loss), wanted)
    parts = brute_parts(*draw(structure), loss).sum(0).flatten(1)
    G = parts.sum(0)
    kept = parts.cumsum(0)[found.windows - 1]
    scale = parts.abs().max() / G.norm()
    assert np.abs(found.relative_error - ((kept - G).norm(dim=1) / G.norm()).numpy()).max() <= 100 * EPS * scale
    along = (kept.conj() * G).real.sum(1) / G.norm() ** 2
    assert np.abs(found.share - along.numpy()).max() <= 100 * EPS * scale
    across = (kept - along[:, None] * G).norm(dim=1) / G.norm()
    # As tangents: near zero an angle by its cosine has half the digits.
    tangent = np.tan(np.radians(found.angle)) * along.numpy()
    assert np.abs(tangent - across.numpy()).max() <= 200 * EPS * scale


def test_it_is_truncated_backpropagation() -> None:
    A, u, _ = draw("dense")
    sweep = Sweep.of_scan(A, u, loss=square)
    found = truncation(sweep)
    for window, error in zip(found.windows, found.relative_error, strict=True):
        stream = Stream(weight_hh=A.W, weight_ih=torch.eye(4).double(), truncate=int(window), stride=1)  # type: ignore[union-attr]
        stream.feed(u, loss=square)
        G = sweep.gradient
        assert error == pytest.approx(((stream.gradients["weight_hh"] - G).norm() / G.norm()).item(), abs=1000 * EPS)


def test_the_window_for_an_error() -> None:
    sweep = Sweep.of_scan(Diagonal(torch.tensor([0.5])), torch.ones(4, 1), loss=torch.sum)
    found = truncation(sweep)  # errors .261 .043 0 0
    assert [found.window_for(error) for error in (0.5, 0.2, 0.01, 0)] == [1, 2, 3, 3]


def test_no_window_is_named_that_does_not_satisfy_it() -> None:
    u = torch.ones(40, 1, dtype=torch.float64)
    found = truncation(Sweep.of_scan(Diagonal(torch.tensor([0.9])), u, loss=square), [1, 2, 4])
    with pytest.raises(InputError, match=r"no window measured keeps the gradient to 0.01: the longest, 4, to 0\."):
        found.window_for(0.01)
    assert found.window_for(found.relative_error[-1]) == 4
    for wrong in (float("nan"), -0.1):
        with pytest.raises(InputError, match="expected a number from 0 on"):
            found.window_for(wrong)
    nothing = truncation(Sweep.of_scan(Diagonal(torch.tensor([0.5])), torch.zeros(4, 1)))
    with pytest.raises(InputError, match="zero or not finite"):
        nothing.window_for(0.1)


@pytest.mark.parametrize("wrong", [[0], [13], [1.5], [float("nan")], []])
def test_windows_are_called_windows(wrong: list[int]) -> None:
    with pytest.raises(InputError, match=r"windows are .*, expected whole numbers from 1 to 12"):
        truncation(sweep_of("dense"), wrong)


@pytest.mark.parametrize("structure", ["dense", "dense steps", "diagonal steps"])
@pytest.mark.parametrize("sources", [1, 2])
def test_windows_that_keep_next_to_nothing_have_an_angle(structure: str, sources: int) -> None:
    time, source = 120, torch.Generator().manual_seed(5)
    u, g = torch.zeros(time, 4).double(), torch.zeros(time, 4).double()
    if structure.startswith("dense"):
        # States decay, in two modes; the gradient grows backward, in two others: the longest lags are nearly all.
        spins = torch.linalg.qr(torch.randn(2, 2, 2, generator=source).double()).Q
        W = torch.block_diag(1.3 * spins[0], 0.7 * spins[1])
        A: Dense | Diagonal = Dense(W.expand(time, 4, 4) if structure == "dense steps" else W)
        u[0, 2:], g[time - sources :, :2] = torch.randn(2, generator=source), torch.randn(sources, 2, generator=source)
    else:
        # A gate's own gradient is what passes all others: that of the nearly closed one is nearly all.
        gates = torch.rand(time, 4, generator=source).double() + 0.5
        gates[7] *= 1e-18
        A = Diagonal(gates)
        u[0], g[time - sources :] = torch.randn(4, generator=source), torch.randn(sources, 4, generator=source)
    sweep = Sweep.of_scan(A, u, grad_states=g)
    found = truncation(sweep, "all")
    kept = lag_parts(sweep).sum(0).flatten(1).cumsum(0)
    unit, lengths = kept[-1] / kept[-1].norm(), kept.norm(dim=1)
    along = kept @ unit
    want = torch.rad2deg(torch.atan2((kept - along[:, None] * unit).norm(dim=1), along))
    assert 0 < lengths[0] < 1e-15 * lengths[-1]
    assert not np.isnan(found.angle).any()
    assert np.abs(found.angle - want.numpy()).max() <= 90 * 100 * EPS
    np.testing.assert_allclose(found.share, along / lengths[-1], rtol=1000 * EPS)


def test_where_there_is_no_gradient_or_nothing_is_kept() -> None:
    nothing = truncation(Sweep.of_scan(Diagonal(torch.tensor([0.5])), torch.zeros(4, 1)))
    assert np.isnan([nothing.share, nothing.relative_error, nothing.angle]).all()
    # W hands state 1 on to state 2 and forgets it; only h_2 is not zero, and only state 2 of h_4 is looked at: the loss
    # meets h_2 over lag 1, and a window of one step keeps exactly nothing.
    W, u, last = torch.tensor([[0.0, 0.0], [1.0, 0.0]]), torch.zeros(4, 2), torch.tensor([0.0, 1.0])
    u[1, 1] = 1
    found = truncation(Sweep.of_scan(Dense(W), u, grad_final=last))
    assert found.share.tolist() == [0, 1, 1, 1]
    assert np.isnan(found.angle).tolist() == [True, False, False, False]


def test_a_long_series() -> None:
    W = 0.99 * torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(0)).double()).Q
    u = torch.randn(2, 3000, 8, generator=torch.Generator().manual_seed(1)).double()
    found = truncation(Sweep.of_scan(Dense(W), u, loss=square))
    assert len(found.windows) < 50
    assert found.relative_error[-1] == 0
    assert found.relative_error[found.windows == 1024] < 1e-3 < found.relative_error[found.windows == 128]


@pytest.mark.parametrize("scale", [1e-250, 1e-160, 1e160, 1e250])
@pytest.mark.parametrize("structure", ["dense", "diagonal"])
def test_the_size_of_the_loss_changes_nothing(structure: str, scale: float) -> None:
    A, u, h0 = draw(structure)
    plain = truncation(Sweep.of_scan(A, u, h0, loss=square))
    found = truncation(Sweep.of_scan(A, u, h0, loss=lambda states: scale * square(states)))
    for name in ("share", "relative_error", "angle"):
        np.testing.assert_allclose(getattr(found, name), getattr(plain, name), atol=1000 * EPS)


@pytest.mark.parametrize("structure", ["dense", "dense steps", "diagonal", "diagonal steps"])
def test_powers_that_overflow_where_the_gradient_does_not(structure: str) -> None:
    sweep = unexcited(structure)
    found = truncation(sweep)
    assert np.isfinite([found.share, found.relative_error, found.angle]).all()
    # The quiet mode alone is the gradient.
    alone = truncation(
        Sweep.of_scan(Diagonal(torch.tensor([0.5]).double()), sweep.states.new_ones(1200, 1), loss=square)
    )
    np.testing.assert_allclose(found.relative_error, alone.relative_error, rtol=1e-10, atol=1e-300)
    np.testing.assert_allclose(found.share, alone.share, rtol=100 * EPS)
