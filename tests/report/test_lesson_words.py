"""The words of the lesson: complete in both languages, none without use, wrapped for a terminal."""

from __future__ import annotations

import re
from dataclasses import asdict, fields
from pathlib import Path

import pytest
from rich.cells import cell_len

from retrograd import report
from retrograd.cli import explain
from retrograd.report.explain import LANGUAGES
from retrograd.report.explain.texts import Texts
from retrograd.report.explain.wrap import wrap

# What stands between words, not words.
JOINTS = ("tag", "comma", "between")
SOURCES = [*(Path(report.__file__).parent / "explain").iterdir(), Path(explain.__file__)]


@pytest.mark.parametrize("width", [20, 37, 80])
def test_prose_is_wrapped_by_the_width_of_its_characters(width: int) -> None:
    for texts in LANGUAGES.values():
        for name, text in asdict(texts).items():
            if name in JOINTS:
                continue
            lines = wrap(text, width)
            assert "".join(lines).replace(" ", "") == text.replace(" ", "")
            for line in lines:
                assert line == line.strip()
                assert not re.match("[，。：；、）！？]", line)
                assert not line.endswith("（")
                # Only a formula is longer: it must not be parted.
                assert cell_len(line) <= width or not re.search(r"[\u4e00-\u9fff]{2}|[a-z]{2} [a-z]{2}", line), line
    (slope,) = [line for line in wrap(LANGUAGES["zh"].check_note, 40) if "(L(θ" in line]
    assert "(L(θ + s) − L(θ − s)) / 2s" in slope


def test_no_text_is_without_use() -> None:
    sources = "".join(path.read_text() for path in SOURCES if path.suffix in (".py", ".js", ".j2"))
    # Fields of which the sources name only the beginning, with a kind of loss after it.
    kinds = tuple(f"{what}_{kind}" for what in ("loss", "initialise", "choice")
                  for kind in ("final_state", "all_states", "squared_error", "given"))  # fmt: skip
    kinds += tuple(f"accumulate_{kind}" for kind in ("both", "error", "fed", "nothing"))
    for field in fields(Texts):
        assert field.name in kinds or re.search(rf"\b(texts|say)\.{field.name}\b", sources), field.name


def test_both_languages_fill_in_the_same_and_use_the_same_symbols() -> None:
    english, chinese = (asdict(LANGUAGES[language]) for language in ("en", "zh"))
    symbol = r"\{[a-z]+\}|[A-Zδ∂a-z]\w*_(?:\{[^}]*\}|\w+)|Cᵀ|y\*_t"
    for name, text in english.items():
        if name in JOINTS:
            continue
        assert text
        assert chinese[name]
        assert set(re.findall(r"\{[a-z]+\}", text)) == set(re.findall(r"\{[a-z]+\}", chinese[name])), name
        assert re.search(r"[\u4e00-\u9fff]", chinese[name]), name
        # No English word is left, but for keys and names.
        words = set(re.findall(r"[A-Za-z]{3,}", re.sub(symbol, "", chinese[name])))
        assert words <= {"Home", "End", "Tab", "BPTT", "retrograd", "docs", "explain"}, (name, words)
        # Chinese stops and commas, and no space between Chinese characters.
        assert not re.search(r"[\u4e00-\u9fff][,.:;?!]|[，。：；] |[\u4e00-\u9fff] [\u4e00-\u9fff]", chinese[name]), (
            name
        )
