"""The page of `retrograd explain` in a browser: its walk, its arithmetic against the library's, its two languages."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browser import Browser
from report.lesson_page import entries, go, matrices, plain, positions, write
from report.lessons import IN_BROWSER, lesson_of
from retrograd.report.explain import LANGUAGES, Lesson, Walk
from retrograd.report.explain.blocks import number
from retrograd.report.explain.texts import fill

Array = np.ndarray[Any, Any]
EPS = np.finfo(np.float64).eps
COMPARED = (
    *("states", "previous", "outputs", "inputs", "output_gradient", "output_total"),
    *("direct", "delta", "input_gradient", "lags"),
)


def agree(page: Any, lesson: Lesson, walk: Walk | None = None) -> None:
    """Every number that the page has computed is the library's, to rounding."""
    walk = lesson.walk() if walk is None else walk
    found = page.evaluate("window.retrograd.walk")

    def close(name: str, got: Any, want: Array) -> None:
        scale = max(1.0, float(np.abs(want).max(initial=0.0)))
        np.testing.assert_allclose(np.array(got, float), want, rtol=0, atol=200 * EPS * scale, err_msg=name)

    for name in COMPARED:
        want = getattr(walk, name)
        if want is None:
            assert found[name] is None
        else:
            close(name, found[name], want)
    for group in ("gradients", "updated"):
        want = getattr(walk, group)
        assert set(found[group]) == set(want)
        for name, values in want.items():
            close(f"{group}, {name}", found[group][name], values)
    close("loss", found["loss"], np.array(walk.loss))
    close("updated loss", found["updated_loss"], np.array(walk.updated_loss))
    # And what is seen is that, to 4 digits; an input that an output took the place of has no gradient.
    for name, values in walk.gradients.items():
        seen = np.array(matrices(page, f"#results [data-gradient={name}]")[0]).reshape(values.shape)
        none = np.array([name == "x" and lesson.is_fed(*index) for index in np.ndindex(values.shape)])
        none = none.reshape(values.shape)
        assert np.all(seen[none] == "–")
        np.testing.assert_allclose(seen[~none].astype(float), values[~none], rtol=6e-4, atol=1e-12)
    assert page.locator("#replaced").is_visible() == bool(lesson.feedback.any())


def of_page(page: Any) -> Lesson:
    """Return the lesson that the page shows."""
    held = page.evaluate("window.retrograd.problem")
    kinds = {"loss": str, "learning_rate": float, "feedback": np.array}
    return Lesson(
        **{name: None if v is None else kinds.get(name, lambda a: np.array(a, float))(v) for name, v in held.items()}
    )


@pytest.mark.parametrize("kind", IN_BROWSER)
def test_its_numbers_are_the_librarys(browser: Browser, tmp_path: Path, kind: str) -> None:
    lesson = lesson_of(kind)
    with browser.open(write(tmp_path, lesson)) as page:
        agree(page, lesson)
        assert "differ by at most" in page.inner_text("#same")
        assert page.inner_text("#check-verdict").startswith("All ")
        found = page.evaluate("window.retrograd.found")
        for got, want in zip(found, lesson.differences(lesson.walk()), strict=True):
            assert (got["name"], tuple(got["index"])) == (want.name, want.index)
            assert got["agrees"]
            assert abs(got["difference"] - want.difference) <= got["allowed"] + want.allowed


@pytest.mark.slow
def test_small_numbers_are_checked_as_well(browser: Browser, tmp_path: Path) -> None:
    lesson = lesson_of("given")
    lesson = replace(lesson, x=1e-10 * lesson.x, h0=1e-200 * lesson.h0, bias=0 * lesson.bias)
    with browser.open(write(tmp_path, lesson)) as page:
        assert "differ by more" not in page.inner_text("#check-verdict")
        assert all(one["agrees"] for one in page.evaluate("window.retrograd.found"))


@pytest.mark.parametrize("kind", IN_BROWSER)
def test_every_position_shows_its_numbers(browser: Browser, tmp_path: Path, kind: str) -> None:
    lesson = lesson_of(kind)
    walk, steps = lesson.walk(), len(lesson.x)
    with browser.open(write(tmp_path, lesson)) as page:
        found = positions(page)
        assert [one["t"] for one in found if one["kind"] == "forward"] == list(range(1, steps + 1))
        assert [one["t"] for one in found if one["kind"] == "propagate"] == list(range(steps, -1, -1))
        assert [one["name"] for one in found if one["kind"] == "accumulate"] == list(walk.updated)
        for k, position in enumerate(found):
            go(page, k)
            assert page.inner_text("#where") == f"Position {k + 1} of {len(found)}"
            shown, t = matrices(page, "#said"), position.get("t")
            match position["kind"]:
                case "forward":
                    wanted = [entries(walk.states[t - 1])]
                    if walk.outputs is not None:
                        wanted.append(entries(walk.outputs[t - 1]))
                    assert all(one in shown for one in wanted)
                    assert shown[-1] == wanted[-1]
                case "loss":
                    assert number(walk.loss) in plain(page.inner_text("#said"))
                case "initialise":
                    # Of an output that becomes the next input, more comes back: that step waits.
                    known = [direct for s, direct in enumerate(walk.direct, 1) if s == steps or not lesson.feedback[s]]
                    assert all(entries(direct) in shown for direct in known)
                    waits = len(known) < steps and lesson.loss == "squared-error"
                    assert ("waits until that is known" in page.inner_text("#said")) == waits
                case "propagate":
                    assert entries(walk.delta[t - 1] if t else walk.gradients["h0"]) in shown
                    if t:
                        assert shown[-1] == entries(walk.input_gradient[t - 1])
                    assert ("Cᵀ" in page.inner_text("#said")) == (t < steps and bool(lesson.feedback[t]))
                case "accumulate":
                    assert shown[-1] == entries(walk.gradients[position["name"]])
                case "update":
                    assert all(entries(after) in shown for after in walk.updated.values())


def test_changed_numbers_change_every_gradient_as_the_library_says(browser: Browser, tmp_path: Path) -> None:
    source = np.random.default_rng(0)
    lesson = lesson_of("squared, closed")
    with browser.open(write(tmp_path, lesson)) as page:
        fields = page.locator("#panel input[type=number]:enabled")
        unused = int(lesson.feedback.sum())
        assert fields.count() == sum(a.size for a in lesson.arrays().values()) + len(lesson.x) - unused
        for k in range(fields.count()):
            fields.nth(k).fill(str(round(source.normal() / 2, 3)))
        page.locator("#rate").fill("0.02")
        for loss in ("squared-error", "final-state", "all-states"):
            page.locator("#loss-choice").select_option(loss)
            for change in ("none", "closed", "open", "one step"):
                if change == "one step":
                    page.locator("[data-array=x] input[type=checkbox]").nth(2).click()
                elif change != "none":
                    page.locator("#closed-loop").set_checked(change == "closed")
                here = of_page(page)
                if change != "none":
                    wanted = {"open": [], "closed": [1, 2, 3, 4], "one step": [2]}[change]
                    assert np.flatnonzero(here.feedback).tolist() == wanted
                assert here.loss == loss
                assert here.learning_rate == 0.02
                assert not np.array_equal(here.weight_hh, lesson.weight_hh)
                agree(page, here)
        page.locator("#reset").click()
        agree(page, lesson)
        assert page.locator("#loss-choice").input_value() == "squared-error"
        # The fields are connected again.
        page.locator("[data-array=weight_hh] input").first.fill("0.25")
        assert of_page(page).weight_hh[0, 0] == 0.25
        agree(page, of_page(page))


def test_a_number_that_cannot_be_used_is_said_and_the_last_ones_are_kept(browser: Browser, tmp_path: Path) -> None:
    lesson = Lesson.example()
    with browser.open(write(tmp_path, lesson)) as page:
        field = page.locator("[data-array=weight_hh] input").nth(1)
        field.fill("")
        said = page.locator("#panel-said")
        assert said.inner_text().startswith("W_hh [1, 2] is not a number")
        assert field.get_attribute("aria-invalid") == "true"
        agree(page, lesson)
        field.fill("0.3")
        assert said.inner_text() == "All numbers are used."
        assert of_page(page).weight_hh[0, 1] == 0.3
        page.locator("#rate").fill("0")
        assert said.inner_text().startswith("The learning rate must be above 0")
        page.locator("#rate").fill("0.1")
        # What grows beyond all numbers is said to.
        assert page.locator("#overflow").is_hidden()
        field.fill("1e200")
        assert page.locator("#overflow").is_visible()
        assert page.locator("#map .broken").count() > 0
        # Nothing is said of numbers that are not there.
        assert page.inner_text("#map-sum").endswith("is not finite, so there are no shares.")
        assert re.search(r"entries cannot be checked", page.inner_text("#check-verdict"))
        assert "differ by more" not in page.inner_text("#check-verdict")
        field.fill("0.3")
        assert page.locator("#overflow").is_hidden()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
def test_a_page_is_made_whatever_overflows(browser: Browser, tmp_path: Path) -> None:
    """A loss after too long a step, a part of one lag: the numbers at hand may all be finite."""
    too_long = Lesson.example(learning_rate=1e80, loss="squared-error")
    source = np.random.default_rng(0)
    arrays = {"x": source.normal(size=(12, 1)), "weight_hh": np.array([[1e26]]), "weight_ih": np.ones((1, 1))}
    arrays |= {"weight_out": np.ones((1, 1)), "bias_out": np.zeros(1), "target": np.zeros((12, 1))}
    for lesson in (too_long, Lesson.of_arrays(arrays, "growing")):
        with np.errstate(all="ignore"):
            path = write(tmp_path, lesson)
        with browser.open(path) as page:
            assert page.locator("#results tr").count() > 4
            assert page.inner_text("#same") == ""


def test_the_map_of_lags(browser: Browser, tmp_path: Path) -> None:
    lesson = Lesson.example(loss="all-states")
    walk = lesson.walk()
    with browser.open(write(tmp_path, lesson)) as page:
        for t in range(5):
            for k in range(5):
                cell = page.locator(f"#map [data-t='{t + 1}'][data-k='{k}']")
                if k > t:
                    assert cell.count() == 0
                    continue
                size = float(np.linalg.norm(walk.lags[t, k]))
                assert cell.inner_text().replace("−", "-") == number(size)
                # h_0 is zero here: what meets it is exactly 0, and looks so.
                assert cell.get_attribute("class") == ("zero" if k == t else cell.get_attribute("class"))
                assert ("zero" in str(cell.get_attribute("class"))) == (size == 0)
        darkness = page.locator("#map .size").evaluate_all(
            "(all) => all.map((cell) => [+cell.textContent, parseFloat(cell.style.getPropertyValue('--shade'))])"
        )
        assert len(darkness) == 10
        assert sorted(darkness) == sorted(darkness, key=lambda pair: pair[1])
        foot = page.locator("#map-foot tr").all_inner_texts()
        by_lag = walk.lags.sum(0)
        assert foot[0].replace("−", "-").split("\t")[1:] == [number(float(np.linalg.norm(part))) for part in by_lag]
        shares = [float((part * walk.gradients["weight_hh"]).sum()) for part in by_lag]
        squared = float((walk.gradients["weight_hh"] ** 2).sum())
        assert foot[1].replace("−", "-").split("\t")[1:] == [number(share / squared) for share in shares]

        page.locator("#map [data-t='4'][data-k='1']").hover()
        assert matrices(page, "#map-part") == [entries(walk.lags[3, 1])]
        page.locator("#map [data-t='4'][data-k='1']").focus()
        page.keyboard.press("ArrowRight")
        assert matrices(page, "#map-part") == [entries(walk.lags[3, 2])]
        page.keyboard.press("ArrowUp")
        assert matrices(page, "#map-part") == [entries(walk.lags[2, 2])]
        # The walk stays where it is.
        assert page.evaluate("window.retrograd.position") == 0


@pytest.mark.slow
@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("language", LANGUAGES)
def test_each_language_is_complete(browser: Browser, tmp_path: Path, language: str, closed: bool) -> None:
    texts, other = LANGUAGES[language], LANGUAGES["zh" if language == "en" else "en"]
    lesson = Lesson.example(closed_loop=closed, loss="squared-error")
    with browser.open(write(tmp_path, lesson, language)) as page:
        assert page.evaluate("document.documentElement.lang") == texts.tag
        assert page.title() == texts.title
        page.locator("details summary").click()
        seen = ""
        for position in range(len(positions(page))):
            go(page, position)
            seen += page.inner_text("main")
            named = (
                "[...document.querySelectorAll('[aria-label]')].map((one) => one.getAttribute('aria-label')).join(' ')"
            )
            seen += page.evaluate(named)
        assert not re.search(r"undefined|null|NaN|\{[a-z]+\}", seen)
        for said in (texts.propagate, texts.accumulate, texts.panel, texts.results_note, texts.forward):
            assert said in seen
        assert (fill(texts.forward_closed) in seen) == closed
        if language == "zh":
            words = set(re.findall(r"[A-Za-z]{3,}", re.sub(r"_\w+", "", seen)))
            assert words <= {"Home", "End", "Tab", "BPTT", "retrograd", "Whh", "Wih"}
        else:
            assert not re.search(r"[\u4e00-\u9fff]", seen)
        assert other.title not in seen


def test_numbers_look_as_in_the_terminal(browser: Browser, tmp_path: Path) -> None:
    source = np.random.default_rng(1)
    values = [0.0, -0.0, 0.15625, -0.15625, 2.00005, 1e-4, 9.9996e-5, 999950.0, 999949.0, 1e22, -1e-300, 5e-324]
    values += [float(value) for value in source.normal(size=300) * 10.0 ** source.integers(-9, 9, 300)]
    values += [k / 2**12 for k in range(1, 400)]
    with browser.open(write(tmp_path, Lesson.example())) as page:
        shown = page.evaluate("(values) => values.map(number)", values)
    assert shown == [number(value) for value in values]
