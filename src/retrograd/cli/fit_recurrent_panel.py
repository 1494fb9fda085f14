"""`retrograd fit --series COLUMN --model recurrent`: one linear RNN over many series, which ranks may share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from retrograd.cli.coming import comings_of_networks, levels_of
from retrograd.cli.fit_panel import judge, seen_of, starts_of, write_run
from retrograd.cli.judged import understood
from retrograd.cli.run_folder import CHECKPOINT_FILE, run_folder, saved_panel
from retrograd.cli.shared_rows import panel_shared_by_the_first
from retrograd.cli.time_parallel import Joined
from retrograd.cli.training import Interruption, progress, require_not_both
from retrograd.errors import InputError
from retrograd.estimators import OPTIMIZERS, DivergenceError, RecurrentPanel
from retrograd.tables import Table

__all__ = ["fit_recurrent_panel"]


def fit_recurrent_panel(
    model: RecurrentPanel,
    tables: Mapping[str, Table],
    horizon: int,
    out: Path,
    *,
    series: str,
    title: str,
    test: str | None,
    level: str,
    resume: bool,
    overwrite: bool,
    ranks: Joined | None = None,
) -> None:
    """Train on every series without its held-out end, judge that, forecast from all rows, report.

    Args:
        model: the estimator.
        tables: one a series.
        horizon: steps to forecast.
        out: the run folder.
        series: the column that tells series apart.
        title: of the report.
        test: the held-out end, as of one series; None: the last ``horizon`` rows of each, or a third of it if less.
        level: of the intervals, in per cent.
        resume: continue the training in the run folder.
        overwrite: replace the run in it.
        ranks: who shares the training: this is the first of them, and the others
            :func:`retrograd.cli.shared_rows.follow_the_first_on_series`.
    """
    require_not_both(resume, overwrite)
    starts = starts_of(tables, horizon, test)
    past = {
        name: pd.DataFrame(table.targets[: starts[name]], columns=table.target_names) for name, table in tables.items()
    }
    model.untrained(past)  # before any file is touched: what cannot be trained is refused here
    checkpoint = out / CHECKPOINT_FILE
    if ranks is not None:
        resume, overwrite = ranks.plan(out, checkpoint, resume, overwrite)
    hint = "--resume continues that run, --overwrite replaces it"
    with run_folder(out, overwrite=overwrite, resume=resume, hint=hint):
        if ranks is not None:
            ranks.begin(out)
        _train(model, past, checkpoint, resume, ranks)
        before = comings_of_networks(model, list(model.networks_), horizon, levels_of(level))
        held = {name: table.targets[starts[name] :] for name, table in tables.items()}
        model.update({name: rows for name, rows in held.items() if len(rows)})
        after = comings_of_networks(model, list(model.networks_), horizon, levels_of(level))
        judged = {name: judge(table, starts[name], before[name], after[name], "auto") for name, table in tables.items()}
        names = next(iter(tables.values())).target_names
        lines, wild = seen_of(tables, {name: understood(table) for name, table in tables.items()})
        settings = {
            "model": "recurrent", "series": series, "target": names, "hidden": model.hidden,
            "optimizer": model.optimizer, "lr": OPTIMIZERS[model.optimizer].lr if model.lr is None else model.lr,
            "clip": model.clip, "seed": model.seed, "epochs": len(model.history_),
            "test": "last rows" if test is None else test, "level": level, "horizon": horizon,
        }  # fmt: skip
        chosen = [
            f"One linear RNN of {model.hidden} states, trained on all series one step ahead, each in its own scale."
        ]
        saved = saved_panel(model, tables, series, horizon, settings)
        write_run(out, saved, judged, series, title, settings, lines, chosen, wild, [CHECKPOINT_FILE])
        if ranks is not None:
            ranks.end(out)


def _train(
    model: RecurrentPanel, past: Mapping[str, Any], checkpoint: Path, resume: bool, ranks: Joined | None
) -> None:
    """Train, with a bar at the terminal."""
    epochs = OPTIMIZERS[model.optimizer].epochs if model.epochs is None else model.epochs
    with progress(f"{len(past)} series, {model.hidden} states", epochs) as show, Interruption() as interrupted:
        callbacks: list[Any] = [show, interrupted]
        try:
            over: dict[str, Any] = (
                {} if ranks is None else {"group": ranks.group, "share": panel_shared_by_the_first(ranks)}
            )
            model.fit(past, callbacks=callbacks, checkpoint=checkpoint, resume=resume, **over)
        except DivergenceError as error:
            raise InputError(f"{error}; nothing was written", "lr") from None
    if model.stop_reason_ == "callback":
        raise interrupted.stop(len(model.history_), epochs, ranks)
