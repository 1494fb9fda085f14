"""A linear map of every step, u_t = W x_t + b, and its gradients, on the backend that runs the scan.

    L(x, W, b):  u_t = W x_t + b          backward:  d_x = L(g, W^H),  d_W = O(g, x),  d_b = Σ_t g_t
    O(g, x):     Σ_t g_t x_t^H            backward:  d_g = L(x, γ),    d_x = L(g, γ^H)

Each one's derivatives are the other, so that every order runs on two kernels. torch's product cuts its columns among
threads, which shows in the last bits from three threads on; these kernels give the same bits on any number.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name everyone knows it by

from retrograd.core.backend import BACKENDS, Spec, select
from retrograd.core.dispatch import is_transformed

__all__ = ["linear", "outer_sum", "step_sum"]

# Steps that one sum to a single number takes.
_PIECE = 1 << 14


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, backend: str) -> Tensor:
    """Return x W^T (+ b) for x ``(batch, time, inputs)`` or ``(time, inputs)``, differentiable to any order.

    A transposed view keeps its order in memory, so that the product need not copy it. Tracers, transformations, forward
    mode and autocast see torch's own operator.
    """
    if x.ndim == 3 and not x.is_contiguous():
        return _linear(x.transpose(0, 1), weight, bias, backend).transpose(0, 1)
    return _linear(x, weight, bias, backend)


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None, backend: str) -> Tensor:
    if _by_torch(x, weight, bias):
        return F.linear(x, weight, bias)
    if x.ndim == 2:
        return _linear(x.unsqueeze(0), weight, bias, backend).squeeze(0)
    serving = select(backend, Spec(x.device, x.dtype, "dense"))
    if not torch.is_grad_enabled():
        return serving.linear(x, weight, bias)
    product: Tensor = _Linear.apply(serving.name, x, weight, bias)
    return product


def step_sum(gradient: Tensor) -> Tensor:
    """Return the sum of ``(batch, time, H)`` over (batch, time)."""
    steps = gradient.shape[0] * gradient.shape[1]
    if gradient.shape[2] != 1 or steps < 2 * _PIECE:
        return gradient.sum((0, 1))
    # torch cuts a sum to one number among threads, a sum to several never.
    flat, whole = gradient.reshape(-1), steps // _PIECE * _PIECE
    return step_sum(flat[:whole].view(1, -1, _PIECE).sum(2, keepdim=True)) + flat[whole:].sum(0, keepdim=True)


def _by_torch(*tensors: Tensor | None) -> bool:
    given = [x for x in tensors if x is not None]
    if is_transformed(*given):
        return True
    return torch.is_autocast_enabled(given[0].device.type)


def outer_sum(backend: str, gradient: Tensor, factor: Tensor) -> Tensor:
    """Return O(g, x) of ``(batch, time, features)`` or ``(time, features)``, differentiable."""
    if _by_torch(gradient, factor):
        return gradient.reshape(-1, gradient.shape[-1]).mT @ factor.reshape(-1, factor.shape[-1]).conj()
    if gradient.ndim == 2:
        return outer_sum(backend, gradient.unsqueeze(0), factor.unsqueeze(0))
    backend = select(backend, Spec(gradient.device, gradient.dtype, "dense")).name
    total: Tensor = _OuterSum.apply(backend, gradient, factor)
    return total


class _Linear(torch.autograd.Function):
    """L."""

    @staticmethod
    def forward(ctx: Any, backend: str, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.backend = backend
        ctx.save_for_backward(x, weight)
        return BACKENDS[backend].linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        _, to_x, to_weight, to_bias = ctx.needs_input_grad
        d_x = linear(g, weight.mH, None, ctx.backend) if to_x else None
        d_weight = outer_sum(ctx.backend, g, x) if to_weight else None
        return None, d_x, d_weight, step_sum(g) if to_bias else None


class _OuterSum(torch.autograd.Function):
    """O."""

    @staticmethod
    def forward(ctx: Any, backend: str, gradient: Tensor, factor: Tensor) -> Tensor:
        ctx.backend = backend
        ctx.save_for_backward(gradient, factor)
        return BACKENDS[backend].outer_sum(gradient, factor)

    @staticmethod
    def backward(ctx: Any, gamma: Tensor) -> Any:
        gradient, factor = ctx.saved_tensors
        _, to_gradient, to_factor = ctx.needs_input_grad
        d_gradient = linear(factor, gamma, None, ctx.backend) if to_gradient else None
        d_factor = linear(gradient, gamma.mH, None, ctx.backend) if to_factor else None
        return None, d_gradient, d_factor
