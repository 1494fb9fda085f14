"""Which order, which noise model, and whether a refinement is kept: by what will hold on data that no fit has seen.

An order is chosen by an information criterion on brief refinements. Where residuals are white it is Schwarz's; where
those of output error are coloured, Akaike's, which counts as many as are independent, N_e of
:mod:`retrograd.estimators.identification.search`, and no x0, which other data do not share:

    white: 2 V + d log N        coloured: 2 V N_e / N + 2 d        d: parameters that the behaviour depends on

Then held-out blocks decide. The data are cut into blocks; each is run freely, from its best initial state, by models
that were fitted to all others. A refinement whose residuals are coloured has to run better there than the subspace
start, and clearly better where these residuals drift, else the start is kept. ``noise="auto"`` takes innovations
where they run better than output error, each going on from its state at the end of the data before a block, as a
forecast does: output error may have bought what drifts with slow modes, and the best state of a block buys it there,
too. Where the residuals of output error are white, as the criterion takes them to be, there is nothing to decide.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from retrograd.errors import InputError
from retrograd.estimators.identification.disturbances import with_disturbances
from retrograd.estimators.identification.experiments import Experiments
from retrograd.estimators.identification.matrices import System
from retrograd.estimators.identification.prediction_error import Fit
from retrograd.estimators.identification.search import WHITE, Search, Settings
from retrograd.estimators.identification.sensitivity import initial_states
from retrograd.estimators.identification.system import final_state, predict

__all__ = ["Selection", "select"]

Array = np.ndarray[Any, Any]

# The largest order that "auto" tries: with inputs, and without any, where a season and a trend have to fit.
LARGEST = {True: 12, False: 16}
# Orders above the best one after which "auto" looks no further, where fits take long.
PATIENCE = 3
# Steps · outputs · parameters below which fits do not take long.
LITTLE_WORK = 1 << 19
BLOCKS = 4
# Steps of an experiment that a block has at least: free runs over fewer are judged by their initial states.
LEAST_STEPS = 40
# Residuals of fewer steps for each independent one, of an output-error fit, are as its criterion takes them to be.
NEARLY_WHITE = 1.5
# By how much less RMS over held-out blocks a higher order is clearly better.
CLEARLY = 0.02
# By how much less RMS over held-out blocks a refinement holds up.
HOLDS_UP = 0.01
# From this share of slow power on, residuals drift, ...
DRIFTS = 0.4
# ... and a refinement has to run better by so much: a block has another drift than what is to come.
HOLDS_UP_AGAINST_DRIFT = 0.05
# Why no blocks are asked.
NOT_JUDGED = {
    "alone": "Innovations: there are no inputs.",
    "white": "Output error: its residuals are white.",
    "coloured": "Output error: what optimizer says is done.",
}


@dataclass(frozen=True)
class Selection:
    """What was chosen, and why.

    Attributes:
        search: of the noise model chosen.
        fit: the fit kept.
        order: n; of output error, without the states of disturbances.
        refined: False where the subspace start is kept.
        criteria: ``{order: (AIC, BIC)}`` where the order was chosen, else empty.
        reasons: sentences that say why.
        at_most: whether the order is the largest that was tried, with the criterion still falling.
    """

    search: Search
    fit: Fit
    order: int
    refined: bool
    criteria: dict[int, tuple[float, float]]
    reasons: tuple[str, ...]
    at_most: bool


def select(data: Experiments, settings: Settings, held_out: Experiments | None = None) -> Selection:
    """Choose what the settings leave open, and fit it.

    Args:
        data: the experiments, scaled.
        settings: of the estimator.
        held_out: experiments that judge iterates; None: all data are fitted.

    Raises:
        InputError: the data do not allow the order.
    """
    driven = data.inputs.shape[1] > 0
    noise = settings.noise
    if noise == "auto":
        noise = "output-error" if driven else "innovations"
    search = Search(data, settings, noise, held_out)
    order, criteria, why = _order(search)
    coloured = noise == "output-error" and driven and search.colour_of_start(order) > NEARLY_WHITE
    if not coloured or settings.optimizer not in ("auto", "lm"):
        reasons: tuple[str, ...] = (
            ()
            if settings.noise != "auto"
            else (NOT_JUDGED["coloured" if coloured else "white" if driven else "alone"],)
        )
        return Selection(
            search, search.full(order), order, True, criteria, (*why, *reasons), _at_most(search, criteria, order)
        )
    blocks = _Blocks(data, settings, search.colour(order))
    if settings.order == "auto":
        higher = blocks.higher(order, max(criteria))
        if higher > order:
            why = (*why, f"Order {higher}: over held-out blocks it runs better than order {order}.")
            order = higher
    start, refinement = blocks.rms("output-error", order)
    # The user's own held-out part keeps the iterate that is best there.
    drifts = search.drift(order) > DRIFTS
    needed = HOLDS_UP_AGAINST_DRIFT if drifts else HOLDS_UP
    refined = held_out is not None or not refinement > (1 - needed) * start
    reasons = (*why, *_start_kept(start, refinement, refined, drifts))
    if settings.noise == "auto" and np.isfinite(refinement):
        other = Search(data, settings, "innovations", held_out)
        order_of_other, criteria_of_other, why_of_other = _order(other)
        of_other, kept = blocks.ahead("innovations", order_of_other), blocks.ahead("output-error", order, refined)
        both = f"{_percent(of_other)} with innovations, {_percent(kept)} with output error"
        if of_other < kept:
            search, order, criteria, refined = other, order_of_other, criteria_of_other, True
            reasons = (*why_of_other, f"Innovations: free runs from the data before held-out blocks fit {both}.")
        else:
            reasons = (*reasons, f"Output error: free runs from the data before held-out blocks fit {both}.")
    fit = search.full(order) if refined else search.kept(order)
    if settings.noise == "auto" and search.noise == "output-error" and data.complete:
        fit, why = _disturbed(fit, data)
        reasons = (*reasons, *why)
    return Selection(search, fit, order, refined, criteria, reasons, _at_most(search, criteria, order))


def _disturbed(fit: Fit, data: Experiments) -> tuple[Fit, tuple[str, ...]]:
    """Return the fit with the disturbances of its outputs, and a sentence on them where there are some."""
    system, which = with_disturbances(fit.system, data)
    if not which:
        return fit, ()
    before, after = (np.sum((data.outputs - predict(each, data)[1]) ** 2) for each in (fit.system, system))
    names = ", ".join(data.output_names[k] for k in which)
    return replace(fit, system=system), (
        f"The residuals of {names} last: a state more for each follows them (innovations of order {system.order} in "
        f"all), and takes {100 * (1 - (after / before) ** 0.5):.0f} % off the error one step ahead.",
    )


def _largest(search: Search) -> int:
    most = search.settings.max_order
    return LARGEST[search.data.inputs.shape[1] > 0] if most is None else most


def _order(search: Search) -> tuple[int, dict[int, tuple[float, float]], tuple[str, ...]]:
    """Return the order, ``{order: (AIC, BIC)}`` of those tried where it is chosen here, and why."""
    if search.settings.order != "auto":
        return int(search.settings.order), {}, ()
    data = search.data
    steps = int(data.observed.any(axis=1).sum())
    refused: InputError | None = None
    found: dict[int, tuple[float, float]] = {}
    fits: dict[int, Fit] = {}
    best, colour, said = 0, 1.0, "Schwarz's criterion (BIC)"
    largest = min(_largest(search), search.rank() or _largest(search))
    for order in range(1, largest + 1):
        layout = search.layout(order)
        if data.observed.sum() <= layout.count():
            break
        try:
            fits[order] = search.brief(order)
        except InputError as error:
            refused = error
            break
        # What comes from other orders' priors must not tell orders apart: the likelihood alone.
        values = {n: search.ranked(fit) * steps for n, fit in fits.items()}
        if search.noise == "output-error" and data.inputs.shape[1]:
            lowest = fits[min(values, key=lambda n: values[n])]
            colour = search.colour_of(lowest.system)
        coloured = colour > WHITE
        found = {n: _criteria(search, n, values[n], steps, colour if coloured else 1.0) for n in fits}
        best = min(found, key=lambda n: found[n][0 if coloured else 1])
        if order - best >= PATIENCE and data.outputs.size * layout.size() > LITTLE_WORK:
            break
    if not found:
        raise refused or InputError(f"{int(data.observed.sum())} observed outputs are too few for a model of order 1")
    if colour > WHITE:
        said = f"Akaike's criterion (AIC), which counts {steps / colour:.0f} of {steps} residuals as independent"
    return best, found, (f"Order {best} of 1 to {max(found)}: the lowest of {said}.",)


def _criteria(search: Search, order: int, value: float, steps: int, colour: float) -> tuple[float, float]:
    layout, p = search.layout(order), search.data.outputs.shape[1]
    free = layout.count() + p * (p + 1) // 2
    if colour > 1:
        free -= layout.experiments * order * layout.free_x0
    return 2 * value / colour + 2 * free, 2 * value / colour + float(np.log(steps / colour)) * free


class _Blocks:
    """Held-out blocks, with fits to all other data; every fit is made once."""

    def __init__(self, data: Experiments, settings: Settings, colour: float) -> None:
        self._parts = list(_blocks(data))
        self._settings, self._colour = settings, colour
        self._searches: dict[tuple[str, int], Search] = {}

    def rms(self, noise: str, order: int) -> tuple[float, float]:
        """Return the RMS of free runs of the start, and of its refinement, of the outputs' spread.

        Means over outputs and blocks; NaN where no block can be.
        """
        found = []
        for number, (_, held, _) in enumerate(self._parts):
            search = self._search(noise, number)
            try:
                found.append((_rms(search.start(order), held), _rms(search.brief(order).system, held)))
            except InputError:  # too little data for the order
                continue
        return tuple(np.mean(found, axis=0).tolist()) if found else (float("nan"), float("nan"))

    def ahead(self, noise: str, order: int, refined: bool = True) -> float:
        """Return the RMS of free runs that go on from the state at the end of the data before a block.

        The mean over outputs and blocks; where no data stand before any block, that from their best initial states.
        """
        found = []
        for number, (train, held, before) in enumerate(self._parts):
            search = self._search(noise, number)
            goes_on = [k for k, at in enumerate(before) if at is not None]
            if not goes_on:
                continue
            try:
                system = search.brief(order).system if refined else search.start(order)
            except InputError:
                continue
            ends = final_state(system, train, predict(system, train)[0])
            spans = [(int(held.starts[k]), int(held.starts[k]) + held.lengths[k]) for k in goes_on]
            x0 = np.stack([ends[at] for at in before if at is not None])
            found.append(_error(replace(system.free_running(), x0=x0), held.part(spans)))
        if not found:
            return self.rms(noise, order)[int(refined)]
        return float(np.mean(found))

    def _search(self, noise: str, number: int) -> Search:
        if (noise, number) not in self._searches:
            train = self._parts[number][0]
            self._searches[noise, number] = Search(train, self._settings, noise, colour=self._colour)
        return self._searches[noise, number]

    def higher(self, order: int, largest: int) -> int:
        """Return the order from this one up that runs best; one that is not clearly better is not taken."""
        best, least = order, min(self.rms("output-error", order))
        for tried in range(order + 1, largest + 1):
            rms = min(self.rms("output-error", tried))
            if rms < (1 - CLEARLY) * least:
                best, least = tried, rms
            if tried - best >= PATIENCE:
                break
        return best


def _blocks(data: Experiments) -> Iterator[tuple[Experiments, Experiments, list[int | None]]]:
    """Yield the data without a block, the block, and which of the former's pieces each of the latter's goes on from.

    Pieces of experiments that are too short are left out.
    """
    edges = np.linspace(0, len(data.outputs), BLOCKS + 1).astype(int).tolist()
    for begin, end in pairwise(edges):
        inside: list[tuple[int, int]] = []
        outside: list[tuple[int, int]] = []
        for start, length in zip(data.starts.tolist(), data.lengths, strict=True):
            stop = start + length
            for spans, first, last in ((inside, begin, end), (outside, start, begin), (outside, end, stop)):
                span = (max(start, first), min(stop, last))
                if span[1] - span[0] >= LEAST_STEPS:
                    spans.append(span)
        if inside and outside:
            held = data.part(inside)
            if held.observed.any(axis=0).all():
                ends = {stop: number for number, (_, stop) in enumerate(outside)}
                # Where a block's piece begins an experiment, what ends there is another one.
                firsts = set(data.starts.tolist())
                yield data.part(outside), held, [None if at in firsts else ends.get(at) for at, _ in inside]


def _rms(system: System, data: Experiments) -> float:
    return _error(initial_states(system.free_running(), data), data)


def _error(system: System, data: Experiments) -> float:
    """Return the RMS of a system's predictions, the mean over the outputs."""
    with np.errstate(over="ignore", invalid="ignore"):
        e = np.where(data.observed, data.outputs - predict(system, data)[1], 0.0)
        rms = np.sqrt((e**2).sum(axis=0) / np.maximum(data.observed.sum(axis=0), 1))
    return float(np.mean(rms)) if np.isfinite(rms).all() else float("inf")


def _start_kept(start: float, refinement: float, refined: bool, drifts: bool) -> tuple[str, ...]:
    if np.isnan(start):
        return ("Output error, refined: there are too few steps for held-out blocks.",)
    if refined:
        return ()
    both = f"{_percent(start)}, its refinement {_percent(refinement)}"
    why = ", and the residuals drift: a refinement has to run clearly better" if drifts else ""
    return (f"The subspace start is kept: over held-out blocks it fits {both}{why}.",)


def _at_most(search: Search, criteria: dict[int, tuple[float, float]], order: int) -> bool:
    return len(criteria) > 1 and order == max(criteria) == _largest(search)


def _percent(rms: float) -> str:
    return f"{100 * (1 - rms):.1f} %"
