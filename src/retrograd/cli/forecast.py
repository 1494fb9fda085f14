"""`retrograd forecast`: a saved run says what comes next."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from retrograd.cli.results import TimeAxis, csv
from retrograd.data import read_inputs
from retrograd.errors import InputError
from retrograd.estimators.recurrent import Recurrent
from retrograd.files import write_whole

__all__ = ["forecast"]

Array = np.ndarray[Any, Any]


def forecast(
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
        if out.is_dir() or not out.parent.is_dir():
            raise InputError(f"--out {out} is a folder or lies in none, expected a file in a folder that exists")
        if out.exists() and not overwrite:
            raise InputError(f"{out} exists: use --overwrite to replace it, or --out to name another")
    model, border, inputs, config = Recurrent.load(folder)
    axis = TimeAxis.from_config(config["time"])
    if inputs_file is not None:
        if not model.input_names:
            raise InputError(f"--inputs-file: the model in {folder} has no exogenous inputs")
        inputs = read_inputs(inputs_file, model.input_names)
    if horizon is None:
        horizon = len(inputs) if inputs_file is not None else config["horizon"]
    if horizon < 1:
        raise InputError(f"--horizon is {horizon}, expected at least 1")
    values = model.forecast(border, inputs, horizon)
    columns = {name: values[:, column] for column, name in enumerate(model.target_names)}
    text = csv(axis.label, axis.ahead(horizon), columns)
    if out is None:
        typer.echo(text, nl=False)
        return
    try:
        write_whole(out, text)
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror or error}") from None
    typer.echo(f"Written: {out} ({horizon} steps)", err=True)
