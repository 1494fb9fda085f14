"""A real browser for the tests of pages: headless Chromium, with no network, that remembers what went wrong."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
MISSING = "no Chromium in PATH; to install it: apt-get install chromium (Debian), or run .ci/run"
# Chromium must not look anything up by itself, or refuse to run as root.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def chromium() -> str | None:
    """Return the browser's path, None where there is none."""
    return next((path for name in CHROMIUMS if (path := shutil.which(name))), None)


def wait_until(page: Any, condition: str, patience: float = 30.0) -> None:
    """Wait, from outside, until a condition in the page's script holds.

    Playwright's own way evaluates text inside the page, which the policy of these pages forbids.
    """
    end = time.monotonic() + patience
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(20)


class Browser:
    """Opens pages from files or from 127.0.0.1."""

    def __init__(self, browser: Any) -> None:
        self._browser = browser

    @contextmanager
    def open(
        self, where: Path | str, *, width: int = 1100, height: int = 900, dark: bool = False, touch: bool = False
    ) -> Iterator[Any]:
        """Open a file, or an address of this machine, as a Playwright page.

        When the block ends, an error in the page's console, or a request for anything but the page itself (and, of an
        address, its own origin), fails the test.
        """
        url = where.resolve().as_uri() if isinstance(where, Path) else where
        own = url if isinstance(where, Path) else "/".join(url.split("/")[:3]) + "/"
        context = self._browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            has_touch=touch,
            reduced_motion="reduce",
        )
        complaints: list[str] = []
        page = context.new_page()
        page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))

        def asked(request: Any) -> None:
            if not request.url.startswith((own, "data:", "blob:")):
                complaints.append(f"the page asked for {request.url}")

        page.on("request", asked)
        try:
            page.goto(url)
            yield page
        finally:
            context.close()
        assert not complaints, complaints
