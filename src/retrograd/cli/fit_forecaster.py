"""`retrograd fit --model forecaster`: a look-back and a read-out in closed form, judged, with a forecast."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from retrograd.cli.coming import coming_of, levels_of
from retrograd.cli.judged import goodness_of, understood, wild_ends
from retrograd.cli.results import Results, write_results
from retrograd.cli.run_folder import saved_run
from retrograd.estimators.forecasting.estimator import Forecaster
from retrograd.estimators.forecasting.states import Lags
from retrograd.report import TextTable
from retrograd.tables.read import Table

__all__ = ["fit_forecaster"]

Array = np.ndarray[Any, Any]

# Steps of a free run that are computed: every one goes back to all before it.
MOST_FREE = 2000


def fit_forecaster(
    table: Table,
    start: int,
    horizon: int,
    out: Path,
    *,
    title: str,
    test: str,
    lags: int | None,
    readout: str,
    level: str,
) -> None:
    """Fit to the training part and judge it; then fit to all, forecast, report."""
    from rich.console import Console

    inputs = table.inputs if table.input_names else None
    known = None if inputs is None else inputs[: table.steps]
    console = Console(stderr=True)
    with console.status(f"{table.source}: fitting {start} steps"):
        # The free run of the held-out end is as long as that end, which a direct read-out has no maps for: whatever
        # --readout is, one step and free run are those of the recursive one with the same look-back.
        held_out = min(table.steps - start, MOST_FREE)
        judged = Forecaster(lags=lags, readout="recursive")
        judged.fit(table.targets[:start], X=None if known is None else known[:start])
        one_step = np.full_like(table.targets, np.nan)
        free_run = np.full_like(table.targets, np.nan)
        first = judged._model.states.burn + 1  # where a whole look-back lies before
        one_step[first:] = judged.backtest(table.targets, X=known, start=first, fh=[1])[:, 0]
        if held_out:
            steps = np.arange(1, held_out + 1)
            ahead_known = None if known is None else known[start : start + held_out]
            free_run[start : start + held_out] = np.asarray(judged.predict(steps, ahead_known)).reshape(held_out, -1)
        model = Forecaster(lags=lags, readout=readout)
        ahead = np.arange(1, max(horizon, 1) + 1)
        model.fit(table.targets, X=known, fh=ahead if readout == "direct" else None)
        future = None if inputs is None else inputs[table.steps : table.steps + horizon]
        outputs, levels, found = len(table.target_names), levels_of(level), understood(table)
        coming = coming_of("forecaster", model, horizon, outputs, inputs=future, levels=levels)
        seasons = [each.seasons for each in found]
        goodness = goodness_of([("forecast", judged, float("nan"))], table, start, horizon, levels, seasons)
    settings = {
        "model": "forecaster", "target": table.target_names, "inputs": table.input_names, "lags": lags,
        "readout": readout, "judged with": "recursive readout", "level": level, "test": test,
        "horizon": horizon,
    }  # fmt: skip

    results = Results(
        title=title,
        table=table,
        start=start,
        one_step=one_step,
        free_run=free_run,
        coming=coming,
        settings=settings,
        saved=saved_run(model, table, horizon, settings),
        report={"summary": (_summary(model),)},
        goodness=goodness,
        understood=found,
        notes=(
            *([] if goodness is None else goodness.sentences()),
            *_notes(readout, table.steps - start),
            *wild_ends(table, found),
        ),
    )
    write_results(out, results)


def _notes(readout: str, held_out: int) -> tuple[str, ...]:
    direct = "One step and free run are judged with the recursive read-out; the forecast is the direct one's."
    short = f"The free run is of the first {MOST_FREE} of the {held_out} held-out steps."
    return (*((direct,) if readout == "direct" else ()), *((short,) if held_out > MOST_FREE else ()))


def _summary(model: Forecaster) -> TextTable:
    """Return what was fitted, and why the page has no part on the gradient's way back."""
    states = model._model.states
    assert isinstance(states, Lags)  # the command offers no others
    return TextTable(
        "No gradient through time is shown, as the fit has none: the state is the look-back itself, the last "
        f"{states.length} values, with no recurrence between them for a gradient to go back through, and the read-out "
        "is the ridge solution, in closed form. What is further back than that has no influence.",
        (),
        (
            ("look-back, steps", str(states.length)),
            ("ridge penalty, relative", ", ".join(f"{penalty:.3g}" for penalty in model.ridge_)),
        ),
    )
