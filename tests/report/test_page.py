"""The page of a run: whole, self-contained, escaped, and honest about what a picture cannot show."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrograd.report import ComparisonReport, RunReport, SystemReport, TextTable, write_comparison, write_report

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


@dataclasses.dataclass(frozen=True)
class Correlations:
    lags: Any
    own: Any
    band: float
    input_lags: Any
    with_inputs: Any
    input_band: Any


def system(outputs: int = 1, inputs: int = 2, time_unit: str = "s") -> SystemReport:
    random = np.random.default_rng(0)
    found = Correlations(
        lags=np.arange(11),
        own=random.uniform(-1, 1, (11, outputs)),
        band=0.1,
        input_lags=np.arange(-10, 11),
        with_inputs=random.uniform(-1, 1, (21, outputs, inputs)),
        input_band=np.full((outputs, inputs), 0.2),
    )
    return SystemReport(
        input_names=["flow", "heat"][:inputs],
        time_unit=time_unit,
        sample_time=0.5,
        correlations=found,
        frequencies=np.geomspace(1e-3, 1, 50),
        response=random.standard_normal((50, outputs, inputs)) + 1j * random.standard_normal((50, outputs, inputs)),
        steps=random.standard_normal((30, outputs, inputs)),
        order=2,
        singular_values=np.array([5.0, 2.0, 0.1, 0.05]),
        order_criteria={1: (20.0, 22.0), 2: (3.0, 6.0), 3: (2.0, 8.0)},
    )


def hostile() -> RunReport:
    """A run whose every text is the data's."""
    made = make(targets=2)
    return dataclasses.replace(
        made,
        title=HOSTILE,
        target_names=[HOSTILE] * 2,
        time_label=HOSTILE,
        metrics={HOSTILE: {HOSTILE: 1.0}},
        settings={HOSTILE: HOSTILE},
        system=dataclasses.replace(system(2), input_names=[HOSTILE, "heat"]),
        summary=[TextTable(HOSTILE, ("output", HOSTILE), [(HOSTILE, "91.3 %")]), TextTable("bare", (), [("a", "1")])],
        intervals={95: (made.forecast - 3, made.forecast + 3)},
    )


def compared() -> ComparisonReport:
    random = np.random.default_rng(0)
    free, ahead = ([random.standard_normal((50, 2)) for _ in range(2)] for _ in range(2))
    free[1][:, 0] = np.nan  # the second model has only the second output
    return ComparisonReport(
        title=HOSTILE,
        output_names=[HOSTILE, "level"],
        time_label=HOSTILE,
        time=np.arange(50),
        observed=random.standard_normal((50, 2)),
        model_names=[HOSTILE, "second"],
        free_runs=free,
        steps_ahead=4,
        ahead=ahead,
        metrics={HOSTILE: {"fit %": 91.25}},
        settings={"data": HOSTILE},
    )


@pytest.fixture
def page(plain_page: Path) -> str:
    return plain_page.read_text(encoding="utf-8")


@pytest.mark.parametrize("dated", [pytest.param(False, marks=pytest.mark.slow), True])
def test_the_page_of_a_long_series_is_less_than_3_mb(tmp_path: Path, dated: bool) -> None:
    page = written(tmp_path, make(17_420, 7, test=4_000, dated=True) if dated else make(20_000, 30, test=4_000))
    assert len(page.encode()) < 3_000_000


def test_nothing_is_loaded_from_elsewhere(page: str) -> None:
    assert "oldold" not in page
    outline = Outline(page)
    for tag, attributes in outline.tags:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base"), tag
        assert not {"src", "href", "srcset", "data"} & set(attributes), (tag, attributes)
        assert str(attributes.get("xlink:href", "#")).startswith(("#", "data:image/png"))
    style = "".join(re.findall(r"<style>(.*?)</style>", page, re.DOTALL))
    assert "url(" not in style
    assert "@import" not in style
    # What the browser is told to refuse in any case: everything but what stands in the file.
    policy = next(a["content"] for t, a in outline.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy


def test_the_page_is_readable_on_any_screen_and_by_a_screen_reader(page: str) -> None:
    outline = Outline(page)
    assert page.startswith('<!DOCTYPE html>\n<html lang="en">')
    assert page.rstrip().endswith("</html>")
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in outline.tags
    assert "prefers-color-scheme: dark" in page
    names = [tag for tag, _ in outline.tags]
    assert names.count("h1") == names.count("main") == 1
    assert names.count("figure") == names.count("figcaption") == 5
    assert names.index("figure") < names.index("table")  # the forecast comes first
    svgs = [attributes for tag, attributes in outline.tags if tag == "svg"]
    assert [svg["aria-label"] for svg in svgs] == [
        "Training",
        "How the gradient flows back through time",
        "Eigenvalues of the transition",
    ]
    assert outline.text.count("1.118") == 1
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_text_of_the_data_is_escaped_everywhere(hostile_page: Path, tmp_path: Path) -> None:
    page = hostile_page.read_text()
    write_comparison(tmp_path / "comparison.html", compared())
    for text in (page, (tmp_path / "comparison.html").read_text()):
        assert "<script>alert" not in text
        outline = Outline(text)
        assert "b" not in {tag for tag, _ in outline.tags}
        assert HOSTILE in outline.text
    assert "<td>91.3 %</td>" in page
    assert page.count("<table aria-label=") == 5  # two forecasts in numbers, the errors, two of the summary
    assert page.count("<thead>") == 4  # but of the bare one
    assert "95 % interval" in page
    assert "<td>91.25</td>" in text


def test_the_same_run_is_the_same_bytes(page: str, tmp_path: Path) -> None:
    assert written(tmp_path, make(targets=2, dated=True)) == page


def test_import_retrograd_pays_for_no_plotting() -> None:
    code = "import sys, retrograd, retrograd.report; print({'bokeh', 'jinja2', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_smallest_run_without_epochs_forecast_and_metrics(tmp_path: Path) -> None:
    report = dataclasses.replace(
        make(1, test=0, horizon=0),
        history=[],
        metrics={},
        settings={},
        eigenvalues=np.array([0.5]),
        closed_loop_eigenvalues=None,
    )
    page = written(tmp_path, report)
    assert "Nothing was held out" in page
    assert "Training" not in Outline(page).text
    assert "<table" not in page
