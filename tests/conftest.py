"""What several tests are given."""

from __future__ import annotations

import os
from collections.abc import Iterator

# One thread a process: workers share the cores, and a test about threads asks for its own. Before torch is imported.
os.environ["OMP_NUM_THREADS"] = "1"
# Without a GPU, kernels run in Triton's interpreter. Before Triton is imported.
if os.environ.get("RETROGRAD_TEST_DEVICE", "cpu") == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"

import pytest
import torch

import browser as browsers

try:
    from hypothesis import settings
except ModuleNotFoundError:  # the environment of `make test-gpu`, whose tests draw nothing
    settings = None  # type: ignore[assignment, misc]

torch.set_num_threads(1)
if settings is not None:
    # No test asserts a time, and the same examples are drawn on every run.
    settings.register_profile("quick", deadline=None, derandomize=True, max_examples=25)
    settings.register_profile("thorough", deadline=None, derandomize=True, max_examples=500)


def pytest_configure(config: pytest.Config) -> None:
    device = os.environ.get("RETROGRAD_TEST_DEVICE", "cpu")
    if device != "cpu" and not torch.cuda.is_available() and not config.option.collectonly:
        raise pytest.UsageError(f"RETROGRAD_TEST_DEVICE is {device}, and torch {torch.__version__} finds no GPU")
    if settings is not None and not config.getoption("hypothesis_profile"):
        settings.load_profile("quick")


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
