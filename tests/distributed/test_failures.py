"""Ranks that disagree, fail or are lost, and calls that cannot be: every rank is told, in one line."""

from __future__ import annotations

import importlib
import threading
import time
from typing import Any

import pytest
import torch
from torch import Tensor

import retrograd as rg
from distributed.sharded_problems import Problem
from retrograd.distributed import Ranks

sharded_scan = importlib.import_module("retrograd.distributed.scan")  # the module: its function has the same name


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda p: p._replace(u=p.u[..., :2], A=p.A[..., :2], h0=p.h0[..., :2]), "width 2"),
        (lambda p: p._replace(u=p.u[:1], h0=p.h0[:1]), "batch 1"),
        (lambda p: p._replace(u=p.u.float(), A=p.A.float(), h0=p.h0.float()), "float32"),
        (lambda p: p._replace(reverse=True), "reversed"),
        (lambda p: p._replace(A=p.A.expand(2, 1, 3)), "2 transitions a step"),
    ],
    ids=["width", "batch", "dtype", "direction", "groups"],
)
@pytest.mark.parametrize("odd", [0, 2])
@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_ranks_that_disagree_all_hear_of_it(change: Any, named: str, odd: int, size: int) -> None:
    p = Problem.random("diagonal", False, (2, 10, 3))

    def work(ranks: Ranks) -> str:
        mine = change(p) if ranks.rank == odd % size else p
        with pytest.raises(rg.distributed.RankError) as caught:
            rg.distributed.scan(mine.transition(mine.A), mine.u, mine.h0, reverse=mine.reverse, group=ranks, timeout=20)
        return str(caught.value)

    for message in rg.distributed.simulate(size, work):
        assert "ranks disagree: rank " in message
        assert f"rank {odd % size} runs distributed.scan" in message
        assert named in message


def test_ranks_on_different_devices_name_the_odd_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that a rank only claims to have: two kinds that can both run are not on every machine."""
    say = sharded_scan._what

    def work(ranks: Ranks) -> str:
        with pytest.raises(rg.distributed.RankError) as caught:
            rg.distributed.scan(rg.Diagonal(torch.ones(2)), torch.ones(3, 2), group=ranks, timeout=20)
        return str(caught.value)

    def what(*given: Any) -> str:
        said = say(*given)
        return said.replace("on cpu", "on cuda") if threading.current_thread().name == "rank 1" else said

    monkeypatch.setattr(sharded_scan, "_what", what)
    for message in rg.distributed.simulate(3, work):
        assert "ranks disagree: rank" in message
        assert "rank 1 runs distributed.scan of diagonal transitions, batch 1, width 2, float32, on cuda" in message


@pytest.mark.parametrize("size", [2, 3, 5])
def test_a_rank_whose_device_cannot_run_it_tells_the_others_at_once(size: int) -> None:
    def work(ranks: Ranks) -> tuple[str, str, float]:
        place = "meta" if ranks.rank == 1 else "cpu"
        u, a = torch.ones(3, 2, device=place), torch.ones(2, device=place)
        begun = time.monotonic()
        with pytest.raises(Exception, match=r".") as caught:
            rg.distributed.scan(rg.Diagonal(a), u, group=ranks, timeout=30)
        return type(caught.value).__name__, str(caught.value), time.monotonic() - begun

    for rank, (kind, message, seconds) in enumerate(rg.distributed.simulate(size, work)):
        assert (kind == "RankError") == (rank != 1)
        if rank != 1:
            assert "rank 1 fails in distributed.scan of diagonal" in message
            assert "on meta" in message
        assert seconds < 10


@pytest.mark.parametrize("size", [2, 3, 4, 7])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_rank_that_fails_ends_all(size: int, reverse: bool) -> None:
    p = Problem.random("diagonal", False, (2, 10, 3))
    gone = size // 2

    def work(ranks: Ranks) -> str:
        if ranks.rank == gone:
            ranks.end()  # type: ignore[attr-defined]
            return ""
        with pytest.raises(rg.distributed.RankError) as caught:
            rg.distributed.scan(p.transition(p.A), p.u, p.h0, reverse=reverse, group=ranks, timeout=20)
        return str(caught.value)

    messages = rg.distributed.simulate(size, work)
    assert all(f"rank {gone} is lost" in x and "distributed.scan" in x for i, x in enumerate(messages) if i != gone)


def test_a_rank_that_hangs_is_named_within_the_time_limit() -> None:
    p = Problem.random("diagonal", False, (2, 10, 3))

    def work(ranks: Ranks) -> str:
        if ranks.rank == 1:
            return ""  # and says nothing
        with pytest.raises(rg.distributed.RankError) as caught:
            rg.distributed.scan(p.transition(p.A), p.u, p.h0, group=ranks, timeout=0.5)
        return str(caught.value)

    found = rg.distributed.simulate(4, work)
    assert all("rank 1 is lost" in x and "time limit 0.5 s" in x for x in (found[0], found[2], found[3]))


def test_a_failure_elsewhere_is_raised_as_itself() -> None:
    def work(ranks: Ranks) -> Tensor:
        if ranks.rank == 1:
            raise KeyError("mine")
        return rg.distributed.scan(rg.Diagonal(torch.ones(2)), torch.ones(3, 2), group=ranks, timeout=20)[0]

    with pytest.raises(KeyError, match="mine"):
        rg.distributed.simulate(3, work)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"group": "all"}, TypeError, "group is str"),
        ({"mesh": "time"}, TypeError, "mesh is str"),
        ({"group": 1, "mesh": 2}, ValueError, "both given"),
        ({}, ValueError, "not initialised"),
    ],
    ids=["group", "mesh", "both", "none"],
)
def test_ranks_that_there_are_not(given: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        rg.distributed.scan(rg.Diagonal(torch.ones(2)), torch.ones(3, 2), **given)


def test_shapes_are_checked_as_by_scan() -> None:
    with pytest.raises(ValueError, match="A has width 2, u has 3"):
        rg.distributed.simulate(
            1, lambda ranks: rg.distributed.scan(rg.Diagonal(torch.ones(2)), torch.ones(4, 3), group=ranks)
        )
    with pytest.raises(ValueError, match=r"lengths\[0\] is 9, expected 0 to u's time = 8"):
        rg.distributed.simulate(
            2,
            lambda ranks: rg.distributed.scan(
                rg.Diagonal(torch.ones(3)), torch.ones(1, 4, 3), lengths=torch.tensor([9]), group=ranks
            ),
        )


def test_a_time_limit_is_that_of_one_operation() -> None:
    def work(ranks: rg.distributed.Ranks) -> list[float]:
        u = torch.ones(1, 3, 2, requires_grad=True)
        states, _ = rg.distributed.scan(rg.Diagonal(torch.ones(2)), u, group=ranks, timeout=20)
        found = [ranks.timeout]
        rg.distributed.scan(rg.Diagonal(torch.ones(2)), u, group=ranks)
        found.append(ranks.timeout)
        states.sum().backward()
        return [*found, ranks.timeout]

    assert rg.distributed.simulate(2, work) == [[20.0, 60.0, 20.0]] * 2
