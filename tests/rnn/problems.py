"""Random problems for bptt."""

from __future__ import annotations

import torch
from torch import Tensor

WEIGHTS = ("weight_hh", "weight_ih", "bias", "weight_out", "bias_out")


def parameters(
    batch: int, time: int, inputs: int, hidden: int, outputs: int, dtype: torch.dtype, seed: int
) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int, scale: float = 1.0) -> Tensor:
        return torch.randn(shape, dtype=dtype, generator=generator) * scale

    return {
        "x": random(batch, time, inputs),
        "weight_hh": random(hidden, hidden, scale=0.6 / hidden**0.5),
        "weight_ih": random(hidden, inputs, scale=0.5),
        "bias": random(hidden),
        "h0": random(batch, hidden),
        "weight_out": random(outputs, hidden, scale=0.5),
        "bias_out": random(outputs),
    }
