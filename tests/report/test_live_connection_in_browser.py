"""The live view's page and its connection: refused, lost, given back, and taken up again."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from browser import Browser, wait_until
from report.live_client import Stream
from report.live_training import training
from report.test_live_in_browser import fit, shown, step
from retrograd.report.live import LiveView, server
from retrograd.report.live.board import Board
from retrograd.report.live.server import LiveServer

STATE = "document.getElementById('state').textContent"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has gone is noticed at once."""
    monkeypatch.setattr(server, "HEARTBEAT_SECONDS", 0.05)


def test_a_page_that_is_refused_says_why_and_comes_in_when_there_is_room(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MOST_CLIENTS", 1)
    run = training()

    def refused() -> None:
        with LiveView(run.pictures, epochs=9, title="wave") as view, Stream(view.url) as other:
            other.until("status")
            step(run, view)
            with browser.open(view.url) as page:
                wait_until(page, f"{STATE}.startsWith('refused')")
                reason = "Service Unavailable. At most 1 pages are served at a time."
                assert shown(page, "state") == f"refused ({reason}); trying again"
                other._response.close()
                wait_until(page, f"{STATE} === 'training'")
                wait_until(page, "document.getElementById('epoch').textContent === '1 of 9'")

    with pytest.raises(AssertionError, match="503"):  # in the console, of what was refused
        refused()


def test_a_port_that_another_run_has_now_is_not_asked_for_ever(browser: Browser, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    said: list[str] = []

    def lose() -> None:
        with (
            fit(tmp_path, "--epochs", "10000000", "--live-port", str(port)) as (running, url),
            browser.open(url) as page,
        ):
            wait_until(page, "parseInt(document.getElementById('epoch').textContent) > 0")
            running.kill()
            running.wait()
            other = LiveServer(Board(), lambda nonce: "", port)
            wait_until(page, f"{STATE}.startsWith('refused')")
            said.append(shown(page, "state"))
            asked: list[str] = []
            page.on("request", lambda request: asked.append(request.url))
            page.wait_for_timeout(1500)
            assert asked == []
            other.close(timeout=1.0)

    with pytest.raises(AssertionError, match="404"):
        lose()
    assert said == ["refused (Not Found. There is nothing at this address.)"]


def test_where_pages_are_many_one_out_of_sight_lets_its_connection_go(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "CROWD", 2)
    run = training(targets=2)

    def seen(page: Any, whether: bool) -> None:
        page.evaluate(
            f"Object.defineProperty(document, 'hidden', {{ value: {str(not whether).lower()}, writable: true }})"
        )
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")

    def watchers(page: Any, count: int) -> None:
        for _ in range(500):
            if view._board.watchers == count:
                return
            page.wait_for_timeout(20)
        raise AssertionError(view._board.watchers)

    with LiveView(run.pictures, epochs=9, title="wave") as view, browser.open(view.url) as page:
        step(run, view)
        wait_until(page, "pictures !== null && pictures.epoch === 1")
        page.select_option("#target", "1")
        # Alone, it goes on listening while nobody looks: it must not miss the end.
        seen(page, False)
        step(run, view)
        wait_until(page, "pictures.epoch === 2")
        with Stream(view.url):
            watchers(page, 1)  # the other one
            step(run, view)
            page.wait_for_timeout(300)
            assert page.evaluate("pictures.epoch") == 2
            assert shown(page, "state") == "training"  # not lost, and nobody sees it
            seen(page, True)
            watchers(page, 2)
            wait_until(page, "pictures.epoch === 3")
            assert page.input_value("#target") == "1"
            # Out of sight again, while they are still many.
            seen(page, False)
            watchers(page, 1)
            seen(page, True)
            watchers(page, 2)
        watchers(page, 1)  # the page's own
        page.wait_for_timeout(300)  # it is told that they are few
        seen(page, False)
        step(run, view)
        wait_until(page, "pictures.epoch === 4")


def test_one_browser_has_more_pages_than_connections(browser: Browser) -> None:
    run = training()
    with LiveView(run.pictures, epochs=9, title="wave") as view, browser.open(view.url) as first:
        step(run, view)
        pages = [first]
        for _ in range(8):
            # What a browser does when another page comes to the front.
            pages[-1].evaluate("Object.defineProperty(document, 'hidden', { value: true })")
            pages[-1].evaluate("document.dispatchEvent(new Event('visibilitychange'))")
            pages.append(first.context.new_page())
            pages[-1].goto(view.url)
            wait_until(pages[-1], f"{STATE} === 'training'")


def test_a_page_is_told_apart_whether_the_command_goes_on(browser: Browser) -> None:
    run = training()
    with LiveView(run.pictures, epochs=1, title="wave") as view, browser.open(view.url) as page:
        step(run, view)
        view.writing(run.trainer)
        view.finished("runs/wave/report.html")
        wait_until(page, f"{STATE} === 'done'")
        assert shown(page, "report") == "The report is in runs/wave/report.html."
        view.__exit__(None, None, None)
        wait_until(page, "ended")
        assert shown(page, "report").endswith("The command has ended; this page stays as it is.")
