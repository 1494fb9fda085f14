"""Sequential digits: the 64 pixels of scikit-learn's handwritten digits come in one by one; the digit is to come out.

    python examples/tasks/digits.py [--layer LRU]

A quarter of the 1,797 images is never trained on.
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import nn

import task

EPOCHS, BATCH = 40, 50


def compute(seed: int = 0, layer: str = "LRU", epochs: int = EPOCHS) -> task.Result:
    """Train on three quarters of the images, score on the rest."""
    images = load_digits()
    x = torch.tensor(images.data, dtype=torch.float32).unsqueeze(-1) / 16
    digit = torch.tensor(images.target)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    kept, tried = order[: 3 * len(x) // 4], order[3 * len(x) // 4 :]
    options = {"r_min": 0.9, "max_phase": 3.0} if layer == "LRU" else {}
    net = task.model(layer, 1, 10, seed, width=64, depth=2, dropout=0.1, pooling="mean", **options)
    rows = task.batches(len(kept), BATCH, seed)
    result = task.Result("sequential digits", layer, "accuracy", net)

    def score() -> float:
        return (net(x[tried])[0].argmax(-1) == digit[tried]).double().mean().item()

    def draw(step: int) -> task.Batch:
        at = kept[rows(step)]
        return x[at], digit[at], None

    steps = epochs * (len(kept) // BATCH)
    return task.train(result, draw, nn.functional.cross_entropy, score, steps=steps, rate=4e-3, decay=0.05, every=130)


if __name__ == "__main__":
    task.main(__doc__, "digits", compute, "LRU")
