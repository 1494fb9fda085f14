"""The live view's server: for this machine, this user and this page alone; no client holds anything up."""

from __future__ import annotations

import resource
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
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


def test_streams_are_told_when_there_are_more_than_a_browser_has_connections_for(
    server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CROWD", 3)
    monkeypatch.setattr(module, "HEARTBEAT_SECONDS", 0.02)
    with Stream(server.url) as first:
        with Stream(server.url), Stream(server.url) as last:
            assert last.until("crowd") is True
            assert first.until("crowd") is True
        assert first.until("crowd") is False


# --- connections of whoever it is ---


def connections() -> int:
    """How many connections the server has a thread for."""
    return sum("process_request_thread" in thread.name for thread in threading.enumerate())


def closed(connection: socket.socket) -> bool:
    """Whether the other side has ended it, by now."""
    try:
        return bool(select.select([connection], [], [], 0)[0]) and connection.recv(1 << 16) == b""
    except ConnectionError:
        return True


@pytest.fixture
def connect(server: LiveServer) -> Iterator[Any]:
    with ExitStack() as opened:
        yield lambda: opened.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE))


def test_connections_are_bounded_before_anything_is_asked(
    board: Board, monkeypatch: pytest.MonkeyPatch, connect: Any
) -> None:
    monkeypatch.setattr(module, "MOST_CONNECTIONS", 4)
    server = LiveServer(board, lambda nonce: PAGE)
    with ExitStack() as opened:
        idle = [
            opened.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE))
            for _ in range(4)
        ]
        until(lambda: connections() == 4)
        for _ in range(20):
            answer = ask(server.url)
            assert (answer.status, connections()) == (503, 4)
            assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
            assert "too many connections" in answer.text
        idle.pop().close()
        until(lambda: connections() == 3)
        assert ask(server.url).status == 200
    server.close(timeout=PATIENCE)


def test_a_process_that_may_open_few_files_keeps_most_of_them_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    for files, most in ((1024, 32), (256, 32), (64, 8), (8, 2), (resource.RLIM_INFINITY, 32)):
        monkeypatch.setattr(resource, "getrlimit", lambda which, files=files: (files, files))
        assert module._most_connections() == most


def test_the_whole_head_of_a_request_has_a_deadline(
    server: LiveServer, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HEAD_SECONDS", 0.3)
    slow, began = connect(), time.monotonic()
    slow.sendall(b"GET / HTTP/1.1\r\n")
    while not closed(slow):
        # Each line comes long before a single read would be given up.
        try:
            slow.sendall(b"X-a: b\r\n")
        except OSError:
            break
        time.sleep(0.02)
        assert time.monotonic() - began < PATIENCE / 2
    until(lambda: connections() == 0)


def test_the_head_of_a_request_may_not_be_long(server: LiveServer, connect: Any) -> None:
    path = "/" + server.url.split("/", 3)[3]
    head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n".encode()
    head += b"".join(b"X-%d: %s\r\n" % (k, b"b" * 6000) for k in range(20))
    # A refusal that would stand after what is read: cut off, the head must not be taken for one without it.
    head += b"Origin: http://evil.example\r\n\r\n"
    connection = connect()
    answer = b""
    try:
        connection.sendall(head)
        answer = connection.recv(1 << 16)
    except ConnectionError:
        pass
    assert answer == b""
    assert ask(server.url).status == 200


def test_a_stream_outlives_the_deadline_of_its_head(
    server: LiveServer, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HEAD_SECONDS", 0.2)
    with Stream(server.url) as stream:
        time.sleep(0.4)
        board.put("status", {"epoch": 1})
        assert stream.until("status") == {"epoch": 1}


@pytest.mark.parametrize("error", [OSError(24, "Too many open files"), RuntimeError("can't start new thread")])
def test_a_connection_that_cannot_be_had_is_neither_asked_for_all_the_time_nor_told_of(
    server: LiveServer, connect: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Any
) -> None:
    asked: list[int] = []

    def none(*_: Any) -> None:
        asked.append(1)
        raise error

    with monkeypatch.context() as patched:
        if isinstance(error, OSError):
            patched.setattr(socket.socket, "accept", none)
        else:
            patched.setattr(module.threading.Thread, "start", none)
        began = time.monotonic()
        connect()
        until(lambda: asked)
        time.sleep(0.3)
        assert len(asked) <= 2 + (time.monotonic() - began) / module.BREATH_SECONDS
    # Afterwards all is as before.
    assert ask(server.url).status == 200
    until(lambda: connections() == 0)
    assert server._server._free._value == module._most_connections()
    assert capsys.readouterr().err == ""


def test_a_port_may_be_asked_for(board: Board) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = LiveServer(board, lambda nonce: PAGE, port)
    assert server.port == port
    assert ask(server.url).status == 200
    with pytest.raises(OSError, match="in use"):
        LiveServer(Board(), lambda nonce: PAGE, port)
    server.close(timeout=PATIENCE)
