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
from retrograd.pictures.palette import BLACK, BLUE, GREEN, PURPLE, VERMILLION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Plots", "compare_models"]

Array = np.ndarray[Any, Any]

COLORS = (VERMILLION, BLUE, GREEN, PURPLE)


class Plots:
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
        p, m = len(model.output_names), len(model.input_names)
        figure, axes = _figure(p, 1 + m, height=2.2)
        for q in range(p):
            panels = [(found.lags, found.own[:, q], found.band, f"e({model.output_names[q]}) with its past")]
            panels += [
                (found.input_lags, found.with_inputs[:, q, k], found.input_band[q, k], f"with {model.input_names[k]}")
                for k in range(m)
            ]
            for axis, (at, values, band, title) in zip(axes[q], panels, strict=True):
                axis.axhspan(-band, band, color=BLUE, alpha=0.2, linewidth=0)
                axis.vlines(at, 0, values, color=BLACK, linewidth=1.2)
                axis.axhline(0, color=BLACK, linewidth=0.8)
                axis.set_title(title, fontsize="medium")
                axis.set_xlabel("lag, steps")
        axes[0, 0].set_ylabel("correlation")
        return figure

    def poles(self) -> Figure:
        """Eigenvalues of A in the complex plane, beside the unit circle."""
        figure, axes = _figure(1, 1, height=4.5, width=4.8)
        axis = axes[0, 0]
        angle = np.linspace(0, 2 * np.pi, 361)
        axis.plot(np.cos(angle), np.sin(angle), color=BLACK, linewidth=1, alpha=0.6, label="unit circle")
        poles, closed = self._model.poles, self._model.predictor_poles
        axis.plot(poles.real, poles.imag, "x", color=BLUE, markersize=9, markeredgewidth=2, label="poles (A)")
        if closed is not None:
            axis.plot(closed.real, closed.imag, "+", color=VERMILLION, markersize=10, label="predictor (A − K C)")
        axis.set_aspect("equal")
        axis.set_xlabel("real part")
        axis.set_ylabel("imaginary part")
        axis.legend(loc="upper left", fontsize="small")
        return figure

    def bode(self, points: int = 400) -> Figure:
        """Magnitude and phase of the response from every input to every output, up to the Nyquist frequency."""
        model = self._model
        self._require_inputs("bode")
        nyquist = 0.5 / model.sample_time
        frequency = bode_frequencies(model.system, model.sample_time, points)
        response = frequency_response(model.system, frequency, model.sample_time)
        figure, axes = _figure(2, 1, height=3.0, share=True)
        for number, (q, k) in enumerate(np.ndindex(response.shape[1:])):
            style: dict[str, Any] = {
                "color": COLORS[number % len(COLORS)],
                "linestyle": ("-", "--", ":", "-.")[number // len(COLORS) % 4],
            }
            name = f"{model.input_names[k]} → {model.output_names[q]}"
            axes[0, 0].loglog(frequency, np.abs(response[:, q, k]), label=name, **style)
            phase = np.degrees(np.unwrap(np.angle(response[:, q, k])))
            axes[1, 0].semilogx(frequency, phase, **style)
        for axis in axes[:, 0]:
            axis.axvline(nyquist, color=BLACK, linewidth=0.8, linestyle=":")
        axes[0, 0].set_ylabel("magnitude, output / input")
        axes[1, 0].set_ylabel("phase, degrees")
        axes[1, 0].set_xlabel(f"frequency, cycles per {self._unit()} (dotted: Nyquist)")
        axes[0, 0].legend(fontsize="small")
        return figure

    def step(self, steps: int | None = None) -> Figure:
        """Outputs after a unit step in each input, from rest."""
        model = self._model
        self._require_inputs("step")
        length = steps or settling_steps(model.system)
        response = step_response(model.system, length)
        p, m = response.shape[1:]
        figure, axes = _figure(p, m, height=2.2)
        for q, k in np.ndindex(p, m):
            axes[q, k].step(np.arange(length) * model.sample_time, response[:, q, k], where="post", color=BLUE)
            axes[q, k].axhline(0, color=BLACK, linewidth=0.8)
            axes[q, k].set_title(f"{model.input_names[k]} → {model.output_names[q]}", fontsize="medium")
            axes[q, k].set_xlabel(self._time_label())
        axes[0, 0].set_ylabel("output units / input unit")
        return figure

    def forecast(self, horizon: int, U_future: Any = None, *, level: float = 0.95, past: int = 100) -> Figure:
        """The forecast after the data of the fit, with its prediction interval, and the last ``past`` steps."""
        model = self._model
        data = require_data(self._data)
        coming = model.forecast(horizon, U_future, model.final_state, level)
        last = data.split(np.where(data.observed, data.outputs, np.nan))[-1]
        figure, axes = _figure(len(model.output_names), 1, height=2.4)
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
        model, order = self._model, self._model.system.order
        criteria = model.order_criteria
        figure, axes = _figure(1, 2 if criteria else 1, height=3.2)
        values = model.singular_values[: max(2 * order, 15)]
        number = np.arange(1, len(values) + 1)
        colors = [BLUE if n <= order else "#999999" for n in number]
        axes[0, 0].scatter(number, values, color=colors)
        axes[0, 0].axvline(order + 0.5, color=BLACK, linewidth=0.8, linestyle=":")
        axes[0, 0].set_yscale("log")
        axes[0, 0].set_xlabel(f"order (chosen: {order})")
        axes[0, 0].set_ylabel("singular value")
        if criteria:
            orders = list(criteria)
            least = min(min(pair) for pair in criteria.values())
            for which, name, color in ((0, "AIC", VERMILLION), (1, "BIC", BLUE)):
                axes[0, 1].plot(orders, [criteria[n][which] - least for n in orders], "o-", color=color, label=name)
            axes[0, 1].set_xlabel("order")
            axes[0, 1].set_ylabel("criterion above its least value")
            axes[0, 1].legend(fontsize="small")
        return figure

    def _time_label(self) -> str:
        return "time, steps" if self._model.sample_time == 1 else "time"

    def _unit(self) -> str:
        return "step" if self._model.sample_time == 1 else "unit of time"

    def _require_inputs(self, what: str) -> None:
        if not self._model.input_names:
            raise InputError(f"plot.{what}: the model has no inputs to respond to")


def compare_models(models: list[tuple[str, Identified]], U: Any, Y: Any) -> Figure:
    """Measured outputs, and the free runs of several named systems of the same inputs and outputs."""
    return _compare(models, models[0][1].read(U, Y), None)


def _compare(models: list[tuple[str, Identified]], data: Experiments, k: int | None) -> Figure:
    first = models[0][1]
    figure, axes = _figure(len(first.output_names), 1, height=2.4)
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


def _figure(
    rows: int, columns: int, *, height: float, width: float | None = None, share: bool = False
) -> tuple[Figure, np.ndarray[Any, np.dtype[np.object_]]]:
    from matplotlib.figure import Figure

    # Not through pyplot: a library must not choose the user's backend or keep figures alive.
    figure = Figure(figsize=(width or max(8.0, 3.2 * columns), max(height * rows, 2.6)), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex="col" if share else False)
    for axis in axes.flat:
        _quiet(axis)
    return figure, axes


def _quiet(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.25, linewidth=0.6)
