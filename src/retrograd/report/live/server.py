"""A page and a stream of events on this machine alone, for whoever knows the token.

What stands between the page and everybody else:

    other machines     the socket is bound to 127.0.0.1
    other users        a random token in the path, compared in constant time; any other path is 404
    other web pages    a request that the browser marks as coming from another origin is refused; no CORS header is
                       ever sent, and Cross-Origin-Resource-Policy keeps the answer from any page that got one
    a rebound name     the Host header has to be the address that was given out (DNS rebinding changes it)
    a frame            frame-ancestors 'none' and X-Frame-Options
    the page itself    its policy lets it run its own script and connect to its own origin, nothing else

The stream is Server-Sent Events: one thread a client, each sends what is newest on the board when it is ready to.

Anybody on this machine can connect, so what a connection may cost is bounded before anything of it is read: how many
there are, well below the process's own limit of open files, and how long the head of a request may take.
"""

from __future__ import annotations

import hmac
import io
import json
import resource
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from retrograd.report.live.board import Board

__all__ = ["LiveServer"]

ADDRESS = "127.0.0.1"
TOKEN_BYTES = 24
# A browser opens one stream a page.
MOST_CLIENTS = 16
# Of one browser: it has six connections to a server, and needs one for the next page. From here on, pages that are out
# of sight let theirs go.
CROWD = 5
# Connections of any kind; each is a thread and an open file.
MOST_CONNECTIONS = 32
# Of the files that the process may open: the others are the training's.
SHARE_OF_FILES = 8
# The head of a request, from the connection on: it comes in one piece.
HEAD_SECONDS = 5.0
HEAD_BYTES = 1 << 16
# After a connection that was refused, or could not be had, none is looked at for so long: whoever floods the port must
# not take the processor from the training.
BREATH_SECONDS = 0.02
# A client that takes nothing for so long is dropped; what it holds up is its own thread.
PATIENCE_SECONDS = 10.0
# A line is sent at least so often: only by writing does one learn that the other side has gone.
HEARTBEAT_SECONDS = 2.0

HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
# For whatever is no page.
NOTHING = "default-src 'none'; frame-ancestors 'none'"
PAGE_POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class LiveServer:
    """Serves a page at ``http://127.0.0.1:PORT/TOKEN/`` and a board's entries at ``…/events``, until it is closed.

    Args:
        board: whose entries are sent, as events named by their kind, their content as JSON.
        page: returns the page, given a nonce that its script and style elements must carry.
        port: where to listen; 0 for any free one.

    Raises:
        OSError: the port cannot be opened.

    Examples:
        >>> import urllib.request
        >>> server = LiveServer(Board(), lambda nonce: "<!doctype html><title>live</title>")
        >>> urllib.request.urlopen(server.url).read()
        b'<!doctype html><title>live</title>'
        >>> server.close(timeout=1.0)
    """

    def __init__(self, board: Board, page: Callable[[str], str], port: int = 0) -> None:
        self._board = board
        token = secrets.token_urlsafe(TOKEN_BYTES)
        self._server = _Server((ADDRESS, port), _Handler, board, page, token)
        self.port: int = self._server.server_address[1]
        self.url = f"http://{ADDRESS}:{self.port}/{token}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="live view", daemon=True)
        self._thread.start()

    def close(self, timeout: float) -> None:
        """Send the clients what is newest, wait for that at most ``timeout`` seconds, and stop."""
        self._board.close(timeout)
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    # A client that hangs must not keep the process from ending.
    daemon_threads = True
    block_on_close = False
    # Two servers on one port would each get some of the requests.
    allow_reuse_port = False

    def __init__(
        self, address: tuple[str, int], handler: type[_Handler], board: Board, page: Callable[[str], str], token: str
    ) -> None:
        super().__init__(address, handler)
        self.board, self.page, self.token = board, page, token
        self._free = threading.Semaphore(_most_connections())

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            return super().get_request()
        except OSError:
            # Out of files, say: the connection still waits, and would be asked for again at once.
            time.sleep(BREATH_SECONDS)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            _refuse(request)
            self.shutdown_request(request)
            time.sleep(BREATH_SECONDS)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread can be started
            self._free.release()
            self.shutdown_request(request)
            time.sleep(BREATH_SECONDS)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        # Clients come and go as they like: that is no error of this side.
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def _most_connections() -> int:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return max(2, min(MOST_CONNECTIONS, files // SHARE_OF_FILES))


def _refuse(connection: socket.socket) -> None:
    """Say that there is no room, to whoever listens; hardly wait."""
    content = b"Service Unavailable. There are too many connections.\n"
    head = {**HEADERS, "Content-Security-Policy": NOTHING, "Content-Type": "text/plain; charset=utf-8"}
    lines = "".join(f"{name}: {value}\r\n" for name, value in {**head, "Content-Length": len(content)}.items())
    connection.settimeout(BREATH_SECONDS)
    # What was asked is taken first: to close with it unread would take the answer back.
    with suppress(OSError):
        connection.recv(HEAD_BYTES)
    with suppress(OSError):
        connection.send(f"HTTP/1.0 503 Service Unavailable\r\n{lines}\r\n".encode() + content)


class _Head(io.RawIOBase):
    """What a client sends, until it has taken too long or too much."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._left = connection, HEAD_BYTES
        self._end = time.monotonic() + HEAD_SECONDS

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._end - time.monotonic()
        # The connection is dropped: a head that is cut off might be taken for a whole one.
        if left <= 0 or self._left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        got = self._connection.recv_into(buffer, min(len(buffer), self._left))
        self._left -= got
        return got


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = PATIENCE_SECONDS
    server_version = "retrograd"
    sys_version = ""

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self.rfile = io.BufferedReader(_Head(self.connection))

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        self.connection.settimeout(self.timeout)
        refusal = self._refusal()
        if refusal is not None:
            self.send_error(HTTPStatus.FORBIDDEN, refusal)
            return
        asked = self.path.encode("latin-1")
        # Both are compared whatever the first gives: the time taken says nothing about the token.
        at_page = hmac.compare_digest(asked, f"/{self.server.token}/".encode())
        at_events = hmac.compare_digest(asked, f"/{self.server.token}/events".encode())
        if at_page:
            nonce = secrets.token_urlsafe(16)
            content = self.server.page(nonce).encode()
            self._begin(HTTPStatus.OK, "text/html; charset=utf-8", PAGE_POLICY.format(nonce=nonce), len(content))
            if body:
                self.wfile.write(content)
        elif at_events:
            self._send_events(body=body)
        else:
            self.send_error(HTTPStatus.NOT_FOUND, "There is nothing at this address.")

    def _refusal(self) -> str | None:
        """Say why a request is not one of the page that was given out; None if it is."""
        hosts = [f"{name}:{self.server.server_address[1]}" for name in (ADDRESS, "localhost")]
        host = self.headers.get_all("Host", [])
        if len(host) != 1 or host[0].lower() not in hosts:
            return f"Open http://{hosts[0]}, under this name and port; a forwarded port must have the same number."
        origin = self.headers.get_all("Origin", [])
        site = self.headers.get_all("Sec-Fetch-Site", [])
        # same-site is another port of this machine: another origin.
        if any(one != f"http://{host[0].lower()}" for one in origin) or any(
            one not in ("same-origin", "none") for one in site
        ):
            return "Another page asked for this one: copy its address into the address bar."
        return None

    def _send_events(self, *, body: bool) -> None:
        board = self.server.board
        if not body:
            self._begin(HTTPStatus.OK, "text/event-stream; charset=utf-8", NOTHING)
            return
        if not board.join(MOST_CLIENTS):
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, f"At most {MOST_CLIENTS} pages are served at a time.")
            return
        try:
            self._begin(HTTPStatus.OK, "text/event-stream; charset=utf-8", NOTHING)
            seen, crowded = 0, False
            while True:
                if crowded != (board.watchers >= CROWD):
                    crowded = not crowded
                    self.wfile.write(f"event: crowd\ndata: {json.dumps(crowded)}\n\n".encode())
                closed = board.closed  # asked first: what is put before it closes is then among the newer
                entries = board.newer(seen, timeout=HEARTBEAT_SECONDS)
                for entry in entries:
                    data = json.dumps(entry.content, allow_nan=False, separators=(",", ":"))
                    self.wfile.write(f"event: {entry.kind}\ndata: {data}\n\n".encode())
                    seen = entry.number
                if closed:
                    self.wfile.write(b"event: end\ndata: {}\n\n")
                    return
                if not entries:
                    self.wfile.write(b":\n\n")
        finally:
            board.leave()

    def _begin(self, status: HTTPStatus, kind: str, policy: str, length: int | None = None) -> None:
        self.send_response(status)
        for name, value in {**HEADERS, "Content-Security-Policy": policy, "Content-Type": kind}.items():
            self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.end_headers()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer in plain text, under the same headers as everything else."""
        # The base class calls a method that has no handler 501; here, no other will ever be had.
        status = HTTPStatus.METHOD_NOT_ALLOWED if code == HTTPStatus.NOT_IMPLEMENTED else HTTPStatus(code)
        content = f"{status.phrase}. {message or ''}\n".encode()
        self.close_connection = True
        self._begin(status, "text/plain; charset=utf-8", NOTHING, len(content))
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        """Write nothing: the terminal belongs to the training."""
