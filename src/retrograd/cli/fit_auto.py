"""`retrograd fit --model auto`: what forecasts each target best, judged beside the baselines, with a forecast."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from retrograd.cli.results import Results, write_results
from retrograd.cli.run_folder import saved_run
from retrograd.errors import InputError
from retrograd.estimators.auto.estimator import AutoForecaster
from retrograd.report import TextTable
from retrograd.tables.read import Table

__all__ = ["auto_interval_of", "fit_auto"]

Array = np.ndarray[Any, Any]

SCORES = ("RMSE", "MAE", "MASE", "sMAPE")


def fit_auto(table: Table, start: int, horizon: int, out: Path, *, title: str, test: str) -> None:
    """Choose on the training part and judge that; then choose on all, forecast, report."""
    from rich.console import Console

    times, steps = table.time[: table.steps], np.arange(1, max(horizon, 1) + 1)
    y = pd.DataFrame(table.targets, index=times, columns=table.target_names)
    X = pd.DataFrame(table.inputs, index=table.time, columns=table.input_names) if table.input_names else None
    known = None if X is None else X.iloc[: table.steps]
    one_step, free_run = np.full_like(table.targets, np.nan), np.full_like(table.targets, np.nan)
    console = Console(stderr=True)
    with console.status(f"{table.source}: contenders forecast {start} steps"):
        judged = AutoForecaster().fit(y.iloc[:start], None if known is None else known.iloc[:start], fh=steps)
        ahead = judged.backtest(y, known, start=judged.least)
        one_step[judged.least : judged.least + len(ahead)] = ahead[:, 0]
        there = min(len(steps), table.steps - start)
        if there:
            coming = None if X is None else X.iloc[start : start + there]
            free_run[start : start + there] = np.asarray(judged.predict(steps[:there], coming))
        model = AutoForecaster().fit(y, known, fh=steps)
        nothing = np.empty((0, len(table.target_names)))
        mean, lower, upper = nothing, nothing, nothing
        if horizon:
            future = None if X is None else X.to_numpy()[table.steps : table.steps + horizon]
            mean, lower, upper = auto_interval_of(model, horizon, future, table.axis.ahead(horizon))
    console.print(model.understood_, model.chosen_, sep="\n", highlight=False)
    settings = {
        "model": "auto", "target": table.target_names, "inputs": table.input_names, "test": test, "horizon": horizon,
    }  # fmt: skip
    results = Results(
        title=title,
        table=table,
        start=start,
        one_step=one_step,
        free_run=free_run,
        forecast=mean,
        lower=lower,
        upper=upper,
        settings=settings,
        saved=saved_run(model, table, horizon, settings),
        report={"summary": (_leaderboard(model),)},
        notes=_notes(len(steps), table.steps - start),
    )
    write_results(out, results)


def auto_interval_of(model: AutoForecaster, steps: int, inputs: Array | None, times: Any) -> tuple[Array, Array, Array]:
    """Return the forecast of the next ``steps`` and the ends of its 95 % interval, ``(steps, outputs)`` each."""
    fitted = model.steps
    if steps > len(fitted):
        raise InputError(
            f"--horizon is {steps}, but the contenders were judged and fitted for {len(fitted)} steps: take up to "
            f"{len(fitted)}, or fit with a longer --horizon"
        )
    X = None if inputs is None else pd.DataFrame(inputs, index=times, columns=model.input_names)
    mean = np.asarray(model.predict(fitted[:steps], X)).reshape(steps, -1)
    both = np.asarray(model.predict_interval(fitted[:steps], X, coverage=0.95)).reshape(*mean.shape, 2)
    return mean, both[:, :, 0], both[:, :, 1]


def _notes(horizon: int, held_out: int) -> tuple[str, ...]:
    if held_out <= horizon:
        return ()
    return (
        f"The free run is of the first {horizon} of the {held_out} held-out steps: the horizon that was asked for.",
    )


def _leaderboard(model: AutoForecaster) -> TextTable:
    """Return every contender's errors over the rolling origin."""
    rows = [
        (" ".join(map(str, name)) if isinstance(name, tuple) else str(name), *(f"{row[score]:.4g}" for score in SCORES))
        for name, row in model.leaderboard_.iterrows()
    ]
    said = f"{model.understood_}. Forecast by: {model.chosen_}. Errors of all contenders on the last rows, from a "
    return TextTable(f"{said}rolling origin, at the steps asked for:", ("contender", *SCORES), tuple(rows))
