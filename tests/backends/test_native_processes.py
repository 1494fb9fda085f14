"""The C++ core called by several threads of Python at once, and in forked processes."""

from __future__ import annotations

import faulthandler
import os
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import retrograd as rg
from backends.test_native import NATIVE, problem, random, threads

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
# Python 3.12 warns of what these tests are about.
may_fork = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")


def gradients(seed: int) -> list[Tensor]:
    """A scan and its gradient whose results come from the pool."""
    a = random((4, 200, 96), torch.float32, seed, 0.4).requires_grad_()
    u = random((4, 200, 96), torch.float32, seed + 1)
    states, final = rg.scan(rg.Diagonal(a), u, backend="native")
    W = random((24, 24), torch.float32, seed + 2, 0.1).requires_grad_()
    dense, _ = rg.scan(rg.Dense(W), u[..., :24], backend="native")
    return [states, final, dense, *torch.autograd.grad(states.sum() + dense.sum(), (a, W))]


@pytest.mark.parametrize("count", [1, 2])
def test_python_threads_at_once(count: int) -> None:
    with threads(count):
        want = [gradients(seed) for seed in range(4)]

        def work(_: int) -> None:
            torch.set_num_threads(count)  # it is each thread's own
            for _ in range(10):
                for seed, expected in enumerate(want):
                    assert all(torch.equal(x, y) for x, y in zip(gradients(seed), expected, strict=True))

        with ThreadPoolExecutor(3) as team:
            list(team.map(work, range(3)))


def in_a_fork(check: Callable[[], None]) -> None:
    """Run check in a forked child; it may take twenty seconds, as a child that waits for lost threads never ends."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            faulthandler.dump_traceback_later(20, exit=True)
            check()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0


@forks
@may_fork
def test_a_fork_of_a_process_that_used_threads() -> None:
    with threads(2):
        want = gradients(0)
        A, u, h0 = problem("diagonal", "varying", torch.float32, 4, 1, 50, 40)
        states = NATIVE.scan(A, u, h0, False)

        def alone() -> None:
            torch.set_num_threads(1)
            assert all(torch.equal(x, y) for x, y in zip(gradients(0), want, strict=True))

        def threaded() -> None:
            # The core starts threads of its own; torch's operators of this size run on one.
            assert torch.get_num_threads() == 2
            assert torch.equal(NATIVE.scan(A, u, h0, False), states)
            assert NATIVE.adjoint(A, u, h0, False, states, h0)[0].isfinite().all()

        in_a_fork(alone)
        in_a_fork(threaded)
        assert all(torch.equal(x, y) for x, y in zip(gradients(0), want, strict=True))


class Filtered(Dataset[Tensor]):
    """Samples that a worker makes with a scan."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Tensor:
        return rg.scan(rg.Diagonal(torch.full((64,), 0.5)), torch.full((2000, 64), float(index)))[0]


@forks
@may_fork
def test_data_loader_workers() -> None:
    with threads(2):
        want = [Filtered()[i] for i in range(8)]
        loader = DataLoader(Filtered(), batch_size=2, num_workers=2, multiprocessing_context="fork")
        got = torch.cat(list(loader))
    assert torch.equal(got, torch.stack(want))
