"""The colours of every picture: Okabe and Ito's, told apart by colour-blind readers too (Color Universal Design)."""

from __future__ import annotations

__all__ = [
    "AGAINST",
    "ALONG",
    "BLACK",
    "BLUE",
    "CSS_NAMES",
    "DASHES",
    "GREEN",
    "GREY",
    "LINES",
    "NO_SUCH_STEP",
    "ORANGE",
    "PURPLE",
    "SKY",
    "VERMILLION",
    "diverging",
]

BLACK, BLUE, VERMILLION, GREEN, PURPLE = "#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7"
ORANGE, SKY, GREY = "#e69f00", "#56b4e9", "#767676"
# Colours of lines in their order; where lines are more, dashes tell them apart.
LINES = (BLUE, VERMILLION, GREEN, PURPLE, BLACK)
DASHES: tuple[tuple[int, ...], ...] = ((), (6, 3), (2, 2), (8, 3, 2, 3))
# Ground of a heat map where a step has no such lag: neither a colour of the map nor white.
NO_SUCH_STEP = "#c8c8c8"
# Parts along a gradient and against it. Every colour-blind reader sees one of them as yellowish, the other as blue.
ALONG, AGAINST = VERMILLION, "#6046b0"
# CSS variables of a page that replace the colours: a dark page has lighter ones.
CSS_NAMES = {
    BLACK: "ink",
    BLUE: "blue",
    VERMILLION: "vermillion",
    GREEN: "green",
    PURPLE: "purple",
    GREY: "grey",
    AGAINST: "against",
}
_DARK_ALONG, _DARK_AGAINST = "#521f00", "#1c0f45"


def diverging(half: int) -> list[str]:
    """Return ``2 half + 1`` colours from dark AGAINST over white to dark ALONG.

    >>> diverging(2)
    ['#1c0f45', '#6046b0', '#ffffff', '#d55e00', '#521f00']
    """
    return [*_ramp(AGAINST, _DARK_AGAINST, half)[::-1], "#ffffff", *_ramp(ALONG, _DARK_ALONG, half)]


def _ramp(strong: str, dark: str, count: int) -> list[str]:
    """Return colours from white, which is left out, over a strong one to a dark one."""
    stops = [[255, 255, 255], *([int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in (strong, dark))]
    colors = []
    for number in range(1, count + 1):
        place = 2 * number / count
        low = min(int(place), 1)
        parts = (a + (b - a) * (place - low) for a, b in zip(stops[low], stops[low + 1], strict=True))
        colors.append("#" + "".join(f"{round(part):02x}" for part in parts))
    return colors
