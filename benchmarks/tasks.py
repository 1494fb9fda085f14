"""Train the tasks of examples/tasks with the layers that this names, and write what they reach: `make bench-tasks`.

python -m benchmarks.tasks [TASK ...] [--archive FOLDER] [--dry-run]

Each task has a result file of its own, so that one can be measured again. ``--archive`` has Fashion-MNIST's files; the
task is left out without them. Processor seconds are those of one thread where OMP_NUM_THREADS is 1.
"""

from __future__ import annotations

import importlib
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks import record

RESULTS = Path(__file__).parent / "results" / "tasks"
# Tasks, the layers that are trained on them, and the seeds.
TASKS: dict[str, tuple[str, ...]] = {
    "copy_memory": ("LRU", "S5", "S4D", "LinearRNN", "MinGRU", "MinLSTM", "RGLRU", "HGRN", "QRNN", "SRU"),
    "adding": ("linear", "LRU", "S5", "MinGRU", "MinLSTM", "RGLRU", "HGRN", "QRNN", "SRU"),
    "selective_copy": ("LRU", "MinGRU", "MinLSTM", "RGLRU", "HGRN", "QRNN", "SRU"),
    "associative_recall": ("LRU", "MinGRU", "QRNN", "SRU"),
    "addition": ("QRNN", "MinGRU", "LRU"),
    "digits": ("LRU", "S5", "S4D", "MinGRU", "MinLSTM", "RGLRU", "HGRN", "QRNN", "SRU"),
    "japanese_vowels": ("LRU", "S5", "S4D", "LinearRNN", "MinGRU", "MinLSTM", "RGLRU", "HGRN", "QRNN", "SRU"),
    "characters": ("MinGRU", "QRNN"),
    "fashion": ("LRU",),
    "long_digits": ("dense", "diagonal", "exponential", "ring", "LRU"),
}
# Of how many seeds a task's score is the mean, where it is not one.
SEEDS = {"long_digits": 3}


def main() -> None:
    parser = record.parser(__doc__)
    parser.add_argument("tasks", nargs="*", choices=[[], *TASKS], help="all by default")
    parser.add_argument("--archive", help="the folder of Fashion-MNIST's files")
    parser.add_argument("--layers", nargs="*", help="these alone; nothing is written")
    options = parser.parse_args()
    writes = not (options.dry_run or options.layers)
    if writes:
        record.require_clean()
    sys.path.insert(0, str(record.ROOT / "examples" / "tasks"))
    for name in options.tasks or TASKS:
        module, rows, machine = importlib.import_module(name), [], record.machine()
        given: dict[str, Any] = {"archive": options.archive} if name == "fashion" and options.archive else {}
        for layer in options.layers or TASKS[name]:
            try:
                results = [module.compute(seed=seed, layer=layer, **given) for seed in range(SEEDS.get(name, 1))]
            except SystemExit as missing:
                print(f"{name} is left out: {missing}")
                break
            result = results[0]
            rows.append({"layer": layer, "score": result.score, **result.figures()})
            if len(results) > 1:
                each = [one.figures()[result.score] for one in results]
                rows[-1] |= {result.score: statistics.mean(each), "each seed": each}
            print(name, rows[-1], flush=True)
        if writes and rows:
            record.write(RESULTS / f"{name}.json", {"machine": machine, "task": result.task, "rows": rows})


if __name__ == "__main__":
    main()
