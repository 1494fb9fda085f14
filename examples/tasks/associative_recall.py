"""Associative recall: keys and values come in pairs; then one key comes again, and its value is to come out.

    python examples/tasks/associative_recall.py [--layer QRNN]

A value has to be stored by the key that stands before it: QRNN's gates see both. Other layers need one block to bring
them together, and longer training.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import task

KEYS, VALUES, PAIRS, BATCH, STEPS = 8, 8, 4, 64, 2500


def sequences(count: int, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return tokens ``(count, 2 PAIRS + 1)``, keys below KEYS and values above, and the values asked for."""
    keys = torch.rand(count, KEYS, generator=source).argsort(1)[:, :PAIRS]
    values = torch.randint(VALUES, (count, PAIRS), generator=source)
    asked = torch.randint(PAIRS, (count, 1), generator=source)
    pairs = torch.stack((keys, KEYS + values), -1).flatten(1)
    return torch.cat((pairs, keys.gather(1, asked)), 1), values.gather(1, asked)[:, 0]


def compute(seed: int = 0, layer: str = "QRNN", steps: int = STEPS) -> task.Result:
    """Train on new sequences at every step, until all of 1,000 others are right."""
    net = task.model(layer, KEYS + VALUES, VALUES, seed, width=64, depth=2, tokens=True, pooling="last")
    source = torch.Generator().manual_seed(seed)
    x, values = sequences(1000, torch.Generator().manual_seed(seed + 1))
    result = task.Result("associative recall", layer, "accuracy", net)

    def score() -> float:
        return (net(x)[0].argmax(-1) == values).double().mean().item()

    draw = lambda _: (*sequences(BATCH, source), None)  # noqa: E731
    return task.train(result, draw, nn.functional.cross_entropy, score, steps=steps, rate=5e-3, every=250, enough=1.0)


if __name__ == "__main__":
    task.main(__doc__, "associative_recall", compute, "QRNN")
