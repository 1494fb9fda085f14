"""Step 4: the update by the plain rule and by optimizers, of bptt and of Stream."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import retrograd as rg
from rnn.problems import WEIGHTS, parameters


def test_update_by_the_plain_rule_and_by_an_optimizer_agree() -> None:
    p = parameters(2, 6, 3, 4, 2, torch.float64, 2)
    by_hand = {name: array.clone() for name, array in p.items()}
    trained = {name: array.clone().requires_grad_(name in WEIGHTS) for name, array in p.items()}
    g = rg.bptt(**by_hand, loss=lambda y: (y**2).sum())
    g.update(lr=0.1)
    optimizer = torch.optim.SGD([trained[name] for name in WEIGHTS], lr=0.1)
    rg.bptt(**trained, loss=lambda y: (y**2).sum()).update(optimizer)
    for name in WEIGHTS:
        assert not torch.equal(by_hand[name], p[name])
        torch.testing.assert_close(by_hand[name], trained[name].detach(), rtol=1e-15, atol=1e-15)
        torch.testing.assert_close(by_hand[name], p[name] - 0.1 * getattr(g, name), rtol=1e-15, atol=1e-15)
    for name in ("x", "h0"):
        assert torch.equal(by_hand[name], p[name])
    arrays = {name: array.numpy().copy() for name, array in p.items()}
    rg.bptt(**arrays, loss=lambda y: (y**2).sum()).update(lr=0.1)
    np.testing.assert_array_equal(arrays["weight_hh"], by_hand["weight_hh"].numpy())


def test_assign_writes_grad_of_what_requires_it() -> None:
    p = parameters(2, 6, 3, 4, 2, torch.float64, 2)
    p["h0"].requires_grad_()
    p["weight_hh"].requires_grad_().grad = torch.ones(4, 4).double()
    g = rg.bptt(**p)
    g.assign()
    assert torch.equal(p["h0"].grad, g.h0)
    assert torch.equal(p["weight_hh"].grad, g.weight_hh)
    assert p["x"].grad is None


def bad_update(what: str) -> None:
    p = parameters(1, 3, 2, 2, 1, torch.float64, 0)
    g = rg.bptt(**p)
    if what == "both":
        g.update(torch.optim.SGD([p["x"]], lr=1.0), lr=1.0)
    if what == "strange optimizer":
        g.update(torch.optim.SGD([torch.zeros(1)], lr=1.0))
    if what == "nothing to assign":
        g.assign()
    if what == "numpy":
        rg.bptt(**{name: array.numpy() for name, array in p.items()}).update(torch.optim.SGD([torch.zeros(1)], lr=1.0))


@pytest.mark.parametrize(
    ("what", "error", "message"),
    [
        ("both", TypeError, "either an optimizer or lr="),
        ("strange optimizer", ValueError, "the optimizer holds none of the tensors given to bptt"),
        ("nothing to assign", ValueError, "none of the tensors given to bptt has requires_grad=True"),
        ("numpy", TypeError, "needs torch tensors, bptt was given NumPy arrays"),
    ],
)
def test_bad_updates_are_named(what: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message.replace("(", r"\(")):
        bad_update(what)


@pytest.mark.parametrize("lr", [float("nan"), float("inf"), -0.1, "0.1", True])
def test_a_step_that_is_no_number_moves_nothing(lr: Any) -> None:
    w, v = torch.tensor([[0.5]]), torch.tensor([[1.0]])
    with pytest.raises(ValueError, match=r"lr is .*, expected a finite number of at least 0"):
        rg.bptt(torch.ones(3, 1), weight_hh=w, weight_ih=v).update(lr=lr)
    assert w.item() == 0.5
