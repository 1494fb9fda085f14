"""Experiments in: one or several pairs of input and output series, checked, laid end to end.

The experiments of one fit are packed into one row of N steps, as a packed scan reads them: sensitivities, states and
residuals of all of them come from one scan, and what would cross from one experiment into the next is cut by a reset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from retrograd.errors import InputError
from retrograd.tables.align import by_name, by_time
from retrograd.tables.step import Step
from retrograd.tables.time_axis import TimeAxis
from retrograd.tables.values import as_numbers, column_names

__all__ = ["Axis", "Experiments", "are_several", "axis_of", "read_experiments"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Axis:
    """The times of one experiment.

    Attributes:
        times: an index of every step; rows that the data lacked are put in.
        step: how it goes on.
        given: places of the rows that the data had.
    """

    times: Any
    step: Step
    given: Array


@dataclass(frozen=True)
class Experiments:
    """E experiments, N steps in all, packed in time.

    Attributes:
        inputs: u, ``(N, m)`` float64, finite; m = 0 for an autonomous system.
        outputs: y, ``(N, p)`` float64, 0 where missing.
        observed: bool ``(N, p)``: False where y is missing.
        lengths: steps of each experiment.
        input_names: the m inputs.
        output_names: the p outputs.
        axes: the times of each experiment, None where its outputs have none.
    """

    inputs: Array
    outputs: Array
    observed: Array
    lengths: tuple[int, ...]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    axes: tuple[Axis | None, ...] = ()

    @cached_property
    def starts(self) -> Array:
        """Index of each experiment's first step, ``(E,)``."""
        return np.concatenate([[0], np.cumsum(self.lengths)[:-1]]).astype(np.int64)

    @cached_property
    def reset(self) -> Tensor:
        """True at each experiment's first step, bool ``(1, N)``, as :func:`retrograd.scan` reads it."""
        reset = torch.zeros(1, len(self.inputs), dtype=torch.bool)
        reset[0, torch.from_numpy(self.starts)] = True
        return reset

    @cached_property
    def owner(self) -> Array:
        """Which experiment each step belongs to, ``(N,)``."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    @property
    def complete(self) -> bool:
        """Whether no output is missing."""
        return bool(self.observed.all())

    def split(self, values: Array) -> list[Array]:
        """Return packed ``(N, ...)`` values experiment by experiment."""
        return np.split(values, self.starts[1:])

    def as_given(self, values: Array) -> list[Array]:
        """Return packed ``(N, ...)`` values experiment by experiment, without rows that the data lacked."""
        axes = self.axes or (None,) * len(self.lengths)
        return [part if axis is None else part[axis.given] for part, axis in zip(self.split(values), axes, strict=True)]

    @property
    def time_axis(self) -> TimeAxis | None:
        """The end of the last experiment's time axis; None where it has none."""
        axis = self.axes[-1] if self.axes else None
        return None if axis is None else TimeAxis("time", axis.times[-1], axis.step, axis.times[:0])

    def scaled(self, input_scale: Array, output_scale: Array) -> Experiments:
        """Return the same experiments in units of ``input_scale (m,)`` and ``output_scale (p,)``."""
        return Experiments(
            self.inputs / input_scale,
            self.outputs / output_scale,
            self.observed,
            self.lengths,
            self.input_names,
            self.output_names,
        )

    def part(self, which: Sequence[tuple[int, int]]) -> Experiments:
        """Return new experiments from ``(start, stop)`` pieces of the packed row."""
        index = np.concatenate([np.arange(start, stop) for start, stop in which])
        return Experiments(
            self.inputs[index],
            self.outputs[index],
            self.observed[index],
            tuple(stop - start for start, stop in which),
            self.input_names,
            self.output_names,
        )


def read_experiments(
    U: Any, Y: Any, *, input_names: Sequence[str] | None = None, output_names: Sequence[str] | None = None
) -> Experiments:
    """Check inputs and outputs of one or several experiments; pack copies of them.

    Columns are taken by name and rows by time wherever there are names and times: inputs at the times of the outputs, a
    step without a row as missing outputs.

    Args:
        U: ``(N, m)`` or ``(N,)`` array or pandas object, or a list of those; None for no inputs.
        Y: ``(N, p)`` or ``(N,)``, or a list of those; NaN where an output is missing.
        input_names: the columns that U has to have; those of its first experiment by default.
        output_names: the columns that Y has to have.

    Raises:
        InputError: the pieces do not fit each other, or hold what cannot be used.

    Examples:
        >>> data = read_experiments([np.ones(3), np.ones(2)], [np.arange(3.0), [0.0, np.nan]])
        >>> data.inputs.shape, data.lengths, data.observed[:, 0].tolist()
        ((5, 1), (3, 2), [True, True, True, True, False])
    """
    several = are_several(Y)
    all_y = list(Y) if several else [Y]
    if U is None:
        all_u: list[Any] = [None] * len(all_y)
    elif several:
        if not isinstance(U, (list, tuple)) or len(U) != len(all_y):
            count = len(U) if isinstance(U, (list, tuple)) else "one array"
            raise InputError(f"U is {count}, Y a list of {len(all_y)} experiments: give a list of as many inputs")
        all_u = list(U)
    else:
        all_u = [U]
    if not all_y:
        raise InputError("Y is an empty list, expected at least one experiment")

    parts: list[_Experiment] = []
    for number, (u, y) in enumerate(zip(all_u, all_y, strict=True)):
        part = _read_one(u, y, f"[{number}]" if several else "", input_names, output_names)
        if number == 0:
            input_names, output_names = input_names or part.input_names, output_names or part.output_names
        elif (part.inputs.shape[1], part.outputs.shape[1]) != (parts[0].inputs.shape[1], parts[0].outputs.shape[1]):
            raise InputError(
                f"experiment {number} has {part.inputs.shape[1]} inputs and {part.outputs.shape[1]} outputs, the first "
                f"has {parts[0].inputs.shape[1]} and {parts[0].outputs.shape[1]}"
            )
        parts.append(part)
    y_packed = np.concatenate([part.outputs for part in parts])
    observed = ~np.isnan(y_packed)
    return Experiments(
        np.concatenate([part.inputs for part in parts]),
        np.where(observed, y_packed, 0.0),
        observed,
        tuple(len(part.outputs) for part in parts),
        tuple(input_names or ()),
        tuple(output_names or ()),
        tuple(part.axis for part in parts),
    )


@dataclass(frozen=True)
class _Experiment:
    inputs: Array
    outputs: Array
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    axis: Axis | None


def _read_one(
    u: Any, y: Any, label: str, input_names: Sequence[str] | None, output_names: Sequence[str] | None
) -> _Experiment:
    y = y if output_names is None else by_name(f"Y{label}", y, output_names)
    outputs, y_names = _as_series(f"Y{label}", y, "y")
    if np.isinf(outputs).any():
        raise InputError(f"Y{label} has infinite values: mark missing outputs as NaN")
    axis = axis_of(f"Y{label}", y)
    if axis is not None and len(axis.times) > len(outputs):
        filled = np.full((len(axis.times), outputs.shape[1]), np.nan)
        filled[axis.given] = outputs
        outputs = filled
    if u is None:
        return _Experiment(np.empty((len(outputs), 0)), outputs, (), y_names, axis)
    u = u if input_names is None else by_name(f"U{label}", u, input_names)
    if axis is not None and isinstance(u, (pd.DataFrame, pd.Series)) and u.index.equals(y.index):
        _require_whole(axis, label)
    u = by_time(f"U{label}", u, axis.times if axis is not None else getattr(y, "index", None), f"Y{label}")
    inputs, u_names = _as_series(f"U{label}", u, "u")
    if len(inputs) != len(outputs):
        lacks = "" if axis is None or len(axis.given) == len(outputs) else ", with those of the steps that it lacks"
        raise InputError(f"U{label} has {len(inputs)} steps, Y{label} has {len(outputs)}{lacks}: they must be equal")
    if not np.isfinite(inputs).all():
        row, column = np.argwhere(~np.isfinite(inputs))[0]
        raise InputError(
            f"U{label} is {inputs[row, column]} at step {row}, input {u_names[column]}: inputs must be known "
            "(only outputs may be missing): fill it, or cut the experiment in two there"
        )
    return _Experiment(inputs, outputs, u_names, y_names, axis)


def _require_whole(axis: Axis, label: str) -> None:
    """Raise where rows are missing in time of inputs as of outputs."""
    absent = np.setdiff1d(np.arange(len(axis.times)), axis.given)
    if len(absent):
        steps = f"{len(absent)} steps" if len(absent) > 1 else "a step"
        raise InputError(
            f"U{label} and Y{label} lack {steps} ({axis.step}), the first at {axis.times[absent[0]]}: inputs must be "
            "known at every step; fill them, or give the parts between as a list of experiments"
        )


def axis_of(name: str, values: Any) -> Axis | None:
    """Return the times of a table's rows; None where rows are numbered alone, or have labels that are no times.

    Raises:
        InputError: times do not increase, or follow no step.
    """
    index: Any = getattr(values, "index", None)
    if not isinstance(values, (pd.DataFrame, pd.Series)) or isinstance(index, pd.RangeIndex) or len(index) < 3:
        return None
    dated = isinstance(index, (pd.DatetimeIndex, pd.PeriodIndex))
    if isinstance(index, pd.MultiIndex) or not (dated or index.dtype.kind in "iuf"):
        return None
    if not index.is_monotonic_increasing or not index.is_unique:
        raise InputError(f"{name} has an index that does not increase: sort it, and leave one row a time")
    try:
        step = Step.find(index)
        places = step.places(index)
    except InputError as error:
        raise InputError(f"{name} has an index without a step: {error}", *error.arguments) from None
    missing = step.missing(index)
    return Axis(index.append(missing).sort_values() if len(missing) else index, step, places)


def are_several(values: Any) -> bool:
    """Return whether values are a list of experiments: of arrays, not of numbers.

    >>> are_several([np.ones(3)]), are_several([1.0, 2.0]), are_several(np.ones((2, 3)))
    (True, False, False)
    """
    return isinstance(values, (list, tuple)) and any(np.ndim(part) > 0 for part in values)


def _as_series(name: str, values: Any, letter: str) -> tuple[Array, tuple[str, ...]]:
    """Return values as float64 ``(N, columns)``, a copy, and the columns' names."""
    array = as_numbers(name, values)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2:
        raise InputError(f"{name} has shape {array.shape}, expected (steps, columns), or a list of such experiments")
    if len(array) == 0 or (array.shape[1] == 0 and letter == "y"):
        raise InputError(f"{name} has shape {array.shape}: there is nothing in it")
    names = column_names(values)
    if names is None or len(names) != array.shape[1]:
        names = tuple(f"{letter}{number + 1}" for number in range(array.shape[1]))
    return array, names
