"""An entry of a gradient beside its finite difference: do they agree, and could one tell?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Difference"]

# The part of a number that its finite difference may be off by; one that is worse tells nothing of it.
TELLING = 0.1


@dataclass(frozen=True)
class Difference:
    """One entry of a gradient beside its finite difference.

    Attributes:
        name: of the weight, ``"h0"`` or ``"x"``.
        index: of the entry.
        gradient: by backpropagation.
        difference: (L(θ + s) − L(θ − s)) / 2s.
        allowed: what the finite difference may be off by: its rounding and its curvature.

    Examples:
        >>> [Difference("bias", (0,), 1.0, d, 0.01).checked for d in (1.001, 2.0, float("inf"))]
        [True, True, False]
        >>> Difference("bias", (0,), 1.0, 0.0, 2000.0).checked  # would agree with anything
        False
    """

    name: str
    index: tuple[int, ...]
    gradient: float
    difference: float
    allowed: float

    @property
    def agrees(self) -> bool:
        """Whether both are the same number, as far as a finite difference can tell; NaN is not."""
        return abs(self.gradient - self.difference) <= self.allowed

    @property
    def checked(self) -> bool:
        """Whether the finite difference can tell: it is finite, and agreement within its own error means something."""
        if not (np.isfinite(self.difference) and np.isfinite(self.allowed)):
            return False
        size = max(abs(self.gradient), abs(self.difference))
        return not self.agrees or size == 0 or self.allowed <= TELLING * size
