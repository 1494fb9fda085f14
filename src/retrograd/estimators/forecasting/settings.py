"""What a forecaster is asked for: the arguments of its constructor, checked, and the look-back that the data allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from retrograd.errors import InputError, require_choice, require_number, require_whole
from retrograd.estimators.forecasting.states import Difference
from retrograd.estimators.recurrent.training import OPTIMIZERS

__all__ = ["Instance", "Settings", "look_back"]

Array = np.ndarray[Any, Any]

STATES, READOUTS = ("lags", "diagonal", "dense"), ("direct", "recursive")
# The longest look-back that is taken unasked: two weeks of hours.
_LONGEST = 336


@dataclass(frozen=True)
class Settings:
    """What :class:`retrograd.estimators.Forecaster` was asked for, checked; by its names."""

    states: str
    lags: int | None
    hidden: int
    recursive: bool
    difference: Difference
    scale: bool
    share: bool
    ridge: float | None
    intercept: bool
    epochs: int
    optimizer: str
    lr: float | None
    seed: int

    @classmethod
    def of(cls, asked: Any) -> Settings:
        """Check the arguments that a :class:`retrograd.estimators.Forecaster` keeps as they were given.

        Raises:
            InputError: one of them is none of what is allowed.
        """
        require_choice("states", asked.states, STATES)
        require_choice("readout", asked.readout, READOUTS)
        require_choice("optimizer", asked.optimizer, list(OPTIMIZERS))
        difference = asked.difference
        if difference not in (None, "last"):
            difference = require_whole("difference", difference)
        epochs = require_whole("epochs", asked.epochs, 0)
        automatic = isinstance(asked.ridge, str)
        if asked.ridge != "auto" and (automatic or not 0 <= float(asked.ridge) < np.inf):
            raise InputError(f"ridge is {asked.ridge!r}, expected 'auto' or a number of at least 0")
        if epochs and asked.states == "lags":
            raise InputError(
                f"epochs is {epochs}, but lags have nothing to train: their read-out is at its optimum; leave epochs "
                "at 0, or take states='diagonal' or 'dense'"
            )
        return cls(
            states=asked.states,
            lags=None if asked.lags is None else require_whole("lags", asked.lags),
            hidden=require_whole("hidden", asked.hidden),
            recursive=asked.readout == "recursive",
            difference=difference,
            scale=bool(asked.scale),
            share=bool(asked.share),
            ridge=None if automatic else float(asked.ridge),
            intercept=difference is None if asked.intercept is None else bool(asked.intercept),
            epochs=epochs,
            optimizer=asked.optimizer,
            lr=None if asked.lr is None else require_number("lr", asked.lr, above=0),
            seed=asked.seed,
        )

    @property
    def season(self) -> int:
        """Steps of the season that is subtracted, 0 if none is."""
        return self.difference if isinstance(self.difference, int) else 0


@dataclass(frozen=True)
class Instance:
    """One instance: ``y (T, C)`` and ``x (T, E)`` in their own units; ``before`` is the state before the first row."""

    name: str
    y: Array
    x: Array
    before: Array | None = None


def look_back(instances: list[Instance], longest: int, settings: Settings) -> int:
    """Return how many lags; raise if the series are too short for them."""
    season = settings.season
    shortest = min(instances, key=lambda instance: len(instance.y))
    fullest = max(len(instance.y) for instance in instances)
    lags = settings.lags
    if lags is None:
        # About ten windows for every lag; the difference to the last value needs one more to say anything.
        room = min(fullest - longest, len(shortest.y)) - season
        lags = max(1, min(_LONGEST, max((fullest - longest - season) // 10, 2), room))
    rows = lags if settings.states == "lags" else 1
    parts = [f"{rows} of look-back (lags)" if settings.states == "lags" else "1 to start from"]
    parts += [f"{season} of the season (difference)"] if season else []
    if len(shortest.y) < rows + season:
        raise InputError(
            f"y{shortest.name} has {len(shortest.y)} steps, a forecast of it needs at least {rows + season}: "
            f"{', '.join(parts)}; give more data, or take fewer lags"
        )
    needed = rows + season + longest
    if fullest < needed:
        raise InputError(
            f"y has {fullest} steps, at least {needed} are needed: {', '.join(parts)}, {longest} of the longest "
            "horizon (fh); give more data, take fewer lags or a shorter horizon"
        )
    return lags
