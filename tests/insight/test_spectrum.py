"""Modes, norms and transient growth, against brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from insight.sweeps import EPS, sweep_of
from retrograd import Dense, Diagonal
from retrograd.errors import InputError
from retrograd.insight import Sweep, spectrum, transient_growth


def draw(size: int, kind: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    return torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=kind) / size**0.5


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


@pytest.mark.parametrize("kind", [torch.float64, torch.complex128])
@pytest.mark.parametrize("seed", range(5))
def test_the_numerical_radius_is_the_largest_over_all_angles(kind: torch.dtype, seed: int) -> None:
    W = draw(6, kind, seed)
    turned = [W.numpy() * np.exp(1j * angle) for angle in np.linspace(0, 2 * np.pi, 20_001)]
    brute = max(np.linalg.eigvalsh((A + A.conj().T) / 2).max() for A in turned)
    found = spectrum(W)
    # The grid misses the top by at most the square of its step.
    assert brute * (1 - 10 * EPS) <= found.numerical_radius <= brute * (1 + 1e-6)
    assert found.norm / 2 <= found.numerical_radius <= found.norm * (1 + 10 * EPS)


def test_the_numerical_radius_of_a_nilpotent_shift_is_known() -> None:
    # w of the n × n shift is cos(π / (n + 1)) (Haagerup, de la Harpe 1992).
    for size in (2, 3, 7):
        shift = torch.diag(torch.ones(size - 1), -1)
        assert spectrum(shift).numerical_radius == pytest.approx(np.cos(np.pi / (size + 1)), rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("horizon", [1, 5, 20, 300, 700])
def test_transient_growth_is_the_largest_power(seed: int, horizon: int) -> None:
    W = draw(5, seed=seed)
    W = 0.97 * W / torch.linalg.eigvals(W).abs().max()
    W[0, 1] += 20
    W = 0.99 * W / torch.linalg.eigvals(W).abs().max()
    norms, power = [], np.eye(5)
    for _ in range(horizon + 1):
        norms.append(np.linalg.norm(power, 2))
        power = power @ W.numpy()
    found = transient_growth(W, horizon)
    assert found.largest == pytest.approx(max(norms), rel=1e-10)
    assert norms[found.lag] == pytest.approx(max(norms), rel=1e-10)


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


def test_what_has_no_spectrum() -> None:
    with pytest.raises(InputError, match="12 dense matrices, expected one"):
        spectrum(sweep_of("dense steps"))
    with pytest.raises(InputError, match="NaN or infinity"):
        spectrum(torch.tensor([[float("nan")]]))
    defective = spectrum(torch.tensor([[0.5, 1.0], [0.0, 0.5]], dtype=torch.float64))
    assert defective.eigenvector_condition > 1e15


def test_a_sweep_gives_its_own_horizon() -> None:
    sweep = Sweep.of_scan(Dense(torch.tensor([[1.1]])), torch.ones(7, 1))
    assert (spectrum(sweep).transient.horizon, spectrum(sweep).transient.lag) == (7, 7)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_a_matrix_beyond_the_square_root_of_float64(scale: float) -> None:
    A = torch.tensor([[0.9, 5.0], [0.0, 0.8]], dtype=torch.float64)
    plain, found = spectrum(A, 1), spectrum(scale * A, 1)
    for name in ("radius", "norm", "numerical_abscissa", "numerical_radius"):
        assert getattr(found, name) == pytest.approx(scale * getattr(plain, name), rel=100 * EPS), name
    assert found.departure == pytest.approx(plain.departure, rel=100 * EPS)
