"""The GPU's kernels compile down to an H100's binaries without a warning, and Triton's cache keeps them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from retrograd.backends.triton.backend import TritonBackend
from retrograd.core.backend import Spec

REASON = TritonBackend(interpreted=True).why_not(Spec(torch.device("cpu"), torch.float32, "diagonal"))


def compiled(cache: Path) -> tuple[str, dict[str, int]]:
    """What the script prints, and the binaries with their times."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-W", "error", Path(__file__).with_name("compiling.py")],
        env={**environment, "TRITON_CACHE_DIR": str(cache)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, {str(path): path.stat().st_mtime_ns for path in cache.rglob("*.cubin")}


@pytest.mark.slow
@pytest.mark.skipif(REASON is not None, reason=str(REASON))
def test_every_kernel_compiles_once(tmp_path: Path) -> None:
    said, binaries = compiled(tmp_path)
    names = {"add_products_kernel", "carries", "dense_loop", "digits_lost", "outer_sum_kernel", "summaries", "tiles"}
    assert set(said.split()[1:]) == names
    assert len(binaries) > 15
    assert compiled(tmp_path) == (said, binaries)
