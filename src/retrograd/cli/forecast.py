"""`retrograd forecast`: a saved run says what comes next."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from retrograd.cli.options import Reading, reads_tables
from retrograd.cli.outputs import require_new_file, write_new
from retrograd.cli.results import csv, forecast_columns
from retrograd.cli.run_folder import MOST_STEPS, Run, read_run
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
    inputs_file: Annotated[
        str | None,
        typer.Option("--inputs-file", metavar="FILE", help="Table with the run's input columns for the coming steps."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.csv", help="Where to write. Default: standard output.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output file if it exists.")] = False,
) -> None:
    """Forecast from a saved run: the steps after its data."""
    if out is not None:
        require_new_file(out, overwrite=overwrite)
    run = read_run(folder)
    inputs = run.future_inputs
    if inputs_file is not None:
        if not run.inputs:
            raise InputError(f"--inputs-file: the model in {folder} has no exogenous inputs")
        time = None if run.axis.label == "step" else run.axis.label
        given = read_inputs(inputs_file, run.inputs, time=time, axis=reading.axis, file=reading.file)
        inputs = given.ahead(run.axis, horizon, inputs_file)
    if horizon is None:
        horizon = len(inputs) if inputs_file is not None else run.horizon
        if horizon == 0 and run.inputs and inputs_file is None:
            raise InputError(
                f"the inputs {', '.join(run.inputs)} are not known beyond the data of {folder}: give those of "
                "the coming steps with --inputs-file"
            )
    require_whole("--horizon", horizon, 1, MOST_STEPS)
    if run.inputs and len(inputs) < horizon:
        raise InputError(
            f"--horizon is {horizon}, but the inputs {', '.join(run.inputs)} are known for {len(inputs)} "
            "steps after the last target: add rows with empty targets, or take a shorter horizon"
        )
    mean, lower, upper = _forecast(run, inputs[:horizon] if run.inputs else None, horizon)
    for part in (mean, lower, upper):
        if part is not None and not np.isfinite(part).all():
            step = int(np.argwhere(~np.isfinite(part))[0][0]) + 1
            raise InputError(
                f"the forecast is not finite from step {step} on: the model's own loop grows without bound; take a "
                f"--horizon below {step}"
            )
    text = csv(run.axis.label, run.axis.ahead(horizon), forecast_columns(run.targets, mean, lower, upper))
    if out is None:
        typer.echo(text, nl=False)
        return
    write_new(out, text)
    typer.echo(f"Written: {out} ({horizon} steps)", err=True)


def _forecast(run: Run, inputs: Array | None, horizon: int) -> tuple[Array, Array | None, Array | None]:
    """Return what comes next, and the ends of its interval where the model gives one."""
    if run.kind == "forecaster":
        from retrograd.cli.fit_forecaster import interval_of

        return interval_of(run.model, horizon, inputs, len(run.targets))
    if run.kind == "auto":
        from retrograd.cli.fit_auto import auto_interval_of

        return auto_interval_of(run.model, horizon, inputs, run.axis.ahead(horizon))
    # The model's own state is that at the end of the training part; the run's is that at the end of the data.
    coming = run.model.forecast(horizon, inputs, state=run.state)
    return (coming, None, None) if run.kind == "recurrent" else (coming.mean, coming.lower, coming.upper)
