"""RG-LRU: a diagonal recurrence whose decay and input are gated by the input.

De et al., Griffin: Mixing Gated Linear Recurrences with Local Attention for Efficient Language Models, 2024
(arXiv 2402.19427): the RG-LRU layer of its recurrent block.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everyone knows it by

from retrograd.core.dispatch import is_transformed
from retrograd.core.transition import Diagonal
from retrograd.errors import require_number
from retrograd.nn.recompute import recomputed
from retrograd.nn.recurrence import Along, Projection, Recurrence, projected, wide

__all__ = ["RGLRU"]


class RGLRU(Recurrence):
    """r_t = σ(W_a x_t + b_a), i_t = σ(W_x x_t + b_x), a_t = a^(c r_t), h_t = a_t h_{t-1} + √(1 - a_t²) (i_t x_t).

    a = σ(Λ) is learned for every feature.

    Args:
        features: of x_t, of the state and of the output.
        c: the power at r_t = 1.
        a_min: least a^c at the start; a^c is drawn uniformly from [a_min, a_max].
        a_max: largest one.
        reverse: run from the last step to the first.
        backend: what runs the scan.
        time_mesh: the ranks on which its time lies, as :func:`retrograd.nn.shard_time` takes them.
        device: where the parameters lie.
        dtype: their floating dtype.

    Raises:
        InputError: ``c``, ``a_min`` or ``a_max`` is no number, or outside its range.

    Examples:
        >>> RGLRU(4)(torch.randn(2, 10, 4))[0].shape
        torch.Size([2, 10, 4])
    """

    def __init__(
        self,
        features: int,
        *,
        c: float = 8.0,
        a_min: float = 0.9,
        a_max: float = 0.999,
        reverse: bool = False,
        backend: str = "auto",
        time_mesh: Any = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(features, features, features, reverse, backend, time_mesh)
        self.c = require_number("c", c, above=0)
        self.a_min = require_number("a_min", a_min, above=0, below=1)
        self.a_max = require_number("a_max", a_max, least=self.a_min, below=1)
        self.recurrence_gate = Projection(features, features, True, device, dtype)  # W_a, b_a
        self.input_gate = Projection(features, features, True, device, dtype)  # W_x, b_x
        self.logit = nn.Parameter(torch.empty(features, device=device, dtype=dtype))  # Λ
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the gates as nn.Linear does, and Λ so that a^c is uniform in [a_min, a_max]."""
        self.recurrence_gate.reset_parameters()
        self.input_gate.reset_parameters()
        with torch.no_grad():
            log_a = self.logit.uniform_(self.a_min, self.a_max).log() / self.c
            self.logit.copy_(log_a - torch.log(-torch.expm1(log_a)))  # Λ = log(a / (1 - a))

    def run(self, x: Tensor, state: Tensor | None, along: Along) -> tuple[Tensor, Tensor]:
        """Return h_t and the last one."""
        gates = projected(x, self.recurrence_gate, self.input_gate)
        log_a = -self.c * F.softplus(-wide(self.logit), threshold=50)  # of r_t = 1: log σ(Λ) = -softplus(-Λ)
        y, last = recomputed(_states, along, (gates, x, self.entering(x, state, along)), (log_a,))
        return y, last


def _states(along: Along, gates: Tensor, x: Tensor, state: Tensor, log_a: Tensor) -> tuple[Tensor, Tensor]:
    r, i = (torch.sigmoid(gate) for gate in wide(gates).chunk(2, -1))
    a, u = _gated(r, i, wide(x), log_a)
    return along.scan(Diagonal(a), u, state)


def _gated(r: Tensor, i: Tensor, x: Tensor, log_a: Tensor) -> tuple[Tensor, Tensor]:
    """Return a_t = a^(c r_t) and √(1 - a_t²) (i_t x_t), of log_a = c log a."""
    if is_transformed(r, i, x, log_a):
        a, s = _decay(r, log_a)
        return a, s * (i * x)
    made: tuple[Tensor, Tensor] = _Gated.apply(r, i, x, log_a)
    return made


def _decay(r: Tensor, log_a: Tensor) -> tuple[Tensor, Tensor]:
    """Return a_t and s_t = √(1 - a_t²)."""
    # 1 - a² without cancellation, and never 0, where its root has no derivative
    least = log_a.new_full((), -torch.finfo(log_a.dtype).tiny)
    s = torch.addcmul(least, r, 2 * log_a).expm1_().neg().sqrt_()
    # exp2 takes a fifth of exp's time; the logarithm's base is changed for the features, not for their steps
    return torch.exp2(log_a / math.log(2) * r), s


class _Gated(torch.autograd.Function):
    """a_t and u_t = s_t i_t x_t, whose gradients share most of what they are made of.

    With t = s ∂L/∂u: ∂L/∂i = t x and ∂L/∂x = t i. As ∂s/∂a = -a/s, the exponent l = r log_a has
    ∂L/∂l = a (∂L/∂a - a t i x / s²), and ∂L/∂r = log_a ∂L/∂l, ∂L/∂log_a = Σ r ∂L/∂l.
    """

    @staticmethod
    def forward(ctx: Any, r: Tensor, i: Tensor, x: Tensor, log_a: Tensor) -> tuple[Tensor, Tensor]:
        a, s = _decay(r, log_a)
        ctx.save_for_backward(r, i, x, log_a, a, s)
        return a, (i * x).mul_(s)

    @staticmethod
    def backward(ctx: Any, d_a: Tensor, d_u: Tensor) -> Any:
        r, i, x, log_a, a, s = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient itself
            a, s = _decay(r, log_a)
        t = d_u * s
        d_i = t * x
        if torch.is_grad_enabled():
            d_l = a * (d_a - d_i * i * a / s / s)
        else:
            w = (d_i * i).mul_(a).div_(s).div_(s)
            d_l = torch.sub(d_a, w, out=w).mul_(a)
        d_log_a = (d_l * r).sum(tuple(range(r.ndim - 1)))
        return d_l * log_a, d_i, t * i, d_log_a
