"""How good forecasts are: those of a model beside the naive ones from the same origins, in words and in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from retrograd.pictures.training import curves
from retrograd.report.content import Section, TextTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from retrograd.estimators.backtesting import Rolled

__all__ = ["Goodness"]

Array = np.ndarray[Any, Any]

SCORES = ("RMSE", "MAE", "MASE", "sMAPE")
# Lines of the picture: the model and the baselines that come nearest to it.
MOST_LINES, MOST_PICTURES = 5, 4


@dataclass(frozen=True)
class Goodness:
    """Forecasts of a held-out end from rolling origins.

    Attributes:
        target_names: the O targets.
        first: the first held-out time, as text.
        last: the last one.
        models: forecasts of the model that is judged; of several, the first is the one that is spoken of.
        baselines: those of the naive ones and the AR.
        steps: steps ahead, ``(K,)``.
    """

    target_names: Sequence[str]
    first: str
    last: str
    models: Sequence[Rolled]
    baselines: Sequence[Rolled]
    steps: Array

    @property
    def when(self) -> str:
        """Which rows were forecast, from where, how far."""
        far = f"{self.steps[0]}" if len(self.steps) == 1 else f"{self.steps[0]} to {self.steps[-1]}"
        far += f" step{'s' * (len(self.steps) > 1)} ahead"
        origins = len([*self.models, *self.baselines][0].observed)
        where = "from the row before" if origins == 1 else f"from {origins} rows in turn"
        return f"{self.first} to {self.last}, {far}, {where}"

    def sentences(self) -> list[str]:
        """Say for every target how much better or worse the model is than repeating the last season, or value."""
        return [self._sentence(column) for column in range(len(self.target_names))]

    def tables(self) -> list[TextTable]:
        """Return for every target the errors of all, and how often its values lay in the intervals."""
        levels = sorted({level for one in self.models for level in one.intervals})
        timed = any(np.isfinite(one.seconds) for one in self.models)
        header = ("forecast by", *SCORES, *(f"in {level:g} %" for level in levels), *(["seconds"] if timed else []))
        found = []
        for column, name in enumerate(self.target_names):
            rows = []
            for one in (*self.models, *self.baselines):
                scores, covered = one.scores(column), one.covered(column)
                cells = [_number(scores[score]) for score in SCORES]
                cells += [_percent(covered.get(level)) for level in levels]
                rows.append((one.name, *cells, *([_number(one.seconds, ".3g")] if timed else [])))
            of = f" of {name}" if len(self.target_names) > 1 else ""
            found.append(TextTable(f"Held out{of}: {self.when}", header, rows))
        return found

    def rows(self) -> dict[str, dict[str, float]]:
        """Return the scores of all by target and name, as ``metrics.json`` has them."""
        far = f"{self.steps[0]} to {self.steps[-1]} ahead"
        several = len(self.target_names) > 1
        return {
            f"{one.name}, {far}{f': {name}' if several else ''}": {
                **one.scores(column),
                **{f"in {level:g} %": share for level, share in one.covered(column).items()},
            }
            for column, name in enumerate(self.target_names)
            for one in (*self.models, *self.baselines)
        }

    def section(self, *, coverage: bool = False) -> Section:
        """Return the section of the page: the words, the errors by horizon (and the coverage), the table."""
        reading = (
            "The model knew none of the held-out rows when it was made; each forecast was told the values before its "
            "own origin. RMSE and MAE are in the data's units; MASE is the MAE relative to the mean change from season "
            "to season (or row to row) of the training part; sMAPE is in per cent. "
        )
        figures = []
        if len(self.steps) > 1:
            reading += "The picture has the RMSE by steps ahead."
            figures = [
                self.figure(column, coverage=coverage) for column in range(min(len(self.target_names), MOST_PICTURES))
            ]
        return Section(
            "How good", reading.strip(), figures, lead=self.sentences() if self.models else (), tables=self.tables()
        )

    def figure(self, column: int, *, coverage: bool = False) -> Figure:
        """Draw the RMSE by steps ahead, of models and the nearest baselines; on request what each interval held."""
        name = f" of {self.target_names[column]}" if len(self.target_names) > 1 else ""
        panels = {f"RMSE{name}": {_timed(one): one.by_step(column) for one in self._drawn(column)}}
        levels = sorted({level for one in self.models for level in one.intervals}) if coverage else []
        for level in levels:
            found = {_timed(one): one.covered_by_step(column, level) for one in self.models if level in one.intervals}
            panels[f"in {level:g} % interval, %"] = found
        return curves(self.steps, "steps ahead", panels, {f"in {level:g} % interval, %": level for level in levels})

    def by_step(self) -> list[dict[str, Any]]:
        """Return a row for every target, model and step: the error, and how many per cent an interval held."""
        return [
            {
                "target": name,
                "model": one.name,
                "steps ahead": int(step),
                "RMSE": one.by_step(column)[k],
                **{f"in {level:g} %": one.covered_by_step(column, level)[k] for level in one.intervals},
            }
            for column, name in enumerate(self.target_names)
            for one in (*self.models, *self.baselines)
            for k, step in enumerate(self.steps)
        ]

    def _drawn(self, column: int) -> list[Rolled]:
        nearest = sorted(self.baselines, key=lambda one: _last(one.scores(column)["RMSE"]))
        return [*self.models, *nearest[: max(2, MOST_LINES - len(self.models))]]

    def _sentence(self, column: int) -> str:
        model = self.models[0]
        of = f"{self.target_names[column]}: " if len(self.target_names) > 1 else ""
        error = model.scores(column)["RMSE"]
        if np.isnan(error) and all(np.isnan(one.scores(column)["RMSE"]) for one in self.baselines):
            said = "no value that was held out is known: there is nothing to judge the forecast by."
            return of + said if of else said[0].upper() + said[1:]
        plain = [one for one in self.baselines if not one.name.endswith("drift") and one.name != "AR"]
        # The seasons, or the last value where there is none.
        naive = min(
            [one for one in plain if "seasonal" in one.name] or plain, key=lambda one: one.scores(column)["RMSE"]
        )
        called = "the forecast" if model.name == "forecast" else model.name
        said = f"{of}held out, the RMSE of {called} is {_number(error)}, {_beside(error, naive, column)}."
        best = min(self.baselines, key=lambda one: _last(one.scores(column)["RMSE"]))
        if best is not naive:
            other = best.scores(column)["RMSE"]
            said += (
                f" The {best.name} does better there, "
                if other < error
                else f" The best of the others is the {best.name}, "
            )
            said += f"{_number(other)}."
        covered = {level: share for level, share in model.covered(column).items() if not np.isnan(share)}
        if covered:
            parts = [f"{share:.0f} % lie in the {level:g} % interval" for level, share in sorted(covered.items())]
            said += f" Of the values there, {', '.join(parts)}."
        return said[0].upper() + said[1:] if not of else said


def _beside(error: float, naive: Rolled, column: int) -> str:
    other = naive.scores(column)["RMSE"]
    if not np.isfinite(error):
        return f"and that of the {naive.name} {_number(other)}"
    if other == 0 or error == other:
        return f"as that of the {naive.name}" if error == other else f"and that of the {naive.name} is 0"
    side, advice = ("below", "") if error < other else ("above", ": repeating values would have been better there")
    percent = f"{100 * abs(1 - error / other):.0f}"
    if percent == "0":
        return f"about that of the {naive.name}, {_number(other)}"
    return f"{percent} % {side} that of the {naive.name}, {_number(other)}{advice}"


def _last(value: float) -> float:
    return value if np.isfinite(value) else np.inf


def _timed(one: Rolled) -> str:
    return one.name if np.isnan(one.seconds) else f"{one.name} ({one.seconds:.2g} s)"


def _number(value: float, form: str = ".4g") -> str:
    return "–" if np.isnan(value) else format(value, form)


def _percent(value: float | None) -> str:
    return "–" if value is None or np.isnan(value) else f"{value:.0f} %"
