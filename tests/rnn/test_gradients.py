"""What is shown of results: names and shapes, no numbers."""

from __future__ import annotations

import torch
from torch import nn

import retrograd as rg
from rnn.problems import parameters


def test_gradients_and_streams_show_shapes() -> None:
    p = parameters(2, 5, 3, 4, 2, torch.float64, 0)
    head = nn.Linear(2, 1).double()
    g = rg.bptt(**p, loss=lambda y: head(y).square().sum(), contributions=True)
    assert repr(g) == (
        "Gradients(loss=(), h0=(2, 4), weight_hh=(4, 4), weight_ih=(4, 3), bias=(4,), weight_out=(2, 4), "
        "bias_out=(2,), loss_parameters=[(1, 2), (1,)], states=(2, 5, 4), outputs=(2, 5, 2), inputs=(2, 5, 3), "
        "delta=(2, 5, 4), x=(2, 5, 3), contributions=[(5, 4, 4), (5, 4, 3), (5, 4), (5, 2, 4), (5, 2)])"
    )
    few = {name: p[name] for name in ("x", "weight_hh", "weight_ih")}
    assert repr(rg.bptt_chunked(**few)) == "GradientTotals(h0=(2, 4), weight_hh=(4, 4), weight_ih=(4, 3), bias=(4,))"
    stream = rg.Stream(weight_hh=p["weight_hh"], weight_ih=p["weight_ih"], truncate=3, stride=2)
    assert repr(stream) == "Stream(weight_hh=(4, 4), weight_ih=(4, 3), truncate=3, stride=2, steps=0)"
    fed = stream.feed(p["x"], loss=lambda h: h.square().sum())
    assert repr(fed) == "Fed(states=(2, 5, 4), loss=())"
    assert repr(stream) == (
        "Stream(weight_hh=(4, 4), weight_ih=(4, 3), truncate=3, stride=2, steps=5, state=(2, 4), "
        "gradients=[(4, 4), (4, 3), (4,), (2, 4)])"
    )
