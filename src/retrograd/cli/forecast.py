"""`retrograd forecast`: a saved run says what comes next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from retrograd.cli.results import TimeAxis, csv, forecast_columns
from retrograd.cli.run_folder import read_run, require_kind, require_new_file, write_new
from retrograd.errors import InputError
from retrograd.estimators.recurrent.estimator import Recurrent
from retrograd.tables.read import read_inputs

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
        require_new_file(out, overwrite=overwrite)
    run = _RUNS[require_kind(folder, _RUNS)](folder)
    inputs = run.inputs
    if inputs_file is not None:
        if not run.input_names:
            raise InputError(f"--inputs-file: the model in {folder} has no exogenous inputs")
        inputs = read_inputs(inputs_file, run.input_names)
    if horizon is None:
        horizon = len(inputs) if inputs_file is not None else run.horizon
        if horizon == 0 and run.input_names and inputs_file is None:
            raise InputError(
                f"the inputs {', '.join(run.input_names)} are not known beyond the data of {folder}: give those of "
                "the coming steps with --inputs-file"
            )
    if horizon < 1:
        raise InputError(f"--horizon is {horizon}, expected at least 1")
    if run.input_names and len(inputs) < horizon:
        raise InputError(
            f"--horizon is {horizon}, but the inputs {', '.join(run.input_names)} are known for {len(inputs)} "
            "steps after the last target: add rows with empty targets, or take a shorter horizon"
        )
    mean, lower, upper = run.forecast(inputs, horizon)
    text = csv(run.axis.label, run.axis.ahead(horizon), forecast_columns(run.names, mean, lower, upper))
    if out is None:
        typer.echo(text, nl=False)
        return
    write_new(out, text)
    typer.echo(f"Written: {out} ({horizon} steps)", err=True)


@dataclass(frozen=True)
class _Run:
    """A saved run, whatever its model: ``forecast`` takes inputs and a horizon; returns mean, lower, upper."""

    names: list[str]
    input_names: list[str]
    axis: TimeAxis
    horizon: int
    inputs: Array
    forecast: Callable[[Array, int], tuple[Array, Array | None, Array | None]]


def _recurrent(folder: Path) -> _Run:
    model, border, inputs, config = Recurrent.load(folder)
    axis = TimeAxis.from_config(config["time"])
    return _Run(
        model.target_names,
        model.input_names,
        axis,
        config["horizon"],
        inputs,
        lambda z, horizon: (model.forecast(border, z, horizon), None, None),
    )


def _state_space(folder: Path) -> _Run:
    from retrograd.estimators.identification.estimator import StateSpace

    model = StateSpace.load(folder)
    run, axis, inputs = read_run(folder)

    def forecast(z: Array, horizon: int) -> tuple[Array, Array, Array]:
        # The saved state is that at the end of the training part; the run's border is the end of the data.
        coming = model.forecast(horizon, z if model.input_names_ else None, state=np.array(run["state"]))
        return coming.mean, coming.lower, coming.upper

    return _Run(run["targets"], run["inputs"], axis, run["horizon"], inputs, forecast)


def _forecaster(folder: Path) -> _Run:
    from retrograd.cli.fit_forecaster import interval_of
    from retrograd.estimators.forecasting.estimator import Forecaster

    model = Forecaster.load(folder)
    run, axis, inputs = read_run(folder)

    def forecast(z: Array, horizon: int) -> tuple[Array, Array, Array]:
        return interval_of(model, horizon, z[:horizon] if run["inputs"] else None, len(run["targets"]))

    return _Run(run["targets"], run["inputs"], axis, run["horizon"], inputs, forecast)


_RUNS: dict[str, Callable[[Path], _Run]] = {
    "recurrent": _recurrent,
    "state-space": _state_space,
    "forecaster": _forecaster,
}
