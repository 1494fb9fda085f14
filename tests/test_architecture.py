"""docs/architecture.md: its worked examples run, and what they add obeys the laws that everything here obeys."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import retrograd as rg
from retrograd.core.backend import BACKENDS
from retrograd.core.transition import STRUCTURES

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_the_rings_are_those_that_the_linter_holds() -> None:
    contract = (ROOT / "pyproject.toml").read_text().split('type = "layers"')[1].split("]\n")[1]
    rows = re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE)
    assert re.findall(r'"(\w+)"', contract) == re.findall(r"`(\w+)`", " ".join(rows))


@pytest.fixture(scope="module")
def added(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What the page defines, after all of it has run; what it registered goes again."""
    before, names = Path.cwd(), {"__name__": "architecture"}
    os.chdir(tmp_path_factory.mktemp("page"))
    try:
        for block in BLOCKS:
            exec(compile(block, "docs/architecture.md", "exec"), names)
        yield names
    finally:
        os.chdir(before)
        BACKENDS.pop("numpy", None)
        STRUCTURES.pop("gated", None)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_()


@pytest.mark.parametrize("shape", [(3,), (6, 3), (2, 1, 3), (2, 6, 3)])
def test_the_backend_gives_every_derivative(added: dict[str, Any], shape: tuple[int, ...]) -> None:
    def scan(a: torch.Tensor, u: torch.Tensor, h0: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return rg.scan(rg.Diagonal(a), u, h0, backend="numpy")

    inputs = random(*shape), random(2, 6, 3, seed=1), random(2, 3, seed=2)
    torch.testing.assert_close(scan(*inputs), rg.scan(rg.Diagonal(inputs[0]), *inputs[1:], backend="reference"))
    torch.autograd.gradcheck(scan, inputs, check_forward_ad=True)
    torch.autograd.gradgradcheck(scan, inputs)
    with pytest.raises(ValueError, match="diagonal kernels in float32 and float64 alone"):
        scan(inputs[0].to(torch.complex64), inputs[1], inputs[2])


@pytest.mark.slow
def test_the_backend_obeys_the_laws(tmp_path: Path) -> None:
    """As whoever writes a backend runs them: registered, then tests/conformance.py."""
    (tmp_path / "numpy_backend.py").write_text(BLOCKS[0])
    options = ["-p", "numpy_backend", "-p", "no:cacheprovider", "-k", "numpy and diagonal", "tests/conformance.py"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert int(re.findall(r"(\d+) passed", done.stdout)[0]) >= 20


@pytest.mark.parametrize("steps", [(3,), (6, 3), (2, 1, 3)])
def test_the_structure_is_differentiable_in_both_arrays(added: dict[str, Any], steps: tuple[int, ...]) -> None:
    def scan(d: torch.Tensor, W: torch.Tensor, u: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return rg.scan(added["Gated"](d, W), u)

    inputs = random(*steps), random(3, 3, seed=1), random(2, 6, 3, seed=2)
    d, W, u = inputs
    torch.testing.assert_close(scan(*inputs), rg.scan(rg.Dense(d.unsqueeze(-1) * W), u))
    torch.autograd.gradcheck(scan, inputs, check_forward_ad=True)
    torch.autograd.gradgradcheck(scan, inputs)
    A, B = added["Gated"](d, W), added["Gated"](1 - d, W.mT)
    x = random(2, 6, 3, seed=3)
    torch.testing.assert_close(A.product(B).act(x), A.act(B.act(x)))


def test_the_layer_does_what_its_formula_says(added: dict[str, Any]) -> None:
    layer, x = added["LeakyIntegrator"](3).double(), random(2, 6, 3)
    torch.autograd.gradcheck(layer, (x,))
    a, h = torch.sigmoid(layer.logit), torch.zeros(2, 3)
    for t in range(6):
        h = a * h + (1 - a) * x[:, t]
    torch.testing.assert_close(layer(x)[1], h)
    assert (layer(x, lengths=torch.tensor([6, 4]))[0][1, 4:] == 0).all()


def test_the_estimator_finds_the_best_number(added: dict[str, Any]) -> None:
    model, y = added["model"], torch.from_numpy(added["y"])

    def error(a: torch.Tensor) -> float:
        return float((model.levels(a, y)[:-1] - y[1:]).square().mean())

    assert all(error(model.a_) < error(model.a_ + step) for step in (-0.01, 0.01))
    assert model.predict(added["y"])[-1] == model.forecast(1)[0] == model.level_
