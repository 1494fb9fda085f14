"""The largest power of a matrix, against every power."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from insight.matrices import draw, with_modes
from insight.sweeps import EPS
from retrograd.errors import InputError
from retrograd.insight import Sweep, jacobians, spectrum, transient_growth


def brute_growth(W: torch.Tensor, horizon: int) -> np.ndarray:
    norms, power = [], np.eye(len(W))
    for _ in range(horizon + 1):
        norms.append(np.linalg.norm(power, 2))
        power = power @ W.numpy()
    return np.array(norms)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("horizon", [0, 1, 5, 20, 300, 700])
def test_transient_growth_is_the_largest_power(seed: int, horizon: int) -> None:
    W = draw(5, seed=seed)
    W = 0.97 * W / torch.linalg.eigvals(W).abs().max()
    W[0, 1] += 20
    W = 0.99 * W / torch.linalg.eigvals(W).abs().max()
    norms = brute_growth(W, horizon)
    found = transient_growth(W, horizon)
    assert found.largest == pytest.approx(max(norms), rel=1e-10)
    assert norms[found.lag] == pytest.approx(max(norms), rel=1e-10)


def oscillating(seed: int, condition: float = 0.03) -> torch.Tensor:
    """Two slowly decaying oscillations, not orthogonal: ‖A^k‖ has many hills."""
    source = np.random.default_rng(seed)
    modes = with_modes(0.97 + 0.03 * source.random(2), 3 * source.random(2), 0, torch.float64)
    stretch = torch.diag(torch.tensor([1.0, 0.3, 0.1, condition], dtype=torch.float64))
    basis = torch.linalg.qr(draw(4, seed=seed)).Q @ stretch @ torch.linalg.qr(draw(4, seed=seed + 1000)).Q
    return basis @ modes @ torch.linalg.inv(basis)


@pytest.mark.parametrize("seed", range(40))
def test_of_many_hills_the_highest(seed: int) -> None:
    W = oscillating(seed)
    norms = brute_growth(W, 1000)
    known = jacobians(W, longest=1000)
    for found in (transient_growth(W, 1000), transient_growth(W, 1000, known), spectrum(W, 1000).transient):
        # k H eps, of one factor's norm; the basis multiplies it by its condition.
        assert found.largest == pytest.approx(norms.max(), rel=1e-11)
        assert norms[found.lag] == pytest.approx(norms.max(), rel=1e-11)


@pytest.mark.parametrize("radius", [0.99, 0.9999, 1.0, 1.0001, 1.01])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_powers_that_settle_late_or_never(radius: float, dtype: torch.dtype) -> None:
    for seed in range(4):
        W = draw(12, dtype, seed)
        W = radius * W / torch.linalg.eigvals(W).abs().max()
        norms, found = brute_growth(W, 500), transient_growth(W, 500)
        assert found.largest == pytest.approx(norms.max(), rel=1e-11)
        assert norms[found.lag] == pytest.approx(found.largest, rel=1e-11)


@pytest.mark.parametrize("scale", [1e-200, 1e-3, 3.0, 1e100])
def test_growth_beyond_the_range_of_float64(scale: float) -> None:
    W = scale * torch.tensor([[1.0, 50.0], [0.0, -1.0]], dtype=torch.float64)
    found = transient_growth(W, 1000)
    if scale > 1:
        # W² = scale² I: the largest is the last odd power, 50 scale^999, or where scale > 50 the last.
        assert found.lag == (999 if scale == 3 else 1000)
        assert found.largest == np.inf
    else:
        assert found.largest == pytest.approx(max(1, float(torch.linalg.matrix_norm(W, 2))), rel=10 * EPS)


def test_a_first_transition_of_its_own_is_no_part_of_a_power() -> None:
    W, V, C = torch.eye(2).double(), 100 * torch.ones(2, 1).double(), 1e-3 * torch.ones(1, 2).double()
    x, closed = torch.ones(9, 1), torch.arange(9) > 0
    sweep = Sweep.of_weights(x, weight_hh=W, weight_ih=V, weight_out=C, feedback=closed)
    assert sweep.first is not None
    found = spectrum(sweep, through=jacobians(sweep))
    assert found.transient.largest == pytest.approx(brute_growth(W + V @ C, 9)[9], rel=100 * EPS)
    assert found.transient.lag == 9


def test_what_has_no_powers() -> None:
    for horizon in (-1, 2.5):
        with pytest.raises(InputError, match=f"horizon is {horizon}, expected a whole number of at least 0"):
            transient_growth(torch.eye(2), horizon)  # type: ignore[arg-type]
    for wrong in (torch.ones(2), np.eye(2)):
        with pytest.raises(InputError, match=r"W .*, expected one matrix \(H, H\)"):
            transient_growth(wrong, 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="square"):
        transient_growth(torch.ones(2, 3), 3)
    with pytest.raises(InputError, match="NaN or infinity"):
        transient_growth(torch.tensor([[float("inf")]]), 3)
