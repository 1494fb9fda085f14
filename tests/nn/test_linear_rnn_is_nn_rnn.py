"""LinearRNN is nn.RNN without the nonlinearity: values, gradients, layout, names, draws, autocast."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

import retrograd as rg
from nn.layer_loop import EVERY, FACTOR, HIDDEN, INPUT, arrange, draw, gradients, separate


@pytest.mark.parametrize(("layers", "bidirectional", "packing", "batch_first", "bias", "with_hx"), EVERY)
def test_is_nn_rnn_where_relu_is_linear(
    layers: int, bidirectional: bool, packing: str, batch_first: bool, bias: bool, with_hx: bool
) -> None:
    """With everything positive relu is the identity: values, layout, packing and gradients are nn.RNN's own."""
    torch.manual_seed(1)
    directions = 2 if bidirectional else 1
    kwargs = {"batch_first": batch_first, "bidirectional": bidirectional, "dtype": torch.float64, "bias": bias}
    ours = rg.nn.LinearRNN(INPUT, HIDDEN, layers, **kwargs)
    ours.load_state_dict({k: v.abs() + 0.1 for k, v in ours.state_dict().items()})
    theirs = nn.RNN(INPUT, HIDDEN, layers, nonlinearity="relu", **kwargs)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    x, hx, g, g_n = draw(packing, layers, directions)
    results = []
    for rnn in (ours, theirs):
        x_ = [s.detach().abs().requires_grad_() for s in x]
        hx_ = hx.detach().abs().requires_grad_() if with_hx else None
        output, h_n = rnn(arrange(x_, packing, batch_first), hx_)
        outputs = separate(output, packing, batch_first)
        wanted = [*rnn.parameters(), *x_, *([] if hx_ is None else [hx_])]
        results.append((output, h_n, gradients(outputs, h_n, [w.abs() for w in g], g_n.abs(), wanted)))
    (output, h_n, d), (output_, h_n_, d_) = results
    # Every term is positive, so that the sum of absolute values is the value itself: a relative bound suffices.
    close: dict[str, Any] = {"rtol": FACTOR * torch.finfo(torch.float64).eps, "atol": 0}
    if isinstance(output_, PackedSequence):
        assert isinstance(output, PackedSequence)
        assert torch.equal(output.batch_sizes, output_.batch_sizes)
        for mine, their in zip(output[2:], output_[2:], strict=True):
            assert (mine is None and their is None) or torch.equal(mine, their)
        output, output_ = output.data, output_.data
    torch.testing.assert_close(output, output_, **close)
    torch.testing.assert_close(h_n, h_n_, **close)
    torch.testing.assert_close(d, d_, **close)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 3])
def test_seed_and_state_dict_are_nn_rnns(layers: int, bidirectional: bool, bias: bool) -> None:
    kwargs: dict[str, Any] = {"num_layers": layers, "bias": bias, "bidirectional": bidirectional}
    torch.manual_seed(7)
    theirs = nn.RNN(INPUT, HIDDEN, **kwargs)
    torch.manual_seed(7)
    ours = rg.nn.LinearRNN(INPUT, HIDDEN, **kwargs)
    for (name, a), (name_, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert name == name_
        assert torch.equal(a, b)
    for mine, their in zip(ours.all_weights, theirs.all_weights, strict=True):
        assert [w.shape for w in mine] == [w.shape for w in their]
    other = nn.RNN(INPUT, HIDDEN, **kwargs)
    ours.load_state_dict(other.state_dict(), strict=True)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    for a, b in zip(theirs.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
    torch.manual_seed(7)
    ours.reset_parameters()
    torch.manual_seed(7)
    theirs.reset_parameters()
    assert torch.equal(ours.weight_hh_l0, theirs.weight_hh_l0)
    assert not torch.equal(ours.weight_hh_l0, other.weight_hh_l0)
    assert ours.flatten_parameters() is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("with_hx", [False, True])
@pytest.mark.parametrize("packing", ["none", "sorted"])
def test_autocast_returns_the_dtypes_of_nn_rnn(packing: str, with_hx: bool, dtype: torch.dtype) -> None:
    """float32 in: the reduced dtype out, from states carried in float32; gradients are float32 again."""
    torch.manual_seed(11)
    ours = rg.nn.LinearRNN(INPUT, HIDDEN, 2, bidirectional=True)
    theirs = nn.RNN(INPUT, HIDDEN, 2, bidirectional=True)
    x, hx, _, _ = draw(packing, 2, 2)
    x, hx = [s.detach().float() for s in x], hx.detach().float().requires_grad_()
    argument = arrange(x, packing, False)
    with torch.autocast("cpu", dtype):
        (output, h_n), (output_, h_n_) = (rnn(argument, hx if with_hx else None) for rnn in (ours, theirs))
    exact = separate(ours(argument, hx if with_hx else None)[0], packing, False)
    assert h_n.dtype == h_n_.dtype == dtype
    # x, the weights and u are rounded in each of two layers; states are of order one.
    for got, want, other in zip(*(separate(o, packing, False) for o in (output, output_)), exact, strict=True):
        assert got.dtype == want.dtype == dtype
        torch.testing.assert_close(got.float(), other, rtol=0.05, atol=0.05)
    h_n.float().sum().backward()
    assert all(w.grad is not None and w.grad.dtype == torch.float32 for w in ours.parameters())
