"""The page of a lesson in a browser: writing it, walking through it, reading what it shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from retrograd.report.explain import LANGUAGES, Lesson, render
from retrograd.report.explain.blocks import number

Array = np.ndarray[Any, Any]


def write(folder: Path, lesson: Lesson, language: str = "en") -> Path:
    walk = lesson.walk()
    path = folder / "explain.html"
    path.write_text(render(lesson, walk, list(lesson.differences(walk)), LANGUAGES[language]))
    return path


def positions(page: Any) -> list[dict[str, Any]]:
    """Return the positions of the walk: their kind, and their t or the name of a weight."""
    found: list[dict[str, Any]] = page.evaluate("positions(window.retrograd.problem)")
    return found


def go(page: Any, position: int) -> None:
    """Walk to a position with the slider, as a drag of it does."""
    page.locator("#slider").evaluate(
        "(slider, to) => { slider.value = to; slider.dispatchEvent(new Event('input')); }", position
    )


def go_to(page: Any, kind: str, at: int | str | None = None) -> None:
    """Walk to the position of a kind, and of a t or a weight."""
    of = [one["kind"] == kind and at in (None, one.get("t"), one.get("name")) for one in positions(page)]
    go(page, of.index(True))


def plain(text: str) -> str:
    """Return a text of the page with hyphens for minus signs, as the terminal writes them."""
    return text.replace("−", "-")


def matrices(page: Any, within: str) -> list[list[list[str]]]:
    """Return all matrices of a part of the page, as the text of their entries."""
    found: list[list[list[str]]] = page.locator(within).evaluate(
        """(part) => [...part.querySelectorAll("mtable.matrix")].map((table) => [...table.querySelectorAll("mtr")].map(
          (row) => [...row.querySelectorAll("mtd")].map((cell) => cell.textContent.replaceAll("−", "-"))))"""
    )
    return found


def entries(values: Array) -> list[list[str]]:
    """Return what a matrix looks like: a vector is a column."""
    return [[number(value) for value in np.atleast_1d(row)] for row in values]


def lit(page: Any) -> list[str]:
    """Return the nodes and arrows that are highlighted."""
    found: list[str] = page.evaluate(
        """[...document.querySelectorAll("#drawing .lit")].map((one) => one.dataset.node ?? one.dataset.arrow)
          .filter(Boolean)"""
    )
    return found


def drawn(page: Any, kind: str) -> dict[str, list[str]]:
    """Return the numbers of all nodes (``"node"``), or of all arrows that bear some (``"carried"``), by their names."""
    found: dict[str, list[str]] = page.evaluate(
        """(kind) => Object.fromEntries([...document.querySelectorAll(`#drawing [data-${kind}]`)].map((one) =>
          [one.dataset[kind], [...one.querySelectorAll(".entry")].map((text) => text.textContent)]))""",
        kind,
    )
    return {name: [plain(text) for text in texts] for name, texts in found.items()}
