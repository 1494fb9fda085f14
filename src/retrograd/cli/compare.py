"""`retrograd compare`: identified systems held against measured data."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from retrograd.cli.options import Reading, reads_tables
from retrograd.cli.outputs import require_new_file, write_new
from retrograd.errors import InputError, require_whole
from retrograd.tables.read import Table, read_table
from retrograd.tables.time_axis import drawn_times

if TYPE_CHECKING:
    from retrograd.estimators.identification.estimator import StateSpace

__all__ = ["compare"]

Array = np.ndarray[Any, Any]

PICTURES = (".png", ".svg", ".pdf")


@reads_tables
def compare(
    reading: Reading,
    arguments: Annotated[
        list[str], typer.Argument(metavar="DIR... DATA", help="Run folders of state-space fits, then one table.")
    ],
    ahead: Annotated[int, typer.Option("--steps-ahead", help="Judge predictions this many steps ahead too.")] = 1,
    rows: Annotated[
        str | None, typer.Option("--rows", metavar="A:B", help="Only these rows of the data, from 1, B included.")
    ] = None,
    time: Annotated[str | None, typer.Option("--time", help="Column with dates or numbers, for the page.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="A page (.html), or a picture (.png, .svg, .pdf).")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output file if it exists.")] = False,
) -> None:
    """Compare models with data: fit % and RMSE of the free run and of predictions, output by output.

    Each run starts from the state that fits the data best.
    """
    if len(arguments) < 2:
        raise InputError("compare wants at least one run folder and one table: retrograd compare DIR DATA")
    require_whole("--steps-ahead", ahead)
    if out is not None:
        require_new_file(out, overwrite=overwrite)
        if out.suffix.lower() not in (".html", *PICTURES):
            raise InputError(f"--out {out} is no page and no picture: expected .html, .png, .svg or .pdf")
    *folders, source = arguments
    models = {name: _load(name) for name in folders}
    table = _read(source, list(models.values()), time, reading)
    part = _rows(rows, table.steps)
    judged = [_judge(name, model, table, part, ahead) for name, model in models.items()]
    _show(source, judged, ahead)
    if out is None:
        return
    if out.suffix.lower() == ".html":
        _write_page(out, source, table, part, judged, ahead)
    else:
        write_new(out, _picture(judged, table, part, out.suffix.lower()[1:]))
    typer.echo(f"Written: {out}", err=True)


@dataclass(frozen=True)
class _Judged:
    """A model on the data: its free run and its predictions ``(N, p)``, and for each output how good they are."""

    name: str
    model: StateSpace
    free_run: Array
    ahead: Array
    numbers: dict[str, dict[str, float]]


def _load(name: str) -> StateSpace:
    from retrograd.estimators.identification.estimator import StateSpace

    return StateSpace.load(name)


def _read(source: str, models: list[StateSpace], time: str | None, reading: Reading) -> Table:
    """Read every column that a model asks for."""
    outputs = list(dict.fromkeys(name for model in models for name in model.output_names_))
    inputs = list(dict.fromkeys(name for model in models for name in model.input_names_))
    for name in outputs:
        if name in inputs:
            raise InputError(f"{name!r} is an output of one model and an input of another: compare them one by one")
    return read_table(
        source,
        targets=outputs,
        inputs=inputs,
        time=time,
        missing_targets=True,
        axis=reading.axis,
        file=reading.file,
    )


def _judge(name: str, model: StateSpace, table: Table, part: slice, ahead: int) -> _Judged:
    from retrograd.estimators.evaluation import errors
    from retrograd.estimators.identification.analysis import fit_percent
    from retrograd.estimators.identification.experiments import read_experiments

    U, Y = _data(model, table, part)
    there = int((~np.isnan(Y)).sum())
    if there <= model.order_:
        raise InputError(
            f"{table.source} has {there} measured outputs there, {name} needs more than its {model.order_} states to "
            "find where they start"
        )
    free_run = np.asarray(model.simulate(U, model.initial_state(U, Y, free=True), steps=len(Y)))
    predicted = np.asarray(model.predict(U, Y, ahead))
    data = read_experiments(U, Y)
    fits = fit_percent(data, free_run), fit_percent(data, predicted)
    numbers = {
        output: {
            "free run, fit %": float(fits[0][column]),
            "free run, RMSE": errors(Y[:, column], free_run[:, column])["RMSE"],
            f"{ahead} ahead, fit %": float(fits[1][column]),
            f"{ahead} ahead, RMSE": errors(Y[:, column], predicted[:, column])["RMSE"],
        }
        for column, output in enumerate(model.output_names_)
    }
    return _Judged(name, model, free_run, predicted, numbers)


def _data(model: StateSpace, table: Table, part: slice) -> tuple[Array | None, Array]:
    """Return the inputs and outputs that a model is about, in its order."""
    columns = [table.input_names.index(name) for name in model.input_names_]
    U = table.inputs[: table.steps][part][:, columns] if columns else None
    return U, table.targets[part][:, [table.target_names.index(name) for name in model.output_names_]]


def _show(source: str, judged: list[_Judged], ahead: int) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table as Grid

    grid = Grid(title=f"Against {escape(source)}", title_justify="left")
    for heading in ("model", "output", "free run, fit %", "RMSE", f"{ahead} ahead, fit %", "RMSE"):
        grid.add_column(heading, justify="left" if heading in ("model", "output") else "right")
    for one in judged:
        for output, values in one.numbers.items():
            # A constant output has no spread to be a percentage of.
            cells = ["–" if np.isnan(v) else format(v, ".2f" if "%" in name else ".4g") for name, v in values.items()]
            grid.add_row(escape(one.name), escape(output), *cells)
    Console().print(grid)


def _write_page(out: Path, source: str, table: Table, part: slice, judged: list[_Judged], ahead: int) -> None:
    from retrograd.report import ComparisonReport, write_comparison

    def of_all(one: _Judged, values: Array) -> Array:
        """Values of a model's outputs among all outputs; NaN where it has none."""
        result = np.full((part.stop - part.start, len(table.target_names)), np.nan)
        result[:, [table.target_names.index(name) for name in one.model.output_names_]] = values
        return result

    report = ComparisonReport(
        title=f"{', '.join(one.name for one in judged)} against {Path(source).stem}",
        output_names=table.target_names,
        time_label=table.time_label,
        time=drawn_times(table.time[part]),
        observed=table.targets[part],
        model_names=[one.name for one in judged],
        free_runs=[of_all(one, one.free_run) for one in judged],
        steps_ahead=ahead,
        ahead=[of_all(one, one.ahead) for one in judged],
        metrics={f"{one.name}: {output}": values for one in judged for output, values in one.numbers.items()},
        settings={
            "data": source,
            "rows": f"{part.start + 1} to {part.stop}",
            "steps-ahead": str(ahead),
            **{f"model {one.name}": f"order {one.model.order_}, {one.model.noise_}" for one in judged},
        },
    )
    try:
        write_comparison(out, report)
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror or error}") from None


def _picture(judged: list[_Judged], table: Table, part: slice, kind: str) -> bytes:
    from retrograd.estimators.identification.plots import compare_models

    first = judged[0].model
    for one in judged[1:]:
        if (one.model.input_names_, one.model.output_names_) != (first.input_names_, first.output_names_):
            raise InputError(
                f"{judged[0].name} and {one.name} have other inputs or outputs: a picture shows models of the same "
                "ones; a page (--out FILE.html) shows any"
            )
    buffer = io.BytesIO()
    U, Y = _data(first, table, part)
    compare_models([(one.name, one.model.identified_) for one in judged], U, Y).savefig(buffer, format=kind, dpi=150)
    return buffer.getvalue()


def _rows(text: str | None, steps: int) -> slice:
    if text is None:
        return slice(0, steps)
    first, colon, last = text.partition(":")
    try:
        start, stop = int(first or 1), int(last or steps)
    except ValueError:
        start, stop = 0, 0
    if not colon or not 1 <= start < stop <= steps:
        raise InputError(f"--rows is {text!r}, expected A:B with 1 <= A < B <= {steps}, the rows of the data")
    return slice(start - 1, stop)
