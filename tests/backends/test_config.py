"""show_config: what a report of a bug should say."""

from __future__ import annotations

import pytest
import torch

import retrograd as rg
from retrograd import _native, backends
from retrograd.core.backend import BACKENDS


def test_it_says_what_is_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    threads, isa = torch.get_num_threads(), _native.isa()
    try:
        torch.set_num_threads(3)
        _native.use_isa("baseline")
        rg.show_config()
    finally:
        torch.set_num_threads(threads)
        _native.use_isa(isa)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("retrograd 0.")
    assert lines[0].endswith(f", torch {torch.__version__}")
    assert lines[1:4] == ["backends", "  native: serves", "  reference: serves"]
    assert lines[4] == f"instruction set: baseline, of {', '.join(_native.isas())} (RETROGRAD_ISA)"
    assert lines[5].startswith("threads: 3 (torch.set_num_threads), ")
    assert ("without OpenMP" in lines[5]) is not _native.openmp
    assert lines[6].startswith(f"pool: keeps up to {rg.memory_stats()['limit']} bytes")


def test_a_backend_that_does_not_serve_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Absent:
        name = "absent"

        def why_not(self, A: torch.Tensor, u: torch.Tensor) -> str:
            return "it has no device"

    monkeypatch.setattr(backends, "BACKENDS", {**BACKENDS, "absent": Absent()})
    rg.show_config()
    assert "  absent: does not serve: it has no device" in capsys.readouterr().out.splitlines()
