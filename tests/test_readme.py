"""README says what is so: its Python runs, its two commands exist, its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import retrograd as rg

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_python_example_runs_and_learns(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    torch.manual_seed(0)
    names: dict[str, object] = {}
    exec(example, names)
    g, target, a = names["g"], names["target"], names["a"]
    assert isinstance(g, rg.Gradients)
    assert float(g.loss) < 0.9999 * float(target.square().mean())  # type: ignore[attr-defined]
    assert g.delta.shape == (8, 500, 16)
    assert a.grad.abs().sum() > 0  # type: ignore[attr-defined]
    assert "tensor" in capsys.readouterr().out


def test_the_two_commands_are_targets_of_the_makefile() -> None:
    commands = re.findall(r"^    make (\S+)", README, re.MULTILINE)
    assert commands == ["demo", "test"]
    makefile = (ROOT / "Makefile").read_text()
    for command in commands:
        assert re.search(rf"^{command}:", makefile, re.MULTILINE)


def test_every_link_leads_to_a_file() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert links
    for link in links:
        assert (ROOT / link).is_file(), link
