"""What `retrograd fit` leaves in its run folder, and the table that it prints."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retrograd.cli.coming import Coming
from retrograd.cli.outputs import say
from retrograd.cli.run_folder import CHECKPOINT_FILE, LIVE_FILE
from retrograd.errors import InputError
from retrograd.estimators.evaluation import compare
from retrograd.estimators.model_files import OLD_RUN_FILE, Saved, add_model
from retrograd.files import replaced_together, write_whole
from retrograd.report.content import TextTable
from retrograd.report.flow import meaning
from retrograd.tables.read import Table
from retrograd.tables.time_axis import drawn_times, time_text

if TYPE_CHECKING:
    from retrograd.estimators.auto.understanding import Understanding
    from retrograd.insight import Analysis
    from retrograd.report import Goodness

__all__ = ["Results", "csv", "forecast_columns", "gradient_note", "grid", "long_csv", "without_nan", "write_results"]

Array = np.ndarray[Any, Any]

# The level whose columns need no number.
USUAL = 95
# Columns of a terminal that the names of a table keep, if they need them.
LEAST_NAME = 16


@dataclass(frozen=True)
class Results:
    """A finished fit, of any model.

    Attributes:
        title: of the report.
        table: the data.
        start: index of the first held-out step.
        one_step: predictions one step ahead ``(N, O)``, NaN where there is none.
        free_run: predictions of the held-out end from the steps before it, NaN elsewhere.
        coming: the steps after the data, with their intervals.
        settings: what was run, by option name.
        saved: the model, with the run.
        report: more for the page, by the names of :class:`retrograd.report.RunReport`.
        goodness: how it forecast the held-out end, beside the naive ones.
        understood: what every target is like.
        shown: tables for the terminal, in place of that of the errors one step ahead and in the free run.
        notes: lines for the terminal, after the tables.
        live: whether the training wrote a page of its own.
    """

    title: str
    table: Table
    start: int
    one_step: Array
    free_run: Array
    coming: Coming
    settings: dict[str, Any]
    saved: Saved
    report: dict[str, Any]
    goodness: Goodness | None = None
    understood: Sequence[Understanding] = ()
    shown: Sequence[TextTable] = ()
    notes: tuple[str, ...] = ()
    live: bool = False

    @property
    def horizon(self) -> int:
        """Steps of the forecast."""
        return len(self.coming.mean)


def gradient_note(analysis: Analysis) -> tuple[str, ...]:
    """Return a line on how the gradient flows, where there is something to say and to do."""
    kinds = analysis.verdict.kinds
    if kinds == ("healthy",) or not analysis.verdict.advice:
        return ()
    said = meaning(analysis)
    return (f"{said[0].upper()}{said[1:]}; the report says where, and what to do.",)


def csv(label: str, times: Any, columns: dict[str, Array]) -> bytes:
    r"""Return a table as CSV: full precision, empty where NaN.

    >>> csv("year", np.array([2009, 2010]), {"sunspots": np.array([np.nan, 0.1])})
    b'year,sunspots\n2009,\n2010,0.1\n'
    """
    import pandas as pd

    table = pd.DataFrame({label: time_text(times), **columns})
    return bytes(table.to_csv(index=False, lineterminator="\n").encode())


def long_csv(parts: Mapping[str, tuple[Any, Mapping[str, Array]]], series: str, label: str) -> bytes:
    """Return the rows of several series below each other, as CSV."""
    import pandas as pd

    frames = [
        pd.DataFrame({series: name, label: time_text(times), **columns}) for name, (times, columns) in parts.items()
    ]
    return bytes(pd.concat(frames).to_csv(index=False, lineterminator="\n").encode())


def forecast_columns(names: Sequence[str], coming: Coming) -> dict[str, Array]:
    """Return a forecast's columns: each target, and the ends of its intervals; those of 95 % need no number.

    >>> ends = np.zeros((1, 1)), np.ones((1, 1))
    >>> list(forecast_columns(["y"], Coming(np.ones((1, 1)), {80: ends, 95: ends})))
    ['y', 'y_lower_80', 'y_upper_80', 'y_lower', 'y_upper']
    """
    columns = {}
    for column, name in enumerate(names):
        columns[name] = coming.mean[:, column]
        for level, (lower, upper) in coming.intervals.items():
            suffix = "" if level == USUAL else f"_{level:g}"
            columns[f"{name}_lower{suffix}"], columns[f"{name}_upper{suffix}"] = lower[:, column], upper[:, column]
    return columns


def write_results(out: Path, results: Results) -> None:
    """Write model, metrics, predictions, forecast and report, all at once; print the summary.

    What an earlier run has in the folder and this one has not goes with it.

    Raises:
        InputError: the folder cannot be written; it is what it was.
    """
    table, names = results.table, results.table.target_names
    one_step, free_run = results.one_step, results.free_run
    errors = compare(names, table.targets, one_step, free_run, results.start)
    metrics = errors | ({} if results.goodness is None else results.goodness.rows())
    ahead = table.axis.ahead(results.horizon)
    predictions = {
        f"{name}{suffix}": values[:, column]
        for column, name in enumerate(names)
        for suffix, values in (("", table.targets), ("_one_step", one_step), ("_free_run", free_run))
    }
    columns = forecast_columns(names, results.coming)
    removed = [] if results.saved.kind == "recurrent" else [CHECKPOINT_FILE]
    removed += [] if results.live else [LIVE_FILE]
    with replaced_together(out, removed=[*removed, OLD_RUN_FILE]) as new:
        text = json.dumps(without_nan(metrics), indent=2, ensure_ascii=False)
        write_whole(new / "metrics.json", (text + "\n").encode())
        write_whole(new / "predictions.csv", csv(table.time_label, table.time[: table.steps], predictions))
        write_whole(new / "forecast.csv", csv(table.time_label, ahead, columns))
        _write_report(new / "report.html", results, ahead, errors)
        add_model(new, results.saved)
        # Last, as a closed or full pipe is an error, after which the folder must be what it was.
        try:
            _show(out, results, errors)
            sys.stdout.flush()
        except OSError as error:
            reason = error.strerror or error
            raise InputError(f"standard output cannot be written: {reason}; {out} stays what it was") from None


def _write_report(path: Path, results: Results, ahead: Any, metrics: dict[str, dict[str, float]]) -> None:
    from retrograd.cli.judged import stories_of
    from retrograd.report import RunReport, write_report

    def finite(values: Array) -> Array:
        return np.where(np.isfinite(values), values, np.nan)

    table = results.table
    nothing = np.empty(0)
    report = RunReport(
        title=results.title,
        target_names=table.target_names,
        time_label=table.time_label,
        time=drawn_times(table.time[: table.steps]),
        observed=table.targets,
        one_step=finite(results.one_step),
        free_run=finite(results.free_run),
        test_start=results.start,
        forecast_time=drawn_times(ahead),
        forecast=finite(results.coming.mean),
        intervals={level: (finite(lower), finite(upper)) for level, (lower, upper) in results.coming.intervals.items()},
        goodness=results.goodness,
        stories=stories_of(table, results.start, results.one_step, results.understood),
        metrics=metrics,
        settings={name.replace("_", "-"): _setting(value) for name, value in results.settings.items()},
        **{
            "history": [],
            "delta_time": nothing,
            "delta_norm": nothing,
            "eigenvalues": nothing,
            "closed_loop_eigenvalues": None,
            **results.report,
        },
    )
    write_report(path, report)


def _setting(value: Any) -> str:
    if value is None or value == []:
        return "none"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def without_nan(metrics: dict[str, dict[str, float]]) -> dict[str, dict[str, float | None]]:
    """Return metrics as JSON can hold them: it has no NaN and no infinity."""
    return {
        row.strip(): {name: value if math.isfinite(value) else None for name, value in values.items()}
        for row, values in metrics.items()
    }


def _how_read(table: Table) -> list[str]:
    """Return lines on what the table had that not every table has."""
    lines = [f"The file was read with {table.layout}."] if table.layout else []
    if table.absent:
        lines.append(f"{table.absent} steps had no row ({table.step}): they count as missing.")
    if table.filled:
        lines.append(f"{table.filled} missing values were filled.")
    return lines


def _errors(results: Results, metrics: dict[str, dict[str, float]]) -> TextTable:
    """Return the errors one step ahead and in the free run."""
    names = list(next(iter(metrics.values())))
    cells = [(name, *(f"{value:.4g}" for value in values.values())) for name, values in metrics.items()]
    return TextTable(f"Errors of {', '.join(results.table.target_names)}", ("prediction", *names), cells)


def grid(table: TextTable) -> Any:
    """Return a table for the terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table as Grid

    # Names wrap where the terminal is narrow, numbers never: what is wider all the same goes on past the edge.
    found = Grid(title=escape(table.caption), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    longest = max(len(row[0]) for row in (table.header, *table.rows))
    for place, name in enumerate(table.header):
        least = 0 if place else min(longest, LEAST_NAME)
        found.add_column(name, min_width=least, no_wrap=place > 0, justify="right" if place else "left")
    for row in table.rows:
        found.add_row(*map(escape, row))
    return found


def _show(out: Path, results: Results, metrics: dict[str, dict[str, float]]) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console()
    for table in results.shown or [_errors(results, metrics)]:
        console.print(grid(table), crop=False)
    for line in _how_read(results.table):
        console.print(escape(line), soft_wrap=True, highlight=False)
    for note in results.notes:
        say(note)
    first, last = time_text(results.table.time[[0, results.table.steps - 1]])
    forecast = f"{escape(str(out / 'forecast.csv'))} ({results.horizon} steps)"
    if results.horizon == 0 and results.table.input_names:
        forecast = "none: the inputs are not known beyond the data (retrograd forecast takes --inputs-file)"
    for label, text in (
        ("Data", f"{escape(results.table.source)}, {results.table.time_label} {first} to {last}, {results.table.step}"),
        ("Forecast", forecast),
        ("Report", escape(str(out / "report.html"))),
    ):
        console.print(f"{label:<9} {text}", soft_wrap=True)
