"""Write README's table from the committed result file."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.run import RESULTS

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- bench: made by `make bench-table` -->", "<!-- bench end -->"


def table(results: dict) -> str:  # type: ignore[type-arg]
    machine, limits = results["machine"], results["limits"]
    lines = [
        "| forward + backward | retrograd, ms | fastest peer, ms | times faster | of the machine's limit |",
        "|---|--:|--:|--:|--:|",
    ]
    for row in results["scans"]:
        ours, peer = row["times"]["retrograd"]["median_ms"], row["fastest_peer"]
        theirs = f"{row['times'][peer]['median_ms']:.3g} ({peer})" if peer else "-"
        faster = f"{row['times_faster']:.1f}" if peer else "-"
        lines.append(f"| {row['case']} | {ours:.3g} | {theirs} | {faster} | {row['of_limit']:.2f} |")
    for row in results["bptt"]:
        lines.append(
            f"| {row['case']} | {row['bptt_ms']:.3g} | {row['loop_ms']:.3g} (torch loop) "
            f"| {row['times_faster']:.1f} | |"
        )
    for row in results["small_calls"]:
        lines.append(
            f"| {row['case']}, microseconds | {row['microseconds']:.0f} | {row['bare_microseconds']:.0f} "
            f"(a Function that does nothing) | {1 / row['ratio']:.2f} | |"
        )
    lines += [
        "",
        f"Medians; {machine['cpu']}, {machine['threads']} threads, {machine['instruction_set']}, torch "
        f"{machine['torch']}, commit {machine['commit']}. Limits measured in the same run: "
        f"{limits['stream_GB_s']:.0f} GB/s, {limits['gemm_f32_GFLOP_s']:.0f} GFLOP/s (float32). "
        "Above 1, the arrays stay in the last cache in part. "
        "Every contender and the first calls: `benchmarks/results/cpu.json`.",
    ]
    return "\n".join(lines)


def main() -> None:
    text = README.read_text()
    if BEGIN not in text or END not in text:
        raise SystemExit(f"{README} lacks the lines {BEGIN} and {END}")
    head, rest = text.split(BEGIN, 1)
    tail = rest.split(END, 1)[1]
    README.write_text(f"{head}{BEGIN}\n{table(json.loads(RESULTS.read_text()))}\n{END}{tail}")


if __name__ == "__main__":
    main()
