"""Arguments of bptt: what cannot be is named in one clear line."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import retrograd as rg
from retrograd.rnn.arguments import Arguments
from rnn.problems import parameters


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": torch.zeros(2, 0, 3)}, ValueError, "x has shape (2, 0, 3), expected (batch, time, inputs)"),
        ({"x": torch.zeros(3)}, ValueError, "x has shape (3,), expected (batch, time, inputs)"),
        ({"x": [1.0]}, TypeError, "x is list, expected a floating or complex tensor or NumPy array"),
        ({"x": torch.ones(2, 4, 3, dtype=torch.int64)}, TypeError, "x is torch.int64"),
        (
            {"x": torch.ones(2, 4, 3).to(torch.float8_e4m3fn)},
            TypeError,
            "x is torch.float8_e4m3fn, expected a floating",
        ),
        ({"bias": np.ones(4, ">f8")}, TypeError, "bias is >f8, expected the machine's byte order: use bias.astype("),
        ({"bias": np.ones(4, np.longdouble)}, TypeError, "bias is float128, expected a floating or complex tensor or"),
        ({"bias": np.array(["a"] * 4)}, TypeError, "bias is <U1, expected a floating or complex tensor or NumPy array"),
        (
            {"bias": np.ma.masked_array(np.ones(4), [False, True, False, False])},
            TypeError,
            "bias has masked values, which have no gradient: fill them, bias.filled(",
        ),
        ({"weight_hh": torch.eye(4).to_sparse()}, TypeError, "weight_hh has layout torch.sparse_coo, expected"),
        ({"x": pd.DataFrame(np.ones((4, 3)))}, TypeError, "x is DataFrame, expected a floating or complex tensor"),
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


def test_inputs_consumed_are_the_same_however_often_they_are_asked_for() -> None:
    given = parameters(2, 4, 3, 4, 2, torch.float64, 0)
    p = Arguments(given, {"grad_states": None, "grad_final": None}, True, None)
    states = torch.randn(2, 4, 4, dtype=torch.float64)
    first = p.inputs(states).clone()
    assert torch.equal(p.inputs(states), first)
    assert not torch.equal(first, given["x"])


def test_an_array_that_must_not_be_written_is_read() -> None:
    given = {name: array.numpy() for name, array in parameters(2, 4, 3, 4, 2, torch.float64, 0).items()}
    want = rg.bptt(**given).weight_hh
    for array in given.values():
        array.flags.writeable = False
    np.testing.assert_array_equal(rg.bptt(**given).weight_hh, want)
