"""One step of the linear RNN, for loops that decide step by step what comes next."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everyone knows it by

from retrograd.errors import require_shape

__all__ = ["LinearRNNCell", "initialise", "require_bool", "require_dtype", "require_size"]


class LinearRNNCell(nn.Module):
    """h' = W_ih x + b_ih + W_hh h + b_hh: :class:`torch.nn.RNNCell` without the nonlinearity.

    Parameters have RNNCell's names, shapes, initialisation and order of random draws, so that one seed makes both
    alike and either loads the other's ``state_dict``. For whole sequences :class:`LinearRNN` is faster.

    Args:
        input_size: I, the features of x.
        hidden_size: H, the width of the state.
        bias: whether there are b_ih and b_hh.
        device: where the parameters lie.
        dtype: their floating dtype.

    Attributes:
        weight_ih: W_ih, ``(H, I)``.
        weight_hh: W_hh, ``(H, H)``.
        bias_ih: b_ih, ``(H,)``, or None.
        bias_hh: b_hh, ``(H,)``, or None.

    Raises:
        TypeError: a size is not an int, ``bias`` not a bool or ``dtype`` not a floating one.
        ValueError: a size is below 1.

    Examples:
        >>> cell, x = LinearRNNCell(3, 2), torch.randn(5, 4, 3)
        >>> h = None
        >>> for x_t in x:
        ...     h = cell(x_t, h)
        >>> h.shape
        torch.Size([4, 2])
    """

    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor | None
    bias_hh: Tensor | None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        require_size("input_size", input_size)
        require_size("hidden_size", hidden_size)
        require_bool("bias", bias)
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias
        shapes = {
            "weight_ih": (hidden_size, input_size),
            "weight_hh": (hidden_size, hidden_size),
            "bias_ih": (hidden_size,) if bias else None,
            "bias_hh": (hidden_size,) if bias else None,
        }
        for name, shape in shapes.items():
            empty = None if shape is None else nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
            self.register_parameter(name, empty)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw every parameter anew, uniform in ±1/√H."""
        initialise(self.parameters(), self.hidden_size)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:  # noqa: A002 - RNNCell's name
        """Return the state after ``input``.

        Args:
            input: x, ``(batch, I)`` or ``(I,)``.
            hx: h, ``(batch, H)`` or ``(H,)``; zero by default.

        Returns:
            h', ``(batch, H)`` or ``(H,)``.

        Raises:
            ValueError: shapes or dtypes do not fit.
        """
        if input.ndim not in (1, 2):
            raise ValueError(f"input has shape {tuple(input.shape)}, expected (batch, input_size) or (input_size,)")
        batch, axes = input.shape[:-1], ["batch"][: input.ndim - 1]
        require_shape("input", input, [*axes, "input_size"], [*batch, self.input_size])
        require_dtype("input", input, self.weight_ih)
        new = F.linear(input, self.weight_ih, self.bias_ih)
        if hx is None:  # a state of zeros has a part in the graph: weight_hh's gradient is zero, not None
            hx = self.weight_hh.new_zeros(*batch, self.hidden_size)
        require_shape("hx", hx, [*axes, "hidden_size"], [*batch, self.hidden_size])
        require_dtype("hx", hx, self.weight_hh)
        return new + F.linear(hx, self.weight_hh, self.bias_hh)

    def extra_repr(self) -> str:
        """Return the arguments that make this cell, as RNNCell prints them."""
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")


def initialise(parameters: Iterable[nn.Parameter], hidden_size: int) -> None:
    """Draw every parameter, in order, uniform in ±1/√hidden_size."""
    bound = 1 / math.sqrt(hidden_size)
    for parameter in parameters:
        if not parameter.is_floating_point():
            raise TypeError(f"dtype is {parameter.dtype}, expected a floating one, as torch.float32")
        nn.init.uniform_(parameter, -bound, bound)


def require_size(name: str, value: object) -> None:
    """Raise unless ``value`` is an int of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}, expected an int")
    if value < 1:
        raise ValueError(f"{name} is {value}, expected at least 1")


def require_bool(name: str, value: object) -> None:
    """Raise unless ``value`` is a bool."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}, expected a bool")


def require_dtype(name: str, array: Tensor, weight: Tensor) -> None:
    """Raise unless ``array`` has the weights' dtype; under autocast any does."""
    if array.dtype != weight.dtype and not torch.is_autocast_enabled(array.device.type):
        raise ValueError(
            f"{name} is {array.dtype}, the weights are {weight.dtype}: "
            f"use {name}.to({weight.dtype})" + (f" or module.to({array.dtype})" if array.is_floating_point() else "")
        )
