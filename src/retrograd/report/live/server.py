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
"""

from __future__ import annotations

import hmac
import json
import secrets
import sys
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from retrograd.report.live.board import Board

__all__ = ["LiveServer"]

ADDRESS = "127.0.0.1"
TOKEN_BYTES = 24
# A browser opens one stream a page.
MOST_CLIENTS = 16
# A client that takes nothing for so long is dropped; what it holds up is its own thread.
PATIENCE_SECONDS = 10.0
# A line is sent at least so often: only by writing does one learn that the other side has gone.
HEARTBEAT_SECONDS = 2.0
# What a page makes of a lost connection, before it asks again.
RETRY_MILLISECONDS = 1000

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

    Raises:
        OSError: no port can be opened.

    Examples:
        >>> import urllib.request
        >>> server = LiveServer(Board(), lambda nonce: "<!doctype html><title>live</title>")
        >>> urllib.request.urlopen(server.url).read()
        b'<!doctype html><title>live</title>'
        >>> server.close(timeout=1.0)
    """

    def __init__(self, board: Board, page: Callable[[str], str]) -> None:
        self._board = board
        token = secrets.token_urlsafe(TOKEN_BYTES)
        # Port 0: the system chooses a free one.
        self._server = _Server((ADDRESS, 0), _Handler, board, page, token)
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

    def __init__(
        self, address: tuple[str, int], handler: type[_Handler], board: Board, page: Callable[[str], str], token: str
    ) -> None:
        super().__init__(address, handler)
        self.board, self.page, self.token = board, page, token

    def handle_error(self, request: Any, client_address: Any) -> None:
        # Clients come and go as they like: that is no error of this side.
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = PATIENCE_SECONDS
    server_version = "retrograd"
    sys_version = ""

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
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
            self.wfile.write(f"retry: {RETRY_MILLISECONDS}\n\n".encode())
            seen = 0
            while True:
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
