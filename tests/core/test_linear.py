"""The linear map of every step: values, derivatives of every order, the same bits on any number of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

import retrograd as rg
from retrograd.core.linear import linear, step_sum
from serving import SERVING

# (rows, inputs, outputs): each kernel, with tails; shapes that torch's own product splits by threads.
SHAPES = [(1, 1, 1), (7, 64, 64), (65, 3, 33), (100, 33, 17), (1000, 256, 100), (70, 9, 1), (130, 300, 2), (9, 5, 0)]
SHAPES += [(4, 0, 3)]


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def same_bits(run: Callable[[], list[Tensor]]) -> None:
    with threads(1):
        first = run()
    for count in (2, 3, 4, 8):
        with threads(count):
            for one, other in zip(first, run(), strict=True):
                assert torch.equal(one, other), count


def gradients(x: Tensor, weight: Tensor, bias: Tensor | None) -> list[Tensor]:
    leaves = [y.detach().clone().requires_grad_() for y in (x, weight, bias) if y is not None]
    out = linear(leaves[0], leaves[1], leaves[2] if bias is not None else None, "auto")
    return [out.detach(), *torch.autograd.grad((out * out.detach().conj()).real.sum(), leaves)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64, torch.complex128])
@pytest.mark.parametrize("shape", SHAPES)
def test_values_are_the_product_and_bits_do_not_depend_on_threads(
    shape: tuple[int, int, int], dtype: torch.dtype
) -> None:
    rows, inputs, outputs = shape
    x, weight = torch.randn(1, rows, inputs, dtype=dtype), torch.randn(outputs, inputs, dtype=dtype)
    bias = torch.randn(outputs, dtype=dtype)
    wide = torch.promote_types(dtype, torch.float64)
    eps = torch.finfo(dtype).eps
    for w, b in ((weight, bias), (weight.mT.contiguous().mT, None), (weight.expand(2, *weight.shape)[0], bias)):
        for backend in SERVING:
            got, want = linear(x, w, b, backend), F.linear(x.to(wide), w.to(wide), None if b is None else b.to(wide))
            scale = F.linear(x.abs().double(), w.abs().double()) + (0 if b is None else b.abs().double())
            assert bool(((got.to(wide) - want).abs() <= 2 * (inputs + 2) * eps * scale).all())
    same_bits(lambda: gradients(x, weight, bias))


def test_a_row_does_not_depend_on_the_rows_beside_it() -> None:
    x, weight = torch.randn(1, 77, 40), torch.randn(50, 40)
    whole = linear(x, weight, None, "native")
    for at in (0, 3, 64, 76):
        assert torch.equal(linear(x[:, at : at + 1], weight, None, "native"), whole[:, at : at + 1])
    x[0, 5] = torch.nan
    hurt = linear(x, weight, None, "native")
    assert torch.equal(hurt[:, 6:], whole[:, 6:])


@pytest.mark.parametrize("backend", SERVING)
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_derivatives_of_every_order(dtype: torch.dtype, backend: str) -> None:
    x = torch.randn(2, 4, 3, dtype=dtype, requires_grad=True)
    weight, bias = (torch.randn(*n, dtype=dtype, requires_grad=True) for n in ((5, 3), (5,)))
    run = lambda *a: linear(*a, backend)  # noqa: E731
    assert torch.autograd.gradcheck(run, (x, weight, bias), check_batched_grad=True, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(run, (x, weight, bias), check_batched_grad=True, fast_mode=True)
    turned = lambda x, w: linear(x.transpose(0, 1), w, None, backend)  # noqa: E731
    assert torch.autograd.gradcheck(turned, (x, weight))


def test_transformations_see_torch() -> None:
    x, weight, bias = torch.randn(2, 4, 3), torch.randn(5, 3), torch.randn(5)
    run = lambda x: linear(x, weight, bias, "auto")  # noqa: E731
    want = F.linear(x, weight, bias)
    torch.testing.assert_close(torch.func.vmap(run)(x[None])[0], want)
    torch.testing.assert_close(torch.func.jvp(run, (x,), (x,))[1], F.linear(x, weight))
    torch.testing.assert_close(torch.func.grad(lambda x: run(x).sum())(x), F.linear(torch.ones(2, 4, 5), weight.mT))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert run(x).dtype == torch.bfloat16


@pytest.mark.parametrize("hidden", [1, 17, 64, 100])
def test_layers_and_bptt_give_the_same_bits_on_any_number_of_threads(hidden: int) -> None:
    x = torch.randn(3, 1100, 33)
    rnn = rg.nn.LinearRNN(33, hidden, batch_first=True)
    with torch.no_grad():
        rnn.weight_hh_l0 /= 2

    def layer() -> list[Tensor]:
        given = x.clone().requires_grad_()
        states, _ = rnn(given)
        return [states.detach(), *torch.autograd.grad(states.square().sum(), [given, *rnn.parameters()])]

    def explicit() -> list[Tensor]:
        weights = {"weight_hh": rnn.weight_hh_l0.detach(), "weight_ih": rnn.weight_ih_l0.detach()}
        weights["bias"] = torch.zeros(hidden)
        g = rg.bptt(x, **weights, weight_out=torch.ones(2, hidden), loss=lambda y: y.square().sum())
        return [g.states, g.outputs, g.delta, g.x, g.weight_hh, g.weight_ih, g.bias, g.weight_out]

    same_bits(layer)
    same_bits(explicit)


def test_a_sum_over_many_steps_has_the_same_bits_on_any_number_of_threads() -> None:
    g = torch.randn(2, 60_001, 1)  # more than torch sums on one thread
    same_bits(lambda: [step_sum(g)])
    assert abs(step_sum(g) - g.double().sum()) < 1e-5 * g.abs().sum()
