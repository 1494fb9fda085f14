"""Ranks that train on rows of their own: each reads them, or is handed them, and the model is that of one process."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import retrograd as rg
from retrograd.cli import shared_rows
from retrograd.cli.shared_rows import (
    follow_the_first,
    follow_the_first_on_series,
    panel_shared_by_the_first,
    shared_by_the_first,
)
from retrograd.estimators import Recurrent, RecurrentPanel, Trainer
from retrograd.tables import TimeOptions, read_table
from retrograd.tables.source import ReadOptions

SERIES = pd.DataFrame({
    "day": pd.date_range("2024-01-01", periods=60).astype(str),
    "y": np.sin(np.arange(60.0) / 3) + np.linspace(0, 1, 60) ** 2,
    "u": np.cos(np.arange(60.0)),
})  # fmt: skip


class Threads:
    """Ranks that are threads, as the command has those of torchrun."""

    def __init__(self, ranks: rg.distributed.Ranks) -> None:
        self.group, self.first = ranks, ranks.rank == 0

    def plan(self, out: Path, checkpoint: Path, resume: bool, overwrite: bool) -> tuple[bool, bool]:
        return resume, overwrite

    def wait(self) -> None:
        pass

    def end(self, out: Path) -> None:
        pass


def write(folder: Path, kind: str) -> str:
    path = folder / ("a.csv.gz" if kind == "packed" else "a.parquet" if kind == "parquet" else "a.csv")
    table = SERIES.iloc[::-1] if kind == "backward" else SERIES
    if kind == "gap":
        table = SERIES.drop(index=[20])
    if kind == "parquet":
        table.to_parquet(path, row_group_size=7)
    elif kind == "packed":
        path.write_bytes(gzip.compress(table.to_csv(index=False).encode()))
    else:
        table.to_csv(path, index=False)
    return str(path)


@pytest.mark.parametrize("kind", ["csv", "parquet", "packed", "backward", "gap"])
def test_each_rank_has_its_rows(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, options, read = write(tmp_path, kind), ReadOptions(), []
    given: dict[str, Any] = {"targets": ["y"], "inputs": ["u"], "time": "day", "fill": "linear"}
    axis = TimeOptions(sort=True) if kind == "backward" else TimeOptions()
    table = read_table(source, **given, axis=axis)
    start, model = 48, {"hidden": 3, "epochs": 3}
    frames = pd.DataFrame(table.targets[:start], columns=["y"]), pd.DataFrame(table.inputs[:start], columns=["u"])
    one_by_one = shared_rows.read_rows

    def noted(*args: Any) -> Any:
        found = one_by_one(*args)
        read.append(None if found is None else len(found))
        return found

    monkeypatch.setattr(shared_rows, "read_rows", noted)

    def work(ranks: rg.distributed.Ranks) -> Recurrent | None:
        joined: Any = Threads(ranks)
        if ranks.rank:
            return follow_the_first(joined, source, options, ["y", "u"], tmp_path, resume=False, overwrite=False)
        share = shared_by_the_first(joined, table, start, source, options)
        return Recurrent(**model).fit(*frames, group=ranks, share=share)

    def whole(ranks: rg.distributed.Ranks) -> Recurrent:
        return Recurrent(**model).fit(*frames, group=ranks)

    found, want = rg.distributed.simulate(3, work)[0], rg.distributed.simulate(3, whole)[0]
    assert found is not None
    for name, weight in found.network_.weights.items():
        assert torch.equal(weight, want.network_.weights[name])
    rows = [None, None] if kind == "packed" else [17, 17]
    assert sorted(read, key=str) == rows


def test_a_rank_that_is_asked_to_stop_stops_all() -> None:
    y = SERIES[["y"]].to_numpy()

    def work(ranks: rg.distributed.Ranks) -> tuple[str, int]:
        def asks(trainer: Trainer) -> bool:
            return ranks.rank == 1 and len(trainer.history) == 2

        model = Recurrent(3, epochs=5).fit(y, group=ranks, callbacks=(asks,))
        return model.stop_reason_, len(model.history_)

    assert rg.distributed.simulate(3, work) == [("callback", 2)] * 3


def test_each_rank_is_handed_its_series(tmp_path: Path) -> None:
    """One of four has none; the model is that of ranks that all have all series, bit for bit."""
    series = {name: np.sin(np.arange(float(n)) / 3 + n)[:, None] for name, n in (("a", 40), ("b", 25), ("c", 33))}
    series["b"][[5, 6]] = np.nan
    model = {"hidden": 3, "epochs": 3}

    def work(ranks: rg.distributed.Ranks) -> RecurrentPanel | None:
        joined: Any = Threads(ranks)
        if ranks.rank:
            return follow_the_first_on_series(joined, tmp_path, resume=False, overwrite=False)
        return RecurrentPanel(**model).fit(series, group=ranks, share=panel_shared_by_the_first(joined))

    found = rg.distributed.simulate(4, work)[0]
    want = rg.distributed.simulate(4, lambda ranks: RecurrentPanel(**model).fit(series, group=ranks))[0]
    assert found is not None
    for name, weight in found.networks_["a"].weights.items():
        assert torch.equal(weight, want.networks_["a"].weights[name])
    assert found.best_loss_ == want.best_loss_
