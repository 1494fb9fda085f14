"""Write the tables of README and its Chinese version from the committed result file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from benchmarks.run import RESULTS

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- bench: made by `make bench-table` -->", "<!-- bench end -->"


@dataclass(frozen=True)
class Words:
    """What the table says beside its numbers, in one language."""

    header: tuple[str, ...]
    loop: str
    microseconds: str
    bare: str
    note: str


ENGLISH = Words(
    header=("forward + backward", "retrograd, ms", "fastest peer, ms", "times faster", "of the machine's limit"),
    loop="torch loop",
    microseconds=", microseconds",
    bare="a Function that does nothing",
    note="Medians; {cpu}, {threads} threads, {instructions}, torch {torch}, commit {commit}. Limits measured in the "
    "same run: {stream} GB/s, {gemm} GFLOP/s (float32). Above 1, the arrays stay in the last cache in part, "
    "or the product that the limit is measured with, torch's, is slower. Every "
    "contender and the first calls: `{file}`.",
)
CHINESE = Words(
    header=("前向 + 反向", "retrograd，毫秒", "最快的同类实现，毫秒", "加速比", "占机器极限的比例"),
    loop="torch 循环",
    microseconds="，微秒",
    bare="什么都不做的 Function",
    note="均为中位数；{cpu}，{threads} 个线程，{instructions}，torch {torch}，提交 {commit}。极限在同一次运行中测得："
    "{stream} GB/s，{gemm} GFLOP/s（float32）。大于 1 时，数组有一部分留在末级缓存里，"
    "或者用来测极限的 torch 矩阵乘法更慢。"
    "所有参测实现和首次调用的时间见 `{file}`。",
)
PAGES = {ROOT / "README.md": ENGLISH, ROOT / "README.zh-CN.md": CHINESE}


def table(results: dict, words: Words) -> str:  # type: ignore[type-arg]
    machine, limits = results["machine"], results["limits"]
    lines = [f"| {' | '.join(words.header)} |", "|---|--:|--:|--:|--:|"]
    for row in results["scans"]:
        ours, peer = row["times"]["retrograd"]["median_ms"], row["fastest_peer"]
        name = words.loop if peer == "torch loop" else peer
        theirs = f"{row['times'][peer]['median_ms']:.3g} ({name})" if peer else "-"
        faster = f"{row['times_faster']:.1f}" if peer else "-"
        lines.append(f"| {row['case']} | {ours:.3g} | {theirs} | {faster} | {row['of_limit']:.2f} |")
    for row in results["bptt"]:
        lines.append(
            f"| {row['case']} | {row['bptt_ms']:.3g} | {row['loop_ms']:.3g} ({words.loop}) "
            f"| {row['times_faster']:.1f} | |"
        )
    for row in results["small_calls"]:
        lines.append(
            f"| {row['case']}{words.microseconds} | {row['microseconds']:.0f} | {row['bare_microseconds']:.0f} "
            f"({words.bare}) | {1 / row['ratio']:.2f} | |"
        )
    note = words.note.format(
        cpu=machine["cpu"],
        threads=machine["threads"],
        instructions=machine["instruction_set"],
        torch=machine["torch"],
        commit=machine["commit"],
        stream=f"{limits['stream_GB_s']:.0f}",
        gemm=f"{limits['gemm_f32_GFLOP_s']:.0f}",
        file="benchmarks/results/cpu.json",
    )
    return "\n".join([*lines, "", note])


def main() -> None:
    results = json.loads(RESULTS.read_text())
    for page, words in PAGES.items():
        text = page.read_text()
        if BEGIN not in text or END not in text:
            raise SystemExit(f"{page} lacks the lines {BEGIN} and {END}")
        head, rest = text.split(BEGIN, 1)
        tail = rest.split(END, 1)[1]
        page.write_text(f"{head}{BEGIN}\n{table(results, words)}\n{END}{tail}")


if __name__ == "__main__":
    main()
