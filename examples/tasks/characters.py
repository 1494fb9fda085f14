"""A character language model of the text that Python ships with itself, its language reference (``help()``).

    python examples/tasks/characters.py [--layer MinGRU]

The text is one stream: 32 rows go on side by side from part to part of 128 characters, their states with them, and the
gradient ends at a part's first character (``retrograd.nn.training``). The last tenth is never trained on; what xz needs
for it, having read the rest, stands beside what the model needs.
"""

from __future__ import annotations

import lzma
import math
import pydoc_data.topics
import time
from typing import Any

import torch
from torch import Tensor, nn

import task
from retrograd.nn.training import in_rows, parts, train_step

ROWS, PART, EPOCHS = 32, 128, 6


def text() -> tuple[Tensor, str]:
    """Return the characters as numbers, and the alphabet."""
    whole = "\n".join(dict.fromkeys(pydoc_data.topics.topics.values()))  # some stand under several names
    alphabet = "".join(sorted(set(whole)))
    number = {character: k for k, character in enumerate(alphabet)}
    return torch.tensor([number[character] for character in whole]), alphabet


def loss(outputs: Tensor, following: Tensor) -> Tensor:
    """Return the cross-entropy in nats a character."""
    return nn.functional.cross_entropy(outputs.flatten(0, 1), following.flatten())


@torch.no_grad()
def bits(net: nn.Module, stream: Tensor) -> float:
    """Return bits a character of a stream read once, in one row."""
    states: Any = None
    total = 0.0
    for x, y in parts(4096, stream[None, :-1], stream[None, 1:]):
        outputs, states = net(x, states)
        total += loss(outputs, y).item() * y.numel()
    return total / (len(stream) - 1) / math.log(2)


def by_xz(stream: Tensor, before: Tensor) -> float:
    """Return the bits a character that xz needs for a text after another."""
    both, first = (bytes(x.tolist()) for x in (torch.cat((before, stream)), before))
    return 8 * (len(lzma.compress(both, preset=9)) - len(lzma.compress(first, preset=9))) / len(stream)


@torch.no_grad()
def sample(net: Any, alphabet: str, count: int, seed: int) -> str:
    """Return characters that the model draws one by one."""
    source, states, written = torch.Generator().manual_seed(seed), None, [alphabet.index("\n")]
    for _ in range(count):
        logits, states = net.step(torch.tensor(written[-1:]), states)
        written.append(int(torch.multinomial(torch.softmax(logits[0], 0), 1, generator=source)))
    return "".join(alphabet[k] for k in written[1:])


def compute(seed: int = 0, layer: str = "MinGRU", epochs: int = EPOCHS) -> task.Result:
    """Train on nine tenths of the text, score on the last one after every epoch."""
    stream, alphabet = text()
    held = len(stream) // 10
    trained, tried = stream[:-held], stream[-held:]
    net = task.model(layer, len(alphabet), len(alphabet), seed, width=192, depth=2, tokens=True)
    result = task.Result("characters", layer, "bits a character", net)
    began, rows = time.process_time(), in_rows(trained, ROWS)
    optimizer = torch.optim.AdamW(net.parameters(), lr=4e-3)
    steps = epochs * -(-(rows.shape[1] - 1) // PART)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps, pct_start=0.05)
    with task.bar(f"characters, {layer}", steps) as moved:
        for _ in range(epochs):
            states: Any = None
            for x, y in parts(PART, rows[:, :-1], rows[:, 1:]):
                value, states = train_step(net, optimizer, loss, x, y, states, clip=1.0)
                rates.step()
                result.losses.append(value)
                moved(len(result.losses))
            net.eval()
            result.scores.append((len(result.losses), bits(net, tried)))
            net.train()
    net.eval()
    result.seconds = time.process_time() - began
    result.found["bits a character, xz"] = by_xz(tried, trained)
    result.sample = sample(net, alphabet, 300, seed)
    return result


if __name__ == "__main__":
    task.main(__doc__, "characters", compute, "MinGRU")
