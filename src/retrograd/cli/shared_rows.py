"""Over ranks the first one reads and checks all of the file; every other one has its own rows, or its own series.

Of one series (`--time-parallel N`) the first rank tells the others where their rows stand, with a digest of each one's.
Who cannot read its rows alone (a workbook, a packed text), or reads others (rows were put in order, filled, or put in),
is handed them. Of many series (`--series`), whose rows stand anywhere, each is handed its share.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from torch import Tensor

from retrograd.cli.run_folder import CHECKPOINT_FILE
from retrograd.cli.time_parallel import PATIENCE, Joined
from retrograd.cli.training import Interruption
from retrograd.distributed.exchange import prefix
from retrograd.distributed.handing import handed, told
from retrograd.distributed.ranks import ranks_of
from retrograd.estimators.recurrent.panel_training import shared_out
from retrograd.estimators.recurrent.sharing import Plan, digest_of_rows, follow, rows_of
from retrograd.tables.read import Table
from retrograd.tables.source import ReadOptions
from retrograd.tables.stretch import places_of_rows, read_rows

__all__ = [
    "follow_the_first",
    "follow_the_first_on_series",
    "panel_shared_by_the_first",
    "shared_by_the_first",
]

_PLAN, _OWN, _HANDED = "fit, its plan", "fit, whether each rank has read its rows", "fit, rows handed to a rank"


def shared_by_the_first(
    ranks: Joined, table: Table, start: int, source: str, options: ReadOptions
) -> Callable[[Plan], None]:
    """Return what the first rank does when its training is planned: tell the others, and hand them what they lack.

    Args:
        ranks: the ranks.
        table: the whole table.
        start: how many of its rows are trained on.
        source: its file.
        options: what is said of the file.
    """
    group = ranks_of(ranks.group)

    def values(rank: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        at = rows_of(start, rank, group.size)
        return np.concatenate([table.targets[at], table.inputs[at]], axis=1)

    def part(rank: int) -> Tensor:
        return torch.from_numpy(values(rank)).flatten()

    def share(plan: Plan) -> None:
        rows = [rows_of(start, rank, group.size) for rank in range(group.size)]
        borders = sorted({border for at in rows for border in (at.start, at.stop)})
        places = places_of_rows(source, borders, options)
        found = None if places is None else dict(zip(borders, places, strict=True))
        each = [
            {
                "rows": [at.start, at.stop],
                "places": None if found is None else [found[at.start], found[at.stop]],
                "digest": digest_of_rows(values(rank)),
            }
            for rank, at in enumerate(rows)
        ]
        told(group, _PLAN, json.dumps({"plan": plan.text(), "ranks": each}), PATIENCE)
        handed(group, _HANDED, part, _who_lacks(ranks, False), PATIENCE)

    return share


def follow_the_first(
    ranks: Joined,
    source: str,
    options: ReadOptions,
    names: Sequence[str],
    out: Path,
    *,
    resume: bool,
    overwrite: bool,
) -> None:
    """Train on this rank's rows, in step with the first rank.

    Args:
        ranks: the ranks.
        source: the file.
        options: what is said of it.
        names: the targets, then the inputs.
        out: the run folder.
        resume: as this rank was asked.
        overwrite: as this rank was asked.
    """
    group = ranks_of(ranks.group)

    def read(text: str) -> tuple[Plan, np.ndarray[Any, Any]]:
        given = json.loads(text)
        mine = given["ranks"][group.rank]
        rows = slice(*mine["rows"])
        values = read_rows(source, names, rows, mine["places"] and tuple(mine["places"]), options)
        lacks = values is None or digest_of_rows(values) != mine["digest"]
        found = handed(group, _HANDED, None, _who_lacks(ranks, lacks), PATIENCE)
        if found is not None:
            values = found.view(rows.stop - rows.start, len(names)).numpy()
        assert values is not None
        return Plan.of_text(given["plan"]), values

    _follow(ranks, out, read, resume=resume, overwrite=overwrite)


def panel_shared_by_the_first(ranks: Joined) -> Callable[[Plan, list[Tensor]], None]:
    """Return what the first rank does when its training on many series is planned: hand each rank its share."""
    group = ranks_of(ranks.group)

    def share(plan: Plan, series: list[Tensor]) -> None:
        def part(rank: int) -> Tensor:
            own = shared_out([len(one) - 1 for one in series], rank, group.size)
            return torch.cat([series[place].flatten().cpu() for place in own] or [torch.empty(0, dtype=torch.float64)])

        told(group, _PLAN, plan.text(), PATIENCE)
        handed(group, _HANDED, part, range(1, group.size), PATIENCE)

    return share


def follow_the_first_on_series(ranks: Joined, out: Path, *, resume: bool, overwrite: bool) -> None:
    """Train on this rank's share of many series, in step with the first rank, which has read them.

    Args:
        ranks: the ranks.
        out: the run folder.
        resume: as this rank was asked.
        overwrite: as this rank was asked.
    """
    group = ranks_of(ranks.group)

    def read(text: str) -> tuple[Plan, np.ndarray[Any, Any]]:
        plan, found = Plan.of_text(text), handed(group, _HANDED, None, range(1, group.size), PATIENCE)
        assert found is not None
        return plan, found.view(-1, plan.outputs).numpy()

    _follow(ranks, out, read, resume=resume, overwrite=overwrite)


def _follow(
    ranks: Joined,
    out: Path,
    read: Callable[[str], tuple[Plan, np.ndarray[Any, Any]]],
    *,
    resume: bool,
    overwrite: bool,
) -> None:
    """Train in step with the first rank on what ``read`` makes of the text that it sends."""
    checkpoint = out / CHECKPOINT_FILE
    resume, _ = ranks.plan(out, checkpoint, resume, overwrite)
    with Interruption() as interrupted:  # the first rank, too, ends an epoch if it is asked to stop while it plans
        plan, values = read(told(ranks_of(ranks.group), _PLAN, None, PATIENCE))
        how: dict[str, Any] = {"group": ranks.group, "checkpoint": checkpoint, "resume": resume}
        if follow(plan, values, **how, callbacks=(interrupted,)) == "callback":
            ranks.wait()
            raise typer.Exit(interrupted.code)
    ranks.end(out)


def _who_lacks(ranks: Joined, mine: bool) -> list[int]:
    """Return the ranks that must be handed their rows."""
    group = ranks_of(ranks.group)
    own = [float(mine and rank == group.rank) for rank in range(group.size)]
    return [rank for rank, lacks in enumerate(prefix(group, _OWN, own)[1]) if lacks]
