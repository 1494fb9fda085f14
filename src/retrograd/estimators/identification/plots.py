"""Pictures of an identified system, as matplotlib figures; every axis labelled, colours told apart by everyone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from retrograd.errors import InputError
from retrograd.estimators.identification.analysis import (
    bode_frequencies,
    frequency_response,
    residual_correlation,
    settling_steps,
    step_response,
)
from retrograd.estimators.identification.experiments import Experiments
from retrograd.estimators.identification.identified import Identified, require_data
from retrograd.estimators.identification.system import predict
from retrograd.pictures import system as pictures
from retrograd.pictures.figures import new_figure, quiet
from retrograd.pictures.palette import BLACK, BLUE, GREEN, PURPLE, VERMILLION
from retrograd.pictures.spectrum import eigenvalues

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["SystemPlots", "compare_models"]

Array = np.ndarray[Any, Any]

COLORS = (VERMILLION, BLUE, GREEN, PURPLE)


class SystemPlots:
    """Pictures of a fitted :class:`retrograd.estimators.StateSpace`, each a new ``matplotlib.figure.Figure``.

    Figures are not shown: a notebook shows what a cell returns; elsewhere, ``figure.savefig(path)``.

    Examples:
        >>> from retrograd.estimators import StateSpace
        >>> u = np.random.default_rng(0).standard_normal(200)
        >>> model = StateSpace(order=1).fit(u, np.convolve(u, [0, 1, 0.5, 0.25])[:200])
        >>> len(model.plot.bode().axes)
        2
    """

    def __init__(self, model: Identified, data: Experiments | None) -> None:
        """Keep a system, and the data of its fit where they are known."""
        self._model, self._data = model, data

    def compare(self, U: Any = None, Y: Any = None, k: int | None = None) -> Figure:
        """Measured outputs and the model's: the free run, or ``k`` steps ahead; the data of the fit by default."""
        label = "free run" if k is None else f"{k} step{'s' * (k > 1)} ahead"
        return _compare([(label, self._model)], require_data(self._data) if Y is None else self._model.read(U, Y), k)

    def residuals(self, U: Any = None, Y: Any = None, lags: int = 25) -> Figure:
        """Correlation of each residual with its own past and with each input, and what chance stays within (99 %)."""
        model = self._model
        data = require_data(self._data) if Y is None else model.read(U, Y)
        system = model.system if Y is None else model.started(data)
        found = residual_correlation(data, data.outputs - predict(system, data)[1], lags)
        return pictures.residuals(found, model.output_names, model.input_names)[0]

    def poles(self) -> Figure:
        """Eigenvalues of A in the complex plane, beside the unit circle."""
        sets = [("poles (A)", self._model.poles)]
        if self._model.predictor_poles is not None:
            sets.append(("predictor (A − K C)", self._model.predictor_poles))
        return eigenvalues(sets)[0]

    def bode(self, points: int = 400) -> Figure:
        """Magnitude and phase of the response from every input to every output, up to the Nyquist frequency."""
        model = self._model
        self._require_inputs("bode")
        frequency = bode_frequencies(model.system, model.sample_time, points)
        response = frequency_response(model.system, frequency, model.sample_time)
        unit = "step" if model.sample_time == 1 else "unit of time"
        return pictures.bode(frequency, response, model.output_names, model.input_names, 0.5 / model.sample_time, unit)

    def step(self, steps: int | None = None) -> Figure:
        """Outputs after a unit step in each input, from rest."""
        model = self._model
        self._require_inputs("step")
        response = step_response(model.system, steps or settling_steps(model.system))
        time = np.arange(len(response)) * model.sample_time
        return pictures.step(time, response, model.output_names, model.input_names, self._time_label())

    def forecast(self, horizon: int, U_future: Any = None, *, level: float = 0.95, past: int = 100) -> Figure:
        """The forecast after the data of the fit, with its prediction interval, and the last ``past`` steps."""
        model = self._model
        data = require_data(self._data)
        coming = model.forecast(horizon, U_future, model.final_state, level)
        last = data.split(np.where(data.observed, data.outputs, np.nan))[-1]
        figure, axes = _panels(len(model.output_names))
        ahead = np.arange(len(last), len(last) + horizon) * model.sample_time
        shown = np.arange(max(len(last) - past, 0), len(last))
        for column, axis in enumerate(axes[:, 0]):
            mean, lower, upper = (np.asarray(part)[:, column] for part in (coming.mean, coming.lower, coming.upper))
            axis.plot(shown * model.sample_time, last[shown, column], color=BLACK, linewidth=1, label="measured")
            axis.plot(ahead, mean, color=GREEN, label="forecast")
            axis.fill_between(
                ahead, lower, upper, color=GREEN, alpha=0.25, linewidth=0, label=f"{100 * level:g} % interval"
            )
            axis.set_ylabel(model.output_names[column])
            axis.legend(loc="upper left", fontsize="small")
        axes[-1, 0].set_xlabel(self._time_label())
        return figure

    def order(self) -> Figure:
        """Singular values of the subspace; with ``order="auto"``, AIC and BIC of every order tried."""
        model = self._model
        return pictures.order(model.singular_values, model.system.order, model.order_criteria)

    def _time_label(self) -> str:
        return "time, steps" if self._model.sample_time == 1 else "time"

    def _require_inputs(self, what: str) -> None:
        if not self._model.input_names:
            raise InputError(f"plot.{what}: the model has no inputs to respond to")


def compare_models(models: list[tuple[str, Identified]], U: Any, Y: Any) -> Figure:
    """Measured outputs, and the free runs of several named systems of the same inputs and outputs."""
    return _compare(models, models[0][1].read(U, Y), None)


def _compare(models: list[tuple[str, Identified]], data: Experiments, k: int | None) -> Figure:
    first = models[0][1]
    figure, axes = _panels(len(first.output_names))
    time = np.arange(len(data.outputs)) * first.sample_time
    for column, axis in enumerate(axes[:, 0]):
        measured = np.where(data.observed[:, column], data.outputs[:, column], np.nan)
        axis.plot(time, measured, color=BLACK, linewidth=1, label="measured")
        for start in data.starts[1:]:
            axis.axvline(start * first.sample_time, color=BLACK, linewidth=0.8, linestyle=":")
        axis.set_ylabel(first.output_names[column])
    for number, (name, model) in enumerate(models):
        predicted, percent = model.judged(data, k)
        for column, axis in enumerate(axes[:, 0]):
            label = f"{name}, fit {percent[column]:.1f} %"
            axis.plot(time, predicted[:, column], color=COLORS[number % len(COLORS)], linewidth=1, label=label)
    for axis in axes[:, 0]:
        axis.legend(loc="upper right", fontsize="small")
    axes[-1, 0].set_xlabel("time, steps" if first.sample_time == 1 else "time")
    return figure


def _panels(rows: int) -> tuple[Figure, np.ndarray[Any, np.dtype[np.object_]]]:
    figure, axes = new_figure(rows, 1, width=8.0, height=max(2.4 * rows, 2.6), squeeze=False)
    for axis in axes.flat:
        quiet(axis)
    return figure, axes
