"""Random matrices, normal and far from normal."""

from __future__ import annotations

import numpy as np
import torch


def draw(size: int, kind: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    return torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=kind) / size**0.5


def with_modes(radii: np.ndarray, angles: np.ndarray, seed: int, kind: torch.dtype) -> torch.Tensor:
    """A normal matrix with these eigenvalues, of a real one with their conjugates."""
    if kind.is_complex:
        turn = torch.linalg.qr(draw(len(radii), kind, seed)).Q
        return turn @ torch.diag(torch.from_numpy(radii * np.exp(1j * angles))) @ turn.mH
    blocks = [
        r * np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]]) for r, t in zip(radii, angles, strict=True)
    ]
    turn = torch.linalg.qr(draw(2 * len(radii), kind, seed)).Q
    return turn @ torch.block_diag(*map(torch.from_numpy, blocks)) @ turn.mT
