"""The types of the native module that stand in the sources are those of the module."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from retrograd import _native

SCRIPT = Path(__file__).parents[2] / "native" / "stub.py"


def test_the_stub_is_what_the_module_gives() -> None:
    spec = importlib.util.spec_from_file_location("stub", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    stub = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stub)
    assert stub.STUB.read_text() == stub.stub_of(_native), "run `make stub`"
