"""A training while it goes on: a page that reloads itself, and TensorBoard's log.

Both are files. The training thread draws between two epochs, at most every :data:`PERIOD` seconds and never for more
than a tenth of the time. What fails (a full disk) is one warning, and the training goes on. The training's own numbers
are not touched.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from retrograd.estimators.recurrent.network import Network
from retrograd.estimators.recurrent.training import Trainer, loss_and_gradients
from retrograd.files import write_whole
from retrograd.norms import norm
from retrograd.pictures.palette import BLACK, BLUE, VERMILLION
from retrograd.pictures.series import Line, series
from retrograd.pictures.spectrum import eigenvalues
from retrograd.pictures.training import curves, gradient_norms
from retrograd.report.content import Section
from retrograd.report.page import render, rendered
from retrograd.tables.read import Table
from retrograd.tables.time_axis import drawn_times

__all__ = ["LiveView", "Training", "summary_writer"]

Array = np.ndarray[Any, Any]

# Seconds between two pages, at least; after one that took long, REST times as long nothing is drawn.
PERIOD, REST = 2.0, 9
# Seconds between two pictures in a log, at least: it keeps every one of them.
LOG_PERIOD = 30.0
MOST_TARGETS = 4
# Series above LONG steps are shown around the start of the held-out part: CLOSE_UP steps and a third as many before.
LONG, CLOSE_UP = 1_000, 240


@dataclass(frozen=True)
class Training:
    """A training as the view shows it.

    Attributes:
        model: with the scaling of the training part; its weights are not looked at.
        table: the data, N steps of O targets.
        start: index of the first held-out step, N if there is none.
        closed_loop: steps of the closed loop that is trained, None for the open loop.
        epochs: how many there will be.
        title: of the page.
    """

    model: Network
    table: Table
    start: int
    closed_loop: int | None
    epochs: int
    title: str

    def sections(self, trainer: Trainer, *, best: bool = False) -> list[Section]:
        """Return the pictures of a trainer's newest weights, or of its best ones."""
        weights = {name: weight.detach() for name, weight in (trainer.best if best else trainer.weights).items()}
        model = replace(self.model, weights=weights)
        # Pictures mark numbers that overflow; NumPy need not warn of them.
        with np.errstate(all="ignore"):
            found = [_loss(trainer)] if trainer.history else []
            return [*found, self._predictions(model), self._gradient(model), _spectrum(model)]

    def _predictions(self, model: Network) -> Section:
        table, start, steps = self.table, self.start, self.table.steps
        shown = slice(0, steps)
        if steps > LONG:
            shown = slice(max(start - CLOSE_UP // 3, 0), min(start + CLOSE_UP, steps))
        names = table.target_names[:MOST_TARGETS]
        lines = [
            Line("one step ahead", model.one_step(table.targets, table.inputs)[shown], BLUE, 2.5),
            Line("observed", table.targets[shown], BLACK, 1.0, measured=True),
        ]
        if start < steps:
            free = model.free_run(table.targets, table.inputs, start)[shown]
            lines.append(Line("free run", free, VERMILLION, 2.0, (6, 3)))
        figure, notes = series(
            drawn_times(table.time[:steps][shown]), table.time_label, names, lines, start - shown.start
        )
        reading = (
            "The free run is told nothing of the shaded, held-out end." if start < steps else "Nothing is held out."
        )
        if steps > LONG:
            reading += f" Steps {shown.start + 1:,} to {shown.stop:,} of {steps:,}."
        if len(names) < len(table.target_names):
            reading += f" The first {MOST_TARGETS} of {len(table.target_names)} targets."
        return Section("Prediction against truth", " ".join((reading, *notes)), [figure])

    def _gradient(self, model: Network) -> Section:
        x, y = model.series(self.table.targets[: self.start], self.table.inputs[: self.start])
        delta = norm(loss_and_gradients(model.weights, x, y, self.closed_loop)[2]).cpu().numpy()
        time = drawn_times(self.table.time[: len(delta)])
        figure, notes = gradient_norms(time, delta, self.table.time_label, "‖∂L/∂h_t‖, scaled")
        reading = "From the last training step (right) back to the first: a fall to the left is a vanishing gradient."
        return Section("How the gradient flows back through time", " ".join((reading, *notes)), [figure])


def _loss(trainer: Trainer) -> Section:
    at = np.array([epoch.number for epoch in trainer.history], dtype=float)
    loss = np.array([epoch.loss for epoch in trainer.history])
    length = np.array([epoch.gradient_norm for epoch in trainer.history])
    panels = {"loss": {"loss": loss}, "‖gradient‖": {"length of the gradient": length}}
    reading = "The mean squared error, scaled, and the length of its gradient."
    return Section("Training", reading, [curves(at, "epoch", panels)])


def _spectrum(model: Network) -> Section:
    open_loop, closed_loop = model.eigenvalues()
    figure, notes = eigenvalues([("W_hh", open_loop), ("W_hh + W_ih C", closed_loop)])
    return Section("Eigenvalues of the transition", " ".join(("Outside the circle, states grow.", *notes)), [figure])


def summary_writer(folder: Path, first_step: int) -> Any:
    """Return a TensorBoard writer that takes up a log before ``first_step``.

    Raises:
        ModuleNotFoundError: tensorboard is not installed.
        OSError: the folder cannot be written.
    """
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=first_step)


@dataclass
class LiveView:
    """Writes a page and a log of a training, from ``with`` to its end.

    Args:
        training: what is shown.
        page: the file that is written, if any.
        writer: a ``torch.utils.tensorboard.SummaryWriter``, if any; it is closed in the end.
        warn: is told once of a page, and once of a log, that cannot be written.

    Examples:
        >>> import tempfile
        >>> y = np.sin(np.arange(60.0))[:, None]
        >>> table = Table("wave", "step", np.arange(60), ["sine"], y, [], y[:, :0])
        >>> model = Network.untrained(y[:50], y[:50, :0], hidden=4, target_names=["sine"])
        >>> trainer = Trainer(model.weights, *model.series(y[:50], y[:50, :0]))
        >>> folder = tempfile.TemporaryDirectory()
        >>> page = Path(folder.name) / "live.html"
        >>> with LiveView(Training(model, table, 50, None, 3, "wave"), page) as view:
        ...     for _ in range(3):
        ...         epoch = trainer.step()
        ...         view.observe(trainer)
        ...     view.finish(trainer)
        >>> "Training ended after 3 epochs." in page.read_text()
        True
        >>> folder.cleanup()
    """

    training: Training
    page: Path | None = None
    writer: Any = None
    warn: Callable[[str], None] = warnings.warn
    _due: float = field(default=0.0, init=False)
    _log_due: float = field(default=0.0, init=False)
    _trainer: Trainer | None = field(default=None, init=False)
    _ended: bool = field(default=False, init=False)
    _warned: set[str] = field(default_factory=set, init=False)

    def observe(self, trainer: Trainer) -> None:
        """Note an epoch, and draw if it is time again."""
        self._trainer = trainer
        epoch = trainer.history[-1]
        self._log(lambda writer: writer.add_scalar("loss", epoch.loss, epoch.number))
        self._log(lambda writer: writer.add_scalar("gradient norm", epoch.gradient_norm, epoch.number))
        began = time.monotonic()
        if began >= self._due:
            self._show(trainer, f"Training: epoch {epoch.number} of {self.training.epochs}.")
            spent = time.monotonic() - began
            self._due = began + spent + max(PERIOD, REST * spent)

    def finish(self, trainer: Trainer, report: str = "") -> None:
        """Show the best weights and say that the training has ended.

        Args:
            trainer: after its last epoch.
            report: a link to the report, relative to the page.
        """
        state = f"Training ended after {len(trainer.history)} epochs. The pictures are those of its best weights."
        self._show(trainer, state, last=True, best=True, report=report)

    def stop(self, trainer: Trainer, reason: str) -> None:
        """Show the newest weights and say why the training ended before its time."""
        self._show(trainer, f"Training stopped: {reason}", last=True)

    def __enter__(self) -> LiveView:
        """Begin; the first page is written after the first epoch."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the log; of a training that did not end, write a last page that does not reload itself."""
        if self._trainer is not None and not self._ended:
            self.stop(self._trainer, str(error) or type(error).__name__)
        self._log(lambda writer: writer.close())

    def _show(self, trainer: Trainer, state: str, *, last: bool = False, best: bool = False, report: str = "") -> None:
        """Draw; write the page, and into the log what is due there."""
        self._ended = last
        now = time.monotonic()
        logs = self.writer is not None and (last or now >= self._log_due)
        if self.page is None and not logs:
            return
        sections: list[Section] = []
        self._try("drawing", lambda: sections.extend(self.training.sections(trainer, best=best)))
        if self.page is not None:
            page = self.page
            whole = partial(self._render, trainer, sections, state, report, last)
            self._try(f"writing {page}", lambda: write_whole(page, whole().encode()))

        def figures(writer: Any) -> None:
            for section in sections:
                writer.add_figure(section.heading, section.figures[0], len(trainer.history))

        if logs:
            self._log_due = now + LOG_PERIOD
            self._log(figures)

    def _render(self, trainer: Trainer, sections: list[Section], state: str, report: str, last: bool) -> str:
        done, epochs = len(trainer.history), self.training.epochs
        numbers = {"epoch": f"{done:,} of {epochs:,}"}
        if done:
            newest = trainer.history[-1]
            numbers |= {"loss": f"{newest.loss:.4g}", "lowest loss": f"{trainer.best_loss:.4g}"}
            numbers |= {"‖gradient‖": f"{newest.gradient_norm:.3g}"}
        return render(
            "live.html.j2",
            title=self.training.title,
            state=state,
            seconds=None if last else round(PERIOD),
            report=report,
            done=done,
            epochs=epochs,
            numbers={**numbers, "drawn at": time.strftime("%H:%M:%S")},
            parts=rendered(sections),
        )

    def _log(self, write: Callable[[Any], Any]) -> None:
        """Write into the log, if there is one; a log that failed once is left alone."""
        if self.writer is not None and not self._try("logging for TensorBoard", lambda: write(self.writer)):
            self.writer = None

    def _try(self, what: str, action: Callable[[], Any]) -> bool:
        """Do something, and return whether it went well: the training must not end because nobody can look at it."""
        try:
            action()
        except Exception as error:
            if what not in self._warned:
                self._warned.add(what)
                reason = (isinstance(error, OSError) and error.strerror) or f"{type(error).__name__}: {error}"
                self.warn(f"{what} failed ({reason}); the training goes on")
            return False
        return True
