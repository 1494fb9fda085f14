"""LinearRNN against the plain loop, and against finite differences."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence

import retrograd as rg
from nn.layer_loop import BATCH, EVERY, FACTOR, HIDDEN, INPUT, arrange, draw, gradients, loop, magnitudes, separate


@pytest.mark.parametrize(("layers", "bidirectional", "packing", "batch_first", "bias", "with_hx"), EVERY)
def test_values_and_gradients_are_the_loops(
    layers: int, bidirectional: bool, packing: str, batch_first: bool, bias: bool, with_hx: bool
) -> None:
    torch.manual_seed(0)
    directions = 2 if bidirectional else 1
    rnn = rg.nn.LinearRNN(
        INPUT, HIDDEN, layers, bias, batch_first=batch_first, bidirectional=bidirectional, dtype=torch.float64
    )
    p = dict(rnn.named_parameters())
    x, hx, g, g_n = draw(packing, layers, directions)
    start = hx if with_hx else torch.zeros_like(hx)
    wanted = [*p.values(), *x, *([hx] if with_hx else [])]

    def by_loop(values: list[Tensor], g: list[Tensor], g_n: Tensor) -> list[Tensor]:
        weights = dict(zip(p, values, strict=False))
        sequences = values[len(p) : len(p) + BATCH]
        h0 = values[-1] if with_hx else start
        outputs, h_n = loop(weights, sequences, h0, layers, directions)
        return [*outputs, h_n, *gradients(outputs, h_n, g, g_n, values)]

    want = by_loop(wanted, g, g_n)
    bound = by_loop(magnitudes(wanted), [w.abs() for w in g], g_n.abs())

    output, h_n = rnn(arrange(x, packing, batch_first), hx if with_hx else None)
    outputs = separate(output, packing, batch_first)
    got = [*outputs, h_n, *gradients(outputs, h_n, g, g_n, wanted)]

    names = [f"output {i}" for i in range(BATCH)] + ["h_n", *p] + [f"d_x {i}" for i in range(BATCH)] + ["d_hx"]
    for name, a, b, scale in zip(names, got, want, bound, strict=False):
        assert a.shape == b.shape, name
        worst = ((a - b).abs() - FACTOR * torch.finfo(torch.float64).eps * scale).max()
        assert worst <= 0, f"{name}: {(a - b).abs().max():.3g}"
    assert len(got) == len(want) == len(bound) == 5 + len(wanted)


def _module_function(rnn: rg.nn.LinearRNN, lengths: list[int] | None) -> Any:
    names = [name for name, _ in rnn.named_parameters()]

    def function(x: Tensor, hx: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        arg = x if lengths is None else pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
        parameters = dict(zip(names, weights, strict=True))
        output, h_n = torch.func.functional_call(rnn, parameters, (arg, hx))
        return (output if lengths is None else output.data), h_n

    return function


@pytest.mark.parametrize("lengths", [None, [2, 3]])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_gradcheck_to_order_two(bidirectional: bool, lengths: list[int] | None) -> None:
    torch.manual_seed(2)
    rnn = rg.nn.LinearRNN(2, 2, 2, bidirectional=bidirectional, dtype=torch.float64)
    x = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
    hx = torch.randn(len(rnn.all_weights), 2, 2, dtype=torch.float64, requires_grad=True)
    weights = [w.detach().clone().requires_grad_() for w in rnn.parameters()]
    function = _module_function(rnn, lengths)
    assert torch.autograd.gradcheck(function, (x, hx, *weights), check_forward_ad=lengths is None)
    assert torch.autograd.gradgradcheck(function, (x, hx, *weights), fast_mode=True)
