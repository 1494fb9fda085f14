"""A loss with parameters of its own: they get their gradient wherever a loss is taken, and learn or are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import retrograd as rg
from rnn.problems import WEIGHTS, parameters

TIME = 9


class Case:
    """bptt's arguments, a head with a parameter used twice and one that is frozen, and autograd's own gradients."""

    def __init__(self, batch: bool = True) -> None:
        torch.manual_seed(0)
        p = parameters(2, TIME, 3, 4, 2, torch.float64, 0)
        self.p = p if batch else {name: array[0] if name in ("x", "h0") else array for name, array in p.items()}
        self.head = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()
        self.head[2].bias.requires_grad_(False)
        self.scale = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
        self.target = torch.randn(*self.p["x"].shape[:-1], 1, dtype=torch.float64)
        self.own = [p for p in self.head.parameters() if p.requires_grad] + [self.scale]

    def loss(self, y: Tensor, steps: slice = slice(None)) -> Tensor:
        error = self.head(self.scale * y) - self.target[..., steps, :]
        return error.square().sum() + self.scale.square() * y.sum()

    def exact(self, loss: Callable[[Tensor], Tensor] | None = None) -> tuple[dict[str, Tensor], list[Tensor]]:
        """The gradients of the loss, and of its own parameters, by autograd through scan."""
        p = {name: array.detach().requires_grad_() for name, array in self.p.items()}
        states, _ = rg.scan(rg.Dense(p["weight_hh"]), p["x"] @ p["weight_ih"].mT + p["bias"], p["h0"])
        value = (loss or self.loss)(states @ p["weight_out"].mT + p["bias_out"])
        found = torch.autograd.grad(value, [*p.values(), *self.own], allow_unused=True)
        return dict(zip(p, found, strict=False)), list(found[len(p) :])


def assert_same(got: Any, want: Any) -> None:
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("batch", [False, True])
def test_bptt_gives_them_their_gradient(batch: bool) -> None:
    case = Case(batch)
    g = rg.bptt(**case.p, loss=case.loss)
    want, own = case.exact()
    assert_same([g.loss_parameters[p] for p in case.own], own)
    assert len(g.loss_parameters) == len(case.own)
    for name, gradient in want.items():
        assert_same(getattr(g, name), gradient)
    assert all(p.grad is None for p in case.own)  # nothing is written until it is asked for


def test_numpy_arguments_with_a_loss_that_has_parameters() -> None:
    case = Case()
    g = rg.bptt(**{name: array.numpy() for name, array in case.p.items()}, loss=case.loss)
    assert isinstance(g.weight_hh, np.ndarray)
    assert_same([g.loss_parameters[p] for p in case.own], case.exact()[1])
    g.update(torch.optim.SGD(case.own, lr=0.1))
    assert case.scale.grad is not None


def test_bptt_chunked_sums_them_over_chunks() -> None:
    case = Case()
    g = rg.bptt_chunked(**case.p, loss=lambda y, steps: case.loss(y, steps), memory=8 * 2 * 4 * 8)
    want, own = case.exact()
    assert_same([g.loss_parameters[p] for p in case.own], own)
    assert_same(g.weight_hh, want["weight_hh"])


@pytest.mark.parametrize("kind", [{"online": True}, {"truncate": TIME + 5, "stride": 2}])
def test_stream_sums_them_as_it_is_fed(kind: dict[str, Any]) -> None:
    case = Case()
    x = case.p.pop("x")
    stream = rg.Stream(**case.p, **kind)
    for steps in (slice(0, 4), slice(4, 5), slice(5, TIME)):
        stream.feed(x[:, steps], loss=lambda y, steps=steps: case.loss(y, steps))  # type: ignore[misc]
    stream.flush()
    case.p["x"] = x
    want, own = case.exact()
    assert_same([stream.loss_parameters[p] for p in case.own], own)
    assert_same(stream.gradients["weight_hh"], want["weight_hh"])
    stream.zero_grad()
    assert stream.loss_parameters == {}


@pytest.mark.parametrize("leaf", [True, False])
def test_a_loss_that_reads_a_weight_itself(leaf: bool) -> None:
    """A penalty on W_hh and on h0: the gradient is the sum over both ways."""
    case = Case()
    for name in ("weight_hh", "h0"):
        case.p[name] = case.p[name].requires_grad_() * 1 if not leaf else case.p[name].requires_grad_()

    def penalty(W: Tensor, h0: Tensor) -> Tensor:
        return W.abs().pow(3).sum() + h0.square().sum()

    g = rg.bptt(**case.p, loss=lambda y: case.loss(y) + penalty(case.p["weight_hh"], case.p["h0"]))
    want, own = case.exact()
    direct = {"weight_hh": 3 * case.p["weight_hh"] * case.p["weight_hh"].abs(), "h0": 2 * case.p["h0"]}
    for name, gradient in want.items():
        assert_same(getattr(g, name), gradient + direct[name].detach() if name in direct else gradient)
    assert_same([g.loss_parameters[p] for p in case.own], own)
    assert len(g.loss_parameters) == len(case.own)


def test_stream_too_adds_what_a_loss_sends_straight_to_a_weight() -> None:
    case = Case()
    x = case.p.pop("x")
    W = case.p["weight_hh"].requires_grad_()
    sums = []
    for penalty in (0.0, 1.0):
        stream = rg.Stream(**case.p, online=True)
        stream.feed(x, loss=lambda y, c=penalty: case.loss(y) + c * W.square().sum())  # type: ignore[misc]
        sums.append(stream.gradients["weight_hh"])
    assert_same(sums[1] - sums[0], 2 * W.detach())


def test_an_update_moves_them() -> None:
    case = Case()
    before = [p.detach().clone() for p in case.own]
    g = rg.bptt(**case.p, loss=case.loss)
    g.update(torch.optim.SGD([case.p["weight_hh"], *case.head.parameters(), case.scale], lr=0.1))
    assert case.head[2].bias.grad is None
    for p, old in zip(case.own, before, strict=True):
        assert_same(p.detach(), old - 0.1 * g.loss_parameters[p])
        assert_same(p.grad, g.loss_parameters[p])
    again = rg.bptt(**case.p, loss=case.loss)
    moved = [p.detach().clone() for p in case.own]
    again.update(lr=0.1)
    for p, old in zip(case.own, moved, strict=True):
        assert_same(p.detach(), old - 0.1 * again.loss_parameters[p])


def test_stream_updates_weights_and_head() -> None:
    case = Case()
    x = case.p.pop("x")
    before, scale = case.p["weight_hh"].clone(), case.scale.detach().clone()
    stream = rg.Stream(**case.p, online=True)
    stream.feed(x, loss=case.loss)
    stream.update(torch.optim.SGD([*(case.p[n] for n in WEIGHTS), *case.own], lr=0.1))
    assert_same(case.p["weight_hh"], before - 0.1 * stream.gradients["weight_hh"])
    assert_same(case.scale.detach(), scale - 0.1 * stream.loss_parameters[case.scale])
    stream.assign()
    assert_same(case.scale.grad, stream.loss_parameters[case.scale])
    stream.update(lr=0.1)
    assert_same(case.p["weight_hh"], before - 0.2 * stream.gradients["weight_hh"])


def refused(what: str) -> None:
    case = Case()
    if what == "bptt":
        optimizer = torch.optim.SGD([case.p["weight_hh"], *case.own], lr=1.0)
        rg.bptt(**case.p, loss=lambda y: y.square().sum()).update(optimizer)
    else:
        x = case.p.pop("x")
        stream = rg.Stream(**case.p, online=True)
        stream.feed(x, grad=torch.ones(2, TIME, 2).double())
        stream.update(torch.optim.SGD([case.p["weight_hh"], *case.own], lr=1.0))


@pytest.mark.parametrize("what", ["bptt", "Stream"])
def test_an_optimizer_with_a_parameter_that_nothing_gave_a_gradient_is_refused(what: str) -> None:
    message = (
        rf"the optimizer's parameter 1, of shape \(3, 2\), has no gradient: it was not given to {what} and the loss"
    )
    with pytest.raises(ValueError, match=message):
        refused(what)


def test_a_parameter_that_has_a_gradient_already_may_be_in_the_optimizer() -> None:
    case = Case()
    case.scale.square().backward()  # type: ignore[no-untyped-call]
    g = rg.bptt(**case.p, loss=lambda y: y.square().sum())
    g.update(torch.optim.SGD([case.p["weight_hh"], case.scale], lr=0.1))
    assert case.scale.item() == pytest.approx(1.5 - 0.1 * 3)


def test_a_tensor_given_as_two_arguments_gets_the_sum() -> None:
    p = parameters(2, TIME, 4, 4, 4, torch.float64, 0)
    W = p["weight_hh"] = p["weight_out"] = p["weight_hh"].requires_grad_()
    g = rg.bptt(**p, loss=lambda y: y.square().sum())
    g.assign()
    assert g.weight_out is not None
    assert_same(W.grad, g.weight_hh + g.weight_out)


def test_a_loss_of_its_parameters_alone_is_refused() -> None:
    case = Case()
    with pytest.raises(ValueError, match="does not depend on its argument"):
        rg.bptt(**case.p, loss=lambda y: case.scale.square())
    with pytest.raises(ValueError, match="does not depend on its argument"):
        rg.bptt(**case.p, loss=lambda y: case.scale)
