"""The page of `retrograd explain` for every reader: by keyboard, read aloud, on a phone, in light and dark."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browser import Browser, wait_until
from report.lesson_page import go, go_to, positions, write
from report.lessons import lesson_of
from retrograd.report.explain import LANGUAGES, Lesson

FOCUSED = "document.activeElement.id || document.activeElement.tagName"


def test_keys_buttons_and_play(browser: Browser, tmp_path: Path) -> None:
    with browser.open(write(tmp_path, Lesson.example())) as page:
        count = len(positions(page))

        def at(position: int) -> None:
            assert page.evaluate("window.retrograd.position") == position
            assert page.locator("#slider").input_value() == str(position)

        at(0)
        # As the page has been opened, with the focus nowhere.
        for key, position in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1)):
            page.keyboard.press(key)
            at(position)
        page.locator("#next").focus()
        for key, position in (("ArrowRight", 2), ("End", count - 1), ("Home", 0), ("ArrowLeft", 0), ("Enter", 1)):
            page.keyboard.press(key)
            at(position)
        for button, position in (("next", 2), ("last", count - 1), ("back", count - 2), ("first", 0)):
            page.locator(f"#{button}").click()
            at(position)
        page.locator("#slider").focus()
        page.keyboard.press("ArrowRight")
        at(1)
        # Within a number field the arrows belong to the field.
        page.locator("#rate").focus()
        page.keyboard.press("ArrowLeft")
        at(1)
        page.locator("#play").click()
        assert page.inner_text("#play") == "Pause"
        wait_until(page, "window.retrograd.position === 2")
        page.locator("#play").click()
        assert page.inner_text("#play") == "Play"
        page.locator("#slider").focus()
        page.keyboard.press(" ")
        assert page.inner_text("#play") == "Pause"


@pytest.mark.slow
def test_outside_the_walk_keys_do_what_they_always_do(browser: Browser, tmp_path: Path) -> None:
    with browser.open(write(tmp_path, lesson_of("the largest")), width=360, height=740) as page:
        go(page, 5)
        page.evaluate("""window.taken = [];
          window.addEventListener("keydown", (event) => event.defaultPrevented && window.taken.push(event.key));""")
        for key in ("End", "Home", " ", "Shift+ "):
            page.keyboard.press(key)
        page.locator("#reset").focus()
        for key in ("End", "Home", "ArrowLeft", "ArrowRight", " "):
            page.keyboard.press(key)
        # A frame that is narrower than what is in it scrolls.
        for frame in ("#scene .scroll", ".scroll:has(.results)"):
            page.locator(frame).focus()
            page.locator(frame).evaluate("(frame) => { frame.scrollLeft = 0; }")
            page.keyboard.press("ArrowRight")
            wait_until(page, "document.activeElement.scrollLeft > 0")
        assert page.evaluate("window.taken") == []
        assert page.evaluate("window.retrograd.position") == 5
        assert page.inner_text("#play") == "Play"


@pytest.mark.slow
def test_the_focus_is_not_lost(browser: Browser, tmp_path: Path) -> None:
    with browser.open(write(tmp_path, Lesson.example())) as page:
        go(page, len(positions(page)) - 2)
        page.locator("#next").focus()
        page.keyboard.press("Enter")
        assert page.evaluate("window.retrograd.position") == len(positions(page)) - 1
        assert page.locator("#next").get_attribute("aria-disabled") == "true"
        assert page.evaluate(FOCUSED) == "next"
        page.keyboard.press("Enter")
        assert page.evaluate("window.retrograd.position") == len(positions(page)) - 1
        page.locator("#reset").focus()
        for _ in range(2):
            page.keyboard.press("Enter")
            assert page.evaluate(FOCUSED) == "reset"


@pytest.mark.slow
def test_the_focus_is_seen_everywhere(browser: Browser, tmp_path: Path) -> None:
    with browser.open(write(tmp_path, Lesson.example())) as page:
        page.evaluate("document.querySelector('details').open = true")
        # Of a number that cannot be used as well.
        page.locator("[data-array=weight_ih] input").first.evaluate(
            "(field) => { field.value = ''; field.dispatchEvent(new Event('input')); }"
        )
        page.keyboard.press("Tab")
        reached: list[str] = []
        while page.evaluate("document.activeElement !== document.body") and len(reached) < 100:
            style = """(({ outlineStyle, outlineWidth, outlineColor }) => [outlineStyle, outlineWidth, outlineColor])(
              getComputedStyle(document.activeElement))"""
            assert page.evaluate(style) == ["solid", "3px", "rgb(0, 114, 178)"], page.evaluate(FOCUSED)
            reached.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
            page.keyboard.press("Tab")
        assert len(reached) > 30
        assert "size" in " ".join(reached)  # a cell of the map


@pytest.mark.slow
def test_only_titles_and_messages_are_announced(browser: Browser, tmp_path: Path) -> None:
    with browser.open(write(tmp_path, Lesson.example(closed_loop=True))) as page:
        go_to(page, "propagate", 3)
        live = page.evaluate(
            "[...document.querySelectorAll('[aria-live], [role=status], [role=alert], output')].map((one) => one.id)"
        )
        assert live == ["title", "panel-said", "overflow"]
        assert page.inner_text("#title").replace("\u00a0", " ").endswith("t = 3")
        page.evaluate("""window.changes = [];
          const watch = new MutationObserver((all) => window.changes.push(...all.map((one) => one.target.id)));
          for (const id of ["title", "panel-said", "overflow"]) {
            watch.observe(document.getElementById(id), { childList: true, characterData: true, attributes: true, subtree: true });
          }""")  # noqa: E501
        page.locator("[data-array=weight_hh] input").first.fill("")
        page.locator("[data-array=weight_hh] input").first.press_sequentially("0.75")
        said = page.evaluate("window.changes")
        # It is not a number, and then all are: once each; a class changes beside the words.
        assert set(said) == {"panel-said"}
        assert len(said) <= 4


@pytest.mark.slow
def test_an_unusable_number_is_said_beside_it(browser: Browser, tmp_path: Path) -> None:
    """Also where the panel is much longer than the screen."""
    with browser.open(write(tmp_path, lesson_of("the largest")), width=360, height=740, touch=True) as page:
        for field in ("[data-array=weight_hh]", "[data-array=target]"):
            page.locator(f"{field} input").first.fill("")
            said = page.locator("#panel-said")
            assert "is not a number" in said.inner_text()
            box = said.bounding_box()
            assert 0 <= box["y"] <= 740 - box["height"]
            assert page.locator(f"{field} input").first.get_attribute("aria-describedby") == "panel-said"
            page.locator("#reset").click()
            assert said.inner_text() == ""


@pytest.mark.slow
def test_numbers_that_play_no_part_cannot_be_changed(browser: Browser, tmp_path: Path) -> None:
    with browser.open(write(tmp_path, lesson_of("squared, closed"))) as page:  # 1 of 2 inputs, at t = 2, 3 and 5

        def off(array: str) -> list[bool]:
            found: list[bool] = page.locator(f"[data-array={array}] input[type=number]").evaluate_all(
                "(all) => all.map((one) => one.disabled)"
            )
            return found

        note = "[data-array={}] .note"
        assert off("x") == [False, True, True, False, True] + 5 * [False]
        assert "replaced by" in page.inner_text(note.format("x"))
        assert not any(off("target"))
        assert page.locator(note.format("target")).is_hidden()
        page.locator("#loss-choice").select_option("all-states")
        assert all(off("target"))
        assert "another loss" in page.inner_text(note.format("target"))
        page.locator("#closed-loop").check()
        page.locator("#closed-loop").uncheck()
        assert not any(off("x"))
        assert page.locator(note.format("x")).is_hidden()


@pytest.mark.slow
def test_a_field_shows_its_number_and_steps_by_a_tenth(browser: Browser, tmp_path: Path) -> None:
    with browser.open(write(tmp_path, Lesson.example())) as page:
        field = page.locator("[data-array=weight_hh] input").first
        field.fill("-123456.789")
        assert field.evaluate("(field) => field.scrollWidth <= field.clientWidth")
        field.fill("0.5")
        field.press("ArrowUp")
        assert field.input_value() == "0.6"
        page.locator("#rate").press("ArrowUp")
        assert page.locator("#rate").input_value() == "0.06"


@pytest.mark.parametrize(
    ("kind", "width", "dark", "language"),
    [
        ("all, some closed", 360, True, "zh"),
        *(
            pytest.param("the largest", *case, marks=pytest.mark.slow)
            for case in itertools.product((360, 1100), (False, True), LANGUAGES)
        ),
    ],
)
def test_it_fits_every_screen(
    browser: Browser, tmp_path: Path, kind: str, width: int, dark: bool, language: str
) -> None:
    path = write(tmp_path, lesson_of(kind), language)
    with browser.open(path, width=width, height=740, dark=dark, touch=width < 400) as page:
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert paper == ("rgb(22, 22, 22)" if dark else "rgb(251, 251, 249)")
        tops = set()
        for position in range(len(positions(page))):
            go(page, position)
            assert page.evaluate("document.documentElement.scrollWidth") == width
            tops.add(page.locator("#scene .scroll").bounding_box()["y"])
            # Where the walk is stands above the drawing, in sight.
            title = page.locator("#title").bounding_box()
            said, drawing = page.locator("#said").bounding_box(), page.locator("#drawing").bounding_box()
            assert drawing["y"] + drawing["height"] < said["y"]
            assert said["y"] - drawing["y"] - drawing["height"] < 70
            assert title["height"] < 60
            assert title["y"] + title["height"] <= min(tops)
        # Nothing jumps from one position to the next.
        assert len(tops) == 1
        assert max(tops) < 740 / 3


COLOURS = """() => {
  const paint = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (colour) => {
    paint.clearRect(0, 0, 1, 1);
    paint.fillStyle = colour;
    paint.fillRect(0, 0, 1, 1);
    return [...paint.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const style = (selector) => getComputedStyle(document.querySelector(selector));
  const card = style("#scene .card").backgroundColor;
  return {
    cells: [...document.querySelectorAll("#map .size, #map .broken")].map((cell) => {
      const { color, backgroundColor } = getComputedStyle(cell);
      return [rgb(color), rgb(backgroundColor)];
    }),
    lines: ["forward", "backward", "quiet"].map((kind) => [rgb(style(`#drawing .half.${kind} rect`).stroke), rgb(card)]),
    arrows: [...document.querySelectorAll("#drawing .arrow")].map((one) => [rgb(getComputedStyle(one).stroke), rgb(card)]),
    texts: [...document.querySelectorAll("#drawing text")].map((one) => [rgb(getComputedStyle(one).fill), rgb(card)]),
  };
}"""  # noqa: E501


def contrast(one: list[int], other: list[int]) -> float:
    """Return the contrast ratio of WCAG 2."""

    def light(colour: list[int]) -> float:
        c = np.array(colour) / 255
        return float(np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [pytest.param(False, marks=pytest.mark.slow), True])
def test_everything_stands_out_from_its_ground(browser: Browser, tmp_path: Path, dark: bool) -> None:
    with browser.open(write(tmp_path, lesson_of("the largest")), dark=dark) as page:
        go_to(page, "propagate", 6)
        found: dict[str, Any] = page.evaluate(COLOURS)
    assert len(found["cells"]) > 60
    for kind, least in (("cells", 4.5), ("texts", 4.5), ("lines", 3), ("arrows", 3)):
        assert min(contrast(*pair) for pair in found[kind]) >= least, kind


@pytest.mark.slow
def test_the_cell_that_is_read_is_marked_on_any_shade(browser: Browser, tmp_path: Path) -> None:
    """By a ring of ink on a ring of paper, around the cell; the focus by another one."""
    with browser.open(write(tmp_path, Lesson.example(loss="all-states"))) as page:
        cell = page.locator("#map [data-t='4'][data-k='1']")
        cell.hover()
        ring = "(cell) => getComputedStyle(cell).boxShadow"
        assert re.findall(r"rgb\([^)]*\)", cell.evaluate(ring)) == ["rgb(251, 251, 249)", "rgb(27, 27, 27)"]
        assert page.locator("#map [data-t='4'][data-k='2']").evaluate(ring) == "none"
        # Its matrix is read with it.
        assert page.locator("#map button[aria-describedby=map-part]").count() == 1


@pytest.mark.slow
def test_no_two_kinds_of_cells_look_alike(browser: Browser, tmp_path: Path) -> None:
    """Also where the reader's own colours take the place of the page's: here the colours are numbers."""
    with browser.open(write(tmp_path, Lesson.example(loss="squared-error"))) as page:
        page.locator("[data-array=weight_hh] input").nth(1).fill("1e200")
        for forced in ("none", "active"):
            page.emulate_media(forced_colors=forced)
            for where in ("#map button.", "#map td.", "i.swatch."):
                kinds = ("zero", "broken", "size") if "button" in where else ("nothing",)
                looks = [
                    page.locator(f"{where}{kind}").first.evaluate(
                        "(one) => { const s = getComputedStyle(one); return s.backgroundImage + s.backgroundColor; }"
                    )
                    for kind in (("zero", "broken", "nothing") if "swatch" in where else kinds)
                ]
                assert len(set(looks)) == len(looks), (forced, where)
            edge = "(one) => getComputedStyle(one).borderTopStyle"
            assert {page.locator(f"{of}.nothing").first.evaluate(edge) for of in ("#map td", "i")} == {"dotted"}


@pytest.mark.slow
def test_a_matrix_stands_in_brackets(browser: Browser, tmp_path: Path) -> None:
    """Lines alone, as in a table whose borders collapse, are those of a determinant."""
    with browser.open(write(tmp_path, Lesson.example())) as page:
        go_to(page, "update")
        for where in ("#said", "#results"):
            style = page.locator(f"{where} .matrix").first.evaluate(
                "(one) => { const s = getComputedStyle(one); return [s.borderCollapse, s.backgroundRepeat]; }"
            )
            assert style[0] == "separate"
            assert "no-repeat" in style[1]


def test_every_part_has_a_name(browser: Browser, tmp_path: Path) -> None:
    with browser.open(write(tmp_path, Lesson.example())) as page:
        names = page.evaluate("""[...document.querySelectorAll("section")].map((one) => one.getAttribute("aria-label")
          ?? document.getElementById(one.getAttribute("aria-labelledby"))?.textContent ?? "")""")
        assert len(names) == 5
        assert all(names)
        assert len(set(names)) == 5


@pytest.mark.parametrize("language", LANGUAGES)
def test_without_scripts_the_text_is_there(tmp_path: Path, language: str) -> None:
    page = write(tmp_path, Lesson.example(), language).read_text()
    kept = page[page.index("<noscript>\n") : page.rindex("</noscript>")]
    assert "δ_4 = g_4 + W_hhᵀ δ_5" in kept
    assert re.search(r"All 18 entries agree|18 个元素全部一致", kept)
    # Prose is wrapped by the browser, formulas are not; and nothing is offered that needs the script.
    assert not any(len(line) > 90 for text in re.findall(r"<pre>(.*?)</pre>", kept, re.S) for line in text.splitlines())
    assert f"<h2>{LANGUAGES[language].update}</h2>" in kept
    assert "<noscript><style>#live { display: none; }</style></noscript>" in page
