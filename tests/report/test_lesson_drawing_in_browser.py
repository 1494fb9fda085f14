"""The drawing of `retrograd explain` in a browser: it shows the numbers of the formulas beside it, and can be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browser import Browser
from report.lesson_page import Array, drawn, go, go_to, lit, matrices, positions, write
from report.lessons import IN_BROWSER, lesson_of
from retrograd.report.explain import Lesson, Walk
from retrograd.report.explain.blocks import number

UNKNOWN = "·"


def named(lesson: Lesson, walk: Walk) -> dict[str, Array]:
    """Return the numbers of all nodes by their names."""
    found = {"h0": lesson.h0, "dh0": walk.gradients["h0"]}
    for t in range(1, len(lesson.x) + 1):
        found |= {f"h{t}": walk.states[t - 1], f"dh{t}": walk.delta[t - 1]}
        found |= {f"x{t}": walk.inputs[t - 1], f"dx{t}": walk.input_gradient[t - 1]}
        if walk.outputs is not None:
            assert walk.output_total is not None
            found |= {f"y{t}": walk.outputs[t - 1], f"dy{t}": walk.output_total[t]}
    if lesson.feedback[0]:
        assert walk.output_total is not None
        found |= {"y0": walk.inputs[0, : len(walk.output_total[0])], "dy0": walk.output_total[0]}
    return found


def arriving(lesson: Lesson, walk: Walk) -> dict[str, Array]:
    """Return the numbers that arrive where an arrow ends, by the arrows' names, without those that are all 0."""
    squared, found = lesson.loss == "squared-error", {}
    for t in range(len(lesson.x) + 1):
        if t > 0:
            assert not squared or walk.output_gradient is not None
            found[f"start{t}"] = walk.output_gradient[t - 1] if squared else walk.direct[t - 1]
        if walk.output_total is not None and (squared or lesson.feedback[t : t + 1].any()):
            found[f"back{t}"] = walk.output_total[t] @ lesson.weight_out
    return {name: values for name, values in found.items() if values.any()}


@pytest.mark.parametrize("kind", IN_BROWSER)
def test_every_number_is_that_of_its_name(browser: Browser, tmp_path: Path, kind: str) -> None:
    lesson = lesson_of(kind)
    walk = lesson.walk()
    nodes, arrows = named(lesson, walk), arriving(lesson, walk)
    with browser.open(write(tmp_path, lesson)) as page:
        for k, position in enumerate(positions(page)):
            go(page, k)
            shown, texts = matrices(page, "#said"), drawn(page, "node")
            assert set(texts) == {*nodes, "L"}
            for name, values in nodes.items():
                for text, value in zip(texts[name], values, strict=True):
                    assert text in (UNKNOWN, number(value)), (position, name)
            for name, numbers in drawn(page, "carried").items():
                assert numbers == [number(value) for value in arrows[name]], (position, name)
            # What happens now is known, and is what the formulas are made of.
            if position["kind"] not in ("forward", "propagate", "accumulate"):
                continue
            for name in set(lit(page)) & set(nodes):
                column = [[text] for text in texts[name]]
                assert [UNKNOWN] not in column, (position, name)
                # Of an input, a formula may need only what an output took the place of.
                used = [column, [texts[name]], column[: 0 if lesson.weight_out is None else len(lesson.weight_out)]]
                assert any(one in shown for one in used), (position, name)
        # At the end all is known.
        assert drawn(page, "node") == {"L": [], **{name: [number(v) for v in values] for name, values in nodes.items()}}
        assert set(drawn(page, "carried")) == set(arrows)


def test_a_value_is_drawn_only_once_it_is_known(browser: Browser, tmp_path: Path) -> None:
    with browser.open(write(tmp_path, Lesson.example(closed_loop=True, loss="squared-error"))) as page:

        def known() -> set[str]:
            looked = {"h2", "h3", "y2", "x3", "dh3", "dh4", "dy3", "dy4", "dy5", "dx4"}
            return {name for name, texts in drawn(page, "node").items() if UNKNOWN not in texts} & looked

        go_to(page, "forward", 2)
        assert known() == {"h2", "y2"}
        # The error is there, and not yet what comes back through the next input.
        go_to(page, "initialise")
        assert known() == {"h2", "h3", "y2", "x3", "dy5"}
        assert set(drawn(page, "carried")) == {"start1", "start2", "start3", "start4", "start5", "back5"}
        go_to(page, "propagate", 4)
        assert known() == {"h2", "h3", "y2", "x3", "dy5", "dy4", "dh4", "dx4"}


def test_what_happens_is_lit(browser: Browser, tmp_path: Path) -> None:
    """Forward, back through both ways, and where each weight acts."""
    with browser.open(write(tmp_path, lesson_of("squared, closed"))) as page:  # closed at t = 2, 3 and 5
        for (kind, at), wanted in {
            ("forward", 1): {"h0", "x1", "h1", "y1", "right1", "up1", "out1"},
            ("forward", 3): {"h2", "x3", "h3", "y3", "right3", "up3", "out3", "y2", "closed3"},
            ("propagate", 5): {"dh5", "back5", "dx5", "down5"},
            ("propagate", 4): {"dh4", "dh5", "left5", "start4", "dy4", "back4", "dx5", "open5", "dx4", "down4"},
            ("propagate", 3): {"dh3", "dh4", "left4", "back3", "dx3", "down3"},
            ("propagate", 0): {"dh0", "dh1", "left1"},
            ("accumulate", "bias"): {f"dh{t}" for t in range(1, 6)},
            ("accumulate", "weight_hh"): {f"{n}{t}" for t in range(1, 6) for n in ("dh", "right")}
            | {f"h{t}" for t in range(5)},
            ("accumulate", "weight_out"): {f"{n}{t}" for t in range(1, 6) for n in ("h", "dy", "out")},
            ("update", None): {"L", *(f"{n}{t}" for t in range(1, 6) for n in ("right", "up", "out"))},
        }.items():
            go_to(page, kind, at)
            assert set(lit(page)) == wanted, (kind, at)
    # y_0 = C h_0 + c comes in at the first step.
    with browser.open(write(tmp_path, lesson_of("all, some closed"))) as page:  # closed at t = 1 and 3
        go_to(page, "forward", 1)
        assert {"h0", "out0", "y0", "closed1", "x1"} <= set(lit(page))
        go_to(page, "propagate", 0)
        assert set(lit(page)) == {"dh0", "dh1", "left1", "dy0", "back0", "dx1", "open1"}
        go_to(page, "accumulate", "bias_out")
        assert set(lit(page)) == {"dy0", "dy2"}


def test_the_arrows_bear_the_weights_that_act_on_their_way(browser: Browser, tmp_path: Path) -> None:
    with browser.open(write(tmp_path, lesson_of("squared, closed"))) as page:
        names: dict[str, str] = page.evaluate(
            """Object.fromEntries([...document.querySelectorAll("#drawing [data-weight]")].map((one) =>
              [one.dataset.weight, one.textContent]))"""
        )
    wanted = {"right": "Whh", "left": "Whhᵀ", "up": "Wih", "down": "Wihᵀ", "out": "C", "back": "Cᵀ"}
    assert names == {f"{arrow}{t}": name for arrow, name in wanted.items() for t in range(1, 6)}


LAYOUT = """() => {
  const box = (one) => { const { x, y, width, height } = one.getBBox(); return [x, y, x + width, y + height]; };
  const all = (selector) => [...document.querySelectorAll(`#drawing ${selector}`)];
  return {
    nodes: Object.fromEntries(all("[data-node]").map((one) => [one.dataset.node, box(one.querySelector("rect"))])),
    texts: all("[data-node]").map((one) => [one.dataset.node, [...one.querySelectorAll("text")].map(box)]),
    names: [...all("[data-weight]"), ...all("[data-carried] text")].map((one) => [one.textContent, box(one)]),
    arrows: Object.fromEntries(all("path[data-arrow]").map((one) => {
      const length = one.getTotalLength(), count = Math.ceil(length / 3);
      return [one.dataset.arrow, [...Array(count + 1).keys()].map((i) => {
        const { x, y } = one.getPointAtLength(length * i / count);
        return [x, y];
      })];
    })),
    size: [document.getElementById("drawing").width.baseVal.value, document.getElementById("drawing").height.baseVal.value],
  };
}"""  # noqa: E501


def far(point: list[float], box: list[float]) -> float:
    """Return how far a point is from a box, 0 inside it."""
    return float(np.hypot(*(max(low - p, p - high, 0) for p, low, high in zip(point, box[:2], box[2:], strict=True))))


def ends(name: str, squared: bool) -> tuple[str, str]:
    """Return where an arrow comes from and where it goes."""
    kind, t = name.rstrip("0123456789"), int(name.lstrip("abcdefghijklmnopqrstuvwxyz"))
    return {
        "right": (f"h{t - 1}", f"h{t}"),
        "left": (f"dh{t}", f"dh{t - 1}"),
        "up": (f"x{t}", f"h{t}"),
        "down": (f"dh{t}", f"dx{t}"),
        "out": (f"h{t}", f"y{t}"),
        "back": (f"dy{t}", f"dh{t}"),
        "loss": (f"y{t}" if squared else f"h{t}", "L"),
        "start": ("L", f"dy{t}" if squared else f"dh{t}"),
        "closed": (f"y{t - 1}", f"x{t}"),
        "open": (f"dx{t}", f"dy{t - 1}"),
    }[kind]


@pytest.mark.parametrize("kind", IN_BROWSER)
@pytest.mark.parametrize("size", [pytest.param(1.0, marks=pytest.mark.slow), -1e-200])
def test_nothing_is_drawn_over_anything(browser: Browser, tmp_path: Path, kind: str, size: float) -> None:
    """Arrows lead from node to node and pass the others by; names and numbers, however long, stay where they belong."""
    lesson = lesson_of(kind)
    with browser.open(write(tmp_path, lesson)) as page:
        if size != 1:
            page.locator("[data-array=weight_ih] input").first.fill(str(size))
            page.locator("[data-array=h0] input").first.fill("-1.2345e-120")
        go_to(page, "update")
        found: dict[str, Any] = page.evaluate(LAYOUT)
    width, height = found["size"]
    for name, texts in found["texts"]:
        left, top, right, bottom = found["nodes"][name]
        assert left >= 0, name
        assert right <= width, name
        assert bottom <= height, name
        for text in texts:
            assert left + 1 <= text[0], (name, text)
            assert text[2] <= right - 1, (name, text)
            assert top <= text[1], (name, text)
            assert text[3] <= bottom, (name, text)
    for arrow, points in found["arrows"].items():
        for point, name in zip((points[0], points[-1]), ends(arrow, lesson.loss == "squared-error"), strict=True):
            assert far(point, found["nodes"][name]) <= 4, (arrow, name)
        for name, box in found["nodes"].items():
            assert all(far(point, box) > 0 for point in points), (arrow, name)
            assert all(0 <= x <= width and 0 <= y <= height for x, y in points), arrow
    for text, (left, top, right, bottom) in found["names"]:
        for name, box in found["nodes"].items():
            apart = right <= box[0] or box[2] <= left or bottom <= box[1] or box[3] <= top
            assert apart, (text, name)


def test_both_ways_of_a_closed_loop_can_be_seen(browser: Browser, tmp_path: Path) -> None:
    """The way on and the way back do not lie on each other."""
    with browser.open(write(tmp_path, Lesson.example(closed_loop=True))) as page:
        arrows = page.evaluate(LAYOUT)["arrows"]
    on, back = np.array(arrows["closed3"]), np.array(arrows["open3"])
    near = np.hypot(*np.moveaxis(on[:, None] - back[None], -1, 0)).min(1) < 6
    assert near.mean() < 0.05


def test_no_closed_loop_is_explained_where_there_is_none(browser: Browser, tmp_path: Path) -> None:
    with browser.open(write(tmp_path, Lesson.example())) as page:
        assert page.locator("#legend-closed").is_hidden()
        page.locator("#closed-loop").check()
        assert page.locator("#legend-closed").is_visible()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["the largest", "squared, closed", "all, some closed", "no output"])
def test_what_is_lit_is_in_sight_on_a_phone(browser: Browser, tmp_path: Path, kind: str) -> None:
    with browser.open(write(tmp_path, lesson_of(kind)), width=360, height=740, touch=True) as page:
        box = page.locator("#scene .scroll").bounding_box()
        for k, position in enumerate(positions(page)):
            if position["kind"] not in ("forward", "propagate"):
                continue
            go(page, k)
            for name in lit(page):
                if name not in drawn(page, "node"):
                    continue
                node = page.locator(f"[data-node={name}] rect").bounding_box()
                assert box["x"] <= node["x"], (position, name)
                assert node["x"] + node["width"] <= box["x"] + box["width"], (position, name)
