"""The numerical radius, against a fine grid of angles and where it is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from insight.matrices import draw, with_modes
from insight.sweeps import EPS
from retrograd.insight import spectrum


def far_from_normal(kind: str, size: int, dtype: torch.dtype, seed: int) -> torch.Tensor:
    W, source = draw(size, dtype, seed), np.random.default_rng(seed)
    if kind == "normal":
        return with_modes(1 + 0.1 * source.random(size), 2 * np.pi * source.random(size), seed, dtype)
    if kind == "nearly normal":
        return torch.linalg.qr(W).Q + 0.05 * W
    if kind == "triangular":
        return W.triu(1) + 0.3 * torch.diag(W.diagonal())
    if kind == "discs":  # each with a numerical radius of about a half, at every angle
        shifts = [torch.tensor([[0, 1 + 0.01 * source.random()], [0.01, 0]], dtype=dtype) for _ in range(size)]
        return torch.block_diag(*shifts)
    return W


def brute_numerical_radius(A: np.ndarray) -> float:
    """The largest over a grid of angles, each of its hills that may be the highest then looked at more closely."""

    def largest(angles: np.ndarray) -> np.ndarray:
        by = A * np.exp(1j * angles)[..., None, None]
        return np.linalg.eigvalsh((by + by.conj().mT) / 2)[..., -1]

    step = 2 * np.pi / 720
    angles = np.arange(720) * step
    values = largest(angles)
    # cos(step / 2) is the most that the grid can miss of a maximum.
    hills = (
        (values >= np.roll(values, 1)) & (values >= np.roll(values, -1)) & (values >= values.max() * np.cos(step / 2))
    )
    tops = angles[hills]
    for _ in range(6):
        step /= 8
        near = tops[:, None] + step * np.arange(-10, 11)
        tops = np.take_along_axis(near, largest(near).argmax(1)[:, None], 1)[:, 0]
    return float(max(largest(tops).max(), values.max()))


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("kind", ["random", "normal", "nearly normal", "triangular", "discs"])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 12])
def test_the_numerical_radius_is_the_largest_over_all_angles(dtype: torch.dtype, kind: str, size: int) -> None:
    for seed in range(4):
        W = far_from_normal(kind, size, dtype, seed)
        found = spectrum(W, 1)
        rounding = 10 * len(W) * EPS
        assert found.numerical_radius == pytest.approx(brute_numerical_radius(W.numpy()), rel=max(rounding, 1e-13))
        assert found.norm / 2 * (1 - rounding) <= found.numerical_radius <= found.norm * (1 + rounding)
        assert found.radius * (1 - rounding) <= found.numerical_radius
        assert found.numerical_abscissa <= found.numerical_radius * (1 + rounding)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_the_numerical_radius_of_a_normal_matrix_is_its_spectral_radius(dtype: torch.dtype) -> None:
    for seed in range(30):
        found = spectrum(far_from_normal("normal", 8, dtype, seed), 1)
        assert found.numerical_radius == pytest.approx(found.radius, rel=100 * EPS)


def test_a_hill_between_the_angles_looked_at_first() -> None:
    """Two eigenvalues of nearly one size, the larger where the grid has no angle: the climb starts at the other."""
    for turn in np.linspace(0.01, 0.25, 9):
        W = torch.diag(torch.tensor([1.0, 1.0001 * np.exp(-1j * turn)], dtype=torch.complex128))
        W = torch.block_diag(W, torch.tensor([[0.0, 0.9], [0.0, 0.0]], dtype=torch.complex128))
        assert spectrum(W, 1).numerical_radius == pytest.approx(1.0001, rel=10 * EPS)


def test_the_numerical_radius_of_a_nilpotent_shift_is_known() -> None:
    # w of the n × n shift is cos(π / (n + 1)) (Haagerup, de la Harpe 1992).
    for size in (2, 3, 7):
        shift = torch.diag(torch.ones(size - 1), -1)
        assert spectrum(shift).numerical_radius == pytest.approx(np.cos(np.pi / (size + 1)), rel=1e-12)
