"""`retrograd fit --model recurrent`: a linear RNN, trained by backpropagation through time, resumable."""

from __future__ import annotations

import hashlib
import shlex
import signal
import sys
import time as clock
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer

from retrograd.cli.results import Results, TimeAxis, gradient_note, write_results
from retrograd.cli.run_folder import CHECKPOINT_FILE, RUN_FILE, require_new
from retrograd.errors import InputError
from retrograd.estimators.evaluation import evaluate
from retrograd.estimators.recurrent import checkpoint
from retrograd.estimators.recurrent.estimator import Recurrent
from retrograd.estimators.recurrent.training import DivergenceError, Trainer
from retrograd.insight import Sweep, analyse
from retrograd.norms import norm
from retrograd.report.live import LiveView, Training, summary_writer
from retrograd.tables.read import Table

__all__ = ["Settings", "fit_recurrent"]

CHECKPOINT_SECONDS = 5.0
LIVE_FILE = "live.html"


@dataclass(frozen=True)
class Settings:
    """What decides the result of a training, besides the data and the number of epochs."""

    target: list[str]
    inputs: list[str]
    hidden: int
    optimizer: str
    lr: float
    clip: float | None
    closed_loop: int | None
    seed: int


def fit_recurrent(
    table: Table,
    start: int,
    horizon: int,
    out: Path,
    settings: Settings,
    *,
    title: str,
    test: str,
    epochs: int,
    device: str,
    resume: bool,
    overwrite: bool,
    live: bool = False,
    log_dir: Path | None = None,
) -> None:
    """Train, forecast, report; write a checkpoint every few seconds, and a page and a log of the training if asked."""
    model = Recurrent.untrained(
        table.targets[:start],
        table.inputs[:start],
        hidden=settings.hidden,
        target_names=table.target_names,
        input_names=table.input_names,
        seed=settings.seed,
        device=device,
    )
    x, y = model.series(table.targets[:start], table.inputs[:start])
    if settings.closed_loop is not None and not 2 <= horizon <= len(x):
        raise InputError(
            f"--closed-loop trains on free runs of --horizon {horizon} steps: from 2 to {len(x)}, the training steps"
        )
    trainer = Trainer(
        model.weights,
        x,
        y,
        optimizer=settings.optimizer,
        lr=settings.lr,
        clip=settings.clip,
        horizon=settings.closed_loop,
    )

    saved = _Checkpoint(out / CHECKPOINT_FILE, settings, x, y)
    if log_dir is not None:
        _require_log(log_dir)
    _prepare(out, saved, trainer, epochs, resume=resume, overwrite=overwrite)
    watched = Training(model, table, start, settings.closed_loop, epochs, title)
    writer = None if log_dir is None else _summary_writer(log_dir, trainer)
    with LiveView(watched, out / LIVE_FILE if live else None, writer, _warn) as view:
        diverged: DivergenceError | None = None
        label = f"{table.source}: {len(x)} steps, {settings.hidden} states"
        try:
            interrupted = _train(trainer, epochs, saved, label, view.observe)
        except DivergenceError as error:
            diverged, interrupted = error, False
            view.stop(trainer, f"{error}.")
        if interrupted:
            saved.write(trainer)
            view.stop(trainer, f"interrupted after epoch {len(trainer.history)}; --resume continues it.")
            print(f"Stopped after epoch {len(trainer.history)} of {epochs}. To continue:\n  {_resume_command()}")
            raise typer.Exit(130)
        if diverged is not None and not trainer.history:
            raise InputError(f"{diverged}; nothing was written", "lr")
        delta = trainer.finish()
        best = Recurrent(trainer.best, model.target_names, model.input_names, model.target_scaling, model.input_scaling)
        said = {**asdict(settings), "epochs": len(trainer.history), "test": test, "horizon": horizon}
        write_results(out, _results(title, table, start, horizon, best, trainer, delta, said))
        if diverged is not None:
            raise InputError(f"{diverged}; the best model so far (loss {trainer.best_loss:.4g}) is in {out}", "lr")
        view.finish(trainer, report="report.html")


def _require_log(folder: Path) -> None:
    """Refuse a log that cannot be begun, before any file is touched."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--log-dir {folder} is a file, expected a folder")
    if find_spec("tensorboard") is None:
        raise InputError("--log-dir needs tensorboard: pip install 'retrograd[tensorboard]'")


def _summary_writer(folder: Path, trainer: Trainer) -> Any:
    try:
        return summary_writer(folder, len(trainer.history) + 1)
    except OSError as error:
        raise InputError(f"--log-dir {folder} cannot be written: {error.strerror or error}") from None


def _warn(message: str) -> None:
    print(f"retrograd: {message}", file=sys.stderr)


def _results(
    title: str,
    table: Table,
    start: int,
    horizon: int,
    model: Recurrent,
    trainer: Trainer,
    delta: torch.Tensor,
    settings: dict[str, Any],
) -> Results:
    one_step, free_run, _ = evaluate(model, table.targets, table.inputs, start)
    border = model.border(table.targets, table.inputs)
    future_inputs = table.inputs[table.steps :]
    eigenvalues, closed = model.eigenvalues()
    delta_norm = norm(delta).cpu().numpy()
    # Of the loss that was trained: a verdict on another one would not be about this training.
    closed_loop = settings["closed_loop"]
    sweep = Sweep.of_estimator(model, table.inputs[:start], table.targets[:start], horizon=closed_loop)
    analysis = analyse(sweep)
    notes = gradient_note(analysis)
    if (radius := float(np.abs(closed).max())) > 1:
        notes += (
            f"The closed loop is unstable (spectral radius {radius:.4f}): long free runs grow without bound. "
            + (f"Try a --horizon above {closed_loop}" if closed_loop else "Try --closed-loop")
            + ", or a smaller --hidden.",
        )
    extra = {"time": TimeAxis.of(table).config(), "horizon": horizon, "settings": settings}
    return Results(
        title=title,
        table=table,
        start=start,
        one_step=one_step,
        free_run=free_run,
        forecast=model.forecast(border, future_inputs, horizon),
        settings=settings,
        save=lambda folder: model.save(folder, border, future_inputs, extra),
        report={
            "history": [
                {"epoch": epoch.number, "loss": epoch.loss, "gradient_norm": epoch.gradient_norm}
                for epoch in trainer.history
            ],
            "delta_time": table.time[: len(delta_norm)],
            "delta_norm": delta_norm,
            "eigenvalues": eigenvalues,
            "closed_loop_eigenvalues": closed,
            "analysis": analysis,
            "trained_on": "the one-step error over the training part"
            if closed_loop is None
            else f"the error of free runs of {closed_loop} steps, started all along the training part",
        },
        notes=notes,
    )


class _Checkpoint:
    """The training's state on disk, with what it belongs to."""

    def __init__(self, path: Path, settings: Settings, x: torch.Tensor, y: torch.Tensor) -> None:
        self.path = path
        digest = hashlib.sha256(x.cpu().numpy().tobytes() + y.cpu().numpy().tobytes()).hexdigest()
        self._belongs = {**asdict(settings), "data": digest}
        self._written = clock.monotonic()

    def write(self, trainer: Trainer) -> None:
        checkpoint.save(self.path, {"belongs": self._belongs, "training": trainer.state()})
        self._written = clock.monotonic()

    def write_when_due(self, trainer: Trainer) -> None:
        if clock.monotonic() - self._written >= CHECKPOINT_SECONDS:
            self.write(trainer)

    def resume(self, trainer: Trainer, epochs: int) -> None:
        state = checkpoint.load(self.path)
        for name, now in self._belongs.items():
            before = state["belongs"][name]
            if name == "data" and before != now:
                raise InputError(f"--resume: the training data (FILE, --time, --test) are not those of {self.path}")
            if before != now:
                option = "--" + name.replace("_", "-")
                raise InputError(f"--resume: {option} is {now}, the training in {self.path} has {before}: keep it")
        done = len(state["training"]["history"])
        if done > epochs:
            raise InputError(f"--resume: --epochs is {epochs}, the training in {self.path} has {done} behind it")
        trainer.restore(state["training"])


def _prepare(out: Path, saved: _Checkpoint, trainer: Trainer, epochs: int, *, resume: bool, overwrite: bool) -> None:
    """Make the run folder, or take up the training in it; refuse to touch anything else."""
    if resume and overwrite:
        raise InputError("--resume continues the run in the folder, --overwrite replaces it: give one of them")
    if resume:
        if not saved.path.is_file():
            raise InputError(f"--resume: there is no {saved.path} to continue from")
        saved.resume(trainer, epochs)
        return
    require_new(out, overwrite=overwrite, hint="--resume continues that run, --overwrite replaces it")
    try:
        out.mkdir(parents=True, exist_ok=True)
        # An old checkpoint must not pass for one of this run; and this shows whether the folder can be written.
        saved.write(trainer)
        for old in (RUN_FILE, LIVE_FILE):
            (out / old).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"--out {out} cannot be written: {error.strerror or error}") from None


def _train(trainer: Trainer, epochs: int, saved: _Checkpoint, title: str, observe: Callable[[Trainer], None]) -> bool:
    """Train to the last epoch, showing each to an observer; return whether it was interrupted."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("epochs  loss {task.fields[loss]}  ‖gradient‖ {task.fields[norm]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    done = len(trainer.history)
    with _interruption() as asked, progress:
        task = progress.add_task(title, total=epochs, completed=done, loss="–", norm="–")
        for number in range(done + 1, epochs + 1):
            epoch = trainer.step()
            progress.update(task, completed=number, loss=f"{epoch.loss:.4g}", norm=f"{epoch.gradient_norm:.2g}")
            saved.write_when_due(trainer)
            observe(trainer)
            if asked and number < epochs:
                return True
        saved.write(trainer)
    return False


@contextmanager
def _interruption() -> Iterator[list[int]]:
    """Collect Ctrl-C instead of stopping at once: an epoch is finished first. A second one stops at once."""
    asked: list[int] = []

    def note(number: int, frame: Any) -> None:
        asked.append(number)
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


def _resume_command() -> str:
    arguments = [argument for argument in sys.argv[1:] if argument not in ("--overwrite", "--resume")]
    return shlex.join(["retrograd", *arguments, "--resume"])
