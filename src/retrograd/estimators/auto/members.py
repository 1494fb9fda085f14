"""One series and what forecasts it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from retrograd.estimators.auto.caution import Caution
from retrograd.estimators.auto.contenders import Fitted
from retrograd.estimators.auto.gaps import filled
from retrograd.estimators.auto.intervals import Spread

__all__ = ["Member", "Mixture"]

Array = np.ndarray[Any, Any]

# Ends of intervals stay within so many ranges of the series, or at the forecast where that lies beyond.
_ROOM = 10.0


@dataclass(frozen=True)
class Mixture:
    """Fitted contenders that forecast together.

    Attributes:
        fits: which.
        weights: of their mean.
        spread: of its errors.
        steps: the horizons that they were fitted for.
        caution: when the last one, a baseline of weight 0, forecasts instead; None: never.
    """

    fits: list[Fitted]
    weights: Array
    spread: Spread
    steps: Array
    caution: Caution | None = None

    def from_origins(self, y: Array, x: Array, start: int, stop: int, steps: Array) -> Array:
        """Return forecasts from the rows ``start`` to ``stop`` of a series as the last known ones, ``(n, K)``."""
        asked = steps if self.caution is None else self.steps[self.steps <= steps[-1]]
        each = np.stack([fit.forecast(y, x, start, stop, asked) for fit in self.fits])
        found = np.einsum("m,mnk->nk", self.weights, each)
        if self.caution is not None:
            found = self.caution.temper(each[-1], found)[:, np.searchsorted(asked, steps)]
        return np.asarray(found)

    @property
    def described(self) -> str:
        """The names of those that forecast."""
        names = [fit.contender.name for fit, weight in zip(self.fits, self.weights, strict=True) if weight > 0]
        what = names[0] if len(names) == 1 else f"mean of {len(names)}: {'; '.join(names)}"
        cautious = self.caution is not None and self.caution.threshold > 0
        return f"{what}; the {self.fits[-1].contender.name} where they foresee little" if cautious else what

    @property
    def least(self) -> int:
        """The first row that can be an origin."""
        return max(int(fit.rule.burn) for fit in self.fits)

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
        y, x = filled(np.concatenate([self.y, y]), self.season), np.concatenate([self.x, x])
        if not learn:
            return replace(self, y=y, x=x)
        mixture = self.mixture.again(y, x, steps)
        blind = mixture if self.blind is self.mixture else self.blind.again(y, x, steps)
        return replace(self, y=y, x=x, mixture=mixture, blind=blind)

    def bound(self, center: Array, alpha: float, places: Array, *, blind: bool) -> Array:
        """Return the quantile ``alpha`` of the values at some horizons, around forecasts ``center``."""
        found = (self.blind if blind else self.mixture).spread.bound(center, alpha, places)
        low, high = float(self.y.min()), float(self.y.max())
        if high > low:
            room = _ROOM * (high - low)
            found = np.clip(found, np.minimum(center, low - room), np.maximum(center, high + room))
        return np.maximum(found, 0.0) if low >= 0 else found
