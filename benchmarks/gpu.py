"""Measure the scan on a GPU: ours, peers and the physical limit in one run; print the table and write the results.

python -m benchmarks.gpu [--only TEXT] [--out FILE] [--dry-run | --table]

Times are device events' medians of forward + backward at the seam (no autograd), replayed from a CUDA graph; "eager" is
the same, launched from Python, on the clock. A share is the time that the limit allows over the time taken. The limit
of a diagonal scan is 32 bytes an element of float32 at the speed of a device copy (forward reads a, u and writes h;
backward reads a, g, h and writes δ, ∂a); of a dense one 6 · B · T · H² flops at the speed of a float32 product.

Where the machine has no git, RETROGRAD_COMMIT says the commit of the files, whose copy must be clean.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import retrograd as rg
from benchmarks import record
from retrograd.core.backend import BACKENDS
from retrograd.files import write_whole

RESULTS = Path(__file__).parent / "results" / "gpu.json"
DIAGONAL = [(8, 4096, 2048), (8, 4096, 512), (64, 256, 128), (1, 65536, 64), (1, 1048576, 64)]
DENSE = [(32, 8192, 256), (32, 1024, 256), (8, 65536, 64), (1, 16384, 256)]
PAGE = Path(__file__).parent.parent / "docs" / "gpu.md"
BEGIN, END = "<!-- bench: made by `python -m benchmarks.gpu --table` -->", "<!-- bench end -->"
# Steps of the loop that are timed; a longer one takes proportionally longer.
LOOP_STEPS = 256

Call = Callable[[], Any]


def replayed(call: Call, times: int = 15) -> float:
    """Return the milliseconds of a call in a CUDA graph: launching it costs nothing then."""
    call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return launched(graph.replay, times)


def launched(call: Call, times: int = 15) -> float:
    """Return the milliseconds between device events before and after a call."""
    call()
    call()
    found = []
    for _ in range(times):
        torch.cuda.synchronize()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        torch.cuda.synchronize()
        found.append(start.elapsed_time(end))
    return statistics.median(found)


def on_the_clock(call: Call, times: int = 8) -> float:
    """Return the milliseconds that a caller waits for a call and its results."""
    call()
    found = []
    for _ in range(times):
        torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        torch.cuda.synchronize()
        found.append(1e3 * (time.perf_counter() - start))
    return statistics.median(found)


def limits() -> dict[str, float]:
    x = torch.randn(1 << 28, device="cuda")
    y = torch.empty_like(x)
    copy = 8 * x.numel() / launched(lambda: y.copy_(x)) / 1e9
    A, C = (z[: 1 << 26].view(8192, 8192) for z in (x, y))
    gemm = 2 * 8192**3 / launched(lambda: torch.mm(A, A, out=C), 5) / 1e9
    return {"copy TB/s": copy, "gemm TFLOP/s": gemm}


def scan_and_adjoint(name: str, A: rg.Dense | rg.Diagonal, u: Tensor, g: Tensor) -> Call:
    backend, h0 = BACKENDS[name], torch.zeros_like(u[:, 0])

    def call() -> Any:
        states = backend.scan(A, u, h0)
        return backend.adjoint(A, g, h0, states=states, h0=h0)

    return call


def reference_loop(make: Callable[[int], tuple[Any, Tensor, Tensor]], steps: int) -> float:
    """Return the milliseconds of the reference loop: of its first steps, times how many there are."""
    some = min(steps, LOOP_STEPS)
    return on_the_clock(scan_and_adjoint("reference", *make(some)), 3) * steps / some


def peers(a: Tensor, u: Tensor, g: Tensor) -> dict[str, float | str]:
    """Return the milliseconds, or why there are none, of peers on the same diagonal problem, from (B, T, D)."""
    found: dict[str, float | str] = {}
    for name, package, measure in (
        ("accelerated-scan, Triton", "accelerated_scan", accelerated("scalar")),
        ("accelerated-scan, CUDA", "accelerated_scan", accelerated("warp")),
        ("fla chunk_hgrn", "fla", hgrn),
        ("jax associative_scan", "jax", jax_scan),
    ):
        if find_spec(package) is None:
            found[name] = f"{package} is not installed"
            continue
        try:
            found[name] = measure(a, u, g)
        except Exception as error:  # a peer's own failure is its result
            found[name] = f"{type(error).__name__}: {str(error)[:120]}"
    return found


def accelerated(kernel: str) -> Callable[[Tensor, Tensor, Tensor], float]:
    def measure(a: Tensor, u: Tensor, g: Tensor) -> float:
        scan = __import__(f"accelerated_scan.{kernel}", fromlist=["scan"]).scan
        given = [x.detach().requires_grad_() for x in (a, u)]

        def call() -> Any:
            turned = [x.transpose(1, 2).contiguous() for x in given]
            return torch.autograd.grad(scan(*turned).transpose(1, 2).contiguous(), given, g)

        return launched(call)

    return measure


def hgrn(a: Tensor, u: Tensor, g: Tensor) -> float:
    from fla.ops.hgrn import chunk_hgrn

    log_a, x = a.log().detach().requires_grad_(), u.detach().requires_grad_()
    return launched(lambda: torch.autograd.grad(chunk_hgrn(x, log_a)[0], (x, log_a), g))


def jax_scan(a: Tensor, u: Tensor, g: Tensor) -> float:
    import jax

    def states(gates: Any, drive: Any) -> Any:
        def compose(first: Any, second: Any) -> Any:
            return second[0] * first[0], second[0] * first[1] + second[1]

        return jax.lax.associative_scan(compose, (gates, drive), axis=1)[1]

    given, seed = [jax.dlpack.from_dlpack(x) for x in (a, u)], jax.dlpack.from_dlpack(g)
    both = jax.jit(lambda gates, drive, dh: jax.vjp(states, gates, drive)[1](dh))
    jax.block_until_ready(both(*given, seed))
    found = []
    for _ in range(8):
        start = time.perf_counter()
        jax.block_until_ready(both(*given, seed))
        found.append(1e3 * (time.perf_counter() - start))
    return statistics.median(found)


def tanh_rnn(batch: int, steps: int, width: int) -> float:
    rnn = torch.nn.RNN(width, width, batch_first=True, device="cuda")
    x = torch.randn(batch, steps, width, device="cuda", requires_grad=True)

    def call() -> None:
        out, _ = rnn(x)
        out.backward(out.detach())

    return on_the_clock(call)


def diagonal(shape: tuple[int, int, int], dtype: torch.dtype, limit: dict[str, float], with_peers: bool) -> Any:
    batch, steps, width = shape

    def make(length: int) -> tuple[Any, Tensor, Tensor]:
        a = torch.sigmoid(torch.randn(batch, length, width, device="cuda") + 2).to(dtype)
        u, g = (torch.randn(batch, length, width, device="cuda").to(dtype) for _ in range(2))
        return rg.Diagonal(a), u, g

    A, u, g = make(steps)
    bound = 8 * u.numel() * dtype.itemsize / limit["copy TB/s"] / 1e9
    ours = scan_and_adjoint("triton", A, u, g)
    result: dict[str, Any] = {"limit": bound, "retrograd": replayed(ours), "retrograd, eager": on_the_clock(ours)}
    result["share"] = bound / result["retrograd"]
    if with_peers:
        result["peers"] = peers(A.normal(), u, g)
        del A, u, g, ours
        result["reference loop"] = reference_loop(make, steps)
    return result


def dense(shape: tuple[int, int, int], limit: dict[str, float]) -> Any:
    batch, steps, width = shape
    W = torch.linalg.qr(torch.randn(width, width, device="cuda"))[0] * 0.99

    def make(length: int) -> tuple[Any, Tensor, Tensor]:
        u, g = (torch.randn(batch, length, width, device="cuda") for _ in range(2))
        return rg.Dense(W), u, g

    bound = 6 * batch * steps * width**2 / limit["gemm TFLOP/s"] / 1e9
    ours = scan_and_adjoint("triton", *make(steps))
    result: dict[str, Any] = {"limit": bound, "retrograd": replayed(ours), "retrograd, eager": on_the_clock(ours)}
    result["share"] = bound / result["retrograd"]
    result["reference loop"] = reference_loop(make, steps)
    if steps <= 1024:
        result["peers"] = {"cuDNN tanh RNN": tanh_rnn(batch, steps, width)}
    return result


def commit() -> str:
    """Return the commit of the files; what the environment says, where there is no git."""
    said = os.environ.get("RETROGRAD_COMMIT", "")
    return said or record.git("rev-parse", "--short", "HEAD") + ("-dirty" if record.changes() else "")


def markdown(results: dict[str, Any]) -> str:
    """Return the table of docs/gpu.md."""
    rows = [
        "| forward + backward | ms | from Python, ms | share of the limit | reference loop, ms | jax, ms |",
        "|---|--:|--:|--:|--:|--:|",
    ]

    def number(x: Any) -> str:
        return f"{x:,.3g}" if isinstance(x, float) and x < 1000 else f"{x:,.0f}" if isinstance(x, float) else "–"

    for name, case in results["cases"].items():
        jax = case.get("peers", {}).get("jax associative_scan")
        given = (case["retrograd"], case["retrograd, eager"], case["share"], case.get("reference loop"), jax)
        rows.append(f"| {name} | " + " | ".join(map(number, given)) + " |")
    machine, limit = results["machine"], results["machine"]["limits"]
    note = (
        f"{machine['gpu']}, torch {machine['torch']}, Triton {machine['triton']}, commit {machine['commit']}; medians. "
        f"Limits of the same run: copy {limit['copy TB/s']:.2f} TB/s, float32 product {limit['gemm TFLOP/s']:.1f} "
        "TFLOP/s."
    )
    return "\n".join([*rows, "", note])


def write_table(results: dict[str, Any]) -> None:
    page = PAGE.read_text()
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{markdown(results)}\n{END}{after}")


def main() -> None:
    options = record.parser(__doc__)
    options.add_argument("--table", action="store_true", help="write docs/gpu.md's table from the result file alone")
    options.add_argument("--only", default="", help="cases whose name holds this text")
    options.add_argument("--out", type=Path, default=RESULTS)
    chosen = options.parse_args()
    if chosen.table:
        write_table(json.loads(chosen.out.read_text()))
        return
    if not torch.cuda.is_available():
        raise SystemExit("this machine has no GPU that torch can use")
    if not chosen.dry_run and not os.environ.get("RETROGRAD_COMMIT"):
        record.require_clean()
    limit = limits()
    triton = __import__("triton")
    results: dict[str, Any] = {
        "machine": {
            "gpu": torch.cuda.get_device_name(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "triton": triton.__version__,
            "commit": commit(),
            "limits": limit,
        },
        "cases": {},
    }
    table = Table("forward + backward", "ms", "eager, ms", "share of the limit", "reference loop, ms", "peers, ms")
    cases: list[tuple[str, Callable[[], Any]]] = [
        (f"diagonal {s}", lambda s=s: diagonal(s, torch.float32, limit, True)) for s in DIAGONAL
    ]
    cases.insert(1, (f"diagonal bf16 {DIAGONAL[0]}", lambda: diagonal(DIAGONAL[0], torch.bfloat16, limit, False)))
    cases += [(f"dense {s}", lambda s=s: dense(s, limit)) for s in DENSE]
    for name, measure in cases:
        if chosen.only not in name:
            continue
        torch.cuda.empty_cache()
        found = results["cases"][name] = measure()
        said = [f"{key}: {x:.3g}" if isinstance(x, float) else f"{key}: –" for key, x in found.get("peers", {}).items()]
        loop = found.get("reference loop")
        table.add_row(
            name,
            f"{found['retrograd']:.3g}",
            f"{found['retrograd, eager']:.3g}",
            f"{found['share']:.2f}",
            "–" if loop is None else f"{loop:.4g}",
            "; ".join(said),
        )
        print(name, json.dumps(found), flush=True)
    Console(width=160).print(table)
    print(json.dumps(results["machine"]))
    if not chosen.dry_run:
        if not os.environ.get("RETROGRAD_COMMIT"):
            record.require_clean()
        write_whole(chosen.out, (json.dumps(results, indent=1, ensure_ascii=False) + "\n").encode())
        print(f"written to {chosen.out}")


if __name__ == "__main__":
    main()
