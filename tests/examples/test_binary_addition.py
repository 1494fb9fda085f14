"""Eight steps learned from short numbers add numbers of any length."""

from __future__ import annotations

import math
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gallery import draws, lines

# x label, y label and their scales, by axis of the picture.
AXES = [
    ("epoch", "cross-entropy, nats a bit", "log", "log"),
    ("position (shaded: as in training)", "carry c_t", "log", "linear"),
    ("bits in each number", "share of wrong bits", "log", "symlog"),
]


@pytest.mark.parametrize("seed", [0, 1, 10])
def test_an_adder_learns_whole_addition_from_8_bits(example: Any, seed: int) -> None:
    module = example("binary_addition")
    adder, losses = module.train(seed)
    adder.rounded = True
    assert adder.exact()
    assert losses[-1] < module.LEARNED
    # And it is: numbers of any length, the last carry and all, against Python's own.
    source = random.Random(seed)
    for length in (1, 2, 3, 8, 64, 1000, 1001):
        for _ in range(5):
            a, b = source.getrandbits(length), source.getrandbits(length)
            assert module.add(adder, a, b) == a + b
        assert module.add(adder, 2**length - 1, 1) == 2**length
        assert module.add(adder, 2**length - 1, 0) == 2**length - 1
        assert module.add(adder, 2**length - 1, 2**length - 1) == 2 ** (length + 1) - 2


def test_what_the_adders_are_held_against_is_addition(example: Any) -> None:
    module = example("binary_addition")
    for a, b in ((0, 0), (1, 1), (37, 91), (255, 255), (2**20 - 1, 1)):
        bits = module.as_bits(a, b, 20)
        total = module.added(bits)[0]
        assert sum(int(bit) << k for k, bit in enumerate(total)) == a + b


def test_the_eight_steps_are_those_of_the_recurrence_and_a_wrong_one_is_seen(example: Any) -> None:
    module = example("binary_addition")
    adder = module.Adder(torch.Generator().manual_seed(0))
    right = torch.tensor([[-3.0, 0], [3, 0], [3, 0], [-3, 3]])
    with torch.no_grad():
        adder.gates.copy_(right)
        adder.readout.copy_(torch.tensor([[0.0, 1], [0, -1], [0, -1], [0, 1]]))
    assert not adder.exact()  # a soft carry is not 0 or 1
    adder.rounded = True
    adder.gates.data[0, 1] = -3
    assert adder.exact()
    sums, carries = adder.steps()
    for pair in range(4):
        for before in (0, 1):
            bits = torch.tensor([[[before, before], [pair & 1, pair >> 1]]], dtype=torch.float32)
            assert adder.carry(bits)[0, -1] == carries[pair, before]
            assert (adder(bits)[0, -1] > 0) == bool(sums[pair, before])
    for row in range(4):
        adder.gates.data[row, 0] *= -1
        assert not adder.exact()
        adder.gates.data[row, 0] *= -1
        adder.readout.data[row, 1] *= -1
        assert not adder.exact()
        adder.readout.data[row, 1] *= -1


def test_an_adder_that_has_not_learned_says_so_and_fails(
    example: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = example("binary_addition")
    monkeypatch.setattr(module, "EPOCHS", 2)
    monkeypatch.setattr(module, "SEEDS", 1)
    monkeypatch.setattr(module, "PAIRS", 2)
    monkeypatch.setattr(sys, "argv", ["binary_addition.py", "--out", str(tmp_path / "a.png")])
    with pytest.raises(SystemExit, match="A step is wrong"):
        module.main()


def test_starts_are_tried_until_new_sums_come_out_right(example: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    module = example("binary_addition")
    monkeypatch.setattr(module, "EPOCHS", 1)
    made: list[object] = []
    adder = module.Adder
    monkeypatch.setattr(module, "Adder", lambda source: made.append(source) or adder(source))
    module.train()
    assert len(made) == module.STARTS
    monkeypatch.setattr(module, "LEARNED", math.inf)
    module.train()
    assert len(made) == module.STARTS + 1


def test_soft_gates_forget_a_carry_and_rounded_ones_do_not(example: Any, tmp_path: Path) -> None:
    module = example("binary_addition")
    result = module.compute(count=200, seeds=1)
    found = module.figures(result)
    assert all((shares == 0).all() for shares in result.wrong["rounded"].values())
    # Both carries end at the same number, so one of the sums is wrong.
    ends = [result.carry["soft"][numbers][-2] for numbers in ("+ 1", "+ 0")]
    assert ends == pytest.approx([found["v of 10"]] * 2, abs=1e-3)
    worst = np.maximum(result.wrong["soft"]["+ 1"], result.wrong["soft"]["+ 0"])
    assert worst[-1] > 0.5
    assert worst[0] == 0
    assert found["last right length"] == module.LENGTHS[np.flatnonzero(worst)[0] - 1]
    assert result.wrong["soft"]["random"][-1] < 1e-3
    axes = draws(module, result, tmp_path / "binary_addition.png", AXES)
    assert list(lines(axes[2])) == ["11…1 + 1, soft", "11…1 + 0, soft", "random, soft", "all three, rounded"]
