"""Copy memory: 20 vectors of 7 bits come in, one after the other; then, as many steps later, they are to come out.

    python examples/tasks/copy_memory.py [--layer LRU]

Step 21 says that all are in. What comes out at a step is what came in 21 steps before: a linear recurrence does that
exactly. Its state holds 140 bits at once, so it must be wide, and forget nothing: LRU's eigenvalues start on a ring
between 0.99 and 1, a dense W_hh stays orthogonal. An epoch is 10,000 sequences.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import task

BITS, VECTORS, BATCH, EPOCH, EPOCHS = 7, 20, 32, 10_000, 4
OPTIONS: dict[str, dict[str, Any]] = {
    "LRU": {"r_min": 0.99, "state_size": 128},
    "S5": {"state_size": 128},
    "S4D": {"order": 64},
    "LinearRNN": {"transition": "orthogonal", "width": 192},
}


def sequences(count: int, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return inputs ``(count, 41, 8)``, the last feature being the sign, and the bits ``(count, 20, 7)``."""
    bits = torch.randint(0, 2, (count, VECTORS, BITS), generator=source).float()
    x = torch.zeros(count, 2 * VECTORS + 1, BITS + 1)
    x[:, :VECTORS, :BITS] = bits
    x[:, VECTORS, BITS] = 1
    return x, bits


def loss(outputs: Tensor, bits: Tensor) -> Tensor:
    """Return the cross-entropy of the last 20 steps."""
    return nn.functional.binary_cross_entropy_with_logits(outputs[:, -VECTORS:], bits)


def compute(seed: int = 0, layer: str = "LRU", epochs: float = EPOCHS) -> task.Result:
    """Train for some epochs, or until every bit of 1,000 new sequences is right."""
    net = task.model(layer, BITS + 1, BITS, seed, **{"width": 128, "depth": 1, **OPTIONS.get(layer, {})})
    source = torch.Generator().manual_seed(seed)
    x, bits = sequences(1000, torch.Generator().manual_seed(seed + 1))
    result = task.Result("copy memory", layer, "accuracy", net)

    def score() -> float:
        return ((net(x)[0][:, -VECTORS:] > 0).float() == bits).double().mean().item()

    steps = int(epochs * EPOCH) // BATCH
    draw = lambda _: (*sequences(BATCH, source), None)  # noqa: E731
    task.train(result, draw, loss, score, steps=steps, enough=1.0)
    result.found["epochs"] = len(result.losses) * BATCH / EPOCH
    return result


if __name__ == "__main__":
    task.main(__doc__, "copy_memory", compute, "LRU")
