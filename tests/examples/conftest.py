"""What the examples' tests are given."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import matplotlib.pyplot as plt
import pytest
from gallery import EXAMPLES


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Import an example as it runs: with its folder in the path."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    before, style = plt.get_backend(), plt.rcParams.copy()
    plt.switch_backend("agg")
    yield importlib.import_module
    plt.close("all")
    plt.rcParams.update(style)
    plt.switch_backend(before)
