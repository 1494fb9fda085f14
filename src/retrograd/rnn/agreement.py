"""The same gradients computed in four ways, and how far apart they lie.

The ways are bptt, autograd through scan, finite differences, and the oracle: the plain loop with autograd, in float64.

The network is random but tame: W_hh is 0.8 times a rotation and W_ih C has norm 0.1, so that errors fade as fast as the
states do, and the tolerance does not depend on the number of steps. The loss is ½ Σ |y - r|² over all steps, which
reaches every weight.

Errors are relative to the size of the terms that were added up, not to a sum that may have cancelled. That size follows
from the recurrences in norms, by the triangle inequality (:func:`_sizes`), step by step, so that no bad step hides
behind a large one. Finite differences are allowed the error that they have themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from retrograd.core.backend import BACKENDS, Spec
from retrograd.core.scan import scan
from retrograd.core.transition import Dense
from retrograd.errors import require_choice, require_whole
from retrograd.rnn.bptt import bptt

__all__ = ["QUANTITIES", "Row", "agreement", "tolerance"]

INPUTS, OUTPUTS = 3, 2
PARAMETERS = ("x", "h0", "weight_hh", "weight_ih", "bias", "weight_out", "bias_out")
QUANTITIES = ("states", "delta", *PARAMETERS)
EPS = torch.finfo(torch.float64).eps
# Never more than this, relative to the gradient, so that no finite difference agrees by being too coarse.
COARSEST = 1e-5

# Tensors by the names of bptt's arguments, and by the names of what is compared.
Arrays = dict[str, Tensor]
Result = dict[str, Tensor]


@dataclass(frozen=True)
class Row:
    """One comparison: a quantity, computed in one way, for one kind of loop. Errors in units of eps."""

    loop: str
    method: str
    quantity: str
    error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the error is within tolerance; NaN is not."""
        return self.error <= self.tolerance


def tolerance(hidden: int) -> float:
    """Return the tolerance of every exact way, in eps: one for each term that a step adds up."""
    return float(hidden + INPUTS + OUTPUTS)


def agreement(
    *, seed: int = 0, time: int = 48, hidden: int = 16, batch: int = 4, dtype: str = "float64", gradient: Any = bptt
) -> list[Row]:
    """Return every comparison: loops × ways of computing × quantities.

    Args:
        seed: of the random problem.
        time: T.
        hidden: H.
        batch: B.
        dtype: ``"float64"`` or ``"float32"``, of all but the oracle and the finite differences, which are float64.
        gradient: bptt, or a function like it that the tests give, with a wrong result.

    Raises:
        InputError: a size is no whole number of at least 1, or the dtype is another one.
    """
    for name, value, most in (("time", time, 100_000), ("hidden", hidden, 1_000), ("batch", batch, 10_000)):
        require_whole(name, value, most=most)  # the plain loop, in Python, runs as well
    require_choice("dtype", dtype, ("float64", "float32"))
    precision: torch.dtype = getattr(torch, dtype)
    arrays, target = _draw(seed, time, hidden, batch)
    # Rounded once, so that every way starts from the very same numbers.
    arrays = {name: value.to(precision).double() for name, value in arrays.items()}
    target = target.to(precision).double()
    rows: list[Row] = []
    for loop, feedback in _loops(time):
        oracle = _oracle(arrays, target, feedback)
        sizes = _sizes(arrays, target, feedback)
        narrow = {name: value.to(precision) for name, value in arrays.items()}
        spec = Spec.of(_transition(narrow, feedback), narrow["x"])
        serving = [name for name, backend in BACKENDS.items() if backend.why_not(spec) is None]
        for backend in serving:
            ways: list[tuple[str, Callable[..., Result]]] = [
                ("bptt", lambda *a: _by_bptt(*a, gradient=gradient)),
                ("autograd", _by_autograd),
            ]
            for way, compute in ways:
                result = compute(narrow, target.to(precision), feedback, backend)
                for quantity in QUANTITIES:
                    error = _error(result[quantity], oracle[quantity], sizes[quantity])
                    eps = torch.finfo(precision).eps
                    rows.append(Row(loop, f"{way}, {backend}", quantity, error / eps, tolerance(hidden)))
        wide = _by_bptt(arrays, target, feedback, serving[0], gradient=gradient)
        for quantity, error, allowed in _finite_differences(arrays, target, feedback, wide, oracle, seed):
            rows.append(Row(loop, "finite differences", quantity, error, allowed))
    return rows


def _draw(seed: int, time: int, hidden: int, batch: int) -> tuple[Arrays, Tensor]:
    """Return the network with its input, and the target."""
    source = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=source, dtype=torch.float64)

    weight_ih, weight_out = normal(hidden, INPUTS), normal(OUTPUTS, hidden)
    weight_out *= 0.1 / torch.linalg.matrix_norm(weight_ih[:, :OUTPUTS] @ weight_out, ord=2)
    arrays = {
        "x": normal(batch, time, INPUTS),
        "h0": normal(batch, hidden),
        "weight_hh": 0.8 * torch.linalg.qr(normal(hidden, hidden)).Q,
        "weight_ih": weight_ih,
        "bias": normal(hidden),
        "weight_out": weight_out,
        "bias_out": normal(OUTPUTS),
    }
    return arrays, normal(batch, time, OUTPUTS)


def _loops(time: int) -> list[tuple[str, Tensor]]:
    steps = torch.arange(time)
    return [
        ("open loop", torch.zeros(time, dtype=torch.bool)),
        ("closed loop", torch.ones(time, dtype=torch.bool)),
        ("mixed: half closed", steps >= time // 2),
        ("mixed: every 3rd open", steps % 3 != 0),
    ]


def _loss(outputs: Tensor, target: Tensor) -> Tensor:
    return 0.5 * (outputs - target).square().sum()


# --- the ways ---


def _plain_loop(p: Arrays, feedback: Tensor, drive: Tensor) -> tuple[Tensor, Tensor]:
    """Return states and consumed inputs, as the network is written down: one step after the other."""
    h, states, inputs = p["h0"], [], []
    for t in range(p["x"].shape[1]):
        x = p["x"][:, t]
        if feedback[t]:
            y = h @ p["weight_out"].mT + p["bias_out"]
            x = torch.cat([y, x[:, OUTPUTS:]], dim=1)
        h = h @ p["weight_hh"].mT + x @ p["weight_ih"].mT + p["bias"] + drive[:, t]
        states.append(h)
        inputs.append(x)
    return torch.stack(states, 1), torch.stack(inputs, 1)


def _oracle(arrays: Arrays, target: Tensor, feedback: Tensor) -> Result:
    """Return the plain loop's results, by autograd in float64."""
    p = {name: value.clone().requires_grad_() for name, value in arrays.items()}
    # ∂L/∂(what is added to h_t) is δ_t.
    drive = torch.zeros(*arrays["x"].shape[:2], arrays["h0"].shape[1], dtype=torch.float64, requires_grad=True)
    states, _ = _plain_loop(p, feedback, drive)
    _loss(states @ p["weight_out"].mT + p["bias_out"], target).backward()  # type: ignore[no-untyped-call]
    result = {name: _gradient(value) for name, value in p.items()}
    return {**result, "states": states.detach(), "delta": _gradient(drive)}


def _gradient(value: Tensor) -> Tensor:
    """Return ``.grad``, zero for an argument that no step used."""
    return torch.zeros_like(value) if value.grad is None else value.grad


def _by_bptt(p: Arrays, target: Tensor, feedback: Tensor, backend: str, *, gradient: Any) -> Result:
    g = gradient(**p, feedback=feedback, loss=lambda outputs: _loss(outputs, target), backend=backend)
    return {quantity: getattr(g, quantity) for quantity in QUANTITIES}


def _transition(p: Arrays, feedback: Tensor) -> Dense:
    """Return A_t: W_hh in open loop, W_hh + W_ih C in closed loop, at each step its own where both occur."""
    closed = p["weight_hh"] + p["weight_ih"][:, :OUTPUTS] @ p["weight_out"]
    if not feedback.any():
        return Dense(p["weight_hh"])
    return Dense(closed) if feedback.all() else Dense(torch.where(feedback[:, None, None], closed, p["weight_hh"]))


def _by_autograd(arrays: Arrays, target: Tensor, feedback: Tensor, backend: str) -> Result:
    p = {name: value.clone().requires_grad_() for name, value in arrays.items()}
    # Where fed back, the part of the input that depends on the state has moved into the transition.
    given = torch.where(feedback[:, None], p["bias_out"], p["x"][..., :OUTPUTS])
    u = torch.cat([given, p["x"][..., OUTPUTS:]], dim=-1) @ p["weight_ih"].mT + p["bias"]
    u.retain_grad()
    states, _ = scan(_transition(p, feedback), u, p["h0"], backend=backend)
    _loss(states @ p["weight_out"].mT + p["bias_out"], target).backward()  # type: ignore[no-untyped-call]
    result = {name: _gradient(value) for name, value in p.items()}
    return {**result, "states": states.detach(), "delta": _gradient(u)}


# --- how far apart ---


def _sizes(p: Arrays, target: Tensor, feedback: Tensor) -> Result:
    """Return a bound of the sum of sizes behind each quantity: the recurrences in norms instead of vectors.

    Per sequence and step for states, delta and x; per sequence for h0; whole for the weights.
    """
    spectral = {name: float(torch.linalg.matrix_norm(p[name], ord=2)) for name in p if name.startswith("weight")}
    rows, time = p["x"].shape[:2]
    C, W_ih = spectral["weight_out"], spectral["weight_ih"]
    closed = float(torch.linalg.matrix_norm(_transition(p, torch.ones_like(feedback)).W, ord=2))
    growth = torch.where(feedback, closed, spectral["weight_hh"])
    bias, bias_out = float(p["bias"].norm()), float(p["bias_out"].norm())

    # The part of each input that does not depend on the state, and the part that does.
    given = torch.where(feedback, p["x"][..., OUTPUTS:].norm(dim=-1) + bias_out, p["x"].norm(dim=-1))
    previous = torch.empty(rows, time, dtype=torch.float64)
    state = torch.empty_like(previous)
    h = p["h0"].norm(dim=-1)
    for t in range(time):
        previous[:, t] = h
        h = growth[t] * h + W_ih * given[:, t] + bias
        state[:, t] = h
    direct = C * state + bias_out + target.norm(dim=-1)
    delta = torch.empty_like(previous)
    carry = torch.zeros(rows, dtype=torch.float64)
    for t in range(time - 1, -1, -1):
        delta[:, t] = C * direct[:, t] + carry
        carry = growth[t] * delta[:, t]
    fed = W_ih * delta * feedback
    return {
        "states": state,
        "delta": delta,
        "x": W_ih * delta,
        "h0": carry,
        "weight_hh": (delta * previous).sum(),
        "weight_ih": (delta * (given + feedback * C * previous)).sum(),
        "bias": delta.sum(),
        "weight_out": (direct * state + fed * previous).sum(),
        "bias_out": (direct + fed).sum(),
    }


def _error(got: Tensor, want: Tensor, size: Tensor) -> float:
    """Return the largest error relative to its size; got's axes beyond size's are one vector or matrix."""
    if got.shape != want.shape:
        return float("inf")
    difference = (got.detach().double() - want).flatten(size.ndim) if want.ndim > size.ndim else got - want
    return float((difference.norm(dim=-1) / size).max())


def _finite_differences(
    arrays: Arrays, target: Tensor, feedback: Tensor, result: Result, oracle: Result, seed: int
) -> Iterator[tuple[str, float, float]]:
    """Yield (quantity, error, what is allowed), in eps: <v, gradient> against D(ε) = (L(θ + εv) - L(θ - εv)) / 2ε.

    Allowed is 8 times D's own error: the rounding of L over the step, and the curvature's part, which D(2ε) shows.
    """
    source = torch.Generator().manual_seed(seed + 1)
    drive = torch.zeros(*arrays["x"].shape[:2], arrays["h0"].shape[1], dtype=torch.float64)

    def loss(name: str, value: Tensor) -> float:
        moved = arrays if name == "delta" else {**arrays, name: value}
        states, _ = _plain_loop(moved, feedback, value if name == "delta" else drive)
        return float(_loss(states @ moved["weight_out"].mT + moved["bias_out"], target))

    here = loss("delta", drive)
    for name in QUANTITIES[1:]:
        start = drive if name == "delta" else arrays[name]
        slope = float(oracle[name].norm())
        # Random, and as much along the gradient: in many dimensions a random direction sees next to nothing of it.
        v = torch.randn(start.shape, generator=source, dtype=torch.float64)
        v = v / v.norm() + (oracle[name] / slope if slope else 0.0)
        # Rounding and curvature balance where the loss changes by eps^(1/3) of itself, or a matrix (in which the loss
        # is no parabola) by that much of its distance from instability.
        step = EPS ** (1 / 3) * (here / slope if slope else 1.0)
        if name.startswith("weight"):
            step = min(step, EPS ** (1 / 3) * 0.1)

        def central(width: float, name: str = name, start: Tensor = start, v: Tensor = v) -> float:
            return (loss(name, start + width * v) - loss(name, start - width * v)) / (2 * width)

        difference = central(step)
        unit = EPS * (slope or 1.0)
        own = EPS * here / step + abs(central(2 * step) - difference)
        error = abs(difference - float((v * result[name]).sum()))
        yield name, error / unit, min(8 * own / unit, COARSEST / EPS)
