"""The adding problem: of numbers drawn from [0, 1] two are marked; their sum is to come out in the end.

    python examples/tasks/adding.py [--layer MinGRU]

A gate that opens at a mark solves it. A model that is linear from its inputs to its output does not: the sum has
variance 1/6, and the most that any linear function of all inputs explains is 1 / (3 T), so that its mean squared error
stays above 1/6 - 1/(3 T). ``--layer linear`` is such a model, LRU with a linear readout.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import task
from retrograd.nn import LRU

LENGTH, BATCH, STEPS = 200, 50, 1000
FLOOR = 1 / 6 - 1 / (3 * LENGTH)


class Linear(nn.Module):
    """A linear model: LRU and a linear map of its last output."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.layer, self.decoder = nn.Linear(2, 32), LRU(32, 64, r_min=0.9), nn.Linear(32, 1)

    def forward(self, x: Tensor, states: Any = None, lengths: Any = None, reset: Any = None) -> Any:
        """Return the sum, ``(batch, 1)``, and the state."""
        y, states = self.layer(self.encoder(x), states, lengths, reset)
        return self.decoder(y[:, -1]), states


def sequences(count: int, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return numbers and marks, ``(count, LENGTH, 2)``, one mark in each half, and sums ``(count, 1)``."""
    x = torch.zeros(count, LENGTH, 2)
    x[..., 0] = torch.rand(count, LENGTH, generator=source)
    half, rows = LENGTH // 2, torch.arange(count)
    for first in (0, half):
        x[rows, first + torch.randint(half, (count,), generator=source), 1] = 1
    return x, (x[..., 0] * x[..., 1]).sum(1, keepdim=True)


def compute(seed: int = 0, layer: str = "MinGRU", steps: int = STEPS) -> task.Result:
    """Train on new sequences at every step."""
    torch.manual_seed(seed)
    net = Linear() if layer == "linear" else task.model(layer, 2, 1, seed, width=32, depth=2, pooling="last")
    source = torch.Generator().manual_seed(seed)
    x, sums = sequences(5000, torch.Generator().manual_seed(seed + 1))
    result = task.Result("adding problem", layer, "mean squared error", net)

    def score() -> float:
        # In units of these sums' own variance, times the 1/6 that it is on average: less chance in it.
        return (nn.functional.mse_loss(net(x)[0], sums) / sums.var(correction=0) / 6).item()

    draw = lambda _: (*sequences(BATCH, source), None)  # noqa: E731
    task.train(result, draw, nn.functional.mse_loss, score, steps=steps, rate=5e-3, every=250)
    result.found["floor of a linear model"] = FLOOR
    return result


if __name__ == "__main__":
    task.main(__doc__, "adding", compute, "MinGRU", others=("linear",))
