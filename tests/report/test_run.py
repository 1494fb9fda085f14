"""The page of a run says what is known of it, and what its pictures leave out."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from report.test_page import make, system
from retrograd import Dense, Diagonal
from retrograd.insight import Analysis, Sweep, analyse
from retrograd.report import RunReport
from retrograd.report.content import Section
from retrograd.report.flow import meaning
from retrograd.report.run import content


def analysis(a: float = 0.9, *, silent: bool = False) -> Analysis:
    u = torch.zeros(20, 2) if silent else torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    return analyse(Sweep.of_scan(Diagonal(torch.full((2,), a)), u, loss=lambda states: states.square().mean()))


def sections(report: RunReport) -> dict[str, Section]:
    return {section.heading: section for section in content(report).sections}


def test_a_training_has_its_sections_in_order() -> None:
    found = sections(dataclasses.replace(make(), analysis=analysis()))
    assert list(found) == [
        "Forecast",
        "Prediction against truth",
        "Training",
        "How the gradient flows back through time",
        "What the gradient passes through",
        "Where the gradient of W_hh comes from",
        "What truncation would lose",
        "Eigenvalues of the transition",
    ]
    assert [len(section.figures) for section in found.values()] == [0, 0, 1, 1, 2, 1, 1, 1]
    bare = dataclasses.replace(
        make(), history=[], delta_time=np.empty(0), delta_norm=np.empty(0), eigenvalues=np.empty(0)
    )
    assert list(sections(bare)) == ["Forecast", "Prediction against truth"]


def test_a_system_has_sections_of_its_own() -> None:
    found = sections(dataclasses.replace(make(), system=system()))
    assert list(found) == [
        "Forecast",
        "Prediction against truth",
        "What the residuals still hold",
        "Training",
        "How the gradient flows back through time",
        "Poles",
        "Frequency response",
        "Step response",
        "Choice of the order",
    ]
    assert "runs on by itself" in found["Prediction against truth"].reading
    assert "1 per s" in found["Frequency response"].reading
    assert found["Step response"].figures[0].axes[0].get_xlabel() == "time after the step, s"
    assert found["How the gradient flows back through time"].figures[0].axes[0].get_ylabel() == "‖∂L/∂h_t‖"
    alone = sections(dataclasses.replace(make(), system=system(inputs=0)))
    assert not {"Frequency response", "Step response"} & set(alone)


def test_the_reading_says_what_is_held_out_forecast_and_how_sure() -> None:
    report = make()
    reading = sections(report)["Prediction against truth"].reading
    assert "shaded, held-out end and feeds on its own output" in reading
    assert "goes on in the same way" in reading
    assert "95 %" not in reading
    ends = report.forecast - 1, report.forecast + 1
    band = sections(dataclasses.replace(report, intervals={80: ends, 95: ends}))
    assert "a probability of 80 and 95 %" in band["Prediction against truth"].reading
    assert "a probability of 80 and 95 %" in band["Forecast"].reading
    assert list(band["Forecast"].tables[0].header) == ["year", "forecast", "80 %", "95 %"]
    assert "gives no interval" in sections(report)["Forecast"].reading
    assert "gives no interval" not in band["Forecast"].reading
    nothing = sections(make(test=0, horizon=0))["Prediction against truth"].reading
    assert "Nothing was held out" in nothing
    assert "forecast" not in nothing


def test_readings_say_which_loss_it_is_and_axes_that_it_is_scaled() -> None:
    found = sections(dataclasses.replace(make(), trained_on="the error of free runs of 12 steps", analysis=analysis()))
    for heading in ("Training", "How the gradient flows back through time", "Where the gradient of W_hh comes from"):
        assert "The loss is the error of free runs of 12 steps" in found[heading].reading
    for heading in ("Training", "How the gradient flows back through time"):
        (figure,) = found[heading].figures
        assert all("scaled" in axis.get_ylabel() for axis in figure.axes)


def test_the_iterations_of_a_fit_are_its_criterion_and_that_of_a_validation_part() -> None:
    rows = [{"iteration": i + 1, "loss": -float(i), "validation": 1.0 - i} for i in range(4)]
    (figure,) = sections(dataclasses.replace(make(), history=rows))["Training"].figures
    (axis,) = figure.axes
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("iteration", "criterion per step")
    lines = {line.get_label(): line.get_ydata() for line in axis.lines}
    np.testing.assert_array_equal(lines["on the validation part"], [1, 0, -1, -2])


def test_the_verdict_is_told_whole() -> None:
    found = analysis()
    told = sections(dataclasses.replace(make(), analysis=found))["How the gradient flows back through time"].points
    assert told[0] == f"For this forecast: {meaning(found)}."
    assert told[1].startswith("The forecast feeds on itself: by its largest eigenvalue")
    assert set(found.verdict.evidence) <= set(told)
    assert all(any(advice.text in line for line in told) for advice in found.verdict.advice)
    assert not any("not drawn" in line for line in told)
    assert sections(make())["How the gradient flows back through time"].points == ()


def test_a_gradient_without_shares_is_said_not_drawn() -> None:
    found = sections(dataclasses.replace(make(), analysis=analysis(silent=True)))
    told = " ".join(found["How the gradient flows back through time"].points)
    assert "is not drawn: the gradient is zero: it has no shares" in told
    assert "What truncation would lose" not in found
    changing = analyse(Sweep.of_scan(Dense(torch.eye(2).expand(4, 2, 2) * 0.5), torch.ones(4, 2)))
    assert (
        len(sections(dataclasses.replace(make(), analysis=changing))["What the gradient passes through"].figures) == 1
    )


def test_eigenvalues_that_are_not_finite_are_counted() -> None:
    report = dataclasses.replace(make(), closed_loop_eigenvalues=None)
    report.eigenvalues[:2] = np.nan
    reading = sections(report)["Eigenvalues of the transition"].reading
    assert "2 of 8 eigenvalues of W_hh are not finite." in reading
    assert "W_ih C" not in reading


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target_names": ["a", "b"]}, r"observed has shape \(120, 1\), expected \(120, 2\)"),
        ({"target_names": []}, "target_names is empty"),
        ({"intervals": {95: (np.zeros((3, 1)),) * 2}}, r"intervals\[95\] has shape \(3, 1\), expected \(8, 1\)"),
        ({"delta_norm": np.zeros(3)}, r"delta_norm has shape \(3,\), expected \(100,\)"),
        ({"test_start": 121}, "test_start is 121, expected 0 to 120"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(make(), **changes)  # type: ignore[arg-type]
