"""Sections of a page on an identified system: residuals, frequency and step response, choice of the order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from retrograd.pictures.system import Correlations, bode, order, residuals, step
from retrograd.report.content import Section, plural

__all__ = ["SystemReport", "sections"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class SystemReport:
    """An identified system with O outputs and E inputs, beside its predictions.

    Attributes:
        input_names: the E inputs.
        time_unit: of the sample time: "step", "s", ….
        sample_time: of a step.
        correlations: of the residuals with their past and with the inputs.
        frequencies: in cycles per unit of time, ``(F,)``.
        response: of outputs to inputs there, complex ``(F, O, E)``.
        steps: responses to unit steps, ``(S, O, E)``.
        order: n.
        singular_values: that show the order.
        order_criteria: ``{order: (AIC, BIC)}`` of those tried.
        said: why the model is what it is, and what to look at twice.
    """

    input_names: list[str]
    time_unit: str
    sample_time: float
    correlations: Correlations
    frequencies: Array
    response: Array
    steps: Array
    order: int
    singular_values: Array
    order_criteria: dict[int, tuple[float, float]]
    said: Sequence[str] = ()


def sections(report: SystemReport, outputs: Sequence[str]) -> list[Section]:
    """Return the sections of a system, the residuals first; a system without inputs has no responses."""
    figure, notes = residuals(report.correlations, outputs, report.input_names)
    reading = (
        "Bars inside the band (99 %) are what chance makes. A residual e that goes with its own past could be "
        "predicted better: a higher order, or innovations. One that goes with an input of earlier steps (positive "
        "lags) is an effect that the model misses; with later ones (negative lags), the input answers the output: "
        "feedback."
    )
    found = [Section("What the residuals still hold", " ".join((reading, *notes)), [figure], lead=tuple(report.said))]
    if report.input_names:
        found += _responses(report, outputs)
    reading = (
        f"Order {report.order}. Singular values that stand out above the rest are states that the data show. A "
        "criterion is lowest where one more state no longer pays for its parameters."
    )
    chosen = order(report.singular_values, report.order, report.order_criteria)
    return [*found, Section("Choice of the order", reading, [chosen])]


def _responses(report: SystemReport, outputs: Sequence[str]) -> list[Section]:
    nyquist, unit = 0.5 / report.sample_time, report.time_unit
    frequency = bode(report.frequencies, report.response, outputs, report.input_names, nyquist, unit)
    time = np.arange(len(report.steps)) * report.sample_time
    label = f"time after the step, {plural(unit)}"
    return [
        Section(
            "Frequency response",
            "How strongly a wave of each frequency comes through, and how late: −360 degrees are one whole wave. The "
            f"dotted line is the Nyquist frequency, {nyquist:.4g} per {unit}: faster waves cannot be told from slower "
            "ones in these samples.",
            [frequency],
        ),
        Section(
            "Step response",
            "Each output after one input rises from 0 to 1 and stays there, from rest and without the offset.",
            [step(time, report.steps, outputs, report.input_names, label)],
        ),
    ]
