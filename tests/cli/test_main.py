"""The command line as a process: what the system, the environment or a missing library do to it is one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

GRAD = "from retrograd.cli import main; main()"


def run(folder: Path, *arguments: str, code: str = GRAD, out: int = subprocess.PIPE, **environment: str) -> str:
    """Run a command that must fail with exit code 2, and return what it said."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        stdout=out,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("retrograd: "), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.fixture
def job(tmp_path: Path) -> Path:
    np.savez(tmp_path / "job.npz", x=np.ones((3, 1)), weight_hh=np.eye(1), weight_ih=np.eye(1))
    return tmp_path


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("RETROGRAD_ISA", "mmx", "RETROGRAD_ISA is 'mmx', which this machine or build lacks; it has"),
        ("RETROGRAD_POOL_BYTES", "4GB", "RETROGRAD_POOL_BYTES is '4GB', expected a number of bytes"),
        ("RETROGRAD_BACKEND", "abacus", "RETROGRAD_BACKEND is 'abacus', expected 'auto' or one of 'native'"),
    ],
)
def test_an_unusable_variable_is_named(job: Path, variable: str, value: str, said: str) -> None:
    assert said in run(job, "grad", "job.npz", **{variable: value})
    assert not (job / "job.safetensors").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_output_that_cannot_be_written_is_said(job: Path) -> None:
    with Path("/dev/full").open("w") as full:
        assert "No space left on device" in run(job, "grad", "job.npz", out=full.fileno())


def test_a_missing_library_is_named_with_the_way_to_have_it(job: Path) -> None:
    hide = "import sys; sys.modules['safetensors'] = None; sys.modules['safetensors.numpy'] = None\n"
    assert "pip install -e '.[cli]'" in run(job, "grad", "job.npz", code=hide + GRAD)


def test_a_signal_is_itself_where_a_library_makes_another_error_of_it(job: Path) -> None:
    """As a C++ module that is being imported does."""
    broken = """
import os, sys
class Broken:
    def find_spec(self, name, *_):
        if name == "retrograd.cli.grad":
            try:
                os.kill(os.getpid(), 15)
                len(name)
            except BaseException as error:
                raise ImportError("initialization failed") from error
sys.meta_path.insert(0, Broken())
"""
    command = [sys.executable, "-c", broken + GRAD, "grad", "job.npz"]
    done = subprocess.run(command, cwd=job, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (143, "retrograd: ended by the system\n")
