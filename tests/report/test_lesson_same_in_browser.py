"""Whoever walks through the page sees the numbers of the terminal, to the last digit, and is told the same."""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from browser import Browser
from report.lessons import lesson_of
from retrograd.report.explain import LANGUAGES, LOSSES, Lesson, render, tell
from retrograd.report.explain.tables import Line
from retrograd.report.explain.texts import Texts

# The numbers that stand for themselves: no index, no exponent, no half.
NUMBERS = """(part) => [...part.querySelectorAll(".formula mn")].filter((number) => {
  for (let node = number; node.tagName !== "math"; node = node.parentElement) {
    const { parentElement: outer } = node;
    const attached = /^m(su[bp]|subsup|under)$/.test(outer.tagName) && outer.firstElementChild !== node;
    if (attached || outer.tagName === "mfrac") return false;
  }
  return true;
}).map((number) => number.textContent.replaceAll("−", "-"))"""


def by_heading(lines: Sequence[Line], texts: Texts) -> dict[str, list[Line]]:
    """Return what the terminal says, under each of its headings; the beginning is called as on the page."""
    found: dict[str, list[Line]] = defaultdict(list)
    heading = texts.overview
    for line in lines[1:]:
        if line.kind == "heading":
            heading = line.text
        else:
            found[heading].append(line)
    return found


def numbers(lines: Sequence[Line]) -> Counter[str]:
    """Return all numbers of formulas, without the indices in names."""
    text = "\n".join(line.text for line in lines if line.kind == "formula")
    text = re.sub(r"_(\{[^}]*\}|\w+(,\w+)?)", "", text)
    return Counter(re.findall(r"-?\d[\d.]*(?:e-?\d+)?", text, re.ASCII))


def bare(text: str) -> str:
    """Return a text without what the two write differently: subscripts, minus signs and spaces."""
    return re.sub(r"[_{}\s]", "", text).replace("−", "-")


CASES = list(itertools.product(LOSSES, (False, True), LANGUAGES))


@pytest.mark.parametrize(
    ("loss", "closed", "language"),
    [
        pytest.param(
            *case, marks=() if case == ("squared-error", True, "zh") else pytest.mark.slow, id="-".join(map(str, case))
        )
        for case in CASES
    ],
)
def test_the_page_shows_what_the_terminal_says(
    browser: Browser, tmp_path: Path, loss: str, closed: bool, language: str
) -> None:
    texts = LANGUAGES[language]
    lesson = Lesson.example(loss=loss, closed_loop=closed)
    walk = lesson.walk()
    found = list(lesson.differences(walk))
    said = by_heading(tell(lesson, walk, found, texts), texts)
    path = tmp_path / "explain.html"
    path.write_text(render(lesson, walk, found, texts))
    with browser.open(path) as page:
        seen: dict[str, Counter[str]] = defaultdict(Counter)
        for k, position in enumerate(page.evaluate("positions(window.retrograd.problem)")):
            page.locator("#slider").evaluate(
                "(slider, to) => { slider.value = to; slider.dispatchEvent(new Event('input')); }", k
            )
            heading = getattr(texts, position["kind"])
            seen[heading].update(page.locator("#said").evaluate(NUMBERS))
            for paragraph in page.locator("#said p").all_text_contents():
                assert bare(paragraph) in bare("".join(line.text for line in said[heading])), (heading, paragraph)
        for heading, counted in seen.items():
            assert counted == numbers(said[heading]), heading

        def rows(of: str) -> list[list[str]]:
            got: list[list[str]] = page.locator(of).evaluate_all(
                "(all) => all.map((row) => [...row.cells].map((cell) => cell.textContent))"
            )
            return [[bare(cell) for cell in row] for row in got]

        def table(heading: str) -> list[list[str]]:
            lines = [line.text for line in said[heading] if line.kind == "formula"]
            return [[bare(cell) for cell in re.split(r" {2,}", line.strip())] for line in lines]

        # By lag, in columns on the page.
        assert [list(column) for column in zip(*rows("#map-foot tr"), strict=True)][1:] == [
            row[1:] for row in table(texts.lags)[1:]
        ]
        assert bare(page.locator("#map-sum").text_content()) in bare("".join(line.text for line in said[texts.lags]))
        page.locator("details summary").click()
        assert rows("#check tr") == table(texts.check)[1:]
        assert bare(page.locator("#check-verdict").text_content()) in bare(
            "".join(line.text for line in said[texts.check])
        )


def test_how_formulas_are_set(browser: Browser, tmp_path: Path) -> None:
    lesson = lesson_of("squared, closed")  # one output, that takes the place of the first of two inputs
    walk, texts = lesson.walk(), LANGUAGES["en"]
    path = tmp_path / "explain.html"
    path.write_text(render(lesson, walk, [], texts))
    terminal = [text for line in tell(lesson, walk, [], texts, width=10_000) for text in line.text.splitlines()]
    assert any(text.startswith("  x_2[1] = y_1 = ") for text in terminal)
    with browser.open(path) as page:

        def said(kind: str, t: int) -> Any:
            kinds = [(one["kind"], one.get("t")) for one in page.evaluate("positions(window.retrograd.problem)")]
            page.locator("#slider").evaluate(
                "(slider, to) => { slider.value = to; slider.dispatchEvent(new Event('input')); }",
                kinds.index((kind, t)),
            )
            return page.locator("#said")

        assert "x2[1]" in bare(said("forward", 2).text_content())
        formulas = said("propagate", 1)
        # An operator that a line starts with is no sign: it has a space on either side.
        first = formulas.locator("math > mo:first-child")
        assert first.count() > 3
        assert {first.nth(k).get_attribute("form") for k in range(first.count())} == {"infix"}
        assert formulas.locator("msubsup").first.text_content() == "Whh⊤"
        assert formulas.locator("msup > msub").count() == 0
