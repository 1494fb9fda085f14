"""`retrograd fit --model state-space`: identify a system from inputs and outputs, judge it, forecast, report."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from retrograd.cli.coming import coming_of, levels_of
from retrograd.cli.judged import goodness_of, understood
from retrograd.cli.results import Results, gradient_note, write_results
from retrograd.cli.run_folder import saved_run
from retrograd.errors import InputError
from retrograd.estimators.identification.analysis import (
    bode_frequencies,
    frequency_response,
    residual_correlation,
    settling_steps,
    step_response,
)
from retrograd.estimators.identification.cautions import IdentificationWarning, runs_worse
from retrograd.estimators.identification.estimator import StateSpace
from retrograd.estimators.identification.system import predict
from retrograd.insight import Sweep, analyse
from retrograd.report import SystemReport, plural
from retrograd.report.summary_tables import summary_tables
from retrograd.tables.read import Table
from retrograd.tables.time_axis import drawn_times

__all__ = ["fit_state_space"]

Array = np.ndarray[Any, Any]

POINTS = 300
# What a caution advises, as options say it.
ARGUMENTS = {
    "raise max_iter, try starts=3, or a lower order": "try another --order",
    "stability=False": "--no-stable",
    ": raise max_order": "; give a higher --order",
}
UNITS = {1e9: "s", 60e9: "min", 3600e9: "h", 86400e9: "day"}


def fit_state_space(
    table: Table,
    start: int,
    horizon: int,
    out: Path,
    *,
    title: str,
    test: str,
    order: str,
    noise: str,
    stable: bool | None,
    level: str,
) -> None:
    """Identify on the training part; predict all, forecast, report."""
    from rich.console import Console

    sample_time, unit = _sample_time(table)
    stability = "auto" if stable is None else stable
    model = StateSpace(_order(order), noise=noise, stability=stability, sample_time=sample_time)
    inputs = _named(table.inputs[: table.steps], table.input_names)
    targets = _named(table.targets, table.target_names)
    given = None if inputs is None else inputs.iloc[:start]
    with Console(stderr=True).status(f"{table.source}: identifying from {start} steps"), warnings.catch_warnings():
        warnings.simplefilter("ignore", IdentificationWarning)
        model.fit(given, targets.iloc[:start])
    one_step = np.asarray(model.predict(inputs, targets, x0=model.x0_[0]))
    free_run = _free_run(model, table, start)
    state = model.state_after(inputs, targets, model.x0_[0])
    future = table.inputs[table.steps : table.steps + horizon] if table.input_names else None
    outputs, levels, found = len(table.target_names), levels_of(level), understood(table)
    said = _notes(model, (*model.cautions_, *_held_out(model, table.targets, free_run, start)))
    coming = coming_of("state-space", model, horizon, outputs, inputs=future, state=state, levels=levels)
    seasons = [each.seasons for each in found]
    goodness = goodness_of([("forecast", model, float("nan"))], table, start, horizon, levels, seasons)
    settings = {
        "model": "state-space", "target": table.target_names, "inputs": table.input_names, "order": model.order_,
        "noise": model.noise_, "stable": stability, "level": level, "test": test, "horizon": horizon,
    }  # fmt: skip
    summary = model.summary()
    _show(str(summary), unit)
    analysis = analyse(
        Sweep.of_estimator(model, given, targets.iloc[:start]), name="(A − K C)" if model.K_.any() else "A"
    )
    write_results(
        out,
        Results(
            title=title,
            table=table,
            start=start,
            one_step=one_step,
            free_run=free_run,
            coming=coming,
            settings=settings,
            saved=saved_run(model, table, horizon, settings, state),
            report={
                **report_of(model, unit, said),
                "summary": summary_tables(summary, unit),
                "analysis": analysis,
                # h_t is the state before step t + 1: the first one is the initial state.
                "delta_time": drawn_times(table.time[1:start]),
                "delta_norm": analysis.flow.delta_norm,
                "trained_on": ("the one-step error" if model.K_.any() else "the free run's error")
                + " over the training part, weighed by its covariance",
            },
            goodness=goodness,
            understood=found,
            notes=(*([] if goodness is None else goodness.sentences()), *said, *gradient_note(analysis)),
        ),
    )


def _free_run(model: StateSpace, table: Table, start: int) -> Array:
    """Return the run over the held-out rows, NaN before them: from the state that holds all of the training part."""
    free_run = np.full((table.steps, len(table.target_names)), np.nan)
    if start < table.steps:
        held_out = table.inputs[start : table.steps] if table.input_names else None
        free_run[start:] = model.simulate(held_out, model.final_state_, steps=table.steps - start)
    return free_run


def _held_out(model: StateSpace, targets: Array, free_run: Array, start: int) -> list[str]:
    """Return a sentence for every target whose free run does not carry over to the held-out rows.

    Without inputs a free run ends at the mean, and the forecasts are held against the naive ones instead.
    """
    if not model.input_names_ or start == len(targets):
        return []
    fitted = model.identified_.judged(model.data_)[0]
    said = [
        runs_worse(name, targets[:start, k], targets[:start, k] - fitted[:, k], targets[start:, k], free_run[start:, k])
        for k, name in enumerate(model.output_names_)
    ]
    instead = "a lower --order" if model.K_.any() else "--noise innovations, a lower --order"
    return [f"{sentence}; try {instead}, or --model recurrent, which is not linear" for sentence in said if sentence]


def _notes(model: StateSpace, cautions: Sequence[str]) -> tuple[str, ...]:
    """Return why the model is what it is, and what to look at twice, in words of the command line."""
    cautions = [caution[0].upper() + caution[1:] + "." for caution in cautions]
    for argument, option in ARGUMENTS.items():
        cautions = [caution.replace(argument, option) for caution in cautions]
    alike = () if model.K_.any() else ("Output error reads no outputs: one step ahead and free run are the same run.",)
    return (*model.reasons_, *alike, *cautions)


def report_of(model: StateSpace, unit: str, said: Sequence[str]) -> dict[str, Any]:
    """Return what the page shows of a system fitted just now, and what is ``said`` of it."""
    system, data = model.system_, model.data_
    found = residual_correlation(data, data.outputs - predict(system, data)[1])
    frequencies = bode_frequencies(system, model.sample_time, POINTS)
    # The start has no iteration; a fit that begins at its minimum has none either.
    history = [
        {"iteration": number, "loss": value, **({} if np.isnan(held_out) else {"validation": held_out})}
        for number, (value, held_out) in enumerate(model.history_, start=1)
    ]
    return {
        "history": history,
        "eigenvalues": model.poles_,
        "closed_loop_eigenvalues": model.identified_.predictor_poles,
        "eigenvalue_names": ("A", "A − K C"),
        "spectrum_reading": "Those of A rule the free run, those of A − K C how long a prediction remembers.",
        "system": SystemReport(
            input_names=list(model.input_names_),
            time_unit=unit,
            sample_time=model.sample_time,
            correlations=found,
            frequencies=frequencies,
            response=frequency_response(system, frequencies, model.sample_time),
            steps=step_response(system, settling_steps(system)),
            order=model.order_,
            singular_values=model.singular_values_,
            order_criteria=model.order_criteria_,
            said=tuple(said),
        ),
    }


def _show(summary: str, unit: str) -> None:
    """Print the summary; parameters, one column a state, only where they fit the terminal."""
    from rich.console import Console

    console = Console()
    head, blank, parameters = summary.partition("\n\nparameters")
    wide = max(map(len, parameters.splitlines()), default=0) > console.width
    console.print(head if wide else head + blank + parameters, markup=False, highlight=False, soft_wrap=True)
    units = f"Time constants in {plural(unit)}, frequencies in cycles per {unit}."
    console.print(units, markup=False, highlight=False)
    if wide:
        console.print("The report has the parameters with their standard errors.")
    console.print()


def _order(text: str) -> int | str:
    if text == "auto":
        return text
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"--order is {text!r}, expected a whole number from 1, or auto")
    return int(text)


def _named(values: Array, names: list[str]) -> Any:
    import pandas as pd

    return pd.DataFrame(values, columns=names) if names else None


def _sample_time(table: Table) -> tuple[float, str]:
    """Return the time from step to step and its unit: 1 step where no clock counts it, as of months."""
    step = table.step
    if table.time_label == "step" or step.kind not in ("number", "day", "elapsed"):
        return 1.0, "step"
    if step.kind == "number":
        return float(step.size), f"unit of {table.time_label}"
    nanoseconds = step.size * (86_400e9 if step.kind == "day" else 1)
    # In the largest unit that a step is at least one of.
    size, unit = max((item for item in UNITS.items() if item[0] <= nanoseconds), default=(1e9, "s"))
    return float(nanoseconds / size), unit
