"""`retrograd explain` as a user calls it: what it prints, the page that it writes, what it refuses."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len

from cli.command import retrograd
from retrograd import bptt
from retrograd.report.explain.blocks import matrix

__all__ = ["retrograd"]  # a fixture

DOCS = Path(__file__).parents[2] / "docs/explain.md"

Arrays = dict[str, np.ndarray[Any, Any]]


@pytest.fixture
def arrays() -> Arrays:
    source = np.random.default_rng(3)
    return {
        "x": source.normal(size=(4, 1)),
        "weight_hh": source.normal(size=(3, 3)) / 3,
        "weight_ih": source.normal(size=(3, 1)),
        "weight_out": source.normal(size=(1, 3)),
        "target": source.normal(size=(4, 1)),
    }


def test_the_built_in_example(retrograd: Any, tmp_path: Path) -> None:
    ran = retrograd("explain")
    assert ran.code == 0
    assert ran.err == ""
    for heading in ("1. Initialise", "2. Propagate", "3. Accumulate", "4. Update", "Check: finite differences"):
        assert f"\n{heading}" in ran.out
    assert "All 18 entries agree" in ran.out
    # It starts with what can be checked in the head, and then looks at outputs and targets.
    assert ran.out.startswith("The smallest case: one state, one weight, three steps\n")
    assert "= 1 · 1 + 0.5 · 2 + 0.25 · 0 = 2\n" in ran.out
    assert "L = ½ Σ_t ‖y_t − y*_t‖²" in ran.out
    assert "\x1b" not in ran.out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("closed", [False, True])
def test_a_file_as_grad_takes_it(retrograd: Any, arrays: Arrays, closed: bool) -> None:
    np.savez("problem.npz", **arrays)
    ran = retrograd("explain", "problem.npz", "--loss", "squared-error", *(["--closed-loop"] if closed else []))
    assert ran.code == 0
    target = arrays.pop("target")
    g = bptt(
        **arrays,
        bias=np.zeros(3),
        feedback=np.arange(4) > 0 if closed else None,
        loss=lambda y: 0.5 * ((y - y.new_tensor(target)) ** 2).sum(),
    )
    assert g.delta is not None
    for values in (*g.delta, g.weight_hh, g.bias, g.weight_out):
        assert all(row in ran.out for row in matrix(values).lines)
    assert ("x_2 = y_1" in ran.out) == closed


def test_chinese(retrograd: Any) -> None:
    english, chinese = retrograd("explain").out, retrograd("explain", "--lang", "zh").out
    assert "\n2. 传播：沿时间往回走" in chinese
    assert "\n接下来可以试试\n  retrograd explain --lang zh --closed-loop\n" in chinese
    # The formulas are the same.
    formulas = [line for line in english.splitlines() if line.startswith("  ") and "=" in line]
    assert len(formulas) > 30
    assert [line for line in chinese.splitlines() if line.startswith("  ") and "=" in line] == formulas


def test_the_page_is_written_and_nothing_is_overwritten_unless_asked(retrograd: Any, tmp_path: Path) -> None:
    ran = retrograd("explain", "--html")
    assert ran.code == 0
    assert ran.out == "Written: explain.html. Open it in a browser.\n"
    page = (tmp_path / "explain.html").read_text()
    assert '<html lang="en">' in page
    ran = retrograd("explain", "--html", "--lang", "zh")  # refused
    assert ran.code == 2
    assert ran.err == "retrograd: explain.html exists: use --overwrite to replace it, or --out to name another\n"
    assert (tmp_path / "explain.html").read_text() == page
    ran = retrograd("explain", "--html", "--lang", "zh", "--out", "zh.html")
    assert (ran.code, ran.out) == (0, "已写入 zh.html，请用浏览器打开。\n")
    assert '<html lang="zh-CN">' in (tmp_path / "zh.html").read_text()
    assert retrograd("explain", "--html", "--lang", "zh", "--overwrite").code == 0
    assert (tmp_path / "explain.html").read_text() == (tmp_path / "zh.html").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"explain.html", "zh.html"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.npz"], "missing.npz does not exist"),
        (["long.npz"], "long.npz has 13 steps in x; explain shows every number, and at most 12 can be read"),
        (["odd.npz"], "odd.npz: array 'targets' is not known: did you mean 'target'?"),
        (["--lang", "de"], "--lang is 'de'"),
        (["--loss", "squared"], "--loss is 'squared'"),
        (["--lr", "-1"], "--lr is -1.0, expected a finite number above 0"),
        (["--out", "a.html"], "--out is for the page: add --html"),
        (["--overwrite"], "--overwrite is for the page: add --html"),
        (["--html", "--out", "nowhere/a.html"], "--out nowhere/a.html is a folder or lies in none"),
    ],
)
def test_each_mistake_is_named(
    retrograd: Any, tmp_path: Path, arrays: Arrays, arguments: list[str], message: str
) -> None:
    np.savez("long.npz", x=np.zeros((13, 1)), weight_hh=np.eye(2), weight_ih=np.ones((2, 1)))
    np.savez("odd.npz", **arrays, targets=arrays["target"])
    before = set(tmp_path.iterdir())
    ran = retrograd("explain", *arguments)
    assert ran.code == 2
    assert ran.err.startswith(f"retrograd: {message}")
    assert ran.out == ""
    assert set(tmp_path.iterdir()) == before


def test_gradients_that_do_not_agree_are_a_failure(retrograd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from retrograd.report.explain import lesson

    honest = lesson.bptt

    def wrong(*arguments: Any, **options: Any) -> Any:
        g = honest(*arguments, **options)
        g.weight_hh[0, -1] *= 1.001
        return g

    monkeypatch.setattr(lesson, "bptt", wrong)
    ran = retrograd("explain")
    assert ran.code == 1
    assert "17 of 18 entries agree" in ran.out
    assert "1 of 18 entries differ by more than" in ran.out.replace("\n", " ")
    # The page says so in the terminal too.
    ran = retrograd("explain", "--html")
    assert ran.code == 1
    assert "1 of 18 entries differ by more than" in ran.out.replace("\n", " ")


def test_a_check_that_cannot_be_made_is_no_failure(retrograd: Any) -> None:
    """Whatever overflows: no warning, no traceback, and nothing that disagrees."""
    np.savez("huge.npz", x=np.ones((12, 1)), weight_hh=np.full((1, 1), 1e30), weight_ih=np.ones((1, 1)))
    for options in ([], ["--html"], ["--html", "--lang", "zh", "--out", "zh.html"]):
        ran = retrograd("explain", "huge.npz", *options)
        assert (ran.code, ran.err) == (0, "")
    assert "cannot be checked" in retrograd("explain", "huge.npz").out
    ran = retrograd("explain", "--lr", "1e80")
    assert (ran.code, ran.err) == (0, "")
    assert "the step was far too long" in ran.out.replace("\n", " ")


def test_a_target_in_the_file_is_used(retrograd: Any, arrays: Arrays) -> None:
    np.savez("problem.npz", **arrays)
    assert retrograd("explain", "problem.npz").out == retrograd(
        "explain", "problem.npz", "--loss", "squared-error"
    ).out.replace(" --loss squared-error --html", " --html")


@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize("options", [[], ["--closed-loop", "--loss", "squared-error"]])
def test_no_line_is_too_long_or_ends_in_a_space(
    retrograd: Any, monkeypatch: pytest.MonkeyPatch, columns: int, options: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    for language in ("en", "zh"):
        for line in retrograd("explain", "--lang", language, *options).out.splitlines():
            # The commands of the end and the check's table are as long as they are.
            assert cell_len(line) <= columns or columns == 60
            assert line == line.rstrip()
            assert not line.startswith(("，", "。", "：", "；", "、", "）"))


def test_an_output_that_cannot_take_the_symbols_is_named(
    retrograd: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("rich.console.Console.encoding", "ascii")
    for options in ([], ["--html", "--lang", "zh"]):
        ran = retrograd("explain", *options)
        assert (ran.code, ran.out) == (2, "")
        assert ran.err.startswith("retrograd: the output's encoding is ascii, which lacks '")
        assert ran.err.endswith(": set PYTHONIOENCODING=utf-8\n")
    assert list(tmp_path.iterdir()) == []
    assert retrograd("explain", "--html").code == 0


def test_the_file_of_the_docs_can_be_walked_through(retrograd: Any) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    exec(example, {})
    ran = retrograd("explain", "mine.npz")
    assert (ran.code, ran.err) == (0, "")
    assert "\n  L = ½ Σ_t ‖y_t − y*_t‖² = " in ran.out
    assert ran.out.endswith("  retrograd explain mine.npz --html\n    all of this as a page, with numbers to change\n")


def test_what_next_leads_on(retrograd: Any, arrays: Arrays) -> None:
    def commands(*options: str) -> list[str]:
        lines = retrograd("explain", *options).out.split("\nWhat next\n")[1].splitlines()
        return [line.strip() for line in lines if line.startswith("  retrograd explain")]

    assert commands() == [
        "retrograd explain --closed-loop",
        "retrograd explain --html",
        "retrograd explain FILE.npz",
    ]
    assert commands("--loss", "final-state")[0] == "retrograd explain"
    assert commands("--closed-loop")[0] == "retrograd explain --closed-loop --lr 0.1"
    assert commands("--closed-loop", "--lr", "0.2")[-2] == "retrograd explain --closed-loop --lr 0.2 --html"
    np.savez("my file.npz", **arrays)
    assert commands("my file.npz", "--closed-loop") == ["retrograd explain 'my file.npz' --closed-loop --html"]
