"""Pictures draw the numbers they are given; what has no place is marked and counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from report.test_page import HOSTILE, system
from retrograd.pictures import system as pictures
from retrograd.pictures.figures import new_figure
from retrograd.pictures.palette import BLACK, BLUE
from retrograd.pictures.series import Line, series
from retrograd.pictures.spectrum import eigenvalues
from retrograd.pictures.svg import svg
from retrograd.pictures.thin import thin
from retrograd.pictures.training import curves, gradient_norms

TIME = 1900 + np.arange(100)


def drawn(figure: Figure, axis: int = 0) -> dict[str, Any]:
    """Lines by their name."""
    return {str(line.get_label()): line for line in figure.axes[axis].lines}


def test_zero_and_broken_gradients_are_marked_and_counted_never_drawn_as_numbers() -> None:
    norm = np.exp(-0.02 * np.arange(100.0))
    norm[:4], norm[50], norm[51] = 0.0, np.nan, np.inf
    figure, notes = gradient_norms(TIME, norm, "year", "‖∂L/∂h_t‖")
    lines = drawn(figure)
    assert np.flatnonzero(np.isnan(lines["‖∂L/∂h_t‖"].get_ydata())).tolist() == [0, 1, 2, 3, 50, 51]
    assert lines["exactly zero (at the bottom edge)"].get_xdata().tolist() == TIME[:4].tolist()
    assert set(lines["exactly zero (at the bottom edge)"].get_ydata()) == {0.0}
    assert lines["not finite (at the top edge)"].get_xdata().tolist() == TIME[50:52].tolist()
    assert notes[0].startswith("At 4 of 100 steps the gradient is exactly zero")
    assert notes[1].startswith("At 2 of 100 steps the gradient is not finite")
    assert figure.axes[0].get_yscale() == "log"


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, 1.0, 1e-310, 1e308])
def test_a_gradient_of_one_value_alone(value: float) -> None:
    figure, _ = gradient_norms(TIME, np.full(100, value), "year", "‖∂L/∂h_t‖")
    assert svg(figure, "norms", "Norms.")


def test_axes_are_logarithmic_only_where_that_is_right() -> None:
    def scales(**columns: list[float]) -> list[str]:
        figure = curves(np.arange(2.0), "epoch", {name: {name: np.array(row)} for name, row in columns.items()})
        return [axis.get_yscale() for axis in figure.axes]

    assert scales(loss=[10.0, 0.1], norm=[3.0, 2.0]) == ["log", "linear"]
    assert scales(loss=[10.0, 0.0], norm=[-1.0, 100.0]) == ["linear", "linear"]
    assert scales(loss=[10.0, float("nan")], norm=[1e-3, 1e3]) == ["linear", "log"]


def test_the_unit_circle_and_both_spectra_are_drawn_at_equal_scale() -> None:
    values = np.array([0.5 + 0.1j, np.nan, -2.0])
    figure, notes = eigenvalues([("A", values), ("A − K C", values[:1])])
    lines = drawn(figure)
    assert list(lines) == ["unit circle", "A", "A − K C"]
    np.testing.assert_allclose(np.hypot(*lines["unit circle"].get_data()), 1.0)
    np.testing.assert_array_equal(lines["A"].get_xdata(), [0.5, -2.0])
    assert lines["A"].get_marker() != lines["A − K C"].get_marker()
    assert figure.axes[0].get_aspect() == 1
    assert "1 of 3 eigenvalues of A are not finite." in notes
    assert "The largest of A has the size 2." in notes


def test_series_break_at_missing_values_and_keep_the_observed_range() -> None:
    observed, free = np.sin(TIME / 9.0)[:, None], np.full((100, 1), np.nan)
    observed[10:15] = np.nan
    observed[12] = 0.5
    free[80:] = 1e12
    lines = [Line("observed", observed, BLACK, measured=True), Line("free run", free, BLUE, dash=(6, 3))]
    figure, notes = series(TIME, "year", [HOSTILE], lines, 80)
    (axis,) = figure.axes
    assert np.flatnonzero(np.isnan(drawn(figure)["observed"].get_ydata())).tolist() == [10, 11, 13, 14]
    assert any(line.get_marker() == "." and TIME[12] in line.get_xdata() for line in axis.lines)
    assert axis.get_ylim()[1] < 5
    assert "leaves the picture" in notes[0]


def test_residuals_have_their_bars_and_bands() -> None:
    found = system().correlations
    figure, notes = pictures.residuals(found, ["y"], ["flow", "heat"])
    assert [axis.get_title() for axis in figure.axes] == ["e(y) with its past", "e(y) with flow", "e(y) with heat"]
    for axis, values in zip(figure.axes, (found.own[1:, 0], *found.with_inputs[:, 0].T), strict=True):
        (bars,) = axis.collections
        np.testing.assert_array_equal([path.vertices[1, 1] for path in bars.get_paths()], values)  # at lag 0 it is 1
    assert not notes
    many = system(outputs=5)
    figure, notes = pictures.residuals(many.correlations, [f"y{k}" for k in range(5)], ["flow", "heat"])
    assert len([axis for axis in figure.axes if axis.get_visible()]) == 12
    assert notes == ["The first 12 of 15 panels are drawn."]


def test_bode_is_on_logarithmic_axes_with_nyquist_marked() -> None:
    report = system()
    figure = pictures.bode(report.frequencies, report.response, ["y"], ["flow", "heat"], 1.0, "s")
    magnitude, phase = figure.axes
    assert (magnitude.get_xscale(), magnitude.get_yscale(), phase.get_yscale()) == ("log", "log", "linear")
    np.testing.assert_allclose(drawn(figure)["heat → y"].get_ydata(), np.abs(report.response[:, 0, 1]))
    expected = np.degrees(np.unwrap(np.angle(report.response[:, 0, 0])))
    np.testing.assert_allclose(phase.lines[0].get_ydata(), expected)
    assert set(magnitude.lines[-1].get_xdata()) == {1.0}
    assert "cycles per s" in phase.get_xlabel()


def test_outputs_of_other_units_have_step_responses_of_their_own() -> None:
    steps = system().steps[:, 0]
    figure = pictures.step(np.arange(30) / 2, np.stack([steps, 1e6 * steps], 1), ["a", "b"], ["flow", "heat"], "time")
    assert [axis.get_ylabel() for axis in figure.axes] == ["a", "b"]
    np.testing.assert_array_equal(drawn(figure, 1)["after heat"].get_ydata(), 1e6 * steps[:, 1])
    np.testing.assert_array_equal(drawn(figure, 1)["after heat"].get_xdata(), np.arange(30) / 2)


def test_the_order_shows_what_is_kept_and_the_criteria() -> None:
    report = system()
    figure = pictures.order(report.singular_values, report.order, report.order_criteria)
    np.testing.assert_array_equal(drawn(figure)["kept"].get_ydata(), [5.0, 2.0])
    np.testing.assert_array_equal(drawn(figure)["left out"].get_ydata(), [0.1, 0.05])
    np.testing.assert_array_equal(drawn(figure, 1)["AIC"].get_ydata(), [18.0, 1.0, 0.0])
    np.testing.assert_array_equal(drawn(figure, 1)["BIC"].get_ydata(), [20.0, 4.0, 6.0])
    assert len(pictures.order(report.singular_values, 2, {}).axes) == 1


def test_an_svg_is_the_same_each_time_plain_text_and_told_apart_by_its_name() -> None:
    def written(name: str) -> str:
        figure, axis = new_figure()
        axis.plot([1, 200], color=BLUE, label="$x$ & <b>")
        axis.set(title=HOSTILE, yscale="log")
        figure.legend()
        return svg(figure, name, HOSTILE)

    one, other = written("one"), written("other")
    assert one == written("one")
    assert "<script>" not in one
    assert "$x$ &amp; &lt;b&gt;" in one  # no formula
    assert "mathdefault" not in one
    assert "10⁰" in one
    assert f"var(--blue, {BLUE})" in one
    assert 'id="one-' in one
    assert "one-" not in other
    assert one.startswith("<svg")
    assert "<style" not in one
    assert "<metadata" not in one


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
