"""Learning binary addition: the carry is a gated linear recurrence.

Two numbers come in bit by bit, the lowest first; out goes their sum. The carry obeys

    c_t = p_t c_{t-1} + g_t,    sum bit_t = a_t ⊕ b_t ⊕ c_{t-1}

where p_t (propagate) is 1 if exactly one of the bits is, and g_t (generate) if both are. None of this is told to the
network: a small network of the two bits gives p_t and g_t = (1 − p_t) v_t, another reads the sum bit off (a_t, b_t,
c_{t-1}), and the gradient through the recurrence is a scan. It is trained on numbers of 8 bits and run on 1000.

That nothing is lost on the way from 8 bits to 1000 depends on the gates. A sigmoid never reaches 1: a carry that is
handed on n times is multiplied by (1 − ε)ⁿ, and drifts off. In random numbers no carry runs far enough for that to
matter; in 11…1 + 1 it runs all the way. So after training the gates are rounded: they have learned to be 0 or 1, the
carry is then exactly 0 or 1 at any length, and no error adds up.

    python examples/binary_addition.py
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import pictures
import retrograd as rg
from retrograd import palette

BITS, BATCH, EPOCHS, RATE = 8, 128, 1500, 0.01
LENGTHS = (8, 16, 32, 64, 125, 250, 500, 1000)
PAIRS = 2000
Array = np.ndarray[Any, Any]


class Adder(nn.Module):
    """Adds numbers given as bits, lowest first. ``rounded``: with gates of 0 and 1 alone."""

    def __init__(self) -> None:
        super().__init__()
        self.rounded = False
        self.gates = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))
        self.readout = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 1))

    def carry(self, bits: Tensor) -> Tensor:
        """Return c_t, ``(batch, time)``, of bits ``(batch, time, 2)``."""
        gates = torch.sigmoid(self.gates(bits))
        if self.rounded:
            gates = gates.round()
        p, v = gates[..., :1], gates[..., 1:]
        states, _ = rg.scan(rg.Diagonal(p), (1 - p) * v)
        return states[..., 0]

    def forward(self, bits: Tensor) -> Tensor:
        """Return the logits of the sum's bits, ``(batch, time)``."""
        before = nn.functional.pad(self.carry(bits), (1, 0))[:, :-1]
        return self.readout(torch.cat([bits, before[..., None]], -1))[..., 0]


@dataclass(frozen=True)
class Result:
    """How the adder was trained, and what it does at every length, with soft gates and with rounded ones.

    Attributes:
        losses: cross-entropy in nats a bit, by epoch.
        wrong: share of wrong bits over random pairs, by length, and
        worst: share of wrong bits in 11…1 + 1, where the carry runs through; and
        carry: c_t in that sum of the largest length: each for "soft" and "rounded".
    """

    losses: list[float]
    wrong: dict[str, Array]
    worst: dict[str, Array]
    carry: dict[str, Array]


def added(bits: Tensor) -> Tensor:
    """Return the bits of the sums as school teaches it; the last carry is cut off."""
    carry, sums = torch.zeros(len(bits)), []
    for both in bits.unbind(1):
        total = both.sum(-1) + carry
        sums.append(total % 2)
        carry = (total >= 2).float()
    return torch.stack(sums, 1)


def pairs(count: int, length: int, source: torch.Generator) -> Tensor:
    """Return random pairs of numbers as bits."""
    return torch.randint(0, 2, (count, length, 2), generator=source).float()


def ones_plus_one(length: int) -> Tensor:
    """Return 11…1 and 1: every position but the first hands the carry on."""
    bits = torch.zeros(1, length, 2)
    bits[0, :, 0] = 1
    bits[0, 0, 1] = 1
    return bits


def train(seed: int = 0) -> tuple[Adder, list[float]]:
    """Train on random pairs of 8 bits."""
    torch.manual_seed(seed)
    adder, losses = Adder(), []
    source = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(adder.parameters(), lr=RATE)
    for _ in range(EPOCHS):
        bits = pairs(BATCH, BITS, source)
        loss = nn.functional.binary_cross_entropy_with_logits(adder(bits), added(bits))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return adder, losses


@torch.no_grad()
def wrong_bits(adder: Adder, bits: Tensor) -> float:
    """Return the share of wrong bits."""
    return ((adder(bits) > 0).float() != added(bits)).double().mean().item()


def compute(count: int = PAIRS) -> Result:
    """Train, and add numbers of every length."""
    adder, losses = train()
    wrong, worst, carry = {}, {}, {}
    for kind in ("soft", "rounded"):
        adder.rounded = kind == "rounded"
        source = torch.Generator().manual_seed(1)
        wrong[kind] = np.array([wrong_bits(adder, pairs(count, length, source)) for length in LENGTHS])
        worst[kind] = np.array([wrong_bits(adder, ones_plus_one(length)) for length in LENGTHS])
        with torch.no_grad():
            carry[kind] = adder.carry(ones_plus_one(LENGTHS[-1]))[0].numpy()
    return Result(losses, wrong, worst, carry)


def draw(result: Result) -> Any:
    """Draw the training, the carry that has to run furthest, and the errors by length."""
    drawn, (left, middle, right) = pictures.figure(1, 3, size=(9.6, 3.8))
    left.loglog(np.arange(1, EPOCHS + 1), result.losses, color=palette.BLUE, lw=1)
    left.set(xlabel="epoch", ylabel="cross-entropy, nats a bit", title="Trained on 8 bits")
    looks = {"soft": (palette.VERMILLION, "o", "-"), "rounded": (palette.BLUE, "s", "--")}
    for kind, (color, mark, line) in looks.items():
        middle.semilogx(np.arange(1, LENGTHS[-1] + 1), result.carry[kind], color=color, ls=line, label=f"{kind} gates")
        right.plot(LENGTHS, result.worst[kind], mark + line, color=color, label=f"11…1 + 1, {kind}")
        right.plot(LENGTHS, result.wrong[kind], mark + ":", color=color, mfc="white", label=f"random, {kind}")
    middle.axvspan(1, BITS, color="#eeeeea", lw=0)
    middle.set(
        xlabel="position (shaded: as in training)", ylabel="carry c_t", title="The carry in 11…1 + 1", ylim=(0, 1.1)
    )
    middle.legend(loc="lower left")
    # Linear near zero, so that no error has a place, at the bottom.
    right.set_yscale("symlog", linthresh=1e-3)
    right.set_xscale("log")
    right.set(xlabel="bits", ylabel="share of wrong bits", title="Errors by length", ylim=(-2e-4, 2))
    right.set_yticks([0, 1e-3, 1e-2, 1e-1, 1], ["0", "0.001", "0.01", "0.1", "1"])
    drawn.legend(*right.get_legend_handles_labels(), loc="outside lower right", ncols=4, fontsize=9)
    return drawn


def main() -> None:
    """Train, add, say how many bits were wrong, draw."""
    wanted = pictures.arguments(__doc__, "binary_addition.png")
    result = compute()
    print(f"Trained on {BITS} bits: cross-entropy {result.losses[-1]:.2g} nats a bit.")
    for kind in ("soft", "rounded"):
        length = LENGTHS[-1]
        random, worst = result.wrong[kind][-1] * PAIRS * length, result.worst[kind][-1] * length
        print(f"{kind} gates, {length} bits: {random:.0f} wrong of {PAIRS * length:,} in random pairs;", end=" ")
        print(f"{worst:.0f} of {length} in 11…1 + 1.")
    pictures.save(draw(result), wanted.out)


if __name__ == "__main__":
    main()
