"""Figures of an identified system: residuals, frequency response, step response, choice of the order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from bokeh.models.annotations import BoxAnnotation, Span

from retrograd.pictures.palette import BLACK, BLUE, VERMILLION
from retrograd.report.page import plural
from retrograd.report.plot import COLORS, DASHES, GREY, MOST_PANELS, Notes, Part, Plot

if TYPE_CHECKING:
    from retrograd.report.page import RunReport

__all__ = ["bode", "order", "residuals", "step"]

Array = np.ndarray[Any, Any]

POINTS = 2_000


def residuals(report: RunReport) -> Part | None:
    """Correlation of residuals with their own past, and with every input; None without a system."""
    system = report.system
    if system is None:
        return None
    plots: list[tuple[str, Any]] = []
    for column, name in enumerate(report.target_names):
        plots.append(
            (
                f"{name}: residual with its own past",
                # At lag 0 it is 1 by definition, and would set the scale.
                _correlation(
                    system.correlation_lags[1:], system.residual_correlation[1:, column], system.correlation_band
                ),
            )
        )
        for number, input_name in enumerate(system.input_names):
            values, band = system.input_correlation[:, column, number], system.input_band[column, number]
            plots.append((f"{name}: residual with {input_name}", _correlation(system.input_lags, values, band)))
    shown = f" The first {MOST_PANELS} of {len(plots)} are drawn." if len(plots) > MOST_PANELS else ""
    return Part(
        "What the residuals still hold",
        plots[:MOST_PANELS],
        "Bars inside the band (99 %) are what chance makes. A residual that goes with its own past could be predicted "
        "better: a higher order, or innovations. One that goes with an input of earlier steps (positive lags) is an "
        "effect that the model misses; with later ones (negative lags), the input answers the output: feedback."
        + shown,
    )


def _correlation(lags: Array, values: Array, band: float) -> Any:
    plot = Plot("lag, steps", "correlation", None, height=210)
    plot.figure.add_layout(BoxAnnotation(bottom=-band, top=band, fill_color=BLUE, fill_alpha=0.15, line_color=None))
    plot.figure.add_layout(Span(location=0, dimension="width", line_color=BLACK, line_width=1))
    plot.stems(lags, values, "correlation", BLACK)
    return plot.finished(legend=False)


def bode(report: RunReport) -> Part | None:
    """Magnitude and phase from every input to every output; None without inputs."""
    system = report.system
    if system is None or not system.input_names:
        return None
    notes = Notes()
    label = f"frequency, cycles per {system.time_unit}"
    magnitude = Plot(label, "magnitude, output / input", None, log_x=True, log_y=True, height=280)
    phase = Plot(label, "phase, degrees", None, log_x=True, height=240)
    phase.figure.x_range = magnitude.figure.x_range
    for name, style, q, k in _pairs(report, system.input_names):
        response = system.response[:, q, k]
        magnitude.line(system.frequencies, np.abs(response), name, points=POINTS, notes=notes, width=2, **style)
        turned = np.degrees(np.unwrap(np.angle(response)))
        phase.line(system.frequencies, turned, name, points=POINTS, notes=notes, width=2, **style)
    nyquist = 0.5 / system.sample_time
    for plot in (magnitude, phase):
        plot.figure.add_layout(
            Span(location=nyquist, dimension="height", line_color=BLACK, line_width=1, line_dash=[2, 2])
        )
    return Part(
        "Frequency response",
        [("Magnitude", magnitude.finished()), ("Phase", phase.finished(legend=False))],
        "How strongly a wave of each frequency comes through, and how late: −360 degrees are one whole wave. The "
        f"dotted line is the Nyquist frequency, {nyquist:.4g} per {system.time_unit}: faster waves cannot be told from "
        "slower ones in these samples." + notes.text(),
    )


def step(report: RunReport) -> Part | None:
    """Responses to unit steps; None without inputs."""
    system = report.system
    if system is None or not system.input_names:
        return None
    notes = Notes()
    time = np.arange(len(system.steps)) * system.sample_time
    plots: list[tuple[str, Any]] = []
    # Outputs have units of their own: one scale for all would flatten the small ones.
    for q, output in enumerate(report.target_names[:MOST_PANELS]):
        plot = Plot(f"time after the step, {plural(system.time_unit)}", "output", None, height=260)
        for k, name in enumerate(system.input_names[: len(COLORS) * len(DASHES)]):
            plot.line(
                time, system.steps[:, q, k], f"{name} → {output}", points=POINTS, notes=notes, width=2, **_style(k)
            )
        plots.append((output if len(report.target_names) > 1 else "", plot.finished()))
    return Part(
        "Step response",
        plots,
        "Each output after one input rises from 0 to 1 and stays there, from rest and without the offset."
        + notes.text(),
    )


def order(report: RunReport) -> Part | None:
    """Singular values, and the criteria of the orders tried; None without a system."""
    system = report.system
    if system is None:
        return None
    values = system.singular_values[: max(2 * system.order, 15)]
    plot = Plot("order", "singular value", None, log_y=bool((values > 0).all()), height=260)
    number = np.arange(1, len(values) + 1)
    for chosen, name, color in ((True, "kept", BLUE), (False, "left out", GREY)):
        mask = (number <= system.order) == chosen
        if mask.any():
            plot.markers(number[mask].astype(float), values[mask], name, "circle", color)
    plots = [("Singular values of the subspace", plot.finished())]
    if system.order_criteria:
        orders = np.array(sorted(system.order_criteria), dtype=float)
        least = min(min(pair) for pair in system.order_criteria.values())
        plot, notes = Plot("order", "above the least value", None, height=240), Notes()
        for which, name, color in ((0, "AIC", VERMILLION), (1, "BIC", BLUE)):
            above = np.array([system.order_criteria[int(n)][which] - least for n in orders])
            plot.line(orders, above, name, color, POINTS, notes, width=2)
        plots.append(("Information criteria", plot.finished()))
    return Part(
        "Choice of the order",
        plots,
        f"Order {system.order}. Singular values that stand out above the rest are states that the data show; a "
        "criterion is lowest where one more state no longer pays for its parameters.",
    )


def _pairs(report: RunReport, input_names: list[str]) -> list[tuple[str, dict[str, Any], int, int]]:
    pairs = []
    for number, (q, k) in enumerate(np.ndindex(len(report.target_names), len(input_names))):
        pairs.append((f"{input_names[k]} → {report.target_names[q]}", _style(number), q, k))
    return pairs[: len(COLORS) * len(DASHES)]


def _style(number: int) -> dict[str, Any]:
    return {"color": COLORS[number % len(COLORS)], "dash": DASHES[number // len(COLORS) % len(DASHES)]}
