"""Norms of the gradient and of the Jacobians, against autograd in float64."""

from __future__ import annotations

import re
from typing import Any

import mpmath
import numpy as np
import pytest
import torch

from insight.sweeps import EPS, STRUCTURES, brute, draw, matrices, sweep_of
from retrograd import Dense, Diagonal
from retrograd.errors import InputError
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


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"longest": 13}, "longest is 13, expected a whole number from 0 to 12"),
        ({"longest": 8, "end": 7}, "longest is 8, expected a whole number from 0 to 7"),
        ({"longest": -2}, "longest is -2, expected a whole number from 0 to 12"),
        ({"end": 0}, "end is 0, expected a whole number from 1 to 12"),
        ({"end": 13}, "end is 13, expected a whole number from 1 to 12"),
        ({"end": 2.0}, "end is 2.0, expected a whole number"),
        ({"row": 3}, "row is 3, expected a whole number from 0 to 2"),
        ({"row": -1}, "row is -1, expected a whole number from 0 to 2"),
        ({"top": 0}, "top is 0, expected a whole number of at least 1"),
        ({"top": -1}, "top is -1, expected a whole number of at least 1"),
        ({"lags": [1.7]}, "lags are [1.7], expected whole numbers from 0 to 12"),
        ({"lags": [5], "end": 4}, "lags are [5], expected whole numbers from 0 to 4"),
        ({"lags": [-1]}, "lags are [-1], expected whole numbers from 0 to 12"),
        ({"lags": []}, "lags are empty, expected whole numbers from 0 to 12"),
        ({"lags": 3}, "lags are 3, expected whole numbers, 'all' or None"),
    ],
)
@pytest.mark.parametrize("structure", ["dense", "dense rows", "diagonal steps"])
def test_what_cannot_be_asked_for(structure: str, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        jacobians(sweep_of(structure), **asked)


def test_of_what_there_are_no_jacobians() -> None:
    with pytest.raises(ValueError, match="give longest"):
        jacobians(torch.eye(2)[None, None])
    for steps in (torch.ones(1, 5, 2), Dense(torch.ones(5, 2, 2))):
        with pytest.raises(ValueError, match=r"longest is 9, expected a whole number from 0 to 5"):
            jacobians(steps, longest=9)
    sweeps = {(0, "forward"): sweep_of("dense")}
    with pytest.raises(TypeError, match=r"A is dict, expected one of its sweeps, such as sweeps\[0, 'forward'\]"):
        jacobians(sweeps)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"sweep is dict, expected one of its sweeps, such as sweeps\[0, 'forward'\]"):
        flow(sweeps)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"sweep is Tensor, expected a retrograd\.insight\.Sweep"):
        flow(torch.eye(2))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="A is ndarray, expected"):
        jacobians(np.eye(2), longest=1)  # type: ignore[arg-type]
    for wrong in (torch.ones(3), torch.ones(1, 1, 2, 3)):
        with pytest.raises(InputError, match=r"A has shape .* expected one matrix \(H, H\)"):
            jacobians(wrong, longest=1)
    with pytest.raises(ValueError, match="square"):
        jacobians(torch.ones(2, 3), longest=1)
    with pytest.raises(InputError, match="at least one state"):
        jacobians(torch.ones(0, 0), longest=1)


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("end", [1, 5, 12])
def test_products_may_end_before_the_sequence_does(structure: str, end: int) -> None:
    A, _, _ = draw(structure)
    row = 2 if structure == "dense rows" else 0
    found = jacobians(sweep_of(structure), end=end, row=row)
    assert found.lags.tolist() == list(range(end + 1))
    for lag, values in zip(found.lags, found.singular_values, strict=True):
        product = torch.eye(4, dtype=A.normal().dtype)
        for t in range(end - lag, end):
            product = matrices(A, 12)[row, t] @ product
        want = torch.linalg.svdvals(product).numpy()
        assert np.abs(values - want).max() <= 100 * EPS * want[0]
    few = jacobians(sweep_of(structure), [end - 1, end], end=end, row=row)
    np.testing.assert_allclose(few.log10_norm, found.log10_norm[[end - 1, end]], rtol=0, atol=100 * EPS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64])
def test_narrow_transitions_are_multiplied_in_double(dtype: torch.dtype) -> None:
    W = (torch.randn(6, 6, generator=torch.Generator().manual_seed(0)) / 6**0.5).to(dtype)
    wide = torch.complex128 if dtype.is_complex else torch.float64
    for narrow, exact in (
        (W, Dense(W.to(wide))),
        (Dense(W), W.to(wide)[None, None]),
        (Diagonal(W[0]), W[0].to(wide)[None, None]),
        (W.expand(1, 200, 6, 6), W.to(wide)),
        (W[0].expand(1, 200, 6), Diagonal(W[0].to(wide))),
    ):
        found, want = jacobians(narrow, [50, 200], longest=200), jacobians(exact, [50, 200], longest=200)
        np.testing.assert_allclose(found.singular_values, want.singular_values, rtol=6 * 200 * EPS)


def test_a_learned_transition_is_taken_as_it_is() -> None:
    W = torch.nn.Parameter(0.5 * torch.eye(2))
    for A in (W, Dense(W), Dense(W).normal(), Diagonal(W[0])):
        assert jacobians(A, longest=2).norm[2] == 0.25 or isinstance(A, Diagonal)


@pytest.mark.parametrize("length", [2, 7, 16, 100, 1500])
@pytest.mark.parametrize("power", [60, 300])
def test_huge_and_tiny_gates_in_turn(length: int, power: int) -> None:
    """The product of 1e300 and 1e-300 is 1, whatever comes first, and wherever products of several are cut."""
    order = torch.randperm(length, generator=torch.Generator().manual_seed(length))
    for signs in (torch.arange(length) % 2, (torch.arange(length) < length // 2).long(), order % 2):
        exponents = power * (2 * signs - 1)
        gates = (10.0 ** exponents.double())[None, :, None] * torch.tensor([1.0, 0.5]).double()
        want = np.concatenate([[0], exponents.flip(0).cumsum(0)])
        for A in (gates, torch.diag_embed(gates)):
            for lags in (range(length + 1), [length // 2, length]):
                found, decades = jacobians(A, lags), want[lags]
                np.testing.assert_allclose(found.log10_norm, decades, rtol=0, atol=length * power * 10 * EPS)
                inside = np.abs(decades) < 300
                # 10^±300 itself is off by up to 300 roundings.
                np.testing.assert_allclose(found.norm[inside], 10.0 ** decades[inside], rtol=power * length * EPS)


def test_a_tiny_channel_beside_a_huge_one() -> None:
    gates = torch.tensor([[1e200, 1e-200], [1e200, 1e-100]], dtype=torch.float64)
    found = jacobians(Diagonal(gates))
    assert found.log10_norm.tolist() == pytest.approx([0, 200, 400], abs=1e-12)
    assert found.singular_values[:, 1].tolist() == pytest.approx([1, 1e-100, 1e-300], rel=10 * EPS)
    assert found.norm[2] == np.inf


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_product_with_what_is_no_number_is_none(broken: float) -> None:
    a = torch.full((6, 2), 0.5, dtype=torch.float64)
    a[2, 1] = broken
    a[4, 0] = 0
    for A in (Diagonal(a), Dense(torch.diag_embed(a))):
        found = jacobians(A, top=1)
        assert np.isnan(found.log10_norm).tolist() == [False] * 4 + [True] * 3
        assert np.isnan(found.norm).tolist() == [False] * 4 + [True] * 3
        assert found.norm[:4].tolist() == [1, 0.5, 0.25, 0.125]


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
