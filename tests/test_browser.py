"""The browser that the tests of pages run in notices what they rely on it to notice."""

from __future__ import annotations

from pathlib import Path

import pytest

from browser import Browser


@pytest.mark.parametrize("dark", [False, True])
def test_a_sound_page_opens_in_either_scheme(browser: Browser, tmp_path: Path, dark: bool) -> None:
    page = tmp_path / "page.html"
    page.write_text("<!doctype html><title>sound</title><p>text")
    with browser.open(page, dark=dark) as opened:
        assert opened.title() == "sound"
        assert opened.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") is dark


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("<script>no_such_function()</script>", "no_such_function"),
        ("<script>console.error('went wrong')</script>", "went wrong"),
        ("<img src='http://127.0.0.1:1/picture.png'>", "the page asked for"),
    ],
)
def test_an_unsound_page_fails(browser: Browser, tmp_path: Path, body: str, complaint: str) -> None:
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html><title>unsound</title>{body}")
    with pytest.raises(AssertionError, match=complaint), browser.open(page):
        pass
