"""Measure the scan on a GPU: ours, peers and the physical limit in one run; print the table and write the results.

python -m benchmarks.gpu [--only TEXT] [--no-peers] [--out FILE] [--dry-run | --table]

Where one run may not take the time of all cases, several with --only add to one file, of one commit on one GPU.
Times are device events' medians of forward + backward at the seam (no autograd), replayed from a CUDA graph; "eager" is
the same, launched from Python, on the clock. A share is the time that the limit allows over the time taken. The limit
of a diagonal scan is 32 bytes an element of float32 at the speed of a device copy (forward reads a, u and writes h;
backward reads a, g, h and writes δ, ∂a); of a dense one 6 · B · T · H² flops at the speed of a float32 product; where
each step has a W of its own, 12 bytes an element of W (forward reads it; backward reads it and writes ∂W).

Where the machine has no git, RETROGRAD_COMMIT says the commit of the files, whose copy must be clean.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

import retrograd as rg
from benchmarks import gpu_peers, record
from benchmarks.gpu_peers import Call, launched, on_the_clock
from retrograd.core.backend import BACKENDS
from retrograd.core.sequences import FORWARD, Sequences, View
from retrograd.files import write_whole

RESULTS = Path(__file__).parent / "results" / "gpu.json"
PAGE = Path(__file__).parent.parent / "docs" / "gpu.md"
BEGIN, END = "<!-- bench: made by `python -m benchmarks.gpu --table` -->", "<!-- bench end -->"
# Steps of the reference loop that are timed; a longer one takes proportionally longer.
LOOP_STEPS = 256


class Case(NamedTuple):
    """A shape (batch, time, width) that is measured, and what it must reach: text, and whether (or how) it does."""

    structure: str
    shape: tuple[int, int, int]
    dtype: torch.dtype = torch.float32
    sequences: int = 0  # the steps of each, where rows hold several
    how: str = ""  # what is not as usual: a key of HOW
    target: str = ""
    reached: Callable[[dict[str, Any], dict[str, Any]], bool | str] | None = None

    @property
    def name(self) -> str:
        """What the case is called in the result file."""
        how = " bf16" if self.dtype == torch.bfloat16 else ""
        of = f", sequences of {self.sequences}" if self.sequences else f", {self.how}" if self.how else ""
        return f"{self.structure}{how} {self.shape}{of}"


def at_least(share: float) -> dict[str, Any]:
    return {"target": f"share ≥ {share}", "reached": lambda case, _all: case["share"] >= share}


def times_the_loop(times: float, share: float = 0) -> dict[str, Any]:
    def reached(case: dict[str, Any], _all: dict[str, Any]) -> bool:
        return bool(case["reference loop"] >= times * case["retrograd"] and case["share"] >= share)

    return {"target": f"≥ {times:g}x the loop" + (f", share ≥ {share}" if share else ""), "reached": reached}


def faster_than_cudnn(case: dict[str, Any], _all: dict[str, Any]) -> str:
    limit = case["peers"]["cuDNN tanh RNN"]
    met = ["met" if case[how] < limit else "not met" for how in ("retrograd", "retrograd, eager")]
    return f"{met[0]} in a CUDA graph, {met[1]} from Python"


LARGE = (8, 4096, 2048)
# Each chunk's program folds the chunks before its own; gates by their logarithm; a program for each row.
FOLDED, BY_LOG, WHOLE_ROWS = "folded", "by log a", "whole rows"
CASES = [
    Case("diagonal", LARGE, **at_least(0.92)),
    Case(
        "diagonal",
        LARGE,
        torch.bfloat16,
        target="≥ 1.5x its float32",
        reached=lambda case, found: found[f"diagonal {LARGE}"]["retrograd"] >= 1.5 * case["retrograd"],
    ),
    Case("diagonal", (8, 4096, 512), **at_least(0.78)),
    Case("diagonal", (64, 256, 128), **at_least(0.5)),
    Case("diagonal", (1, 65536, 64), **at_least(0.5)),
    Case("diagonal", (1, 65536, 64), how=FOLDED, **at_least(0.5)),
    Case("diagonal", (1, 1048576, 64), **at_least(0.58)),
    Case("diagonal", LARGE, how=BY_LOG),
    Case("diagonal", LARGE, sequences=512),
    Case("diagonal", (8, 4096, 512), sequences=512),
    Case("dense", (32, 8192, 256), **times_the_loop(60, 0.4)),
    Case("dense", (32, 1024, 256), target="faster than cuDNN's tanh RNN", reached=faster_than_cudnn),
    Case("dense", (8, 65536, 64), **times_the_loop(200)),
    Case("dense", (1, 16384, 256)),
    *(Case("dense, varying", (batch, 16384, 64), how=how) for batch in (1, 16) for how in ("", WHOLE_ROWS)),
]


def replayed(call: Call, times: int = 15) -> float:
    """Return the milliseconds of a call in a CUDA graph: launching it costs nothing then."""
    call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return launched(graph.replay, times)


def limits() -> dict[str, float]:
    x = torch.randn(1 << 28, device="cuda")
    y = torch.empty_like(x)
    copy = 8 * x.numel() / launched(lambda: y.copy_(x)) / 1e9
    A, C = (z[: 1 << 26].view(8192, 8192) for z in (x, y))
    gemm = 2 * 8192**3 / launched(lambda: torch.mm(A, A, out=C), 5) / 1e9
    return {"copy TB/s": copy, "gemm TFLOP/s": gemm}


def scan_and_adjoint(name: str, A: rg.Dense | rg.Diagonal, u: Tensor, g: Tensor, view: View = FORWARD) -> Call:
    backend, h0 = BACKENDS[name], torch.zeros_like(u[:, 0])

    def call() -> Any:
        states = backend.scan(A, u, h0, view)
        return backend.adjoint(A, g, h0, view, states, h0)

    return call


def as_told(how: str, A: rg.Dense | rg.Diagonal, u: Tensor, g: Tensor) -> Call:
    """Return the call with a configuration that the shape would not choose."""
    from retrograd.backends.triton import dense, diagonal
    from retrograd.backends.triton.configurations import Tiles

    (a,), h0 = A.arrays, torch.zeros_like(u[:, 0])
    kernels: Any = diagonal if how == FOLDED else dense
    options = {"use": Tiles(8, 16, 16, 4, 1, 512, 128, 0)} if how == FOLDED else {"chunk": 0}

    def call() -> Any:
        states = kernels.scan(a, u, h0, **options)
        return kernels.adjoint(a, g, h0, None, False, states, h0, **options)

    return call


def drawn(case: Case, steps: int) -> tuple[Any, Tensor, Tensor]:
    """Return A, u and g of a case, of so many steps."""
    batch, _, width = case.shape
    u, g = (torch.randn(batch, steps, width, device="cuda").to(case.dtype) for _ in range(2))
    if case.structure == "dense":
        return rg.Dense(torch.linalg.qr(torch.randn(width, width, device="cuda"))[0].to(case.dtype) * 0.99), u, g
    if case.structure == "dense, varying":
        return rg.Dense(torch.randn(steps, width, width, device="cuda") * (0.95 / width**0.5)), u, g
    a = torch.sigmoid(torch.randn(batch, steps, width, device="cuda") + 2).to(case.dtype)
    return rg.Diagonal.from_log(a.log()) if case.how == BY_LOG else rg.Diagonal(a), u, g


def alone(case: Case) -> bool:
    """Return whether the loop and peers are measured beside a case: once for each shape."""
    return case.dtype == torch.float32 and not case.sequences and not case.how


def measure(case: Case, limit: dict[str, float], with_peers: bool) -> dict[str, Any]:
    """Return the milliseconds of a case, its share of the limit, and its peers' milliseconds."""
    batch, steps, width = case.shape
    A, u, g = drawn(case, steps)
    if case.structure == "dense":
        bound = 6 * batch * steps * width**2 / limit["gemm TFLOP/s"] / 1e9
    elif case.structure == "dense, varying":
        bound = 12 * steps * width**2 / limit["copy TB/s"] / 1e9
    else:
        bound = 8 * u.numel() * case.dtype.itemsize / limit["copy TB/s"] / 1e9
    view: View = FORWARD
    if case.sequences:
        starts = torch.arange(steps, device="cuda") % case.sequences == 0
        view = Sequences(batch, steps, reset=starts.expand(batch, steps).contiguous()).view("steps", u.device)
    told = case.how in (FOLDED, WHOLE_ROWS)
    ours = as_told(case.how, A, u, g) if told else scan_and_adjoint("triton", A, u, g, view)
    result: dict[str, Any] = {"limit": bound, "retrograd": replayed(ours), "retrograd, eager": on_the_clock(ours)}
    result["share"] = bound / result["retrograd"]
    if not alone(case):
        return result
    some = min(steps, LOOP_STEPS)
    loop = scan_and_adjoint("reference", *drawn(case, some))
    result["reference loop"] = on_the_clock(loop, 3) * steps / some
    if with_peers and case.structure != "dense, varying":
        peers = gpu_peers.DENSE if case.structure == "dense" else gpu_peers.DIAGONAL
        result["peers"] = gpu_peers.measured(peers, A.normal() if case.structure == "diagonal" else A.W, u, g)
    return result


def commit() -> str:
    """Return the commit of the files; what the environment says, where there is no git."""
    said = os.environ.get("RETROGRAD_COMMIT", "")
    return said or record.git("rev-parse", "--short", "HEAD") + ("-dirty" if record.changes() else "")


def number(x: Any) -> str:
    return f"{x:,.3g}" if isinstance(x, float) and x < 1000 else f"{x:,.0f}" if isinstance(x, float) else "not measured"


def verdict(case: Case, found: dict[str, Any]) -> str:
    """Return what a case must reach, and whether it does."""
    if case.reached is None:
        return "–"
    try:
        reached = case.reached(found[case.name], found)
    except (KeyError, TypeError):  # it, or what it is compared with, was not measured
        return f"{case.target}: not measured"
    return f"{case.target}: {reached if isinstance(reached, str) else 'met' if reached else 'not met'}"


def peers_table(cases: Sequence[Case], peers: list[gpu_peers.Peer], found: dict[str, Any]) -> list[str]:
    """Return a table of the peers' milliseconds, and why some were not measured."""
    rows = [
        "| forward + backward, ms | " + " | ".join(str(case.shape) for case in cases) + " | why not measured |",
        "|---|" + "--:|" * len(cases) + "---|",
    ]
    for key, name in (("retrograd", "retrograd, in a CUDA graph"), ("retrograd, eager", "retrograd, from Python")):
        figures = (number(found.get(case.name, {}).get(key)) for case in cases)
        rows.append(f"| {name} | {' | '.join(figures)} | |")
    for peer in peers:
        given = [found.get(case.name, {}).get("peers", {}).get(peer.name) for case in cases]
        reasons = dict.fromkeys("not in this run" if x is None else x for x in given if not isinstance(x, float))
        rows.append(f"| {peer.name} | {' | '.join(map(number, given))} | {'; '.join(reasons)} |")
    return rows


def markdown(results: dict[str, Any]) -> str:
    """Return the tables of docs/gpu.md."""
    found = results["cases"]
    rows = [
        "| forward + backward | ms | from Python, ms | share of the limit | reference loop, ms | target |",
        "|---|--:|--:|--:|--:|---|",
    ]
    for case in CASES:
        one = found.get(case.name, {})
        figures = [number(one.get(key)) for key in ("retrograd", "retrograd, eager", "share")]
        loop = "–" if one and "reference loop" not in one else number(one.get("reference loop"))
        rows.append(f"| {case.name} | {' | '.join(figures)} | {loop} | {verdict(case, found)} |")
    diagonal, dense = ([x for x in CASES if alone(x) and x.structure == one] for one in ("diagonal", "dense"))
    machine, limit = results["machine"], results["machine"]["limits"]
    note = (
        f"{machine['gpu']}, torch {machine['torch']}, Triton {machine['triton']}, commit {machine['commit']}; medians. "
        f"Limits of the same run: copy {limit['copy TB/s']:.2f} TB/s, float32 product {limit['gemm TFLOP/s']:.1f} "
        "TFLOP/s."
    )
    tables = [rows, peers_table(diagonal, gpu_peers.DIAGONAL, found), peers_table(dense, gpu_peers.DENSE, found)]
    titles = ["", "Peers of the diagonal, each call launched from Python:", "Peers of the dense:"]
    parts = ["\n".join([title, "", *table] if title else table) for title, table in zip(titles, tables, strict=True)]
    return "\n\n".join([*parts, note])


def write_table(results: dict[str, Any]) -> None:
    page = PAGE.read_text()
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{markdown(results)}\n{END}{after}")


def main() -> None:
    options = record.parser(__doc__)
    options.add_argument("--table", action="store_true", help="write docs/gpu.md's tables from the result file alone")
    options.add_argument("--only", default="", help="cases whose name holds this text")
    options.add_argument("--no-peers", action="store_true", help="ours, the loop and the limits alone")
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
    results: dict[str, Any] = {
        "machine": {
            "gpu": torch.cuda.get_device_name(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "triton": __import__("triton").__version__,
            "commit": commit(),
            "limits": limit,
        },
        "cases": {},
    }
    if chosen.only and chosen.out.exists():
        results["cases"] = kept(json.loads(chosen.out.read_text()), results["machine"])
    for case in CASES:
        if chosen.only not in case.name:
            continue
        torch.cuda.empty_cache()
        found = results["cases"][case.name] = measure(case, limit, not chosen.no_peers)
        print(case.name, json.dumps(found), verdict(case, results["cases"]), flush=True)
    print(markdown(results))
    if not chosen.dry_run:
        if not os.environ.get("RETROGRAD_COMMIT"):
            record.require_clean()
        write_whole(chosen.out, (json.dumps(results, indent=1, ensure_ascii=False) + "\n").encode())
        print(f"written to {chosen.out}")


def kept(results: dict[str, Any], machine: dict[str, Any]) -> dict[str, Any]:
    """Return the cases of a file if the same commit wrote it on the same GPU: limits differ by noise."""
    same = all(results["machine"][key] == machine[key] for key in ("gpu", "torch", "triton", "commit"))
    return dict(results["cases"]) if same else {}


if __name__ == "__main__":
    main()
