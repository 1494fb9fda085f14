"""`retrograd simulate`: what an identified system does for new inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from retrograd.cli.coming import Coming
from retrograd.cli.options import Reading, reads_tables
from retrograd.cli.outputs import require_new_file, write_new
from retrograd.cli.results import csv, forecast_columns
from retrograd.cli.run_folder import MOST_STEPS, read_run
from retrograd.errors import InputError, require_choice, require_whole
from retrograd.tables import read_inputs

__all__ = ["simulate"]


@reads_tables
def simulate(
    reading: Reading,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run folder of `retrograd fit --model state-space`.")],
    inputs_file: Annotated[
        str | None, typer.Argument(metavar="[FILE]", help="Table with the run's input columns; none without inputs.")
    ] = None,
    x0: Annotated[
        str, typer.Option("--x0", help="Start: zero, fit (as the data of the fit began), or end (where they end).")
    ] = "zero",
    steps: Annotated[int | None, typer.Option("--steps", help="How many, for a system without inputs.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.csv", help="Where to write. Default: standard output.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output file if it exists.")] = False,
) -> None:
    """Run an identified system freely: outputs from inputs alone."""
    require_choice("--x0", x0, ("zero", "fit", "end"))
    if out is not None:
        require_new_file(out, overwrite=overwrite)
    run = read_run(folder, ("state-space",))
    model = run.model
    if model.input_names_ and inputs_file is None:
        raise InputError(f"FILE is missing: a table with the columns {', '.join(model.input_names_)}")
    if not model.input_names_ and (inputs_file is not None or steps is None):
        raise InputError(f"the system in {folder} has no inputs: give --steps, and no FILE")
    if steps is not None:
        require_whole("--steps", steps, 1, MOST_STEPS)
    inputs = None
    if inputs_file is not None:
        inputs = read_inputs(inputs_file, list(model.input_names_), axis=reading.axis, file=reading.file).values
    if inputs is not None and steps is not None:
        if steps > len(inputs):
            raise InputError(f"--steps is {steps}, {inputs_file} has {len(inputs)} rows")
        inputs = inputs[:steps]
    start = {"zero": np.zeros(model.order_), "fit": model.x0_[0], "end": run.state}[x0]
    outputs = np.asarray(model.simulate(inputs, start, steps=steps))
    text = csv("step", np.arange(1, len(outputs) + 1), forecast_columns(run.targets, Coming(outputs)))
    if out is None:
        typer.echo(text, nl=False)
        return
    write_new(out, text)
    typer.echo(f"Written: {out} ({len(outputs)} steps)", err=True)
