"""What scan's contract costs: any length of series, bounded memory, packed sequences. `make contract`."""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import retrograd as rg
from benchmarks import record

RESULT = Path(__file__).parent / "results" / "contract.json"
STEPS, HIDDEN, INPUTS = 10**8, 4, 2
# Structure, batch, time, width; states of the first are larger than one chunk of memory="sqrt".
LARGE = [
    ("diagonal", 8, 4096, 512),
    ("diagonal", 64, 2048, 128),
    ("diagonal", 1, 1_000_000, 8),
    ("dense", 8, 16_384, 64),
    ("dense", 32, 1024, 256),
    ("dense", 64, 8192, 32),
    ("dense", 1, 1_000_000, 4),
]
# The same, and how many sequences are packed into as many steps.
PACKED = [
    ("diagonal", 8, 4096, 512, 64),
    ("diagonal", 64, 2048, 128, 256),
    ("dense", 8, 4096, 64, 64),
    ("dense", 32, 1024, 256, 128),
    ("dense", 64, 8192, 32, 512),
]


def side_by_side(calls: list[Callable[[], Any]], seconds: float = 4.0) -> list[float]:
    """Return each call's median time in ms, taking turns."""
    times: list[list[float]] = [[] for _ in calls]
    for call in calls * 2:
        call()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[0]) < 5:
        for call, of_call in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            of_call.append((time.perf_counter() - start) * 1e3)
    return [statistics.median(t) for t in times]


def forward_and_backward(structure: str, batch: int, length: int, width: int) -> Callable[..., Callable[[], Any]]:
    generator = torch.Generator().manual_seed(0)
    if structure == "dense":
        W = torch.randn(width, width, generator=generator)
        A = W / torch.linalg.matrix_norm(W, 2) * 0.99
    else:
        A = torch.rand(batch, length, width, generator=generator)
    A.requires_grad_()
    u = torch.randn(batch, length, width, generator=generator).requires_grad_()
    g = torch.randn(batch, length, width, generator=generator)

    def call(packed: bool = False, **options: Any) -> Callable[[], Any]:
        own = {"A": A.detach(), "u": u.detach(), "g": g}
        if packed:
            own = {name: x if x.ndim == 2 else x.view(1, -1, width) for name, x in own.items()}
        leaf, inputs = own["A"].requires_grad_(), own["u"].requires_grad_()
        transition = rg.Dense(leaf) if structure == "dense" else rg.Diagonal(leaf)
        return lambda: torch.autograd.grad(rg.scan(transition, inputs, **options)[0], (leaf, inputs), own["g"])

    return call


def cost_of_memory() -> list[dict[str, Any]]:
    rows = []
    for structure, batch, length, width in LARGE:
        call = forward_and_backward(structure, batch, length, width)
        kept, again = side_by_side([call(memory="all"), call(memory="sqrt")])
        rows.append({"case": f"{structure} ({batch},{length},{width})", "all_ms": kept, "sqrt_ms": again})
        rows[-1]["ratio"] = again / kept
        print(rows[-1], flush=True)
    return rows


def cost_of_packing() -> list[dict[str, Any]]:
    rows = []
    for structure, batch, length, width, sequences in PACKED:
        call = forward_and_backward(structure, batch, length, width)
        generator = torch.Generator().manual_seed(0)
        # Lengths between half and one and a half of their mean.
        lengths = torch.rand(sequences, generator=generator) + 0.5
        borders = (lengths.cumsum(0) / lengths.sum() * batch * length).round().long()
        cu_seqlens = torch.cat((torch.zeros(1, dtype=torch.int64), borders))
        dense, packed = side_by_side([call(memory="all"), call(packed=True, cu_seqlens=cu_seqlens, memory="all")])
        case = f"{structure} ({batch},{length},{width}), {sequences} sequences"
        rows.append({"case": case, "batch_ms": dense, "packed_ms": packed, "ratio": packed / dense})
        print(rows[-1], flush=True)
    return rows


def weights() -> dict[str, Any]:
    draw = np.random.default_rng(1).standard_normal
    W = draw((HIDDEN, HIDDEN)).astype(np.float32)
    return {
        "weight_hh": W / np.linalg.norm(W, 2).astype(np.float32) * np.float32(0.99),
        "weight_ih": draw((HIDDEN, INPUTS)).astype(np.float32),
        "bias": draw(HIDDEN).astype(np.float32),
    }


def long_series(path: str) -> None:
    """In a process of its own, whose resident memory is the measurement."""
    x = np.memmap(path, np.float32, "r", shape=(STEPS, INPUTS))
    start = time.perf_counter()
    g = rg.bptt_chunked(x, **weights(), loss=lambda h, _: h.square().sum() / STEPS)
    seconds = time.perf_counter() - start
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    print(json.dumps({"seconds": seconds, "peak_resident_bytes": peak, "weight_hh": g.weight_hh.tolist()}))


def any_length() -> dict[str, Any]:
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.f32"
        with path.open("wb") as file:
            for _ in range(100):
                generator.standard_normal((STEPS // 100, INPUTS), np.float32).tofile(file)
        command = [sys.executable, "-m", "benchmarks.contract", "--long", str(path)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        result: dict[str, Any] = json.loads(done.stdout)
        # The same gradient in double precision, of all of it: the first million steps have no part in the last ones.
        x = np.memmap(path, np.float32, "r", shape=(STEPS, INPUTS))
        exact = rg.bptt_chunked(
            (x[i : i + 10**6].astype(np.float64) for i in range(0, STEPS, 10**6)),
            **{name: w.astype(np.float64) for name, w in weights().items()},
            loss=lambda h, _: h.square().sum() / STEPS,
        )
    difference = np.abs(np.array(result.pop("weight_hh")) - exact.weight_hh).max()
    result["steps"] = STEPS
    result["ns_per_step"] = result["seconds"] / STEPS * 1e9
    result["error_of_weight_hh_in_eps"] = float(difference / np.abs(exact.weight_hh).max() / np.finfo(np.float32).eps)
    print(result, flush=True)
    return result


def main() -> None:
    parser = record.parser(__doc__)
    parser.add_argument("--long", metavar="FILE", help="measure the one long series in FILE alone, and print it")
    options = parser.parse_args()
    if options.long:
        return long_series(options.long)
    if not options.dry_run:
        record.require_clean()
    results = {"machine": record.machine(), "memory": cost_of_memory(), "packing": cost_of_packing()}
    results["any_length"] = any_length()
    if not options.dry_run:
        record.write(RESULT, results)


if __name__ == "__main__":
    main()
