"""Learning binary addition: the carry is a gated linear recurrence.

Two numbers come in bit by bit, the lowest first; out goes their sum. The carry obeys

    c_t = p_t c_{t-1} + g_t,    sum bit_t = a_t ⊕ b_t ⊕ c_{t-1}

where p_t (propagate) is 1 if exactly one of the bits is, and g_t (generate) if both are. None of this is told to the
network, only sums of 8 bits. For each of the four pairs of bits it has four numbers to learn: p_t and v_t through a
sigmoid, with g_t = (1 − p_t) v_t, and the sum bit's logit, r_t + s_t (2 c_{t-1} − 1). The gradient through the
recurrence is a scan. One start in twenty gets stuck: sums not seen in training show it, and another start is tried.

A sigmoid never reaches 0 or 1, so every step that hands a carry on also pulls it towards v_t. 11…1 + 1 and 11…1 + 0
differ in their first pair of bits alone: after many steps their carries agree, and one of the two sums is wrong. The
gates are therefore rounded after training. A carry is then 0 or 1, and four pairs of bits times two carries make eight
steps: the script checks all eight, and if they are right, so is every sum of any length.

    python examples/binary_addition.py
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import pictures
import retrograd as rg
from retrograd.pictures import palette

BITS, BATCH, EPOCHS, RATE = 8, 128, 600, 0.05
# A start that learned has some 0.002 nats a bit on new sums, one that is stuck 0.4.
STARTS, LEARNED = 5, 0.05
LENGTHS = (8, 16, 32, 64, 125, 250, 500, 1000)
PAIRS, SEEDS = 2000, 20
Array = np.ndarray[Any, Any]


class Adder(nn.Module):
    """Adds numbers given as bits, lowest first. ``rounded``: with gates of 0 and 1 alone."""

    def __init__(self, source: torch.Generator) -> None:
        super().__init__()
        self.rounded = False
        self.gates = nn.Parameter(torch.randn(4, 2, generator=source) / 2)
        self.readout = nn.Parameter(torch.randn(4, 2, generator=source) / 2)

    def pv(self) -> Tensor:
        """Return p and v of the pairs of bits 00, 10, 01, 11, ``(4, 2)``."""
        soft = torch.sigmoid(self.gates)
        return soft.round() if self.rounded else soft

    def carry(self, bits: Tensor) -> Tensor:
        """Return c_t, ``(batch, time)``, of bits ``(batch, time, 2)``."""
        p, v = self.pv()[which(bits)].split(1, -1)
        states, _ = rg.scan(rg.Diagonal(p), (1 - p) * v)
        return states[..., 0]

    def forward(self, bits: Tensor) -> Tensor:
        """Return the logits of the sum's bits, ``(batch, time)``."""
        before = nn.functional.pad(self.carry(bits), (1, 0))[:, :-1]
        # About ½, where a carry says nothing: read as c_{t-1} itself, half of the starts get stuck.
        r, s = self.readout[which(bits)].unbind(-1)
        return r + s * (2 * before - 1)

    @torch.no_grad()
    def steps(self) -> tuple[Tensor, Tensor]:
        """Return sum bit and next carry of each pair of bits (rows) and each carry 0 and 1 (columns)."""
        (p, v), (r, s), carry = self.pv().T[..., None], self.readout.T[..., None], torch.tensor([0.0, 1.0])
        return (r + s * (2 * carry - 1) > 0).float(), p * carry + (1 - p) * v

    def exact(self) -> bool:
        """Whether all eight steps are right, and so the sum of any two numbers."""
        ones = torch.tensor([0, 1, 1, 2])[:, None] + torch.tensor([0, 1])
        sums, carries = self.steps()
        return torch.equal(sums, (ones % 2).float()) and torch.equal(carries, (ones // 2).float())


@dataclass(frozen=True)
class Result:
    """How the adder was trained, and what it does at every length.

    Attributes:
        adder: the first of
        adders: by seed, with rounded gates.
        losses: cross-entropy in nats a bit, by epoch.
        wrong: share of wrong bits by gates, "soft" and "rounded", by numbers, "random", "+ 1" and "+ 0", by length.
        carry: c_t in the longest 11…1 + 1 and 11…1 + 0, likewise.
    """

    adder: Adder
    adders: list[Adder]
    losses: list[float]
    wrong: dict[str, dict[str, Array]]
    carry: dict[str, dict[str, Array]]


def which(bits: Tensor) -> Tensor:
    """Return which pair of bits it is: 00, 10, 01 or 11."""
    return (bits[..., 0] + 2 * bits[..., 1]).long()


def as_bits(a: int, b: int, length: int) -> Tensor:
    """Return two numbers as bits, ``(1, length + 1, 2)``: the last position is where the last carry comes out."""
    return torch.tensor([[[a >> k & 1, b >> k & 1] for k in range(length + 1)]], dtype=torch.float32)


@torch.no_grad()
def add(adder: Adder, a: int, b: int) -> int:
    """Return the sum that the adder finds."""
    bits = as_bits(a, b, max(a.bit_length(), b.bit_length()))
    return sum(int(bit) << k for k, bit in enumerate(adder(bits)[0] > 0))


def added(bits: Tensor) -> Tensor:
    """Return the bits of the sums as school teaches it."""
    carry, sums = torch.zeros(len(bits)), []
    for both in bits.unbind(1):
        total = both.sum(-1) + carry
        sums.append(total % 2)
        carry = (total >= 2).float()
    return torch.stack(sums, 1)


def pairs(count: int, length: int, source: torch.Generator) -> Tensor:
    """Return random pairs of numbers as bits, and the position for the last carry."""
    bits = torch.randint(0, 2, (count, length, 2), generator=source).float()
    return nn.functional.pad(bits, (0, 0, 0, 1))


def train(seed: int = 0) -> tuple[Adder, list[float]]:
    """Train on random pairs of 8 bits, start after start until new sums come out right."""
    source = torch.Generator().manual_seed(seed)
    for _ in range(STARTS):
        adder, losses = Adder(source), []
        optimizer = torch.optim.Adam(adder.parameters(), lr=RATE)
        for _ in range(EPOCHS):
            bits = pairs(BATCH, BITS, source)
            loss = nn.functional.binary_cross_entropy_with_logits(adder(bits), added(bits))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        new = pairs(1000, BITS, source)
        with torch.no_grad():
            if nn.functional.binary_cross_entropy_with_logits(adder(new), added(new)) < LEARNED:
                break
    return adder, losses


@torch.no_grad()
def wrong_bits(adder: Adder, bits: Tensor) -> float:
    """Return the share of wrong bits."""
    return ((adder(bits) > 0).float() != added(bits)).double().mean().item()


def compute(seed: int = 0, count: int = PAIRS, seeds: int = SEEDS) -> Result:
    """Train from some seeds, and add numbers of every length."""
    trained = [train(seed + k) for k in range(seeds)]
    (adder, losses), wrong, carry = trained[0], {}, {}
    for kind in ("soft", "rounded"):
        adder.rounded = kind == "rounded"
        source = torch.Generator().manual_seed(seed + 1)
        tried = {length: (pairs(count, length, source), *worst(length)) for length in LENGTHS}
        shares = np.array([[wrong_bits(adder, bits) for bits in three] for three in tried.values()])
        wrong[kind] = dict(zip(("random", "+ 1", "+ 0"), shares.T, strict=True))
        with torch.no_grad():
            carry[kind] = {f"+ {k}": adder.carry(bits)[0].numpy() for bits, k in zip(worst(1000), (1, 0), strict=True)}
    for one, _ in trained:
        one.rounded = True
    return Result(adder, [one for one, _ in trained], losses, wrong, carry)


def worst(length: int) -> tuple[Tensor, Tensor]:
    """Return 11…1 + 1 and 11…1 + 0: a carry, or none, is handed on through every position."""
    ones = (1 << length) - 1
    return as_bits(ones, 1, length), as_bits(ones, 0, length)


def figures(result: Result) -> dict[str, float]:
    """Return the numbers that docs/gallery.md gives."""
    with torch.no_grad():
        p10, v10 = torch.sigmoid(result.adder.gates)[1].tolist()
    soft = np.maximum(result.wrong["soft"]["+ 1"], result.wrong["soft"]["+ 0"])
    return {
        "exact adders": sum(adder.exact() for adder in result.adders),
        "seeds": len(result.adders),
        "p of 10": p10,
        "v of 10": v10,
        **{f"{kind}, {numbers}": share[-1] for kind in result.wrong for numbers, share in result.wrong[kind].items()},
        "last right length": max((n for n, share in zip(LENGTHS, soft, strict=True) if share == 0), default=0),
    }


def draw(result: Result) -> Any:
    """Draw the training, the carries that have to run furthest, and the errors by length."""
    drawn, (left, middle, right) = pictures.figure(1, 3, size=(9.6, 3.9))
    left.loglog(np.arange(1, EPOCHS + 1), result.losses, color=palette.BLUE, lw=1)
    left.set(xlabel="epoch", ylabel="cross-entropy, nats a bit", title=f"Trained on {BITS} bits")
    looks = {"+ 1": (palette.VERMILLION, "^"), "+ 0": (palette.PURPLE, "v"), "random": (palette.GREEN, "o")}
    for numbers, (color, mark) in looks.items():
        label = "random, soft" if numbers == "random" else f"11…1 {numbers}, soft"
        size = 4 if numbers == "random" else 7
        right.plot(LENGTHS, result.wrong["soft"][numbers], f"{mark}-", color=color, ms=size, label=label)
        if numbers in result.carry["soft"]:
            for kind, line in (("soft", "-"), ("rounded", "--")):
                values, label = result.carry[kind][numbers][:-1], f"11…1 {numbers}, {kind}"
                middle.semilogx(np.arange(1, len(values) + 1), values, line, color=color, label=label)
    # Squares around what lies on the same line.
    rounded = np.max(list(result.wrong["rounded"].values()), axis=0)
    right.plot(LENGTHS, rounded, "s", color=palette.BLUE, mfc="none", ms=11, label="all three, rounded")
    middle.axvspan(1, BITS, color=pictures.SHADE, lw=0)
    middle.set(xlabel="position (shaded: as in training)", ylabel="carry c_t", title="A soft carry is forgotten")
    middle.set(ylim=(-0.05, 1.45), yticks=[0, 0.5, 1])
    middle.legend(loc="upper center", fontsize=8, ncols=2, columnspacing=0.8, handlelength=1.6)
    # Linear near zero, so that no error has a place, at the bottom.
    right.set_yscale("symlog", linthresh=1e-6)
    right.set_xscale("log")
    right.set(xlabel="bits in each number", ylabel="share of wrong bits", title="Errors by length", ylim=(-4e-7, 50))
    right.set_yticks([0, 1e-6, 1e-4, 1e-2, 1], ["0", "10⁻⁶", "10⁻⁴", "0.01", "1"])
    right.legend(loc="upper left", fontsize=8, ncols=2, columnspacing=0.8, handlelength=1.4)
    return drawn


def main() -> None:
    """Train, look every step up, add, draw; stop where a step is wrong."""
    wanted = pictures.arguments(__doc__, "binary_addition.png")
    result = compute(wanted.seed)
    pictures.note(figures(result), wanted)
    pictures.save(draw(result), wanted.out)
    for bits, sums, carries in zip(("00", "10", "01", "11"), *result.adder.steps(), strict=True):
        print(f"bits {bits}: sum bit and next carry {sums[0]:.0f}, {carries[0]:.0f}", end="; ")
        print(f"with a carry {sums[1]:.0f}, {carries[1]:.0f}")
    if not result.adder.exact():
        sys.exit("A step is wrong: this adder has not learned addition.")
    print("All eight steps are right, and so is every sum.")


if __name__ == "__main__":
    main()
