"""What a training shows at the terminal, and how it is interrupted."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import typer

from retrograd.cli.time_parallel import Joined
from retrograd.cli.torchrun import started
from retrograd.distributed import RankError
from retrograd.errors import InputError
from retrograd.estimators import Trainer

__all__ = ["Interruption", "progress", "require_not_both"]


@contextmanager
def progress(title: str, epochs: int) -> Iterator[Callable[[Trainer], None]]:
    """Show a bar at the terminal, which moves with every call."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("epochs  loss {task.fields[loss]}  ‖gradient‖ {task.fields[norm]}"),
        TimeRemainingColumn(),
        console=console,
    )
    task = bar.add_task(title, total=epochs, loss="–", norm="–")

    def show(trainer: Trainer) -> None:
        if not bar.live.is_started:
            bar.start()
        epoch = trainer.history[-1]
        bar.update(task, completed=epoch.number, loss=f"{epoch.loss:.4g}", norm=f"{epoch.gradient_norm:.2g}")

    try:
        # A file has nobody who waits for the first epoch.
        if console.is_terminal:
            bar.start()
        yield show
    except InputError:
        # Nothing was trained: the bar goes, and the message is the only line.
        bar.live.transient = True
        raise
    finally:
        if bar.live.is_started:
            bar.stop()


class Interruption:
    """Whether Ctrl-C was pressed, or the system asked to end: an epoch is finished first. A second time ends at once.

    Over ranks all stop after the same epoch, whichever of them the signal has reached.

    Attributes:
        number: of the signal, 0 before there was one.
    """

    SIGNALS = signal.SIGINT, signal.SIGTERM

    def __init__(self) -> None:
        self.number = 0

    def __enter__(self) -> Interruption:
        self._before: dict[int, Any] = {}
        with suppress(ValueError):  # no main thread has no signals
            self._before = {number: signal.signal(number, self._note) for number in self.SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        self._restore()
        if self.number and isinstance(error, RankError):
            # The signal has ended the other ranks, and this one waited for them.
            signal.raise_signal(self.number)

    def __call__(self, trainer: Trainer) -> bool:
        """Return whether there was a signal, as a callback of a training."""
        return self.number > 0

    def _note(self, number: int, frame: Any) -> None:
        self.number = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def code(self) -> int:
        """The exit code of a process that stops for the signal; of another rank's signal that of Ctrl-C."""
        return 128 + (self.number or signal.SIGINT)

    def stop(self, done: int, epochs: int, ranks: Joined | None) -> typer.Exit:
        """Say how to go on, wait for the other ranks, and return what ends the command.

        Args:
            done: epochs behind the training.
            epochs: of all of it.
            ranks: over which it ran.
        """
        print(f"Stopped after epoch {done} of {epochs}. To continue:\n  {_resume_command()}", flush=True)
        if ranks is not None:
            ranks.wait()
        return typer.Exit(self.code)


def require_not_both(resume: bool, overwrite: bool) -> None:
    """Raise InputError where a run is to be both continued and replaced."""
    if resume and overwrite:
        raise InputError("--resume continues the run in the folder, --overwrite replaces it: give one of them")


def _resume_command() -> str:
    """Return the command that goes on with what was interrupted, with torchrun's own options where it runs one node."""
    arguments = [argument for argument in sys.argv[1:] if argument not in ("--overwrite", "--resume")]
    size, start = started(), "retrograd"
    if size:
        one = os.environ.get("LOCAL_WORLD_SIZE") == str(size)
        start = f"torchrun {f'--standalone --nproc-per-node {size}' if one else '...'} -m retrograd"
    return f"{start} {shlex.join([*arguments, '--resume'])}"
