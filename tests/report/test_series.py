"""Panels of series have every number or say what they leave out; Bokeh draws them as they are."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import json
import re
from typing import Any

import numpy as np

from report.test_page import HOSTILE, compared, make
from retrograd.pictures.palette import BLACK, GREEN
from retrograd.report import comparison
from retrograd.report.content import Section
from retrograd.report.run import predictions
from retrograd.report.series import CLOSE_UP, MOST_PANELS, MOST_POINTS_A_LINE, Curve, Panel
from retrograd.report.zoomed import draw, item


def curves(panel: Panel) -> dict[str, Curve]:
    return {curve.name: curve for curve in panel.curves}


def captions(section: Section) -> list[str]:
    return [panel.caption for panel in section.panels]


def test_every_series_is_there_and_the_held_out_end_shaded() -> None:
    report = make()
    (panel,) = predictions(report).panels
    assert list(curves(panel)) == ["one step ahead", "observed", "free run", "forecast"]
    np.testing.assert_array_equal(curves(panel)["observed"].y, report.observed[:, 0])
    assert panel.shade == (1800.0, 1819.0)
    assert panel.caption == ""
    (alone,) = predictions(make(test=0)).panels
    assert alone.shade is None
    assert "free run" not in curves(alone)


def test_one_panel_a_target_with_its_name() -> None:
    assert captions(predictions(make(targets=3))) == ["target 0", "target 1", "target 2"]
    many = predictions(make(targets=MOST_PANELS + 2))
    assert len(many.panels) == MOST_PANELS
    assert f"The first {MOST_PANELS} of {MOST_PANELS + 2} targets" in many.reading


def test_a_long_series_is_thinned_says_so_and_has_close_ups() -> None:
    section = predictions(make(20_000, test=4_000, dated=True))
    assert captions(section) == [
        "target 0",
        "target 0, close up where the held-out end begins",
        "target 0, close up of the forecast",
    ]
    whole, close, last = (curves(panel)["observed"] for panel in section.panels)
    assert len(whole.y) <= MOST_POINTS_A_LINE + 2
    assert len(close.y) == CLOSE_UP + CLOSE_UP // 3
    assert len(last.y) == CLOSE_UP // 3
    assert ["forecast" in curves(panel) for panel in section.panels] == [True, False, True]
    assert "Of 20,000 steps, the smallest and largest of every few are drawn." in section.reading
    assert len(predictions(make(20_000, test=4_000, horizon=0)).panels) == 2


def test_dates_stand_where_they_belong() -> None:
    (panel,) = predictions(make(dated=True)).panels
    x = curves(panel)["observed"].x
    assert panel.dated
    assert x[0] == np.datetime64("2016-07-01T00", "ms").astype(float)
    assert x[1] - x[0] == 3_600_000


def test_missing_values_break_the_line_and_infinite_ones_are_reported() -> None:
    report = make()
    report.observed[10:15] = np.nan
    report.one_step[30] = np.inf
    section = predictions(report)
    (panel,) = section.panels
    assert np.flatnonzero(np.isnan(curves(panel)["observed"].y)).tolist() == [10, 11, 12, 13, 14]
    assert np.isnan(curves(panel)["one step ahead"].y[30])
    assert "1 infinite values of “one step ahead” are left out." in section.reading


def test_a_free_run_that_explodes_does_not_flatten_the_rest() -> None:
    report = make()
    report.free_run[-1] = 1e12
    section = predictions(report)
    (panel,) = section.panels
    assert panel.limits is not None
    assert panel.limits[1] < 300
    assert draw(panel).y_range.end == panel.limits[1]
    assert "leaves the picture" in section.reading


def test_a_value_without_a_neighbour_is_a_dot() -> None:
    (panel,) = predictions(make(1, test=0, horizon=1)).panels
    assert curves(panel)["observed"].dots.tolist() == curves(panel)["forecast"].dots.tolist() == [0]
    figure = draw(panel)
    assert {entry.label.value: len(entry.renderers) for entry in figure.legend[0].items}["observed"] == 2


def test_a_comparison_has_every_model_beside_what_was_measured() -> None:
    report = compared()
    free, ahead = comparison.content(report).sections
    assert [free.heading, ahead.heading] == ["Free run", "4 steps ahead"]
    alone, both = free.panels
    assert list(curves(alone)) == [HOSTILE, "measured"]
    assert list(curves(both)) == [HOSTILE, "second", "measured"]
    np.testing.assert_array_equal(curves(both)["second"].y, report.free_runs[1][:, 1])
    np.testing.assert_array_equal(curves(both)["measured"].y, report.observed[:, 1])
    np.testing.assert_array_equal(curves(ahead.panels[0])[HOSTILE].y, report.ahead[0][:, 0])
    assert curves(both)["measured"].color == BLACK
    assert BLACK not in (curves(both)[HOSTILE].color, curves(both)["second"].color)


# --- drawn by Bokeh ---


def test_numbers_reach_the_page_as_they_are_and_the_same_each_time() -> None:
    report = make(targets=2)
    found = item(predictions(report).panels, "zoomed-0")
    text = json.dumps(found)
    arrays = [gzip.decompress(base64.b64decode(part)) for part in re.findall(r"H4sI[A-Za-z0-9+/=]+", text)]
    assert report.observed[:, 0].tobytes() in arrays
    assert found["target_id"] == "zoomed-0"
    assert text == json.dumps(item(predictions(report).panels, "zoomed-0"))
    ids = re.findall(r'"id": "([^"]*)"', text)
    assert all(name.startswith("zoomed-0-") for name in ids)


def test_text_of_the_data_is_plain_text() -> None:
    """Bokeh would typeset a bare string with $$ from the network."""
    report = dataclasses.replace(make(targets=2), target_names=[HOSTILE] * 2, time_label=HOSTILE)
    found = item(predictions(report).panels, "zoomed-0")

    def walk(value: Any, inside: str = "") -> None:
        if isinstance(value, dict):
            name = value.get("name", inside) if value.get("type") == "object" else inside
            for part in value.values():
                walk(part, name)
        elif isinstance(value, list):
            for part in value:
                walk(part, inside)
        elif isinstance(value, str) and "$$" in value:
            assert inside == "PlainText", inside

    walk(found)
    assert "$$" in json.dumps(found)


def panel(*names: str) -> Panel:
    line = np.arange(3.0), np.ones(3), np.empty(0, dtype=int), GREEN, 1.0
    return Panel("", "", "x", False, [Curve(name, *line) for name in names], None, [], None)


def test_a_legend_leaves_the_plot_its_height_and_long_names_their_width() -> None:
    short, long, many = draw(panel("a", "b")), draw(panel("a" * 30, "b")), draw(panel("a", "b", "c", "d", "e"))
    assert [plot.legend[0].ncols for plot in (short, long, many)] == [2, 1, 2]
    assert [plot.height - short.height for plot in (long, many)] == [28, 56]


def test_a_tooltip_shows_a_name_as_it_is() -> None:
    (tip,) = (tool for tool in draw(panel("<b>@y $x</b>")).tools if type(tool).__name__ == "HoverTool")
    assert tip.tooltips[0] == ("", "&lt;b&gt;&#64;y &#36;x&lt;/b&gt;")
