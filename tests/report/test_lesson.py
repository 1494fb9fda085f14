"""The lesson: its numbers against autograd through a plain loop, its text against its numbers, its words complete."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len

from report.lessons import KINDS, arrays_of, by_autograd, lesson_of
from retrograd import report
from retrograd.errors import InputError
from retrograd.report.explain import LANGUAGES, LOSSES, Lesson, Walk, render, tell
from retrograd.report.explain.blocks import DIGITS, matrix, number
from retrograd.report.explain.tables import Line, verdict

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
    if walk.output_total is not None:
        close(walk.output_total, want["outputs"])
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
    assert all(one.checked and one.agrees for one in found)
    # Each is good to far less than what it checks.
    assert max(one.allowed for one in found) < 1e-5 * max(abs(one.gradient) for one in found)
    unused = sum(lesson.is_fed(*index) for index in np.ndindex(*lesson.x.shape))
    assert len(found) == sum(array.size for array in lesson.arrays().values()) - unused
    walk.gradients["weight_hh"][0, 0] += 1e-4 * max(1.0, abs(walk.gradients["weight_hh"][0, 0]))
    again = list(lesson.differences(walk))
    assert [(one.name, one.index) for one in again if not one.agrees] == [("weight_hh", (0, 0))]
    assert all(one.checked for one in again)
    said = verdict(again, LANGUAGES["en"])
    assert said.startswith(f"{len(found) - 1} of {len(found)} entries agree; ")
    assert f" 1 of {len(found)} entries differ by more than a finite difference's own error: by up to " in said


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
    assert [one for one in found if one.checked and not one.agrees] == []
    # Of numbers this small, some are beyond a finite difference; of others none is.
    if size == 1e10:
        assert all(one.checked for one in found)


def test_an_exploding_gradient_is_not_said_to_be_checked() -> None:
    """Rounding of an L of 1e11 leaves nothing of a gradient of 1: agreeing with it would mean nothing."""
    arrays = {"x": np.ones((12, 1)), "weight_hh": np.array([[10.0]]), "weight_ih": np.ones((1, 1))}
    lesson = Lesson.of_arrays(arrays, "problem")
    found = list(lesson.differences(lesson.walk()))
    last = next(one for one in found if (one.name, one.index) == ("x", (11, 0)))
    assert last.gradient == 1.0
    assert last.agrees  # within an error that is many times the number
    assert not last.checked
    unsure = sum(not one.checked for one in found)
    assert 0 < unsure < len(found)
    assert not any(one.checked and not one.agrees for one in found)
    said = verdict(found, LANGUAGES["en"])
    assert said.startswith(f"{len(found) - unsure} of {len(found)} entries agree; ")
    assert f"{unsure} of {len(found)} entries cannot be checked" in said
    assert [line.text.split()[-2:] for line in tell(lesson, lesson.walk(), [last], LANGUAGES["en"])
            if line.text.startswith("  x[12,1]")] == [["cannot", "tell"]]  # fmt: skip


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
        if lesson.loss != "squared-error" or not lesson.feedback[k + 1 : k + 2].any():  # else the error waits at y_t
            ends_in(lines, f"g_{k + 1}", walk.direct[k])
        if lesson.loss == "squared-error":
            assert walk.output_gradient is not None
            ends_in(lines, f"e_{k + 1}", walk.output_gradient[k])
        if lesson.feedback[k]:
            assert walk.output_total is not None
            ends_in(lines, f"∂L/∂y_{k}", walk.output_total[k])
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
    assert "  x_2 = y_1 = [0.6]" in [line.text for line in walked[True]]
    assert shown(walked[True], "δ_4")[0].startswith("  δ_4 = g_4 + W_hhᵀ δ_5 + Cᵀ ∂L/∂y_4 = ")
    assert shown(walked[False], "δ_4")[0].startswith("  δ_4 = g_4 + W_hhᵀ δ_5 = ")
    assert not any("closed" in line.text for line in walked[False])


def test_a_symbol_has_one_value() -> None:
    """∂L/∂y_t is the whole gradient of an output that becomes an input; its direct part is e_t."""
    lesson = Lesson.example(closed_loop=True, loss="squared-error")
    walk = lesson.walk()
    assert walk.output_gradient is not None
    assert walk.output_total is not None
    lines = tell(lesson, walk, [], LANGUAGES["en"], width=10_000)
    said = [text for line in lines for text in line.text.splitlines()]
    direct, back = number(walk.output_gradient[2, 0]), number(walk.input_gradient[3, 0])
    whole = number(walk.output_total[3, 0])
    assert f"  ∂L/∂y_3 = e_3 + ∂L/∂x_4 = [{direct}] + [{back}] = [{whole}]" in said
    # The error waits at y_3 for what comes back there: only then it goes on to h_3.
    assert not any(text.startswith("  g_3 = ") for text in said)
    assert shown(lines, "g_5")[0].startswith("  g_5 = Cᵀ e_5 = ")
    assert shown(lines, "δ_3")[0].startswith("  δ_3 = W_hhᵀ δ_4 + Cᵀ ∂L/∂y_3 = ")
    # ∂L/∂C is made of the same.
    assert shown(lines, "∂L/∂C")[0].startswith("  ∂L/∂C = Σ_t ∂L/∂y_t h_tᵀ = ")
    assert f"[{whole}] {matrix(walk.states[2][None]).lines[0]}" in shown(lines, "∂L/∂C")[0]
    names = [text.split(" = ")[0] for text in said if text.startswith("  ∂L/∂y_")]
    assert sorted(names) == sorted(set(names))


def test_a_sum_of_one_term_is_not_written_twice() -> None:
    lesson = lesson_of("one of each")
    lines = tell(lesson, lesson.walk(), [], LANGUAGES["en"])
    assert f"  L = Σ_i h_1,i = {number(lesson.walk().loss)}" in [line.text for line in lines]
    assert "  ∂L/∂b = Σ_t δ_t = [1]" in [line.text for line in lines]


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
        lesson = Lesson.example(loss="squared-error", closed_loop=True, learning_rate=rate)
        walk = lesson.walk()
        assert (walk.updated_loss < walk.loss) == (rate == 0.05)
        assert any(expected in line.text for line in tell(lesson, walk, [], LANGUAGES["en"]))


COMBINATIONS = [(loss, closed) for loss in LOSSES for closed in (False, True)]


def shown_numbers(lesson: Lesson, walk: Walk) -> Iterator[float]:
    """Every number that the terminal or the page shows of a lesson, but those of the check."""
    for name, found in asdict(walk).items():
        if name != "parts":
            for array in found.values() if isinstance(found, dict) else [found]:
                yield from np.ravel(array).tolist()
    by_lag, gradient = walk.lags.sum(0), walk.gradients["weight_hh"]
    yield from np.linalg.norm(walk.delta, axis=1).tolist()
    yield from np.linalg.norm(walk.lags, axis=(2, 3)).ravel().tolist()
    yield from np.linalg.norm(by_lag, axis=(1, 2)).tolist()
    yield from ((by_lag * gradient).sum((1, 2)) / (gradient**2).sum()).tolist()


def from_a_tie(value: float) -> float:
    """How far a number is from where rounding to the digits shown goes either way, relative to it."""
    if value == 0:
        return 1.0
    scaled = abs(value) / 10.0 ** (np.floor(np.log10(abs(value))) - DIGITS + 1)
    return float(abs(scaled % 1 - 0.5) / scaled)


@pytest.mark.parametrize(("loss", "closed"), COMBINATIONS)
@pytest.mark.parametrize("rate", [0.05, 0.1])
def test_no_number_of_the_example_can_be_rounded_either_way(loss: str, closed: bool, rate: float) -> None:
    """Else the last digit that is shown would hang on the order of additions, and the page's may be another."""
    lesson = Lesson.example(loss=loss, closed_loop=closed, learning_rate=rate)
    walk = lesson.walk()
    assert min(map(from_a_tie, shown_numbers(lesson, walk))) > 1e-9
    for one in lesson.differences(walk):
        assert one.gradient == one.difference or from_a_tie(one.gradient) * abs(one.gradient) > one.allowed


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
    ({"x": np.zeros(4)}, {}, "x has shape (4,), expected a matrix that is not empty: one feature a step is x[:, None]"),
    ({"target": np.zeros((4, 2))}, {}, "target has shape (4, 2), expected (time, outputs) = (4, 1)"),
    (
        {"target": np.zeros((4, 1)), "weight_out": None, "bias_out": None},
        {},
        "target was given without weight_out: there is no output to compare with it",
    ),
    (
        {"target": np.zeros((4, 1)), "grad_final": np.zeros(2)},
        {},
        "problem has target and grad_final: the gradient has one start; keep one of them",
    ),
    ({"grad_final": np.zeros(3)}, {}, "grad_final has shape (3,), expected (2,)"),
    ({"grad_final": np.zeros(2)}, {"loss": "all-states"}, "loss is given, and problem has grad_final"),
    ({}, {"loss": "squared-error"}, "loss='squared-error' needs what the outputs should be: add target to problem"),
    ({}, {"loss": "final"}, "loss is 'final': did you mean 'final-state'"),
    ({}, {"learning_rate": 0.0}, "learning_rate is 0.0, expected a finite number above 0"),
    ({}, {"learning_rate": float("nan")}, "learning_rate is nan"),
    (
        {"weight_out": None, "bias_out": None},
        {"closed_loop": True},
        "closed_loop=True feeds outputs back, and problem has",
    ),
    ({"weight_out": None}, {}, "bias_out was given without weight_out"),
    ({"weight_out": np.zeros((2, 2)), "bias_out": np.zeros(2)}, {"closed_loop": True}, "problem: "),
]


@pytest.mark.parametrize(("change", "options", "message"), MISTAKES)
def test_each_mistake_is_named(change: dict[str, Any], options: dict[str, Any], message: str) -> None:
    arrays = {**arrays_of("final, open"), **change}
    with pytest.raises(InputError, match=re.escape(message)):
        Lesson.of_arrays({name: array for name, array in arrays.items() if array is not None}, "problem", **options)


def test_a_target_asks_for_the_squared_error() -> None:
    arrays = {**arrays_of("final, open"), "target": np.zeros((4, 1))}
    assert Lesson.of_arrays(arrays, "problem").loss == "squared-error"
    assert Lesson.of_arrays(arrays, "problem", loss="final-state").loss == "final-state"


def test_one_sequence_of_a_batch_is_taken() -> None:
    arrays = arrays_of("given")
    batched = {
        name: array[None] if name in ("x", "h0", "grad_states", "grad_final") else array
        for name, array in arrays.items()
    }
    one, other = (Lesson.of_arrays(held, "problem").walk() for held in (arrays, batched))
    for name, gradient in one.gradients.items():
        np.testing.assert_array_equal(gradient, other.gradients[name])


def test_numbers_that_overflow_are_said_to_and_nothing_false_is_said_of_them() -> None:
    lesson = replace(lesson_of("final, open"), weight_hh=1e200 * np.eye(2))
    texts = LANGUAGES["en"]
    walk = lesson.walk()
    found = list(lesson.differences(walk))
    said = [line.text for line in tell(lesson, walk, found, texts)]
    assert texts.overflow in said
    assert texts.lags_broken in said
    assert f"L before: {walk.loss}. L after: {walk.updated_loss}." in said  # and no word of rising or falling
    assert not any(one.checked and not one.agrees for one in found)
    assert any("cannot be checked" in text for text in said)
    assert '"walk": null' in render(lesson, walk, [], texts)


def test_a_step_beyond_all_numbers_is_said_to_be_too_long() -> None:
    lesson = Lesson.example(learning_rate=1e80)
    walk = lesson.walk()
    assert np.isfinite(walk.loss)
    said = next(line.text for line in tell(lesson, walk, [], LANGUAGES["en"]) if line.text.startswith("L before"))
    assert said.endswith(LANGUAGES["en"].update_broken)
    assert "rose" not in said


def test_a_lag_that_is_zero_for_its_start_is_told_from_one_that_vanished() -> None:
    arrays = arrays_of("final, open")
    for h0, expected in ((np.zeros(2), True), (np.ones(2), False)):
        lesson = Lesson.of_arrays({**arrays, "h0": h0}, "problem")
        lines = tell(lesson, lesson.walk(), [], LANGUAGES["en"])
        assert any("Lag 3 is 0 because h_0 is 0" in line.text for line in lines) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_an_input_that_was_replaced_is_neither_listed_nor_checked(kind: str) -> None:
    lesson = lesson_of(kind)
    walk, texts = lesson.walk(), LANGUAGES["en"]
    lines = tell(lesson, walk, list(lesson.differences(walk)), texts, width=10_000)
    assert (texts.x_replaced in [line.text for line in lines]) == bool(lesson.feedback.any())
    given = "\n".join(shown(lines, "h_0"))
    used = [k for k, x in enumerate(lesson.x) if not all(lesson.is_fed(k, i) for i in range(len(x)))]
    assert re.findall(r"x_(\d+) =", given) == [str(k + 1) for k in used]
    partly = any(lesson.is_fed(k, i) for k in used for i in range(lesson.x.shape[1]))
    assert ("–" in given) == partly
