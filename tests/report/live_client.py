"""A client of the live view that is no browser, for its tests."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPResponse
from typing import Any
from urllib.parse import urlsplit

import pytest

from retrograd.report.live import view

# A test that waits for longer has failed.
PATIENCE = 30.0


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Message
    text: str


def ask(url: str, path: str | None = None, *, method: str = "GET", headers: dict[str, str] | None = None) -> Answer:
    """Send one request, with the right Host unless the headers say otherwise (one a line, an empty one left out)."""
    with _request(url, path, method, headers or {}) as response:
        return Answer(response.status, response.headers, response.read().decode())


def _request(url: str, path: str | None, method: str, headers: dict[str, str]) -> HTTPResponse:
    parts = urlsplit(url)
    assert parts.port is not None
    lines = [f"{method} {parts.path if path is None else path} HTTP/1.1"]
    for name, value in {"Host": parts.netloc, **headers}.items():
        lines += [f"{name}: {one}" for one in value.split("\n") if one]
    # The response keeps the connection open until it is closed.
    with socket.create_connection(("127.0.0.1", parts.port), timeout=PATIENCE) as connection:
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        response = HTTPResponse(connection, method=method)
        response.begin()
    return response


class Stream:
    """The events of a live view, as kind and content, until the server ends them."""

    def __init__(self, url: str) -> None:
        self._response = _request(url + "events", None, "GET", {})
        self.status = self._response.status

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        kind = ""
        for raw in self._response:
            line = raw.decode().rstrip("\n")
            if line.startswith("event: "):
                kind = line[len("event: ") :]
            elif line.startswith("data: "):
                yield kind, json.loads(line[len("data: ") :])

    def until(self, kind: str) -> Any:
        """Return the content of the next event of a kind."""
        return next(content for found, content in self if found == kind)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self._response.close()


def interrupt_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have Ctrl-C arrive just when the live view's server is being closed."""
    close = view.LiveServer.close

    def interrupted(server: Any, timeout: float) -> None:
        signal.raise_signal(signal.SIGINT)
        close(server, timeout)

    monkeypatch.setattr(view.LiveServer, "close", interrupted)
