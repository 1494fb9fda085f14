"""The oracles: the plain loop in float64 with a running error bound, and mpmath at 50 digits.

The bound is the loop's own (running error analysis; Higham, Accuracy and Stability of Numerical Algorithms, 3.3):
beside each value stands the largest error, in units of rounding, that the loop's operations can have made of it.
A result is right if it lies within ``FACTOR * eps`` of that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mpmath
import torch
from torch import Tensor

FACTOR = 8


@dataclass
class Running:
    """A value and the bound of its error in units of rounding."""

    value: Tensor
    error: Tensor

    @classmethod
    def exact(cls, x: Tensor) -> Running:
        x = x.detach().to(torch.complex128 if x.is_complex() else torch.float64)
        return cls(x, torch.zeros_like(x.abs()))

    def __add__(self, other: Running) -> Running:
        value = self.value + other.value
        return Running(value, self.error + other.error + value.abs())

    def __mul__(self, other: Running) -> Running:
        value = self.value * other.value
        error = self.value.abs() * other.error + self.error * other.value.abs() + value.abs()
        return Running(value, error)

    def __matmul__(self, other: Running) -> Running:
        a, b = self.value.abs(), other.value.abs()
        terms = self.value.shape[-1]
        error = a @ other.error + self.error @ b + terms * (a @ b)
        return Running(self.value @ other.value, error)

    def __getitem__(self, index: Any) -> Running:
        return Running(self.value[index], self.error[index])

    @property
    def mH(self) -> Running:
        return Running(self.value.mH, self.error.mT)

    def conj(self) -> Running:
        return Running(self.value.conj(), self.error)

    def sum(self, dim: int) -> Running:
        terms = self.value.shape[dim]
        return Running(self.value.sum(dim), self.error.sum(dim) + (terms - 1) * self.value.abs().sum(dim))


def stack(parts: list[Running], dim: int) -> Running:
    return Running(torch.stack([p.value for p in parts], dim), torch.stack([p.error for p in parts], dim))


def cat(parts: list[Running], dim: int) -> Running:
    return Running(torch.cat([p.value for p in parts], dim), torch.cat([p.error for p in parts], dim))


def total(parts: list[Running]) -> Running:
    result = parts[0]
    for part in parts[1:]:
        result = result + part
    return result


def assert_close(got: Tensor, want: Running, eps: float, what: str = "", factor: float = FACTOR) -> None:
    """Fail unless every element lies within factor * eps of the loop's own bound."""
    assert tuple(got.shape) == tuple(want.value.shape), f"{what}: shape {tuple(got.shape)}"
    difference = (got.detach().to(want.value.dtype) - want.value).abs()
    # One unit of rounding of the value itself, as the result is stored in its own dtype; below its smallest normal
    # number (half precision gets there) the unit is absolute.
    allowed = factor * eps * (want.error + want.value.abs() + torch.finfo(got.dtype).tiny)
    worst = (difference - allowed).max() if difference.numel() else torch.tensor(-1.0)
    assert worst <= 0, f"{what}: off by {difference.max():.3g}, {(difference / allowed).max():.3g} of what is allowed"


# --- the loop -------------------------------------------------------------------------------------------------------


def loop_scan(A: Tensor, u: Tensor, h0: Tensor, reverse: bool = False) -> Running:
    """A is expanded: (batch, time, D) or (batch, time, H, H)."""
    a, drive, h = Running.exact(A), Running.exact(u), Running.exact(h0)
    order = range(u.shape[1])[:: -1 if reverse else 1]
    states = []
    for t in order:
        h = _apply(a[:, t], h) + drive[:, t]
        states.append(h)
    return stack(states[::-1] if reverse else states, 1)


def loop_adjoint(
    A: Tensor, u: Tensor, h0: Tensor, g: Tensor, g_final: Tensor, reverse: bool = False
) -> dict[str, Running]:
    """The gradients of Σ<g, states> + <g_final, final>: for u, h0 and every step's own A."""
    a, carry, direct = Running.exact(A), Running.exact(g_final), Running.exact(g)
    states = loop_scan(A, u, h0, reverse)
    order = list(range(u.shape[1])[:: -1 if reverse else 1])
    d_u: dict[int, Running] = {}
    d_A: dict[int, Running] = {}
    for position in range(len(order) - 1, -1, -1):
        t = order[position]
        delta = direct[:, t] + carry
        previous = Running.exact(h0) if position == 0 else states[:, order[position - 1]]
        d_u[t] = delta
        d_A[t] = delta * previous.conj() if A.ndim == 3 else delta[..., :, None] * previous.conj()[..., None, :]
        carry = _apply(a[:, t].conj() if A.ndim == 3 else a[:, t].mH, delta)
    steps = range(u.shape[1])
    return {"u": stack([d_u[t] for t in steps], 1), "h0": carry, "A": stack([d_A[t] for t in steps], 1)}


def reduce_to(d_A: Running, shape: torch.Size) -> Running:
    """Sum the gradient of an expanded A to the shape that was broadcast."""
    while d_A.value.ndim > len(shape):
        d_A = d_A.sum(0)
    for dim, size in enumerate(shape):
        if size == 1 and d_A.value.shape[dim] != 1:
            summed = d_A.sum(dim)
            d_A = Running(summed.value.unsqueeze(dim), summed.error.unsqueeze(dim))
    return d_A


def _apply(A: Running, h: Running) -> Running:
    return A * h if A.value.ndim == 2 else (A @ h[..., None])[..., 0]


def loop_rnn(
    p: dict[str, Tensor], feedback: list[bool], grad_states: Tensor, grad_final: Tensor, grad_outputs: Tensor
) -> dict[str, Running]:
    """The plain linear RNN, each step as it stands in the text, and its gradient one step at a time."""
    q = {name: Running.exact(tensor) for name, tensor in p.items()}
    outputs = p["weight_out"].shape[0]
    batch, time = p["x"].shape[:2]

    def rows(vector: Running) -> Running:
        return Running(vector.value.expand(batch, -1), vector.error.expand(batch, -1))

    def transposed(matrix: Running) -> Running:
        return Running(matrix.value.mT, matrix.error.mT)

    h, xs, hs, ys = q["h0"], [], [q["h0"]], []
    for t in range(time):
        x = q["x"][:, t]
        if feedback[t]:
            x = cat([h @ transposed(q["weight_out"]) + rows(q["bias_out"]), x[:, outputs:]], 1)
        h = h @ transposed(q["weight_hh"]) + x @ transposed(q["weight_ih"]) + rows(q["bias"])
        xs.append(x)
        hs.append(h)
        ys.append(h @ transposed(q["weight_out"]) + rows(q["bias_out"]))

    parts: dict[str, list[Running]] = {
        name: [] for name in ("weight_hh", "weight_ih", "bias", "weight_out", "bias_out")
    }
    delta, d_x = [], []
    carry = Running.exact(grad_final)
    for t in range(time - 1, -1, -1):
        d_y = Running.exact(grad_outputs[:, t])
        d_h = Running.exact(grad_states[:, t]) + d_y @ q["weight_out"].conj() + carry
        delta.insert(0, d_h)
        parts["weight_out"].append(_outer(d_y, hs[t + 1]))
        parts["bias_out"].append(d_y.sum(0))
        parts["weight_hh"].append(_outer(d_h, hs[t]))
        parts["weight_ih"].append(_outer(d_h, xs[t]))
        parts["bias"].append(d_h.sum(0))
        carry, d_input = d_h @ q["weight_hh"].conj(), d_h @ q["weight_ih"].conj()
        if feedback[t]:
            fed = d_input[:, :outputs]
            carry = carry + fed @ q["weight_out"].conj()
            parts["weight_out"].append(_outer(fed, hs[t]))
            parts["bias_out"].append(fed.sum(0))
            zero = Running.exact(torch.zeros_like(fed.value))
            d_input = cat([zero, d_input[:, outputs:]], 1)
        d_x.insert(0, d_input)
    result = {name: total(part) for name, part in parts.items()}
    result.update(
        states=stack(hs[1:], 1),
        outputs=stack(ys, 1),
        inputs=stack(xs, 1),
        delta=stack(delta, 1),
        x=stack(d_x, 1),
        h0=carry,
    )
    return result


def _outer(gradient: Running, factor: Running) -> Running:
    """Sum over the batch of gradient factor^H."""
    matrix = Running(gradient.value.mT, gradient.error.mT)
    return matrix @ factor.conj()


# --- 50 digits ------------------------------------------------------------------------------------------------------


def mp_gradient(loss: Callable[..., Any], arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """The gradient of loss(**mp matrices as nested lists) by central differences at 50 digits: right to ~25."""
    with mpmath.workdps(50):
        step = mpmath.mpf(10) ** -15
        nested = {name: _to_mp(array.tolist()) for name, array in arrays.items()}
        gradients = {}
        for name, array in arrays.items():
            gradient = torch.zeros_like(array, dtype=torch.float64)
            for index in torch.cartesian_prod(*[torch.arange(n) for n in array.shape]).reshape(-1, array.ndim).tolist():
                holder = nested[name]
                for i in index[:-1]:
                    holder = holder[i]
                kept = holder[index[-1]]
                holder[index[-1]] = kept + step
                above = loss(**nested)
                holder[index[-1]] = kept - step
                below = loss(**nested)
                holder[index[-1]] = kept
                gradient[tuple(index)] = float((above - below) / (2 * step))
            gradients[name] = gradient
        return gradients


def _to_mp(x: Any) -> Any:
    return [_to_mp(y) for y in x] if isinstance(x, list) else mpmath.mpf(x)
