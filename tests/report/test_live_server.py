"""The live view's server: for this machine, this user and this page alone; no client holds anything up."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from report.live_client import PATIENCE, Stream, ask
from retrograd.report.live import server as module
from retrograd.report.live.board import Board
from retrograd.report.live.server import LiveServer

PAGE = "<!doctype html><title>the page</title>"


@pytest.fixture
def board() -> Board:
    return Board()


@pytest.fixture
def server(board: Board) -> Iterator[LiveServer]:
    running = LiveServer(board, lambda nonce: f"{PAGE}<p>{nonce}")
    yield running
    running.close(timeout=PATIENCE)


def until(condition: Any) -> None:
    """Wait for what another thread is about to do."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


# --- the board ---


def test_a_reader_finds_the_newest_of_every_kind_once() -> None:
    board = Board()
    for k in range(5):
        board.put("a", k)
    board.put("b", "x")
    board.put("a", 5)
    found = board.newer(0, timeout=0.0)
    assert [(entry.kind, entry.content) for entry in found] == [("b", "x"), ("a", 5)]
    assert board.newer(found[-1].number, timeout=0.0) == []


def test_a_reader_that_waits_is_woken() -> None:
    board, found = Board(), []
    thread = threading.Thread(target=lambda: found.extend(board.newer(0, timeout=PATIENCE)))
    thread.start()
    board.put("a", 1)
    thread.join(PATIENCE)
    assert [entry.content for entry in found] == [1]


def test_watchers_are_counted_bounded_and_waited_for() -> None:
    board = Board()
    assert [board.join(2), board.join(2), board.join(2)] == [True, True, False]
    assert board.watchers == 2
    assert board.wait_for_watcher(0.0)
    assert board.close(0.0) is False
    board.leave()
    board.leave()
    assert board.close(0.0) is True
    assert board.join(2) is False


# --- who is answered ---


def test_the_page_is_at_the_address_given_out(server: LiveServer) -> None:
    for host in ("127.0.0.1", "localhost", "LOCALHOST"):
        response = ask(server.url, headers={"Host": f"{host}:{server.port}"})
        assert response.status == 200
        assert response.text.startswith(PAGE)
    head = ask(server.url, method="HEAD")
    assert (head.status, head.text) == (200, "")
    assert ask(server.url + "events", method="HEAD").status == 200


def test_without_the_token_there_is_nothing(server: LiveServer) -> None:
    path = "/" + server.url.split("/", 3)[3]
    token = path.strip("/")
    assert len(token) >= 22  # 16 bytes
    wrong = token[:-1] + ("A" if token[-1] != "A" else "B")
    tried = ["/", f"/{token}", f"/{wrong}/", f"/{wrong}/events", f"{path}?x=1", f"{path}x", f"{path}events/"]
    tried += [f"/?{token}", "/%2e%2e/", f"/{token[:8]}/", "/\xe9/", "/favicon.ico", f"{path}../", f"http://a{path}"]
    for one in tried:
        assert ask(server.url, one).status == 404, one


def test_every_server_has_a_token_of_its_own(board: Board) -> None:
    servers = [LiveServer(Board(), lambda nonce: PAGE) for _ in range(3)]
    assert len({server.url.split("/")[3] for server in servers}) == 3
    for server in servers:
        server.close(timeout=0.0)


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "localhost.:{port}", "[::1]:{port}", "",
     "127.0.0.1:{port}\nevil.example", "127.0.0.1:{port}@evil.example"],
)  # fmt: skip
@pytest.mark.parametrize("path", ["", "events"])
def test_another_name_in_host_is_refused(server: LiveServer, host: str, path: str) -> None:
    response = ask(server.url + path, headers={"Host": host.format(port=server.port)})
    assert response.status == 403
    assert PAGE not in response.text


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "https://127.0.0.1:{port}"},
        {"Origin": "http://localhost:{port}"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none\ncross-site"},
        {"Origin": "http://127.0.0.1:{port}", "Sec-Fetch-Site": "cross-site"},
    ],
)
@pytest.mark.parametrize("path", ["", "events"])
def test_another_origin_is_refused(server: LiveServer, headers: dict[str, str], path: str) -> None:
    sent = {name: value.format(port=server.port) for name, value in headers.items()}
    response = ask(server.url + path, headers=sent)
    assert response.status == 403
    assert PAGE not in response.text


@pytest.mark.parametrize(
    "headers", [{"Origin": "http://127.0.0.1:{port}"}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}]
)
def test_the_pages_own_requests_are_answered(server: LiveServer, headers: dict[str, str]) -> None:
    sent = {name: value.format(port=server.port) for name, value in headers.items()}
    assert ask(server.url, headers=sent).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "NONSENSE"])
def test_other_methods_are_refused(server: LiveServer, method: str) -> None:
    response = ask(server.url, method=method)
    assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")


def test_every_answer_forbids_reading_framing_and_storing(server: LiveServer) -> None:
    answers = [
        ask(server.url),
        ask(server.url + "events", method="HEAD"),
        ask(server.url, "/"),
        ask(server.url, headers={"Host": "evil.example"}),
        ask(server.url, method="OPTIONS", headers={"Origin": "http://evil.example"}),
    ]
    assert [answer.status for answer in answers] == [200, 200, 404, 403, 405]
    for answer in answers:
        headers = answer.headers
        assert not [name for name in headers if name.lower().startswith("access-control")]
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none';")
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["Server"].strip() == "retrograd"


def test_the_policy_lets_the_page_run_its_own_script_alone(server: LiveServer) -> None:
    pages = [ask(server.url) for _ in range(2)]
    nonces = [page.text.partition("<p>")[2] for page in pages]
    assert nonces[0] != nonces[1]
    for page, nonce in zip(pages, nonces, strict=True):
        policy = page.headers["Content-Security-Policy"]
        assert f"script-src 'nonce-{nonce}'" in policy
        assert "connect-src 'self'" in policy


def test_only_this_machine_is_listened_to(server: LiveServer) -> None:
    assert server._server.socket.getsockname() == ("127.0.0.1", server.port)
    # 127.0.0.2 is this machine too: a socket bound to every address would answer there.
    with pytest.raises(OSError, match=r"refused|assign"):
        socket.create_connection(("127.0.0.2", server.port), timeout=PATIENCE)


# --- the stream ---


def test_the_stream_sends_what_is_newest_and_ends(board: Board) -> None:
    server = LiveServer(board, lambda nonce: PAGE)
    board.put("status", {"epoch": 1})
    with Stream(server.url) as stream:
        found = iter(stream)
        assert next(found) == ("status", {"epoch": 1})
        board.put("pictures", {"a": [None, 1.5]})
        assert next(found) == ("pictures", {"a": [None, 1.5]})
        board.put("status", {"epoch": 2})
        server.close(timeout=PATIENCE)
        assert list(found) == [("status", {"epoch": 2}), ("end", {})]
    assert board.watchers == 0
    with pytest.raises(ConnectionRefusedError):
        ask(server.url)


def test_a_client_that_takes_nothing_holds_up_nobody(board: Board) -> None:
    server = LiveServer(board, lambda nonce: PAGE)
    with Stream(server.url), Stream(server.url) as other:
        until(lambda: board.watchers == 2)
        for k in range(40):
            board.put("status", {"epoch": k, "much": "x" * 10_000_000})  # more than the socket's buffers hold
        found = iter(other)
        while next(found)[1]["epoch"] < 39:
            pass
        # The one that takes nothing is left behind; the other has its end.
        server.close(timeout=0.2)
        assert board.watchers == 1
        assert list(found) == [("end", {})]


def test_a_client_that_leaves_is_noticed(server: LiveServer, board: Board) -> None:
    with Stream(server.url):
        until(lambda: board.watchers == 1)

    def gone() -> bool:
        board.put("status", {})
        return board.watchers == 0

    until(gone)


def test_a_client_that_never_asks_keeps_nothing_from_ending(board: Board) -> None:
    server = LiveServer(board, lambda nonce: PAGE)
    with socket.create_connection(("127.0.0.1", server.port)):
        server.close(timeout=PATIENCE)


def test_clients_are_bounded(server: LiveServer, board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_CLIENTS", 2)
    with Stream(server.url), Stream(server.url):
        until(lambda: board.watchers == 2)
        assert ask(server.url + "events").status == 503
        assert ask(server.url).status == 200
