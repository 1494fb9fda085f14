"""What time over ranks costs: 1, 2 and 4 of them here, and by a model fitted to that up to 1,024. `make scaling`.

Every rank has one thread. One rank runs `rg.scan`, several run `rg.distributed.scan` over gloo; forward and backward, u
and A with gradients. The model is

    time(R) = passes · (T / R) · step + 2 · rounds(R) · (latency + bytes / bandwidth)

with the step's time from one rank, latency and bandwidth from messages of many sizes between two ranks, and the passes
over a stretch that follow one another in either direction. Where stretches forget what enters them it is 1. Where they
do not it is 2, however many ranks there are: the exchange waits for the first rank, which runs its stretch once, while
the others run theirs for its end alone; after it they run theirs again.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

import retrograd as rg
from benchmarks import record
from retrograd.distributed.ranks import HEADER, Message, ranks_of
from retrograd.pictures import palette

RESULT = Path(__file__).parent / "results" / "scaling.json"
PAGE = Path(__file__).parent.parent / "docs" / "scaling.md"
PICTURE = Path(__file__).parent.parent / "docs" / "images" / "scaling.png"
BEGIN, END = "<!-- scaling: made by `make scaling` -->", "<!-- scaling end -->"
RANKS = (1, 2, 4)
ROUNDS, REPEATS = 3, 5
# Name, structure, time, width, whether transitions forget within a stretch, and the speed-up of two ranks asked for.
CASES = [
    ("diagonal, forgets", "diagonal", 4_194_304, 64, True, 1.7),
    ("diagonal, remembers", "diagonal", 4_194_304, 64, False, 1.1),
    ("dense, forgets", "dense", 262_144, 128, True, 1.6),
]
SIZES = [1 << k for k in range(3, 20, 2)]  # numbers in a message
SIMULATED, SIMULATED_STEPS = 1024, 8
MOST_STEPS = 10**9


def transition(structure: str, width: int, forgets: bool) -> rg.Diagonal | rg.Dense:
    generator = torch.Generator().manual_seed(0)
    if structure == "dense":
        W = torch.randn(width, width, generator=generator)
        return rg.Dense(W / torch.linalg.matrix_norm(W, 2) * 0.99)
    a = torch.rand(width, generator=generator)
    return rg.Diagonal(0.9 + 0.099 * a if forgets else 1 - 1e-8 * a)


def one_rank(rank: int, ranks: int, case: tuple[Any, ...], folder: str, number: int) -> None:
    """Write the seconds of each repetition, from the moment that all ranks begin until all have ended."""
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store{number}", ranks)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=ranks, timeout=timedelta(seconds=300))
    _, structure, time_steps, width, forgets, _ = case
    A = transition(structure, width, forgets)
    A.tensors[0].requires_grad_()
    generator = torch.Generator().manual_seed(rank)
    steps = time_steps // ranks
    u = torch.randn(1, steps, width, generator=generator).requires_grad_()
    g = torch.randn(1, steps, width, generator=generator)
    seconds, sent = [], (0, 0)
    for _ in range(REPEATS + 1):
        u.grad = A.tensors[0].grad = None
        dist.barrier()
        begun = time.perf_counter()
        scan = rg.scan if ranks == 1 else rg.distributed.scan
        before = (0, 0) if ranks == 1 else tuple(rg.distributed.traffic())
        states, _ = scan(A, u)
        states.backward(g)
        after = (0, 0) if ranks == 1 else tuple(rg.distributed.traffic())
        dist.barrier()
        seconds.append(time.perf_counter() - begun)
        sent = after[0] - before[0], after[1] - before[1]
        del states
    if rank == 0:
        found = {"seconds": seconds[1:], "messages": sent[0], "bytes": sent[1]}
        Path(f"{folder}/{number}.json").write_text(json.dumps(found))
    dist.barrier()
    os._exit(0)  # the store's file is gone before the group would be taken down


def between_two(rank: int, folder: str) -> None:
    """Write the seconds of a message each way, for every size."""
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/messages", 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=timedelta(seconds=60))
    ranks, other, rows = ranks_of(), 1 - rank, []
    for size in SIZES:
        message, found = Message("a message", torch.zeros(size, dtype=torch.float64)), []
        for _ in range(60):
            begun = time.perf_counter()
            ranks.swap(other, message, other, 60.0)
            ranks.finish(60.0)
            found.append(time.perf_counter() - begun)
        rows.append({"bytes": HEADER + 8 * size, "seconds": statistics.median(found[10:])})
    if rank == 0:
        Path(f"{folder}/messages.json").write_text(json.dumps(rows))
    dist.barrier()
    os._exit(0)


def in_processes(count: int, work: Any, *args: Any) -> None:
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(["retrograd", "torch.distributed"])
    processes = [context.Process(target=work, args=(rank, *args)) for rank in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise SystemExit("a rank has failed: see above")


def measured(folder: str, shrink: int) -> list[dict[str, Any]]:
    """Return what each case takes on every number of ranks, which take turns."""
    rows, number = [], 0
    for name, structure, steps, width, forgets, wanted in CASES:
        case = (name, structure, steps // shrink, width, forgets, wanted)
        found: dict[int, list[float]] = {ranks: [] for ranks in RANKS}
        sent: dict[int, dict[str, int]] = {}
        for _ in range(ROUNDS):
            for ranks in RANKS:
                number += 1
                in_processes(ranks, one_rank, ranks, case, folder, number)
                one = json.loads(Path(f"{folder}/{number}.json").read_text())
                found[ranks].append(statistics.median(one["seconds"]))
                sent[ranks] = {"messages": one["messages"], "bytes": one["bytes"]}
        seconds = {ranks: statistics.median(times) for ranks, times in found.items()}
        row = {
            "case": name,
            "structure": structure,
            "shape": [1, steps // shrink, width],
            "forgets": forgets,
            "seconds": seconds,
            "speedup": {ranks: seconds[1] / seconds[ranks] for ranks in RANKS},
            "sent": sent,
            "wanted": wanted,
        }
        rows.append(row)
        print(name, {ranks: f"{x:.3f} s, {seconds[1] / x:.2f}x" for ranks, x in seconds.items()}, sent[2])
    return rows


def fitted(messages: list[dict[str, float]]) -> dict[str, float]:
    """Return latency and bandwidth: the line through the messages' times that is nearest relative to each."""
    x = torch.tensor([[1.0, m["bytes"]] for m in messages], dtype=torch.float64)
    y = torch.tensor([m["seconds"] for m in messages], dtype=torch.float64)
    latency, a_byte = (float(v) for v in torch.linalg.lstsq(x / y.unsqueeze(1), torch.ones_like(y)).solution)
    return {"latency_s": max(latency, 1e-9), "bandwidth_B_s": 1 / max(a_byte, 1e-15)}


def rounds(ranks: int) -> int:
    """Return how many messages one after the other an exchange has."""
    power = 1 << (ranks.bit_length() - 1)
    return int(math.log2(power)) + (0 if power == ranks else 3)


def model(row: dict[str, Any], link: dict[str, float], ranks: int, steps: int) -> tuple[float, float]:
    """Return the seconds of the steps and of the messages."""
    step = row["seconds"][1] / row["shape"][1]
    passes = 1 if row["forgets"] or ranks == 1 else 2
    size = row["sent"][2]["bytes"] / 2
    messages = 2 * rounds(ranks) * (link["latency_s"] + size / link["bandwidth_B_s"])
    return passes * steps / ranks * step, messages


def carried_on(row: dict[str, Any], link: dict[str, float]) -> dict[str, Any]:
    """Return what the model says of more ranks: of this length, of 10^9 steps, and from where on ranks do not pay."""
    counts = [1 << k for k in range(11)]

    def seconds(ranks: int, steps: int) -> float:
        return sum(model(row, link, ranks, steps))

    lines = {}
    for steps in (row["shape"][1], MOST_STEPS):
        lines[str(steps)] = {ranks: seconds(ranks, steps) for ranks in counts}
    # Half of the time goes into messages: there twice the ranks give little.
    half = {
        steps: next(
            (r for r in counts if model(row, link, r, int(steps))[1] > model(row, link, r, int(steps))[0]), None
        )
        for steps in lines
    }
    return {"case": row["case"], "seconds": lines, "half_at": half}


def simulated() -> dict[str, Any]:
    """Return what 1,024 ranks, threads of this process, sent, and how far their result is from that of one."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(1, SIMULATED * SIMULATED_STEPS, 4, generator=generator, dtype=torch.float64)
    a = torch.rand(4, generator=generator, dtype=torch.float64)

    def work(ranks: rg.distributed.Ranks) -> tuple[torch.Tensor, torch.Tensor, tuple[int, int]]:
        at = slice(ranks.rank * SIMULATED_STEPS, (ranks.rank + 1) * SIMULATED_STEPS)
        stretch = u[:, at].clone().requires_grad_()
        states, _ = rg.distributed.scan(rg.Diagonal(a), stretch, group=ranks, timeout=600)
        states.square().sum().backward()
        assert stretch.grad is not None
        return states.detach(), stretch.grad, tuple(ranks.sent)

    found = rg.distributed.simulate(SIMULATED, work)
    whole = u.clone().requires_grad_()
    states, _ = rg.scan(rg.Diagonal(a), whole)
    states.square().sum().backward()
    assert whole.grad is not None
    off = [
        float((torch.cat([one[i] for one in found], 1) - want).abs().max() / want.abs().max())
        for i, want in enumerate((states.detach(), whole.grad))
    ]
    return {
        "ranks": SIMULATED,
        "messages_a_rank": max(one[2][0] for one in found),
        "bytes_a_rank": max(one[2][1] for one in found),
        "off_states": off[0],
        "off_gradient": off[1],
    }


def table(results: dict[str, Any]) -> str:
    machine, link = results["machine"], results["link"]
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores, torch {machine['torch']}, commit {machine['commit']}; a rank has",
        "one thread; seconds of forward and backward (and how many times as fast as one rank).",
        "",
        "| case | shape | 1 rank | 2 ranks | 4 ranks | messages, bytes of a rank of 2 |",
        "|---|---|---|---|---|---|",
    ]
    for row in results["cases"]:
        times = [f"{row['seconds'][r]:.3f}" + (f" ({row['speedup'][r]:.2f}×)" if r > 1 else "") for r in RANKS]
        sent = row["sent"][2]
        shape = "({},{},{})".format(*row["shape"])
        lines.append(f"| {row['case']} | {shape} | {' | '.join(times)} | {sent['messages']}, {sent['bytes']:,} |")
    lines += [
        "",
        f"A message takes {link['latency_s'] * 1e6:.0f} µs and {link['bandwidth_B_s'] / 1e9:.2f} GB/s (gloo, here).",
        "By the model of `benchmarks/scaling.py`, were every rank a core of its own with such a link:",
        "",
        "| case | steps | 16 ranks | 128 ranks | 1,024 ranks | messages take half from |",
        "|---|---|---|---|---|---|",
    ]
    for one in results["model"]:
        for steps, seconds in one["seconds"].items():
            cells = [f"{seconds[r]:.3g} s ({seconds[1] / seconds[r]:.0f}×)" for r in (16, 128, 1024)]
            half = one["half_at"][steps]
            from_ranks = "more than 1,024 ranks" if half is None else f"{half:,} ranks"
            lines.append(f"| {one['case']} | {int(steps):,} | {' | '.join(cells)} | {from_ranks} |")
    s = results["simulated"]
    lines += [
        "",
        f"{s['ranks']:,} ranks as threads of one process, forward and backward: {s['messages_a_rank']} messages and "
        f"{s['bytes_a_rank']:,} bytes a rank; states off by {s['off_states']:.1g}, the gradient by "
        f"{s['off_gradient']:.1g} of the largest.",
        "",
        "![Speed-up by ranks, measured and by the model](images/scaling.png)",
    ]
    return "\n".join(lines)


def draw(results: dict[str, Any]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    colors = (palette.BLUE, palette.ORANGE, palette.GREEN)
    for row, one, color in zip(results["cases"], results["model"], colors, strict=True):
        left.plot(RANKS, [row["speedup"][r] for r in RANKS], "o-", color=color, label=row["case"])
        for steps, style in zip(one["seconds"], ("--", "-"), strict=True):
            seconds = {int(r): x for r, x in one["seconds"][steps].items()}
            label = f"{one['case']}, {int(steps):,} steps"
            right.plot(list(seconds), [seconds[1] / x for x in seconds.values()], style, color=color, label=label)
    cores = results["machine"]["cores"]
    left.axvline(cores, color="black", linewidth=0.8, linestyle=":")
    left.set(xlabel="ranks of one thread", ylabel="times as fast as one rank", title=f"measured, {cores} cores")
    left.set_ylim(bottom=0)
    left.legend(frameon=False)
    right.plot([1, 1024], [1, 1024], color="black", linewidth=0.8, linestyle=":")
    right.set(xscale="log", yscale="log", xlabel="ranks", title="by the model, a core a rank")
    right.legend(frameon=False, fontsize="small")
    figure.savefig(PICTURE, dpi=100)
    pyplot.close(figure)


def main() -> None:
    parser = record.parser(__doc__)
    parser.add_argument("--shrink", type=int, default=1, help="divide every length, to see that it runs")
    chosen = parser.parse_args()
    if not chosen.dry_run:
        record.require_clean()
    results: dict[str, Any] = {"machine": record.machine()}
    with tempfile.TemporaryDirectory() as folder:
        in_processes(2, between_two, folder)
        messages = json.loads(Path(f"{folder}/messages.json").read_text())
        results["messages"], results["link"] = messages, fitted(messages)
        results["cases"] = measured(folder, chosen.shrink)
    results["model"] = [carried_on(row, results["link"]) for row in results["cases"]]
    results["simulated"] = simulated()
    print(table(results))
    for row in results["cases"]:
        met = row["speedup"][2] >= row["wanted"]
        print(f"{row['case']}: two ranks {row['speedup'][2]:.2f}x, at least {row['wanted']}x: {'yes' if met else 'NO'}")
    if chosen.dry_run:
        return
    record.write(RESULT, results)
    text = PAGE.read_text()
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{table(results)}\n{END}{after}")
    draw(results)


if __name__ == "__main__":
    main()
