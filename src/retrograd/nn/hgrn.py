"""HGRN: a complex recurrence whose forget gate cannot fall below a bound that grows from layer to layer.

Qin, Yang, Zhong, Hierarchically Gated Recurrent Neural Network for Sequence Modeling, 2023 (arXiv 2311.04823):
its token mixer, HGRU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everyone knows it by

from retrograd.core.linear import linear
from retrograd.core.transition import Diagonal
from retrograd.errors import require_whole
from retrograd.nn.cell import require_size
from retrograd.nn.complex_maps import as_complex, as_real
from retrograd.nn.recompute import recomputed
from retrograd.nn.recurrence import Along, Projection, Recurrence, wide

__all__ = ["HGRN", "LowerBounds"]


class LowerBounds(nn.Module):
    """γ of every layer: the cumulative sums of a softmax over layers, from 0 in the first one.

    Args:
        layers: that share it.
        features: width of their states.
        device: where the parameter lies.
        dtype: its floating dtype.

    Examples:
        >>> LowerBounds(4, 1)().squeeze()
        tensor([0.0000, 0.2500, 0.5000, 0.7500], grad_fn=...)
    """

    def __init__(self, layers: int, features: int, device: Any = None, dtype: torch.dtype | None = None) -> None:
        require_size("layers", layers)
        require_size("features", features)
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(layers, features, device=device, dtype=dtype))

    def forward(self) -> Tensor:
        """Return γ, ``(layers, features)``: P = softmax(Γ) over layers, γ^k = P^1 + ... + P^{k-1}."""
        shares = torch.softmax(wide(self.logits), 0)
        return F.pad(shares[:-1].cumsum(0), (0, 0, 1, 0))


class HGRN(Recurrence):
    """h_t = λ_t exp(iθ) h_{t-1} + (1 - λ_t) c_t with λ_t = γ + (1 - γ) σ(W_μ x_t + b_μ), and a gated readout.

    Re c_t and Im c_t are SiLU(W x_t + b) with weights of their own; g_t = σ(W_g x_t + b_g);
    y_t = W_o (g_t [Re h_t, Im h_t]) + b_o.

    Args:
        features: of x_t, h_t (complex) and y_t.
        bounds: γ of all layers that share it; without, γ = 0.
        layer: which of those this is, from 0.
        reverse: run from the last step to the first.
        backend: what runs the scan.
        time_mesh: the ranks on which its time lies, as :func:`retrograd.nn.shard_time` takes them.
        device: where the parameters lie.
        dtype: their floating dtype, real.

    Raises:
        InputError: ``layer`` is none of the layers of ``bounds``.

    Examples:
        >>> bounds = LowerBounds(2, 4)
        >>> layers = [HGRN(4, bounds=bounds, layer=k) for k in range(2)]
        >>> layers[1](layers[0](torch.randn(2, 10, 4))[0])[0].shape
        torch.Size([2, 10, 4])
    """

    complex_state = True

    def __init__(
        self,
        features: int,
        *,
        bounds: LowerBounds | None = None,
        layer: int = 0,
        reverse: bool = False,
        backend: str = "auto",
        time_mesh: Any = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(features, features, features, reverse, backend, time_mesh)
        most = 0 if bounds is None else len(bounds.logits) - 1
        self.layer = require_whole("layer", layer, least=0, most=most)
        self.bounds = bounds
        self.real = Projection(features, features, True, device, dtype)
        self.imaginary = Projection(features, features, True, device, dtype)
        self.forget = Projection(features, features, True, device, dtype)  # W_μ, b_μ
        self.gate = Projection(features, 2 * features, True, device, dtype)
        self.output = Projection(2 * features, features, True, device, dtype)
        self.theta = nn.Parameter(torch.empty(features, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the projections as nn.Linear does; θ falls from 1 to 10⁻⁴, as the frequencies of a rotary embedding."""
        for projection in (self.real, self.imaginary, self.forget, self.gate, self.output):
            projection.reset_parameters()
        with torch.no_grad():
            steps = torch.arange(self.input_size, device=self.theta.device) / self.input_size
            self.theta.copy_(10_000.0**-steps)

    def run(self, x: Tensor, state: Tensor | None, along: Along) -> tuple[Tensor, Tensor]:
        """Return y_t and the last h_t."""
        # Real and imaginary parts in turn, (..., 2 features), from here on, which are complex numbers without a copy.
        weight = torch.stack((self.real.weight, self.imaginary.weight), 1).flatten(0, 1)
        bias = torch.stack((self.real.bias, self.imaginary.bias), 1).flatten()
        made = linear(x, torch.cat((weight, self.forget.weight)), torch.cat((bias, self.forget.bias)), "auto")
        arrays = made, x, self.entering(x, state, along)
        theta = wide(self.theta)
        shared = [torch.polar(torch.ones_like(theta), theta), self.gate.weight, self.gate.bias]
        if self.bounds is not None:
            shared.append(self.bounds()[self.layer])
        output = self.output.weight, self.output.bias
        y, last = recomputed(self._states, along, arrays, shared, self._product, output)
        return y, last

    def _product(self, weight: Tensor, bias: Tensor) -> list[tuple[Tensor, Tensor | None]]:
        return [(_in_turn(weight.mT).mT, bias)]

    def _states(
        self,
        along: Along,
        made: Tensor,
        x: Tensor,
        state: Tensor,
        turn: Tensor,
        weight: Tensor,
        bias: Tensor,
        bound: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return g_t [Re h_t, Im h_t] and the last h_t. The gate's product too is cheaper made again than kept."""
        c, forget = wide(made).split((2 * self.state_size, self.state_size), -1)
        keep = torch.sigmoid(forget)
        if bound is not None:
            keep = torch.addcmul(bound, 1 - bound, keep)
        c = as_complex(F.silu(c).unflatten(-1, (self.state_size, 2)))
        h, last = along.scan(Diagonal(keep * turn), (1 - keep) * c, state)
        gate = torch.sigmoid(wide(linear(x, _in_turn(weight), _in_turn(bias), "auto")))
        return (gate * as_real(h).flatten(-2)).to(self.output.weight.dtype), last


def _in_turn(weight: Tensor) -> Tensor:
    """Return rows of real parts, then of imaginary parts, as one row of each in turn."""
    return weight.reshape(2, -1, *weight.shape[1:]).transpose(0, 1).reshape(weight.shape)
