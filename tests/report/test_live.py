"""The live view: what its page shows, when it draws, and that nothing it does ends a training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from browser import Browser
from report.test_page import HOSTILE
from retrograd.estimators.recurrent.network import Network
from retrograd.estimators.recurrent.training import Trainer
from retrograd.pictures.figures import new_figure
from retrograd.report import live
from retrograd.report.content import Section
from retrograd.report.live import LiveView, Training
from retrograd.tables.read import Table

DAY = np.timedelta64(1, "D")


@dataclass(frozen=True)
class Example:
    training: Training
    trainer: Trainer


def example(
    steps: int = 60, *, start: int | None = None, targets: int = 1, closed_loop: int | None = None, dated: bool = False
) -> Example:
    """Two thirds are trained on, unless ``start`` says otherwise."""
    rng = np.random.default_rng(0)
    start = 2 * steps // 3 if start is None else start
    t = np.arange(steps)
    y = 20 + 5 * np.sin(t[:, None] / 3 + np.arange(targets)) + 0.3 * rng.normal(size=(steps, targets))
    time = np.datetime64("2024-01-01", "ns") + t * DAY if dated else 1900 + t
    names = [f"y{k} {HOSTILE}" for k in range(targets)]
    table = Table("wave.csv", "day", time, names, y, [], y[:, :0])
    model = Network.untrained(y[:start], y[:start, :0], hidden=4, target_names=names)
    trainer = Trainer(model.weights, *model.series(y[:start], y[:start, :0]), horizon=closed_loop)
    return Example(Training(model, table, start, closed_loop, 9, HOSTILE), trainer)


def epochs(view: LiveView, trainer: Trainer, count: int) -> None:
    for _ in range(count):
        trainer.step()
        view.observe(trainer)


def test_pages_open_in_a_browser_in_either_scheme(browser: Browser, tmp_path: Path) -> None:
    """Hostile names, dates, many targets and a closed loop; a long series of which nothing is held out."""
    for dark, made in ((True, example(targets=6, dated=True, closed_loop=5)), (False, example(1_500, start=1_500))):
        page = tmp_path / "live.html"
        with LiveView(made.training, page) as view:
            epochs(view, made.trainer, 2)
            assert f'content="{round(live.PERIOD)}"' in page.read_text()
            view.finish(made.trainer, "report.html")
        assert 'http-equiv="refresh"' not in page.read_text()
        with browser.open(page, dark=dark) as opened:
            assert opened.locator("svg.picture").count() == 4
            assert opened.locator("h1").inner_text() == " ".join(HOSTILE.split())
            ink = opened.evaluate("getComputedStyle(document.querySelector('svg.picture text')).fill")
            assert ink == ("rgb(236, 236, 236)" if dark else "rgb(27, 27, 27)")
            assert opened.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_it_draws_at_most_every_period_and_a_tenth_of_the_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made, clock, drawn = example(), [0.0], []

    def sections(training: Training, trainer: Trainer, *, best: bool = False) -> list[Any]:
        drawn.append(clock[0])
        clock[0] += cost
        return []

    monkeypatch.setattr(Training, "sections", sections)
    monkeypatch.setattr(live.time, "monotonic", lambda: clock[0])
    made.trainer.step()
    for cost, apart in ((0.1, live.PERIOD + 0.1), (5.0, 50.0)):  # noqa: B007  (read by `sections`)
        view = LiveView(made.training, tmp_path / "live.html")
        drawn.clear()
        for _ in range(1_000):
            clock[0] += 0.1
            view.observe(made.trainer)
        assert np.diff(drawn).min() >= apart - 1e-9
        assert np.diff(drawn).max() <= apart + 0.2


@pytest.mark.parametrize("broken", ["drawing", "page", "log"])
def test_what_fails_is_one_warning_and_the_training_is_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, broken: str
) -> None:
    class Full:
        def __getattr__(self, name: str) -> Any:
            raise OSError(28, "No space left on device")

    def failing(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no picture today")

    monkeypatch.setattr(live, "PERIOD", 0.0)
    monkeypatch.setattr(live, "REST", 0)
    plain, made, warned = example(), example(), []
    if broken == "drawing":
        monkeypatch.setattr(live, "gradient_norms", failing)
    else:
        figure, _ = new_figure()
        monkeypatch.setattr(Training, "sections", lambda *_, best: [Section("Loss", "", [figure])])
    page = tmp_path / "missing" / "live.html" if broken == "page" else tmp_path / "live.html"
    for _ in range(4):
        plain.trainer.step()
    with LiveView(made.training, page, Full() if broken == "log" else None, warned.append) as view:
        epochs(view, made.trainer, 4)
        view.finish(made.trainer)
    (line,) = warned
    assert (
        line
        == {
            "drawing": "drawing failed (RuntimeError: no picture today); the training goes on",
            "page": f"writing {page} failed (No such file or directory); the training goes on",
            "log": "logging for TensorBoard failed (No space left on device); the training goes on",
        }[broken]
    )
    for name, weight in plain.trainer.weights.items():
        assert torch.equal(weight, made.trainer.weights[name])
    if broken != "page":
        assert "Training ended after 4 epochs." in page.read_text()


def test_an_error_of_the_training_leaves_a_page_that_says_so(tmp_path: Path) -> None:
    made, page = example(), tmp_path / "live.html"

    def fails() -> None:
        with LiveView(made.training, page) as view:
            epochs(view, made.trainer, 1)
            raise ValueError("went wrong")

    with pytest.raises(ValueError, match="went wrong"):
        fails()
    assert "Training stopped: went wrong" in page.read_text()
    assert 'http-equiv="refresh"' not in page.read_text()


def test_weights_that_overflow_are_drawn_without_a_warning(tmp_path: Path) -> None:
    made, page = example(), tmp_path / "live.html"
    with LiveView(made.training, page) as view:
        made.trainer.step()
        with torch.no_grad():
            made.trainer.weights["weight_hh"].mul_(1e200)
        view.observe(made.trainer)
    assert "the gradient is not finite" in page.read_text()
