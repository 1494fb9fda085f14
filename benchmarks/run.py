"""Measure every case with every contender in one run; print the table and write the results.

python -m benchmarks.run [--only TEXT] [--out FILE] [--seconds S] [--longest S] [--dry-run]
"""

from __future__ import annotations

import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import retrograd as rg
from benchmarks import limits, record, seed, small
from benchmarks.cases import CASES, Case
from benchmarks.contenders import CONTENDERS, NOT_COUNTED

RESULTS = Path(__file__).parent / "results" / "cpu.json"
# A contender that needs more than so many times the slowest other one is a dash.
TOO_SLOW = 20


def seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    result = call()
    elapsed = time.perf_counter() - start
    del result
    return elapsed


@contextmanager
def at_most(allowed: float) -> Iterator[None]:
    """Raise TimeoutError in what runs longer than ``allowed`` seconds, at its next step in Python."""

    def stop(*_: Any) -> None:
        raise TimeoutError(f"a call takes more than {allowed:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, allowed)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def too_slow(once: dict[str, float]) -> dict[str, str]:
    """Return, of peers' seconds for one call, those beyond TOO_SLOW times the slowest other, with the reason."""
    found = {}
    for name, took in once.items():
        slowest = max((other for at, other in once.items() if at != name), default=took)
        if took > TOO_SLOW * slowest:
            found[name] = f"a call takes {took:.3g} s, more than {TOO_SLOW} times the slowest other ({slowest:.3g} s)"
    return found


def interleaved(
    calls: dict[str, Callable[[], Any]], budget: float, longest: float
) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """Time the calls in turn, round after round: the machine's drift meets them all. The first call stands apart.

    What is timed is the steady state, as of a training loop: the sixth call in a row, or the first after 60 ms of
    calls. Those before it wake threads that slept while others ran, and bring back their caches.

    A peer that raises is a dash with its message, not the end of the run; so is one that takes ``longest`` seconds for
    a call, or too long beside the others.
    """
    first: dict[str, float] = {}
    once: dict[str, float] = {}
    failures: dict[str, str] = {}
    rg.empty_cache()
    for name, call in calls.items():
        try:
            with at_most(longest):
                first[name] = seconds(call)
            with at_most(longest):
                once[name] = seconds(call)
        except Exception as error:
            if name == "retrograd":
                raise
            failures[name] = f"{type(error).__name__}: {error}"
    failures |= too_slow({name: took for name, took in once.items() if name != "retrograd"})
    calls = {name: call for name, call in calls.items() if name not in failures}
    times: dict[str, list[float]] = {name: [] for name in calls}
    spent = dict.fromkeys(calls, 0.0)
    for round_ in range(15):
        for name, call in calls.items():
            if round_ >= 3 and spent[name] > budget:
                continue
            warm = 0.0
            for _ in range(5):
                if warm < 0.06:
                    warm += seconds(call)
            times[name].append(seconds(call))
            spent[name] += warm + times[name][-1]
    summary = {
        name: {
            "median_ms": statistics.median(t) * 1e3,
            "min_ms": min(t) * 1e3,
            "max_ms": max(t) * 1e3,
            "first_ms": first[name] * 1e3,
            "runs": len(t),
        }
        for name, t in times.items()
    }
    return summary, failures


def peak_extra_bytes(call: Callable[[], Any], results: int) -> int | None:
    """Return the most resident memory beyond inputs and results (Linux; the pool emptied first)."""
    clear = Path("/proc/self/clear_refs")
    if not clear.exists():
        return None
    call()
    rg.empty_cache()
    clear.write_text("5")
    before = _status("VmRSS")
    call()
    return max(0, _status("VmHWM") - before - results)


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {field} in /proc/self/status")


def measure(case: Case, budget: float, longest: float) -> dict[str, Any]:
    arrays = case.inputs()
    calls = {}
    for name, make in CONTENDERS.items():
        call = make(case, arrays)
        if call is not None:
            calls[name] = call
    times, failures = interleaved(calls, budget, longest)
    peak = peak_extra_bytes(calls["retrograd"], case.result_bytes())
    ours = times["retrograd"]["median_ms"]
    peers = {name: t["median_ms"] for name, t in times.items() if name not in {"retrograd", *NOT_COUNTED}}
    fastest = min(peers, key=lambda name: peers[name]) if peers else None
    return {
        "case": case.name,
        "times": times,
        "failures": failures,
        "fastest_peer": fastest,
        "times_faster": peers[fastest] / ours if fastest else None,
        "peak_extra_bytes": peak,
    }


def show(console: Console, results: dict[str, Any]) -> None:
    table = Table(title="forward and backward, milliseconds: median (min to max)")
    columns = ("case", "first call", "retrograd", "fastest peer", "times faster", "of the limit", "extra MB")
    for column in columns:
        table.add_column(column, justify="left" if column == "case" else "right")
    for row in results["scans"]:
        ours = row["times"]["retrograd"]
        peer = row["fastest_peer"]
        table.add_row(
            row["case"],
            f"{ours['first_ms']:.2f}",
            f"{ours['median_ms']:.2f} ({ours['min_ms']:.2f} to {ours['max_ms']:.2f})",
            f"{row['times'][peer]['median_ms']:.2f} {peer}" if peer else "-",
            f"{row['times_faster']:.1f}" if peer else "-",
            f"{row['of_limit']:.2f}",
            "-" if row["peak_extra_bytes"] is None else f"{row['peak_extra_bytes'] / 1e6:.0f}",
        )
    console.print(table)
    console.print(results["limits"])
    for row in results["bptt"]:
        console.print(
            f"{row['case']}: bptt {row['bptt_ms']:.2f} ms, loop with autograd {row['loop_ms']:.2f} ms,"
            f" {row['times_faster']:.1f} times faster"
        )
    for row in results["small_calls"]:
        console.print(
            f"{row['case']}: {row['microseconds']:.0f} microseconds, a Function that does nothing"
            f" {row['bare_microseconds']:.0f}, ratio {row['ratio']:.2f}"
        )


def main() -> None:
    parser = record.parser(__doc__)
    parser.add_argument("--only", default="", help="measure only the cases whose name contains this")
    parser.add_argument("--out", type=Path, default=RESULTS, help="result file (only written when all cases are)")
    parser.add_argument("--seconds", type=float, default=3.0, help="time to spend on each contender of a case")
    parser.add_argument("--longest", type=float, default=60.0, help="seconds after which a call of a peer is given up")
    options = parser.parse_args()
    writes = not (options.only or options.dry_run)
    if writes:
        record.require_clean()
    machine = record.machine()
    console = Console(width=140)
    machine_limits = limits.measure()
    console.print(machine, machine_limits)
    results: dict[str, Any] = {
        "machine": machine,
        "limits": machine_limits,
        "scans": [],
        "bptt": [],
        "small_calls": [],
    }
    cases = [case for case in CASES if options.only in case.name]
    measured_limits = [limits.measure()]
    for i, case in enumerate(cases):
        if i == len(cases) // 2:
            measured_limits.append(limits.measure())
        results["scans"].append(measure(case, options.seconds, options.longest))
        times = results["scans"][-1]["times"]
        console.print(case.name, {name: round(t["median_ms"], 2) for name, t in times.items()})
        for name, message in results["scans"][-1]["failures"].items():
            console.print(f"  {name}: {message[:200]}")
    if options.only in seed.NAME:
        results["bptt"].append(seed.measure())
    if options.only in small.NAME:
        results["small_calls"] += small.measure()
    # The machine drifts: its limits are those of the beginning, the middle and the end, the median of each.
    measured_limits.append(limits.measure())
    for name in measured_limits[0]:
        results["limits"][name] = statistics.median(m[name] for m in measured_limits)
    for case, row in zip(cases, results["scans"], strict=True):
        row["limit_ms"] = case.limit_ms(results["limits"])
        row["of_limit"] = row["limit_ms"] / row["times"]["retrograd"]["median_ms"]
    show(console, results)
    if writes:
        record.write(options.out, results)


if __name__ == "__main__":
    main()
