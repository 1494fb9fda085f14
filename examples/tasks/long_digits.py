"""Digits in 784 steps: scikit-learn's, drawn 28 pixels wide and read pixel by pixel; the last output tells the digit.

    python examples/tasks/long_digits.py [--layer ring]

What makes LRU remember, one step after the other, as its paper takes them apart (section 3):

    dense         h_t = A h_{t-1} + B x_t, A random, of spectral radius 1 at the start
    diagonal      a complex diagonal whose numbers are trained themselves, uniform on the unit disc at the start
    exponential   the same start with |λ| = exp(-exp(ν)) < 1 whatever ν is trained to
    ring          0.999 < |λ| < 0.9999 and slow phases at the start: memories as long as the sequence
    LRU           with inputs scaled by γ too, so that states start no larger than inputs are
"""

from __future__ import annotations

import math
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import task
from retrograd.core.linear import linear
from retrograd.core.transition import Dense
from retrograd.nn import LRU
from retrograd.nn.complex_maps import as_complex
from retrograd.nn.recurrence import Along, Recurrence

SIDE, EPOCHS, BATCH, WIDTH, STATES = 28, 3, 50, 32, 64
RING = {"r_min": 0.999, "r_max": 0.9999, "max_phase": math.pi / 10}


class DenseRNN(Recurrence):
    """h_t = A h_{t-1} + B x_t, y_t = C h_t + D x_t."""

    def __init__(self, features: int, state_size: int) -> None:
        super().__init__(features, features, state_size, False, "auto")
        A = torch.randn(state_size, state_size)
        self.A = nn.Parameter(A / torch.linalg.eigvals(A).abs().max())
        self.B = nn.Parameter(torch.randn(state_size, features) / features**0.5)
        self.C = nn.Parameter(torch.randn(features, state_size) / state_size**0.5)
        self.D = nn.Parameter(torch.randn(features))

    def run(self, x: Tensor, state: Tensor | None, along: Along) -> tuple[Tensor, Tensor]:
        """Return y_t and the last h_t."""
        h, last = along.scan(Dense(self.A), linear(x, self.B, None, "auto"), state)
        return torch.addcmul(linear(h, self.C, None, "auto"), self.D, x), last


class FreeLRU(LRU):
    """LRU whose λ is trained itself, without γ."""

    def __init__(self, features: int, state_size: int) -> None:
        super().__init__(features, state_size, normalise=False)
        self.free = nn.Parameter(torch.view_as_real(super().eigenvalues().detach()).clone())
        del self.nu_log, self.theta_log

    def eigenvalues(self) -> Tensor:
        """Return λ."""
        return as_complex(self.free)


STEPS_TO_LRU: dict[str, Any] = {
    "dense": lambda: DenseRNN(WIDTH, STATES),
    "diagonal": lambda: FreeLRU(WIDTH, STATES),
    "exponential": lambda: LRU(WIDTH, STATES, normalise=False),
    "ring": lambda: LRU(WIDTH, STATES, normalise=False, **RING),
    "LRU": lambda: LRU(WIDTH, STATES, **RING),
}


def sequences(side: int = SIDE) -> tuple[Tensor, Tensor]:
    """Return the images, ``(1797, side², 1)``, and their digits."""
    images = load_digits()
    x = torch.tensor(images.data, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    x = nn.functional.interpolate(x, size=(side, side), mode="bilinear")
    return x.flatten(1).unsqueeze(-1), torch.tensor(images.target)


def compute(seed: int = 0, layer: str = "LRU", epochs: int = EPOCHS) -> task.Result:
    """Train on three quarters of the images, score on the rest. A training that overflows ends there."""
    x, digit = sequences()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    kept, tried = order[: 3 * len(x) // 4], order[3 * len(x) // 4 :]
    net = task.model("LRU" if layer in STEPS_TO_LRU else layer, 1, 10, seed, width=WIDTH, depth=2, pooling="last")
    if layer in STEPS_TO_LRU:
        torch.manual_seed(seed)
        for block in net.blocks:
            block.layer = STEPS_TO_LRU[layer]()
    rows = task.batches(len(kept), BATCH, seed)
    result = task.Result("digits in 784 steps", layer, "accuracy", net)

    def score() -> float:
        right = [(net(x[at])[0].argmax(-1) == digit[at]).sum().item() for at in tried.split(150)]
        return sum(right) / len(tried)

    def draw(step: int) -> task.Batch:
        at = kept[rows(step)]
        return x[at], digit[at], None

    per_epoch = len(kept) // BATCH
    options: dict[str, Any] = {"steps": epochs * per_epoch, "rate": 4e-3, "decay": 0.05, "every": per_epoch}
    try:
        return task.train(result, draw, nn.functional.cross_entropy, score, **options)
    except FloatingPointError:
        net.eval()
        with torch.no_grad():
            result.scores.append((len(result.losses), score()))
        result.found["overflowed after steps"] = len(result.losses)
        return result


if __name__ == "__main__":
    task.main(__doc__, "long_digits", compute, "LRU", others=tuple(STEPS_TO_LRU)[:-1])
