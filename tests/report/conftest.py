"""Pages that several tests read: each is written once."""

from __future__ import annotations

from pathlib import Path

import pytest

from report.test_page import hostile, make
from retrograd.report import write_report


@pytest.fixture(scope="session")
def plain_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page that took the place of a larger file."""
    path = tmp_path_factory.mktemp("plain") / "report.html"
    path.write_text("old" * 2_000_000)
    write_report(path, make(targets=2, dated=True))
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
    return path


@pytest.fixture(scope="session")
def hostile_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hostile") / "report.html"
    write_report(path, hostile())
    return path
