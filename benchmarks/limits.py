"""The machine's own limits, measured in the same run: stream bandwidth and the rate of one big matrix product."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from retrograd import _native
from retrograd.backends import pool


def median_seconds(call: Callable[[], object], repeats: int = 9) -> float:
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure() -> dict[str, float]:
    """Return bandwidth (GB/s, all threads) and matrix-product rates (GFLOP/s)."""
    count = 1 << 25  # 128 MB of float32
    like = torch.empty((), dtype=torch.float32)
    a, b, c = (pool.empty((count,), like).fill_(1.0) for _ in range(3))
    copy = 2 * 4 * count / median_seconds(lambda: c.copy_(a)) / 1e9
    triad = 3 * 4 * count / median_seconds(lambda: torch.add(a, b, alpha=3.0, out=c)) / 1e9
    # torch's copy and triad store through the cache; the core's own triad does not.
    streamed = 3 * 4 * count / median_seconds(lambda: _native.triad(a, b, c, torch.get_num_threads())) / 1e9
    limits = {"copy_GB_s": copy, "triad_GB_s": triad, "streamed_triad_GB_s": streamed}
    limits["stream_GB_s"] = max(limits.values())
    for name, dtype in (("f32", torch.float32), ("f64", torch.float64)):
        n = 2048
        x, y, z = (torch.randn(n, n, dtype=dtype) for _ in range(3))
        rate = 2 * n**3 / median_seconds(lambda x=x, y=y, z=z: torch.mm(x, y, out=z)) / 1e9  # type: ignore[misc]
        limits[f"gemm_{name}_GFLOP_s"] = rate
    return limits
