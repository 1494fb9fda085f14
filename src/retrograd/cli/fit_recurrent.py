"""`retrograd fit --model recurrent`: a linear RNN, trained by backpropagation through time, resumable."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from retrograd.cli.coming import coming_of, levels_of
from retrograd.cli.judged import goodness_of, understood
from retrograd.cli.results import Results, gradient_note, write_results
from retrograd.cli.run_folder import CHECKPOINT_FILE, LIVE_FILE, run_folder, saved_run
from retrograd.cli.shared_rows import shared_by_the_first
from retrograd.cli.time_parallel import Joined
from retrograd.cli.training import Interruption, progress, require_not_both
from retrograd.errors import InputError
from retrograd.estimators import OPTIMIZERS, DivergenceError, Recurrent, Trainer
from retrograd.insight import Sweep, analyse
from retrograd.norms import norm
from retrograd.report.live import LiveView, Training, summary_writer
from retrograd.tables.read import Table
from retrograd.tables.source import ReadOptions
from retrograd.tables.time_axis import drawn_times

__all__ = ["fit_recurrent"]


def fit_recurrent(
    model: Recurrent,
    table: Table,
    start: int,
    horizon: int,
    out: Path,
    *,
    title: str,
    test: str,
    level: str,
    resume: bool,
    overwrite: bool,
    live: bool = False,
    log_dir: Path | None = None,
    ranks: Joined | None = None,
    options: ReadOptions | None = None,
) -> None:
    """Train, forecast, report; show the training as it goes.

    Over ranks this is what the first one does; the others :func:`retrograd.cli.shared_rows.follow_the_first`, for which
    it has ``options``, what is said of the file.
    """
    targets, inputs = _frames(table, start)
    # Before any file is touched: what cannot be trained is refused here.
    network = model.untrained(targets, inputs)
    if log_dir is not None:
        _require_log(log_dir)
    require_not_both(resume, overwrite)
    if ranks is not None:
        resume, overwrite = ranks.plan(out, out / CHECKPOINT_FILE, resume, overwrite)
    epochs = OPTIMIZERS[model.optimizer].epochs if model.epochs is None else model.epochs
    training = Training(network, table, start, model.closed_loop, epochs, title)
    hint = "--resume continues that run, --overwrite replaces it"
    with (
        run_folder(out, overwrite=overwrite, resume=resume, hint=hint),
        LiveView(training, out / LIVE_FILE if live else None, None, _warn) as view,
    ):
        if ranks is not None:
            ranks.begin(out)
        seen, diverged = _train(model, training, view, out, resume=resume, log_dir=log_dir, over=(ranks, options))
        write_results(out, replace(_results(model, table, start, horizon, title, test, level), live=live))
        if ranks is not None:
            ranks.end(out)
        if diverged is not None:
            raise InputError(f"{diverged}; the best model so far (loss {model.best_loss_:.4g}) is in {out}", "lr")
        for trainer in seen:
            view.finish(trainer, report="report.html")


def _train(
    model: Recurrent,
    training: Training,
    view: LiveView,
    out: Path,
    *,
    resume: bool,
    log_dir: Path | None,
    over: tuple[Joined | None, ReadOptions | None] = (None, None),
) -> tuple[list[Trainer], DivergenceError | None]:
    """Train, with a bar at the terminal; return the trainer, if it trained, and why it broke off."""
    table, start, epochs = training.table, training.start, training.epochs
    seen: list[Trainer] = []

    def observe(trainer: Trainer) -> None:
        if not seen and log_dir is not None:
            view.writer = _summary_writer(log_dir, trainer)
        seen[:] = [trainer]
        view.observe(trainer)

    diverged: DivergenceError | None = None
    (ranks, options), group, share = over, None, None
    if ranks is not None:
        group = ranks.group
        share = shared_by_the_first(ranks, table, start, table.source, options or ReadOptions())
    label = f"{table.source}: {start - 1} steps, {model.hidden} states"
    with progress(label, epochs) as show, Interruption() as interrupted:
        try:
            model.fit(
                *_frames(table, start), callbacks=(show, observe, interrupted), checkpoint=out / CHECKPOINT_FILE,
                resume=resume, group=group, share=share,
            )  # fmt: skip
        except DivergenceError as error:
            diverged = error
    if diverged is not None:
        if not hasattr(model, "network_"):
            raise InputError(f"{diverged}; nothing was written", "lr")
        for trainer in seen:
            view.stop(trainer, f"{diverged}.")
    if model.stop_reason_ == "callback":
        done = len(model.history_)
        view.stop(seen[0], f"interrupted after epoch {done}; --resume continues it.")
        raise interrupted.stop(done, epochs, ranks)
    return seen, diverged


def _frames(table: Table, stop: int) -> tuple[Any, Any]:
    """Return targets and inputs of the first steps, by name."""
    import pandas as pd

    targets = pd.DataFrame(table.targets[:stop], columns=table.target_names)
    if not table.input_names:
        return targets, None
    return targets, pd.DataFrame(table.inputs[:stop], columns=table.input_names)


def _require_log(folder: Path) -> None:
    """Refuse a log that cannot be begun, before any file is touched."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--log-dir {folder} is a file, expected a folder")
    if find_spec("tensorboard") is None:
        raise InputError("--log-dir needs tensorboard: pip install tensorboard")


def _summary_writer(folder: Path, trainer: Trainer) -> Any:
    try:
        return summary_writer(folder, len(trainer.history))
    except OSError as error:
        raise InputError(f"--log-dir {folder} cannot be written: {error.strerror or error}") from None


def _warn(message: str) -> None:
    print(f"retrograd: {message}", file=sys.stderr)


def _results(model: Recurrent, table: Table, start: int, horizon: int, title: str, test: str, level: str) -> Results:
    targets, inputs = _frames(table, table.steps)
    one_step = model.predict(targets, inputs).to_numpy()
    free_run = np.full_like(one_step, np.nan)
    if start < table.steps:
        free_run = model.free_run(targets, inputs, start=start).to_numpy()
    state = model.state_after(targets, inputs)
    future = table.inputs[table.steps :] if table.input_names else None
    found, levels = understood(table), levels_of(level)
    outputs = len(table.target_names)
    coming = coming_of("recurrent", model, horizon, outputs, inputs=future, state=state, levels=levels)
    seasons = [each.seasons for each in found]
    goodness = goodness_of([("forecast", model, float("nan"))], table, start, horizon, levels, seasons)
    eigenvalues, closed = model.eigenvalues()
    analysis = analyse(Sweep.of_estimator(model, *_frames(table, start)[::-1]))
    trained_in = model.closed_loop
    notes = gradient_note(analysis)
    if (radius := float(np.abs(closed).max())) > 1:
        notes += (
            f"The closed loop is unstable (spectral radius {radius:.4f}): long free runs grow without bound. "
            + (f"Try a --horizon above {trained_in}" if trained_in else "Try --closed-loop")
            + ", or a smaller --hidden.",
        )
    settings = {
        "model": "recurrent", "target": table.target_names, "inputs": table.input_names, "hidden": model.hidden,
        "optimizer": model.optimizer, "lr": OPTIMIZERS[model.optimizer].lr if model.lr is None else model.lr,
        "clip": model.clip, "closed_loop": trained_in, "seed": model.seed, "epochs": len(model.history_), "test": test,
        "level": level, "horizon": horizon,
    }  # fmt: skip
    delta_norm = norm(torch.from_numpy(model.delta_)).numpy()
    return Results(
        title=title,
        table=table,
        start=start,
        one_step=one_step,
        free_run=free_run,
        coming=coming,
        settings=settings,
        saved=saved_run(model, table, horizon, settings, state),
        report={
            "history": [
                {"epoch": epoch.number, "loss": epoch.loss, "gradient_norm": epoch.gradient_norm}
                for epoch in model.history_
            ],
            "delta_time": drawn_times(table.time[: len(delta_norm)]),
            "delta_norm": delta_norm,
            "eigenvalues": eigenvalues,
            "closed_loop_eigenvalues": closed,
            "analysis": analysis,
            "trained_on": "the one-step error over the training part"
            if trained_in is None
            else f"the error of free runs of {trained_in} steps, started all along the training part",
        },
        goodness=goodness,
        understood=found,
        notes=(*([] if goodness is None else goodness.sentences()), *notes),
    )
