"""How others train each layer: its authors' public code where it runs on a CPU, and the usual way to write it in torch.

Each is written anew from reading that code, and computes what the layer computes with the layer's parameters:

    LRU         the paper's JAX, as in minimal-LRU: complex products, jax.lax.associative_scan
    S5          lindermanlab/S5, the same in JAX; in torch as s5-pytorch has it
    S4D         state-spaces/s4, models/s4/s4d.py: the kernel by a Vandermonde product, the convolution by FFT
    MinGRU      the scan in log space that the paper's appendix prints; MinLSTM too
    RG-LRU      google-deepmind/recurrentgemma, torch: a loop that reads a[:, t] and writes y[:, t]
    HGRN        the authors' hgru-pytorch, its naive way, the one that needs no GPU: real and imaginary parts in a loop
    QRNN        salesforce/pytorch-qrnn: one product of a window, then a loop over steps that are split before it
    SRU         asappresearch/sru, its way on a CPU with gradients: one product, gates and highway in the loop

A gradient through x[:, t] is as large as x, and one through y[:, t] = h copies y: loops that index whole arrays cost
O(T²). ``split_loop`` is the same recurrence without that, the best that a plain loop does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name everyone knows it by

import retrograd as rg
from benchmarks.contenders import optional
from retrograd.core.transition import Transition
from retrograd.nn.complex_maps import as_complex
from retrograd.nn.recurrence import Along, Recurrence

__all__ = ["JAX", "QUADRATIC", "WAYS", "in_jax"]


def split_loop(A: Transition, u: Tensor, h0: Tensor | None) -> tuple[Tensor, Tensor]:
    """The honest loop: unbind, whose backward is not O(T²)."""
    (a,), h, states = A.arrays, u.new_zeros(u.shape[0], u.shape[2]), []
    per_step = a[:, 0].expand(u.shape[1], *a[:, 0].shape) if A.invariant else a.unbind(1)
    for a_t, u_t in zip(per_step, u.unbind(1), strict=True):
        h = torch.addcmul(u_t, a_t, h)
        states.append(h)
    return torch.stack(states, 1), h


class Instead(Along):
    """A call whose scan is another one."""

    def __init__(self, scan: Callable[..., tuple[Tensor, Tensor]]) -> None:
        super().__init__(None, None, None, False, "auto")
        self._scan, self.keeps = scan, True

    def scan(self, A: Transition, u: Tensor, h0: Tensor | None) -> tuple[Tensor, Tensor]:
        return self._scan(A, u, h0)


def by_a_loop(layer: Recurrence, x: Tensor) -> Tensor:
    return layer.run(x, None, Instead(split_loop))[0]


def dense_loop(layer: rg.nn.LinearRNN, x: Tensor) -> Tensor:
    u = F.linear(x, layer.weight_ih_l0, layer.bias_ih_l0 + layer.bias_hh_l0)
    h, states = torch.zeros_like(u[:, 0]), []
    for u_t in u.unbind(1):
        h = torch.addmm(u_t, h, layer.weight_hh_l0.mT)
        states.append(h)
    return torch.stack(states, 1)


def complex_system(layer: rg.nn.LRU | rg.nn.S5) -> tuple[Tensor, Tensor, Tensor]:
    """Return a, B and C of h_t = a h_{t-1} + B x_t, y_t = Re(C h_t) + D x_t."""
    if isinstance(layer, rg.nn.S5):
        a, factor = layer.discrete()
        return a, factor.unsqueeze(1) * as_complex(layer.B), 2 * as_complex(layer.C)
    return (
        layer.eigenvalues(),
        torch.exp(layer.gamma_log).unsqueeze(1) * as_complex(layer.B),
        as_complex(layer.C),
    )


def associative(layer: rg.nn.LRU | rg.nn.S5, x: Tensor) -> Tensor:
    """Complex products, and torch's generic associative scan, the algorithm of jax.lax.associative_scan."""
    from torch._higher_order_ops.associative_scan import generic_associative_scan

    def combine(a: Tensor, u: Tensor, later: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return a * later, later * u + v

    a, B, C = complex_system(layer)
    u = x.to(B.dtype) @ B.mT
    states = generic_associative_scan(combine, (a.repeat(1, x.shape[1], 1), u), 1)[1]
    return (states @ C.mT).real + layer.D * x


def in_log_space(layer: Any, x: Tensor) -> Tensor:
    """minGRU and minLSTM as their paper trains them: log h_t = a*_t + logcumsumexp(log b_t - a*_t)."""

    def log_g(v: Tensor) -> Tensor:
        return torch.where(v >= 0, (F.relu(v) + 0.5).log(), -F.softplus(-v))

    candidate = log_g(layer.candidate(x))
    if isinstance(layer, rg.nn.MinGRU):
        k = layer.gate(x)
        log_a, log_b = -F.softplus(k), -F.softplus(-k) + candidate
    else:
        difference = F.softplus(-layer.forget(x)) - F.softplus(-layer.input(x))
        log_a, log_b = -F.softplus(difference), -F.softplus(-difference) + candidate
    a_star = log_a.cumsum(1)
    return (a_star + (log_b - a_star).logcumsumexp(1)).exp()


def by_fft(layer: rg.nn.S4D, x: Tensor) -> Tensor:
    """S4D as a convolution: its kernel by a Vandermonde product, the convolution by FFT at twice the length."""
    a, b = layer.discrete()
    powers = torch.exp(torch.log(a).unsqueeze(-1) * torch.arange(x.shape[1]))
    kernel = 2 * torch.einsum("fn,fnl->fl", as_complex(layer.C) * b, powers).real
    size, turned = 2 * x.shape[1], x.mT
    y = torch.fft.irfft(torch.fft.rfft(turned, size) * torch.fft.rfft(kernel, size), size)[..., : x.shape[1]]
    return (y + layer.D.unsqueeze(1) * turned).mT


def rg_lru(layer: rg.nn.RGLRU, x: Tensor) -> Tensor:
    i, r = torch.sigmoid(layer.input_gate(x)), torch.sigmoid(layer.recurrence_gate(x))
    log_a = -layer.c * r * F.softplus(-layer.logit)
    a = torch.exp(log_a)
    u = x * i * torch.sqrt(1 - torch.exp(2 * log_a))
    h, y = torch.zeros_like(x[:, 0]), torch.zeros_like(u)
    for t in range(x.shape[1]):
        h = a[:, t] * h + u[:, t]
        y[:, t] = h
    return y


def hgrn(layer: rg.nn.HGRN, x: Tensor) -> Tensor:
    """The layer has no norm before its last product, and its gate is σ; else as the authors: time first."""
    x = x.transpose(0, 1)
    weight = torch.cat((layer.real.weight, layer.imaginary.weight))
    c = F.silu(F.linear(x, weight, torch.cat((layer.real.bias, layer.imaginary.bias))))
    gate, keep = torch.sigmoid(layer.gate(x)), torch.sigmoid(layer.forget(x))
    theta = torch.ones_like(x[:, :1, :1]) * layer.theta
    a_real, a_imaginary = keep * torch.cos(theta), keep * torch.sin(theta)
    u_real, u_imaginary = ((1 - keep) * part for part in c.chunk(2, -1))
    real = imaginary = torch.zeros_like(keep[:1])
    reals, imaginaries = [], []
    for t in range(len(x)):
        after = a_real[t] * real - a_imaginary[t] * imaginary + u_real[t]
        imaginary = a_real[t] * imaginary + a_imaginary[t] * real + u_imaginary[t]
        real = after
        reals.append(real)
        imaginaries.append(imaginary)
    return layer.output(torch.cat((torch.cat(reals), torch.cat(imaginaries)), -1) * gate).transpose(0, 1)


def qrnn(layer: rg.nn.QRNN, x: Tensor) -> Tensor:
    x = x.transpose(0, 1)
    window = torch.cat((x, torch.cat((x[:1] * 0, x[:-1]))), 2)
    gates = [(layer.z, 1), (layer.f, -1), (layer.o, 1)]  # their f weighs what comes in, the layer's what stays
    weight = torch.cat([sign * torch.cat([tap.weight for tap in taps], 1) for taps, sign in gates])
    z, f, o = F.linear(window, weight, torch.cat([sign * taps[0].bias for taps, sign in gates])).chunk(3, 2)
    z, f = torch.tanh(z).contiguous(), torch.sigmoid(f).contiguous()
    h, states = None, []
    for f_t, u_t in zip(f.split(1), (f * z).split(1), strict=True):
        h = u_t if h is None else u_t + (1 - f_t) * h
        states.append(h)
    return (torch.sigmoid(o) * torch.cat(states)).transpose(0, 1)


def sru(layer: rg.nn.SRU, x: Tensor) -> Tensor:
    x = x.transpose(0, 1).contiguous()
    weight = torch.stack((layer.candidate.weight, layer.forget.weight, layer.highway.weight), 1).flatten(0, 1)
    U = F.linear(x, weight).view(*x.shape[:2], -1, 3)
    past = (x * layer.alpha).chunk(len(x))
    candidate, forget, highway = (
        u.chunk(len(x)) for u in (U[..., 0], U[..., 1] + layer.forget.bias, U[..., 2] + layer.highway.bias)
    )
    c, y = torch.zeros_like(x[:1]), torch.zeros_like(x)
    for t in range(len(x)):
        f, r = torch.sigmoid(forget[t]), torch.sigmoid(highway[t])
        c = candidate[t] + (c - candidate[t]) * f
        y[t] = (past[t] + (c - past[t]) * r)[0]
    return y.transpose(0, 1)


# The first is what its authors or, without code of theirs for a CPU, the field usually runs.
WAYS: dict[str, dict[str, Callable[[Any, Tensor], Tensor]]] = {
    "LinearRNN": {"torch loop": dense_loop},
    "LRU": {"associative scan": associative, "torch loop": by_a_loop},
    "S4D": {"convolution by FFT": by_fft},
    "S5": {"associative scan": associative, "torch loop": by_a_loop},
    "MinGRU": {"scan in log space": in_log_space, "torch loop": by_a_loop},
    "MinLSTM": {"scan in log space": in_log_space, "torch loop": by_a_loop},
    "RGLRU": {"authors' loop": rg_lru, "torch loop": by_a_loop},
    "HGRN": {"authors' loop": hgrn, "torch loop": by_a_loop},
    "QRNN": {"authors' loop": qrnn, "torch loop": by_a_loop},
    "SRU": {"authors' loop": sru, "torch loop": by_a_loop},
}
# Whose steps cost O(T²): one call is measured.
QUADRATIC = {("RGLRU", "authors' loop"), ("HGRN", "authors' loop"), ("SRU", "authors' loop")}
# Whose authors' code is in JAX.
JAX = ("LRU", "S5")


def in_jax(layer: rg.nn.LRU | rg.nn.S5, x: Tensor, g: Tensor) -> tuple[Callable[[], Any], Callable[[], Any]] | None:
    """Return calls for the outputs and for every gradient of the layer in JAX; None without JAX."""
    jax = optional("jax")
    if jax is None:
        return None
    numbers = jax.numpy

    def forward(a: Any, B: Any, C: Any, D: Any, x: Any) -> Any:
        def combine(left: Any, right: Any) -> Any:
            return right[0] * left[0], right[0] * left[1] + right[1]

        def one(x: Any) -> Any:
            steps = numbers.repeat(a[None], x.shape[0], 0)
            states = jax.lax.associative_scan(combine, (steps, jax.vmap(lambda x_t: B @ x_t)(x)))[1]
            return jax.vmap(lambda h, x_t: (C @ h).real + D * x_t)(states, x)

        return jax.vmap(one)(x)

    given = [numbers.asarray(v.detach().numpy()) for v in (*complex_system(layer), layer.D, x)]
    outputs, weights = jax.jit(forward), numbers.asarray(g.numpy())
    gradients = jax.jit(lambda weights, *given: jax.vjp(forward, *given)[1](weights))
    return (
        lambda: jax.block_until_ready(outputs(*given)),
        lambda: jax.block_until_ready(gradients(weights, *given)),
    )
