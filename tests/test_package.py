"""The package's face: its names and its version."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import retrograd as rg


def test_dir_shows_what_is_public() -> None:
    assert dir(rg) == sorted([*rg.__all__, "__version__"])
    assert all(getattr(rg, name) is not None for name in dir(rg))


def test_the_version_is_that_of_the_package() -> None:
    assert rg.__version__ == version("retrograd")


def test_estimators_and_insight_are_imported_when_they_are_named() -> None:
    code = """
import sys, retrograd as rg
assert not {"pandas", "scipy", "retrograd.insight", "retrograd.estimators"} & set(sys.modules)
assert rg.insight is sys.modules["retrograd.insight"]
"""
    subprocess.run([sys.executable, "-c", code], check=True)
