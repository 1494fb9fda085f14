"""Sequential Fashion-MNIST: the 784 pixels of an image come in one by one; which of ten garments it is, is to come out.

    python examples/tasks/fashion.py [--layer LRU] [--archive FOLDER]

The four files of the data set, train-images-idx3-ubyte.gz and so on, lie in a folder: by default where Debian's package
dataset-fashion-mnist puts them. 60,000 images to train on, 10,000 to try. Half an hour on one core.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import torch
from torch import Tensor, nn

import task

DEBIAN = "/usr/share/datasets/fashion-mnist"
EPOCHS, BATCH = 10, 50


def read(path: Path) -> Tensor:
    """Return the bytes of an idx file, in its own shape."""
    content = gzip.decompress(path.read_bytes())
    axes = content[3]
    shape = [int.from_bytes(content[4 + 4 * k : 8 + 4 * k], "big") for k in range(axes)]
    return torch.frombuffer(bytearray(content[4 + 4 * axes :]), dtype=torch.uint8).view(shape)


def compute(seed: int = 0, layer: str = "LRU", archive: str | None = None, epochs: int = EPOCHS) -> task.Result:
    """Train on the training images, score on the others (on 2,000 of them until the end)."""
    folder = Path(archive or DEBIAN)
    if not (folder / "train-images-idx3-ubyte.gz").exists():
        raise SystemExit(f"{folder} has no train-images-idx3-ubyte.gz: apt install dataset-fashion-mnist, or --archive")
    images, garments = (
        {part: read(folder / f"{part}-{kind}.gz") for part in ("train", "t10k")}
        for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
    )
    x, y = images["train"].flatten(1), garments["train"].long()
    options = {"r_min": 0.95, "max_phase": 1.0, "state_size": 32} if layer == "LRU" else {}
    net = task.model(layer, 1, 10, seed, width=64, depth=2, pooling="mean", **options)
    rows = task.batches(len(x), BATCH, seed)
    result = task.Result("sequential Fashion-MNIST", layer, "accuracy", net)
    steps = epochs * (len(x) // BATCH)

    def score() -> float:
        tried = images["t10k"].flatten(1)
        count = len(tried) if len(result.losses) == steps else 2000
        right = [
            (net(pixels.unsqueeze(-1) / 255)[0].argmax(-1) == labels).sum()
            for pixels, labels in zip(tried[:count].split(100), garments["t10k"][:count].split(100), strict=True)
        ]
        return float(sum(right)) / count

    def draw(step: int) -> task.Batch:
        at = rows(step)
        return x[at].unsqueeze(-1) / 255, y[at], None

    return task.train(result, draw, nn.functional.cross_entropy, score, steps=steps, rate=4e-3, decay=0.05, every=600)


if __name__ == "__main__":
    task.main(__doc__, "fashion", compute, "LRU", archive="the folder of the four files")
