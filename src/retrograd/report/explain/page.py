"""The lesson as one page that opens with no network. Its arithmetic runs in it, and is held against the library's."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from retrograd.report.explain.lesson import Difference, Lesson, Walk
from retrograd.report.explain.plain import Line, tell
from retrograd.report.explain.texts import Texts
from retrograd.report.page import render as render_template

__all__ = ["render"]


def render(
    lesson: Lesson, walk: Walk, differences: Sequence[Difference], texts: Texts, opening: Sequence[Line] = ()
) -> str:
    """Return the page.

    Args:
        lesson: whose numbers the page starts with.
        walk: the library's numbers of it, against which the page checks its own.
        differences: for the plain text, which stands in for the page where scripts are off.
        texts: the language.
        opening: what stands before the lesson.

    Examples:
        >>> from retrograd.report.explain.texts import LANGUAGES
        >>> lesson = Lesson.example()
        >>> page = render(lesson, lesson.walk(), [], LANGUAGES["zh"])
        >>> page.splitlines()[:2]
        ['<!DOCTYPE html>', '<html lang="zh-CN">']
    """
    if lesson.weight_out is not None and lesson.target is None:
        # The page offers the squared error, which needs a target.
        lesson = replace(lesson, target=np.zeros((len(lesson.x), len(lesson.weight_out))))
    # The page does not show the parts of each step as numbers of their own.
    reference = {name: _plain(value) for name, value in asdict(walk).items() if name != "parts"}
    content = {
        "problem": _plain(asdict(lesson)),
        # JSON has no infinity: what overflowed anywhere is left to the page's own arithmetic, with nothing to compare.
        "walk": reference if _finite(reference) else None,
        "texts": asdict(texts),
    }
    return render_template(
        "explain/page.html.j2",
        texts=texts,
        # Within a script element, nothing may look like its end.
        lesson=json.dumps(content, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c"),
        plain=tell(lesson, walk, differences, texts)[1:],  # the page has its title
        opening=opening,
        has_output=lesson.weight_out is not None,
    )


def _finite(value: Any) -> bool:
    """Whether every number in lists and dictionaries is finite."""
    if isinstance(value, dict | list):
        return all(_finite(part) for part in (value.values() if isinstance(value, dict) else value))
    return value is None or math.isfinite(value)


def _plain(value: Any) -> Any:
    """Return arrays as lists."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return value.tolist() if isinstance(value, np.ndarray) else value
