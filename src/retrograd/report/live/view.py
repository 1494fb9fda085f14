"""The live view of a training: what the training thread calls, and the thread that draws.

The training thread copies the weights, ten times a second at most, and goes on. Everything else (predictions,
gradients, eigenvalues, JSON, sending) happens in other threads, only while a page is open, and never for more than a
small share of the time. The training's own numbers are not touched.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from retrograd.estimators.recurrent.training import Trainer
from retrograd.report.live.board import Board
from retrograd.report.live.pictures import Pictures, Snapshot
from retrograd.report.live.server import LiveServer

__all__ = ["LiveView"]

PERIOD_SECONDS = 0.1
# After a picture that took long, so many times as long nothing is drawn.
REST = 9
# How long the end of a command waits: for the last picture, and for the clients to take it.
FAREWELL_SECONDS = 1.0


class LiveView:
    """Serves the live view from ``with`` to its end, which tells open pages how the training ended.

    Args:
        pictures: of the training.
        epochs: how many there will be.
        title: of the page.
        port: where it is served; 0 for any free one.

    Raises:
        OSError: the port cannot be opened.

    Examples:
        >>> import numpy as np
        >>> from retrograd.tables.read import Table
        >>> from retrograd.estimators.recurrent.estimator import Recurrent
        >>> y = np.sin(np.arange(60.0))[:, None]
        >>> table = Table("wave", "step", np.arange(60), ["sine"], y, [], y[:, :0])
        >>> model = Recurrent.untrained(y[:50], y[:50, :0], hidden=4, target_names=["sine"])
        >>> trainer = Trainer(model.weights, *model.series(y[:50], y[:50, :0]))
        >>> with LiveView(Pictures(model, table, 50, None), epochs=3, title="wave") as view:
        ...     for _ in range(3):
        ...         epoch = trainer.step()
        ...         view.observe(trainer)
        ...     view.url.startswith("http://127.0.0.1:")
        True
    """

    def __init__(self, pictures: Pictures, *, epochs: int, title: str, port: int = 0) -> None:
        self._pictures, self._epochs, self._title = pictures, epochs, title
        self._board, self._snapshots = Board(), Board()
        self._due = 0.0
        self._ending, self._abandoned = threading.Event(), threading.Event()
        self._status: dict[str, Any] = {"state": "training", "epoch": 0, "epochs": epochs, "reason": "", "report": ""}
        self._frame_sent = False
        self._painter = threading.Thread(target=self._paint, name="live pictures", daemon=True)
        self._template = _template()
        self._server = LiveServer(self._board, self._page, port)

    @property
    def url(self) -> str:
        """Where the page is."""
        return self._server.url

    def observe(self, trainer: Trainer) -> None:
        """Note where the training is, if it is time again."""
        now = time.monotonic()
        if now >= self._due:
            self._due = now + PERIOD_SECONDS
            self._note(trainer, "training")
            self._hand_over(trainer, best=False)

    def writing(self, trainer: Trainer) -> None:
        """Say that the training is over; from now on, show its best weights."""
        self._note(trainer, "writing")
        self._hand_over(trainer, best=True)

    def finished(self, report: str) -> None:
        """Say where the report is."""
        self._put_status(state="done", report=report)

    def stopped(self, trainer: Trainer, reason: str) -> None:
        """Say why the training ended before its time."""
        self._note(trainer, "stopped", reason)
        self._hand_over(trainer, best=False)

    def __enter__(self) -> LiveView:
        """Begin to draw."""
        self._put_status()
        self._painter.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Let open pages have the last state, and stop. Nobody is waited for longer than a second or two.

        Ctrl-C changes nothing of that: the pages would not be told that this was the end, and what the command was to
        do is done, or has failed already.
        """
        with _without_interruption():
            if error is not None and self._status["state"] not in ("stopped", "done"):
                interrupted = isinstance(error, KeyboardInterrupt)
                self._put_status(
                    state="stopped", reason="interrupted" if interrupted else str(error) or type(error).__name__
                )
            self._ending.set()
            self._painter.join(FAREWELL_SECONDS if self._board.watchers else 0.0)
            self._abandoned.set()
            self._server.close(FAREWELL_SECONDS)
            # A thread within torch while the interpreter ends would take the process down with it. What is left is one
            # picture, about as long as an epoch.
            self._painter.join()

    def _note(self, trainer: Trainer, state: str, reason: str = "") -> None:
        status: dict[str, Any] = {"state": state, "reason": reason, "epoch": len(trainer.history)}
        if trainer.history:
            last = trainer.history[-1]
            status.update(loss=last.loss, gradient_norm=last.gradient_norm, best_loss=trainer.best_loss)
        self._put_status(**status)

    def _put_status(self, **changes: Any) -> None:
        # A new one each time: what is on the board is being read.
        self._status = {**self._status, **changes}
        self._board.put("status", self._status)

    def _hand_over(self, trainer: Trainer, *, best: bool) -> None:
        weights = trainer.best if best else trainer.weights
        copies = {name: weight.detach().cpu().numpy().copy() for name, weight in weights.items()}
        self._snapshots.put("snapshot", Snapshot(copies, trainer.history, len(trainer.history), best))

    def _paint(self) -> None:
        seen = 0
        try:
            while not self._abandoned.is_set():
                ending = self._ending.is_set()  # asked first: what comes before it is then among the newer
                found = self._snapshots.newer(seen, timeout=PERIOD_SECONDS) if self._watched() else []
                if not found:
                    if ending:
                        return
                    continue
                seen = found[-1].number
                began = time.monotonic()
                if not self._frame_sent:
                    self._board.put("frame", self._pictures.frame())
                    self._frame_sent = True
                self._board.put("pictures", self._pictures.of(found[-1].content))
                self._ending.wait(max(PERIOD_SECONDS, REST * (time.monotonic() - began)))
        except Exception as error:  # the page is told; the training goes on
            self._board.put("trouble", f"{type(error).__name__}: {error}")

    def _watched(self) -> bool:
        return self._board.wait_for_watcher(PERIOD_SECONDS)

    def _page(self, nonce: str) -> str:
        return str(self._template.render(nonce=nonce, title=self._title))


@contextmanager
def _without_interruption() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # which alone is interrupted
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _template() -> Any:
    from jinja2 import Environment, PackageLoader

    # Autoescape for every text that the page is given.
    loader = PackageLoader("retrograd.report.live", ".")
    return Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True).get_template(
        "page.html.j2"
    )
