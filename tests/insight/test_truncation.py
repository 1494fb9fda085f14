"""What windows keep of the gradient, against sums of brute-force parts and against real truncated backpropagation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from insight.sweeps import EPS, STRUCTURES, brute_parts, draw, square, sweep_of, tenth
from retrograd import Dense, Diagonal, Stream
from retrograd.insight import Sweep, truncation
from retrograd.problem import Loss


@pytest.mark.parametrize("structure", STRUCTURES)
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
