"""Layers over a time axis that lies on ranks are the layers of one process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh

import retrograd as rg
from distributed.processes import in_processes
from retrograd.nn.model import LAYERS

PARTS = [slice(0, 3), slice(3, 3), slice(3, 9), slice(9, 12)]
# A layer, a block or a model over ranks; over None, of one process.
MODELS: dict[str, Callable[[Any], nn.Module]] = {
    **{name: (lambda mesh, made=made: made(4, time_mesh=mesh)) for name, made in LAYERS.items()},
    "reversed": lambda mesh: rg.nn.MinGRU(4, 3, reverse=True, time_mesh=mesh),
    "wide window": lambda mesh: rg.nn.QRNN(4, 3, window=4, pooling="ifo", time_mesh=mesh),
    "bidirectional": lambda mesh: rg.nn.Bidirectional(
        lambda reverse: rg.nn.MinLSTM(4, 3, reverse=reverse), time_mesh=mesh
    ),
    "layers": lambda mesh: rg.nn.LinearRNN(4, 3, num_layers=2, bidirectional=True, batch_first=True, time_mesh=mesh),
    "block": lambda mesh: rg.nn.SequenceBlock(rg.nn.SRU(4, 4), time_mesh=mesh),
    "state space": lambda mesh: StatesToo(rg.nn.StateSpace(3, 4, 2, time_mesh=mesh)),
    "deep": lambda mesh: rg.nn.SequenceModel(4, 5, layer="S5", width=6, depth=2, time_mesh=mesh),
    "recomputed": lambda mesh: rg.nn.SequenceModel(4, 5, width=6, recompute=True, time_mesh=mesh),
    "both ways": lambda mesh: rg.nn.SequenceModel(4, 5, width=6, depth=1, bidirectional=True, time_mesh=mesh),
}
NO_RESET = ("bidirectional", "both ways", "layers", "state space")  # refused, below, or not taken


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
    there = {type(part).__name__ for make in MODELS.values() for part in make(None).modules()}
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


class Law:
    """A model of one process, what it is given, and what it finds."""

    def __init__(self, name: str, kind: str) -> None:
        torch.manual_seed(0)
        self.name, self.kind = name, kind
        self.model = MODELS[name](None).double()
        self.x, self.weight = torch.randn(2, 12, 4).double(), torch.randn(2, 12, 1).double()
        self.reset = torch.zeros(2, 12, dtype=torch.bool)
        self.reset[0, 5], self.reset[1, 9] = True, True
        if kind == "packed":
            self.x, self.weight = self.x[:1], self.weight[:1]

    def found(self, at: slice = slice(None), mesh: Any = None, last: bool = True) -> list[Tensor]:
        """What one process finds, or the rank of a mesh that has these steps."""
        model = self.model
        if mesh is not None:
            model = MODELS[self.name](mesh).double()
            model.load_state_dict(self.model.state_dict())
        given = {
            "whole": {},
            "reset": {"reset": self.reset[:, at]},
            "packed": {"cu_seqlens": torch.tensor([0, 4, 4, 10, 12])},
        }[self.kind]
        return gradients(model, self.x[:, at], self.weight[:, at], last, given)

    def check(self, found: list[list[Tensor]]) -> None:
        """The ranks' outputs and d_x side by side, their last states, and the sums of their gradients are those."""
        want, parameters = self.found(), len(list(self.model.parameters()))
        for i, one in enumerate(want):
            parts = [rank[i] for rank in found]
            if i in (0, len(want) - parameters - 1):
                got = torch.cat(parts, 1)
            else:
                got = parts[0] if i < len(want) - parameters else torch.stack(parts).sum(0)
            torch.testing.assert_close(got, one, rtol=1e-9, atol=1e-9, msg=lambda said: f"{self.name}: {said}")


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kind", ["whole", "reset", "packed"])
def test_a_layer_is_that_of_one_process(name: str, kind: str) -> None:
    if (kind == "reset" and name in NO_RESET) or (kind == "packed" and name == "state space"):
        pytest.skip("refused, below, or not taken")
    law = Law(name, kind)
    law.check(rg.distributed.simulate(len(PARTS), lambda ranks: law.found(PARTS[ranks.rank], ranks, ranks.rank == 0)))


def over_processes(rank: int, parts: list[slice]) -> list[list[Tensor]]:
    mesh = init_device_mesh("cpu", (len(parts),), mesh_dim_names=("time",))["time"]
    return [Law(name, "whole").found(parts[rank], mesh, rank == 0) for name in MODELS]


TWO = pytest.param([slice(0, 7), slice(7, 12)], marks=pytest.mark.slow, id="2")
THREE = pytest.param([slice(0, 2), slice(2, 9), slice(9, 12)], id="3")


@pytest.mark.parametrize("parts", [TWO, THREE])
def test_layers_over_processes_are_those_of_one(parts: list[slice]) -> None:
    by_rank = in_processes(len(parts), over_processes, parts)
    for k, name in enumerate(MODELS):
        Law(name, "whole").check([found[k] for found in by_rank])


def refused(model: nn.Module, *args: Any, **given: Any) -> str:
    def work(ranks: Any) -> str:
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


def test_an_argument_that_names_no_ranks_is_refused() -> None:
    with pytest.raises(TypeError, match="time_mesh is str, expected a DeviceMesh or a process group"):
        rg.nn.MinGRU(4, 3, time_mesh="time")
    with pytest.raises(ValueError, match=r"model pools over time \('last'\)"):
        rg.distributed.simulate(1, lambda ranks: rg.nn.SequenceModel(4, 3, pooling="last", time_mesh=ranks))


class Step(nn.Module):
    """A layer that is called for a step."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Any:
        return self.layer.step(x)
