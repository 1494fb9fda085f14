"""One series and what forecasts it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from retrograd.estimators.auto.caution import Caution
from retrograd.estimators.auto.combination import combined, named
from retrograd.estimators.auto.contenders import Fitted, logarithm
from retrograd.estimators.auto.gaps import filled
from retrograd.estimators.auto.intervals import Spread

__all__ = ["Member", "Mixture"]

Array = np.ndarray[Any, Any]

# Ends of intervals stay within so many ranges of the series, or at the forecast where that lies beyond.
_ROOM = 10.0
# Forecasts from many rows take up the errors of those before so many times at most.
_TURNS = 32


@dataclass(frozen=True)
class Mixture:
    """Fitted contenders that forecast together.

    Attributes:
        fits: which.
        weights: of their mean.
        spread: of its errors.
        steps: the horizons that they were fitted for.
        caution: when the last one, a baseline of weight 0, forecasts instead; None: never.
        median: its part in the forecast beside the mean.
    """

    fits: list[Fitted]
    weights: Array
    spread: Spread
    steps: Array
    caution: Caution | None = None
    median: float = 0.0

    def from_origins(self, y: Array, x: Array, start: int, stop: int, steps: Array) -> Array:
        """Return forecasts from the rows ``start`` to ``stop`` of a series as the last known ones, ``(n, K)``."""
        asked = steps if self.caution is None else self.steps[self.steps <= steps[-1]]
        each = np.stack([fit.forecast(y, x, start, stop, asked) for fit in self.fits])
        found = combined(each, self.weights, self.median)
        if self.caution is not None:
            found = self.caution.temper(each[-1], found)[:, np.searchsorted(asked, steps)]
        return np.asarray(found)

    @property
    def described(self) -> str:
        """The names of those that forecast."""
        names = [fit.contender.name for fit, weight in zip(self.fits, self.weights, strict=True) if weight > 0]
        what = named(names, self.median)
        cautious = self.caution is not None and self.caution.threshold > 0
        return f"{what}; the {self.fits[-1].contender.name} where they foresee little" if cautious else what

    @property
    def least(self) -> int:
        """The first row that can be an origin."""
        return max(int(fit.rule.burn) for fit in self.fits)

    def seen(self, y: Array, x: Array, known: Array, since: int) -> tuple[Array, Array]:
        """Return what its spread has not seen yet: the origins ``(m,)`` and the errors from them, ``(m, K)``.

        Args:
            y: the series, ``(T,)``; the spread knows the rows before ``since``.
            x: its inputs, ``(T, E)``.
            known: where y was given, ``(T,)``.
            since: the first row whose errors are new; errors of other rows are NaN.
        """
        spread = self.spread
        origins = np.arange(since - 1 - spread.late - (spread.waiting - 1) * spread.stride, len(y), spread.stride)
        errors = np.full((len(origins), len(self.steps)), np.nan)
        able = origins >= self.least
        if not able.any():
            return origins, errors
        rows = origins[able, None] + self.steps
        new = (rows >= since) & (rows < len(y))
        rows = np.minimum(rows, len(y) - 1)
        new &= known[rows]
        # Nothing goes by the rows to come but forecasts of those rows, which are not asked for.
        x = np.concatenate([x, np.zeros((int(self.steps[-1]), x.shape[1]))])
        first, last = int(origins[able][0]), int(origins[-1])
        forecasts = self.from_origins(y, x, first, last + 1, self.steps)[:: spread.stride]
        observed = y[rows]
        if spread.logs:
            new &= (observed > 0) & (forecasts > 0)
            observed, forecasts = logarithm(observed), logarithm(forecasts)
        errors[able] = np.where(new, np.abs(observed - forecasts), np.nan)
        return origins, errors

    def moving(self, center: Array, alpha: float, y: Array, x: Array, known: Array, first: int) -> Array:
        """Return the quantile ``alpha`` around the forecasts ``(n, K)`` from every row from ``first`` on.

        The spread knows the rows up to ``first``; errors of later rows join it as they come in, by turns.
        """
        origins, errors = self.seen(y, x, known, first + 1)
        found, places = np.empty_like(center), np.arange(len(self.steps))
        turns = np.unique(np.linspace(0, len(center), min(_TURNS, len(center)) + 1).astype(int))
        for begin, end in pairwise(turns.tolist()):
            now = first + begin
            by_then = origins <= now
            known_by_then = np.where(origins[by_then, None] + self.steps <= now, errors[by_then], np.nan)
            spread = self.spread.after(known_by_then, now - int(origins[by_then][-1]))
            found[begin:end] = spread.bound(center[begin:end], alpha, places)
        return found

    def again(self, y: Array, x: Array, steps: Array) -> Mixture:
        """Return it with every contender fitted to these rows."""
        return replace(self, fits=[fit.on(y, x, steps) for fit in self.fits])


@dataclass(frozen=True)
class Member:
    """One series and what forecasts it.

    Attributes:
        y: ``(T,)``, without holes.
        x: its inputs, ``(T, E)``.
        season: in steps, 1 for none: what holes are filled by.
        mixture: what forecasts it.
        blind: what forecasts it where inputs are not known ahead; the same if the mixture takes none.
    """

    y: Array
    x: Array
    season: int
    mixture: Mixture
    blind: Mixture

    def forecast(self, x_ahead: Array | None, steps: Array) -> Array:
        """Return forecasts from the last row, ``(K,)``; ``x_ahead`` is None where inputs are not known."""
        last, mixture = len(self.y) - 1, self.mixture
        if x_ahead is None:
            x_ahead, mixture = np.zeros((int(steps[-1]), self.x.shape[1])), self.blind
        x = np.concatenate([self.x, x_ahead])
        return np.asarray(mixture.from_origins(self.y, x, last, last + 1, steps)[0])

    def longer(self, y: Array, x: Array, steps: Array, learn: bool) -> Member:
        """Return it with more rows, the chosen contenders fitted to them too if it shall ``learn``."""
        since, known = len(self.y), np.concatenate([np.ones(len(self.y), dtype=bool), ~np.isnan(y)])
        y, x = filled(np.concatenate([self.y, y]), self.season), np.concatenate([self.x, x])

        def later(mixture: Mixture) -> Mixture:
            origins, errors = mixture.seen(y, x, known, since)
            wiser = replace(mixture, spread=mixture.spread.after(errors, len(y) - 1 - int(origins[-1])))
            return wiser.again(y, x, steps) if learn else wiser

        mixture = later(self.mixture)
        blind = mixture if self.blind is self.mixture else later(self.blind)
        return replace(self, y=y, x=x, mixture=mixture, blind=blind)

    def bound(self, center: Array, alpha: float, places: Array, *, blind: bool) -> Array:
        """Return the quantile ``alpha`` of the values at some horizons, around forecasts ``center``."""
        return self._bounded((self.blind if blind else self.mixture).spread.bound(center, alpha, places), center)

    def moving(
        self, center: Array, alpha: float, y: Array, x: Array, known: Array, first: int, *, blind: bool
    ) -> Array:
        """Return it around forecasts ``(n, K)`` from every row from ``first`` on (:meth:`Mixture.moving`)."""
        mixture = self.blind if blind else self.mixture
        return self._bounded(mixture.moving(center, alpha, y, x, known, first), center)

    def _bounded(self, found: Array, center: Array) -> Array:
        low, high = float(self.y.min()), float(self.y.max())
        if high > low:
            room = _ROOM * (high - low)
            found = np.clip(found, np.minimum(center, low - room), np.maximum(center, high + room))
        return np.maximum(found, 0.0) if low >= 0 else found
