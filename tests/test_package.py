"""The package's face: its names and its version."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

import pytest

import retrograd as rg


def test_dir_shows_what_is_public() -> None:
    assert dir(rg) == sorted([*rg.__all__, "__version__"])
    assert all(getattr(rg, name) is not None for name in dir(rg))


def test_the_version_is_that_of_the_package() -> None:
    assert rg.__version__ == version("retrograd")


def test_sources_that_were_never_installed_say_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def nothing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("retrograd.core.backend.version", nothing)
    rg.show_config()
    assert capsys.readouterr().out.startswith("retrograd 0+unknown, torch ")


def test_estimators_and_insight_are_imported_when_they_are_named() -> None:
    code = """
import sys, retrograd as rg
assert not {"pandas", "scipy", "triton", "retrograd.insight", "retrograd.estimators"} & set(sys.modules)
assert rg.insight is sys.modules["retrograd.insight"]
"""
    subprocess.run([sys.executable, "-c", code], check=True)
