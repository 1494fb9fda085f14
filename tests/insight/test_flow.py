"""Norms of the gradient and of the Jacobians, against autograd in float64."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import torch

from insight.sweeps import EPS, STRUCTURES, brute, draw, matrices, sweep_of
from retrograd import Dense, Diagonal
from retrograd.insight import Sweep, flow, jacobians


@pytest.mark.parametrize("structure", STRUCTURES)
def test_norms_are_those_of_autograd(structure: str) -> None:
    loss, states, _ = brute(*draw(structure))
    delta = torch.stack(torch.autograd.grad(loss, states, retain_graph=True), 1)
    found = flow(sweep_of(structure))
    want = delta.norm(dim=(0, 2)).numpy()
    assert np.abs(found.delta_norm - want).max() <= 100 * EPS * want.max()
    assert np.allclose(found.by_sequence, delta.norm(dim=2).numpy(), rtol=1e-12)
    direct = 2 * torch.stack(states, 1).detach()
    assert np.allclose(found.direct_norm, direct.norm(dim=(0, 2)).numpy(), rtol=1e-12)


@pytest.mark.parametrize("structure", ["dense", "diagonal"])
def test_each_sequence_has_its_part_of_the_gradient(structure: str) -> None:
    A, u, h0 = draw(structure)
    found = flow(sweep_of(structure)).gradient_by_sequence
    for row in range(3):
        alone = Sweep.of_scan(A, u[row], h0[row], loss=lambda states: states.abs().square().sum())
        assert found[row] == pytest.approx(alone.gradient.norm().item(), rel=1e-12)


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("lags", [None, [0, 3, 7, 12]])
def test_singular_values_are_those_of_the_jacobian(structure: str, lags: list[int] | None) -> None:
    A, u, h0 = draw(structure)
    _, states, _ = brute(A, u, h0)
    found = jacobians(sweep_of(structure), lags)
    for lag, values in zip(found.lags, found.singular_values, strict=True):
        product = torch.eye(4, dtype=u.dtype)
        for t in range(12 - lag, 12):
            product = matrices(A, 12)[0, t] @ product
        want = torch.linalg.svdvals(product)
        assert (torch.from_numpy(values) - want).abs().max() <= 100 * EPS * max(want[0].item(), 1e-300)
        if 0 < lag < 12 and not u.is_complex():
            rows = [torch.autograd.grad(states[-1][0, i], states[11 - lag], retain_graph=True)[0][0] for i in range(4)]
            assert (torch.stack(rows) - product).abs().max() <= 100 * EPS * want[0]


def test_lags_beyond_the_range_of_float64() -> None:
    grown = jacobians(
        Dense(torch.diag(torch.tensor([1.5, 0.5])).double()).normal(), [1, 1000, 100_000], longest=100_000
    )
    assert grown.norm.tolist() == [1.5, pytest.approx(float(mpmath.mpf(1.5) ** 1000), rel=1e-12), float("inf")]
    assert grown.log10_norm[2] == pytest.approx(100_000 * float(mpmath.log10(1.5)), rel=1e-13)
    assert grown.singular_values[2, 1] == 0
    faded = jacobians(Diagonal(torch.full((3000, 2), 0.1, dtype=torch.float64)).normal(), [3000])
    assert faded.norm.tolist() == [0]
    assert faded.log10_norm.tolist() == [pytest.approx(-3000, rel=1e-12)]


def test_the_gradient_through_a_zero_is_exactly_zero() -> None:
    a = torch.full((5, 1), 0.5)
    a[2] = 0
    found = jacobians(Sweep.of_scan(Diagonal(a), torch.ones(5, 1)))
    assert found.norm.tolist() == [1, 0.5, 0.25, 0, 0, 0]
    assert np.isneginf(found.log10_norm[3:]).all()


def test_what_cannot_be_asked_for() -> None:
    with pytest.raises(ValueError, match="give longest"):
        jacobians(torch.eye(2)[None, None])
    with pytest.raises(ValueError, match="longest is 9, A has 5 steps"):
        jacobians(torch.ones(1, 5, 2), longest=9)


def test_singular_values_below_the_rounding_of_the_norm_are_not_shown() -> None:
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)).double()).Q
    W = turn @ torch.diag(torch.tensor([1.0, 0.5, 0.1]).double()) @ turn.T
    found = jacobians(W[None, None], [0, 10, 40, 100], longest=100)
    assert np.isnan(found.resolved).tolist() == [[False] * 3, [False] * 3, [False, False, True], [False, True, True]]
    assert found.resolved[2, 1] == pytest.approx(0.5**40, rel=1e-2)
    exact = jacobians(Diagonal(torch.tensor([1.0, 0.1]).double()).normal(), [100], longest=100)
    assert exact.resolved[0, 1] == pytest.approx(1e-100)


@pytest.mark.parametrize(("rate", "scale"), [(0.5, 1.0), (2.0, 1.0), (1.0, 1e-250), (1.0, 1e250)])
def test_gradients_beyond_the_square_root_of_float64(rate: float, scale: float) -> None:
    """‖δ_t‖ = rate^(T−t) scale √3: neither "exactly zero" nor "not finite" before float64 itself ends."""
    sweep = Sweep.of_scan(
        Diagonal(torch.full((3,), rate)), torch.ones(1000, 3), grad_final=torch.full((3,), scale, dtype=torch.float64)
    )
    found = flow(sweep)
    want = scale * np.sqrt(3) * rate ** np.arange(999, -1, -1.0)
    np.testing.assert_allclose(found.delta_norm, want, rtol=4 * EPS)
    np.testing.assert_allclose(found.by_sequence[0], want, rtol=4 * EPS)
    assert found.direct_norm[-1] == pytest.approx(scale * np.sqrt(3), rel=4 * EPS)
    assert np.isfinite(found.gradient_by_sequence).all()
    assert (found.gradient_by_sequence > 0).all()
