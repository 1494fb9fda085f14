"""What several tests are given."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

import browser as browsers

# No test asserts a time, and the same examples are drawn on every run.
settings.register_profile("retrograd", deadline=None, derandomize=True)
settings.load_profile("retrograd")


@pytest.fixture(scope="session")
def browser() -> Iterator[browsers.Browser]:
    """Headless Chromium; without one, the test is skipped and says how to install it."""
    path = browsers.chromium()
    if path is None:
        pytest.skip(browsers.MISSING)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=list(browsers.FLAGS))
        yield browsers.Browser(running)
        running.close()
