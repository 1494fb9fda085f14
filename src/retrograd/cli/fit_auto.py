"""`retrograd fit`, the default: what forecasts each target best, judged beside the baselines, with a forecast."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retrograd.cli.bar import bar
from retrograd.cli.coming import coming_of
from retrograd.cli.contenders import by_step, contenders
from retrograd.cli.judged import Frames, goodness_of, understood, wild_ends
from retrograd.cli.outputs import say
from retrograd.cli.results import Results, write_results
from retrograd.cli.run_folder import saved_run
from retrograd.errors import InputError, require_choice, require_whole
from retrograd.estimators.auto.estimator import AutoForecaster
from retrograd.estimators.auto.understanding import Understanding
from retrograd.tables.read import Table

__all__ = ["Asked", "few", "fit_auto", "require_room", "understood_as"]

Array = np.ndarray[Any, Any]

# Contenders, and lines a target, that the terminal shows; the report has all contenders.
MOST_SHOWN = 12


@dataclass(frozen=True)
class Asked:
    """What the command line says of the series, in the words of its options.

    Attributes:
        season: ``auto``, ``none``, or lengths with commas between.
        transform: ``auto``, ``log`` or ``none``.
        difference: ``auto``, ``last``, ``none`` or a season.
        refit: whether what was chosen is fitted to the held-out end too.
        level: of the intervals.
    """

    season: str = "auto"
    transform: str = "auto"
    difference: str = "auto"
    refit: bool = True
    level: str = "80,95"

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of the estimator.

        >>> Asked(season="24,168", difference="24", transform="none").arguments()
        {'season': [24, 168], 'transform': None, 'difference': 24}
        """
        none: dict[str, Any] = {"none": None}
        require_choice("--transform", self.transform, ("auto", "log", "none"))
        season: Any = none.get(self.season, self.season)
        if isinstance(season, str) and season != "auto":
            season = [require_whole("--season", _whole("--season", part, self.season), 2) for part in season.split(",")]
        difference: Any = none.get(self.difference, self.difference)
        if isinstance(difference, str) and difference not in ("auto", "last"):
            difference = require_whole("--difference", _whole("--difference", difference, self.difference), 1)
        return {"season": season, "transform": none.get(self.transform, self.transform), "difference": difference}


def require_room(given: dict[str, Any], rows: int) -> None:
    """Raise InputError where a season that was asked for is longer than the rows that are learnt from."""
    seasons = given["season"] if isinstance(given["season"], list) else []
    for option, steps in (*(("--season", season) for season in seasons), ("--difference", given["difference"])):
        if isinstance(steps, int) and steps >= rows:
            raise InputError(
                f"{option} is {steps}, but there are {rows} rows to learn from, the held-out end left out: take fewer "
                "steps, or give more rows"
            )


def _whole(option: str, part: str, given: str) -> int:
    try:
        return int(part)
    except ValueError:
        names = "auto, none or numbers of steps such as 24,168"
        if option == "--difference":
            names = "auto, last, none or a season, a number of steps"
        raise InputError(f"{option} is {given!r}, expected {names}") from None


def fit_auto(
    table: Table, start: int, horizon: int, out: Path, *, title: str, test: str, asked: Asked, levels: Sequence[float]
) -> None:
    """Choose on the training part and judge that; then choose on all, forecast, report."""
    steps, frames, given = np.arange(1, max(horizon, 1) + 1), Frames.of(table), asked.arguments()
    require_room(given, start)
    found = understood_as(table, given)
    for line in _said(table, found):
        say(line)
    nearest = len(steps) > 1
    fits = 1 + nearest + (start < table.steps and asked.refit)
    past, inputs = frames.y.iloc[:start], frames.inputs(0, start)
    with bar("contenders", fits) as part:
        began = time.perf_counter()
        judged = AutoForecaster(**given, progress=part(0)).fit(past, inputs, fh=steps)
        seconds = time.perf_counter() - began
        # What is best far ahead need not be so one step ahead.
        near = AutoForecaster(**given, progress=part(1)).fit(past, inputs, fh=[1]) if nearest else judged
        one_step, free_run = _one_step(near, table, frames), _free_run(judged, table, frames, start)
        lengths = [each.seasons for each in found]
        # What forecasts where the inputs of coming steps are not known is judged without them, too.
        untold = bool(table.input_names) and table.future < horizon
        rivals = [("forecast", judged, seconds)]
        rivals += [("forecast, inputs known", judged, seconds)] if untold and judged.takes_inputs else []
        names = ["forecast"] if untold else []
        goodness = goodness_of(rivals, table, start, horizon, levels, lengths, names)
        model = judged
        if start < table.steps and asked.refit:
            model = AutoForecaster(**given, progress=part(fits - 1))
            model.fit(frames.y, frames.inputs(0, table.steps), fh=steps)
        elif start < table.steps:
            model.update(frames.y.iloc[start:], frames.inputs(start, table.steps), update_params=False)
    settings = {
        "model": "auto", "target": table.target_names, "inputs": table.input_names, "season": asked.season,
        "transform": asked.transform, "difference": asked.difference, "refit": asked.refit, "level": asked.level,
        "test": test, "horizon": horizon,
    }  # fmt: skip
    future = table.inputs[table.steps : table.steps + horizon] if table.input_names and not untold else None
    coming = coming_of(
        "auto", model, horizon, len(table.target_names), inputs=future, times=table.axis.ahead(horizon), levels=levels
    )
    results = Results(
        title=title,
        table=table,
        start=start,
        one_step=one_step,
        free_run=free_run,
        coming=coming,
        settings=settings,
        saved=saved_run(model, table, horizon, settings),
        report={"contenders": [contenders(model, None), by_step(model)]},
        goodness=goodness,
        understood=found,
        shown=[contenders(model, MOST_SHOWN), *([] if goodness is None else goodness.tables())],
        notes=(
            *_chosen(model, table.target_names, "With the inputs, f" if untold and model.takes_inputs else "F"),
            *(_without_inputs(model, table, horizon, out) if untold else ()),
            *([] if goodness is None else goodness.sentences()),
            *([] if goodness is None else _chosen_before(judged, model, table.target_names)),
            *few(wild_ends(table, found)),
        ),
    )
    write_results(out, results)


def understood_as(table: Table, given: dict[str, Any]) -> list[Understanding]:
    """Return what every target is like, by the arguments of the estimator where they say."""
    seasons, transform = given["season"], given["transform"]
    known = None if seasons == "auto" else seasons or []
    return understood(table, known, None if transform == "auto" else transform is not None)


def _said(table: Table, found: Sequence[Understanding]) -> list[str]:
    """Return a line a target on what the series are like."""
    several = len(found) > 1
    lines = [f"{name}: {each}" if several else str(each) for name, each in zip(table.target_names, found, strict=True)]
    return few(lines)


def _choices(model: AutoForecaster, names: Sequence[str]) -> list[str]:
    """Return what forecasts each target, without its name."""
    lines = model.chosen_.splitlines()
    if len(lines) == 1:
        return lines
    return [line.removeprefix(f"{name}: ") for name, line in zip(names, lines, strict=True)]


def _chosen(model: AutoForecaster, names: Sequence[str], begun: str) -> list[str]:
    by = _choices(model, names)
    if len(by) == 1:
        return [f"{begun}orecast by: {by[0]}."]
    begun = begun[0].lower() + begun[1:]
    return few([f"{name}: {begun}orecast by: {each}." for name, each in zip(names, by, strict=True)])


def _chosen_before(judged: AutoForecaster, model: AutoForecaster, names: Sequence[str]) -> list[str]:
    """Return a line a target that a baseline alone forecasts now and did not the held-out end, or the other way."""
    found = []
    for name, choice, before, now in zip(names, _choices(judged, names), judged.repeats, model.repeats, strict=True):
        if before != now:
            of = f"{name}: what" if len(names) > 1 else "What"
            found.append(f"{of} forecast the held-out end was chosen from the rows before it: {choice}.")
    return few(found)


def _without_inputs(model: AutoForecaster, table: Table, horizon: int, out: Path) -> list[str]:
    """Return a line on what forecasts where the inputs are not known for all steps."""
    known = f"The inputs are known for {table.future} of the {horizon} steps"
    if not model.takes_inputs:
        return [f"{known}; what forecasts takes none of them."]
    several = len(table.target_names) > 1
    lines = [
        f"Without them{f', {name}' if several else ''}: {line}."
        for name, line in zip(table.target_names, model.without_inputs, strict=True)
    ]
    return [
        f"{known}, so forecast.csv takes none. Where they are known: retrograd forecast {out} --inputs-file FILE, or "
        "rows with an empty target.",
        *few(lines),
    ]


def few(lines: list[str]) -> list[str]:
    """Return as many lines as a terminal shows, and how many are left."""
    return lines if len(lines) <= MOST_SHOWN else [*lines[:MOST_SHOWN], f"… and {len(lines) - MOST_SHOWN} more"]


def _one_step(judged: AutoForecaster, table: Table, frames: Frames) -> Array:
    """Return the predictions one step ahead, of all rows with enough before and after them."""
    one_step, first = np.full_like(table.targets, np.nan), judged.least
    if first + len(judged.steps) <= table.steps:
        ahead = judged.backtest(frames.y, frames.inputs(0, table.steps), start=first)
        one_step[first : first + len(ahead)] = ahead[:, 0]
    return one_step


def _free_run(judged: AutoForecaster, table: Table, frames: Frames, start: int) -> Array:
    """Return the forecast of the held-out end from the rows before it, as far as the horizon goes."""
    free_run = np.full_like(table.targets, np.nan)
    there = min(len(judged.steps), table.steps - start)
    if there:
        coming = np.asarray(judged.predict(judged.steps[:there], frames.inputs(start, start + there)))
        free_run[start : start + there] = coming.reshape(there, -1)
    return free_run
