"""A small training, and a live view of it, for the tests of the live view."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retrograd.estimators.recurrent.estimator import Recurrent
from retrograd.estimators.recurrent.training import Trainer
from retrograd.report.live import Pictures
from retrograd.report.live.pictures import Snapshot
from retrograd.tables.read import Table

DAY = np.timedelta64(1, "D")


@dataclass(frozen=True)
class Training:
    table: Table
    start: int
    closed_loop: int | None
    model: Recurrent
    trainer: Trainer

    @property
    def pictures(self) -> Pictures:
        return Pictures(self.model, self.table, self.start, self.closed_loop)

    def snapshot(self) -> Snapshot:
        weights = {name: weight.detach().numpy().copy() for name, weight in self.trainer.weights.items()}
        return Snapshot(weights, self.trainer.history, len(self.trainer.history))


def training(
    steps: int = 60,
    *,
    start: int | None = None,
    targets: int = 1,
    inputs: int = 0,
    closed_loop: int | None = None,
    dated: bool = False,
    apart: np.timedelta64 = DAY,
    seed: int = 0,
) -> Training:
    """Two thirds are trained on, unless ``start`` says otherwise."""
    rng = np.random.default_rng(seed)
    start = 2 * steps // 3 if start is None else start
    t = np.arange(steps)
    y = 20 + 5 * np.sin(t[:, None] / 3 + np.arange(targets)) + 0.3 * rng.normal(size=(steps, targets))
    z = rng.normal(size=(steps, inputs))
    time = np.datetime64("2024-01-01", "ns") + t * apart if dated else 1900 + t
    names = [f"y{k} <b>$$x$$" for k in range(targets)], [f"z{k}" for k in range(inputs)]
    table = Table("wave.csv", "day", time, names[0], y, names[1], z)
    model = Recurrent.untrained(y[:start], z[:start], hidden=4, target_names=names[0], input_names=names[1], seed=seed)
    trainer = Trainer(model.weights, *model.series(y[:start], z[:start]), horizon=closed_loop)
    return Training(table, start, closed_loop, model, trainer)
