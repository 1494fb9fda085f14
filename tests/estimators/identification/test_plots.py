"""What the pictures draw is what the model says; how they look is for eyes."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest

from estimators.systems import random_system, simulated
from retrograd.errors import InputError
from retrograd.estimators import StateSpace


@pytest.fixture(scope="module")
def fitted():
    u, y, _ = simulated(random_system(0, inputs=2), 400, 0.2, seed=1)
    y[50, 0] = np.nan
    return u, y, StateSpace(order="auto", max_order=4, noise="innovations").fit(u, y)


def test_compare_draws_the_free_run_and_its_fit(fitted) -> None:
    u, y, model = fitted
    figure = model.plot.compare()
    assert len(figure.axes) == 2
    measured, predicted = figure.axes[0].lines[:2]
    assert np.array_equal(measured.get_ydata(), y[:, 0], equal_nan=True)
    assert f"fit {model.fit_percent(u, y)[0]:.1f} %" in predicted.get_label()
    ahead = model.plot.compare(u, y, k=1).axes[1].lines[1]
    assert np.allclose(ahead.get_ydata(), model.predict(u, y)[:, 1])


def test_every_axis_says_what_it_is(fitted) -> None:
    u, _, model = fitted
    pictures = [
        model.plot.compare(),
        model.plot.residuals(),
        model.plot.poles(),
        model.plot.bode(),
        model.plot.step(),
        model.plot.forecast(10, u[:10]),
        model.plot.order(),
    ]
    for figure in pictures:
        assert any(axis.get_xlabel() for axis in figure.axes)
        assert any(axis.get_ylabel() for axis in figure.axes)
        figure.canvas.draw()


def test_bode_ends_at_nyquist(fitted) -> None:
    _, _, model = fitted
    magnitude = model.plot.bode().axes[0]
    assert len(magnitude.lines) == 2 * 2 + 1
    assert magnitude.lines[0].get_xdata()[-1] == 0.5
    dc = model.C_ @ np.linalg.solve(np.eye(model.order_) - model.A_, model.B_) + model.D_
    assert magnitude.lines[0].get_ydata()[0] == pytest.approx(abs(dc[0, 0]), rel=0.05)


def test_the_forecast_s_band_is_its_interval(fitted) -> None:
    u, _, model = fitted
    axis = model.plot.forecast(10, u[:10]).axes[0]
    band = axis.collections[0].get_paths()[0].vertices[:, 1]
    coming = model.forecast(10, u[:10])
    assert band.min() == pytest.approx(coming.lower[:, 0].min())
    assert band.max() == pytest.approx(coming.upper[:, 0].max())


@pytest.mark.filterwarnings("ignore::retrograd.estimators.identification.cautions.IdentificationWarning")
def test_without_inputs_there_is_nothing_to_respond_to() -> None:
    t = np.arange(80.0)
    model = StateSpace(order=2).fit(None, np.cos(0.3 * t) + 0.01 * np.random.default_rng(0).standard_normal(80))
    with pytest.raises(InputError, match=r"plot\.bode: the model has no inputs"):
        model.plot.bode()
    assert len(model.plot.poles().axes) == 1
    assert len(model.plot.residuals().axes) == 1
