"""The lesson: its numbers against autograd through a plain loop, its text against its numbers, its words complete."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len

from report.lessons import KINDS, arrays_of, by_autograd, lesson_of
from retrograd import report
from retrograd.errors import InputError
from retrograd.report.explain import LANGUAGES, Lesson, render, tell
from retrograd.report.explain.blocks import matrix, number
from retrograd.report.explain.plain import Line, verdict
from retrograd.report.explain.texts import Texts

Array = np.ndarray[Any, Any]
EPS = np.finfo(np.float64).eps
SOURCES = Path(report.__file__).parent / "explain"


def close(found: Array, want: Array, size: float = 1.0) -> None:
    """Both the same to rounding: a few hundred operations, each of a number no larger than ``size`` or the largest."""
    scale = max(float(np.abs(want).max(initial=0.0)), size)
    np.testing.assert_allclose(found, want, rtol=0, atol=200 * EPS * scale)


@pytest.mark.parametrize("kind", KINDS)
def test_every_number_is_that_of_autograd(kind: str) -> None:
    lesson = lesson_of(kind)
    walk, want = lesson.walk(), by_autograd(lesson)
    close(np.array(walk.loss), want["loss"])
    close(walk.states, want["states"])
    close(walk.delta, want["delta"])
    assert set(walk.gradients) == set(lesson.arrays())
    for name, gradient in walk.gradients.items():
        close(gradient, want[name])
    for name, parts in walk.parts.items():
        close(parts.sum(0), want[name])
    close(walk.lags.sum((0, 1)), want["weight_hh"])
    for name, after in walk.updated.items():
        close(after, getattr(lesson, name) - lesson.learning_rate * want[name])
    moved = replace(lesson, **walk.updated)
    close(np.array(walk.updated_loss), by_autograd(moved)["loss"])


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_carried_obeys_the_formulas_that_are_shown(kind: str) -> None:
    lesson = lesson_of(kind)
    walk = lesson.walk()
    later = np.concatenate([walk.delta[1:], np.zeros((1, len(lesson.h0)))])
    carried = later @ lesson.weight_hh
    if lesson.weight_out is not None and lesson.feedback.any():
        into = np.where(lesson.feedback[:, None], walk.input_gradient[:, : len(lesson.weight_out)], 0)
        carried[:-1] += into[1:] @ lesson.weight_out
    if lesson.loss == "squared-error":
        assert walk.output_gradient is not None
        close(walk.direct, walk.output_gradient @ lesson.weight_out)
    close(walk.delta, walk.direct + carried)
    close(walk.input_gradient, walk.delta @ lesson.weight_ih)
    close(walk.states, walk.previous @ lesson.weight_hh.T + walk.inputs @ lesson.weight_ih.T + lesson.bias)


@pytest.mark.parametrize("kind", KINDS)
def test_finite_differences_agree_and_notice_a_wrong_entry(kind: str) -> None:
    lesson = lesson_of(kind)
    walk = lesson.walk()
    found = list(lesson.differences(walk))
    assert all(one.agrees for one in found)
    # Each is good to far less than what it checks.
    assert max(one.allowed for one in found) < 1e-5 * max(abs(one.gradient) for one in found)
    unused = sum(lesson.is_fed(*index) for index in np.ndindex(*lesson.x.shape))
    assert len(found) == sum(array.size for array in lesson.arrays().values()) - unused
    walk.gradients["weight_hh"][0, 0] += 1e-4 * max(1.0, abs(walk.gradients["weight_hh"][0, 0]))
    wrong = [one for one in lesson.differences(walk) if not one.agrees]
    assert [(one.name, one.index) for one in wrong] == [("weight_hh", (0, 0))]
    said = verdict(list(lesson.differences(walk)), LANGUAGES["en"])
    assert said.startswith(f"1 of {len(found)} entries do not agree")


@pytest.mark.parametrize("size", [1e-200, 1e-10, 1e10])
@pytest.mark.parametrize("kind", KINDS)
def test_finite_differences_agree_whatever_the_size_of_the_numbers(kind: str, size: float) -> None:
    """A step from numbers near zero leads to much larger ones, whose rounding counts."""
    arrays = arrays_of(kind)
    for name in ("x", "h0", "bias", "bias_out", "target", "grad_states", "grad_final"):
        if name in arrays:
            arrays[name] = size * arrays[name]
    loss = KINDS[kind][0]
    lesson = Lesson.of_arrays(arrays, kind, loss=None if loss == "given" else loss)
    found = list(lesson.differences(lesson.walk()))
    assert [one for one in found if not one.agrees] == []


def shown(lines: Sequence[Line], start: str) -> list[str]:
    """Return the lines of the formula that begins with ``start``."""
    formulas = (line.text.splitlines() for line in lines)
    return next(texts for texts in formulas if any(text.startswith(f"  {start} ") for text in texts))


def ends_in(lines: Sequence[Line], start: str, values: Array) -> None:
    """The formula's last matrix is that of ``values``."""
    rows = matrix(values).lines
    texts = shown(lines, start)
    last = [text for text in texts if len(text) == max(map(len, texts))]
    for row, text in zip(rows, last, strict=True):
        assert text.endswith(row), (start, texts)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_text_has_the_numbers(kind: str, language: str) -> None:
    lesson = lesson_of(kind)
    walk = lesson.walk()
    lines = tell(lesson, walk, list(lesson.differences(walk)), LANGUAGES[language], width=10_000)
    for k in range(len(lesson.x)):
        ends_in(lines, f"h_{k + 1}", walk.states[k])
        ends_in(lines, f"g_{k + 1}", walk.direct[k])
        ends_in(lines, f"δ_{k + 1}", walk.delta[k])
        ends_in(lines, f"∂L/∂x_{k + 1}", walk.input_gradient[k])
        if walk.outputs is not None:
            ends_in(lines, f"y_{k + 1}", walk.outputs[k])
    ends_in(lines, "∂L/∂h_0", walk.gradients["h0"])
    for name, letter in (("weight_hh", "W_hh"), ("weight_ih", "W_ih"), ("bias", "b"), ("weight_out", "C")):
        if name in walk.gradients:
            ends_in(lines, f"∂L/∂{letter}", walk.gradients[name])
            ends_in(lines, f"{letter} ←", walk.updated[name])
    texts = [line.text for line in lines]
    assert any(text.startswith("  L = ") and text.endswith(f"= {number(walk.loss)}") for text in texts)
    assert any(number(walk.updated_loss) in text and number(walk.loss) in text for text in texts)
    assert sum(text.startswith(("  W_hh[", "  h_0[")) for text in texts) == lesson.weight_hh.size + lesson.h0.size


def test_the_closed_loop_is_spelled_out_and_only_there() -> None:
    walked = {
        closed: tell(lesson, lesson.walk(), [], LANGUAGES["en"])
        for closed in (False, True)
        for lesson in [Lesson.example(closed_loop=closed)]
    }
    assert "  x_2 = y_1 = [0.5]" in [line.text for line in walked[True]]
    assert shown(walked[True], "δ_4")[0].startswith("  δ_4 = g_4 + W_hhᵀ δ_5 + Cᵀ ∂L/∂x_5 = ")
    assert shown(walked[False], "δ_4")[0].startswith("  δ_4 = g_4 + W_hhᵀ δ_5 = ")
    assert not any("closed" in line.text for line in walked[False])


def test_an_output_before_the_first_step_is_computed_where_it_is_used() -> None:
    lesson = lesson_of("all, some closed")
    lines = tell(lesson, lesson.walk(), [], LANGUAGES["en"], width=10_000)
    texts = next(line.text for line in lines if "x_1[1…2] = y_0 = C h_0 + c = " in line.text).splitlines()
    assert lesson.weight_out is not None
    wanted = lesson.weight_out @ lesson.h0 + lesson.bias_out
    last = [text for text in texts if len(text) == max(map(len, texts))]
    assert [text.split()[-1].strip("⎡⎤⎣⎦") for text in last] == [number(value) for value in wanted]


@pytest.mark.parametrize("width", [60, 80, 100])
def test_formulas_break_at_the_width(width: int) -> None:
    for language in LANGUAGES.values():
        lesson = Lesson.example(closed_loop=True, loss="squared-error")
        lines = tell(lesson, lesson.walk(), [], language, width)
        texts = [text for line in lines if line.kind == "formula" for text in line.text.splitlines()]
        assert max(map(cell_len, texts)) <= width


def test_a_step_too_long_is_said_to_raise_the_loss() -> None:
    for rate, expected in ((0.05, "The loss fell."), (0.1, "The loss rose")):
        lesson = Lesson.example(closed_loop=True, learning_rate=rate)
        walk = lesson.walk()
        assert (walk.updated_loss < walk.loss) == (rate == 0.05)
        assert any(expected in line.text for line in tell(lesson, walk, [], LANGUAGES["en"]))


def test_numbers_are_rounded_as_people_round() -> None:
    assert [number(value) for value in (0.15625, -0.15625, 2.00005, 123456.0, 1234567.0, 1e-4, 9.9996e-5)] == [
        "0.1563",
        "-0.1563",
        "2",
        "123500",
        "1.235e6",
        "0.0001",
        "0.0001",
    ]


MISTAKES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"x": np.zeros((13, 1))}, {}, "13 steps in x; explain shows every number, and at most 12"),
    ({"x": np.zeros((3, 4, 1))}, {}, "x has shape (3, 4, 1), 3 sequences: explain walks through one; keep one"),
    ({"x": np.zeros((4, 5)), "weight_ih": np.zeros((2, 5))}, {}, "5 inputs in x"),
    ({"weight_hh": np.zeros((2, 2), complex)}, {}, "weight_hh is complex128: explain walks through real numbers"),
    ({"weight_hh": np.zeros(2)}, {}, "weight_hh has shape (2,), expected a matrix"),
    ({"weight_ih": np.zeros((3, 1))}, {}, "weight_ih has shape (3, 1)"),
    ({"target": np.zeros((4, 2))}, {}, "target has shape (4, 2), expected (time, outputs) = (4, 1)"),
    ({"grad_final": np.zeros(3)}, {}, "grad_final has shape (3,), expected (2,)"),
    ({"grad_final": np.zeros(2)}, {"loss": "all-states"}, "--loss was given, and problem has grad_final"),
    ({}, {"loss": "squared-error"}, "--loss squared-error needs what the outputs should be: add target to problem"),
    ({}, {"loss": "final"}, "--loss is 'final': did you mean 'final-state'"),
    ({}, {"learning_rate": 0.0}, "--lr is 0.0, expected a number above 0"),
    ({}, {"learning_rate": float("nan")}, "--lr is nan"),
    (
        {"weight_out": None, "bias_out": None},
        {"closed_loop": True},
        "--closed-loop feeds outputs back, and problem has",
    ),
    ({"weight_out": None}, {}, "bias_out was given without weight_out"),
    ({"weight_out": np.zeros((2, 2)), "bias_out": np.zeros(2)}, {"closed_loop": True}, "problem: "),
]


@pytest.mark.parametrize(("change", "options", "message"), MISTAKES)
def test_each_mistake_is_named(change: dict[str, Any], options: dict[str, Any], message: str) -> None:
    arrays = {**arrays_of("final, open"), **change}
    with pytest.raises(InputError, match=re.escape(message)):
        Lesson.of_arrays({name: array for name, array in arrays.items() if array is not None}, "problem", **options)


def test_one_sequence_of_a_batch_is_taken() -> None:
    arrays = arrays_of("given")
    batched = {
        name: array[None] if name in ("x", "h0", "grad_states", "grad_final") else array
        for name, array in arrays.items()
    }
    one, other = (Lesson.of_arrays(held, "problem").walk() for held in (arrays, batched))
    for name, gradient in one.gradients.items():
        np.testing.assert_array_equal(gradient, other.gradients[name])


def test_numbers_that_overflow_are_said_to_and_the_page_is_still_made() -> None:
    lesson = replace(lesson_of("final, open"), weight_hh=1e200 * np.eye(2))
    with np.errstate(all="ignore"):
        walk = lesson.walk()
        lines = tell(lesson, walk, list(lesson.differences(walk)), LANGUAGES["en"])
        page = render(lesson, walk, [], LANGUAGES["en"])
    assert any(line.text == LANGUAGES["en"].overflow for line in lines)
    assert any("do not agree" in line.text for line in lines)
    assert '"walk": null' in page


def test_no_text_is_without_use() -> None:
    sources = "".join(
        path.read_text()
        for path in SOURCES.iterdir()
        if path.suffix in (".py", ".js", ".j2") and path.name != "texts.py"
    )
    # Fields of which the sources name only the beginning, with a kind of loss after it.
    kinds = tuple(f"{what}_{kind}" for what in ("loss", "initialise", "choice")
                  for kind in ("final_state", "all_states", "squared_error", "given"))  # fmt: skip
    for field in fields(Texts):
        assert field.name in kinds or re.search(rf"\b(texts|say)\.{field.name}\b", sources), field.name


def test_both_languages_fill_in_the_same_and_use_the_same_symbols() -> None:
    english, chinese = (asdict(LANGUAGES[language]) for language in ("en", "zh"))
    symbol = r"\{[a-z]+\}|[A-Zδ∂a-z]\w*_(?:\{[^}]*\}|\w+)|Cᵀ|y\*_t"
    for name, text in english.items():
        assert text
        assert chinese[name]
        assert set(re.findall(r"\{[a-z]+\}", text)) == set(re.findall(r"\{[a-z]+\}", chinese[name])), name
        if name != "tag":
            assert re.search(r"[\u4e00-\u9fff]", chinese[name]), name
            # No English word is left, but for keys and the optimizer's lr.
            words = set(re.findall(r"[A-Za-z]{3,}", re.sub(symbol, "", chinese[name])))
            assert words <= {"Home", "End", "Tab"}, (name, words)
