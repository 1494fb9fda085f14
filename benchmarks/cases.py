"""What is measured: shapes and inputs, the same for every contender."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Case:
    """A scan, forward and backward: every gradient, from a gradient of every state."""

    structure: str  # "diagonal" (time-varying) or "dense" (time-invariant)
    batch: int
    time: int
    width: int
    dtype: torch.dtype = torch.float32

    @property
    def name(self) -> str:
        return f"{self.structure} ({self.batch},{self.time},{self.width}) {str(self.dtype).removeprefix('torch.')}"

    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return (a or W, u, gradient of the states); stable transitions."""
        generator = torch.Generator().manual_seed(0)
        shape = (self.batch, self.time, self.width)

        def random(*size: int) -> Tensor:
            return torch.randn(size, generator=generator, dtype=torch.float64)

        u, g = random(*shape), random(*shape)
        if self.structure == "dense":
            W = random(self.width, self.width)
            A = W / torch.linalg.matrix_norm(W, 2) * 0.99
        else:
            A = torch.sigmoid(random(*shape) + 2)
        if self.dtype.is_complex:
            A = torch.polar(A, random(*shape))
            u, g = torch.complex(u, random(*shape)), torch.complex(g, random(*shape))
        return A.to(self.dtype), u.to(self.dtype), g.to(self.dtype)

    def result_bytes(self) -> int:
        """Return the size of what a call gives: the states and every gradient."""
        count = self.batch * self.time * self.width
        return self.dtype.itemsize * (3 * count if self.structure == "diagonal" else 2 * count + self.width**2)

    def limit_ms(self, limits: dict[str, float]) -> float:
        """Return the time that the memory (diagonal) or the multipliers (dense) need at the least.

        Diagonal: forward reads a and u and writes h; the adjoint reads a, h and g and writes ∂a and ∂u: 8 arrays.
        Dense: three products of B·T·H² multiply-adds (forward, adjoint, ∂W): 6·B·T·H² operations.
        """
        count = self.batch * self.time * self.width
        if self.structure == "diagonal":
            return 8 * count * self.dtype.itemsize / (limits["stream_GB_s"] * 1e9) * 1e3
        rate = limits["gemm_f64_GFLOP_s" if self.dtype.itemsize == 8 else "gemm_f32_GFLOP_s"]
        return 6 * count * self.width / (rate * 1e9) * 1e3


CASES = [
    Case("diagonal", 8, 4096, 512),
    Case("diagonal", 1, 65536, 64),
    Case("diagonal", 64, 256, 128),
    Case("diagonal", 1, 1_000_000, 1),
    Case("diagonal", 4, 100_000, 3),
    Case("diagonal", 4, 8192, 256, torch.complex64),
    Case("diagonal", 8, 4096, 512, torch.bfloat16),
    Case("dense", 32, 1024, 256),
    Case("dense", 64, 512, 512),
    Case("dense", 32, 2048, 64),
    Case("dense", 1, 16384, 64),
    Case("dense", 1, 16384, 256),
    *[
        Case("dense", 1, time, width, dtype)
        for time, width in ((65536, 2), (5000, 8), (10000, 32), (10000, 64))
        for dtype in (torch.float32, torch.float64)
    ],
]
