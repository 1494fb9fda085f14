"""`retrograd compare`: saved runs of any kind held against measured data."""

from __future__ import annotations

import io
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from retrograd.cli.options import Reading, reads_tables
from retrograd.cli.outputs import require_new_file, write_new
from retrograd.cli.run_folder import KINDS
from retrograd.errors import InputError, require_whole
from retrograd.estimators.model_files import Saved, require_names, restored
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
    arguments: Annotated[list[str], typer.Argument(metavar="DIR... DATA", help="Run folders, then one table.")],
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
    """Compare models with data: fit % and RMSE of predictions and of systems' free runs, output by output.

    A state-space model starts from the state that fits the data best; the others look back at the data's first rows.
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
class _Model:
    """A saved model: its kind, and the columns that it is about."""

    kind: str
    model: Any
    outputs: list[str]
    inputs: list[str]

    @property
    def described(self) -> str:
        """What it is, in a few words."""
        return f"order {self.model.order_}, {self.model.noise_}" if self.kind == "state-space" else self.kind


@dataclass(frozen=True)
class _Judged:
    """A model on the data: its free run and its predictions ``(N, p)``, and for each output how good they are."""

    name: str
    model: _Model
    free_run: Array
    ahead: Array
    numbers: dict[str, dict[str, float]]


def _load(name: str) -> _Model:
    return restored(Path(name), tuple(KINDS), _model)


def _model(saved: Saved) -> _Model:
    model, run = getattr(import_module("retrograd.estimators"), KINDS[saved.kind]).from_saved(saved), saved.run or {}
    if "series" in run:
        raise InputError("it has many series: compare takes runs of one table of rows in order of time")
    if saved.kind == "state-space":
        return _Model(saved.kind, model, list(model.output_names_), list(model.input_names_))
    if saved.kind == "recurrent":
        return _Model(saved.kind, model, list(model.network_.target_names), list(model.network_.input_names))
    # A forecaster of a run was fitted to arrays: the run has the names.
    columns = list(map(str, model._columns)), list(map(str, model._input_names))
    outputs, inputs = (require_names(run[name], name) for name in ("targets", "inputs")) if run else columns
    if (len(outputs), len(inputs)) != tuple(map(len, columns)):
        raise InputError("the columns of the run are not those of its model")
    return _Model(saved.kind, model, outputs, inputs)


def _read(source: str, models: list[_Model], time: str | None, reading: Reading) -> Table:
    """Read every column that a model asks for."""
    outputs = list(dict.fromkeys(name for model in models for name in model.outputs))
    inputs = list(dict.fromkeys(name for model in models for name in model.inputs))
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


def _judge(name: str, model: _Model, table: Table, part: slice, ahead: int) -> _Judged:
    from retrograd.estimators.evaluation import errors

    U, Y = _data(model, table, part)
    if model.kind == "state-space":
        free_run, predicted = _of_system(name, model.model, U, Y, table.source, ahead)
    else:
        free_run, predicted = np.full_like(Y, np.nan), _predicted(name, model, U, Y, table.time[part], ahead)
    numbers = {
        output: {
            "free run, fit %": _percent(Y[:, column], free_run[:, column]),
            "free run, RMSE": errors(Y[:, column], free_run[:, column])["RMSE"],
            f"{ahead} ahead, fit %": _percent(Y[:, column], predicted[:, column]),
            f"{ahead} ahead, RMSE": errors(Y[:, column], predicted[:, column])["RMSE"],
        }
        for column, output in enumerate(model.outputs)
    }
    return _Judged(name, model, free_run, predicted, numbers)


def _percent(y: Array, predicted: Array) -> float:
    """Return 100 (1 − ‖y − ŷ‖ / ‖y − mean‖) over the steps that have both; NaN where y is constant."""
    there = np.isfinite(y) & ~np.isnan(predicted)
    spread = float(np.linalg.norm(y[there] - y[there].mean())) if there.any() else 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        return 100 * (1 - float(np.linalg.norm(y[there] - predicted[there])) / spread) if spread > 0 else float("nan")


def _of_system(name: str, model: StateSpace, U: Array | None, Y: Array, source: str, ahead: int) -> tuple[Array, Array]:
    there = int((~np.isnan(Y)).sum())
    if there <= model.order_:
        raise InputError(
            f"{source} has {there} measured outputs there, {name} needs more than its {model.order_} states to "
            "find where they start"
        )
    free_run = np.asarray(model.simulate(U, model.initial_state(U, Y, free=True), steps=len(Y)))
    return free_run, np.asarray(model.predict(U, Y, ahead))


def _predicted(name: str, model: _Model, U: Array | None, Y: Array, times: Any, ahead: int) -> Array:
    """Return predictions so many steps ahead, NaN for the first rows, which they look back at."""
    import pandas as pd

    from retrograd.estimators.backtesting import Origins
    from retrograd.estimators.rolling import roll

    y = pd.DataFrame(Y, index=times, columns=model.outputs)
    X = None if U is None else pd.DataFrame(U, index=times, columns=model.inputs)
    found, steps = np.full_like(Y, np.nan), np.arange(1, ahead + 1)
    if model.kind == "recurrent":
        if ahead == 1:
            return np.asarray(model.model.predict(Y, U))
        first = 2
    elif model.kind == "auto":
        if ahead > len(model.model.steps):
            raise InputError(f"--steps-ahead is {ahead}, but {name} was fitted for {len(model.model.steps)} steps")
        first, steps = model.model.least, model.model.steps
    else:
        first = model.model._model.states.burn + 1
    if first + len(steps) > len(Y):
        raise InputError(
            f"the data have {len(Y)} rows there, {name} needs {first + len(steps)}: {first} to look back at, "
            f"{len(steps)} ahead"
        )
    forecasts = roll(model.model, y, X, Origins(first, len(Y), steps))[0][:, ahead - 1]
    found[first + ahead - 1 : first + ahead - 1 + len(forecasts)] = forecasts
    return found


def _data(model: _Model, table: Table, part: slice) -> tuple[Array | None, Array]:
    """Return the inputs and outputs that a model is about, in its order."""
    columns = [table.input_names.index(name) for name in model.inputs]
    U = table.inputs[: table.steps][part][:, columns] if columns else None
    return U, table.targets[part][:, [table.target_names.index(name) for name in model.outputs]]


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
        result[:, [table.target_names.index(name) for name in one.model.outputs]] = values
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
            **{f"model {one.name}": one.model.described for one in judged},
        },
    )
    try:
        write_comparison(out, report)
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror or error}") from None


def _picture(judged: list[_Judged], table: Table, part: slice, kind: str) -> bytes:
    first = judged[0].model
    for one in judged[1:]:
        if (one.model.inputs, one.model.outputs) != (first.inputs, first.outputs):
            raise InputError(
                f"{judged[0].name} and {one.name} have other inputs or outputs: a picture shows models of the same "
                "ones; a page (--out FILE.html) shows any"
            )
    buffer = io.BytesIO()
    U, Y = _data(first, table, part)
    if all(one.model.kind == "state-space" for one in judged):
        from retrograd.estimators.identification.plots import compare_models

        drawn = compare_models([(one.name, one.model.model.identified_) for one in judged], U, Y)
    else:
        from retrograd.pictures.palette import BLACK, LINES
        from retrograd.pictures.series import Line, series

        lines = [Line(one.name, one.ahead, LINES[k % 4], 2.5) for k, one in enumerate(judged)]
        lines.append(Line("measured", Y, BLACK, 1, measured=True))
        drawn, _ = series(drawn_times(table.time[part]), table.time_label, first.outputs, lines, len(Y))
    drawn.savefig(buffer, format=kind, dpi=150)
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
