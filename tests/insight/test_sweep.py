"""Sweeps of scans, weights, modules and estimators hold the states and the gradient of each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from insight.sweeps import EPS, STRUCTURES, brute, draw, square
from retrograd import Dense, Diagonal, bptt, nn, scan
from retrograd.errors import InputError
from retrograd.estimators import Forecaster, StateSpace
from retrograd.estimators.forecasting.settings import Instance
from retrograd.estimators.recurrent.network import Network
from retrograd.insight import Sweep, analyse, flow, jacobians


def assert_near(got: Tensor, want: Tensor, units: float = 100) -> None:
    assert got.shape == want.shape
    assert (got - want).abs().max() <= units * EPS * want.abs().max()


@pytest.mark.parametrize("structure", STRUCTURES)
def test_of_scan_is_autograd_through_the_loop(structure: str) -> None:
    A, u, h0 = draw(structure)
    sweep = Sweep.of_scan(A, u, h0, loss=square)
    loss, states, added = brute(A, u, h0)
    delta = torch.autograd.grad(loss, states, retain_graph=True)
    gradient = sum(torch.autograd.grad(loss, added))
    assert sweep.loss == pytest.approx(loss.item(), rel=100 * EPS)
    assert_near(sweep.states, torch.stack(states, 1).detach())
    assert_near(sweep.delta, torch.stack(delta, 1))
    assert_near(sweep.gradient, gradient if isinstance(A, Dense) else gradient.diagonal())


def test_starts_of_the_gradient() -> None:
    A, u, h0 = draw("dense")
    assert torch.equal(Sweep.of_scan(A, u, h0).direct[:, -1], torch.ones_like(h0))
    given = Sweep.of_scan(A, u, h0, grad_states=u, grad_final=h0)
    assert torch.equal(given.direct[:, -1], u[:, -1] + h0)
    assert torch.equal(given.direct[:, :-1], u[:, :-1])
    with pytest.raises(ValueError, match="one start"):
        Sweep.of_scan(A, u, h0, loss=square, grad_final=h0)
    with pytest.raises(ValueError, match=r"h0 has shape \(3, 5\)"):
        Sweep.of_scan(A, u, torch.zeros(3, 5))
    with pytest.raises(TypeError, match=r"expected retrograd\.Dense"):
        Sweep.of_scan(A.W, u)  # type: ignore[arg-type, union-attr]
    alone = Sweep.of_scan(A, u[0], h0[0], loss=square)
    assert_near(alone.delta[0], Sweep.of_scan(A, u, h0, loss=square).delta[0])


@pytest.mark.parametrize("feedback", [None, True, "some"])
def test_of_weights_is_bptt(feedback: object) -> None:
    source = torch.Generator().manual_seed(3)
    x, W, V, b, C, c, h0 = (
        0.5 * torch.randn(*shape, generator=source, dtype=torch.float64)
        for shape in ((2, 9, 2), (3, 3), (3, 2), (3,), (1, 3), (1,), (2, 3))
    )
    mask = torch.arange(9) % 4 > 1 if feedback == "some" else feedback
    arguments = {
        "weight_hh": W, "weight_ih": V, "bias": b, "h0": h0, "weight_out": C, "bias_out": c, "feedback": mask,
        "loss": square,
    }  # fmt: skip
    sweep, g = Sweep.of_weights(x, **arguments), bptt(x, **arguments)
    assert_near(sweep.delta, g.delta)
    assert_near(sweep.gradient, g.weight_hh)
    assert sweep.loss == pytest.approx(g.loss.item(), rel=10 * EPS)


def test_a_float32_network_is_looked_at_in_float64() -> None:
    sweep = Sweep.of_weights(torch.ones(5, 1), weight_hh=torch.eye(2) / 3, weight_ih=torch.ones(2, 1))
    assert sweep.delta.dtype == torch.float64
    assert sweep.A[0, 0, 0, 0] == torch.tensor(1 / 3).double()


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_of_module_sums_to_the_gradient_of_every_weight(bidirectional: bool, batch_first: bool) -> None:
    torch.manual_seed(0)
    module = nn.LinearRNN(
        2, 3, num_layers=2, bidirectional=bidirectional, batch_first=batch_first, dropout=0.5, dtype=torch.float64
    )
    x, hx = torch.randn(4, 5, 2).double(), torch.randn(4 if bidirectional else 2, 4 if batch_first else 5, 3).double()
    found = Sweep.of_module(module, x, square, hx)
    module.eval()
    square(module(x, hx)[0]).backward()
    assert len(found) == (4 if bidirectional else 2)
    for (layer, direction), sweep in found.items():
        weight = getattr(module, f"weight_hh_l{layer}{'_reverse' if direction == 'backward' else ''}")
        assert_near(sweep.gradient, weight.grad, 200)


def test_of_module_by_default_starts_at_each_last_output_and_leaves_the_module_alone() -> None:
    module = nn.LinearRNN(2, 3, dropout=0.0).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    sweep = Sweep.of_module(module, torch.randn(6, 2, 2))[0, "forward"]
    assert torch.equal(sweep.direct[:, -1], torch.ones(2, 3, dtype=torch.float64))
    assert module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(p.grad is None for p in module.parameters())
    with pytest.raises(TypeError, match="Recorder"):
        Sweep.of_module(torch.nn.LSTM(2, 3), torch.randn(6, 2, 2))  # type: ignore[arg-type]


@pytest.mark.parametrize("missing", [False, True])
def test_of_estimator_of_a_state_space_model(missing: bool) -> None:
    source = np.random.default_rng(0)
    u = source.standard_normal((300, 1))
    y = np.convolve(u[:, 0], [0, 1, 0.7, 0.4, 0.2])[:300] + 0.1 * source.standard_normal(300)
    if missing:
        y[40:60] = np.nan
    model = StateSpace(order=2, noise="innovations").fit(u, y)
    sweep = Sweep.of_estimator(model, [u, u], [y, y], experiment=1)
    x0 = model.initial_state(u, y)
    residual = (y[:, None] - np.asarray(model.predict(u, y, x0=x0)))[1:]
    want = np.nansum(residual**2) / model.innovation_covariance_[0, 0] / (2 * len(residual))
    assert sweep.loss == pytest.approx(want, rel=1e-9)
    assert sweep.time == 299
    # Whatever coordinates the system is in, the sweep is in those in which the data move every state alike.
    states = torch.cat([sweep.h0, sweep.states[0]])
    moments = states.mT @ states / 300
    assert (moments - torch.eye(2)).abs().max() < 1e-9
    turn = np.array([[1.0, 30.0], [0.0, 1.0]])
    model.identified_ = replace(model.identified_, system=model.system_.transformed(turn))
    again = Sweep.of_estimator(model, [u, u], [y, y], experiment=1)
    assert jacobians(again).norm == pytest.approx(jacobians(sweep).norm, rel=1e-6)
    assert flow(again).delta_norm == pytest.approx(flow(sweep).delta_norm, rel=1e-6)


def test_of_estimator_of_a_recurrent_model() -> None:
    y = np.sin(np.arange(60.0))[:, None]
    model = Network.untrained(y, y[:, :0], hidden=4, target_names=["sine"])
    x, target = model.series(y, y[:, :0])
    g = bptt(x, **model.weights, loss=lambda outputs: (outputs - target).square().mean())
    assert_near(Sweep.of_estimator(model, None, y).gradient, g.weight_hh)
    with pytest.raises(TypeError, match="expected a StateSpace, Forecaster or Recurrent"):
        Sweep.of_estimator(object(), None, y)


def test_of_estimator_of_a_recurrent_model_trained_in_closed_loop() -> None:
    y = np.sin(np.arange(60.0))[:, None]
    model = Network.untrained(y, y[:, :0], hidden=4, target_names=["sine"])
    x, target = model.series(y, y[:, :0])
    weights = {name: weight.clone().requires_grad_() for name, weight in model.weights.items()}
    # Free runs of 12 steps, written out: from each start the network reads what it said itself.
    h, losses = weights["h0"], []
    starts = range(len(x) - 12, -1, -3)
    for t in range(len(x)):
        if t in starts:
            state, value = h.detach(), x[t]  # the way here is another sweep's
            for step in range(12):
                state = weights["weight_hh"] @ state + weights["weight_ih"] @ value + weights["bias"]
                value = weights["weight_out"] @ state + weights["bias_out"]
                losses.append((value - target[t + step]).square())
        h = weights["weight_hh"] @ h + weights["weight_ih"] @ x[t] + weights["bias"]
    loss = torch.stack(losses).mean()
    sweep = Sweep.of_estimator(model, None, y, horizon=12)
    assert sweep.loss == pytest.approx(loss.item(), rel=100 * EPS)
    assert (len(sweep.states), sweep.time, sweep.made_of, sweep.invariant) == (len(starts), 12, "closed loop", True)
    # ∂L/∂W_hh is that of the states alone: the outputs that are read next stand in the transition.
    assert_near(sweep.gradient, torch.autograd.grad(loss, weights["weight_hh"])[0], 400)
    with pytest.raises(InputError, match="horizon is 1, expected from 2 to 59"):
        Sweep.of_estimator(model, None, y, horizon=1)


@pytest.mark.parametrize("states", ["diagonal", "dense"])
@pytest.mark.parametrize(("difference", "share"), [("last", True), (None, False), (12, True)])
def test_of_estimator_of_a_forecaster(states: str, difference: str | int | None, share: bool) -> None:
    t = np.arange(120.0)
    y = np.stack([np.sin(t / 3) + 0.3 * np.cos(t), np.cos(t / 4)], axis=1)
    model = Forecaster(states=states, hidden=6, lags=24, difference=difference, share=share).fit(y, fh=[1, 2, 5])
    sweep = Sweep.of_estimator(model, None, y)
    # The error at its horizons from every origin, as the forecaster itself makes it.
    inner = model._model
    start, horizons = inner.states.burn, [1, 2, 5]
    found = model.backtest(y, start=start + 1, fh=horizons)
    truth = np.stack([y[start + h : start + h + len(found)] for h in horizons], 1)
    assert sweep.loss == pytest.approx((((found - truth) / inner.y_scale[0]) ** 2).mean(), rel=1e-9)
    # And its gradient, by autograd through the states and the read-out.
    scaled = (y - inner.y_mean[0]) / inner.y_scale[0]
    season = difference if isinstance(difference, int) else 0
    with torch.no_grad():
        h = inner.states.states(scaled)
    places = h.detach().requires_grad_()
    total = torch.zeros((), dtype=torch.float64)
    for column in range(2):
        weights = torch.from_numpy(inner._group(0, column).weights.states)
        z = places[column]
        if difference == "last":
            z = z - torch.from_numpy(scaled[season:, column, None]) * inner.states._gain()
        if weights.shape[0] > z.shape[1]:
            z = torch.cat([z, torch.ones(len(z), 1)], 1)
        predicted = (z @ weights)[start - season : len(y) - 5 - season]
        piece = inner.piece(0, Instance("", y, np.empty((len(y), 0))))
        total = (
            total
            + (predicted - torch.from_numpy(piece.targets(column, start, len(y) - 5, np.array(horizons))))
            .square()
            .sum()
        )
    total = total / (2 * 3 * (len(y) - 5 - start))
    assert sweep.loss == pytest.approx(total.item(), rel=1e-9)
    (g,) = torch.autograd.grad(total, places)
    assert_near(sweep.direct, inner.states.as_states(g), 1e4)
    assert_near(sweep.states, inner.states.as_states(h))
    assert analyse(sweep).verdict.kinds


def test_what_of_estimator_cannot_follow() -> None:
    y = np.sin(np.arange(60.0))
    with pytest.raises(InputError, match="states are 'lags': the gradient of a window goes back"):
        Sweep.of_estimator(Forecaster(lags=5).fit(y, fh=[1]), None, y)
    for model in (Forecaster(states="dense"), StateSpace(order=2)):
        with pytest.raises(ValueError, match="is not fitted"):
            Sweep.of_estimator(model, None, y)
    fitted = Forecaster(states="diagonal", hidden=2, lags=4).fit(y, fh=[1])
    with pytest.raises(InputError, match="horizon is 5: a Forecaster has none, leave it out"):
        Sweep.of_estimator(fitted, None, y, horizon=5)
    with pytest.raises(InputError, match="y has 1 rows, expected more than 1"):
        Sweep.of_estimator(fitted, None, y[:1])


def test_a_loop_closed_from_the_second_step_on_has_one_transition() -> None:
    source = torch.Generator().manual_seed(5)
    x, W, V, C, h0 = (
        0.5 * torch.randn(*shape, generator=source, dtype=torch.float64)
        for shape in ((3, 9, 2), (3, 3), (3, 2), (1, 3), (3, 3))
    )
    asked: dict[str, Any] = {
        "weight_hh": W, "weight_ih": V, "weight_out": C, "h0": h0, "loss": square, "feedback": torch.arange(9) > 0,
    }  # fmt: skip
    sweep, g = Sweep.of_weights(x, **asked), bptt(x, **asked)
    closed = W + V[:, :1] @ C
    assert sweep.invariant
    assert_near(sweep.A[0, 0], closed)
    assert_near(sweep.gradient, g.weight_hh)
    assert_near(sweep.delta, g.delta)
    # Only the way to h_0 itself goes through the open loop of the first step.
    through = jacobians(sweep, top=3)
    for lag, last in ((8, torch.eye(3).double()), (9, W)):
        want = torch.linalg.svdvals(torch.linalg.matrix_power(closed, 8) @ last)
        assert_near(torch.from_numpy(through.singular_values[lag]), want)


class Gated(torch.nn.Module):
    """A model of one's own: gates that depend on the input, and a dense scan that runs backward."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.inward, self.head = torch.nn.Linear(2, 3), torch.nn.Linear(2, 3), torch.nn.Linear(3, 1)
        self.W = torch.nn.Parameter(0.3 * torch.eye(3) + 0.1)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = scan(Diagonal(torch.sigmoid(self.gate(x))), self.inward(x))
        states, first = scan(Dense(self.W), states, reverse=True)
        return self.head(states + first[..., None, :])  # type: ignore[no-any-return]


class Padded(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return scan(Diagonal(torch.ones(2).to(x)), x, lengths=torch.tensor([2] * len(x)))[0]


@pytest.mark.parametrize("batch", [(), (5,)])
def test_a_module_of_ones_own_has_a_sweep_for_each_of_its_scans(batch: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    module, x = Gated().double(), torch.randn(*batch, 7, 2).double()
    gates, dense = Sweep.of_module(module, x, square).values()
    u = module.inward(x).detach().requires_grad_()
    inner, _ = scan(Diagonal(torch.sigmoid(module.gate(x)).detach()), u)
    inner.retain_grad()
    states, first = scan(Dense(module.W), inner, reverse=True)
    square(module.head(states + first[..., None, :])).backward()
    assert list(Sweep.of_module(module, x)) == [(0, "forward"), (1, "backward")]
    assert u.grad is not None
    assert_near(gates.delta.reshape(u.shape), u.grad)
    assert_near(dense.delta.flip(1).reshape(u.shape), inner.grad)
    assert_near(dense.gradient, module.W.grad)
    assert (gates.diagonal, gates.invariant, dense.invariant) == (True, False, True)


def test_what_no_sweep_can_be_made_of() -> None:
    module, x = nn.LinearRNN(2, 3), torch.randn(6, 2, 2)
    with pytest.raises(InputError, match="give each sequence by itself"):
        Sweep.of_module(Padded(), x)
    with pytest.raises(TypeError, match="PackedSequence, expected a tensor"):
        Sweep.of_module(module, torch.nn.utils.rnn.pack_sequence([torch.randn(3, 2)]))
    with pytest.raises(ValueError, match=r"x has shape \(0, 2, 2\), expected at least one step"):
        Sweep.of_module(module, x[:0])
    with pytest.raises(ValueError, match="loss returned"):
        Sweep.of_module(module, x, lambda y: y)
    with pytest.raises(ValueError, match="does not depend on its argument"):
        Sweep.of_module(module, x, lambda y: torch.ones(()))
    A, u, _ = draw("dense")
    with pytest.raises(ValueError, match="A has 1 sequences, 1 steps and 4 states, u has 3, 12 and 3"):
        Sweep.of_scan(A, u[..., :3])
    with pytest.raises(ValueError, match="with at least one of each"):
        Sweep.of_scan(Dense(torch.zeros(0, 0)), torch.zeros(5, 0))
    assert torch.equal(Sweep.of_scan(A, u.numpy()).states, Sweep.of_scan(A, u).states)
    assert torch.equal(
        Sweep.of_module(module, x.numpy())[0, "forward"].delta, Sweep.of_module(module, x)[0, "forward"].delta
    )


def test_a_frozen_module_and_a_loss_of_one_direction() -> None:
    module, x = nn.LinearRNN(2, 3, bidirectional=True), torch.randn(6, 2, 2)
    want = Sweep.of_module(module, x, lambda y: y[..., :3].square().sum())
    found = Sweep.of_module(module.requires_grad_(False), x, lambda y: y[..., :3].square().sum())
    assert torch.equal(found[0, "forward"].delta, want[0, "forward"].delta)
    assert not found[0, "backward"].delta.any()
