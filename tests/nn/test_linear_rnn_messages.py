"""LinearRNN: arguments and inputs that cannot be are named in one line."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_sequence

import retrograd as rg


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"input_size": 0}, ValueError, "input_size is 0, expected at least 1"),
        ({"hidden_size": 0}, ValueError, "hidden_size is 0, expected at least 1"),
        ({"hidden_size": 2.0}, TypeError, "hidden_size is 2.0, expected an int"),
        ({"hidden_size": True}, TypeError, "hidden_size is True, expected an int"),
        ({"num_layers": 0}, ValueError, "num_layers is 0, expected at least 1"),
        ({"bias": 1}, TypeError, "bias is 1, expected a bool"),
        ({"bias": "tanh"}, TypeError, "bias is 'tanh', expected a bool"),
        ({"nonlinearity": "relu"}, TypeError, "LinearRNN.__init__() got an unexpected keyword argument 'nonlinearity'"),
        ({"proj_size": 2}, TypeError, "LinearRNN.__init__() got an unexpected keyword argument 'proj_size'"),
        ({"batch_first": 1}, TypeError, "batch_first is 1, expected a bool"),
        ({"bidirectional": None}, TypeError, "bidirectional is None, expected a bool"),
        ({"dropout": 1.5}, ValueError, "dropout is 1.5, expected a probability in [0, 1]"),
        ({"dropout": -0.1}, ValueError, "dropout is -0.1, expected a probability in [0, 1]"),
        ({"dropout": float("nan")}, ValueError, "dropout is nan, expected a probability in [0, 1]"),
        ({"dropout": True}, TypeError, "dropout is True, expected a number in [0, 1]"),
        ({"backend": "referense"}, ValueError, "backend is 'referense': did you mean 'reference'"),
        ({"dtype": torch.complex64}, TypeError, "dtype is torch.complex64, expected a floating one"),
    ],
)
def test_constructor_messages(kwargs: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        rg.nn.LinearRNN(**{"input_size": 3, "hidden_size": 4, **kwargs})
    assert str(caught.value).startswith(message)


def _packed(width: int = 3) -> PackedSequence:
    return pack_sequence([torch.zeros(4, width), torch.zeros(2, width)])


@pytest.mark.parametrize(
    ("x", "hx", "message"),
    [
        (
            torch.zeros(5, 3, 3),
            torch.zeros(1, 3, 4),
            "hx has shape (1, 3, 4), expected (num_layers * directions, batch, hidden_size) = (2, 3, 4)",
        ),
        (
            torch.zeros(5, 3),
            torch.zeros(2, 1, 4),
            "hx has shape (2, 1, 4), expected (num_layers * directions, hidden_size) = (2, 4)",
        ),
        (
            _packed(),
            torch.zeros(2, 3, 4),
            "hx has shape (2, 3, 4), expected (num_layers * directions, batch, hidden_size) = (2, 2, 4)",
        ),
        (torch.zeros(5, 2, 4), None, "input has shape (5, 2, 4), expected (time, batch, input_size) = (5, 2, 3)"),
        (torch.zeros(5, 4), None, "input has shape (5, 4), expected (time, input_size) = (5, 3)"),
        (_packed(4), None, "input.data has shape (6, 4), expected (total_time, input_size) = (6, 3)"),
        (torch.zeros(3), None, "input has shape (3,), expected (time, batch, input_size), (time, input_size) or a"),
        (
            torch.zeros(5, 2, 3).double(),
            None,
            "input is torch.float64, the weights are torch.float32: use input.to(torch.float32) or module.to(",
        ),
        (torch.zeros(5, 2, 3), torch.zeros(2, 2, 4).double(), "hx is torch.float64, the weights are torch.float32"),
    ],
)
def test_forward_messages(x: Any, hx: Tensor | None, message: str) -> None:
    rnn = rg.nn.LinearRNN(3, 4, 2)
    with pytest.raises(ValueError, match=r"expected|weights") as caught:
        rnn(x, hx)
    assert str(caught.value).startswith(message)


def test_messages_for_other_types_and_batch_first() -> None:
    rnn = rg.nn.LinearRNN(3, 4, batch_first=True)
    with pytest.raises(ValueError, match=r"input is list, expected \(batch, time, input_size\)"):
        rnn([1.0])
    with pytest.raises(ValueError, match=r"expected \(batch, time, input_size\) = \(5, 2, 3\)"):
        rnn(torch.zeros(5, 2, 9))
    with pytest.raises(TypeError, match=r"hx is tuple, expected a torch\.Tensor"):
        rnn(torch.zeros(5, 2, 3), (torch.zeros(1, 5, 4), torch.zeros(1, 5, 4)))


def test_lengths_are_a_tensor() -> None:
    layer, bad = rg.nn.LinearRNN(3, 4, batch_first=True), [2, 1]
    with pytest.raises(TypeError, match="lengths is list, expected an integer tensor"):
        layer(torch.zeros(2, 5, 3), lengths=bad)  # type: ignore[arg-type]
