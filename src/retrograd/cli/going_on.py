"""A saved run told of rows that came after its data: it forecasts from their end, with what it had learnt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from retrograd.cli.options import Reading
from retrograd.cli.run_folder import Panel, Run
from retrograd.errors import InputError
from retrograd.tables import Later, TimeAxis, read_later

__all__ = ["panel_after", "run_after"]

Array = np.ndarray[Any, Any]


def run_after(run: Run, source: str, reading: Reading) -> Run:
    """Return a run of one series at the end of later rows; nothing is fitted again.

    Rows at the end that have the inputs and no target are the known future.

    Raises:
        InputError: the rows cannot be used, or do not follow the run's data.
    """
    names, outputs = [*run.targets, *run.inputs], len(run.targets)
    later = read_later(source, names, {"": run.axis}, axis=reading.axis, file=reading.file)[""]
    there = np.isfinite(later.values[:, :outputs]).any(axis=1)
    steps = int(np.flatnonzero(there)[-1]) + 1 if there.any() else 0
    values, x = later.values[:steps, :outputs], later.values[:, outputs:]
    if not np.isfinite(x).all():
        row = int(np.argwhere(~np.isfinite(x))[0][0])
        raise InputError(f"{source} lacks an input at {later.time[row]}: every step after the data needs every input")
    if run.kind == "forecaster" and not np.isfinite(values).all():
        row = int(np.argwhere(~np.isfinite(values))[0][0])
        raise InputError(f"{source} lacks a target at {later.time[row]}, and a forecaster needs each: fill it")
    axis = replace(run.axis, last=later.time[steps - 1] if steps else run.axis.last, known=later.time[steps:])
    return replace(_told(run, values, x[:steps], later.time[:steps]), axis=axis, future_inputs=x[steps:])


def _told(run: Run, y: Array, x: Array, times: Any) -> Run:
    """Return a run whose model knows later values ``(rows, O)`` and inputs ``(rows, E)``."""
    if not len(y):
        return run
    X: Any = x if run.inputs else None
    if run.kind == "state-space":
        return replace(run, state=run.model.state_after(X, y, run.state))
    if run.kind == "recurrent":
        return replace(run, state=run.model.state_after(y, X, run.state))
    if run.kind == "auto":
        X = None if X is None else pd.DataFrame(X, index=times, columns=run.model.input_names)
        run.model.update(pd.DataFrame(y, index=times, columns=run.targets), X, update_params=False)
    else:
        run.model.update(y, X, update_params=False)
    return run


def panel_after(panel: Panel, source: str, reading: Reading) -> Panel:
    """Return a run of many series at the end of later rows of some or all of them; nothing is fitted again.

    Raises:
        InputError: the rows cannot be used, or are of a series that the run does not have.
    """
    later = read_later(source, panel.targets, panel.axes, series=panel.series, axis=reading.axis, file=reading.file)
    for name, each in later.items():
        if np.isnan(each.values).all(axis=0).any():
            raise InputError(f"{source} has rows of {panel.series} {name}, but no value in them: leave them out")
    if panel.kind == "recurrent-panel":
        panel.model.update({name: each.values for name, each in later.items()})
        return replace(panel, axes={name: _moved(axis, later, name) for name, axis in panel.axes.items()})
    frames = {name: pd.DataFrame(each.values, index=each.time, columns=panel.targets) for name, each in later.items()}
    panel.model.update(pd.concat(frames, names=[panel.series, "time"]), update_params=False)
    return replace(panel, axes={name: _moved(axis, later, name) for name, axis in panel.axes.items()})


def _moved(axis: TimeAxis, later: Mapping[str, Later], name: str) -> TimeAxis:
    return replace(axis, last=later[name].time[-1]) if name in later else axis
