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
import torch
from torch import Tensor

from retrograd.errors import InputError

__all__ = ["Experiments", "are_several", "as_series", "read_experiments"]

Array = np.ndarray[Any, Any]


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
    """

    inputs: Array
    outputs: Array
    observed: Array
    lengths: tuple[int, ...]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]

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


def read_experiments(U: Any, Y: Any) -> Experiments:
    """Check inputs and outputs of one or several experiments; pack copies of them.

    Args:
        U: ``(N, m)`` or ``(N,)`` array or pandas object, or a list of those; None for no inputs.
        Y: ``(N, p)`` or ``(N,)``, or a list of those; NaN where an output is missing.

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

    outputs: list[Array] = []
    inputs: list[Array] = []
    input_names: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()
    for number, (u, y) in enumerate(zip(all_u, all_y, strict=True)):
        label = f"[{number}]" if several else ""
        y_values, y_names = as_series(f"Y{label}", y, "y")
        if np.isinf(y_values).any():
            raise InputError(f"Y{label} has infinite values: mark missing outputs as NaN")
        u_values, u_names = (np.empty((len(y_values), 0)), ()) if u is None else as_series(f"U{label}", u, "u")
        if len(u_values) != len(y_values):
            raise InputError(f"U{label} has {len(u_values)} steps, Y{label} has {len(y_values)}: they must be equal")
        if not np.isfinite(u_values).all():
            row, column = np.argwhere(~np.isfinite(u_values))[0]
            raise InputError(
                f"U{label} is {u_values[row, column]} at step {row}, input {u_names[column]}: inputs must be known "
                "(only outputs may be missing): fill it, or cut the experiment in two there"
            )
        if number and (u_values.shape[1], y_values.shape[1]) != (inputs[0].shape[1], outputs[0].shape[1]):
            raise InputError(
                f"experiment {number} has {u_values.shape[1]} inputs and {y_values.shape[1]} outputs, the first has "
                f"{inputs[0].shape[1]} and {outputs[0].shape[1]}"
            )
        if number == 0:
            input_names, output_names = u_names, y_names
        inputs.append(u_values)
        outputs.append(y_values)
    y_packed = np.concatenate(outputs)
    observed = ~np.isnan(y_packed)
    return Experiments(
        np.concatenate(inputs),
        np.where(observed, y_packed, 0.0),
        observed,
        tuple(len(part) for part in outputs),
        input_names,
        output_names,
    )


def are_several(values: Any) -> bool:
    """Return whether values are a list of experiments: of arrays, not of numbers.

    >>> are_several([np.ones(3)]), are_several([1.0, 2.0]), are_several(np.ones((2, 3)))
    (True, False, False)
    """
    return isinstance(values, (list, tuple)) and any(np.ndim(part) > 0 for part in values)


def as_series(name: str, values: Any, letter: str) -> tuple[Array, tuple[str, ...]]:
    """Return values as float64 ``(N, columns)``, a copy, and the columns' names.

    >>> as_series("Y", [1, 2], "y")
    (array([[1.], [2.]]), ('y1',))
    """
    names = None
    if hasattr(values, "columns"):
        names = tuple(str(column) for column in values.columns)
    elif getattr(values, "name", None) is not None:
        names = (str(values.name),)
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} cannot be read as numbers: {error}") from None
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2:
        raise InputError(f"{name} has shape {array.shape}, expected (steps, columns), or a list of such experiments")
    if len(array) == 0 or (array.shape[1] == 0 and letter == "y"):
        raise InputError(f"{name} has shape {array.shape}: there is nothing in it")
    if names is None or len(names) != array.shape[1]:
        names = tuple(f"{letter}{number + 1}" for number in range(array.shape[1]))
    return array, names
