"""JapaneseVowels: nine speakers say two vowels; 7 to 29 steps of 12 numbers come in, the speaker is to come out.

    python examples/tasks/japanese_vowels.py [--layer MinGRU] [--archive FOLDER]

270 utterances to train on, 370 others to try. sktime ships them; ``--archive`` is a folder with JapaneseVowels_TRAIN.ts
and JapaneseVowels_TEST.ts from elsewhere.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

import task

EPOCHS, BATCH = 80, 30


def read(path: Path) -> tuple[Tensor, Tensor, Tensor]:
    """Return padded series ``(count, time, 12)``, their lengths and their classes from 0, of a .ts file."""
    lines = path.read_text().splitlines()
    series, classes = [], []
    for line in lines[lines.index("@data") + 1 :]:
        *dimensions, label = line.split(":")
        series.append(torch.tensor([[float(v) for v in one.split(",")] for one in dimensions]).T)
        classes.append(int(label) - 1)
    return pad_sequence(series, batch_first=True), torch.tensor([len(one) for one in series]), torch.tensor(classes)


def folder(archive: str | None) -> Path:
    """Return where the files are."""
    if archive is not None:
        return Path(archive)
    found = importlib.util.find_spec("sktime")
    if found is None or found.origin is None:
        raise SystemExit("sktime, which ships JapaneseVowels, is not installed: install it, or give --archive a folder")
    return Path(found.origin).parent / "datasets" / "data" / "JapaneseVowels"


def compute(seed: int = 0, layer: str = "MinGRU", archive: str | None = None, epochs: int = EPOCHS) -> task.Result:
    """Train on the training utterances, score on the others."""
    x, lengths, speaker = read(folder(archive) / "JapaneseVowels_TRAIN.ts")
    tried, tried_lengths, tried_speaker = read(folder(archive) / "JapaneseVowels_TEST.ts")
    steps = torch.cat([one[:n] for one, n in zip(x, lengths, strict=True)])
    mean, scale = steps.mean(0), steps.std(0)
    net = task.model(layer, 12, 9, seed, width=64, depth=1, dropout=0.3, pooling="mean", bidirectional=True)
    rows = task.batches(len(x), BATCH, seed)
    noise = torch.Generator().manual_seed(seed)
    result = task.Result("JapaneseVowels", layer, "accuracy", net)

    def score() -> float:
        y, _ = net((tried - mean) / scale, lengths=tried_lengths)
        return (y.argmax(-1) == tried_speaker).double().mean().item()

    def draw(step: int) -> task.Batch:
        at = rows(step)
        given = (x[at] - mean) / scale
        return given + 0.2 * torch.randn(given.shape, generator=noise), speaker[at], lengths[at]

    count = epochs * (len(x) // BATCH)
    return task.train(result, draw, nn.functional.cross_entropy, score, steps=count, decay=0.1, every=150)


if __name__ == "__main__":
    task.main(__doc__, "japanese_vowels", compute, "MinGRU", archive="a folder with the .ts files")
