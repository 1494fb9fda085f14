"""`retrograd backtest`: models and naive forecasts on the same rows, from every origin in turn."""

from __future__ import annotations

import io
import time as clock
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from retrograd.cli.bar import bar
from retrograd.cli.coming import levels_of
from retrograd.cli.options import Reading, names_of, reads_tables
from retrograd.cli.outputs import require_new_file, write_new
from retrograd.cli.target import targets_of
from retrograd.errors import InputError, require_choice, require_whole
from retrograd.tables import Table, read_table, split_index
from retrograd.tables.source import columns_of

__all__ = ["backtest"]

FORMATS = (".html", ".csv", ".png", ".svg", ".pdf")


@reads_tables
def backtest(
    reading: Reading,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A .csv, .parquet or .xlsx table, or airline, sunspots, hair_dryer.")
    ],
    target: Annotated[
        list[str] | None, typer.Option("--target", help="Column to predict (needed); several: repeat, or a,b.")
    ] = None,
    models: Annotated[
        str, typer.Option("--models", help="Of auto, forecaster, state-space, recurrent: a,b. None: baselines alone.")
    ] = "auto,forecaster,state-space",
    inputs: Annotated[
        list[str] | None, typer.Option("--inputs", help="Exogenous columns, known ahead; several: repeat, or a,b.")
    ] = None,
    time: Annotated[str | None, typer.Option("--time", help="Column with dates or numbers that increase.")] = None,
    fill: Annotated[str | None, typer.Option("--fill", help="Fill missing values: forward or linear.")] = None,
    horizon: Annotated[int | None, typer.Option("--horizon", help="Steps to forecast. Default: 10.")] = None,
    test: Annotated[
        str, typer.Option("--test", help="Held-out end: a fraction (0.2), or the date or number it starts at.")
    ] = "0.2",
    level: Annotated[str, typer.Option("--level", help="Of the intervals, in per cent.")] = "80,95",
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="A page (.html), a picture (.png, .svg, .pdf) or a table (.csv)."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output file if it exists.")] = False,
) -> None:
    """Judge models and naive forecasts by rolling origin: error by steps ahead, coverage of intervals, time.

    Each is fitted once, to the rows before the held-out end, and forecasts from every row of it.
    """
    from retrograd.cli.judged import goodness_of, understood
    from retrograd.estimators.backtesting import Origins
    from retrograd.report import Goodness

    chosen, levels = [] if models == "none" else [name.strip() for name in models.split(",")], levels_of(level)
    for name in chosen:
        require_choice("--models", name, tuple(MAKERS))
    if out is not None:
        require_new_file(out, overwrite=overwrite)
        if out.suffix.lower() not in FORMATS:
            raise InputError(f"--out {out} is no page, picture or table: expected {', '.join(FORMATS)}")
    others = names_of(inputs or [], columns_of(file, reading.file))
    table = read_table(
        file,
        targets=targets_of(target, "backtest", file, reading, time, others),
        inputs=others,
        time=time,
        fill=fill,
        missing_targets="forecaster" not in chosen,
        axis=reading.axis,
        file=reading.file,
    )
    start = split_index(table, test)
    if horizon is None:
        horizon = max(1, min(10, start // 3, table.steps - start))
    Origins.of(start, table.steps, require_whole("--horizon", horizon, 1, table.steps))  # something is held out
    fitted, refused = _fitted(chosen, table, start, horizon)
    seasons = [each.seasons for each in understood(table)]
    found = goodness_of(fitted, table, start, horizon, levels, seasons)
    assert found is not None
    ordered = sorted(found.models, key=lambda one: np.nan_to_num(one.scores(0)["RMSE"], nan=np.inf))
    found = Goodness(found.target_names, found.first, found.last, ordered, found.baselines, found.steps)
    _show(found, refused)
    if out is not None:
        _write(out, found, f"{Path(file).stem}: backtest", {"data": file, "models": models, "test": test})
        typer.echo(f"Written: {out}", err=True)


def _fitted(
    chosen: list[str], table: Table, start: int, horizon: int
) -> tuple[list[tuple[str, Any, float]], list[str]]:
    """Return name, model and seconds of all that could be fitted, and why the others could not."""
    found, refused = [], []
    with bar("models", max(1, len(chosen))) as part, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fit that did not converge is judged like any other
        for number, name in enumerate(chosen):
            began = clock.perf_counter()
            try:
                model = MAKERS[name](table, start, horizon, part(number))
            except InputError as error:
                refused.append(f"{name} is left out: {error}")
                continue
            found.append((name, model, clock.perf_counter() - began))
            part(number)(1.0)
    return found, refused


def _auto(table: Table, start: int, horizon: int, progress: Callable[[float], None]) -> Any:
    from retrograd.cli.judged import Frames
    from retrograd.estimators.auto.estimator import AutoForecaster

    frames = Frames.of(table)
    forecaster = AutoForecaster(progress=progress)
    return forecaster.fit(frames.y.iloc[:start], frames.inputs(0, start), fh=np.arange(1, horizon + 1))


def _forecaster(table: Table, start: int, horizon: int, progress: Callable[[float], None]) -> Any:
    from retrograd.estimators.forecasting.estimator import Forecaster

    inputs = table.inputs[:start] if table.input_names else None
    return Forecaster().fit(table.targets[:start], inputs, fh=np.arange(1, horizon + 1))


def _state_space(table: Table, start: int, horizon: int, progress: Callable[[float], None]) -> Any:
    from retrograd.cli.judged import Frames
    from retrograd.estimators.identification.estimator import StateSpace

    frames = Frames.of(table)
    return StateSpace().fit(frames.inputs(0, start), frames.y.iloc[:start])


def _recurrent(table: Table, start: int, horizon: int, progress: Callable[[float], None]) -> Any:
    from retrograd.cli.judged import Frames
    from retrograd.estimators import OPTIMIZERS, Recurrent, Trainer

    frames, model = Frames.of(table), Recurrent()
    epochs = OPTIMIZERS[model.optimizer].epochs

    def told(trainer: Trainer) -> bool:
        progress(len(trainer.history) / epochs)
        return False

    return model.fit(frames.y.iloc[:start], frames.inputs(0, start), callbacks=[told])


MAKERS = {"auto": _auto, "forecaster": _forecaster, "state-space": _state_space, "recurrent": _recurrent}


def _show(found: Any, refused: list[str]) -> None:
    from rich.console import Console
    from rich.markup import escape

    from retrograd.cli.results import grid

    console = Console()
    for table in found.tables():
        console.print(grid(table), crop=False)
    for line in (*(found.sentences() if found.models else ()), *refused):
        console.print(escape(line), soft_wrap=not console.is_terminal, highlight=False)


def _write(out: Path, found: Any, title: str, settings: dict[str, str]) -> None:
    kind = out.suffix.lower()
    if kind == ".html":
        from retrograd.report.content import Content
        from retrograd.report.page import write_page

        try:
            write_page(out, Content(title, "", {}, [found.section(coverage=True)], settings))
        except OSError as error:
            raise InputError(f"{out} cannot be written: {error.strerror or error}") from None
        return
    if kind == ".csv":
        import pandas as pd

        write_new(out, pd.DataFrame(found.by_step()).to_csv(index=False, lineterminator="\n").encode())
        return
    if len(found.target_names) > 1:
        raise InputError(f"--out {out} is a picture, which shows one target, not {len(found.target_names)}: take .html")
    buffer = io.BytesIO()
    found.figure(0, coverage=True).savefig(buffer, format=kind[1:], dpi=150)
    write_new(out, buffer.getvalue())
