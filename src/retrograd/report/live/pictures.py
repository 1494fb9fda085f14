"""What the live view shows, computed from a training's data and a copy of its weights; plain numbers, as JSON has them.

Everything comes from the very functions that the training and the report use: the predictions are those of
:class:`retrograd.estimators.recurrent.estimator.Recurrent`, δ_t = ∂L/∂h_t that of
:func:`retrograd.estimators.recurrent.training.loss_and_gradients`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from retrograd.estimators.recurrent.estimator import Recurrent
from retrograd.estimators.recurrent.training import Epoch, loss_and_gradients
from retrograd.norms import norm
from retrograd.pictures.axes import is_dated, numbers
from retrograd.pictures.thin import thin
from retrograd.tables.read import Table

__all__ = ["Pictures", "Snapshot"]

Array = np.ndarray[Any, Any]

MOST_TARGETS = 12
MOST_POINTS = 1_000
MOST_MARKERS = 200
# A longer series is a solid block: the view is of these many steps from the border on, and a third as many before it.
LONG = 1_000
CLOSE_UP = 240
# Of a value drawn: more than a screen shows.
DIGITS = 7


@dataclass(frozen=True)
class Snapshot:
    """A training as it was between two epochs.

    Attributes:
        weights: by name, on the CPU, copies.
        history: the training's list of epochs, which goes on growing.
        epochs: how many of them belong to this snapshot.
        best: whether these are the best weights of the training, not the newest.
    """

    weights: dict[str, Array]
    history: Sequence[Epoch]
    epochs: int
    best: bool = False


class Pictures:
    """Computes the live view's pictures of one training.

    Args:
        model: with the scaling of the training part; its weights are not looked at.
        table: the data, N steps of O targets.
        start: index of the first held-out step, N if there is none.
        closed_loop: steps of the closed loop that is trained, None for the open loop.

    Examples:
        >>> y = np.sin(np.arange(60.0))[:, None]
        >>> table = Table("wave", "step", np.arange(60), ["sine"], y, [], y[:, :0])
        >>> model = Recurrent.untrained(y[:50], y[:50, :0], hidden=4, target_names=["sine"])
        >>> pictures = Pictures(model, table, 50, None)
        >>> weights = {name: weight.numpy() for name, weight in model.weights.items()}
        >>> shown = pictures.of(Snapshot(weights, [], 0))
        >>> len(shown["one_step"][0]), len(shown["flow"]["at"]), len(shown["spectrum"]["open"]["re"])
        (60, 49, 4)
    """

    def __init__(self, model: Recurrent, table: Table, start: int, closed_loop: int | None) -> None:
        weights = {name: weight.detach().cpu() for name, weight in model.weights.items()}
        self._model = replace(model, weights=weights)
        self._table, self._start, self._closed_loop = table, start, closed_loop
        self._x, self._y = self._model.series(table.targets[:start], table.inputs[:start])
        steps = table.steps
        centre = start if start < steps else steps
        whole = steps <= LONG
        self._shown = slice(0, steps) if whole else slice(max(centre - CLOSE_UP // 3, 0), min(centre + CLOSE_UP, steps))

    def frame(self) -> dict[str, Any]:
        """Return what stays the same throughout the training: names, times and observed values."""
        table, shown = self._table, self._shown
        names = table.target_names[:MOST_TARGETS]
        return {
            "targets": names,
            "target_count": len(table.target_names),
            "time_label": table.time_label,
            "dated": is_dated(table.time),
            # Steps of the free runs that are trained on; None where each step is predicted from true values.
            "closed_loop": self._closed_loop,
            "time": numbers(table.time[shown]).tolist(),
            "observed": [_plain(table.targets[shown, column]) for column in range(len(names))],
            # Where the held-out end begins, in the steps shown.
            "start": self._start - shown.start,
            "first": shown.start + 1,
            "steps": table.steps,
        }

    def of(self, snapshot: Snapshot) -> dict[str, Any]:
        """Return the four pictures of a snapshot: loss, predictions, flow and spectrum."""
        # What overflows is shown as such; it is no reason for a warning.
        with np.errstate(all="ignore"):
            weights = {name: torch.from_numpy(weight) for name, weight in snapshot.weights.items()}
            model = replace(self._model, weights=weights)
            table, shown = self._table, self._shown
            columns = range(min(len(table.target_names), MOST_TARGETS))
            one_step = model.one_step(table.targets, table.inputs)[shown]
            held_out = self._start < table.steps
            free_run = model.free_run(table.targets, table.inputs, self._start)[shown] if held_out else None
            _, _, delta = loss_and_gradients(weights, self._x, self._y, self._closed_loop)
            open_loop, closed_loop = model.eigenvalues()
            return {
                "epoch": snapshot.epochs,
                "best": snapshot.best,
                "loss": _loss(snapshot.history[: snapshot.epochs]),
                "one_step": [_plain(one_step[:, column]) for column in columns],
                "free_run": None if free_run is None else [_plain(free_run[:, column]) for column in columns],
                "flow": _flow(numbers(table.time[: len(delta)]), norm(delta).numpy()),
                "spectrum": {"open": _spectrum(open_loop), "closed": _spectrum(closed_loop)},
            }


def _plain(values: Array) -> list[float | None]:
    """Return values to :data:`DIGITS` digits; None where they are not finite."""
    return [float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None for value in values.tolist()]


def _loss(history: Sequence[Epoch]) -> dict[str, Any]:
    loss = np.array([epoch.loss for epoch in history])
    kept = thin(loss, MOST_POINTS)
    return {"epoch": (kept + 1).tolist(), "loss": _plain(loss[kept]), "thinned": len(kept) < len(loss)}


def _flow(time: Array, norm: Array) -> dict[str, Any]:
    """Return ‖δ_t‖ where a logarithm has a place for it, and where it is zero or not finite."""
    zero, broken = norm == 0, ~np.isfinite(norm)
    values = np.where(zero | broken, np.nan, norm)
    kept = thin(values, MOST_POINTS)

    def marked(mask: Array) -> dict[str, Any]:
        at = np.flatnonzero(mask)
        return {"count": len(at), "at": time[at[:: -(-len(at) // MOST_MARKERS) or 1]].tolist()}

    return {
        "at": time[kept].tolist(),
        "norm": _plain(values[kept]),
        "zero": marked(zero),
        "broken": marked(broken),
        "steps": len(norm),
        "first": _one(norm[0]),
        "last": _one(norm[-1]),
        "thinned": len(kept) < len(norm),
    }


def _one(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _spectrum(eigenvalues: Array) -> dict[str, Any]:
    finite = eigenvalues[np.isfinite(eigenvalues)]
    return {
        "re": _plain(finite.real),
        "im": _plain(finite.imag),
        "radius": float(np.abs(finite).max()) if len(finite) else None,
        "broken": len(eigenvalues) - len(finite),
    }
