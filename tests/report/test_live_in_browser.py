"""The live view in a browser: what it shows while a training runs, and who cannot read it."""

from __future__ import annotations

import http.server
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browser import Browser, wait_until
from report.live_training import Training, training
from retrograd.report.live import LiveView, Pictures, server

FIGURES = ("loss", "prediction", "flow", "spectrum")


def shown(page: Any, name: str) -> str:
    text: str = page.inner_text(f"#{name}")
    return text


def number(text: str) -> float:
    return float(text.replace("−", "-"))


def drawn(page: Any, figure: str, style: str) -> int:
    """How many points a line or a set of markers has; 0 where there is none."""
    found = page.locator(f"#{figure}-figure g path[class~='{style}']:not([class~='trail'])")
    return sum(len(re.findall("[ML]", found.nth(k).get_attribute("d"))) for k in range(found.count()))


def step(run: Training, view: LiveView, epochs: int = 1) -> None:
    for _ in range(epochs):
        run.trainer.step()
    view._due = 0.0
    view.observe(run.trainer)


def test_the_page_follows_a_training_to_its_end_and_shows_its_numbers(browser: Browser) -> None:
    run = training(120)
    with LiveView(run.pictures, epochs=30, title="wave") as view, browser.open(view.url) as page:
        for epoch in (1, 2, 7, 20):
            step(run, view, epoch - len(run.trainer.history))
            wait_until(page, f"document.getElementById('shown').textContent === 'Pictures: after epoch {epoch}.'")
            assert shown(page, "epoch") == f"{epoch} of 30"
            last = run.trainer.history[-1]
            assert number(shown(page, "loss")) == pytest.approx(last.loss, rel=1e-3)
            assert number(shown(page, "norm")) == pytest.approx(last.gradient_norm, rel=1e-3)
            assert number(shown(page, "best")) == pytest.approx(run.trainer.best_loss, rel=1e-3)
            assert shown(page, "state") == "training"
            picture = run.pictures.of(run.snapshot())
            one_step = np.array(picture["one_step"][0][1:80])
            error = np.sqrt(np.mean((one_step - run.table.targets[1:80, 0]) ** 2))
            said = re.search(r"one step ahead (\S+) in the training part", shown(page, "prediction-reading"))
            assert said is not None
            assert number(said.group(1)) == pytest.approx(error, rel=1e-3)
            assert f"W_hh {picture['spectrum']['open']['radius']:.4g}" in shown(page, "spectrum-reading")
        assert drawn(page, "loss", "model") == 20
        assert drawn(page, "prediction", "model") == 119
        assert drawn(page, "prediction", "truth") == 120
        assert drawn(page, "prediction", "second") == 40
        assert drawn(page, "flow", "model") == 79
        assert drawn(page, "spectrum", "model") == drawn(page, "spectrum", "second") == 4
        assert page.locator("#spectrum-figure path.trail").count() == 2 * 3
        for _ in range(10):
            run.trainer.step()
        run.trainer.finish()
        view.writing(run.trainer)
        wait_until(page, "document.getElementById('state').textContent.startsWith('trained')")
        view.finished("runs/wave/report.html")
        view.__exit__(None, None, None)
        # The command has ended: the page keeps the last state, and asks for nothing any more.
        wait_until(page, "ended")
        assert shown(page, "state") == "done"
        assert shown(page, "epoch") == "30 of 30"
        assert "The report is in runs/wave/report.html." in shown(page, "report")
        wait_until(page, "document.getElementById('shown').textContent.includes('best weights')")
        assert drawn(page, "loss", "model") == 30
        assert "done; epoch 30 of 30" in page.locator("#announcement").text_content()
        page.wait_for_timeout(1500)  # longer than a page that has lost its connection waits to ask again
        assert shown(page, "state") == "done"


@contextmanager
def fit(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`retrograd fit --live` as a user runs it, and where its page is."""
    command = [sys.executable, "-m", "retrograd", "fit", "sunspots", "--target", "sunspots", "--time", "year", "--live"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([*command, *options], cwd=folder, env=environment, **pipes) as running:
        assert running.stderr is not None
        line = running.stderr.readline()
        found = re.fullmatch(r"Live view: (http://127\.0\.0\.1:\d+/[\w-]{32}/)\n", line)
        try:
            assert found is not None, line
            yield running, found.group(1)
        finally:
            running.kill()


def test_the_page_of_a_command_that_is_interrupted(browser: Browser, tmp_path: Path) -> None:
    with fit(tmp_path, "--epochs", "10000000") as (running, url), browser.open(url) as page:
        for above in (0, 100, 200):
            wait_until(page, f"parseInt(document.getElementById('epoch').textContent) > {above}")
        wait_until(page, "document.querySelector('#flow-figure path.model') !== null")
        running.send_signal(signal.SIGINT)
        wait_until(page, "ended")
        out, err = running.communicate()
        assert running.returncode == 130, err
        stopped = re.search(r"Stopped after epoch (\d+) of 10000000", out)
        assert stopped is not None
        assert "--live" in out  # in the command that continues
        epoch = stopped.group(1)
        assert shown(page, "state") == f"stopped: interrupted after epoch {epoch}; --resume continues it"
        assert shown(page, "epoch") == f"{epoch} of 10000000"
        wait_until(page, f"document.getElementById('shown').textContent === 'Pictures: after epoch {epoch}.'")


def test_closing_the_page_leaves_the_command_alone(browser: Browser, tmp_path: Path) -> None:
    with fit(tmp_path, "--epochs", "3000") as (running, url):
        with browser.open(url) as page:
            wait_until(page, "parseInt(document.getElementById('epoch').textContent) > 0")
        _, err = running.communicate()
        assert running.returncode == 0, err
    assert (tmp_path / "runs" / "sunspots" / "report.html").is_file()


def test_a_connection_that_is_lost_is_said_to_be(browser: Browser, tmp_path: Path) -> None:
    said: list[str] = []

    def lose() -> None:
        with fit(tmp_path, "--epochs", "10000000") as (running, url), browser.open(url) as page:
            wait_until(page, "parseInt(document.getElementById('epoch').textContent) > 0")
            running.kill()
            wait_until(page, "lost")
            said.append(shown(page, "state"))
            page.wait_for_timeout(3000)

    with pytest.raises(AssertionError, match="ERR_CONNECTION_REFUSED"):  # of asking again, in the console
        lose()
    assert said == ["connection lost (training goes on, unless its command has ended); trying again"]


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1100])
def test_it_is_readable_on_any_screen_and_by_keyboard(browser: Browser, width: int, dark: bool) -> None:
    run = training(120, targets=2, dated=True)
    view = LiveView(run.pictures, epochs=9, title="a long title " * 9)
    with view, browser.open(view.url, width=width, dark=dark) as page:
        step(run, view)
        wait_until(page, "document.getElementById('shown').textContent.startsWith('Pictures')")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for name in FIGURES:
            box = page.locator(f"#{name}-figure").bounding_box()
            assert box["width"] > 300
            assert box["x"] + box["width"] <= width
            figure = page.locator(f"#{name}-figure")
            assert figure.get_attribute("role") == "img"
            assert len(page.inner_text(f"#{figure.get_attribute('aria-labelledby')}")) > 3
            assert len(page.inner_text(f"#{figure.get_attribute('aria-describedby')}")) > 20
        columns = {page.locator(f"#{name}-figure").bounding_box()["x"] for name in FIGURES}
        assert len(columns) == (2 if width > 1000 else 1)
        ink, paper = (
            sum(map(int, re.findall(r"\d+", page.evaluate(f"getComputedStyle(document.body).{name}"))[:3]))
            for name in ("color", "backgroundColor")
        )
        assert (ink > paper) is dark
        # Every control, by keyboard alone.
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "pause"
        page.keyboard.press("Enter")
        assert page.get_attribute("#pause", "aria-pressed") == "true"
        step(run, view)
        wait_until(page, "document.getElementById('epoch').textContent === '2 of 9'")
        wait_until(page, "pictures.epoch === 2")
        assert shown(page, "shown") == "Pictures: after epoch 1."
        page.keyboard.press("Enter")
        wait_until(page, "document.getElementById('shown').textContent === 'Pictures: after epoch 2.'")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "target"
        # Text of the data stays text.
        assert page.locator("#target option").all_inner_texts() == ["y0 <b>$$x$$", "y1 <b>$$x$$"]
        page.keyboard.press("ArrowDown")
        wait_until(page, "document.getElementById('prediction-reading').textContent.startsWith('y1 <b>$$x$$:')")


def test_zero_and_broken_values_are_marked_each_in_its_own_way(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = Pictures.of

    def spoilt(self: Pictures, snapshot: Any) -> dict[str, Any]:
        found = computed(self, snapshot)
        found["flow"]["norm"][:5] = [None] * 5
        found["flow"]["zero"] = {"count": 3, "at": found["flow"]["at"][:3]}
        found["flow"]["broken"] = {"count": 2, "at": found["flow"]["at"][3:5]}
        found["one_step"][0][50:53] = [None] * 3
        found["free_run"][0][90] = 1e300
        found["spectrum"]["closed"]["broken"] = 2
        return found

    monkeypatch.setattr(Pictures, "of", spoilt)
    run = training(120)
    with LiveView(run.pictures, epochs=9, title="wave") as view, browser.open(view.url) as page:
        step(run, view)
        wait_until(page, "document.getElementById('shown').textContent.startsWith('Pictures')")
        zero, broken = (page.locator(f"#flow-figure path.{style}") for style in ("nought", "solid"))
        assert len(re.findall("M", zero.get_attribute("d"))) == 3
        assert len(re.findall("M", broken.get_attribute("d"))) == 2
        assert zero.bounding_box()["y"] > broken.bounding_box()["y"] + 100
        assert "Exactly zero at 3 of 79 steps: ×" in shown(page, "flow-reading")
        assert "Not finite at 2 of 79 steps: ▼" in shown(page, "flow-reading")
        assert "3 predictions are not finite" in shown(page, "prediction-reading")
        assert "A prediction leaves the picture." in shown(page, "prediction-reading")
        # The line is broken, not drawn through what is missing.
        path = page.locator("#prediction-figure path.wide").get_attribute("d")
        assert (path.count("M"), path.count("M") + path.count("L")) == (2, 116)
        low, high = (run.table.targets.min(), run.table.targets.max())
        labels = page.locator("#prediction-figure text[text-anchor='end']").all_text_contents()
        ticks = [number(text) for text in labels]
        assert min(ticks) > low - 2 * (high - low)
        assert max(ticks) < high + 2 * (high - low)
        assert "2 not finite" in shown(page, "spectrum-reading")


# --- another origin ---

SPY = """<!doctype html><title>another page</title><script>
const url = %r;
async function spy() {
  const found = {};
  for (const mode of ["cors", "no-cors", "same-origin"]) {
    found[mode] = await fetch(url, {mode, credentials: "include"}).then((r) => r.text(), () => "refused");
  }
  found.events = await new Promise((done) => {
    const source = new EventSource(url + "events");
    source.addEventListener("status", (event) => done(event.data));
    source.onerror = () => { source.close(); done("refused"); };
  });
  found.script = await new Promise((done) => {
    const script = document.createElement("script");
    script.onload = () => done("loaded");
    script.onerror = () => done("refused");
    script.src = url;
    document.head.append(script);
  });
  const frame = document.createElement("iframe");
  document.body.append(frame);
  await new Promise((done) => { frame.onload = done; frame.src = url; });
  return found;
}
</script><body></body>"""


@pytest.fixture
def other_origin() -> Iterator[Any]:
    """Serves one page on another port of this machine: call it with the page, get its address."""
    content = ""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(content.encode())

        def log_message(self, *args: Any) -> None:
            pass

    other = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=other.serve_forever, args=(0.05,))
    thread.start()

    def serve(page: str) -> str:
        nonlocal content
        content = page
        return f"http://127.0.0.1:{other.server_address[1]}/"

    yield serve
    other.shutdown()
    thread.join()
    other.server_close()


def spied(browser: Browser, spy: str) -> tuple[dict[str, str], str]:
    """What a page of another origin gets by its requests, and what stands in its frame."""
    found: list[Any] = []

    def look() -> None:
        with browser.open(spy) as page:
            found.append(page.evaluate("spy()"))
            assert page.evaluate("document.querySelector('iframe').contentDocument") is None
            found.append(page.frames[1].evaluate("document.documentElement.outerHTML"))

    # The browser fixture notices that the page asks elsewhere.
    with pytest.raises(AssertionError, match="the page asked for"):
        look()
    return found[0], found[1]


# The headers alone: as in a browser that does not say where a request comes from.
@pytest.mark.parametrize("headers_alone", [False, True])
def test_a_page_of_another_origin_that_knows_the_address_cannot_read_it(
    browser: Browser, other_origin: Any, monkeypatch: pytest.MonkeyPatch, headers_alone: bool
) -> None:
    if headers_alone:
        monkeypatch.setattr(server._Handler, "_refusal", lambda self: None)
    run = training()
    with LiveView(run.pictures, epochs=9, title="secret wave") as view:
        step(run, view)
        found, framed = spied(browser, other_origin(SPY % view.url))
    # Without CORS, the answer would be opaque; Cross-Origin-Resource-Policy keeps even that from the page.
    assert found == dict.fromkeys(("cors", "no-cors", "same-origin", "events", "script"), "refused")
    assert "secret wave" not in framed
    assert "loss-figure" not in framed
