"""The live view of a training: it says where the training is, and takes no part in it."""

from __future__ import annotations

import signal
import threading
from typing import Any

import numpy as np
import pytest
import torch

from report.live_client import PATIENCE, Stream, ask, interrupt_the_end
from report.live_training import Training, training
from retrograd.report.live import LiveView, Pictures
from retrograd.report.live import view as module


def view_of(run: Training, epochs: int = 5) -> LiveView:
    return LiveView(run.pictures, epochs=epochs, title="wave </script> & $$x$$")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The view's clock, which stands still unless it is set."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_the_state_and_the_pictures_reach_a_page_and_so_does_the_end() -> None:
    run = training()
    with view_of(run) as view, Stream(view.url) as stream:
        assert stream.until("status") == {"state": "training", "epoch": 0, "epochs": 5, "reason": "", "report": ""}
        run.trainer.step()
        view.observe(run.trainer)
        status = stream.until("status")
        (epoch,) = run.trainer.history
        assert (status["epoch"], status["loss"], status["gradient_norm"]) == (1, epoch.loss, epoch.gradient_norm)
        assert stream.until("frame") == run.pictures.frame()
        assert stream.until("pictures") == run.pictures.of(run.snapshot())
        for _ in range(4):
            run.trainer.step()
        run.trainer.finish()
        with torch.no_grad():
            run.trainer.weights["weight_hh"].mul_(0.5)  # the newest weights are not always the best
        view.writing(run.trainer)
        best = stream.until("pictures")
        assert best["best"] is True
        assert best["epoch"] == 5
        found = type(run.model)(run.trainer.best, *_rest(run)).one_step(run.table.targets, run.table.inputs)
        assert best["one_step"][0][-1] == pytest.approx(found[-1, 0], rel=1e-6)
        view.finished("runs/wave/report.html")
        done = stream.until("status")
        assert (done["state"], done["report"], done["epoch"]) == ("done", "runs/wave/report.html", 5)
        assert done["best_loss"] == run.trainer.best_loss
        url = view.url
    with pytest.raises(ConnectionRefusedError):
        ask(url)


def _rest(run: Training) -> tuple[Any, ...]:
    model = run.model
    return model.target_names, model.input_names, model.target_scaling, model.input_scaling


def test_the_last_state_reaches_a_page_that_takes_it_late() -> None:
    run = training()
    with view_of(run) as view:
        stream = Stream(view.url)
        stream.until("status")
        run.trainer.step()
        view.writing(run.trainer)
        view.finished("report.html")
    # Only now does the page take what was sent.
    with stream:
        got = list(stream)
    assert got[-1] == ("end", {})
    last = dict(got)
    assert last["status"]["state"] == "done"
    assert last["pictures"]["best"] is True


@pytest.mark.parametrize("watched", [False, True])
def test_training_is_bit_for_bit_the_same(watched: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    # As much work beside the training as there can be: a picture whenever there is one to draw.
    monkeypatch.setattr(module, "PERIOD_SECONDS", 0.001)
    monkeypatch.setattr(module, "REST", 0)
    plain, shown = training(200), training(200)
    for _ in range(40):
        plain.trainer.step()
    plain_delta = plain.trainer.finish()
    with view_of(shown, 40) as view:
        streams = [Stream(view.url) for _ in range(3 * watched)]
        for stream in streams:
            stream.until("status")
        for number in range(40):
            shown.trainer.step()
            view.observe(shown.trainer)
            if number == 20 and streams:
                streams.pop()._response.close()  # a page is closed in the middle of it
        delta = shown.trainer.finish()
        view.writing(shown.trainer)
    for stream in streams:
        stream._response.close()
    assert torch.equal(delta, plain_delta)
    assert shown.trainer.history == plain.trainer.history
    for name, weight in plain.trainer.weights.items():
        assert torch.equal(weight, shown.trainer.weights[name])
        assert torch.equal(plain.trainer.best[name], shown.trainer.best[name])


def test_nothing_is_computed_while_nobody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[int] = []
    monkeypatch.setattr(Pictures, "of", lambda self, snapshot: computed.append(snapshot.epochs) or {})
    run = training()
    with view_of(run) as view:
        for _ in range(5):
            run.trainer.step()
            view._due = 0.0
            view.observe(run.trainer)
        assert computed == []
        with Stream(view.url) as stream:
            # Whoever comes later is shown the newest state, even if no epoch ends any more.
            stream.until("pictures")
        assert computed == [5]


def test_the_training_thread_copies_weights_ten_times_a_second_at_most(clock: list[float]) -> None:
    run = training()
    with view_of(run) as view:
        for passed in (0.0, 0.03, 0.03, 0.03, 0.03, 0.03, 0.2):
            clock[0] += passed
            run.trainer.step()
            view.observe(run.trainer)
        # At 0, at 0.12 and at 0.35 s.
        assert view._snapshots._puts == 3
        (entry,) = view._snapshots.newer(0, timeout=0.0)
        snapshot = entry.content
        assert snapshot.epochs == 7
        kept = {name: weight.copy() for name, weight in snapshot.weights.items()}
        run.trainer.step()
        for name, weight in kept.items():
            np.testing.assert_array_equal(snapshot.weights[name], weight)  # copies: the training goes on without them


def test_a_picture_that_takes_long_delays_neither_the_training_nor_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, free = threading.Event(), threading.Event()

    def slow(self: Pictures, snapshot: Any) -> dict[str, Any]:
        begun.set()
        assert free.wait(PATIENCE)
        return {}

    monkeypatch.setattr(Pictures, "of", slow)
    run = training()
    with view_of(run) as view, Stream(view.url) as stream:
        run.trainer.step()
        view.observe(run.trainer)
        assert begun.wait(PATIENCE)
        for _ in range(4):
            run.trainer.step()
            view._due = 0.0
            view.observe(run.trainer)
        while stream.until("status")["epoch"] < 5:
            pass
        free.set()


def test_pictures_that_fail_are_reported_and_the_training_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Pictures, snapshot: Any) -> dict[str, Any]:
        raise ArithmeticError("no such number")

    monkeypatch.setattr(Pictures, "of", broken)
    run = training()
    with view_of(run) as view, Stream(view.url) as stream:
        run.trainer.step()
        view.observe(run.trainer)
        assert stream.until("trouble") == "ArithmeticError: no such number"
        run.trainer.step()
        view._due = 0.0
        view.observe(run.trainer)
        assert stream.until("status")["epoch"] == 2


@pytest.mark.parametrize(
    ("error", "reason"),
    [(KeyboardInterrupt(), "interrupted"), (ValueError("the loss is nan"), "the loss is nan"), (OSError(), "OSError")],
)
def test_an_error_is_what_a_page_is_told_last(error: BaseException, reason: str) -> None:
    opened: list[Stream] = []

    def train() -> None:
        with view_of(training()) as view:
            opened.append(Stream(view.url))
            opened[0].until("status")
            raise error

    with pytest.raises(type(error)):
        train()
    with opened[0] as stream:
        last = dict(stream)
    assert (last["status"]["state"], last["status"]["reason"]) == ("stopped", reason)


@pytest.mark.parametrize("error", [None, KeyboardInterrupt(), ValueError("the loss is nan")])
def test_ctrl_c_while_it_ends_leaves_no_page_without_its_end(
    error: BaseException | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_the_end(monkeypatch)
    opened: list[Stream] = []
    handler = signal.getsignal(signal.SIGINT)

    def train() -> None:
        with view_of(training()) as view:
            opened.append(Stream(view.url))
            opened[0].until("status")
            if error is not None:
                raise error

    if error is None:
        train()
    else:
        with pytest.raises(type(error)) as raised:
            train()
        assert raised.value is error
    with opened[0] as stream:
        assert list(stream)[-1] == ("end", {})
    assert signal.getsignal(signal.SIGINT) is handler


def test_what_stopped_the_training_is_kept(clock: list[float]) -> None:
    run = training()
    with view_of(run) as view:
        run.trainer.step()
        view.stopped(run.trainer, "interrupted after epoch 1")
        stream = Stream(view.url)
        stream.until("pictures")
    with stream:
        assert list(stream) == [("end", {})]
    assert (view._status["state"], view._status["reason"]) == ("stopped", "interrupted after epoch 1")


def test_text_is_escaped_in_the_page() -> None:
    run = training()
    with view_of(run) as view:
        page = ask(view.url).text
    assert "wave &lt;/script&gt; &amp; $$x$$" in page
    assert page.count("</script>") == 1
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
