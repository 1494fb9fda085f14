"""Binary addition: trained on numbers of up to 8 bits, tried on 1,000.

    python examples/tasks/addition.py [--layer QRNN]

The bits of both numbers come in side by side, the lowest first; the bits of the sum come out. The carry is a gated
linear recurrence, and a bit of the sum reads the carry of the step before: QRNN, whose gates see two steps. In half of
the pairs four places in five differ, so that a carry often runs through all 8 bits: among 1,000 random bits it runs
through some ten. ``examples/binary_addition.py`` has a network made for addition alone, and says where soft gates end.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import task

LONGEST, TRIED, BATCH, STEPS = 8, 1000, 128, 2000


def sequences(count: int, length: int, source: torch.Generator, hard: bool = False) -> tuple[Tensor, Tensor]:
    """Return the bits of pairs of numbers, ``(count, length + 1, 2)``, and those of their sums.

    ``hard``: in every second pair, four places in five hand a carry on.
    """
    x = torch.randint(0, 2, (count, length, 2), generator=source).float()
    if hard:
        differ = torch.rand(count // 2, length, generator=source) < 0.8
        x[::2, :, 1] = torch.where(differ, 1 - x[::2, :, 0], x[::2, :, 1])
    x = nn.functional.pad(x, (0, 0, 0, 1))
    carry, sums = torch.zeros(count), []
    for both in x.unbind(1):
        total = both.sum(-1) + carry
        sums.append(total % 2)
        carry = (total >= 2).float()
    return x, torch.stack(sums, 1)


def loss(outputs: Tensor, sums: Tensor) -> Tensor:
    """Return the cross-entropy of every bit."""
    return nn.functional.binary_cross_entropy_with_logits(outputs[..., 0], sums)


def compute(seed: int = 0, layer: str = "QRNN", steps: int = STEPS) -> task.Result:
    """Train on numbers of 1 to 8 bits, until 100 pairs of 1,000 bits are added without a wrong bit."""
    net = task.model(layer, 2, 1, seed, width=32, depth=2)
    source = torch.Generator().manual_seed(seed)
    x, sums = sequences(100, TRIED, torch.Generator().manual_seed(seed + 1))
    result = task.Result("binary addition", layer, f"exact sums of {TRIED} bits", net)

    def score() -> float:
        right = (net(x)[0][..., 0] > 0).float() == sums
        result.found["right bits"] = right.double().mean().item()
        return right.all(1).double().mean().item()

    def draw(_: int) -> task.Batch:
        length = int(torch.randint(1, LONGEST + 1, (), generator=source))
        return *sequences(BATCH, length, source, hard=True), None

    return task.train(result, draw, loss, score, steps=steps, rate=1e-2, every=250, enough=1.0)


if __name__ == "__main__":
    task.main(__doc__, "addition", compute, "QRNN")
