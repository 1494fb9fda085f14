"""The pool of large results: no block has two owners, all come back, and it stays within its limit."""

from __future__ import annotations

import gc
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

import retrograd as rg
from retrograd import _native
from retrograd.backends.pool import SMALLEST, empty

LIKE = torch.zeros(1)
USE = "import torch, retrograd as rg; rg.scan(rg.Diagonal(torch.ones(1)), torch.ones(2, 1))"
LARGE = SMALLEST // 4  # float32 elements of the smallest result that comes from the pool


@pytest.fixture(autouse=True)
def _clean_pool() -> Iterator[None]:
    gc.collect()
    rg.empty_cache()
    yield
    _native.pool_poison(False)


def child(code: str, **environment: str) -> str:
    """Run code in a process of its own and return what it printed; anything on its error stream fails."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_only_large_results_on_the_cpu_come_from_the_pool() -> None:
    before = rg.memory_stats()["in_use"]
    small, other = empty((LARGE - 1,), LIKE), empty((LARGE,), torch.zeros(1, device="meta"))
    assert rg.memory_stats()["in_use"] == before
    large = empty((LARGE,), LIKE)
    assert rg.memory_stats()["in_use"] == before + SMALLEST
    assert (small.shape, other.device.type, large.shape) == ((LARGE - 1,), "meta", (LARGE,))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.complex64, torch.complex128])
def test_blocks_fit_their_dtype(dtype: torch.dtype) -> None:
    _native.pool_poison(True)
    before = rg.memory_stats()["in_use"]
    x = empty((3, LARGE), torch.zeros(1, dtype=dtype))
    assert (x.dtype, x.shape, x.is_contiguous()) == (dtype, (3, LARGE), True)
    assert x.isnan().all()
    assert x.data_ptr() % 4096 == 0
    assert rg.memory_stats()["in_use"] - before >= x.nbytes


def test_a_freed_block_serves_the_next_of_its_size_and_no_smaller_one() -> None:
    x = empty((4 * LARGE,), LIKE)
    address = x.data_ptr()
    del x
    cached, reused = rg.memory_stats()["cached"], rg.memory_stats()["reused"]
    assert cached == 4 * SMALLEST
    small = empty((LARGE,), LIKE)  # a quarter: it would waste the rest
    assert small.data_ptr() != address
    again = empty((3 * LARGE,), LIKE)
    assert again.data_ptr() == address
    assert rg.memory_stats()["reused"] == reused + 1
    assert rg.memory_stats()["cached"] == 0


def test_no_block_is_handed_out_twice_to_several_threads() -> None:
    _native.pool_poison(True)
    before = rg.memory_stats()["in_use"]

    def work(thread: int) -> None:
        draw, held = random.Random(thread), list[tuple[Tensor, int]]()
        for turn in range(150):
            if len(held) < 5 and draw.random() < 0.6:
                x = empty((draw.randrange(LARGE, 3 * LARGE),), LIKE)
                assert x.isnan().all()
                mark = 1000 * thread + turn
                held.append((x.fill_(mark), mark))
            elif held:
                x, mark = held.pop(draw.randrange(len(held)))
                assert (x == mark).all()

    with ThreadPoolExecutor(4) as team:
        list(team.map(work, range(4)))
    assert rg.memory_stats()["in_use"] == before
    assert rg.memory_stats()["reused"] > 0


def test_live_blocks_never_share_memory() -> None:
    held = [empty((random.Random(i).randrange(LARGE, 4 * LARGE),), LIKE) for i in range(40)]
    held = held[::2] + [empty((2 * LARGE,), LIKE) for _ in range(20)]
    spans = sorted((x.data_ptr(), x.data_ptr() + x.nbytes) for x in held)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))


def test_a_view_keeps_the_block_and_the_last_one_gives_it_back() -> None:
    before = rg.memory_stats()["in_use"]
    x = empty((4, LARGE), LIKE)
    x.copy_(torch.arange(4.0)[:, None].expand(4, LARGE))
    view, shared = x[3, 5:9], x.detach().numpy()[1]
    del x
    others = [empty((4, LARGE), LIKE).fill_(-1) for _ in range(3)]
    assert view.tolist() == [3.0] * 4
    assert (shared == 1).all()
    del others, view
    assert rg.memory_stats()["in_use"] == before + 4 * SMALLEST
    del shared
    assert rg.memory_stats()["in_use"] == before


def test_empty_cache_and_stats() -> None:
    before = rg.memory_stats()
    assert before["cached"] == 0
    x, y = empty((LARGE,), LIKE), empty((2 * LARGE,), LIKE)
    during = rg.memory_stats()
    assert during["in_use"] - before["in_use"] == 3 * SMALLEST
    assert during["fresh"] - before["fresh"] == 2
    assert during["peak_in_use"] >= during["in_use"]
    del x
    rg.empty_cache()  # y is in use and stays
    assert rg.memory_stats()["cached"] == 0
    y.fill_(2.0)
    del y
    after = rg.memory_stats()
    assert (after["in_use"], after["cached"]) == (before["in_use"], 2 * SMALLEST)


@pytest.mark.parametrize("blocks", [0, 3])
def test_the_limit_bounds_what_is_kept(blocks: int) -> None:
    code = f"""
import torch, retrograd as rg
from retrograd.backends.pool import empty
held = [empty(({LARGE},), torch.zeros(1)) for _ in range(8)]
held.clear()
print(rg.memory_stats()["limit"], rg.memory_stats()["cached"], rg.memory_stats()["in_use"])
"""
    limit = blocks * SMALLEST
    assert child(code, RETROGRAD_POOL_BYTES=str(limit)).split() == [str(limit), str(limit), "0"]


@pytest.mark.parametrize("given", ["4GB", "-1", "many", "1e9"])
def test_a_limit_that_is_no_number_is_refused(given: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", USE],
        env={**os.environ, "RETROGRAD_POOL_BYTES": given},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert f"RETROGRAD_POOL_BYTES is '{given}', expected a number of bytes" in done.stderr


@pytest.mark.parametrize(
    "ending",
    [
        "held = states",  # a module's global, which dies in the interpreter's shutdown
        "import sys; sys.kept = states",  # outlives every module
        "cycle = [states]; cycle.append(cycle); del states",  # left to a collection that never runs
        "import threading; threading.Thread(target=lambda: states.sum()).start()",
        "import atexit; atexit.register(lambda: rg.scan(rg.Diagonal(a), u))",
    ],
)
def test_tensors_alive_at_exit(ending: str) -> None:
    code = f"""
import gc, torch, retrograd as rg
gc.disable()
a, u = torch.rand(64, requires_grad=True), torch.rand(2, 2000, 64)
states, _ = rg.scan(rg.Diagonal(a), u)
assert rg.memory_stats()["in_use"] >= states.nbytes
{ending}
"""
    child(code)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_has_a_pool_of_its_own() -> None:
    a, u = torch.full((64,), 0.5), torch.ones(2, 2000, 64)
    kept, free = empty((LARGE,), LIKE).fill_(7.0), empty((2 * LARGE,), LIKE)
    del free
    want = rg.scan(rg.Diagonal(a), u)[0][0, -1, 0].item()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            torch.set_num_threads(1)  # as a data loader's worker: torch's own threads stay with the parent
            for _ in range(3):
                states, _ = rg.scan(rg.Diagonal(a), u)
                assert states[0, -1, 0].item() == want
                del states
            assert kept[0] == 7
            kept.fill_(8.0)
            del kept
            rg.empty_cache()
            assert rg.memory_stats()["cached"] == 0
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert (kept == 7).all()
    assert rg.memory_stats()["cached"] > 0


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_resident_memory_does_not_grow() -> None:
    """Steps of mixed shapes, forward and back: after 3000 no more than after 100."""
    code = """
import random, resource, torch, retrograd as rg
torch.set_num_threads(1)
draw = random.Random(0)
shapes = [(draw.randint(1, 4), draw.randint(30, 300), draw.choice([32, 64, 256])) for _ in range(25)]
page = resource.getpagesize()
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * page
for turn in range(3000):
    batch, time, width = shapes[draw.randrange(25)]
    a = torch.rand(batch, time, width, requires_grad=True)
    u = torch.rand(batch, time, width, requires_grad=True)
    states, _ = rg.scan(rg.Diagonal(a), u)
    states.sum().backward()
    if turn == 99:
        early = resident()
assert rg.memory_stats()["reused"] > 1000
print(early, resident())
"""
    early, late = map(int, child(code).split())
    assert late <= 1.05 * early
