"""The page of a run in a browser: it opens offline, draws all on any screen, and its tools do what they say."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from browser import Browser, wait_until
from report.test_page import HOSTILE, make
from retrograd import Dense
from retrograd.insight import Sweep, analyse
from retrograd.pictures.palette import BLUE, GREEN, VERMILLION
from retrograd.report import write_report

# The figures that can be zoomed, in their order on the page.
FORECAST, PREDICTIONS = 0, 1
# A test that waits for longer has failed.
PATIENCE = 30.0
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
    wait_until(page, "Bokeh.documents.length > 0 && Bokeh.documents.every((document) => document.is_idle)")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    u = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    found = analyse(Sweep.of_scan(Dense(torch.tensor([[0.9, 0.5], [0.0, 0.8]])), u, loss=lambda h: h.square().mean()))
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(path, dataclasses.replace(make(), analysis=found))
    return path


def test_it_opens_on_any_screen_in_either_scheme_and_all_is_drawn(browser: Browser, report: Path) -> None:
    for width, dark in ((390, True), (1100, False), (1100, True)):
        with browser.open(report, width=width, dark=dark, touch=width == 390) as page:
            ready(page)
            assert page.title() == "Sunspots"
            assert page.evaluate("document.documentElement.scrollWidth") == width
            cards = page.locator(".card")
            assert cards.count() == 8
            for card in cards.all():
                box = card.bounding_box()
                assert box["x"] >= 0
                assert box["x"] + box["width"] <= width
            assert page.locator("svg.picture").count() == 7
            for picture in page.locator("svg.picture").all():
                box = picture.bounding_box()
                assert box["width"] > 0.6 * min(width, 960)
                assert box["height"] > 150
            for figure in page.locator(".bk-Figure").all():
                assert figure.bounding_box()["width"] > 0.8 * min(width, 960)
            # Each line of the series is there, in its colour, on a card that stays white.
            for color in (BLUE, VERMILLION, GREEN):
                assert pixels(page, PREDICTIONS, color) > 20, color
            assert pixels(page, FORECAST) > 500
            # What is drawn beside it follows the scheme, as the page does.
            ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
            ink = page.evaluate("getComputedStyle(document.querySelector('.picture text')).fill")
            line = page.evaluate("getComputedStyle(document.querySelector('.picture [style*=\"--blue\"]')).stroke")
            assert ground == ("rgb(22, 22, 22)" if dark else "rgb(251, 251, 249)")
            assert ink == ("rgb(236, 236, 236)" if dark else "rgb(27, 27, 27)")
            assert line == ("rgb(86, 180, 233)" if dark else "rgb(0, 114, 178)")


def reach(page: Any) -> tuple[float, float]:
    found = page.evaluate("(({ x_range }) => [x_range.start, x_range.end])(Bokeh.documents[0].roots()[0].children[0])")
    return found[0], found[1]


def test_the_legend_and_the_tools_do_what_they_say(browser: Browser, report: Path) -> None:
    with browser.open(report) as page:
        ready(page)
        predictions = page.locator(".bk-Figure").nth(PREDICTIONS)
        entry = predictions.locator(".bk-Legend .bk-item", has_text="free run")
        before = pixels(page, PREDICTIONS, VERMILLION)
        assert before > 20
        for expected in (0, before):
            entry.click()
            # The canvas is painted again some time after the click.
            end = time.monotonic() + PATIENCE
            while pixels(page, PREDICTIONS, VERMILLION) != expected:
                assert time.monotonic() < end
                page.wait_for_timeout(20)
            assert pixels(page, PREDICTIONS, BLUE) > 100

        page.evaluate("window.scrollTo(0, 0)")
        wait_until(page, "window.scrollY === 0")
        figure = page.locator(".bk-Figure").nth(FORECAST)
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

        # Resting on a line shows its values.
        place = page.evaluate(
            """(() => {
              const plot = Bokeh.documents[0].roots()[0].children[0], source = plot.renderers[0].data_source.data;
              const { frame } = Bokeh.index.find_one(plot);
              return [frame.x_scale.compute(source.x[5]), frame.y_scale.compute(source.y[5]), source.y[5]];
            })()"""
        )
        box = figure.bounding_box()
        page.mouse.move(box["x"] + place[0], box["y"] + place[1], steps=4)
        page.locator(".bk-Tooltip", has_text=f"{place[2]:.5g}").first.wait_for()


def test_hostile_text_runs_no_script_and_asks_for_nothing(browser: Browser, hostile_page: Path) -> None:
    # That it runs no script of the data and asks for nothing is what the fixture sees to.
    with browser.open(hostile_page, width=390) as page:
        ready(page)
        assert page.title() == HOSTILE
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        assert all(pixels(page, k) > 500 for k in range(2))
