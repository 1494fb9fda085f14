"""The page of a run: whole, self-contained, escaped, and honest about what a picture cannot show."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrograd.pictures.palette import GREEN
from retrograd.pictures.thin import thin
from retrograd.report import RunReport, figures, write_report
from retrograd.report.plot import Notes, Plot

HOSTILE = "</script><script>alert(1)</script> \"a\" 'b' & <b> $$x^2$$ {{ 7 * 7 }}"


def make(steps: int = 120, targets: int = 1, *, test: int = 20, horizon: int = 8, dated: bool = False) -> RunReport:
    rng = np.random.default_rng(0)
    hours = np.timedelta64(1, "h")
    time: Any = np.datetime64("2016-07-01T00") + np.arange(steps) * hours if dated else 1700.0 + np.arange(steps)
    step: Any = hours if dated else 1.0
    observed = (
        50 + 40 * np.sin(np.arange(steps)[:, None] / 1.75 + np.arange(targets)) + rng.normal(size=(steps, targets))
    )
    free_run = np.full_like(observed, np.nan)
    free_run[steps - test :] = observed[steps - test :] * 0.8
    train = max(steps - test, 1)
    return RunReport(
        title="Sunspots",
        target_names=[f"target {i}" for i in range(targets)],
        time_label="year",
        time=time,
        observed=observed,
        one_step=observed + rng.normal(size=observed.shape),
        free_run=free_run,
        test_start=steps - test,
        forecast_time=time[-1] + step * (1 + np.arange(horizon)),
        forecast=np.full((horizon, targets), 50.0),
        history=[{"epoch": e + 1, "loss": 2.0 * 0.8**e, "gradient_norm": 5 * 0.9**e} for e in range(30)],
        delta_time=time[:train],
        delta_norm=np.exp(-0.02 * np.arange(train)[::-1]),
        eigenvalues=np.linalg.eigvals(rng.normal(size=(8, 8)) / 3),
        closed_loop_eigenvalues=np.linalg.eigvals(rng.normal(size=(8, 8)) / 3),
        metrics={"one-step, held-out": {"MSE": 1.25, "RMSE": 1.118}, "free run, held-out": {"MSE": 9.5}},
        settings={"hidden": "8"},
    )


def written(tmp_path: Path, report: RunReport) -> str:
    path = tmp_path / "report.html"
    write_report(path, report)
    return path.read_text(encoding="utf-8")


class Outline(HTMLParser):
    """Every tag with its attributes, and the text outside of scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.text += data


def models(page: str) -> str:
    """Return the plots as Bokeh reads them, JSON."""
    found = re.search(r"const docs_json = '(.*)';", page)
    assert found is not None
    return found.group(1)


def renderers(plot: Any, legend: str) -> list[Any]:
    return [r for item in plot.legend[0].items if item.label.value == legend for r in item.renderers]


# --- the file ---


@pytest.mark.parametrize(("steps", "targets", "dated"), [(120, 1, False), (17_420, 7, True), (20_000, 30, False)])
def test_the_page_is_one_file_of_less_than_3_mb(tmp_path: Path, steps: int, targets: int, dated: bool) -> None:
    page = written(tmp_path, make(steps, targets, test=steps // 5, dated=dated))
    assert len(page.encode()) < 3_000_000
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    page = written(tmp_path, make(targets=2, dated=True))
    outline = Outline(page)
    for tag, attributes in outline.tags:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base"), tag
        assert not {"src", "href", "srcset", "data"} & set(attributes), (tag, attributes)
    style = "".join(re.findall(r"<style>(.*?)</style>", page, re.DOTALL))
    assert "url(" not in style
    assert "@import" not in style
    assert "http" not in models(page)
    # What the browser is told to refuse in any case: everything but what stands in the file.
    policy = next(a["content"] for t, a in outline.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy


def test_the_page_is_readable_on_any_screen_and_by_a_screen_reader(tmp_path: Path) -> None:
    page = written(tmp_path, make())
    outline = Outline(page)
    assert page.startswith('<!DOCTYPE html>\n<html lang="en">')
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in outline.tags
    assert "prefers-color-scheme: dark" in page
    names = [tag for tag, _ in outline.tags]
    assert names.count("h1") == names.count("main") == 1
    assert names.count("figure") == names.count("figcaption") == 4
    assert names.index("table") < names.index("figure")


def test_an_existing_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old" * 2_000_000)
    write_report(path, make())
    assert path.read_text().rstrip().endswith("</html>")
    assert "oldold" not in path.read_text()


def test_a_failure_leaves_the_existing_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(ValueError, match=r"observed has shape \(120, 1\), expected \(120, 2\)"):
        write_report(path, dataclasses.replace(make(), target_names=["a", "b"]))
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_import_retrograd_pays_for_no_plotting() -> None:
    code = "import sys, retrograd, retrograd.report; print({'bokeh', 'jinja2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# --- text of the data ---


@pytest.mark.parametrize("targets", [1, 2])
def test_text_of_the_data_is_escaped_everywhere(tmp_path: Path, targets: int) -> None:
    report = dataclasses.replace(
        make(targets=targets),
        title=HOSTILE,
        target_names=[HOSTILE] * targets,
        time_label=HOSTILE,
        metrics={HOSTILE: {HOSTILE: 1.0}},
        settings={HOSTILE: HOSTILE},
    )
    page = written(tmp_path, report)
    assert "<script>alert" not in page
    outline = Outline(page)
    assert "b" not in {tag for tag, _ in outline.tags}
    assert HOSTILE in outline.text
    # In the plots it may stand only as plain text: Bokeh would typeset a bare string with $$ from the network.
    found = json.loads(
        models(page).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&").replace("\\\\", "\\")
    )

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


# --- what the figures say ---


def test_the_held_out_end_is_shaded_and_every_series_named() -> None:
    part = figures.predictions(make())
    ((_, plot),) = part.plots
    assert [item.label.value for item in plot.legend[0].items] == ["one step ahead", "observed", "free run", "forecast"]
    (shade,) = [model for model in plot.center if type(model).__name__ == "BoxAnnotation"]
    assert (shade.left, shade.right) == (1800.0, 1819.0)
    assert "shaded" in part.reading


def test_one_panel_a_target_with_its_name() -> None:
    part = figures.predictions(make(targets=3))
    assert [caption for caption, _ in part.plots] == ["target 0", "target 1", "target 2"]
    many = figures.predictions(make(targets=figures.MOST_PANELS + 2))
    assert len(many.plots) == figures.MOST_PANELS
    assert f"The first {figures.MOST_PANELS} of {figures.MOST_PANELS + 2} targets" in many.reading


def test_a_long_series_is_thinned_says_so_and_has_a_close_up() -> None:
    part = figures.predictions(make(20_000, test=4_000, dated=True))
    assert [caption for caption, _ in part.plots] == [
        "target 0",
        "target 0, close up where the held-out end begins",
        "target 0, close up of the forecast",
    ]
    whole, close, last = (renderers(plot, "observed")[0].data_source.data["y"] for _, plot in part.plots)
    assert len(whole) <= figures.MOST_POINTS_A_LINE + 2
    assert len(close) == figures.CLOSE_UP + figures.CLOSE_UP // 3
    assert len(last) == figures.CLOSE_UP // 3
    drawn = [
        bool([r for r in plot.renderers if GREEN in str(r.glyph.properties_with_values())]) for _, plot in part.plots
    ]
    assert drawn == [True, False, True]
    without = figures.predictions(dataclasses.replace(make(20_000, test=4_000, horizon=0)))
    assert len(without.plots) == 2
    assert "Of 20,000 steps, the smallest and largest of every few are drawn." in part.reading


def test_dates_stand_where_they_belong() -> None:
    part = figures.predictions(make(dated=True))
    x = renderers(part.plots[0][1], "observed")[0].data_source.data["x"]
    assert x[0] == np.datetime64("2016-07-01T00", "ms").astype(float)
    assert x[1] - x[0] == 3_600_000


def test_missing_values_break_the_line_and_infinite_ones_are_reported() -> None:
    report = make()
    report.observed[10:15] = np.nan
    report.one_step[30] = np.inf
    part = figures.predictions(report)
    y = renderers(part.plots[0][1], "observed")[0].data_source.data["y"]
    assert np.flatnonzero(np.isnan(y)).tolist() == [10, 11, 12, 13, 14]
    assert np.isnan(renderers(part.plots[0][1], "one step ahead")[0].data_source.data["y"][30])
    assert "1 infinite values of “one step ahead” are left out." in part.reading


def test_a_free_run_that_explodes_does_not_flatten_the_rest() -> None:
    report = make()
    report.free_run[-1] = 1e12
    part = figures.predictions(report)
    y_range = part.plots[0][1].y_range
    assert y_range.end < 300
    assert "leaves the picture" in part.reading


def test_zero_and_broken_gradients_are_marked_and_counted_never_drawn_as_numbers() -> None:
    report = make()
    report.delta_norm[:4] = 0.0
    report.delta_norm[50], report.delta_norm[51] = np.nan, np.inf
    part = figures.gradient_flow(report)
    ((_, plot),) = part.plots
    (line,) = renderers(plot, "‖∂L/∂h_t‖")
    y = line.data_source.data["y"]
    assert np.flatnonzero(np.isnan(y)).tolist() == [0, 1, 2, 3, 50, 51]
    (zeros,) = renderers(plot, "exactly zero (at the bottom edge)")
    assert zeros.data_source.data["x"].tolist() == report.delta_time[:4].tolist()
    assert (zeros.data_source.data["y"] < np.nanmin(y)).all()
    (broken,) = renderers(plot, "not finite (at the top edge)")
    assert broken.data_source.data["x"].tolist() == report.delta_time[50:52].tolist()
    assert (broken.data_source.data["y"] > np.nanmax(y)).all()
    assert "At 4 of 100 steps the gradient is exactly zero" in part.reading
    assert "At 2 of 100 steps the gradient is not finite" in part.reading


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, 1.0, 1e-310, 1e308])
def test_a_gradient_of_one_value_alone(tmp_path: Path, value: float) -> None:
    report = make()
    report.delta_norm[:] = value
    written(tmp_path, report)


def test_training_axes_are_logarithmic_only_where_that_is_right() -> None:
    def scales(**columns: list[float]) -> list[str]:
        rows = [
            {"epoch": i + 1, **dict(zip(columns, row, strict=True))}
            for i, row in enumerate(zip(*columns.values(), strict=True))
        ]
        part = figures.training(dataclasses.replace(make(), history=rows))
        assert part is not None
        return [type(plot.y_scale).__name__ for _, plot in part.plots]

    assert scales(loss=[10.0, 0.1], gradient_norm=[3.0, 2.0]) == ["LogScale", "LinearScale"]
    assert scales(loss=[10.0, 0.0], gradient_norm=[-1.0, 100.0]) == ["LinearScale", "LinearScale"]
    assert scales(loss=[10.0, float("nan")], gradient_norm=[1e-3, 1e3]) == ["LinearScale", "LogScale"]


def test_captions_say_which_loss_it_is_and_axes_that_it_is_scaled() -> None:
    report = dataclasses.replace(make(), trained_on="the error of free runs of 12 steps")
    training, flow = figures.training(report), figures.gradient_flow(report)
    assert training is not None
    assert flow is not None
    for part in (training, flow):
        assert "The loss is the error of free runs of 12 steps" in part.reading
        assert all("scaled" in plot.yaxis[0].axis_label.text for _, plot in part.plots)


def test_the_iterations_of_a_fit_are_its_criterion_and_that_of_a_validation_part() -> None:
    rows = [{"iteration": i + 1, "loss": -float(i), "validation": 1.0 - i} for i in range(4)]
    part = figures.training(dataclasses.replace(make(), history=rows))
    assert part is not None
    ((caption, plot),) = part.plots
    assert caption == "Criterion"
    assert plot.xaxis[0].axis_label.text == "iteration"
    assert [item.label.value for item in plot.legend[0].items] == ["loss", "on the validation part"]
    np.testing.assert_array_equal(renderers(plot, "on the validation part")[0].data_source.data["y"], [1, 0, -1, -2])
    part = figures.training(dataclasses.replace(make(), history=[{"iteration": 1, "loss": 2.0}]))
    assert part is not None
    assert not part.plots[0][1].legend


def test_a_logarithmic_axis_of_few_decades_has_ticks() -> None:
    def axis(*values: float) -> Any:
        plot = Plot("x", "y", None, log_y=True, height=100)
        plot.line(np.arange(len(values)), np.array(values), "a", "#000000", 10, Notes())
        return plot.finished().yaxis[0]

    assert {0.05, 0.1, 0.2, 0.5, 1.0} <= set(np.round(axis(0.06, 1.1).ticker.ticks, 9))
    assert type(axis(1e-3, 1e3).ticker).__name__ == "LogTicker"


def test_a_legend_leaves_the_plot_its_height_and_long_names_their_width() -> None:
    def finished(*names: str) -> Any:
        plot = Plot("x", "y", None, height=200)
        for name in names:
            plot.line(np.arange(3), np.ones(3), name, "#000000", 10, Notes())
        return plot.finished()

    short, long, many = finished("a", "b"), finished("a" * 30, "b"), finished("a", "b", "c", "d", "e")
    assert [plot.legend[0].ncols for plot in (short, long, many)] == [2, 1, 2]
    assert short.height == 200
    assert long.height == 228
    assert many.height == 256


def test_a_tooltip_shows_a_name_as_it_is() -> None:
    plot = Plot("x", "y", None, height=100)
    plot.line(np.arange(3), np.ones(3), "<b>@y $x</b>", "#000000", 10, Notes())
    (tip,) = (tool for tool in plot.figure.tools if type(tool).__name__ == "HoverTool")
    assert tip.tooltips[0] == ("", "&lt;b&gt;&#64;y &#36;x&lt;/b&gt;")


def test_the_unit_circle_and_both_spectra_are_drawn_at_equal_scale() -> None:
    report = make()
    ((_, plot),) = figures.spectrum(report).plots
    assert plot.match_aspect is True
    assert [item.label.value for item in plot.legend[0].items] == ["unit circle", "W_hh", "W_hh + W_ih C"]
    (circle,) = renderers(plot, "unit circle")
    np.testing.assert_allclose(np.hypot(circle.data_source.data["x"], circle.data_source.data["y"]), 1.0)
    (drawn,) = renderers(plot, "W_hh")
    np.testing.assert_array_equal(drawn.data_source.data["re"], report.eigenvalues.real)
    markers = {renderers(plot, name)[0].glyph.marker for name in ("W_hh", "W_hh + W_ih C")}
    assert len(markers) == 2


def test_eigenvalues_that_are_not_finite_are_counted() -> None:
    report = dataclasses.replace(make(), closed_loop_eigenvalues=None)
    report.eigenvalues[:2] = np.nan
    part = figures.spectrum(report)
    assert "2 of 8 eigenvalues of W_hh are not finite." in part.reading
    assert "W_ih C" not in part.reading


# --- the smallest runs ---


def test_the_smallest_run(tmp_path: Path) -> None:
    report = dataclasses.replace(
        make(1, test=0, horizon=1),
        history=[{"epoch": 1, "loss": 0.5, "gradient_norm": 0.0}],
        eigenvalues=np.array([0.5]),
        closed_loop_eigenvalues=None,
    )
    page = written(tmp_path, report)
    assert "nothing was held out" in page
    # One observed step and one forecast step have no neighbour: a dot, as a line would show nothing.
    plot = figures.predictions(report).plots[0][1]
    assert len(renderers(plot, "observed")) == len(renderers(plot, "forecast")) == 2


def test_no_epochs_no_forecast_no_metrics(tmp_path: Path) -> None:
    report = dataclasses.replace(make(horizon=0), history=[], metrics={}, settings={})
    page = written(tmp_path, report)
    assert "Training" not in Outline(page).text
    assert "<table" not in page


def test_numbers_reach_the_page_as_they_are(tmp_path: Path) -> None:
    report = make()
    page = written(tmp_path, report)
    arrays = [gzip.decompress(base64.b64decode(text)) for text in re.findall(r"H4sI[A-Za-z0-9+/=]+", models(page))]
    assert report.observed[:, 0].tobytes() in arrays
    assert report.delta_norm.tobytes() in arrays
    assert Outline(page).text.count("1.118") == 1


# --- thinning ---


def test_thinning_keeps_every_peak_the_ends_and_the_gaps() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=50_001)
    values[12_345], values[40_000] = 50.0, -50.0
    values[20_000:20_400] = np.nan
    kept = thin(values, 1_000)
    assert len(kept) < 1_500
    assert {0, 12_345, 40_000, 50_000} <= set(kept.tolist())
    assert np.isnan(values[kept]).any()
    assert (np.diff(kept) > 0).all()
