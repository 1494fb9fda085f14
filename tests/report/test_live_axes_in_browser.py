"""The live view's axes: dates on any scale, and marks that stay whole where a picture ends."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pytest

from browser import Browser, wait_until
from report.live_training import training
from retrograd.report.live import LiveView, Pictures

DRAWN = "document.getElementById('shown').textContent.startsWith('Pictures')"
DAY = 86_400_000.0
START = 1_704_103_200_000.0  # 2024-01-01 10:00, in milliseconds


def labels(page: Any, figure: str) -> list[str]:
    """What stands below the horizontal axis: the ticks, then what it counts."""
    found: list[str] = page.locator(f"#{figure}-figure > text[text-anchor='middle']").all_text_contents()
    return found[:-1]


@pytest.fixture(scope="module")
def page_of_a_view(browser: Browser) -> Any:
    run = training()
    with LiveView(run.pictures, epochs=9, title="wave") as view, browser.open(view.url) as page:
        yield page


# From a tenth of a millisecond to thousands of years.
@pytest.mark.parametrize("span", [0.1 * 1.7**power for power in range(53)])
@pytest.mark.parametrize("most", [2, 4, 9])
def test_every_span_of_time_has_ticks_that_differ_and_fit(page_of_a_view: Any, span: float, most: int) -> None:
    for low in (START, START + 0.437 * span, START - 0.8 * span):
        ticks = page_of_a_view.evaluate(f"dateTicks({low}, {low + span}, {most})")
        at = [tick["at"] for tick in ticks]
        assert 2 <= len(at) <= most + 1
        assert low <= at[0]
        assert at[-1] <= low + span
        texts = [tick["text"] for tick in ticks]
        # The same time of day, with a midnight and its date between.
        assert len(set(texts)) == len(texts) or (at[1] - at[0] < DAY < span), texts
        gaps = np.diff(at)
        assert gaps.max() <= 1.2 * gaps.min()  # months are not of one length
        if len(at) > 3:
            assert gaps.min() >= 0.97 * span / most


@pytest.mark.parametrize(
    ("low", "span", "most", "texts"),
    [
        (START, 0.9, 9, [f"00:00.000{k}" for k in range(9)]),
        (START, 10.0, 5, ["10:00:00.000", "10:00:00.002", "10:00:00.004", "10:00:00.006", "10:00:00.008",
                          "10:00:00.010"]),
        (START + 59_900, 200.0, 2, ["10:00:59.9", "10:01:00.0", "10:01:00.1"]),
        (START, 7_000.0, 4, ["10:00:00", "10:00:02", "10:00:04", "10:00:06"]),
        (START, 3_600_000.0, 4, ["10:00", "10:15", "10:30", "10:45", "11:00"]),
        (START, DAY, 4, ["12:00", "18:00", "2024-01-02", "06:00"]),
        (START, 14 * DAY, 4, ["2024-01-02", "2024-01-06", "2024-01-10", "2024-01-14"]),
        # Weeks begin on Mondays.
        (START, 40 * DAY, 4, ["2024-01-08", "2024-01-22", "2024-02-05"]),
        (START, 400 * DAY, 9, ["2024-03", "2024-05", "2024-07", "2024-09", "2024-11", "2025-01"]),
        (START - 200 * 365 * DAY, 300 * 365 * DAY, 4, ["1900", "2000", "2100"]),
        (-62_000_000_000_000.0, 4_000_000_000_000.0, 4, ["0050", "0100"]),
    ],
)  # fmt: skip
def test_ticks_of_dates(page_of_a_view: Any, low: float, span: float, most: int, texts: list[str]) -> None:
    found = page_of_a_view.evaluate(f"dateTicks({low}, {low + span}, {most})")
    assert [tick["text"] for tick in found] == texts


@pytest.mark.parametrize("width", [390, 1100])
@pytest.mark.parametrize(
    ("apart", "ticks", "unit"),
    [
        (np.timedelta64(1, "ms"), r"00:00:00\.\d\d+", "day, 2024-01-01"),
        (np.timedelta64(1, "s"), r"00:\d\d:\d\d|00:\d\d", "day, 2024-01-01"),
        (np.timedelta64(1, "h"), r"2024-01-0\d", "day"),
        (np.timedelta64(1, "D"), r"2024-\d\d(-\d\d)?", "day"),
        (np.timedelta64(365, "D"), r"\d{4}", "day"),
    ],
)
def test_a_dated_axis_says_when(browser: Browser, width: int, apart: Any, ticks: str, unit: str) -> None:
    run = training(119, dated=True, apart=apart)
    with LiveView(run.pictures, epochs=9, title="wave") as view, browser.open(view.url, width=width) as page:
        view.observe(run.trainer)
        wait_until(page, DRAWN)
        for figure in ("prediction", "flow"):
            *found, label = labels(page, figure)
            dated = [text for text in found if text != "2024-01-01"]
            assert len(found) >= 2
            assert all(re.fullmatch(ticks, text) for text in dated), found
            assert label == (unit if len(dated) == len(found) else "day")
            boxes = [
                text.bounding_box()
                for text in page.locator(f"#{figure}-figure > text[text-anchor='middle']").all()[: len(found)]
            ]
            for left, right in itertools.pairwise(boxes):
                assert left["x"] + left["width"] < right["x"]
            assert boxes[-1]["x"] + boxes[-1]["width"] <= width


@pytest.mark.parametrize("closed_loop", [None, 7])
def test_a_loss_says_what_it_is_of(browser: Browser, closed_loop: int | None) -> None:
    run = training(closed_loop=closed_loop)
    run.trainer.step()
    with LiveView(run.pictures, epochs=9, title="wave") as view, browser.open(view.url) as page:
        view.observe(run.trainer)
        wait_until(page, DRAWN)
        loss, flow = (page.inner_text(f"#{figure}-reading") for figure in ("loss", "flow"))
        of = "free runs of 7 steps, all along the training part" if closed_loop else "predictions one step ahead"
        assert loss.startswith(f"Of {of}: ")
        assert ("L is the loss of the free runs" in flow) is bool(closed_loop)


def test_marks_at_the_edges_are_whole(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    computed = Pictures.of

    def spoilt(self: Pictures, snapshot: Any) -> dict[str, Any]:
        found = computed(self, snapshot)
        at = found["flow"]["at"]
        found["flow"]["zero"] = {"count": 2, "at": [at[0], at[-1] + 3]}  # also where the line does not reach
        found["flow"]["broken"] = {"count": 2, "at": [at[0], at[-1]]}
        return found

    monkeypatch.setattr(Pictures, "of", spoilt)
    run = training()
    with LiveView(run.pictures, epochs=9, title="wave") as view, browser.open(view.url) as page:
        view.observe(run.trainer)
        wait_until(page, DRAWN)
        frame = page.locator("#flow-figure rect.border").bounding_box()
        picture = page.locator("#flow-figure").bounding_box()
        for style, half in (("nought", 4), ("solid", 5)):
            mark = page.locator(f"#flow-figure path.{style}")
            assert mark.evaluate("mark => mark.closest('[clip-path]')") is None
            box = mark.bounding_box()
            assert box["x"] <= frame["x"] - half + 1
            assert picture["x"] < box["x"]
            assert box["x"] + box["width"] < picture["x"] + picture["width"]
        cross = page.locator("#flow-figure path.nought").bounding_box()
        assert cross["x"] + cross["width"] >= frame["x"] + frame["width"] + 3
