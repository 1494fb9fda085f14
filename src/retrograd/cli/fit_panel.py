"""`retrograd fit --series`: many series in one long table, each forecast by whatever forecasts it best."""

from __future__ import annotations

import json
import time as clock
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from retrograd.cli.bar import bar
from retrograd.cli.coming import Coming, comings_of
from retrograd.cli.fit_auto import Asked, few, require_room, understood_as
from retrograd.cli.judged import Frames, understood, wild_ends
from retrograd.cli.outputs import say
from retrograd.cli.results import forecast_columns, grid, long_csv, without_nan
from retrograd.cli.run_folder import CHECKPOINT_FILE, LIVE_FILE, saved_panel
from retrograd.estimators.auto.estimator import AutoForecaster
from retrograd.estimators.auto.understanding import Understanding
from retrograd.estimators.backtesting import Origins, Rolled, baselines, scale_of
from retrograd.estimators.model_files import OLD_RUN_FILE, Saved, add_model
from retrograd.files import replaced_together, write_whole
from retrograd.report import Goodness, TextTable
from retrograd.report.panel import PanelReport, Seen, write_panel
from retrograd.tables import Table, split_index
from retrograd.tables.time_axis import drawn_times, time_text

__all__ = ["Judged", "fit_panel", "judge", "seen_of", "starts_of", "write_run"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Judged:
    """A series, its forecast of its held-out end and the next steps."""

    table: Table
    start: int
    goodness: Goodness | None
    held_out: Array
    coming: Coming


def fit_panel(
    tables: Mapping[str, Table],
    horizon: int,
    out: Path,
    *,
    series: str,
    title: str,
    test: str | None,
    asked: Asked,
    levels: Sequence[float],
) -> None:
    """Choose for every series without its held-out end and judge that; then fit to all rows, forecast, report.

    Args:
        tables: one a series.
        horizon: steps to forecast.
        out: the run folder.
        series: the column that tells series apart.
        title: of the report.
        test: the held-out end, as of one series; None: the last ``horizon`` rows of each, or a third of it if less.
        asked: what is known of the series.
        levels: of the intervals, in per cent.
    """
    steps, given = np.arange(1, horizon + 1), asked.arguments()
    outputs = len(next(iter(tables.values())).target_names)
    starts = starts_of(tables, horizon, test)
    require_room(given, max(starts.values()))
    y = {name: _frame(table) for name, table in tables.items()}
    with bar("series", 1) as part:
        began = clock.perf_counter()
        model = AutoForecaster(**given, progress=part(0))
        model.fit(_panel({name: each.iloc[: starts[name]] for name, each in y.items()}, series), fh=steps)
        seconds = clock.perf_counter() - began
        before = comings_of(model, tables, outputs, horizon, levels)
        held = {name: each.iloc[starts[name] :] for name, each in y.items() if starts[name] < len(each)}
        if held:
            model.update(_panel(held, series), update_params=asked.refit)
        after = comings_of(model, tables, outputs, horizon, levels)
    judged = {
        name: judge(table, starts[name], before[name], after[name], given["season"]) for name, table in tables.items()
    }
    # Of all rows: the model's own lines are of those before the held-out ends.
    seen, wild = seen_of(tables, {name: understood_as(table, given) for name, table in tables.items()})
    for line in few(seen):
        say(line)
    settings = {
        "model": "auto", "series": series, "target": next(iter(tables.values())).target_names, "season": asked.season,
        "transform": asked.transform, "difference": asked.difference, "refit": asked.refit, "level": asked.level,
        "test": "last rows" if test is None else test, "horizon": horizon, "seconds": f"{seconds:.3g}",
    }  # fmt: skip
    saved = saved_panel(model, tables, series, horizon, settings)
    write_run(out, saved, judged, series, title, settings, seen, model.chosen_.splitlines(), wild)


def seen_of(tables: Mapping[str, Table], found: Mapping[str, Sequence[Understanding]]) -> tuple[list[str], list[str]]:
    """Return a line a series and target on what it is like, and one for every one that ends in a wild value."""
    seen, wild = [], []
    for name, table in tables.items():
        several = len(table.target_names) > 1
        for target, each in zip(table.target_names, found[name], strict=True):
            seen.append(f"{name}{f' {target}' * several}: {each}")
        wild += [f"{name}: {line}" for line in wild_ends(table, found[name])]
    return seen, wild


def starts_of(tables: Mapping[str, Table], horizon: int, test: str | None) -> dict[str, int]:
    """Return by series where its held-out end begins, and say how many series of how many rows there are."""
    rows = [table.steps for table in tables.values()]
    print(f"{len(tables)} series of {min(rows)} to {max(rows)} rows, {sum(rows)} in all", flush=True)
    return {
        name: split_index(table, test) if test is not None else table.steps - min(horizon, table.steps // 3)
        for name, table in tables.items()
    }


def _frame(table: Table) -> pd.DataFrame:
    return Frames.of(table).y


def _panel(frames: Mapping[str, pd.DataFrame], series: str) -> pd.DataFrame:
    joined: pd.DataFrame = pd.concat(dict(frames), names=[series, "time"])
    return joined


def judge(table: Table, start: int, before: Coming, after: Coming, seasons: Any) -> Judged:
    """Hold the forecast of a series' held-out end, from the row before it, against what came and the naive ones."""
    held_out = np.full_like(table.targets, np.nan)
    there = min(len(before.mean), table.steps - start)
    if there == 0:
        return Judged(table, start, None, held_out, after)
    held_out[start : start + there] = before.mean[:there]
    origins = Origins(start, start + there, np.arange(1, there + 1))
    lengths = [each.seasons for each in understood(table, None if seasons == "auto" else seasons or [])]
    observed, scale = origins.of_targets(table.targets), scale_of(table.targets[:start], lengths)
    intervals = {
        level: (lower[None, :there], upper[None, :there]) for level, (lower, upper) in before.intervals.items()
    }
    forecast = Rolled("forecast", observed, before.mean[None, :there], scale, intervals)
    known = pd.DataFrame(table.targets).ffill().bfill().to_numpy()
    naive = [Rolled(one.name, observed, one.forecasts, scale) for one in baselines(known, origins, lengths)]
    first, last = time_text(table.time[[start, start + there - 1]])
    return Judged(
        table, start, Goodness(table.target_names, first, last, [forecast], naive, origins.steps), held_out, after
    )


def write_run(
    out: Path,
    saved: Saved,
    judged: Mapping[str, Judged],
    series: str,
    title: str,
    settings: dict[str, Any],
    understood: Sequence[str],
    chosen: Sequence[str],
    wild: Sequence[str] = (),
    kept: Sequence[str] = (),
) -> None:
    """Write the run folder of many series.

    Args:
        out: the folder.
        saved: the model.
        judged: the series, in the order of the file.
        series: the column that tells them apart.
        title: of the report.
        settings: what was run, by option name.
        understood: a line a series on what it is like.
        chosen: on what forecasts them.
        wild: on every one that ends in a wild value.
        kept: files of the training that stay.
    """
    first = next(iter(judged.values())).table
    metrics = {
        f"{name}: {row}": values
        for name, each in judged.items()
        if each.goodness is not None
        for row, values in each.goodness.rows().items()
    }
    summary, said = _summary(judged)
    said += few(list(wild))
    steps = len(next(iter(judged.values())).coming.mean)
    forecasts = {
        name: (each.table.axis.ahead(steps), forecast_columns(first.target_names, each.coming))
        for name, each in judged.items()
    }
    predictions = {name: (each.table.time[: each.table.steps], _columns(each)) for name, each in judged.items()}
    report = PanelReport(
        title=title,
        target_names=first.target_names,
        time_label=first.time_label,
        seen=[_seen(name, each) for name, each in judged.items()],
        said=said,
        summary=summary,
        understood=understood,
        chosen=chosen,
        settings={name: _setting(value) for name, value in settings.items()},
    )
    removed = [name for name in (CHECKPOINT_FILE, LIVE_FILE, OLD_RUN_FILE) if name not in kept]
    with replaced_together(out, removed=removed) as new:
        write_whole(
            new / "metrics.json", (json.dumps(without_nan(metrics), indent=2, ensure_ascii=False) + "\n").encode()
        )
        write_whole(new / "predictions.csv", long_csv(predictions, series, first.time_label))
        write_whole(new / "forecast.csv", long_csv(forecasts, series, first.time_label))
        write_panel(new / "report.html", report)
        add_model(new, saved)
        _show(out, summary, said)


def _columns(each: Judged) -> dict[str, Array]:
    """Return what was observed, and the forecast of the held-out end."""
    return {
        f"{target}{suffix}": values[:, column]
        for column, target in enumerate(each.table.target_names)
        for suffix, values in (("", each.table.targets), ("_held_out", each.held_out))
    }


def _seen(name: str, each: Judged) -> Seen:
    table, coming = each.table, each.coming
    times = drawn_times(table.time[: table.steps]), drawn_times(table.axis.ahead(len(coming.mean)))
    return Seen(name, times[0], table.targets, times[1], coming.mean, coming.intervals, each.goodness)


def _show(out: Path, summary: Sequence[TextTable], said: Sequence[str]) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console()
    for table in summary:
        console.print(grid(table), crop=False)
    for line in said:
        console.print(escape(line), soft_wrap=not console.is_terminal, highlight=False)
    console.print(f"Forecast  {escape(str(out / 'forecast.csv'))}", soft_wrap=True)
    console.print(f"Report    {escape(str(out / 'report.html'))}", soft_wrap=True)


def _summary(judged: Mapping[str, Judged]) -> tuple[list[TextTable], list[str]]:
    """Return a table of mean scores over series a target, and how many the forecast does better for, in words."""
    there = [each.goodness for each in judged.values() if each.goodness is not None]
    if not there:
        return [], []
    names, tables, said = there[0].target_names, [], []
    levels = sorted(there[0].models[0].intervals)
    for column, target in enumerate(names):
        rows: dict[str, list[list[float]]] = {}
        better = []
        for each in there:
            scores = {_plain(one.name): one.scores(column) for one in each.baselines[::-1]}
            scores.setdefault("seasonal naive", scores["last value"])
            scores.setdefault("seasonal naive with drift", scores["drift"])
            own = each.models[0].scores(column)
            better.append(own["RMSE"] <= scores["seasonal naive"]["RMSE"])
            covered = each.models[0].covered(column)
            for name, found in {"forecast": own, **scores}.items():
                inside = [covered[level] if name == "forecast" else np.nan for level in levels]
                rows.setdefault(name, []).append([found["MASE"], found["sMAPE"], *inside])
        order = ["forecast", "seasonal naive", *(name for name in rows if name not in ("forecast", "seasonal naive"))]
        cells = [
            (_counted(name, len(rows[name]), len(there)), *(_mean(values) for values in np.array(rows[name]).T))
            for name in order
            if name in rows
        ]
        of = f" of {target}" if len(names) > 1 else ""
        header = ("forecast by", "MASE", "sMAPE", *(f"in {level:g} %" for level in levels))
        tables.append(TextTable(f"Held-out ends{of}: means over {len(there)} series", header, cells))
        said.append(
            f"The forecast{of} is as good as the seasonal naive or better for {sum(better)} of {len(better)} series "
            "(RMSE; the last value where there is no season)."
        )
    return tables, said


def _plain(name: str) -> str:
    """Return a baseline's name without its season: the shortest one is the last that is met."""
    return "seasonal naive with drift" if name.endswith(") with drift") else name.partition(" (")[0]


def _counted(name: str, series: int, of: int) -> str:
    """Return the name of a forecast, with how many series it is of where some are too short for it."""
    return name if series == of else f"{name} ({series} of {of} series)"


def _mean(values: Array) -> str:
    known = values[np.isfinite(values)]
    return f"{known.mean():.4g}" if len(known) else "–"


def _setting(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
