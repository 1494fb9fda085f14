"""bptt against the step-by-step loop, 50 digits, finite differences and autograd through scan."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import retrograd as rg
from oracle import assert_close, loop_rnn, mp_gradient
from rnn.problems import WEIGHTS, parameters


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex128], ids=str)
@given(data=st.data())
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
