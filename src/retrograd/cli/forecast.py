"""`retrograd forecast`: a saved run says what comes next."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from retrograd.cli.coming import Coming, coming_of, comings_of, comings_of_networks, far_inputs, levels_of
from retrograd.cli.going_on import panel_after, run_after
from retrograd.cli.options import Reading, names_of, reads_tables
from retrograd.cli.outputs import require_new_file, write_new
from retrograd.cli.results import csv, forecast_columns, long_csv
from retrograd.cli.run_folder import MOST_STEPS, Panel, Run, read_any
from retrograd.errors import InputError, require_whole
from retrograd.tables import read_inputs

__all__ = ["forecast"]

Array = np.ndarray[Any, Any]


@reads_tables
def forecast(
    reading: Reading,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run folder that `retrograd fit` wrote.")],
    horizon: Annotated[
        int | None,
        typer.Option("--horizon", help="Steps to forecast. Default: that of the run, or as far as the inputs reach."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data", metavar="FILE", help="Table with rows that came since: forecast from their end, with no new fit."
        ),
    ] = None,
    inputs_file: Annotated[
        str | None,
        typer.Option("--inputs-file", metavar="FILE", help="Table with the run's input columns for the coming steps."),
    ] = None,
    series: Annotated[
        list[str] | None, typer.Option("--series", help="Of a run of many series, those to forecast: repeat, or a,b.")
    ] = None,
    level: Annotated[
        str | None, typer.Option("--level", help="Of the intervals, in per cent: 80,95. Default: that of the run.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.csv", help="Where to write. Default: standard output.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output file if it exists.")] = False,
) -> None:
    """Forecast from a saved run: the steps after its data."""
    if out is not None:
        require_new_file(out, overwrite=overwrite)
    run = read_any(folder)
    if isinstance(run, Panel):
        if inputs_file is not None:
            raise InputError(f"--inputs-file: the model in {folder} has no exogenous inputs")
        run = run if data is None else panel_after(run, data, reading)
        text, steps = _of_panel(run, horizon, names_of(series or [], run.axes) or list(run.axes), level)
    else:
        if series:
            raise InputError(f"--series is for a run of many series, and {folder} has one: leave it out")
        run = run if data is None else run_after(run, data, reading)
        text, steps = _of_one(run, folder, horizon, inputs_file, level, reading)
    if out is None:
        typer.echo(text, nl=False)
        return
    write_new(out, text)
    typer.echo(f"Written: {out} ({steps} steps)", err=True)


def _of_panel(panel: Panel, horizon: int | None, names: Sequence[str], level: str | None) -> tuple[bytes, int]:
    """Return the forecasts of some series, below each other, and how many steps each has."""
    for name in names:
        if name not in panel.axes:
            raise InputError(f"--series names {name!r}, which the run does not have: {', '.join(panel.axes)}")
    steps = panel.horizon if horizon is None else require_whole("--horizon", horizon, 1, MOST_STEPS)
    levels = levels_of(panel.settings.get("level", "95") if level is None else level)
    if panel.kind == "recurrent-panel":
        coming = comings_of_networks(panel.model, names, steps, levels)
    else:
        coming = comings_of(panel.model, names, len(panel.targets), steps, levels)
    for name in names:
        _require_finite(coming[name])
    parts = {name: (panel.axes[name].ahead(steps), forecast_columns(panel.targets, coming[name])) for name in names}
    return long_csv(parts, panel.series, panel.axes[names[0]].label), steps


def _of_one(
    run: Run, folder: Path, horizon: int | None, inputs_file: str | None, level: str | None, reading: Reading
) -> tuple[bytes, int]:
    """Return the forecast of one series, and how many steps it has."""
    inputs = run.future_inputs
    if inputs_file is not None:
        if not run.inputs:
            raise InputError(f"--inputs-file: the model in {folder} has no exogenous inputs")
        time = None if run.axis.label == "step" else run.axis.label
        given = read_inputs(inputs_file, run.inputs, time=time, axis=reading.axis, file=reading.file)
        inputs = given.ahead(run.axis, horizon, inputs_file)
        if run.input_ranges is not None:
            for line in far_inputs(inputs_file, run.inputs, inputs, run.input_ranges):
                typer.echo(line, err=True)
    if horizon is None:
        horizon = len(inputs) if inputs_file is not None else run.horizon
        if horizon == 0 and run.inputs and inputs_file is None and run.kind != "auto":
            raise InputError(
                f"the inputs {', '.join(run.inputs)} are not known beyond the data of {folder}: give those of "
                "the coming steps with --inputs-file"
            )
    require_whole("--horizon", horizon, 1, MOST_STEPS)
    known = _known(run, inputs, horizon)
    asked = run.settings.get("level", "95") if level is None else level
    # A recurrent run of an older version has none.
    bare = run.kind == "recurrent" and level is None and not hasattr(run.model, "innovation_covariance_")
    # The model's own state is that at the end of the training part; the run's is that at the end of the data.
    coming = coming_of(
        run.kind,
        run.model,
        horizon,
        len(run.targets),
        inputs=inputs[:horizon] if known else None,
        times=run.axis.ahead(horizon),
        state=run.state,
        levels=() if bare else levels_of(asked),
    )
    _require_finite(coming)
    text = csv(run.axis.label, run.axis.ahead(horizon), forecast_columns(run.targets, coming))
    return text, horizon


def _require_finite(coming: Coming) -> None:
    """Raise InputError where the forecast, or an end of its intervals, is not finite."""
    ends = [end for both in coming.intervals.values() for end in both]
    for parts, what, why in (
        ([coming.mean], "the forecast is not finite", "the model's own loop grows without bound"),
        (ends, "the forecast is finite, but its intervals are not", "the model's errors are too large"),
    ):
        wild = [int(np.argwhere(~np.isfinite(part))[0][0]) + 1 for part in parts if not np.isfinite(part).all()]
        if wild:
            step = min(wild)
            advice = f"take a --horizon below {step}" if step > 1 else "look for wild values in the data, and fit again"
            raise InputError(f"{what} from step {step} on: {why}; {advice}")


def _known(run: Run, inputs: Array, horizon: int) -> bool:
    """Return whether the inputs reach as far as the forecast; say so where it can do without, refuse where it cannot.

    Raises:
        InputError: they do not, and the model needs them.
    """
    if not run.inputs or len(inputs) >= horizon:
        return bool(run.inputs)
    names = ", ".join(run.inputs)
    if run.kind != "auto":
        raise InputError(
            f"--horizon is {horizon}, but the inputs {names} are known for {len(inputs)} steps after the last target: "
            "give those of all steps with --inputs-file, or take a shorter horizon"
        )
    if run.model.takes_inputs:
        typer.echo(
            f"The inputs {names} are known for {len(inputs)} of the {horizon} steps: the forecast takes none of them; "
            "--inputs-file gives those of all steps",
            err=True,
        )
    return False
