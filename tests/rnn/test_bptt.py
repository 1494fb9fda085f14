"""bptt against the step-by-step loop, 50 digits, finite differences and autograd through scan."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import retrograd as rg
from oracle import assert_close, loop_rnn, mp_gradient

WEIGHTS = ("weight_hh", "weight_ih", "bias", "weight_out", "bias_out")


def parameters(
    batch: int, time: int, inputs: int, hidden: int, outputs: int, dtype: torch.dtype, seed: int
) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int, scale: float = 1.0) -> Tensor:
        return torch.randn(shape, dtype=dtype, generator=generator) * scale

    return {
        "x": random(batch, time, inputs),
        "weight_hh": random(hidden, hidden, scale=0.6 / hidden**0.5),
        "weight_ih": random(hidden, inputs, scale=0.5),
        "bias": random(hidden),
        "h0": random(batch, hidden),
        "weight_out": random(outputs, hidden, scale=0.5),
        "bias_out": random(outputs),
    }


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex128], ids=str)
@given(data=st.data())
@settings(max_examples=40)
def test_every_gradient_against_the_loop(dtype: torch.dtype, backend: str, data: st.DataObject) -> None:
    batch, time = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 10))
    hidden, inputs = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 4))
    outputs = data.draw(st.integers(1, inputs))
    feedback = data.draw(
        st.one_of(
            st.just([False] * time), st.just([True] * time), st.lists(st.booleans(), min_size=time, max_size=time)
        )
    )
    p = parameters(batch, time, inputs, hidden, outputs, dtype, data.draw(st.integers(0, 2**31)))
    backend = "auto" if dtype.is_complex else backend
    start = data.draw(st.sampled_from(["nothing", "final", "states", "both", "loss"]))
    like = parameters(batch, time, outputs, hidden, outputs, dtype, 1)
    grad_states = torch.zeros(batch, time, hidden, dtype=dtype)
    grad_final, grad_outputs = torch.zeros_like(grad_states[:, 0]), torch.zeros_like(like["x"])
    given_start: dict[str, Any] = {}
    if start == "nothing":
        grad_final = torch.ones_like(grad_final)
    if start in ("final", "both"):
        given_start["grad_final"] = grad_final = torch.randn_like(grad_final)
    if start in ("states", "both"):
        given_start["grad_states"] = grad_states = torch.randn_like(grad_states)
    if start == "loss":
        grad_outputs = like["x"]
        given_start["loss"] = lambda y: (y * grad_outputs.conj()).real.sum()

    g = rg.bptt(**p, feedback=torch.tensor(feedback), contributions=True, backend=backend, **given_start)
    want = loop_rnn(p, feedback, grad_states, grad_final, grad_outputs)
    eps = torch.finfo(dtype).eps
    for name, bound in want.items():
        assert_close(getattr(g, name), bound, eps, name)
    assert g.contributions is not None
    for name in WEIGHTS:
        assert g.contributions[name].shape == (time, *p[name].shape)
        assert_close(g.contributions[name].sum(0), want[name], eps, f"contributions of {name}")


def test_a_mask_with_many_changes_is_one_time_varying_scan() -> None:
    time = 200
    p = parameters(2, time, 2, 4, 2, torch.float64, 0)
    feedback = [t % 2 == 1 for t in range(time)]
    zeros = torch.zeros(2, time, 4).double()
    g = rg.bptt(**p, feedback=torch.tensor(feedback))
    want = loop_rnn(p, feedback, zeros, torch.ones(2, 4).double(), torch.zeros(2, time, 2).double())
    for name, bound in want.items():
        assert_close(getattr(g, name), bound, torch.finfo(torch.float64).eps, name)


@pytest.mark.parametrize("feedback", [[False] * 4, [True] * 4, [False, True, True, False]])
def test_gradients_against_fifty_digits(feedback: list[bool]) -> None:
    p = parameters(1, 4, 2, 2, 1, torch.float64, 5)
    p = {name: array[0] if name in ("x", "h0") else array for name, array in p.items()}

    def loss(x: Any, weight_hh: Any, weight_ih: Any, bias: Any, h0: Any, weight_out: Any, bias_out: Any) -> Any:
        def affine(matrix: Any, vector: Any, offset: Any) -> Any:
            return [
                sum(m * v for m, v in zip(row, vector, strict=True)) + c for row, c in zip(matrix, offset, strict=True)
            ]

        h, value = h0, 0
        for t, given_x in enumerate(x):
            consumed = affine(weight_out, h, bias_out) + given_x[1:] if feedback[t] else given_x
            h = affine(weight_hh, h, affine(weight_ih, consumed, bias))
            value += sum(y**2 for y in affine(weight_out, h, bias_out))
        return value

    g = rg.bptt(**p, feedback=torch.tensor(feedback), loss=lambda y: (y**2).sum())
    want = mp_gradient(loss, p)
    batched = {name: array[None] if name in ("x", "h0") else array for name, array in p.items()}
    outputs = g.outputs
    assert outputs is not None
    zeros = torch.zeros(1, 4, 2).double()
    bounds = loop_rnn(batched, feedback, zeros, zeros[:, 0], 2 * outputs[None])
    for name, expected in want.items():
        bound = bounds[name][0] if name in ("x", "h0") else bounds[name]
        bound.value = expected
        assert_close(getattr(g, name), bound, torch.finfo(torch.float64).eps, name)


@pytest.mark.parametrize("mask", ["open", "closed", "mixed"])
def test_gradcheck(mask: str) -> None:
    time = 5
    p = parameters(2, time, 3, 3, 2, torch.float64, 7)
    feedback = {"open": False, "closed": True, "mixed": torch.tensor([False, True, True, False, True])}[mask]

    def loss(y: Tensor) -> Tensor:
        return torch.sin(y).sum() + (y**2).sum()

    class Explicit(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *arrays: Tensor) -> Tensor:
            g = rg.bptt(**dict(zip(p, arrays, strict=True)), feedback=feedback, loss=loss)
            ctx.save_for_backward(*[getattr(g, name) for name in p])
            assert g.loss is not None
            return g.loss

        @staticmethod
        def backward(ctx: Any, d: Tensor) -> Any:
            return tuple(d * gradient for gradient in ctx.saved_tensors)

    assert torch.autograd.gradcheck(Explicit.apply, [array.requires_grad_() for array in p.values()])


def test_agrees_with_autograd_through_scan() -> None:
    p = {name: array.requires_grad_() for name, array in parameters(2, 30, 3, 5, 2, torch.float64, 1).items()}
    u = p["x"] @ p["weight_ih"].mT + p["bias"]
    states, _ = rg.scan(rg.Dense(p["weight_hh"]), u, p["h0"])
    outputs = states @ p["weight_out"].mT + p["bias_out"]
    torch.tanh(outputs).sum().backward()
    g = rg.bptt(**p, loss=lambda y: torch.tanh(y).sum())
    for name, array in p.items():
        torch.testing.assert_close(getattr(g, name), array.grad, rtol=1e-12, atol=1e-13)


def test_numpy_in_numpy_out_and_nothing_of_the_caller_changes() -> None:
    p = {name: array.numpy() for name, array in parameters(2, 6, 3, 4, 2, torch.float64, 2).items()}
    kept = {name: array.copy() for name, array in p.items()}
    feedback = np.array([False, True] * 3)
    g = rg.bptt(**p, feedback=feedback, loss=lambda y: (y**2).sum(), contributions=True)
    tensors = rg.bptt(
        **{name: torch.from_numpy(array) for name, array in p.items()},
        feedback=torch.from_numpy(feedback),
        loss=lambda y: (y**2).sum(),
    )
    for name in ("states", "outputs", "inputs", "delta", "x", "h0", "loss", *WEIGHTS):
        assert isinstance(getattr(g, name), np.ndarray)
        np.testing.assert_array_equal(getattr(g, name), getattr(tensors, name).numpy())
    assert isinstance(g.contributions["bias"], np.ndarray)
    for name, array in p.items():
        np.testing.assert_array_equal(array, kept[name])


def test_shapes_without_a_batch_and_with_a_shared_h0() -> None:
    p = parameters(3, 4, 2, 5, 1, torch.float64, 2)
    single = rg.bptt(p["x"][0], weight_hh=p["weight_hh"], weight_ih=p["weight_ih"], weight_out=p["weight_out"])
    assert single.states.shape == (4, 5)
    assert single.outputs is not None
    assert single.outputs.shape == (4, 1)
    assert single.delta.shape == (4, 5)
    assert single.x.shape == (4, 2)
    assert single.h0.shape == (5,)
    assert single.loss is None
    assert single.contributions is None
    shared = rg.bptt(**{**p, "h0": p["h0"][0]})
    every = rg.bptt(**{**p, "h0": p["h0"][0].expand(3, 5)})
    assert shared.h0.shape == (5,)
    torch.testing.assert_close(shared.h0, every.h0.sum(0))
    assert rg.bptt(p["x"][0], **{n: p[n] for n in WEIGHTS}, h0=p["h0"][0]).h0.shape == (5,)


def test_a_gradient_has_the_dtype_of_its_argument() -> None:
    p = parameters(2, 4, 2, 3, 1, torch.float64, 2)
    p["x"], p["weight_ih"] = p["x"].float(), p["weight_ih"] * 1j
    g = rg.bptt(**p)
    assert g.states.dtype == torch.complex128
    assert g.x.dtype == torch.float32
    assert g.weight_hh.dtype == torch.float64
    assert g.weight_ih.dtype == torch.complex128


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
        ("nothing to assign", ValueError, "none of the given tensors has requires_grad=True"),
        ("numpy", TypeError, "needs torch tensors, bptt was given NumPy arrays"),
    ],
)
def test_bad_updates_are_named(what: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message.replace("(", r"\(")):
        bad_update(what)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": torch.zeros(2, 0, 3)}, ValueError, "x has shape (2, 0, 3), expected (batch, time, inputs)"),
        ({"x": torch.zeros(3)}, ValueError, "x has shape (3,), expected (batch, time, inputs)"),
        ({"x": [1.0]}, TypeError, "x is list, expected a floating or complex tensor or NumPy array"),
        ({"x": torch.ones(2, 4, 3, dtype=torch.int64)}, TypeError, "x is torch.int64"),
        ({"weight_hh": None}, TypeError, "weight_hh is None, expected an array"),
        ({"weight_hh": torch.zeros(4, 5)}, ValueError, "weight_hh has shape (4, 5), expected (hidden, hidden)"),
        (
            {"weight_ih": torch.zeros(4, 5)},
            ValueError,
            "has shape (4, 5), expected (hidden, inputs) = (4, 3)",
        ),
        ({"bias": torch.zeros(3)}, ValueError, "bias has shape (3,), expected (hidden,) = (4,)"),
        ({"h0": torch.zeros(3, 4)}, ValueError, "h0 has shape (3, 4), expected (batch, hidden) = (2, 4)"),
        ({"weight_out": torch.zeros(2, 3)}, ValueError, "weight_out has shape (2, 3), expected (outputs, hidden)"),
        ({"weight_out": None}, ValueError, "bias_out was given without weight_out"),
        ({"grad_final": torch.zeros(4)}, ValueError, "grad_final has shape (4,), expected (batch, hidden) = (2, 4)"),
        ({"grad_states": torch.zeros(2, 4)}, ValueError, "expected (batch, time, hidden) = (2, 4, 4)"),
        ({"feedback": torch.ones(4)}, TypeError, "feedback has dtype torch.float32, expected bool"),
        ({"feedback": torch.ones(5).bool()}, ValueError, "feedback has shape (5,), expected (time,) = (4,)"),
        ({"feedback": True, "weight_out": None, "bias_out": None}, ValueError, "feedback needs weight_out"),
        ({"grad_final": torch.zeros(2, 4), "loss": torch.sum}, ValueError, "the gradient has one start"),
        ({"loss": lambda y: y}, ValueError, "loss returned (2, 4, 2), expected a real scalar tensor"),
        ({"loss": lambda y: 1.0}, ValueError, "loss returned float, expected a real scalar tensor"),
        ({"loss": lambda y: torch.ones(())}, ValueError, "does not depend on its argument"),
        ({"backend": "abacus"}, ValueError, "backend is 'abacus'"),
    ],
)
def test_bad_input_is_named(change: dict[str, Any], error: type[Exception], message: str) -> None:
    p: dict[str, Any] = {**parameters(2, 4, 3, 4, 2, torch.float64, 0), **change}
    with pytest.raises(error) as caught:
        rg.bptt(**p)
    assert message in str(caught.value)
