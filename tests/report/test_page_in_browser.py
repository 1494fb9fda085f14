"""The report of a fit in a browser: it opens offline, draws all on any screen, and its tools do what they say."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browser import Browser, wait_until
from report.test_page import HOSTILE, make
from retrograd.pictures.palette import BLUE, GREEN, VERMILLION
from retrograd.report import write_report

# A test that waits for longer has failed.
PATIENCE = 30.0
HEADINGS = [
    "Prediction against truth",
    "Training",
    "How the gradient flows back through time",
    "What the gradient passes through",
    "Where the gradient of W_hh comes from",
    "What truncation would lose",
    "Eigenvalues of the transition",
]
# Training has two, and so have what the gradient passes through, where it comes from, and truncation.
FIGURES = len(HEADINGS) + 4
# How many pixels of a figure's canvases have about a colour, red, green and blue (a thin line has it mixed with white);
# without a colour, how many are not white.
PIXELS = """([figure, color]) => {
  const within = (node) => [...node.children].flatMap((child) =>
    [child, ...within(child), ...(child.shadowRoot ? within(child.shadowRoot) : [])]);
  const plot = within(document.body).filter((node) => node.classList.contains("bk-Figure"))[figure];
  const canvases = within(plot.shadowRoot).filter((node) => node.matches("canvas.bk-layer:not(.bk-glyph)"));
  let count = 0;
  for (const canvas of canvases) {
    if (!canvas.width || !canvas.height) continue;
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    for (let k = 0; k < data.length; k += 4) {
      if (data[k + 3] < 200) continue;
      if (color === null ? data[k] + data[k + 1] + data[k + 2] < 740
                         : color.every((part, at) => Math.abs(part - data[k + at]) < 45)) count += 1;
    }
  }
  return count;
}"""


def pixels(page: Any, figure: int, color: str | None = None) -> int:
    found: int = page.evaluate(PIXELS, [figure, None if color is None else list(bytes.fromhex(color[1:]))])
    return found


def ready(page: Any) -> None:
    """Wait until Bokeh has drawn everything."""
    wait_until(page, "Bokeh.documents.length > 0 && Bokeh.documents[0].is_idle")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a short fit, by the command itself."""
    folder = tmp_path_factory.mktemp("fit")
    command = [sys.executable, "-m", "retrograd", "fit", "sunspots", "--target", "sunspots", "--time", "year"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "--epochs", "50", "--out", "run"], cwd=folder, env=environment, check=True)
    return folder / "run" / "report.html"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1100])
def test_it_opens_and_every_figure_is_drawn(browser: Browser, report: Path, width: int, dark: bool) -> None:
    with browser.open(report, width=width, dark=dark, touch=width == 390) as page:
        ready(page)
        assert page.title() == "sunspots"
        assert page.evaluate("document.documentElement.scrollWidth") == width
        headings = page.locator("figure h2, section > h2").all_inner_texts()
        assert headings == [*HEADINGS, "What was run"]
        cards = page.locator(".card")
        assert cards.count() == len(HEADINGS)
        for k in range(len(HEADINGS)):
            box = cards.nth(k).bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
        figures = page.locator(".bk-Figure")
        assert figures.count() == FIGURES
        for k in range(FIGURES):
            assert figures.nth(k).bounding_box()["width"] > 0.8 * min(width, 960)
            assert pixels(page, k) > 500, k
        # Each line of the first figure is there, in its colour.
        for color in (BLUE, VERMILLION, GREEN):
            assert pixels(page, 0, color) > 20, color
        assert pixels(page, 2, VERMILLION) > 100
        # The card stays white in both schemes; the text around it does not.
        assert (
            page.evaluate("getComputedStyle(document.querySelector('.card')).backgroundColor") == "rgb(255, 255, 255)"
        )
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert paper == ("rgb(22, 22, 22)" if dark else "rgb(251, 251, 249)")


def test_a_click_in_the_legend_hides_a_line_and_another_shows_it(browser: Browser, report: Path) -> None:
    with browser.open(report) as page:
        ready(page)
        entry = page.locator(".bk-Figure").first.locator(".bk-Legend .bk-item", has_text="free run")
        before = pixels(page, 0, VERMILLION)
        assert before > 20
        for expected in (0, before):
            entry.click()
            # The canvas is painted again some time after the click.
            end = time.monotonic() + PATIENCE
            while pixels(page, 0, VERMILLION) != expected:
                assert time.monotonic() < end
                page.wait_for_timeout(20)
            assert pixels(page, 0, BLUE) > 100


def reach(page: Any) -> tuple[float, float]:
    found = page.evaluate("(() => { const r = Bokeh.documents[0].roots()[0].x_range; return [r.start, r.end]; })()")
    return found[0], found[1]


def test_the_tools_zoom_pan_and_reset(browser: Browser, report: Path) -> None:
    with browser.open(report) as page:
        ready(page)
        figure = page.locator(".bk-Figure").first
        whole = reach(page)
        frame = figure.locator(".bk-CartesianFrame").bounding_box()
        tools = figure.locator(".bk-Toolbar")

        def drag(start: float, end: float) -> None:
            y = frame["y"] + frame["height"] / 4
            page.mouse.move(frame["x"] + start * frame["width"], y)
            page.mouse.down()
            page.mouse.move(frame["x"] + end * frame["width"], y + frame["height"] / 2, steps=8)
            page.mouse.up()
            ready(page)

        # None is on at first: who drags or scrolls over a figure moves the page.
        drag(0.25, 0.5)
        assert reach(page) == whole
        page.mouse.wheel(0, 200)
        wait_until(page, "window.scrollY > 0")
        assert reach(page) == whole
        page.evaluate("window.scrollTo(0, 0)")
        wait_until(page, "window.scrollY === 0")

        tools.locator("[title='Box Zoom']").click()
        drag(0.25, 0.5)
        pixel = (whole[1] - whole[0]) / frame["width"]
        zoomed = reach(page)
        np.testing.assert_allclose(
            zoomed, [whole[0] + part * (whole[1] - whole[0]) for part in (0.25, 0.5)], atol=2 * pixel
        )
        tools.locator("[title='Pan']").click()
        drag(0.5, 0.25)
        quarter = (zoomed[1] - zoomed[0]) / 4
        np.testing.assert_allclose(reach(page), [zoomed[0] + quarter, zoomed[1] + quarter], atol=2 * pixel)
        tools.locator("[title='Reset']").click()
        ready(page)
        assert reach(page) == whole


def test_resting_on_a_line_shows_its_values(browser: Browser, report: Path) -> None:
    with browser.open(report) as page:
        ready(page)
        frame = page.locator(".bk-Figure").last.locator(".bk-CartesianFrame")
        frame.scroll_into_view_if_needed()
        place = page.evaluate(
            """(() => {
              const plot = Bokeh.documents[0].roots().at(-1), source = plot.renderers[1].data_source.data;
              const view = Bokeh.index.get_one(plot).frame;
              return [view.x_scale.compute(source.re[0]), view.y_scale.compute(source.im[0]), source.size[0]];
            })()"""
        )
        box = page.locator(".bk-Figure").last.bounding_box()
        page.mouse.move(box["x"] + place[0], box["y"] + place[1], steps=4)
        tip = page.locator(".bk-Tooltip", has_text=f"{place[2]:.5g}")
        tip.first.wait_for()


def test_hostile_text_and_many_targets_of_a_long_dated_series(browser: Browser, tmp_path: Path) -> None:
    from dataclasses import replace

    report = replace(make(3_000, 3, test=400, dated=True), title=HOSTILE, target_names=[HOSTILE, "$$x$$", "<b>y</b>"])
    write_report(tmp_path / "report.html", report)
    # That it runs no script of the data and asks for nothing is what the fixture sees to.
    with browser.open(tmp_path / "report.html", width=390) as page:
        ready(page)
        assert page.title() == HOSTILE
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        count = page.locator(".bk-Figure").count()
        assert count == 3 * 3 + 2 + 2
        assert all(pixels(page, k) > 500 for k in range(count))
