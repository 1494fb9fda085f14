"""Layers over a time axis that lies on ranks are the layers of one process."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import retrograd as rg
from retrograd.distributed import Ranks
from retrograd.nn.model import LAYERS

PARTS = [slice(0, 3), slice(3, 3), slice(3, 9), slice(9, 12)]
MODELS: dict[str, Callable[[], nn.Module]] = {
    **{name: (lambda made=made: made(4)) for name, made in LAYERS.items()},
    "reversed": lambda: rg.nn.MinGRU(4, 3, reverse=True),
    "wide window": lambda: rg.nn.QRNN(4, 3, window=4, pooling="ifo"),
    "bidirectional": lambda: rg.nn.Bidirectional(lambda reverse: rg.nn.MinLSTM(4, 3, reverse=reverse)),
    "layers": lambda: rg.nn.LinearRNN(4, 3, num_layers=2, bidirectional=True, batch_first=True),
    "block": lambda: rg.nn.SequenceBlock(rg.nn.SRU(4, 4)),
    "state space": lambda: StatesToo(rg.nn.StateSpace(3, 4, 2)),
    "deep": lambda: rg.nn.SequenceModel(4, 5, layer="S5", width=6, depth=2),
}


class StatesToo(nn.Module):
    """A layer that returns outputs alone, as one that returns states too."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.layer(x), x.new_zeros(1)


# What has no time axis of its own: a step at a time, and numbers that another layer reads.
WITHOUT_TIME = {"LinearRNNCell", "LowerBounds"}


def test_every_public_layer_is_here() -> None:
    layers = {name for name in rg.nn.__all__ if isinstance(getattr(rg.nn, name), type)}
    there = {type(part).__name__ for make in MODELS.values() for part in make().modules()}
    assert layers - WITHOUT_TIME <= there


def gradients(model: nn.Module, x: Tensor, weight: Tensor, last: bool, given: dict[str, Tensor]) -> list[Tensor]:
    """Outputs, last states, and the gradients of x and of every parameter."""
    x = x.clone().requires_grad_()
    y, state = model(x, **given)
    states = state if isinstance(state, list | tuple) else [state]
    total = (y * weight).sum() + sum(s.abs().square().sum() for s in states) * last
    parameters = list(model.parameters())
    found = torch.autograd.grad(total, [x, *parameters], allow_unused=True)
    shaped = [torch.zeros_like(p) if d is None else d for p, d in zip([x, *parameters], found, strict=True)]
    return [y.detach(), *[s.detach() for s in states], *shaped]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kind", ["whole", "reset"])
def test_a_layer_is_that_of_one_process(name: str, kind: str) -> None:
    torch.manual_seed(0)
    model = MODELS[name]().double()
    x, weight = torch.randn(2, 12, 4, dtype=torch.float64), torch.randn(2, 12, 1, dtype=torch.float64)
    reset = torch.zeros(2, 12, dtype=torch.bool)
    reset[0, 5], reset[1, 9] = True, True
    if kind == "reset" and name in ("bidirectional", "layers", "state space"):
        pytest.skip("refused, below, or not taken")
    want = gradients(model, x, weight, True, {"reset": reset} if kind == "reset" else {})

    def work(ranks: Ranks) -> list[Tensor]:
        at = PARTS[ranks.rank]
        given = {"reset": reset[:, at]} if kind == "reset" else {}
        mine = rg.nn.shard_time(copy.deepcopy(model), ranks)
        return gradients(mine, x[:, at], weight[:, at], ranks.rank == 0, given)

    found = rg.distributed.simulate(len(PARTS), work)
    parameters = len(list(model.parameters()))
    for i, one in enumerate(want):
        parts = [rank[i] for rank in found]
        if i in (0, len(want) - parameters - 1):
            got = torch.cat(parts, 1)
        else:
            got = parts[0] if i < len(want) - parameters else torch.stack(parts).sum(0)
        torch.testing.assert_close(got, one, rtol=1e-9, atol=1e-9)


def test_an_argument_shards_linear_rnn() -> None:
    torch.manual_seed(0)
    x = torch.randn(12, 2, 4)
    torch.manual_seed(1)
    want = rg.nn.LinearRNN(4, 3)(x)

    def work(ranks: Ranks) -> tuple[Tensor, Tensor]:
        mine = copy.deepcopy(layer)
        mine.time_mesh = ranks
        return mine(x[PARTS[ranks.rank]])

    torch.manual_seed(1)
    layer = rg.nn.LinearRNN(4, 3, time_mesh=None)
    found = rg.distributed.simulate(len(PARTS), work)
    torch.testing.assert_close(torch.cat([y for y, _ in found]), want[0])
    torch.testing.assert_close(found[1][1], want[1])


def refused(model: nn.Module, *args: Any, **given: Any) -> str:
    def work(ranks: Ranks) -> str:
        with pytest.raises((TypeError, ValueError)) as caught:
            rg.nn.shard_time(model, ranks)(*args, **given)
        return str(caught.value)

    return rg.distributed.simulate(1, work)[0]


def test_what_cannot_be_sharded_is_refused() -> None:
    x, reset = torch.randn(2, 5, 4), torch.zeros(2, 5, dtype=torch.bool)
    both = rg.nn.Bidirectional(lambda reverse: rg.nn.MinGRU(4, 3, reverse=reverse))
    packed = nn.utils.rnn.pack_sequence([x[0]])
    assert "lengths was given" in refused(rg.nn.MinGRU(4, 3), x, lengths=torch.tensor([5, 3]))
    assert "lengths was given" in refused(rg.nn.LinearRNN(4, 3, batch_first=True), x, lengths=torch.tensor([5, 3]))
    assert "use one direction" in refused(both, x, reset=reset)
    assert "use one direction" in refused(rg.nn.LinearRNN(4, 3, bidirectional=True, batch_first=True), x, reset=reset)
    assert "PackedSequence" in refused(rg.nn.LinearRNN(4, 3), packed)
    assert "has a GRU (1)" in refused(nn.Sequential(nn.Linear(4, 4), nn.GRU(4, 4)), x)
    assert "has a LinearRNNCell (itself)" in refused(rg.nn.LinearRNNCell(4, 3), x)
    assert "pools over time ('mean')" in refused(rg.nn.SequenceModel(4, 3, layer="LRU", pooling="mean"), x)
    for layer in (rg.nn.MinGRU(4, 3), rg.nn.LinearRNN(4, 3)):
        assert "step takes one step of one process" in refused(Step(layer), x[:, 0])


class Step(nn.Module):
    """A layer that is called for a step."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Any:
        return self.layer.step(x)
