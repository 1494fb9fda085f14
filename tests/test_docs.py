"""The docs say what is so: a page's Python runs, in order, in one namespace; the first page leads to every other."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import pytest

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
# Tutorials train models.
TUTORIALS = [pytest.param(page, marks=pytest.mark.slow) for page in sorted((DOCS / "tutorials").glob("*.md"))]
MORE = [DOCS / name for name in ("estimators.md", "forecast.md", "insight.md", "scaling.md", "choose-a-layer.md")]


@pytest.mark.parametrize("page", [*TUTORIALS, *MORE], ids=lambda page: page.stem)
def test_the_python_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    assert blocks
    monkeypatch.chdir(tmp_path)
    before = matplotlib.get_backend()
    plt.switch_backend("agg")
    names: dict[str, object] = {"__name__": page.stem}
    try:
        for block in blocks:
            exec(compile(block, str(page), "exec"), names)
    finally:
        plt.close("all")
        plt.switch_backend(before)


def test_the_first_page_leads_everywhere_and_its_example_is_true() -> None:
    page = (DOCS / "index.md").read_text()
    nav = (ROOT / "mkdocs.yml").read_text().split("nav:")[1]
    pages = {one for one in re.findall(r"[\w/-]+\.md", nav) if one != "index.md"}
    assert pages == set(re.findall(r"\(([\w/-]+\.md)\)", page))
    assert pages == {str(one.relative_to(DOCS)) for one in DOCS.rglob("*.md")} - {"index.md"}
    code = re.search(r"```python\n(.*?)```", page, re.S)
    assert code
    printed: list[str] = []
    exec(code[1], {"print": lambda value: printed.append(str(value))})
    assert printed == re.findall(r"print.*(tensor\(\[.*\]\))", code[1])


@pytest.mark.parametrize("page", [*ROOT.glob("*.md"), *DOCS.rglob("*.md")], ids=lambda page: page.name)
def test_the_files_that_a_page_names_are_there(page: Path) -> None:
    for name in re.findall(r"`((?:src|native|tests|benchmarks|examples|docs)/[\w./-]+)`", page.read_text()):
        assert (ROOT / name).exists(), name
