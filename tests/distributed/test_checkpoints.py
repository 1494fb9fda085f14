"""Checkpoints over ranks: a training goes on in the same bits, over other ranks too, and a kill damages none."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import retrograd as rg
from distributed.processes import in_processes


def test_of_one_process(tmp_path: Path) -> None:
    kept = rg.distributed.Checkpoints(tmp_path / "run", keep=2)
    assert kept.load({"x": torch.zeros(2)}) is None
    for step in (1, 5, 20):
        kept.save({"x": torch.full((2,), float(step)), "step": step}, step)
    (tmp_path / "run" / "30.part").mkdir()  # whoever wrote it was killed
    state: dict[str, Any] = {"x": torch.zeros(2), "step": 0}
    assert kept.load(state) == 20
    assert state["step"] == 20
    assert torch.equal(state["x"], torch.full((2,), 20.0))
    assert kept.steps() == [5, 20]
    kept.save(state, 20)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["20", "5"]


class Training:
    """A network whose parameters lie on all ranks and whose time lies on two of them."""

    def __init__(self, ranks: int) -> None:
        mesh = init_device_mesh("cpu", (ranks // 2, 2), mesh_dim_names=("batch", "time"))
        self.steps = slice(5 * mesh["time"].get_local_rank(), 5 * mesh["time"].get_local_rank() + 5)
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 8), Outputs(rg.nn.MinGRU(8, 8)), nn.Linear(8, 1)).double()
        self.model: Any = fully_shard(rg.nn.shard_time(model, mesh["time"]), mesh=init_device_mesh("cpu", (ranks,)))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.01)

    def step(self, number: int) -> None:
        x = torch.randn(2, 10, 3, generator=torch.Generator().manual_seed(number), dtype=torch.float64)
        self.optimizer.zero_grad()
        self.model(x[:, self.steps]).square().mean().backward()
        self.optimizer.step()

    def state(self) -> dict[str, Any]:
        model, optimizer = get_state_dict(self.model, self.optimizer)
        return {"model": model, "optimizer": optimizer}

    def take(self, state: dict[str, Any]) -> None:
        set_state_dict(self.model, self.optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])

    def weights(self) -> list[torch.Tensor]:
        return [p.detach().full_tensor() for p in self.model.parameters()]


class Outputs(nn.Module):
    """A layer without its states."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)[0]


def trained(rank: int, ranks: int, folder: str, first: int, last: int, killed: int | None = None) -> Any:
    """Train from the last checkpoint, if there is one; return its step, the weights found there, and the last ones."""
    training, kept = Training(ranks), rg.distributed.Checkpoints(folder)
    state = training.state()
    found = kept.load(state)
    if found is not None:
        training.take(state)
    begun = training.weights()
    for number in range(first, last):
        training.step(number)
        if killed == rank and number == last - 1:  # while the others write
            Path(f"{folder}/{number + 1}.part").mkdir(exist_ok=True)
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            kept.save(training.state(), number + 1)
        except rg.distributed.RankError as error:
            return str(error)
    return found, begun, training.weights()


@pytest.mark.slow
def test_a_training_over_ranks_goes_on_in_the_same_bits(tmp_path: Path) -> None:
    """Also where a rank was killed as the other one saved; over more ranks it goes on from the same bits."""
    whole = in_processes(2, trained, 2, str(tmp_path / "whole"), 0, 4)
    lost = in_processes(2, trained, 2, str(tmp_path / "parts"), 0, 3, 1)
    assert lost[1] == -signal.SIGKILL
    assert "distributed checkpoint of step 3" in lost[0]
    assert "rank 1 is lost" in lost[0]
    more = in_processes(4, trained, 4, str(tmp_path / "parts"), 2, 2)
    again = in_processes(2, trained, 2, str(tmp_path / "parts"), 2, 4)
    for step, begun, last in again:
        assert step == 2
        for a, b in zip(last, whole[0][2], strict=True):
            assert torch.equal(a, b)
        for a, b in zip(begun, more[0][1], strict=True):
            assert torch.equal(a, b)
