"""`retrograd fit`: the main job. A table in; a model, its forecast and a report out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from retrograd.cli.coming import far_inputs, levels_of
from retrograd.cli.options import Reading, names_of, reads_tables
from retrograd.cli.run_folder import ranges_of, run_folder
from retrograd.cli.target import targets_of
from retrograd.cli.torchrun import require_started, started
from retrograd.errors import InputError, require_choice, require_whole
from retrograd.tables import Table, read_series, read_table, split_index
from retrograd.tables.source import ReadOptions, columns_of

__all__ = ["fit"]

# Options that one model alone reads.
OWN = {
    "auto": ("season", "transform", "difference", "refit"),
    "recurrent": (
        "hidden", "epochs", "optimizer", "lr", "clip", "closed_loop", "seed", "device", "resume", "live", "log_dir",
        "time_parallel",
    ),
    "state-space": ("order", "noise", "stable"),
    "forecaster": ("lags", "readout"),
}  # fmt: skip

# What a training reads, beside the width.
_OF_TRAINING = ("optimizer", "epochs", "lr", "clip", "seed", "device")

LEVEL = "80,95"
_AUTO, _RECURRENT, _STATE_SPACE, _FORECASTER = (
    "What is known of the series (--model auto)",
    "Recurrent model (--model recurrent)",
    "State-space model (--model state-space)",
    "Forecaster (--model forecaster)",
)


@reads_tables
def fit(
    context: typer.Context,
    reading: Reading,
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="A .csv, .parquet or .xlsx table, or airline, sunspots, hair_dryer."),
    ],
    target: Annotated[
        list[str] | None, typer.Option("--target", help="Column to predict (needed); several: repeat, or a,b.")
    ] = None,
    inputs: Annotated[
        list[str] | None, typer.Option("--inputs", help="Exogenous columns, known ahead; several: repeat, or a,b.")
    ] = None,
    time: Annotated[str | None, typer.Option("--time", help="Column with dates or numbers that increase.")] = None,
    fill: Annotated[str | None, typer.Option("--fill", help="Fill missing values: forward or linear.")] = None,
    series: Annotated[
        str | None, typer.Option("--series", help="Column that says which series a row belongs to, in a long table.")
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            help="auto (whatever forecasts best), recurrent (trained by BPTT), state-space (identified), "
            "forecaster (ridge).",
        ),
    ] = "auto",
    season: Annotated[
        str, typer.Option("--season", rich_help_panel=_AUTO, help="Steps of a season, several (24,168), none or auto.")
    ] = "auto",
    transform: Annotated[str, typer.Option("--transform", rich_help_panel=_AUTO, help="log, none or auto.")] = "auto",
    difference: Annotated[
        str,
        typer.Option(
            "--difference", rich_help_panel=_AUTO, help="Forecast relative to the last value (last), a season, none."
        ),
    ] = "auto",
    refit: Annotated[
        bool,
        typer.Option("--refit/--no-refit", rich_help_panel=_AUTO, help="Choose and fit again with the held-out end."),
    ] = True,
    level: Annotated[str, typer.Option("--level", help="Of the forecast's intervals, in per cent.")] = LEVEL,
    hidden: Annotated[int, typer.Option("--hidden", rich_help_panel=_RECURRENT, help="Width of the state H.")] = 8,
    horizon: Annotated[
        int | None,
        typer.Option("--horizon", help="Steps to forecast. Default: 10, or as far as --inputs are known."),
    ] = None,
    test: Annotated[
        str, typer.Option("--test", help="Held-out end: a fraction (0.2), or the date or number it starts at. 0: none.")
    ] = "0.2",
    epochs: Annotated[
        int | None, typer.Option("--epochs", rich_help_panel=_RECURRENT, help="Default: 600; lbfgs 20, sgd 1000.")
    ] = None,
    optimizer: Annotated[
        str, typer.Option("--optimizer", rich_help_panel=_RECURRENT, help="sgd, adam, adamw or lbfgs.")
    ] = "adam",
    lr: Annotated[
        float | None,
        typer.Option("--lr", rich_help_panel=_RECURRENT, help="Learning rate. Default: 0.01; lbfgs 1, sgd 0.02."),
    ] = None,
    clip: Annotated[
        float | None, typer.Option("--clip", rich_help_panel=_RECURRENT, help="Cut the gradient's norm to this.")
    ] = None,
    closed_loop: Annotated[
        bool,
        typer.Option(
            "--closed-loop",
            rich_help_panel=_RECURRENT,
            help="Train on free runs of --horizon steps instead of single steps.",
        ),
    ] = False,
    seed: Annotated[int, typer.Option("--seed", rich_help_panel=_RECURRENT, help="Seed of the starting weights.")] = 0,
    order: Annotated[
        str, typer.Option("--order", rich_help_panel=_STATE_SPACE, help="number of states, or auto.")
    ] = "auto",
    noise: Annotated[
        str,
        typer.Option(
            "--noise",
            rich_help_panel=_STATE_SPACE,
            help="auto, output-error (fits the free run) or innovations (one step).",
        ),
    ] = "auto",
    stable: Annotated[
        bool | None,
        typer.Option(
            "--stable/--no-stable",
            rich_help_panel=_STATE_SPACE,
            help="keep the poles inside the unit circle; neither: unless the series grows beyond doubt.",
            show_default=False,
        ),
    ] = None,
    lags: Annotated[
        int | None, typer.Option("--lags", rich_help_panel=_FORECASTER, help="length of the look-back.")
    ] = None,
    readout: Annotated[
        str, typer.Option("--readout", rich_help_panel=_FORECASTER, help="direct (all steps at once) or recursive.")
    ] = "direct",
    device: Annotated[str, typer.Option("--device", rich_help_panel=_RECURRENT, help="cpu or cuda.")] = "cpu",
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Run folder. Default: runs/NAME.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", rich_help_panel=_RECURRENT, help="Continue the training in the run folder.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in the run folder.")] = False,
    live: Annotated[
        bool,
        typer.Option(
            "--live",
            rich_help_panel=_RECURRENT,
            help="Write live.html into the run folder: a page that follows the training.",
        ),
    ] = False,
    log_dir: Annotated[
        Path | None,
        typer.Option("--log-dir", rich_help_panel=_RECURRENT, metavar="DIR", help="Log the training for TensorBoard."),
    ] = None,
    time_parallel: Annotated[
        int | None,
        typer.Option(
            "--time-parallel", rich_help_panel=_RECURRENT, metavar="N", help="Train over the N ranks of torchrun."
        ),
    ] = None,
) -> None:
    """Forecast a time series by whatever linear model, or baseline, forecasts it best; report how good that is.

    Writes a run folder: model, metrics, predictions, forecast, report.
    """
    require_choice("--model", model, tuple(OWN))
    _require_one_process(model, series, time_parallel)
    _refuse_options_of_others(context, model)
    levels, title = levels_of(level), Path(file).stem
    out = Path("runs") / title if out is None else out
    asked: dict[str, Any] = {name: context.params[name] for name in (*OWN["auto"], "level")}
    others = names_of(inputs or [], columns_of(file, reading.file))
    read: dict[str, Any] = {
        "targets": targets_of(target, "fit", file, reading, time, others, series),
        "time": time, "fill": fill,
        "missing_targets": model in ("auto", "state-space") or (model == "recurrent" and not closed_loop),
        "axis": reading.axis, "file": reading.file,
    }  # fmt: skip
    if series is not None:
        _require_alone(model, inputs, closed_loop, live, log_dir, time_parallel)
        named: dict[str, Any] = {"series": series, "title": title, "test": test if _given(context, "test") else None}
        if model == "recurrent":
            return _fit_recurrent_panel(context, file, read, out, **named)
        tables = read_series(file, series=series, **read)
        with run_folder(out, overwrite=overwrite):
            return _fit_series(tables, horizon, out, **named, asked=asked, levels=levels)
    read["inputs"] = others
    if time_parallel is not None:
        return _fit_over_ranks(context, file, read, out, title)
    table = read_table(file, **read)
    start = split_index(table, test)
    for line in far_inputs(f"the rows of {file} to forecast", others, table.inputs[table.steps :], ranges_of(table)):
        typer.echo(line, err=True)
    steps = _horizon(horizon, table, start if model == "auto" else None)
    said: dict[str, Any] = {"title": title, "test": test}
    if model == "recurrent":
        return _fit_recurrent(context, table, start, steps, out, title)
    with run_folder(out, overwrite=overwrite):
        if model == "state-space":
            from retrograd.cli.fit_state_space import fit_state_space

            said |= {"order": order, "noise": noise, "stable": stable, "level": level}
            fit_state_space(table, start, steps, out, **said)
        elif model == "forecaster":
            from retrograd.cli.fit_forecaster import fit_forecaster

            fit_forecaster(table, start, steps, out, **said, lags=lags, readout=readout, level=level)
        else:
            from retrograd.cli.fit_auto import Asked, fit_auto

            fit_auto(table, start, steps, out, **said, asked=Asked(**asked), levels=levels)


def _fit_over_ranks(context: typer.Context, file: str, read: dict[str, Any], out: Path, title: str) -> None:
    """Train over time that lies on ranks: the first one has all of the table, the others their rows."""
    from retrograd.cli.shared_rows import follow_the_first
    from retrograd.cli.time_parallel import joined

    given, options = context.params, read["file"] or ReadOptions()
    with joined(require_started(require_whole("time_parallel", given["time_parallel"]))) as ranks:
        if not ranks.first:
            names, how = [*read["targets"], *read["inputs"]], {name: given[name] for name in ("resume", "overwrite")}
            return follow_the_first(ranks, file, options, names, out, **how)
        table = read_table(file, **read)
        start, steps = split_index(table, given["test"]), _horizon(given["horizon"], table, None)
        return _fit_recurrent(context, table, start, steps, out, title, ranks=ranks, options=options)


def _fit_recurrent(
    context: typer.Context, table: Table, start: int, steps: int, out: Path, title: str, **over: Any
) -> None:
    """Train a recurrent model on one series."""
    from retrograd.cli.fit_recurrent import fit_recurrent
    from retrograd.estimators import Recurrent

    given = context.params
    if given["closed_loop"] and not 2 <= steps < start:
        raise InputError(
            f"--closed-loop trains on free runs of --horizon {steps} steps: from 2 to {start - 1}, the training steps"
        )
    closed = steps if given["closed_loop"] else None
    network = Recurrent(given["hidden"], **{name: given[name] for name in _OF_TRAINING}, closed_loop=closed)
    said = {name: given[name] for name in ("test", "level", "resume", "overwrite", "live", "log_dir")}
    fit_recurrent(network, table, start, steps, out, title=title, **said, **over)


def _refuse_options_of_others(context: typer.Context, model: str) -> None:
    """An option that the model does not read must not look as if it did."""
    for other, options in OWN.items():
        for name in options:
            if other != model and _given(context, name):
                option = "--no-refit" if name == "refit" else "--" + name.replace("_", "-")
                if name in ("live", "log_dir"):
                    raise InputError(
                        f"{option} shows training by backpropagation through time, epoch by epoch; --model {model} "
                        "has no such epochs: leave it out, or take --model recurrent"
                    )
                raise InputError(
                    f"{option} belongs to --model {other}, not to {model}: leave it out, or take --model {other}"
                )


def _given(context: typer.Context, name: str) -> bool:
    """Return whether an option stands on the command line."""
    # The name, not the class: typer may carry a click of its own.
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _require_one_process(model: str, series: str | None, time_parallel: int | None) -> None:
    """Refuse ranks of torchrun that would all do the same."""
    if started() > 1 and time_parallel is None and not (model == "recurrent" and series is not None):
        raise InputError(
            f"torchrun has started {started()} processes: --model recurrent shares out the steps of one series "
            f"(--time-parallel {started()}) or the series of a long table (--series); else run it "
            "without torchrun"
        )


def _require_alone(
    model: str,
    inputs: list[str] | None,
    closed_loop: bool,
    live: bool,
    log_dir: Path | None,
    time_parallel: int | None,
) -> None:
    """Refuse what does not go with several series."""
    if model not in ("auto", "recurrent"):
        raise InputError(
            "--series is for --model auto, which forecasts each series by what does best, and for --model recurrent, "
            f"one network over all, not for {model}"
        )
    if inputs:
        raise InputError("--inputs are of one series, and --series has many: leave one of them out")
    if time_parallel is not None:
        raise InputError(
            "--time-parallel shares out the steps of one series, and --series has many, which the ranks of torchrun "
            "share out by themselves: leave --time-parallel out"
        )
    for option, given in {"--closed-loop": closed_loop, "--live": live, "--log-dir": log_dir}.items():
        if given:
            raise InputError(f"{option} is of one series, and --series has many: leave one of them out")


def _fit_recurrent_panel(context: typer.Context, file: str, read: dict[str, Any], out: Path, **named: Any) -> None:
    """Train one network on every series of a long table, over the ranks of torchrun if there are several."""
    from retrograd.cli.fit_recurrent_panel import fit_recurrent_panel
    from retrograd.estimators import RecurrentPanel

    given = context.params
    model = RecurrentPanel(given["hidden"], **{name: given[name] for name in _OF_TRAINING})
    steps = 10 if given["horizon"] is None else require_whole("--horizon", given["horizon"], 1)
    how = {name: given[name] for name in ("resume", "overwrite")}
    named["level"] = given["level"]
    if started() < 2:
        tables = read_series(file, series=named["series"], **read)
        _require_short(given["horizon"], tables)
        return fit_recurrent_panel(model, tables, steps, out, **named, **how)
    from retrograd.cli.shared_rows import follow_the_first_on_series
    from retrograd.cli.time_parallel import joined

    with joined(started()) as ranks:
        if not ranks.first:
            return follow_the_first_on_series(ranks, out, **how)
        tables = read_series(file, series=named["series"], **read)
        _require_short(given["horizon"], tables)
        return fit_recurrent_panel(model, tables, steps, out, **named, **how, ranks=ranks)


def _require_short(horizon: int | None, tables: dict[str, Table]) -> None:
    """Refuse a forecast longer than all series."""
    longest = max(table.steps for table in tables.values())
    if horizon is not None and horizon > longest:
        raise InputError(f"--horizon is {horizon}, expected at most {longest}, the steps of the longest series")


def _fit_series(
    tables: dict[str, Table],
    horizon: int | None,
    out: Path,
    series: str,
    title: str,
    test: str | None,
    asked: dict[str, Any],
    levels: tuple[float, ...],
) -> None:
    """Fit every series of a long table."""
    from retrograd.cli.fit_auto import Asked
    from retrograd.cli.fit_panel import fit_panel

    steps = 10 if horizon is None else require_whole("--horizon", horizon, 1)
    _require_short(horizon, tables)
    fit_panel(tables, steps, out, series=series, title=title, test=test, asked=Asked(**asked), levels=levels)


def _horizon(horizon: int | None, table: Table, start: int | None) -> int:
    """Return the steps to forecast; unasked so many that rows before ``start`` are left to learn from."""
    if horizon is None:
        # Without the inputs of coming steps, those contenders forecast that take none.
        if table.input_names and (table.future or start is None):
            return min(table.future, table.steps if start is None else start - 2)
        return min(10, table.steps if start is None else max(1, start // 3))
    if not 0 <= horizon <= table.steps:
        raise InputError(f"--horizon is {horizon}, expected 0 to {table.steps}, the number of steps in {table.source}")
    if table.input_names and horizon > table.future and start is None:
        raise InputError(
            f"--horizon is {horizon}, but the inputs are known for {table.future} steps after the last target: add "
            "rows with an empty target to the data, take a shorter horizon, or --model auto, which has forecasts "
            "without inputs"
        )
    return horizon
