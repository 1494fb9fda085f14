"""What a series is like and what its prediction leaves over, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from retrograd.report.content import Section, TextTable

if TYPE_CHECKING:
    from retrograd.estimators.diagnosis import Movement, Residuals

__all__ = ["Story", "section"]


@dataclass(frozen=True)
class Story:
    """One series and its predictions one step ahead.

    Attributes:
        name: of the target; empty for the only one.
        understood: what it is like, in one line.
        season: in steps, 1 for none.
        moved: its trend and season.
        left: what its errors one step ahead are like; None where there are too few.
        part: which rows these are of, in words.
    """

    name: str
    understood: str
    season: int
    moved: Movement
    left: Residuals | None
    part: str

    def sentences(self) -> list[str]:
        """Return what is known of it: trend and season, then what is left over."""
        before = f"{self.name}: " if self.name else ""
        return [f"{before}{self.understood}.", before + self._moves(), before + self._left()]

    def _moves(self) -> str:
        found, season = self.moved, self.season
        if not np.isfinite(found.slope):
            return "Too few rows to tell a trend."
        if np.isfinite(found.turns) and abs(found.slope) > 2 * found.turns:
            way = "rises" if found.slope > 0 else "falls"
            said = f"It {way} by {abs(found.slope):.3g} a step"
            said += f", {abs(found.slope) * season:.3g} a season" if season > 1 else ""
        else:
            said = "No steady trend: it turns as often as it goes on"
        if season > 1:
            said += f"; the season explains {100 * found.share:.0f} % of how it changes from row to row"
        return f"{said}."

    def _left(self) -> str:
        if self.left is None:
            return f"Too few errors one step ahead ({self.part}) to tell what is left in them."
        return f"Errors one step ahead ({self.part}): {'; '.join(_words(self.left, self.season))}."


def section(stories: Sequence[Story], tables: Sequence[TextTable] = ()) -> Section:
    """Return the section of a page, with tables below the words."""
    reading = (
        "What is left over should be noise: without bias, without correlation with its own past, of one size "
        "throughout. Correlation that is left means that a better forecast exists; growing errors mean that intervals "
        "are too narrow at the end."
    )
    lead = [sentence for story in stories for sentence in story.sentences()]
    return Section("What the series is like", reading, lead=lead, tables=tables)


def _words(found: Residuals, season: int) -> list[str]:
    said = [f"standard deviation {found.deviation:.3g}"]
    if found.biased:
        low = "too low" if found.bias > 0 else "too high"
        said.append(f"forecasts are {low} by {abs(found.bias):.3g} on average")
    else:
        said.append("no bias that stands out of chance")
    if np.isnan(found.p):
        pass
    elif found.p < 0.01:
        strongest = max(found.correlations.items(), key=lambda item: abs(item[1]), default=(1, 0.0))
        where = "a season before" if strongest[0] == season > 1 else "the step before"
        far = abs(strongest[1]) > found.limit
        said.append(
            "they go with their own past"
            + (f", most with the error {where} ({strongest[1]:+.2f})" if far else "")
            + f": something is left to predict (Ljung-Box p {found.p:.1g})"
        )
    else:
        much = "nothing" if found.p >= 0.05 else "hardly anything"
        said.append(f"{much} of the past is left in them (Ljung-Box p {found.p:.2g})")
    if found.outliers:
        said.append(f"{found.outliers} of {found.count} lie beyond four deviations")
    if found.growth > 1.5:
        said.append(f"the later half is {found.growth:.1f} times as large as the earlier one")
    elif found.growth < 1 / 1.5:
        said.append(f"the earlier half is {1 / found.growth:.1f} times as large as the later one")
    return said
