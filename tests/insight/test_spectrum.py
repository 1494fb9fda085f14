"""Modes, norms and transient growth, against brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from insight.matrices import draw
from insight.sweeps import EPS, sweep_of
from retrograd import Dense, Diagonal
from retrograd.errors import InputError
from retrograd.insight import Sweep, jacobians, spectrum
from retrograd.insight.spectrum import TransientGrowth


@pytest.mark.parametrize("kind", [torch.float64, torch.complex128])
@pytest.mark.parametrize("size", [1, 2, 5, 16])
def test_modes_and_norms(size: int, kind: torch.dtype) -> None:
    W = draw(size, kind)
    found, A = spectrum(W), W.numpy()
    values = np.linalg.eigvals(A)
    assert np.allclose(np.sort(np.abs(found.eigenvalues)), np.sort(np.abs(values)), rtol=1e-12)
    assert found.radius == pytest.approx(np.abs(values).max(), rel=1e-12)
    assert found.norm == pytest.approx(np.linalg.norm(A, 2), rel=100 * EPS)
    assert found.numerical_abscissa == pytest.approx(np.linalg.eigvalsh((A + A.conj().T) / 2).max(), abs=100 * EPS)
    assert (np.diff(np.abs(found.eigenvalues)) <= 1e-12).all()
    departure = np.sqrt(max(np.linalg.norm(A) ** 2 - (np.abs(values) ** 2).sum(), 0)) / np.linalg.norm(A)
    assert found.departure == pytest.approx(departure, abs=1e-7)
    assert not found.averaged


def test_a_rotation_neither_grows_nor_fades() -> None:
    turn = torch.linalg.qr(draw(16)).Q
    for W in (turn, turn * (1 + 2 * EPS), turn * (1 - 2 * EPS), torch.eye(3).double()):
        found = spectrum(W, 4096)
        assert (found.radius, found.transient.largest, found.transient.lag) == (1, 1, 0)
        assert found.on_circle.all()
        assert np.isposinf(found.time_constant).all()
        assert np.isposinf(found.horizon).all()
        assert found.departure == 0
        assert found.eigenvector_condition == 1
    assert not spectrum(turn * (1 - 1e-9)).on_circle.any()
    assert (spectrum(turn * (1 - 1e-9)).time_constant > 0).all()
    assert (spectrum(turn * (1 + 1e-9)).time_constant < 0).all()


def test_ill_conditioned_modes_are_not_called_on_the_circle() -> None:
    turn = torch.linalg.qr(draw(20)).Q
    jordan = torch.diag(torch.full((20,), 0.5)).double() + torch.diag(torch.ones(19), 1).double()
    found = spectrum(turn @ jordan @ turn.T)
    assert found.radius > 0.6  # the docstring's caution
    assert found.eigenvector_condition > 1e8
    assert not found.on_circle.any()


def test_time_constants_horizons_and_frequencies() -> None:
    found = spectrum(Diagonal(torch.tensor([0.5j, 1.0, 1.1, 0.0, -0.9], dtype=torch.complex128)))
    assert np.abs(found.eigenvalues).tolist() == [1.1, 1.0, 0.9, 0.5, 0.0]
    assert found.time_constant.tolist() == pytest.approx([-1 / np.log(1.1), np.inf, -1 / np.log(0.9), 1 / np.log(2), 0])
    assert found.horizon.tolist() == pytest.approx([np.inf, np.inf, np.log(100) / -np.log(0.9), np.log2(100), 0])
    assert 0.5 ** found.horizon[3] == pytest.approx(0.01)
    assert found.frequency.tolist() == [0, 0, 0.5, 0.25, 0]


@pytest.mark.parametrize("values", [[0.9, -0.5], [1.01, 0.2], [0.6j, 0.3]])
def test_a_diagonal_is_the_same_as_its_matrix(values: list[complex]) -> None:
    a = torch.tensor(values, dtype=torch.complex128)
    short, long = spectrum(Diagonal(a), 50), spectrum(Dense(torch.diag(a)), 50)
    for name in ("radius", "norm", "numerical_abscissa", "numerical_radius", "departure", "eigenvector_condition"):
        assert getattr(short, name) == pytest.approx(getattr(long, name), rel=1e-12), name
    assert short.transient.lag == long.transient.lag
    assert short.transient.largest == pytest.approx(long.transient.largest, rel=1e-12)


def test_gates_are_averaged_by_the_geometric_mean() -> None:
    gates = torch.tensor([[0.5, 1.0, 0.0], [0.125, 1.0, 1.0]])
    found = spectrum(Diagonal(gates))
    assert found.averaged
    assert np.abs(found.eigenvalues).tolist() == pytest.approx([1, 0.25, 0])
    assert found.on_circle.tolist() == [True, False, False]


@pytest.mark.parametrize("shape", [(5, 4), (3, 1, 4), (3, 5, 4)])
def test_gates_that_do_not_change_have_the_modes_of_one(shape: tuple[int, ...]) -> None:
    for a in (
        torch.tensor([-0.9, 0.8, 0.0, -1.0], dtype=torch.float64),
        torch.tensor([0.9 * np.exp(0.5j), -0.8, -0.7 - 0.0j, 1j], dtype=torch.complex128),
    ):
        one, many = spectrum(Diagonal(a), 50), spectrum(Diagonal(a.expand(shape)), 50)
        assert (one.averaged, many.averaged) == (False, True)
        for name in vars(one):
            if name not in ("averaged", "transient"):
                np.testing.assert_array_equal(getattr(one, name), getattr(many, name), err_msg=name)
        assert many.transient == one.transient == TransientGrowth(1.0, 0, 50)


def test_phases_are_averaged_around_where_they_point_to() -> None:
    source = np.random.default_rng(0)
    angles = np.stack([np.pi + 0.5 * source.normal(size=400), 1 + 0.3 * source.normal(size=400)], 1)
    sizes = 0.5 + 0.4 * source.random((400, 2))
    found = spectrum(Diagonal(torch.from_numpy(sizes * np.exp(1j * angles))))
    want = np.exp(np.log(sizes).mean(0) + 1j * angles.mean(0))
    np.testing.assert_allclose(sorted(found.eigenvalues, key=np.real), sorted(want, key=np.real), rtol=100 * EPS)
    # Every second step negative: a quarter turn a step, and a period of four.
    turning = spectrum(Diagonal(torch.tensor([[0.5], [-0.5]] * 4).double()))
    assert turning.frequency.tolist() == [0.25]
    assert np.abs(turning.eigenvalues[0]) == pytest.approx(0.5, rel=4 * EPS)


@pytest.mark.parametrize("horizon", [0, 1, 3, 7, 11, 40, 1000])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_norms_of_gates_are_those_of_their_steps_and_products(horizon: int, dtype: torch.dtype) -> None:
    for seed in range(6):
        source = torch.Generator().manual_seed(seed)
        gates = 1.5 * torch.randn(2, 40, 3, generator=source, dtype=dtype)
        gates[torch.rand(2, 40, 3, generator=source) < 0.05 * (seed % 3)] = 0
        found, size = spectrum(Diagonal(gates), horizon), gates.abs().numpy()
        assert found.norm == found.numerical_radius == pytest.approx(size.max(), rel=2 * EPS)
        assert found.numerical_abscissa == gates.real.max()
        want = 1.0
        for t in range(40):
            for k in range(1, min(horizon, t + 1) + 1):
                want = max(want, float(size[:, t - k + 1 : t + 1].prod(1).max()))
        assert found.transient.largest == pytest.approx(want, rel=40 * EPS)
        assert (found.transient.lag > 0) == (want > 1)
        assert found.transient.lag <= horizon == found.transient.horizon


def test_products_of_gates_beyond_float64() -> None:
    gates = torch.tensor([[1e-200], [1e200], [1e200], [1e-300], [1e300]]).double()
    gates = torch.tensor([1e-200, 1e200, 1e200, 1e-300, 1e300], dtype=torch.float64)[:, None]
    assert spectrum(Diagonal(gates)).transient == TransientGrowth(np.inf, 2, 1000)
    assert spectrum(Diagonal(gates[2:])).transient == TransientGrowth(1e300, 1, 1000)


@pytest.mark.parametrize("above", [10.0**-power for power in range(15)])
def test_the_departure_from_normality_is_no_difference(above: float) -> None:
    A = torch.tensor([[0.9, above], [0.0, 0.8]], dtype=torch.float64)
    want = above / float(torch.linalg.matrix_norm(A))
    assert spectrum(A).departure == pytest.approx(want, rel=10 * EPS)
    turned = torch.linalg.qr(draw(2)).Q
    # Rounding of the rotated numbers, relative to their norm of 1.
    assert spectrum(turned @ A @ turned.T).departure == pytest.approx(
        want, abs=(20 * EPS if above < 1e-13 else 8 * EPS)
    )


@pytest.mark.parametrize("kind", [torch.float64, torch.complex128])
def test_the_departure_of_known_matrices(kind: torch.dtype) -> None:
    turn = torch.linalg.qr(draw(9, kind)).Q
    jordan = torch.diag(torch.full((9,), 0.5)).to(kind) + torch.diag(torch.ones(8), 1).to(kind)
    assert spectrum(jordan).departure == pytest.approx((8 / (8 + 9 / 4)) ** 0.5, rel=10 * EPS)
    # Rounding the rotated block moves its eigenvalues by the ninth root of rounding, 0.02, to a circle around 0.5.
    assert spectrum(turn @ jordan @ turn.mH).departure == pytest.approx((8 / (8 + 9 / 4)) ** 0.5, rel=1e-3)
    assert spectrum(torch.diag(torch.ones(8), 1)).departure == pytest.approx(1, rel=4 * EPS)
    symmetric = turn @ torch.diag(torch.tensor([2.0, 2, 2, 1, 1, 1, 0, 0, 0])).to(kind) @ turn.mH
    assert spectrum((symmetric + symmetric.mH) / 2).departure == 0


def test_what_has_no_spectrum() -> None:
    with pytest.raises(InputError, match="12 dense matrices, expected one"):
        spectrum(sweep_of("dense steps"))
    with pytest.raises(InputError, match="NaN or infinity"):
        spectrum(torch.tensor([[float("nan")]]))
    defective = spectrum(torch.tensor([[0.5, 1.0], [0.0, 0.5]], dtype=torch.float64))
    assert defective.eigenvector_condition > 1e15
    with pytest.raises(TypeError, match="A is ndarray, expected a Sweep"):
        spectrum(np.eye(2))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="at least one state"):
        spectrum(torch.ones(0, 0))
    for horizon in (-1, 2.5):
        with pytest.raises(InputError, match=f"horizon is {horizon}, expected a whole number of at least 0"):
            spectrum(torch.eye(2), horizon)  # type: ignore[arg-type]


def test_a_sweep_gives_its_own_horizon() -> None:
    sweep = Sweep.of_scan(Dense(torch.tensor([[1.1]])), torch.ones(7, 1))
    assert (spectrum(sweep).transient.horizon, spectrum(sweep).transient.lag) == (7, 7)


def test_a_horizon_below_the_sweep_is_kept_to() -> None:
    sweep = Sweep.of_scan(Dense(torch.tensor([[1.1]], dtype=torch.float64)), torch.ones(50, 1))
    for through in (None, jacobians(sweep), jacobians(sweep, [0, 50]), jacobians(sweep, [3, 20])):
        found = spectrum(sweep, 10, through=through).transient
        assert (found.lag, found.horizon) == (10, 10)
        assert found.largest == pytest.approx(1.1**10, rel=20 * EPS)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_a_matrix_beyond_the_square_root_of_float64(scale: float) -> None:
    A = torch.tensor([[0.9, 5.0], [0.0, 0.8]], dtype=torch.float64)
    plain, found = spectrum(A, 1), spectrum(scale * A, 1)
    for name in ("radius", "norm", "numerical_abscissa", "numerical_radius"):
        assert getattr(found, name) == pytest.approx(scale * getattr(plain, name), rel=100 * EPS), name
    assert found.departure == pytest.approx(plain.departure, rel=100 * EPS)


def test_modes_go_from_the_slowest_to_the_fastest_at_any_scale() -> None:
    W = draw(7)
    want = np.abs(spectrum(W).eigenvalues)
    for scale in (1e-30, 1e30):
        np.testing.assert_allclose(np.abs(spectrum(scale * W).eigenvalues) / scale, want, rtol=1e-12)


@pytest.mark.parametrize("scale", [5e-324, 1e-310, 8e307])
def test_a_matrix_at_the_ends_of_float64(scale: float) -> None:
    found = spectrum(torch.full((2, 2), scale, dtype=torch.float64), 5)
    for name in ("norm", "numerical_abscissa", "numerical_radius"):
        assert getattr(found, name) == pytest.approx(2 * scale, rel=10 * EPS), name
    assert found.departure == 0
    assert found.transient == (TransientGrowth(np.inf, 5, 5) if scale > 1 else TransientGrowth(1.0, 0, 5))
