"""Real ranks, joined by gloo: what simulated ones show elsewhere holds for processes, and for those that go wrong."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import retrograd as rg
from distributed.processes import in_processes
from distributed.sharded_problems import Found, Problem, solve, stretches, together

KINDS: list[dict[str, Any]] = [
    {},
    {"reset": torch.arange(40).reshape(1, 40) % 11 == 5},
    {"cu_seqlens": torch.tensor([0, 3, 3, 17, 40])},
    {"lengths": torch.tensor([29])},
]


def problems() -> list[Problem]:
    """A bounded set: every structure, kind of sequence, direction and dtype at least once."""
    found = []
    for number in range(16):
        structure, varying = ("diagonal", "dense")[number % 2], number % 4 >= 2
        dtype = (torch.float64, torch.complex128)[number // 8]
        given, reverse = KINDS[number // 4 % 4 if number < 8 else number % 4], number % 3 == 0
        shape = (1, 40, 3)
        found.append(Problem.random(structure, varying, shape, dtype=dtype, given=given, reverse=reverse, seed=number))
    return found


CUTS = [[7, 20, 20, 31], [0, 1, 2, 40], [8, 16, 24, 32]]


def solve_all(rank: int, size: int) -> list[list[Found]]:
    """Every problem on the first 1, 2, ... ranks, with cuts of their own."""
    found = []
    for ranks in range(2, size + 1):
        group = dist.new_group(list(range(ranks)))
        if rank >= ranks:
            continue
        own = []
        for number, p in enumerate(problems()):
            parts = stretches(CUTS[number % len(CUTS)][: ranks - 1], 40)
            own.append(solve(p.stretch(parts[rank]), group, rank == 0))
        found.append(own)
    return found


def test_values_and_gradients_over_two_to_five_processes() -> None:
    by_rank = in_processes(5, solve_all, 5)
    for ranks in range(2, 6):
        for number, p in enumerate(problems()):
            found = [by_rank[rank][ranks - max(2, rank + 1)][number] for rank in range(ranks)]
            got, want = together(found, p.varying), solve(p)
            for name, x in want.items():
                torch.testing.assert_close(got[name], x, rtol=1e-12, atol=1e-12, msg=f"{name} {number} {ranks}")


def over_a_mesh(rank: int) -> list[Any]:
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("batch", "time"))
    p = Problem.random("dense", False, (1, 40, 3))
    at = stretches([13], 40)[mesh["time"].get_local_rank()]
    with pytest.raises(ValueError, match="mesh has 2 dimensions, expected the one of time"):
        rg.distributed.scan(p.transition(p.A), p.u[:, at], p.h0, mesh=mesh)
    states, final = rg.distributed.scan(p.transition(p.A), p.u[:, at], p.h0, mesh=mesh["time"])
    before = rg.distributed.traffic(mesh=mesh["time"])
    return [states, final, tuple(before)]


def test_a_device_mesh_names_the_ranks() -> None:
    p = Problem.random("dense", False, (1, 40, 3))
    want = rg.scan(p.transition(p.A), p.u, p.h0)
    found = in_processes(4, over_a_mesh)
    for pair in (found[:2], found[2:]):
        torch.testing.assert_close(torch.cat([x[0] for x in pair], 1), want[0])
        torch.testing.assert_close(pair[0][1], want[1])
        assert [x[2][0] for x in pair] == [1, 1]


def go_wrong(rank: int, how: str, limit: float) -> tuple[str, float]:
    p = Problem.random("diagonal", False, (2, 10, 3))
    rg.distributed.scan(p.transition(p.A), p.u, p.h0, timeout=20)
    dist.barrier()
    if rank == 1:
        if how == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "hangs":
            time.sleep(2 * limit)
            return "", 0.0
        p = p._replace(u=p.u[..., :2], A=p.A[..., :2], h0=p.h0[..., :2])
    begun = time.monotonic()
    with pytest.raises(rg.distributed.RankError) as caught:
        rg.distributed.scan(p.transition(p.A), p.u, p.h0, timeout=limit)
    return str(caught.value), time.monotonic() - begun


@pytest.mark.parametrize(("how", "size"), [("dies", 4), ("hangs", 3), ("disagrees", 5)])
def test_all_others_end_within_the_time_limit(how: str, size: int) -> None:
    limit = 4.0
    found = in_processes(size, go_wrong, how, limit)
    if how == "dies":
        assert found[1] == -signal.SIGKILL
    for rank, one in enumerate(found):
        if rank == 1 and how != "disagrees":
            continue
        message, seconds = one
        assert seconds < limit + 3
        assert "distributed.scan" in message
        assert ("rank 1 runs" if how == "disagrees" else "rank 1 is lost") in message


class Network(torch.nn.Module):
    """A layer over time and a readout of every step."""

    def __init__(self, time_mesh: Any = None) -> None:
        super().__init__()
        self.rnn = rg.nn.LinearRNN(4, 8, batch_first=True, time_mesh=time_mesh)
        self.out = torch.nn.Linear(8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.rnn(x)[0])


def network_and_input(time_mesh: Any = None) -> tuple[Network, torch.Tensor]:
    torch.manual_seed(0)
    return Network(time_mesh).double(), torch.randn(4, 20, 4, dtype=torch.float64)


def with_others(rank: int, how: str) -> list[torch.Tensor]:
    """The gradients of a network whose batch lies on two ranks and whose time lies on two."""
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("batch", "time"))
    network, x = network_and_input(mesh["time"])
    whole: Any = DistributedDataParallel(network)
    if how == "FSDP2":
        whole = fully_shard(network, mesh=init_device_mesh("cpu", (4,)))
    rows, steps = (2 * mesh["batch"].get_local_rank(), 10 * mesh["time"].get_local_rank())
    whole(x[rows : rows + 2, steps : steps + 10]).square().mean().backward()
    found = [p.grad for p in network.parameters()]
    return [d.full_tensor() if how == "FSDP2" else d for d in found]


@pytest.mark.parametrize("how", ["DDP", "FSDP2"])
def test_time_goes_together_with_batch_and_parameters(how: str) -> None:
    network, x = network_and_input()
    network(x).square().mean().backward()
    for found in in_processes(4, with_others, how):
        for got, p in zip(found, network.parameters(), strict=True):
            torch.testing.assert_close(got, p.grad)
