"""LinearRNNCell against the text, nn.RNNCell and LinearRNN."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import retrograd as rg

EPS = torch.finfo(torch.float64).eps


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("with_hx", [False, True])
@pytest.mark.parametrize("batch", [None, 1, 4])
def test_is_the_formula(batch: int | None, with_hx: bool, bias: bool) -> None:
    torch.manual_seed(0)
    cell = rg.nn.LinearRNNCell(3, 2, bias, dtype=torch.float64)
    lead = () if batch is None else (batch,)
    x = torch.randn(*lead, 3, dtype=torch.float64)
    h = torch.randn(*lead, 2, dtype=torch.float64)
    got = cell(x, h if with_hx else None)
    p = {k: v.tolist() for k, v in cell.state_dict().items()}
    assert got.shape == h.shape
    for row, x_row, h_row in zip(got.reshape(-1, 2), x.reshape(-1, 3), h.reshape(-1, 2), strict=True):
        for i in range(2):
            terms = [w * v for w, v in zip(p["weight_ih"][i], x_row.tolist(), strict=True)]
            if with_hx:
                terms += [w * v for w, v in zip(p["weight_hh"][i], h_row.tolist(), strict=True)]
            if bias:
                terms += [p["bias_ih"][i], p["bias_hh"][i]]
            # A sum of n products, in any order, errs by at most n * eps * the sum of their absolute values.
            allowed = len(terms) * EPS * sum(map(abs, terms))
            assert abs(row[i].item() - sum(terms)) <= allowed


@pytest.mark.parametrize("bias", [False, True])
def test_steps_are_the_module(bias: bool) -> None:
    """Values and gradients of a loop over the cell are those of one layer."""
    torch.manual_seed(1)
    rnn = rg.nn.LinearRNN(3, 2, bias=bias, dtype=torch.float64)
    cell = rg.nn.LinearRNNCell(3, 2, bias, dtype=torch.float64)
    cell.load_state_dict({k.removesuffix("_l0"): v for k, v in rnn.state_dict().items()})
    x = torch.randn(6, 4, 3, dtype=torch.float64, requires_grad=True)
    h0 = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    g = torch.randn(6, 4, 2, dtype=torch.float64)
    states, h = [], h0
    for x_t in x:
        h = cell(x_t, h)
        states.append(h)
    want = torch.stack(states)
    got, h_n = rnn(x, h0.unsqueeze(0))
    # 6 steps of at most 3 + 2 + 2 terms of order one, out and back.
    close: dict[str, Any] = {"rtol": 0, "atol": 2 * 6 * 7 * EPS * 4}
    torch.testing.assert_close(got, want, **close)
    torch.testing.assert_close(h_n[0], h, **close)
    d_got = torch.autograd.grad(got, [*rnn.parameters(), x, h0], g)
    d_want = torch.autograd.grad(want, [*cell.parameters(), x, h0], g)
    torch.testing.assert_close(d_got, d_want, **close)


@pytest.mark.parametrize("bias", [False, True])
def test_seed_and_state_dict_are_nn_rnn_cells(bias: bool) -> None:
    torch.manual_seed(2)
    theirs = nn.RNNCell(3, 2, bias)
    torch.manual_seed(2)
    ours = rg.nn.LinearRNNCell(3, 2, bias)
    for (name, a), (name_, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert name == name_
        assert torch.equal(a, b)
    other = nn.RNNCell(3, 2, bias)
    ours.load_state_dict(other.state_dict(), strict=True)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    assert torch.equal(theirs.weight_hh, other.weight_hh)
    assert (ours.bias_ih is None) == (ours.bias_hh is None) == (not bias)


def test_is_nn_rnn_cell_where_relu_is_linear() -> None:
    torch.manual_seed(3)
    ours = rg.nn.LinearRNNCell(3, 2, dtype=torch.float64)
    theirs = nn.RNNCell(3, 2, nonlinearity="relu", dtype=torch.float64)
    ours.load_state_dict({k: v.abs() for k, v in ours.state_dict().items()})
    theirs.load_state_dict(ours.state_dict())
    x, h = torch.rand(4, 3, dtype=torch.float64), torch.rand(4, 2, dtype=torch.float64)
    for args in ((x, h), (x,), (x[0], h[0]), (x[0],)):
        # Every term is positive: a sum of 7 has a relative error below 7 eps.
        torch.testing.assert_close(ours(*args), theirs(*args), rtol=7 * EPS, atol=0)


def test_without_a_state_every_parameter_has_a_gradient() -> None:
    cell = rg.nn.LinearRNNCell(3, 2)
    cell(torch.randn(4, 3)).sum().backward()
    assert torch.equal(cell.weight_hh.grad, torch.zeros(2, 2))


def test_gradcheck() -> None:
    torch.manual_seed(4)
    cell = rg.nn.LinearRNNCell(3, 2, dtype=torch.float64)
    names = [name for name, _ in cell.named_parameters()]

    def function(x: Tensor, h: Tensor, *weights: Tensor) -> Tensor:
        return torch.func.functional_call(cell, dict(zip(names, weights, strict=True)), (x, h))

    args = [torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 2, dtype=torch.float64), *cell.parameters()]
    assert torch.autograd.gradcheck(function, [a.detach().requires_grad_() for a in args])


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies(duplicate: Any) -> None:
    cell = rg.nn.LinearRNNCell(3, 2).to(torch.bfloat16)
    x = torch.randn(4, 3, dtype=torch.bfloat16)
    assert cell(x).dtype == torch.bfloat16
    assert torch.equal(duplicate(cell)(x), cell(x))


def test_repr() -> None:
    assert repr(rg.nn.LinearRNNCell(3, 2)) == "LinearRNNCell(3, 2)"
    assert repr(rg.nn.LinearRNNCell(3, 2, bias=False)) == "LinearRNNCell(3, 2, bias=False)"


@pytest.mark.parametrize(
    ("x", "h", "message"),
    [
        (torch.zeros(4, 9), None, "input has shape (4, 9), expected (batch, input_size) = (4, 3)"),
        (torch.zeros(9), None, "input has shape (9,), expected (input_size,) = (3,)"),
        (torch.zeros(2, 4, 3), None, "input has shape (2, 4, 3), expected (batch, input_size) or (input_size,)"),
        (torch.zeros(4, 3), torch.zeros(1, 2), "hx has shape (1, 2), expected (batch, hidden_size) = (4, 2)"),
        (torch.zeros(3), torch.zeros(1, 2), "hx has shape (1, 2), expected (hidden_size,) = (2,)"),
        (torch.zeros(4, 3).double(), None, "input is torch.float64, the weights are torch.float32"),
        (torch.zeros(4, 3), torch.zeros(4, 2).double(), "hx is torch.float64, the weights are torch.float32"),
    ],
)
def test_forward_messages(x: Tensor, h: Tensor | None, message: str) -> None:
    with pytest.raises(ValueError, match=r"expected|weights") as caught:
        rg.nn.LinearRNNCell(3, 2)(x, h)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        ((0, 2), ValueError, "input_size is 0, expected at least 1"),
        ((3, -1), ValueError, "hidden_size is -1, expected at least 1"),
        ((3, "2"), TypeError, "hidden_size is '2', expected an int"),
        ((3, 2, "tanh"), TypeError, "bias is 'tanh', expected a bool"),
    ],
)
def test_constructor_messages(args: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        rg.nn.LinearRNNCell(*args)
    assert str(caught.value) == message


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_returns_the_dtype_of_rnn_cell(dtype: torch.dtype) -> None:
    x, h = torch.randn(4, 3), torch.randn(4, 2)
    with torch.autocast("cpu", dtype):
        for given in (None, h):
            assert rg.nn.LinearRNNCell(3, 2)(x, given).dtype == nn.RNNCell(3, 2)(x, given).dtype == dtype
