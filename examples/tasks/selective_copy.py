"""Selective copying: tokens stand at places that differ from sequence to sequence; they are to come out in order.

    python examples/tasks/selective_copy.py [--layer MinGRU]

Between the tokens stand blanks. A layer with the same transition at every step stores the blanks too: it learns a
filter, and the tokens are not at the same place twice. A gate learns to hold still at a blank.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import task

TOKENS, KEPT, LENGTH, BATCH, STEPS = 8, 6, 48, 64, 2000
BLANK, ASK = TOKENS, TOKENS + 1


def sequences(count: int, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return tokens ``(count, LENGTH + KEPT)``, the last ones asking, and what stood there ``(count, KEPT)``."""
    x = torch.full((count, LENGTH + KEPT), BLANK)
    x[:, LENGTH:] = ASK
    tokens = torch.randint(TOKENS, (count, KEPT), generator=source)
    places = torch.rand(count, LENGTH, generator=source).argsort(1)[:, :KEPT].sort(1).values
    return x.scatter(1, places, tokens), tokens


def loss(outputs: Tensor, tokens: Tensor) -> Tensor:
    """Return the cross-entropy of the last steps."""
    return nn.functional.cross_entropy(outputs[:, LENGTH:].flatten(0, 1), tokens.flatten())


def compute(seed: int = 0, layer: str = "MinGRU", steps: int = STEPS) -> task.Result:
    """Train on new sequences at every step, until all of 1,000 others are right."""
    net = task.model(layer, TOKENS + 2, TOKENS, seed, width=64, depth=2, tokens=True)
    source = torch.Generator().manual_seed(seed)
    x, tokens = sequences(1000, torch.Generator().manual_seed(seed + 1))
    result = task.Result("selective copy", layer, "accuracy", net)

    def score() -> float:
        return (net(x)[0][:, LENGTH:].argmax(-1) == tokens).double().mean().item()

    draw = lambda _: (*sequences(BATCH, source), None)  # noqa: E731
    return task.train(result, draw, loss, score, steps=steps, rate=5e-3, every=200, enough=1.0)


if __name__ == "__main__":
    task.main(__doc__, "selective_copy", compute, "MinGRU")
