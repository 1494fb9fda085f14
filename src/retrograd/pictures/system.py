"""An identified system: what its residuals still hold, its responses, the choice of its order."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from retrograd.pictures.figures import LONGEST_NAME, finished, new_figure, quiet, whole_numbers
from retrograd.pictures.palette import BLACK, BLUE, DASHES, GREY, LINES, VERMILLION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Correlations", "bode", "order", "residuals", "step"]

Array = np.ndarray[Any, Any]

# Panels of one figure, and responses that colours and dashes tell apart.
MOST_PANELS, MOST_RESPONSES = 12, len(LINES) * len(DASHES)


class Correlations(Protocol):
    """Correlations of residuals with their own past and with inputs: L and K lags, O outputs, E inputs."""

    @property
    def lags(self) -> Array:
        """``(L,)``, from 0."""

    @property
    def own(self) -> Array:
        """``(L, O)``."""

    @property
    def band(self) -> float:
        """99 % of white noise lies within ± this."""

    @property
    def input_lags(self) -> Array:
        """``(K,)``."""

    @property
    def with_inputs(self) -> Array:
        """``(K, O, E)``."""

    @property
    def input_band(self) -> Array:
        """``(O, E)``."""


def residuals(found: Correlations, outputs: Sequence[str], inputs: Sequence[str]) -> tuple[Figure, list[str]]:
    """Draw each residual's correlation with its own past and with each input, beside the band of chance.

    Args:
        found: the correlations.
        outputs: names of the O outputs.
        inputs: names of the E inputs.

    Returns:
        The figure, and a sentence if there are more panels than it holds.
    """
    panels = []
    for q, output in enumerate(outputs):
        # The correlation at lag 0 is 1 by definition and would set the scale.
        panels.append((f"e({output}) with its past", found.lags[1:], found.own[1:, q], found.band))
        for k, name in enumerate(inputs):
            title = f"e({output}) with {name}"
            panels.append((title, found.input_lags, found.with_inputs[:, q, k], float(found.input_band[q, k])))
    shown = panels[:MOST_PANELS]
    columns = min(len(shown), 1 + len(inputs), 3)
    rows = -(-len(shown) // columns)
    figure, axes = new_figure(rows, columns, width=max(7.2, 3.2 * columns), height=2.3 * rows, squeeze=False)
    for axis, (title, lags, values, band) in zip(axes.flat, shown, strict=False):
        quiet(axis)
        axis.axhspan(-band, band, color=BLUE, alpha=0.2, linewidth=0)
        axis.axhline(0, color=BLACK, linewidth=0.8)
        axis.vlines(lags, 0, values, color=BLACK, linewidth=1.2)
        axis.set_title(textwrap.fill(title, 32), fontsize="medium")
        axis.set_xlabel("lag, steps")
    for axis in axes.flat[len(shown) :]:
        axis.set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel("correlation")
    notes = [f"The first {MOST_PANELS} of {len(panels)} panels are drawn."] if len(shown) < len(panels) else []
    return figure, notes


def bode(
    frequencies: Array, response: Array, outputs: Sequence[str], inputs: Sequence[str], nyquist: float, unit: str
) -> Figure:
    """Draw magnitude and phase from every input to every output, up to the Nyquist frequency.

    Args:
        frequencies: in cycles per ``unit``, ``(F,)``.
        response: complex, ``(F, O, E)``.
        outputs: names of the O outputs.
        inputs: names of the E inputs.
        nyquist: half the sampling rate.
        unit: of time.
    """
    figure, axes = new_figure(2, 1, width=7.2, height=5.0, sharex=True)
    pairs = list(np.ndindex(response.shape[1:]))[:MOST_RESPONSES]
    for number, (q, k) in enumerate(pairs):
        one, style = response[:, q, k], _style(number)
        axes[0].loglog(frequencies, np.abs(one), label=f"{inputs[k]} → {outputs[q]}", **style)
        axes[1].semilogx(frequencies, np.degrees(np.unwrap(np.angle(one))), **style)
    for axis in axes:
        quiet(axis)
        axis.axvline(nyquist, color=BLACK, linewidth=0.8, linestyle=":")
    axes[0].set_ylabel("magnitude, output / input")
    axes[1].set_ylabel("phase, degrees")
    axes[1].set_xlabel(f"frequency, cycles per {unit} (dotted: Nyquist)")
    return finished(figure, columns=3)


def step(time: Array, response: Array, outputs: Sequence[str], inputs: Sequence[str], label: str) -> Figure:
    """Draw each output after a unit step in each input, from rest.

    Args:
        time: after the step, ``(S,)``.
        response: ``(S, O, E)``.
        outputs: names of the O outputs.
        inputs: names of the E inputs.
        label: of the time axis.
    """
    # Outputs have units of their own: one scale for all would flatten the small ones.
    shown = outputs[:MOST_PANELS]
    figure, axes = new_figure(len(shown), 1, width=7.2, height=2.4 * len(shown), sharex=True, squeeze=False)
    for q, (name, axis) in enumerate(zip(shown, axes[:, 0], strict=True)):
        quiet(axis)
        for k, input_name in enumerate(inputs[:MOST_RESPONSES]):
            axis.step(time, response[:, q, k], where="post", label=f"after {input_name}", **_style(k))
        axis.axhline(0, color=BLACK, linewidth=0.8)
        axis.set_ylabel(textwrap.fill(name, LONGEST_NAME))
    axes[-1, 0].set_xlabel(label)
    return finished(figure, columns=3)


def order(singular_values: Array, chosen: int, criteria: Mapping[int, tuple[float, float]]) -> Figure:
    """Draw the singular values of the subspace, and AIC and BIC of every order tried.

    Args:
        singular_values: largest first.
        chosen: the order.
        criteria: ``{order: (AIC, BIC)}``, empty where the order was given.
    """
    figure, axes = new_figure(1, 2 if criteria else 1, width=7.2, height=3.0, squeeze=False)
    values = singular_values[: max(2 * chosen, 15)]
    number = np.arange(1, len(values) + 1)
    axis = axes[0, 0]
    for mask, name, color in ((number <= chosen, "kept", BLUE), (number > chosen, "left out", GREY)):
        axis.plot(number[mask], values[mask], "o", color=color, label=name)
    if (values > 0).all():
        axis.set_yscale("log")
    _by_order(axis, f"order (chosen: {chosen})", "singular value")
    if criteria:
        axis, orders = axes[0, 1], sorted(criteria)
        least = min(min(pair) for pair in criteria.values())
        for which, name, color in ((0, "AIC", VERMILLION), (1, "BIC", BLUE)):
            axis.plot(orders, [criteria[n][which] - least for n in orders], "o-", color=color, label=name, markersize=4)
        _by_order(axis, "order", "criterion above its least value")
    return finished(figure, columns=4)


def _by_order(axis: Axes, x_label: str, y_label: str) -> None:
    quiet(axis)
    whole_numbers(axis)
    axis.set(xlabel=x_label, ylabel=y_label)


def _style(number: int) -> dict[str, Any]:
    return {
        "color": LINES[number % len(LINES)],
        "linestyle": (0, DASHES[number // len(LINES) % len(DASHES)]) if number >= len(LINES) else "-",
        "linewidth": 1.6,
    }
