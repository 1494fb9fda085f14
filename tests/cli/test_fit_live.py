"""`retrograd fit --live`: the same result as without it, and a page that says how it ended."""

from __future__ import annotations

import os
import re
import resource
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cli.command import retrograd
from report.live_client import PATIENCE, Stream, ask, interrupt_the_end
from retrograd.report import live
from retrograd.report.live import terminal
from retrograd.report.live import view as module
from retrograd.report.live.server import MOST_CONNECTIONS

__all__ = ["retrograd"]  # a fixture

FIT = ("fit", "wave.csv", "--target", "y", "--hidden", "3", "--epochs", "40")


@pytest.fixture(autouse=True)
def table(tmp_path: Path) -> None:
    t = np.arange(80)
    pd.DataFrame({"y": np.sin(t / 3) + np.cos(t / 5)}).to_csv(tmp_path / "wave.csv", index=False)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """A page is open from before the first epoch on; what it got, once the command has ended."""
    got: list[tuple[str, Any]] = []
    began = module.LiveView.__enter__
    ended = module.LiveView.__exit__
    reading: list[threading.Thread] = []

    def enter(view: live.LiveView) -> live.LiveView:
        entered = began(view)
        stream = Stream(view.url)

        def read() -> None:
            with stream:
                got.extend(stream)

        reading.append(threading.Thread(target=read))
        reading[0].start()
        return entered

    def leave(*arguments: Any) -> None:
        ended(*arguments)
        reading[0].join()

    monkeypatch.setattr(module.LiveView, "__enter__", enter)
    monkeypatch.setattr(module.LiveView, "__exit__", leave)
    return got


def files(folder: str) -> dict[str, bytes]:
    """Every file but the report, whose elements have random names."""
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.name != "report.html"}


@pytest.mark.parametrize("options", [(), ("--closed-loop",), ("--optimizer", "lbfgs", "--test", "0")])
def test_the_result_is_bit_for_bit_that_without_it(
    retrograd: Any, watched: list[Any], options: tuple[str, ...]
) -> None:
    assert retrograd(*FIT, *options, "--out", "plain").code == 0
    ran = retrograd(*FIT, *options, "--out", "live", "--live")
    assert ran.code == 0, ran.err
    assert files("live") == files("plain")
    assert {path.name for path in Path("live").iterdir()} == {path.name for path in Path("plain").iterdir()}
    kinds = [kind for kind, _ in watched]
    assert kinds[-1] == "end"
    assert {"status", "frame", "pictures"} <= set(kinds)
    status = [content for kind, content in watched if kind == "status"][-1]
    assert status["state"] == "done"
    assert status["epoch"] == status["epochs"] == 40
    assert status["report"] == str(Path("live", "report.html"))


def test_the_address_is_the_first_line_and_is_gone_in_the_end(retrograd: Any) -> None:
    ran = retrograd(*FIT, "--live")
    found = re.fullmatch(r"Live view: (http://127\.0\.0\.1:\d+/[\w-]{32}/)", ran.err.splitlines()[0])
    assert found is not None
    with pytest.raises(ConnectionRefusedError):
        ask(found.group(1))


def test_a_training_that_is_resumed_shows_its_whole_history(retrograd: Any, watched: list[Any]) -> None:
    assert retrograd(*FIT).code == 0
    assert retrograd(*FIT[:-1], "50", "--resume", "--live").code == 0
    pictures = [content for kind, content in watched if kind == "pictures"]
    assert pictures[-1]["loss"]["epoch"] == list(range(1, 51))


def test_a_divergence_is_what_the_page_is_told(retrograd: Any, watched: list[Any]) -> None:
    ran = retrograd(*FIT, "--optimizer", "sgd", "--lr", "1e200", "--live")
    assert ran.code == 2
    status = [content for kind, content in watched if kind == "status"][-1]
    assert status["state"] == "stopped"
    assert f"retrograd: {status['reason']}" in ran.err.splitlines()
    assert "try a smaller --lr" in status["reason"]


@pytest.mark.parametrize("model", ["state-space", "forecaster"])
def test_another_model_says_why_it_has_no_live_view(retrograd: Any, model: str) -> None:
    ran = retrograd("fit", "wave.csv", "--target", "y", "--model", model, "--live")
    assert ran.code == 2
    (line,) = ran.err.splitlines()
    assert "--live shows training by backpropagation through time, epoch by epoch" in line
    assert f"--model {model} has no such epochs" in line
    assert not Path("runs").exists()


def test_no_port_is_one_clear_line(retrograd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any, **__: Any) -> None:
        raise OSError(98, "Address already in use")

    monkeypatch.setattr(live.LiveView, "__init__", none)
    ran = retrograd(*FIT, "--live")
    assert ran.code == 2
    assert ran.err.splitlines() == ["retrograd: --live: no port can be opened on this machine: Address already in use"]


# --- the port ---


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


def test_the_port_may_be_chosen(retrograd: Any, taken: int) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ran = retrograd(*FIT, "--live", "--live-port", str(port))
    assert ran.code == 0, ran.err
    assert ran.err.startswith(f"Live view: http://127.0.0.1:{port}/")
    assert retrograd(*FIT, "--live", "--live-port", "0", "--overwrite").code == 0


def test_a_port_that_is_taken_is_one_clear_line_and_nothing_is_touched(retrograd: Any, taken: int) -> None:
    assert retrograd(*FIT, "--out", "run").code == 0
    before = {path.name: path.stat().st_mtime_ns for path in Path("run").iterdir()}
    ran = retrograd(*FIT, "--out", "run", "--overwrite", "--live", "--live-port", str(taken))
    assert ran.code == 2
    assert ran.err.splitlines() == [
        f"retrograd: --live-port {taken} cannot be opened (Address already in use): take another, or leave it out for "
        "any free one"
    ]
    assert {path.name: path.stat().st_mtime_ns for path in Path("run").iterdir()} == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--live", "--live-port", "70000"), "--live-port is 70000, expected 1 to 65535, or 0 for any free one"),
        (("--live", "--live-port", "-1"), "--live-port is -1, expected 1 to 65535, or 0 for any free one"),
        (("--live-port", "8000"), "--live-port 8000 is the port of --live: give both"),
    ],
)
def test_a_port_that_makes_no_sense_is_refused(retrograd: Any, options: tuple[str, ...], message: str) -> None:
    ran = retrograd(*FIT, *options)
    assert (ran.code, ran.err) == (2, f"retrograd: {message}\n")
    assert not Path("runs").exists()


# --- until it was seen ---

COMMAND = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); from retrograd.cli import main; main()"


class Terminal:
    """The command as a person has it, in a terminal."""

    def __init__(self, *arguments: str) -> None:
        self._screen, keyboard = os.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, *arguments],
            stdin=keyboard, stdout=keyboard, stderr=keyboard, start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", "TERM": "xterm"},
        )  # fmt: skip
        os.close(keyboard)
        self.said = ""

    def read(self) -> bool:
        """Take what is new; return whether anything more can come."""
        assert select.select([self._screen], [], [], 2 * PATIENCE)[0], self.said
        try:
            new = os.read(self._screen, 1 << 16).decode(errors="replace")
        except OSError:  # the other side is closed
            return False
        self.said += new
        return bool(new)

    def until(self, pattern: str) -> re.Match[str]:
        while (found := re.search(pattern, self.said)) is None:
            assert self.read(), self.said
        return found

    def type(self, keys: str) -> None:
        os.write(self._screen, keys.encode())

    def end(self) -> int:
        while self.read():
            pass
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._screen)


@pytest.fixture
def terminals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.chdir(tmp_path)
    opened: list[Terminal] = []

    def open_one(*arguments: str) -> Terminal:
        opened.append(Terminal(*arguments))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


STAYS = r"The live view stays at (\S+) until Enter or Ctrl-C\."


@pytest.mark.parametrize("key", ["\r", "\x03"])
def test_at_a_terminal_the_page_stays_until_it_was_seen(terminals: Any, key: str) -> None:
    ran = terminals(*FIT, "--live", "--out", "run")
    ran.until(r"Live view: \S+/\s")
    ran.type("\r")  # of somebody who waits while it trains: not an answer to what was not yet asked
    url = ran.until(STAYS).group(1)
    assert "Live view: " + url in ran.said
    assert Path("run", "report.html").is_file()
    assert ask(url).status == 200
    with Stream(url) as stream:
        status = stream.until("status")
        assert (status["state"], status["epoch"]) == ("done", 40)
        assert stream.until("pictures")["best"] is True
        ran.type(key)
        assert [kind for kind, _ in stream][-1] == "end"
    assert ran.end() == 0, ran.said
    assert "interrupted" not in ran.said


def test_a_training_that_is_interrupted_at_a_terminal_ends_at_once(terminals: Any) -> None:
    ran = terminals(*FIT[:-1], "1000000", "--live", "--out", "run")
    ran.until(r"[1-9]\d*\S*/1000000")
    ran.type("\x03")
    assert ran.end() == 130
    assert "Stopped after epoch" in ran.said
    assert re.search(STAYS, ran.said) is None


def test_without_the_page_nothing_waits_at_a_terminal(terminals: Any) -> None:
    ran = terminals(*FIT, "--out", "run")
    assert ran.end() == 0


def test_a_command_in_the_background_does_not_wait(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    screen, keyboard = os.openpty()
    with os.fdopen(keyboard, "r") as typed:
        monkeypatch.setattr(sys, "stdin", typed)
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        monkeypatch.setattr(os, "tcgetpgrp", lambda terminal: os.getpgrp() + 1)
        live.keep_serving("http://127.0.0.1:1/")
        assert capsys.readouterr().err == ""
        # Moved there while it waits.
        turns = iter([True, True, False])
        monkeypatch.setattr(terminal, "GLANCE_SECONDS", 0.01)
        monkeypatch.setattr(terminal, "_in_front", lambda terminal: next(turns))
        live.keep_serving("http://127.0.0.1:1/")
        assert "stays at http://127.0.0.1:1/" in capsys.readouterr().err
    os.close(screen)


def test_a_standard_input_that_is_closed_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.devnull) as closed:
        pass
    for missing in (None, closed):
        monkeypatch.setattr(sys, "stdin", missing)
        live.keep_serving("http://127.0.0.1:1/")


def test_ctrl_c_when_everything_is_written_changes_nothing(
    retrograd: Any, watched: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_the_end(monkeypatch)
    ran = retrograd(*FIT, "--live")
    assert ran.code == 0, ran.err
    assert watched[-1] == ("end", {})


# --- whoever else connects ---


@contextmanager
def flooded(port: int, most: int) -> Iterator[None]:
    """Connections that send a line now and then and never ask for anything, as many as the other side takes."""
    over = threading.Event()

    def connect() -> None:
        opened: list[socket.socket] = []
        while not over.is_set():
            try:
                if len(opened) < most:
                    opened.append(socket.create_connection(("127.0.0.1", port), timeout=0.1))
                    opened[-1].sendall(b"GET / HTTP/1.1\r\n")
                else:
                    opened.pop(0).close()
            except OSError:
                time.sleep(0.001)
        for one in opened:
            one.close()

    thread = threading.Thread(target=connect)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_flood_of_connections_does_not_take_the_trainings_files(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "retrograd", *FIT[:-1], "1000", "--out", "run", "--live"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, **pipes) as running:
        try:
            assert running.stderr is not None
            found = re.search(r":(\d+)/", running.stderr.readline())
            assert found is not None
            resource.prlimit(running.pid, resource.RLIMIT_NOFILE, (96, 96))
            files = 0
            with flooded(int(found.group(1)), 300):
                while running.poll() is None and (tmp_path / "run").exists():
                    try:
                        files = max(files, len(os.listdir(f"/proc/{running.pid}/fd")))
                    except OSError:  # it has just ended
                        break
                    time.sleep(0.02)
            _, err = running.communicate(timeout=PATIENCE)
        finally:
            running.kill()
    assert running.returncode == 0, err
    assert (tmp_path / "run" / "report.html").is_file()
    assert MOST_CONNECTIONS <= files < 80
