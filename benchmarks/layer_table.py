"""Write the table of docs/choose-a-layer.md from the committed result files. `make bench-table`."""

from __future__ import annotations

import json
from typing import Any

from benchmarks import layers, tasks
from benchmarks.record import ROOT

PAGE = ROOT / "docs" / "choose-a-layer.md"
BEGIN, END = "<!-- layers: made by `make bench-table` -->", "<!-- layers end -->"
# What a layer is: its transition, and the numbers of its state.
PROPERTIES = {
    "LRU": ("the same at every step, complex", "N complex"),
    "S5": ("the same at every step, complex", "N complex"),
    "S4D": ("the same at every step, complex, a feature's own", "N/2 complex a feature"),
    "LinearRNN": ("the same at every step, dense", "H"),
    "MinGRU": ("a gate", "H"),
    "MinLSTM": ("two gates, normalised", "H"),
    "RGLRU": ("a gate on a learned decay", "H"),
    "HGRN": ("a gate above a learned bound, complex", "H complex"),
    "QRNN": ("a gate that reads a window", "H, and the window"),
    "SRU": ("a gate, and a highway", "H"),
    "linear": ("LRU without a nonlinearity", "N complex"),
}
# Column of each task: its heading, its number in the result file, how it is shown.
COLUMNS = {
    "copy_memory": ("copy memory", "accuracy", "{:.1%}"),
    "adding": ("adding, error", "mean squared error", "{:.3g}"),
    "selective_copy": ("selective copy", "accuracy", "{:.1%}"),
    "associative_recall": ("recall", "accuracy", "{:.1%}"),
    "addition": ("sums of 1,000 bits", "exact sums of 1000 bits", "{:.0%}"),
    "digits": ("digits", "accuracy", "{:.1%}"),
    "japanese_vowels": ("JapaneseVowels", "accuracy", "{:.1%}"),
    "characters": ("characters, bits", "bits a character", "{:.2f}"),
    "fashion": ("Fashion-MNIST", "accuracy", "{:.1%}"),
}


def results() -> dict[str, dict[str, dict[str, Any]]]:
    """Return the rows of every task's result file, by task and layer."""
    found = {}
    for name in tasks.TASKS:
        path = tasks.RESULTS / f"{name}.json"
        if path.exists():
            found[name] = {row["layer"]: row for row in json.loads(path.read_text())["rows"]}
    return found


def reached(found: dict[str, dict[str, dict[str, Any]]]) -> str:
    """Return the table of what every layer reaches."""
    shown = [name for name in COLUMNS if name in found]
    lines = [
        f"| layer | transition | state | {' | '.join(COLUMNS[name][0] for name in shown)} |",
        "|---|---|---|" + "--:|" * len(shown),
    ]
    for layer, properties in PROPERTIES.items():
        cells = []
        for name in shown:
            _, number, form = COLUMNS[name]
            cells.append(form.format(found[name][layer][number]) if layer in found[name] else "")
        lines.append(f"| {layer} | {' | '.join(properties)} | {' | '.join(cells)} |")
    machines = [json.loads((tasks.RESULTS / f"{name}.json").read_text())["machine"] for name in shown]
    commits = ", ".join(sorted({machine["commit"] for machine in machines}))
    note = f"One seed each; an empty cell was not tried. Every figure: `benchmarks/results/tasks`, commit {commits}."
    return "\n".join([*lines, "", note])


def steps_to_lru(found: dict[str, dict[str, dict[str, Any]]]) -> str:
    """Return the table of what each step from a dense matrix to LRU brings."""
    lines = ["| digits in 784 steps | accuracy | of each seed |", "|---|--:|---|"]
    for layer, row in found["long_digits"].items():
        each = ", ".join(f"{value:.1%}" for value in row["each seed"])
        lines.append(f"| {layer} | {row['accuracy']:.1%} | {each} |")
    commit = json.loads((tasks.RESULTS / "long_digits.json").read_text())["machine"]["commit"]
    return "\n".join([*lines, "", f"`examples/tasks/long_digits.py`, commit {commit}."])


def _ms(time: float) -> str:
    return f"{time:,.0f}" if time >= 100 else f"{time:.3g}"


def speeds() -> str:
    """Return the table of what a training step costs."""
    measured = json.loads(layers.RESULT.read_text())
    lines = [
        "| layer | step, ms | its products, ms | authors' or usual way, ms | times faster | fastest other way, ms "
        "| times faster | activations kept |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in measured["layers"]:
        usual, fastest = row["usual"], row["fastest_contender"]
        ours, *others = (row["times"][way]["median_ms"] for way in ("retrograd", usual, fastest))
        alone = row.get("products_ms")
        lines.append(
            f"| {row['layer']} | {_ms(ours)} | {'' if alone is None else _ms(alone)} "
            f"| {_ms(others[0])} ({usual}) | {row['times_faster']:.1f} "
            f"| {_ms(others[1])} ({fastest}) | {row['times_faster_than_it']:.1f} | {row['activations_kept']:.1f} |"
        )
    machine, shape = measured["machine"], ",".join(map(str, measured["shape"]))
    note = (
        f"Forward and backward of ({shape}) float32, medians; {machine['cpu']}, {machine['threads']} threads, torch "
        f"{machine['torch']}, commit {machine['commit']}: `benchmarks/results/layers.json`."
    )
    return "\n".join([*lines, "", note])


def main() -> None:
    text = PAGE.read_text()
    if BEGIN not in text or END not in text:
        raise SystemExit(f"{PAGE} lacks the lines {BEGIN} and {END}")
    head, rest = text.split(BEGIN, 1)
    found = results()
    parts = [
        reached(found),
        *([steps_to_lru(found)] if "long_digits" in found else []),
        *([speeds()] if layers.RESULT.exists() else []),
    ]
    made = "\n\n".join(parts)
    PAGE.write_text(f"{head}{BEGIN}\n{made}\n{END}{rest.split(END, 1)[1]}")


if __name__ == "__main__":
    main()
