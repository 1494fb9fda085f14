"""Series with holes: rows that the times lack and values that are missing, filled to be learnt from, not judged by."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from retrograd.errors import InputError
from retrograd.estimators.forecasting.tables import NAMELESS, Clock, by_instance, instance_of, with_instances
from retrograd.tables.step import Step
from retrograd.tables.values import as_numbers

__all__ = ["filled", "inputs_on_the_grid", "on_the_grid", "without_holes"]

Array = np.ndarray[Any, Any]

# Sums of squares of so large values are still numbers.
_LARGEST = 1e150


def on_the_grid(y: pd.DataFrame, clocks: dict[Any, Clock]) -> pd.DataFrame:
    """Return a table with a row for every step of its times, NaN in those it lacked.

    Args:
        y: times or (instance, time) down.
        clocks: where instances ended, from which these rows go on.

    Examples:
        >>> y = pd.DataFrame({"a": [1.0, 2.0, 4.0, 5.0]}, index=[1, 2, 4, 5])
        >>> on_the_grid(y, {})["a"].tolist()
        [1.0, 2.0, nan, 4.0, 5.0]
    """
    parts: dict[Any, pd.DataFrame] = {}
    for key, part in by_instance(y):
        times: Any = part.index
        values = as_numbers("y" if key is None else f"y of {key!r}", part)
        grid, given = _grid(times, clocks.get(key)), pd.DataFrame(values, index=times, columns=y.columns)
        parts[key] = given if grid is None else given.reindex(grid)
    if None in parts:
        return parts[None]
    joined: pd.DataFrame = pd.concat(parts.values())
    joined.index = with_instances(list(parts), [part.index for part in parts.values()], y.index.names)
    return joined


def without_holes(grid: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose missing values are filled, column by column and instance by instance (:func:`filled`)."""
    if not grid.isna().to_numpy().any():
        return grid
    found: pd.DataFrame = grid.copy()
    parts = [_columns_filled(part, "y" if key is None else f"y of {key!r}") for key, part in by_instance(grid)]
    found[:] = np.concatenate(parts)
    return found


def inputs_on_the_grid(X: pd.DataFrame, grid: pd.DataFrame) -> pd.DataFrame:
    """Return inputs at the times of a table of series, missing ones filled; 0 where an instance has none at all."""
    parts = []
    for key, part in by_instance(grid):
        rows = instance_of(X, key).reindex(part.index)
        values = as_numbers("X", rows)
        values[:, np.isnan(values).all(axis=0)] = 0.0
        parts.append(_columns_filled(pd.DataFrame(values, columns=X.columns), "X"))
    found: pd.DataFrame = pd.DataFrame(np.concatenate(parts), index=grid.index, columns=X.columns)
    return found


def filled(y: Array, season: int = 1, name: str = "y") -> Array:
    """Return a series without NaN: what was there a season before and after, else the straight line between neighbours.

    Args:
        y: ``(T,)``, NaN where a value is missing.
        season: in steps; 1 for none.
        name: what messages call it.

    Raises:
        InputError: nothing is there, or a value is infinite or nearly so.

    Examples:
        >>> filled(np.array([1.0, np.nan, 3.0])), filled(np.array([1.0, 5.0, 1.0, np.nan, 1.0, 7.0]), season=2)
        (array([1., 2., 3.]), array([1., 5., 1., 6., 1., 7.]))
    """
    known = ~np.isnan(y)
    if np.abs(y[known]).max(initial=0.0) > _LARGEST:
        raise InputError(f"{name} reaches {np.abs(y[known]).max():.3g}, whose square is no number any more: divide it")
    if known.all():
        return y
    if not known.any():
        raise InputError(f"{name} is missing throughout: leave it out")
    rows = np.arange(len(y))
    found = np.interp(rows, rows[known], y[known])
    if season > 1:
        for row in rows[~known].tolist():
            near = [y[at] for at in (row - season, row + season) if 0 <= at < len(y) and known[at]]
            found[row] = np.mean(near) if near else found[row]
    return np.asarray(found)


def _grid(times: Any, clock: Clock | None) -> Any:
    """Return all times from the first (from after the clock's last) to the last; None if none is lacking."""
    try:
        if clock is not None and clock.step is not None:
            times = times[np.asarray(times > clock.last[0])]
            step, count = clock.step, int(clock.step.places(clock.last.append(times))[-1])
            grid = step.at(clock.last[0], np.arange(1, count + 1))
        else:
            step = Step.find(times)
            count = int(step.places(times)[-1]) + 1
            grid = step.at(times[0], np.arange(count))
    except (InputError, TypeError, AttributeError):  # no such axis: what reads it next says so
        return None
    if count == len(times):
        return None
    return (grid.as_unit(times.unit) if isinstance(times, pd.DatetimeIndex) else grid).rename(times.name)


def _columns_filled(part: pd.DataFrame, argument: str) -> Array:
    if not part.shape[1]:
        return part.to_numpy()
    columns = zip(part.columns, part.to_numpy().T, strict=True)
    return np.stack([filled(values, name=called(argument, name)) for name, values in columns], axis=1)


def called(argument: str, name: Any) -> str:
    """Return what a message calls a column of a table.

    >>> called("y", "sales"), called("y", 0)
    ("column 'sales' of y", 'y')
    """
    return argument if name == NAMELESS else f"column {name!r} of {argument}"
