"""README says what is so: its Python runs, its two commands exist, its links lead somewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

import retrograd as rg
from benchmarks import table

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
CHINESE = (ROOT / "README.zh-CN.md").read_text()
KEEP = "README.md and README.zh-CN.md are kept in step: what one gains or loses, the other does in the same change"


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


@pytest.mark.parametrize(
    "what",
    [
        pytest.param(r"^(#+) ", id="headings"),
        # Without their comments, which are translated.
        pytest.param(r"^( {4}\S[^#\n]*?) *(?:#.*)?$", id="commands"),
        pytest.param(r"`([^`\n]+)`", id="code"),
        pytest.param(r"\]\(((?!README)[^)]+)\)", id="links"),
        pytest.param(r"^(- |!|```|<!--.*$)", id="blocks"),
        pytest.param(r"(?<![\w.])(\d[\d.]*\d|\d)(?![\w])", id="numbers"),
    ],
)
def test_the_chinese_version_is_in_step(what: str) -> None:
    def found(text: str) -> list[str]:
        return sorted(re.findall(what, text.replace("`--lang zh`", ""), re.MULTILINE | re.ASCII))

    assert found(README)
    assert found(CHINESE) == found(README), KEEP


def test_the_errors_of_the_first_picture_are_what_its_script_found() -> None:
    found = json.loads((ROOT / "docs" / "images" / "gallery" / "figures.json").read_text())["airline"]
    for name in ("error", "error of the seasonal naive"):
        assert f"{found[name]:.1f}" in README


def test_both_versions_have_the_same_python() -> None:
    def code(text: str) -> list[str]:
        (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        return [line.split("  #")[0] for line in example.splitlines()]

    assert code(CHINESE) == code(README), KEEP


def test_each_version_leads_to_the_other() -> None:
    assert "[中文](README.zh-CN.md)" in README
    assert "[English](README.md)" in CHINESE


def test_both_tables_are_those_of_the_result_file() -> None:
    results = json.loads(table.RESULTS.read_text())
    for page, words in table.PAGES.items():
        assert table.table(results, words) in page.read_text(), "run `make bench-table`"
