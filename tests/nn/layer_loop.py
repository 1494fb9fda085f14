"""The plain loop of a linear RNN, and what its tests draw."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_sequence, pad_packed_sequence

INPUT, HIDDEN, BATCH, TIME = 3, 2, 4, 5
LENGTHS = {"none": [TIME] * BATCH, "sorted": [5, 3, 3, 1], "unsorted": [3, 5, 1, 3]}
# Each result is a polynomial with coefficients ±1 in the parameters, the inputs and hx, and the same loop over absolute
# values gives the sum of the absolute values of its terms. A term passes at most n roundings: for 3 layers of 5 steps,
# (3 inputs + 2 states + 2 biases) each on the way out and back, n ≤ 2 * 3 * 5 * 7 = 210, and any order of summation
# keeps the error below n * eps * that sum. 64 is a third of that bound, and holds element by element.
FACTOR = 64

PACKINGS = ("none", "sorted", "unsorted")
EVERY = list(itertools.product((1, 2, 3), (False, True), PACKINGS, (False, True), (False, True), (False, True)))


def loop(
    p: dict[str, Tensor], sequences: list[Tensor], hx: Tensor, layers: int, directions: int
) -> tuple[list[Tensor], Tensor]:
    """Each sequence (its own length, I) on its own, each step as it stands in the text."""
    outputs, finals = [], []
    for row, sequence in enumerate(sequences):
        steps = list(sequence)
        ends = []
        for layer in range(layers):
            ways = []
            for direction in range(directions):
                name = f"l{layer}" + ("_reverse" if direction else "")
                h = hx[layer * directions + direction, row]
                way: list[Any] = [None] * len(steps)
                for t in range(len(steps) - 1, -1, -1) if direction else range(len(steps)):
                    h = p[f"weight_ih_{name}"] @ steps[t] + p[f"weight_hh_{name}"] @ h
                    if f"bias_ih_{name}" in p:
                        h = h + p[f"bias_ih_{name}"] + p[f"bias_hh_{name}"]
                    way[t] = h
                ways.append(way)
                ends.append(h)
            steps = [torch.cat(states) for states in zip(*ways, strict=True)]
        outputs.append(torch.stack(steps))
        finals.append(torch.stack(ends))
    return outputs, torch.stack(finals, 1)


def arrange(sequences: list[Tensor], packing: str, batch_first: bool) -> Tensor | PackedSequence:
    if packing == "none":
        return torch.stack(sequences, 0 if batch_first else 1)
    return pack_sequence(sequences, enforce_sorted=packing == "sorted")


def separate(output: Tensor | PackedSequence, packing: str, batch_first: bool) -> list[Tensor]:
    if isinstance(output, PackedSequence):
        padded, lengths = pad_packed_sequence(output, batch_first=True)
        return [row[:n] for row, n in zip(padded, lengths.tolist(), strict=True)]
    return list(output.unbind(0 if batch_first else 1))


def draw(packing: str, layers: int, directions: int) -> tuple[list[Tensor], Tensor, list[Tensor], Tensor]:
    lengths = LENGTHS[packing]
    x = [torch.randn(n, INPUT, dtype=torch.float64, requires_grad=True) for n in lengths]
    hx = torch.randn(layers * directions, BATCH, HIDDEN, dtype=torch.float64, requires_grad=True)
    g = [torch.randn(n, directions * HIDDEN, dtype=torch.float64) for n in lengths]
    return x, hx, g, torch.randn_like(hx).detach()


def gradients(
    outputs: list[Tensor], h_n: Tensor, g: list[Tensor], g_n: Tensor, wanted: list[Tensor]
) -> tuple[Tensor, ...]:
    loss = (h_n * g_n).sum() + sum((o * w).sum() for o, w in zip(outputs, g, strict=True))
    return torch.autograd.grad(loss, wanted)


def magnitudes(arrays: list[Tensor]) -> list[Tensor]:
    return [a.detach().abs().requires_grad_() for a in arrays]
