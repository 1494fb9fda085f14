"""Draw docs/images/bench.png from the committed result file: every contender of every case, and the machine's limit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.run import RESULTS
from retrograd.pictures import palette

PICTURE = Path(__file__).parent.parent / "docs" / "images" / "bench.png"
# A colour and a marker each: told apart without colour too.
STYLE = {
    "jax scan": (palette.ORANGE, "s"),
    "jax associative_scan": (palette.VERMILLION, "D"),
    "philtorch": (palette.GREEN, "^"),
    "torchlpc": (palette.SKY, "v"),
    "torch loop": (palette.PURPLE, "o"),
    "torch associative_scan": ("#999999", "P"),
    "assoc-scan": ("#999999", "X"),
    "accelerated-scan ref": ("#999999", "*"),
}


def draw(results: dict[str, Any]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = results["scans"][::-1]
    figure, axes = pyplot.subplots(figsize=(10, 0.36 * len(rows) + 1.6), layout="constrained")
    seen: set[str] = set()

    def mark(name: str, x: float, y: int, **style: Any) -> None:
        axes.plot(x, y, label=None if name in seen else name, linestyle="", **style)
        seen.add(name)

    for y, row in enumerate(rows):
        for name, (color, marker) in STYLE.items():
            if name in row["times"]:
                mark(name, row["times"][name]["median_ms"], y, color=color, marker=marker, markersize=6)
        mark("retrograd", row["times"]["retrograd"]["median_ms"], y, color=palette.BLUE, marker="o", markersize=9)
        mark("machine's limit", row["limit_ms"], y, color="black", marker="|", markersize=14, markeredgewidth=2)
    axes.set_xscale("log")
    axes.set_yticks(range(len(rows)), [row["case"] for row in rows])
    axes.set_xlabel("forward + backward, milliseconds (median; logarithmic)")
    axes.grid(axis="x", which="both", alpha=0.25)
    axes.set_title(f"(batch, time, width) on {results['machine']['cpu']}, {results['machine']['threads']} threads")
    figure.legend(loc="outside lower center", ncols=5, frameon=False)
    figure.savefig(PICTURE, dpi=100)


if __name__ == "__main__":
    draw(json.loads(RESULTS.read_text()))
