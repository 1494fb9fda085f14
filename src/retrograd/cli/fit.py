"""`retrograd fit`: the main job. A table in; a trained linear RNN, its forecast and a report out."""

from __future__ import annotations

import hashlib
import shlex
import signal
import sys
import time as clock
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from retrograd.cli.results import Results, write_results
from retrograd.data import Table, read_table, split_index
from retrograd.errors import InputError, require_choice
from retrograd.estimators import checkpoint
from retrograd.estimators.recurrent import Recurrent
from retrograd.estimators.training import OPTIMIZERS, DivergenceError, Trainer

__all__ = ["fit"]

CHECKPOINT_FILE = "checkpoint.safetensors"
CHECKPOINT_SECONDS = 5.0


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


def fit(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A .csv or .parquet table, or `sunspots` for the yearly sunspots.")
    ],
    target: Annotated[list[str], typer.Option("--target", help="Column to predict; several: repeat, or a,b.")],
    inputs: Annotated[
        list[str] | None, typer.Option("--inputs", help="Exogenous columns, known ahead; several: repeat, or a,b.")
    ] = None,
    time: Annotated[str | None, typer.Option("--time", help="Column with dates or numbers that increase.")] = None,
    fill: Annotated[str | None, typer.Option("--fill", help="Fill missing values: forward or linear.")] = None,
    hidden: Annotated[int, typer.Option("--hidden", help="Width of the state H.")] = 8,
    horizon: Annotated[
        int | None,
        typer.Option("--horizon", help="Steps to forecast. Default: 10; with --inputs, as far as they are known."),
    ] = None,
    test: Annotated[
        str, typer.Option("--test", help="Held-out end: a fraction (0.2), or the date or number it starts at. 0: none.")
    ] = "0.2",
    epochs: Annotated[int | None, typer.Option("--epochs", help="Default: 600; lbfgs 20, sgd 1000.")] = None,
    optimizer: Annotated[str, typer.Option("--optimizer", help="sgd, adam, adamw or lbfgs.")] = "adam",
    lr: Annotated[float | None, typer.Option("--lr", help="Learning rate. Default: 0.01; lbfgs 1, sgd 0.02.")] = None,
    clip: Annotated[float | None, typer.Option("--clip", help="Cut the gradient's norm to this.")] = None,
    closed_loop: Annotated[
        bool, typer.Option("--closed-loop", help="Train on free runs of --horizon steps instead of single steps.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the starting weights.")] = 0,
    device: Annotated[str, typer.Option("--device", help="cpu or cuda.")] = "cpu",
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Run folder. Default: runs/NAME.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the training in the run folder.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in the run folder.")] = False,
) -> None:
    """Fit a linear RNN to a time series; forecast and report.

    Trains by backpropagation through time. Writes a run folder: model, metrics, predictions, forecast, report.
    """
    require_choice("--optimizer", optimizer, tuple(OPTIMIZERS))
    defaults = OPTIMIZERS[optimizer]
    epochs = defaults.epochs if epochs is None else epochs
    lr = defaults.lr if lr is None else lr
    _require_positive(hidden=hidden, epochs=epochs, lr=lr, clip=clip)
    _require_device(device)

    table = read_table(file, targets=_names(target), inputs=_names(inputs or []), time=time, fill=fill)
    start = split_index(table, test)
    horizon = _horizon(horizon, table)
    model = Recurrent.untrained(
        table.targets[:start],
        table.inputs[:start],
        hidden=hidden,
        target_names=table.target_names,
        input_names=table.input_names,
        seed=seed,
        device=device,
    )
    x, y = model.series(table.targets[:start], table.inputs[:start])
    if closed_loop and not 2 <= horizon <= len(x):
        raise InputError(
            f"--closed-loop trains on free runs of --horizon {horizon} steps: from 2 to {len(x)}, the training steps"
        )
    settings = Settings(
        table.target_names, table.input_names, hidden, optimizer, lr, clip, horizon if closed_loop else None, seed
    )
    trainer = Trainer(model.weights, x, y, optimizer=optimizer, lr=lr, clip=clip, horizon=settings.closed_loop)

    out = Path("runs") / Path(file).stem if out is None else out
    saved = _Checkpoint(out / CHECKPOINT_FILE, settings, x, y)
    _prepare(out, saved, trainer, epochs, resume=resume, overwrite=overwrite)

    diverged: DivergenceError | None = None
    try:
        interrupted = _train(trainer, epochs, saved, f"{file}: {len(x)} steps, {hidden} states")
    except DivergenceError as error:
        diverged, interrupted = error, False
    if interrupted:
        saved.write(trainer)
        print(f"Stopped after epoch {len(trainer.history)} of {epochs}. To continue:\n  {_resume_command()}")
        raise typer.Exit(130)
    if diverged is not None and not trainer.history:
        raise InputError(f"{diverged}; nothing was written")
    delta = trainer.finish()
    write_results(
        out,
        Results(
            title=Path(file).stem,
            table=table,
            start=start,
            horizon=horizon,
            model=Recurrent(
                trainer.best, model.target_names, model.input_names, model.target_scaling, model.input_scaling
            ),
            history=trainer.history,
            delta_norm=delta.norm(dim=-1).cpu().numpy(),
            settings={**asdict(settings), "epochs": len(trainer.history), "test": test, "horizon": horizon},
        ),
    )
    if diverged is not None:
        raise InputError(f"{diverged}; the best model so far (loss {trainer.best_loss:.4g}) is in {out}")


def _names(given: list[str]) -> list[str]:
    return [name.strip() for text in given for name in text.split(",")]


def _require_positive(**options: float | None) -> None:
    for name, value in options.items():
        if value is not None and not 0 < value < float("inf"):
            raise InputError(f"--{name} is {value}, expected a number above 0")


def _require_device(device: str) -> None:
    require_choice("--device", device.split(":")[0], ("cpu", "cuda"))
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"--device is {device!r}, which torch cannot use here ({reason}): use cpu") from None


def _horizon(horizon: int | None, table: Table) -> int:
    if horizon is None:
        return min(table.future, table.steps) if table.input_names else min(10, table.steps)
    if not 0 <= horizon <= table.steps:
        raise InputError(f"--horizon is {horizon}, expected 0 to {table.steps}, the number of steps in {table.source}")
    if table.input_names and horizon > table.future:
        raise InputError(
            f"--horizon is {horizon}, but the inputs are known for {table.future} steps after the last target: add "
            "rows with an empty target to the data, or take a shorter horizon"
        )
    return horizon


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
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file, expected a folder")
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise InputError(f"--out {out} is not empty: --resume continues that run, --overwrite replaces it")
    try:
        out.mkdir(parents=True, exist_ok=True)
        # An old checkpoint must not pass for one of this run; and this shows whether the folder can be written.
        saved.write(trainer)
    except OSError as error:
        raise InputError(f"--out {out} cannot be written: {error.strerror or error}") from None


def _train(trainer: Trainer, epochs: int, saved: _Checkpoint, title: str) -> bool:
    """Train to the last epoch; return whether it was interrupted."""
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
