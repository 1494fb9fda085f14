"""What the figures of an identified system draw is what they were given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from report.test_page import HOSTILE, make
from retrograd.report import ComparisonReport, SystemReport, TextTable, figures, write_comparison, write_report
from retrograd.report.system_figures import bode, order, residuals, step


@pytest.fixture
def report() -> Any:
    random = np.random.default_rng(0)
    lags, both = np.arange(11), np.arange(-10, 11)
    system = SystemReport(
        input_names=["flow", "heat"],
        time_unit="s",
        sample_time=0.5,
        correlation_lags=lags,
        residual_correlation=random.uniform(-1, 1, (11, 1)),
        correlation_band=0.1,
        input_lags=both,
        input_correlation=random.uniform(-1, 1, (21, 1, 2)),
        input_band=np.array([[0.1, 0.2]]),
        frequencies=np.geomspace(1e-3, 1, 50),
        response=random.standard_normal((50, 1, 2)) + 1j * random.standard_normal((50, 1, 2)),
        steps=random.standard_normal((30, 1, 2)),
        order=2,
        singular_values=np.array([5.0, 2.0, 0.1, 0.05]),
        order_criteria={1: (20.0, 22.0), 2: (3.0, 6.0), 3: (2.0, 8.0)},
    )
    return replace(make(), system=system, eigenvalue_names=("A", "A − K C"))


def drawn(plot: Any) -> list[dict[str, Any]]:
    return [dict(renderer.data_source.data) for renderer in plot.renderers]


def test_bars_are_the_correlations_and_the_band_is_theirs(report: Any) -> None:
    part = residuals(report)
    assert [caption for caption, _ in part.plots] == [
        "target 0: residual with its own past",
        "target 0: residual with flow",
        "target 0: residual with heat",
    ]
    (bars,) = drawn(part.plots[0][1])
    assert np.array_equal(bars["y1"], report.system.residual_correlation[1:, 0])  # at lag 0 it is 1
    (bars,) = drawn(part.plots[2][1])
    assert np.array_equal(bars["y1"], report.system.input_correlation[:, 0, 1])
    box = next(item for item in part.plots[2][1].center if type(item).__name__ == "BoxAnnotation")
    assert (box.bottom, box.top) == (-0.2, 0.2)


def test_bode_is_on_logarithmic_axes_with_nyquist_marked(report: Any) -> None:
    part = bode(report)
    magnitude, phase = (plot for _, plot in part.plots)
    assert type(magnitude.x_scale).__name__ == type(magnitude.y_scale).__name__ == "LogScale"
    assert type(phase.y_scale).__name__ == "LinearScale"
    assert np.allclose(drawn(magnitude)[1]["y"], np.abs(report.system.response[:, 0, 1]))
    expected = np.degrees(np.unwrap(np.angle(report.system.response[:, 0, 0])))
    assert np.allclose(drawn(phase)[0]["y"], expected)
    spans = [item.location for item in magnitude.center if type(item).__name__ == "Span"]
    assert spans == [1.0]
    assert "cycles per s" in magnitude.xaxis[0].axis_label.text


def test_the_step_response_is_in_time(report: Any) -> None:
    ((_, plot),) = step(report).plots
    first = drawn(plot)[0]
    assert np.allclose(first["x"], 0.5 * np.arange(30))
    assert np.allclose(first["y"], report.system.steps[:, 0, 0])
    assert plot.xaxis[0].axis_label.text == "time after the step, s"


def test_outputs_of_other_units_have_step_responses_of_their_own(report: Any) -> None:
    steps = np.stack([report.system.steps[:, 0], 1e6 * report.system.steps[:, 0]], axis=1)
    both = replace(make(targets=2), system=replace(report.system, steps=steps, time_unit="step"))
    part = step(both)
    assert [caption for caption, _ in part.plots] == ["target 0", "target 1"]
    assert np.array_equal(drawn(part.plots[1][1])[1]["y"], steps[:, 1, 1])
    assert part.plots[0][1].xaxis[0].axis_label.text == "time after the step, steps"


def test_the_order_shows_what_is_kept_and_the_criteria(report: Any) -> None:
    values, criteria = (plot for _, plot in order(report).plots)
    kept, left_out = drawn(values)
    assert np.array_equal(kept["y"], [5.0, 2.0])
    assert np.array_equal(left_out["y"], [0.1, 0.05])
    aic, bic = drawn(criteria)
    assert np.array_equal(aic["y"], [18.0, 1.0, 0.0])
    assert np.array_equal(bic["y"], [20.0, 4.0, 6.0])
    alone = replace(report, system=replace(report.system, order_criteria={}))
    assert len(order(alone).plots) == 1


def test_without_inputs_or_a_system_there_is_nothing_to_draw(report: Any) -> None:
    none = replace(
        report,
        system=replace(
            report.system,
            input_names=[],
            input_correlation=np.zeros((21, 1, 0)),
            input_band=np.zeros((1, 0)),
            response=np.zeros((50, 1, 0)),
            steps=np.zeros((30, 1, 0)),
        ),
    )
    assert bode(none) is None
    assert step(none) is None
    assert len(residuals(none).plots) == 1
    for figure in (residuals, bode, step, order):
        assert figure(make()) is None


def test_the_whole_page_escapes_names_and_shows_the_summary(report: Any, tmp_path: Path) -> None:
    hostile = replace(
        report,
        target_names=[HOSTILE],
        system=replace(report.system, input_names=[HOSTILE, "heat"]),
        summary=[
            TextTable(HOSTILE, ("output", HOSTILE), [(HOSTILE, "fit 91.3 %")]),
            TextTable("bare", (), [("a", "1")]),
        ],
        forecast_lower=report.forecast - 3,
        forecast_upper=report.forecast + 3,
    )
    write_report(tmp_path / "r.html", hostile)
    page = (tmp_path / "r.html").read_text()
    assert "<script>alert(1)</script>" not in page
    assert "<td>fit 91.3 %</td>" in page
    assert page.count("<table aria-label=") == 2
    assert page.count("<thead>") == 2  # of the metrics, and of the table that has names
    assert "95 % interval" in page
    assert len(page) < 3_000_000


def test_a_band_must_fit_the_forecast(report: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="forecast_lower has shape"):
        write_report(tmp_path / "r.html", replace(report, forecast_lower=np.zeros((3, 1))))


def test_a_comparison_draws_every_model_beside_what_was_measured(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    observed = random.standard_normal((50, 2))
    free, ahead = ([random.standard_normal((50, 2)) for _ in range(2)] for _ in range(2))
    free[1][:, 0] = np.nan  # the second model has only the second output
    report = ComparisonReport(
        title=HOSTILE,
        output_names=[HOSTILE, "level"],
        time_label=HOSTILE,
        time=np.arange(50),
        observed=observed,
        model_names=[HOSTILE, "second"],
        free_runs=free,
        steps_ahead=4,
        ahead=ahead,
        metrics={HOSTILE: {"fit %": 91.25}},
        settings={"data": HOSTILE},
    )
    parts = figures.comparison(report)
    assert [part.heading for part in parts] == ["Free run", "4 steps ahead"]
    alone, both = (plot for _, plot in parts[0].plots)
    assert [item.label.value for item in alone.legend[0].items] == [HOSTILE, "measured"]
    assert [item.label.value for item in both.legend[0].items] == [HOSTILE, "second", "measured"]
    first, second, measured = drawn(both)
    assert np.array_equal(first["y"], free[0][:, 1])
    assert np.array_equal(second["y"], free[1][:, 1])
    assert np.array_equal(measured["y"], observed[:, 1])
    assert np.array_equal(drawn(parts[1].plots[0][1])[0]["y"], ahead[0][:, 0])
    write_comparison(tmp_path / "c.html", report)
    page = (tmp_path / "c.html").read_text()
    assert "<script>alert(1)</script>" not in page
    assert "<td>91.25</td>" in page
