"""`retrograd compare`: identified systems held against measured data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from retrograd.cli.run_folder import require_kind, require_new_file, write_new
from retrograd.data import read_table
from retrograd.errors import InputError

__all__ = ["compare"]


def compare(
    arguments: Annotated[
        list[str], typer.Argument(metavar="DIR... DATA", help="Run folders of state-space fits, then one table.")
    ],
    ahead: Annotated[int, typer.Option("--steps-ahead", help="Judge predictions this many steps ahead too.")] = 1,
    rows: Annotated[
        str | None, typer.Option("--rows", metavar="A:B", help="Only these rows of the data, from 1, B included.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.png", help="Draw the free runs beside the data.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the picture if it exists.")] = False,
) -> None:
    """Compare models with data: fit % and RMSE of the free run and of predictions, output by output.

    Each free run starts from the state that fits the data best.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table as Grid

    from retrograd.estimators.state_space import StateSpace

    if len(arguments) < 2:
        raise InputError("compare wants at least one run folder and one table: retrograd compare DIR DATA")
    if ahead < 1:
        raise InputError(f"--steps-ahead is {ahead}, expected at least 1")
    if out is not None:
        require_new_file(out, overwrite=overwrite)
        if out.suffix.lower() not in (".png", ".svg", ".pdf"):
            raise InputError(f"--out {out} is no picture: expected .png, .svg or .pdf")
    *folders, source = arguments
    grid = Grid(title=f"Against {escape(source)}", title_justify="left")
    for heading in ("model", "output", "free run, fit %", "RMSE", f"{ahead} ahead, fit %", "RMSE"):
        grid.add_column(heading, justify="left" if heading in ("model", "output") else "right")
    figures = []
    for name in folders:
        folder = Path(name)
        require_kind(folder, ("state-space",))
        model = StateSpace.load(folder)
        table = read_table(source, targets=model.output_names_, inputs=model.input_names_, missing_targets=True)
        part = _rows(rows, table.steps)
        U = table.inputs[: table.steps][part] if model.input_names_ else None
        Y = table.targets[part]
        free = np.asarray(model.simulate(U, model.initial_state(U, Y, free=True), steps=len(Y)))
        predicted = np.asarray(model.predict(U, Y, ahead))
        fits = model.fit_percent(U, Y), model.fit_percent(U, Y, k=ahead)
        for column, output in enumerate(model.output_names_):
            errors = [np.sqrt(np.nanmean((values[:, column] - Y[:, column]) ** 2)) for values in (free, predicted)]
            grid.add_row(
                escape(name), escape(output), f"{fits[0][column]:.2f}", f"{errors[0]:.4g}",
                f"{fits[1][column]:.2f}", f"{errors[1]:.4g}",
            )  # fmt: skip
        figures.append((name, model, U, Y))
    Console().print(grid)
    if out is not None:
        import io

        from retrograd.estimators.plots import compare_models

        buffer = io.BytesIO()
        compare_models([(name, model) for name, model, _, _ in figures], figures[0][2], figures[0][3]).savefig(
            buffer, format=out.suffix[1:], dpi=150
        )
        write_new(out, buffer.getvalue())
        typer.echo(f"Written: {out}", err=True)


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
