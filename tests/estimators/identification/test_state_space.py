from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from estimators.systems import random_system, simulated
from retrograd.errors import InputError
from retrograd.estimators import StateSpace
from retrograd.estimators.identification.system import predict


@pytest.fixture(scope="module")
def data():
    system = random_system(0, inputs=2)
    u, y, _ = simulated(system, 800, 0.2, seed=1)
    return system, u, y


@pytest.fixture(scope="module")
def innovations_model(data):
    _, u, y = data
    return StateSpace(order=3, noise="innovations").fit(u, y)


def test_a_system_is_found_again(data, innovations_model) -> None:
    system, u, y = data
    model = innovations_model
    assert np.allclose(np.sort_complex(model.poles_), np.sort_complex(np.linalg.eigvals(system.A)), atol=0.05)
    assert np.allclose(model.innovation_covariance_, 0.04 * np.eye(2), atol=0.005)
    gain = model.C_ @ np.linalg.solve(np.eye(3) - model.A_, model.B_) + model.D_
    expected = system.C @ np.linalg.solve(np.eye(3) - system.A, system.B) + system.D
    assert np.allclose(gain, expected, atol=0.05 * np.abs(expected).max())
    assert model.converged_
    assert model.score(u, y) > 0.97


def test_the_formula_holds_for_what_is_returned(data, innovations_model) -> None:
    _, u, y = data
    m = innovations_model
    x, expected = m.x0_[0], []
    for u_t, y_t in zip(u, y, strict=True):
        expected.append(m.C_ @ x + m.D_ @ u_t + m.offset_)
        x = m.A_ @ x + m.B_ @ u_t + m.K_ @ (y_t - expected[-1])
    assert np.allclose(m.predict(u, y, x0=m.x0_[0]), expected, rtol=0, atol=1e-12 * np.abs(y).max())
    assert np.allclose(m.final_state_, x, rtol=1e-10)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_k_steps_ahead_reads_outputs_up_to_k_steps_before(data, innovations_model, k: int) -> None:
    _, u, y = data
    m, u, y = innovations_model, u[:40], y[:40]
    predicted = m.predict(u, y, k, x0=m.x0_[0])
    t = 30
    known = y.copy()
    known[t - k + 1 :] = np.nan  # what came later: no innovation, so the state runs on freely
    assert np.allclose(predicted[t], m.predict(u, known, x0=m.x0_[0])[t], rtol=1e-10)
    later = y.copy()
    later[t - k + 1 :] += 100
    assert np.array_equal(m.predict(u, later, k, x0=m.x0_[0])[t], predicted[t])


def test_scikit_learn_conventions(data) -> None:
    _, u, y = data
    model = StateSpace(order=2, ridge=1e-6)
    assert clone(model).get_params() == model.get_params()
    assert model.set_params(order=3).order == 3
    with pytest.raises(NotFittedError):
        model.predict(u, y)
    pipeline = make_pipeline(StandardScaler(), StateSpace(order=3)).fit(u[:400], y[:400])
    plain = StateSpace(order=3).fit(u[:400], y[:400])
    assert pipeline.score(u, y) == pytest.approx(plain.score(u, y), abs=1e-4)
    search = GridSearchCV(StateSpace(), {"order": [1, 3]}, cv=TimeSeriesSplit(2)).fit(u[:400], y[:400])
    assert search.best_params_ == {"order": 3}


def test_pandas_in_pandas_out(data) -> None:
    _, u, y = data
    index = pd.date_range("2024-01-01", periods=200, freq="h")
    U = pd.DataFrame(u[:200], index, ["flow", "heat"])
    Y = pd.DataFrame(y[:200], index, ["level", "warmth"])
    model = StateSpace(order=3).fit(U, Y)
    simulated_outputs = model.simulate(U)
    assert simulated_outputs.columns.tolist() == ["level", "warmth"]
    assert simulated_outputs.index.equals(index)
    assert model.predict(U, Y, k=2).index.equals(index)
    ahead = pd.DataFrame(u[200:205], pd.date_range(index[-1], periods=6, freq="h")[1:], ["flow", "heat"])
    coming = model.forecast(5, ahead)
    assert coming.mean.columns.tolist() == ["level", "warmth"]
    assert coming.mean.index.equals(ahead.index)
    assert list(coming.time) == list(ahead.index)
    # By name and time: other columns are in other places, other rows are not read.
    everything = pd.concat([U, ahead])[["heat", "flow"]]
    pd.testing.assert_frame_equal(model.forecast(5, everything).mean, coming.mean)
    pd.testing.assert_frame_equal(model.simulate(U[["heat", "flow"]]), simulated_outputs)
    with pytest.raises(InputError, match=r"U_future has no row at 2024-01-09 08:00:00"):
        model.forecast(5, U[:5])


@pytest.mark.parametrize("noise", ["output-error", "innovations"])
def test_units_make_no_difference(data, noise: str) -> None:
    _, u, y = data
    scale = np.array([1e-9, 1e6])
    plain = StateSpace(order=3, noise=noise).fit(u[:400], y[:400]).fit_percent(u[400:], y[400:])
    wild = StateSpace(order=3, noise=noise).fit(1e9 * u[:400], scale * y[:400])
    assert np.allclose(wild.fit_percent(1e9 * u[400:], scale * y[400:]), plain, rtol=0, atol=1e-3)


def test_several_experiments_share_a_system_not_a_start() -> None:
    system = replace(random_system(3, experiments=3), K=np.zeros((3, 2)))
    lengths, U, Y = (90, 40, 120), [], []
    for number, length in enumerate(lengths):
        u, y, _ = simulated(replace(system, x0=system.x0[number : number + 1]), length, 0.0, seed=number)
        U.append(u)
        Y.append(y)
    model = StateSpace(order=3).fit(U, Y)
    assert model.x0_.shape == (3, 3)
    for u, y, x0 in zip(U, Y, model.x0_, strict=True):
        assert np.allclose(model.simulate(u, x0), y, atol=1e-6)
    assert [len(part) for part in model.predict(U, Y)] == list(lengths)
    assert [len(part) for part in model.simulate(U)] == list(lengths)
    (alone,) = model.predict(U[:1], Y[:1])
    assert np.array_equal(alone, model.predict(U[0], Y[0]))
    # Laid end to end as one, the jumps between them would have to be explained.
    assert StateSpace(order=3).fit(np.concatenate(U), np.concatenate(Y)).score(np.concatenate(U), np.concatenate(Y)) < 1


def test_missing_outputs_are_left_out(data) -> None:
    system, u, y = data
    random = np.random.default_rng(0)
    holes = y[:600].copy()
    holes[random.random(holes.shape) < 0.3] = np.nan
    before = holes.copy()
    for noise, steps in (("output-error", 600), ("innovations", 200)):
        model = StateSpace(order=3, noise=noise).fit(u[:steps], holes[:steps])
        assert np.allclose(np.sort_complex(model.poles_), np.sort_complex(np.linalg.eigvals(system.A)), atol=0.1)
        assert model.score(u, y) > 0.9
        assert not np.isnan(model.predict(u[:600], holes)).any()
    assert np.array_equal(holes, before, equal_nan=True)
    # A value that is missing cannot matter.
    other = np.where(np.isnan(holes), np.nan, holes)
    assert np.array_equal(StateSpace(order=3).fit(u[:600], other).A_, StateSpace(order=3).fit(u[:600], holes).A_)


def test_an_autonomous_system() -> None:
    random = np.random.default_rng(0)
    y = np.zeros(700)
    for t in range(2, 700):
        y[t] = 1.6 * y[t - 1] - 0.8 * y[t - 2] + random.standard_normal()
    model = StateSpace(order=2, noise="innovations").fit(None, y + 50)
    assert np.allclose(np.abs(model.poles_), 0.8**0.5, atol=0.02)
    assert model.offset_[0] == pytest.approx(50, abs=1)
    assert model.innovation_covariance_[0, 0] == pytest.approx(1, abs=0.12)
    assert model.simulate(None, steps=4).shape == (4, 1)
    assert model.forecast(3).mean.shape == (3, 1)


def test_the_order_is_found(data) -> None:
    system, u, y = data
    model = StateSpace(order="auto", noise="innovations", max_order=6).fit(u, y)
    assert model.order_ == system.order
    assert set(model.order_criteria_) == {1, 2, 3, 4, 5, 6}
    assert min(model.order_criteria_, key=lambda n: model.order_criteria_[n][1]) == 3


@pytest.mark.parametrize("optimizer", ["lm", "lbfgs", "adam"])
def test_optimizers_agree(data, optimizer: str) -> None:
    _, u, y = data
    model = StateSpace(order=3, optimizer=optimizer, max_iter=400).fit(u, y)
    assert model.score(u, y) == pytest.approx(StateSpace(order=3).fit(u, y).score(u, y), abs=2e-3)


@pytest.mark.filterwarnings("ignore::retrograd.estimators.identification.cautions.IdentificationWarning")
def test_stability_is_kept_where_the_best_fit_would_grow() -> None:
    random = np.random.default_rng(0)
    u, y = random.standard_normal(150), np.zeros(150)
    for t in range(149):
        y[t + 1] = 1.01 * y[t] + u[t]
    y += 0.1 * random.standard_normal(150)
    held = StateSpace(order=1, noise="innovations").fit(u, y)
    assert np.abs(held.poles_).max() <= 0.9999 * (1 + 1e-12)
    assert held.stop_reason_.startswith("stopped at a bound")
    # In output error the prior on forgetting stands before the bound.
    assert 0.999 < np.abs(StateSpace(order=1, noise="output-error").fit(u, y).poles_).max() < 0.9999
    assert np.abs(StateSpace(order=1, stability=False).fit(u, y).poles_).max() == pytest.approx(1.01, abs=0.002)


@pytest.mark.parametrize("noise", ["output-error", "innovations"])
def test_what_explodes_is_fitted_without_the_bound(noise: str) -> None:
    random = np.random.default_rng(0)
    y = np.zeros((200, 2))
    for t in range(199):
        y[t + 1] = 1.2 * y[t] + random.standard_normal(2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = StateSpace(order=4, noise=noise, stability=False).fit(None, y)
    assert np.isfinite(model.A_).all()
    assert np.abs(model.poles_).max() > 1


def test_a_higher_order_never_fits_worse_near_the_unit_circle() -> None:
    random = np.random.default_rng(0)
    t, e = np.arange(120), random.standard_normal(120)
    # A level and a season that drift: six modes at the circle.
    y = np.cumsum(0.3 * e) + 3 * np.sin(2 * np.pi * t / 12) + np.sin(2 * np.pi * t / 4) + np.cos(2 * np.pi * t / 3) + e
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for order in range(1, 10):
            found.append(StateSpace(order=order, noise="innovations", max_iter=60).fit(None, y).history_[-1][0])
    assert (np.diff(found) <= 0).all()


def test_burn_in_and_zero_start(data) -> None:
    system, u, y = data
    model = StateSpace(order=3, x0="zero", burn_in=30).fit(u, y)
    assert not model.x0_.any()
    assert np.allclose(np.sort_complex(model.poles_), np.sort_complex(np.linalg.eigvals(system.A)), atol=0.05)


def test_validation_keeps_a_model_that_serves_new_data(data) -> None:
    _, u, y = data
    model = StateSpace(order=3, validation=0.3).fit(u, y)
    assert model.score(u, y) > 0.95
    assert np.isfinite([held_out for _, held_out in model.history_]).all()


# --- forecasts ---


def test_a_forecast_goes_on_from_the_last_state(data, innovations_model) -> None:
    _, u, y = data
    future = np.random.default_rng(9).standard_normal((10, 2))
    coming = innovations_model.forecast(10, future)
    unknown = np.concatenate([y, np.full((10, 2), np.nan)])
    expected = innovations_model.predict(np.concatenate([u, future]), unknown, x0=innovations_model.x0_[0])[800:]
    assert np.allclose(coming.mean, expected, rtol=1e-9)
    assert (coming.lower < coming.mean).all()
    assert (coming.mean < coming.upper).all()
    again = innovations_model.forecast(10, future, U=u, Y=y)
    assert np.allclose(again.mean, coming.mean, atol=1e-3)


def test_intervals_are_those_of_the_innovations(innovations_model) -> None:
    m, S = innovations_model, innovations_model.innovation_covariance_
    variance = m.forecast_variance(3)
    first, second = m.C_ @ m.K_, m.C_ @ m.A_ @ m.K_
    assert np.allclose(variance[0], np.diag(S))
    assert np.allclose(variance[2], np.diag(S + first @ S @ first.T + second @ S @ second.T))


@pytest.mark.slow
def test_95_percent_intervals_hold_95_percent_of_200_systems() -> None:
    """Fit to 300 steps of a random system, forecast the next 5: 200 systems, 1000 steps that may fall outside."""
    inside = []
    for seed in range(200):
        system = random_system(seed, order=2, inputs=1, outputs=1, gain=0.3)
        u, y, _ = simulated(system, 305, 0.5, seed=1000 + seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = StateSpace(order=2, noise="innovations", max_iter=30).fit(u[:300], y[:300])
        coming = model.forecast(5, u[300:])
        inside.append((coming.lower <= y[300:]) & (y[300:] <= coming.upper))
    assert 0.93 <= np.mean(inside) <= 0.97


# --- what goes elsewhere ---


def test_scipy_control_and_torch_have_the_same_numbers(data, innovations_model) -> None:
    from scipy.signal import dlsim

    _, u, _ = data
    m = innovations_model
    expected = m.simulate(u, m.x0_[0])
    assert np.allclose(dlsim(m.to_scipy(), u, x0=m.x0_[0])[1] + m.offset_, expected, atol=1e-9)
    assert np.allclose(np.sort_complex(m.to_control().poles()), np.sort_complex(m.poles_))
    assert m.to_control().input_labels == ["u1", "u2"]
    import torch

    layer = m.to_torch()
    with torch.no_grad():
        assert np.allclose(layer(torch.from_numpy(u), x0=torch.from_numpy(m.x0_[0])).numpy(), expected, atol=1e-9)


# --- failures ---


@pytest.mark.parametrize(
    ("settings", "change", "message"),
    [
        ({"order": 0}, {}, "order is 0, expected a whole number of at least 1"),
        ({"order": "four"}, {}, "order is 'four'"),
        ({"noise": "white"}, {}, "noise is 'white'"),
        ({"validation": 1.0}, {}, "validation is 1.0, expected a finite number of at least 0 and below 1"),
        ({"starts": 0}, {}, "starts is 0, expected a whole number of at least 1"),
        ({}, {"u": "constant"}, "input u2 is constant .* cannot be told from the offset"),
        ({}, {"u": "collinear"}, "inputs u1, u2 are collinear"),
        ({}, {"y": "constant"}, "output y1 is constant"),
        ({}, {"y": "missing"}, "output y2 is missing at every step"),
        ({"order": 30}, {"steps": 60}, "order 30 has .* parameters, the data 120 observed outputs: give more than"),
        ({"order": 8}, {"steps": 66}, "order 8 asks for more than the data have: .* need at least"),
        ({"burn_in": 800}, {}, "burn_in is 800, the shortest experiment has 800 steps"),
    ],
)
def test_failures_speak(data, settings: dict, change: dict, message: str) -> None:
    _, u, y = data
    steps = change.get("steps", 800)
    u, y = u[:steps].copy(), y[:steps].copy()
    if change.get("u") == "constant":
        u[:, 1] = 3
    if change.get("u") == "collinear":
        u[:, 1] = -2 * u[:, 0] + 1
    if change.get("y") == "constant":
        y[:, 0] = 1
    if change.get("y") == "missing":
        y[:, 1] = np.nan
    with pytest.raises(InputError, match=message):
        StateSpace(**{"order": 2, **settings}).fit(u, y)


def test_what_is_asked_of_a_model_is_checked(innovations_model) -> None:
    m = innovations_model
    with pytest.raises(InputError, match=r"U has 1 columns, the model was fitted with 2"):
        m.simulate(np.ones(5))
    with pytest.raises(InputError, match=r"x0 has shape \(2,\), expected \(order,\) = \(3,\)"):
        m.simulate(np.ones((5, 2)), np.ones(2))
    with pytest.raises(InputError, match="U_future is None: give the 3 coming values of u1, u2"):
        m.forecast(3)
    with pytest.raises(InputError, match="U_future has 2 rows, expected the 3 steps that follow"):
        m.forecast(3, np.ones((2, 2)))
    with pytest.raises(InputError, match="level is 95"):
        m.forecast(3, np.ones((3, 2)), level=95)
    with pytest.raises(InputError, match="k is 0"):
        m.predict(np.ones((5, 2)), np.ones((5, 2)), 0)


def test_what_has_not_converged_says_what_to_try(data) -> None:
    _, u, y = data
    with pytest.warns(ConvergenceWarning, match="not converged: 1 iterations were not enough; raise max_iter"):
        StateSpace(order=3, max_iter=1).fit(u, y)


def test_the_start_matters_less_with_several(data) -> None:
    _, u, y = data
    one, three = (StateSpace(order=2, starts=starts).fit(u, y) for starts in (1, 3))
    assert three.history_[-1][0] <= one.history_[-1][0] + 1e-12
    assert np.array_equal(predict(one.system_, one.data_)[0], predict(one.system_, one.data_)[0])


@pytest.mark.parametrize("size", [1e-300, 1e-200, 1e200, 1e300])
def test_values_whose_squares_cannot_be_held_are_refused(size: float) -> None:
    y = 10 + np.sin(np.arange(50.0) / 3)
    with pytest.raises(InputError, match=r"output y1 has values up to .* whose squares float64 cannot hold"):
        StateSpace(order=1).fit(None, y * size)
    with pytest.raises(InputError, match=r"input u1 has values up to .* whose squares float64 cannot hold"):
        StateSpace(order=1).fit(y * size, y)
