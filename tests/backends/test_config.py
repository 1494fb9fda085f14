"""show_config: what a report of a bug should say."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

import retrograd as rg
from retrograd import _native
from retrograd.core import backend as seam
from retrograd.core.backend import BACKENDS, Spec


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
    assert lines[1:3] == ["backends", "  native: serves cpu"]
    assert lines[4] == "  reference: serves cpu"
    if not torch.cuda.is_available():
        assert lines[3] == "  triton: does not serve: it runs on cuda devices, u is on cpu"
    assert lines[5] == f"instruction set: baseline, of {', '.join(_native.isas())} (RETROGRAD_ISA)"
    assert lines[6].startswith("threads: 3 (torch.set_num_threads), ")
    assert ("without OpenMP" in lines[6]) is not _native.openmp
    assert lines[7].startswith(f"pool: keeps up to {rg.memory_stats()['limit']} bytes")


def test_a_backend_that_does_not_serve_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Absent:
        name = "absent"

        def why_not(self, spec: Spec) -> str:
            return f"it has no {spec.device}"

        def config(self) -> list[str]:
            return ["absent: yes"]

    monkeypatch.setattr(seam, "BACKENDS", {**BACKENDS, "absent": Absent()})
    monkeypatch.setattr(seam, "MISSING", {"broken": "its library is not found"})
    rg.show_config()
    lines = capsys.readouterr().out.splitlines()
    assert "  absent: does not serve: it has no cpu" in lines
    assert "  broken: could not be loaded: its library is not found" in lines
    assert "absent: yes" in lines


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


USE = "import torch, retrograd as rg; print(rg.scan(rg.Diagonal(torch.tensor([0.5])), torch.ones(2, 1))[1].item())"


def test_without_the_native_module_the_reference_serves() -> None:
    """As where no wheel fits: the import works, results are right, and the configuration says what is missing."""
    hide = "import sys; sys.modules['retrograd._native'] = None\n"
    done = run(f"{hide}{USE}; rg.show_config(); rg.empty_cache(); print(rg.memory_stats()['in_use'])")
    assert done.returncode == 0, done.stderr
    value, *lines, held = done.stdout.splitlines()
    assert (value, held) == ("1.5", "0")
    assert "  native: could not be loaded: retrograd._native was not built" in lines
    assert "  reference: serves cpu" in lines
    done = run(
        f"{hide}import torch, retrograd as rg; rg.scan(rg.Diagonal(torch.ones(1)), torch.ones(2, 1), backend='native')"
    )
    assert (
        "backend is 'native', expected 'auto' or one of 'triton', 'reference' ('native' could not be loaded: "
        in done.stderr
    )


def test_the_environment_forces_a_backend() -> None:
    seen = "from retrograd.core.observe import observe\nfound = []\n"
    code = f"import torch, retrograd as rg\n{seen}a, u = rg.Diagonal(torch.ones(1)), torch.ones(2, 1)\n"
    code += "with observe(found.append):\n    rg.scan(a, u); rg.scan(a, u, backend='native')\n"
    code += "print([s.backend for s in found]); rg.show_config()"
    done = run(code, RETROGRAD_BACKEND="reference")
    assert done.stdout.splitlines()[0] == "['reference', 'native']"
    assert "RETROGRAD_BACKEND: reference runs whatever names no backend" in done.stdout
    done = run(USE, RETROGRAD_BACKEND="abacus")
    assert "RETROGRAD_BACKEND is 'abacus', expected 'auto' or one of 'native', 'triton', 'reference'" in done.stderr
