"""Sweeps of scans, weights, modules and estimators hold the states and the gradient of each."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from insight.sweeps import EPS, STRUCTURES, brute, draw, square
from retrograd import Dense, bptt, nn
from retrograd.estimators import StateSpace
from retrograd.estimators.recurrent import Recurrent
from retrograd.insight import Sweep


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


def test_of_estimator_of_a_recurrent_model() -> None:
    y = np.sin(np.arange(60.0))[:, None]
    model = Recurrent.untrained(y, y[:, :0], hidden=4, target_names=["sine"])
    x, target = model.series(y, y[:, :0])
    g = bptt(x, **model.weights, loss=lambda outputs: (outputs - target).square().mean())
    assert_near(Sweep.of_estimator(model, None, y).gradient, g.weight_hh)
    with pytest.raises(TypeError, match="StateSpace or Recurrent"):
        Sweep.of_estimator(object(), None, y)
