"""The colours of every picture: Okabe and Ito's, told apart by colour-blind readers too (Color Universal Design)."""

from __future__ import annotations

__all__ = ["BLACK", "BLUE", "GREEN", "NO_SUCH_STEP", "ORANGE", "PURPLE", "SKY", "VERMILLION"]

BLACK, BLUE, VERMILLION, GREEN, PURPLE = "#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7"
ORANGE, SKY = "#e69f00", "#56b4e9"
# Where a map of steps and lags has no cell: neither a colour nor a zero.
NO_SUCH_STEP = "#c8c8c8"
