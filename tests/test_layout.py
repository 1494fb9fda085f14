"""Files and functions stay short enough to be read: 400 lines a file, 60 the body of a function."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = [path for folder in ("src", "native", "tests", "benchmarks", "examples") for path in (ROOT / folder).rglob("*")]
# Longer ones, each with its reason.
KERNEL = "one kernel: what it keeps in registers stands in one function"
LONGER = {
    "src/retrograd/backends/triton/carries.py: after_chunks": KERNEL,
    "src/retrograd/backends/triton/loops.py: dense_loop": KERNEL,
    "src/retrograd/backends/triton/tiles.py: tiles": KERNEL,
    "tests/conformance.py": "every law of a backend, in the one file that its author runs",
    "tests/report/test_page_in_browser.py: test_the_legend_and_the_tools_do_what_they_say": "one page, opened once",
}


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a function's body, without its docstring; the options of a command are in its head."""
    first, last = function.body[0], function.body[-1]
    assert first.end_lineno is not None
    assert last.end_lineno is not None
    documented = ast.get_docstring(function, clean=False) is not None
    return last.end_lineno - (first.end_lineno if documented else first.lineno - 1)


def too_long(path: Path) -> list[str]:
    """Return the names of what is too long in a file: the file itself, and its functions."""
    name, text = str(path.relative_to(ROOT)), path.read_text()
    found = [name] if text.count("\n") > 400 else []
    if path.suffix == ".py":
        functions = (n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))
        found += [f"{name}: {function.name}" for function in functions if body_lines(function) > 60]
    return found


def test_files_and_functions_are_short_enough_to_be_read() -> None:
    kinds = {".py", ".pyi", ".cpp", ".hpp", ".js", ".j2", ".css"}
    found = [name for path in sorted(FILES) if path.suffix in kinds for name in too_long(path)]
    assert set(found) <= set(LONGER), "split it by concept, or give a reason in LONGER"


@pytest.mark.parametrize(("lines", "long"), [(60, False), (61, True)])
def test_a_docstring_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: int, long: bool) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    path = tmp_path / "a.py"
    path.write_text('def f():\n    """One.\n\n    Two.\n    """\n' + "    f()\n" * lines)
    assert too_long(path) == (["a.py: f"] if long else [])
