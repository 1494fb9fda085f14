"""Who takes part. Each returns a call that computes every gradient of one case, or None where it cannot.

Layouts that a contender needs are made outside the timed call where its users could keep their data in them, and
inside where the case's (batch, time, width) has to be turned.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import retrograd as rg
from benchmarks.cases import Case

Call = Callable[[], Any]
Arrays = tuple[Tensor, Tensor, Tensor]


def optional(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


def leaves(*tensors: Tensor) -> list[Tensor]:
    return [tensor.detach().requires_grad_() for tensor in tensors]


def backward(forward: Callable[..., Tensor], inputs: list[Tensor], g: Tensor) -> Call:
    return lambda: torch.autograd.grad(forward(*inputs), inputs, g)


def retrograd(case: Case, arrays: Arrays) -> Call | None:
    A, u, g = arrays
    make = rg.Diagonal if case.structure == "diagonal" else rg.Dense
    return backward(lambda A, u: rg.scan(make(A), u)[0], leaves(A, u), g)


def torch_loop(case: Case, arrays: Arrays) -> Call | None:
    """The honest loop: unbind, not x[:, t], whose backward costs O(T²)."""
    A, u, g = arrays

    def diagonal(A: Tensor, u: Tensor) -> Tensor:
        h, states = torch.zeros_like(u[:, 0]), []
        for a_t, u_t in zip(A.unbind(1), u.unbind(1), strict=True):
            h = torch.addcmul(u_t, a_t, h)
            states.append(h)
        return torch.stack(states, 1)

    def dense(A: Tensor, u: Tensor) -> Tensor:
        h, states, transposed = torch.zeros_like(u[:, 0]), [], A.mT
        for u_t in u.unbind(1):
            h = torch.addmm(u_t, h, transposed)
            states.append(h)
        return torch.stack(states, 1)

    if case.time > 100_000:
        return None
    return backward(diagonal if case.structure == "diagonal" else dense, leaves(A, u), g)


def torch_rnn(case: Case, arrays: Arrays) -> Call | None:
    """torch.nn.RNN: with a tanh, so not the same function, but what its users would otherwise run."""
    if case.structure != "dense":
        return None
    _, u, g = arrays
    module = torch.nn.RNN(case.width, case.width, batch_first=True, dtype=case.dtype)
    (u,) = leaves(u)
    return lambda: torch.autograd.grad(module(u)[0], [u, *module.parameters()], g)


def torch_associative_scan(case: Case, arrays: Arrays) -> Call | None:
    if case.structure != "diagonal" or case.dtype == torch.bfloat16:
        return None
    try:
        from torch._higher_order_ops.associative_scan import generic_associative_scan
    except ImportError:
        return None
    A, u, g = arrays

    def forward(A: Tensor, u: Tensor) -> Tensor:
        def combine(a_left: Tensor, u_left: Tensor, a_right: Tensor, u_right: Tensor) -> tuple[Tensor, Tensor]:
            return a_left * a_right, a_right * u_left + u_right

        return generic_associative_scan(combine, (A, u), 1)[1]

    return backward(forward, leaves(A, u), g)


def philtorch(case: Case, arrays: Arrays) -> Call | None:
    module = optional("philtorch.lpv" if case.structure == "diagonal" else "philtorch.lti")
    if module is None or case.dtype == torch.bfloat16:
        return None
    A, u, g = arrays
    zeros = torch.zeros(case.batch, case.width, dtype=case.dtype)
    if case.structure == "dense":
        return backward(lambda A, u: module.state_space_recursion(A, zeros, u), leaves(A, u), g)
    # Its own layout: one row a channel, (rows, time).
    rows = [x.transpose(1, 2).reshape(-1, case.time).contiguous() for x in (A, u, g)]
    zeros = zeros.flatten()
    return backward(lambda A, u: module.linear_recurrence(A, zeros, u), leaves(*rows[:2]), rows[2])


def torchlpc(case: Case, arrays: Arrays) -> Call | None:
    module = optional("torchlpc.recurrence")
    if module is None or case.structure != "diagonal" or case.dtype == torch.bfloat16:
        return None
    rows = [x.transpose(1, 2).reshape(-1, case.time).contiguous() for x in arrays]
    zeros = torch.zeros(rows[0].shape[0], dtype=case.dtype)
    return backward(lambda A, u: module.Recurrence.apply(A, u, zeros), leaves(*rows[:2]), rows[2])


def accelerated_scan(case: Case, arrays: Arrays) -> Call | None:
    module = optional("accelerated_scan.ref")
    if module is None or case.structure != "diagonal" or case.dtype.is_complex or case.dtype == torch.bfloat16:
        return None
    A, u, g = (x.transpose(1, 2).contiguous() for x in arrays)
    return backward(module.scan, leaves(A, u), g)


def assoc_scan(case: Case, arrays: Arrays) -> Call | None:
    module = optional("assoc_scan")
    if module is None or case.structure != "diagonal" or case.dtype.is_complex or case.dtype == torch.bfloat16:
        return None
    A, u, g = arrays
    return backward(module.AssocScan(use_accelerated=False), leaves(A, u), g)


def jax_call(case: Case, arrays: Arrays, parallel: bool) -> Call | None:
    jax = optional("jax")
    if jax is None or (case.structure == "dense" and parallel) or case.dtype == torch.bfloat16:
        return None
    jax.config.update("jax_enable_x64", True)
    A, u, g = (jax.numpy.asarray(x.numpy()) for x in arrays)

    def combine(x: Any, y: Any) -> Any:
        return x[0] * y[0], y[0] * x[1] + y[1]

    def states(A: Any, u: Any) -> Any:
        if parallel:
            return jax.lax.associative_scan(combine, (A, u), axis=1)[1]

        def step(h: Any, x: Any) -> Any:
            h = x[0] * h + x[1] if case.structure == "diagonal" else h @ A.T + x[0]
            return h, h

        xs = (A.swapaxes(0, 1), u.swapaxes(0, 1)) if case.structure == "diagonal" else (u.swapaxes(0, 1),)
        return jax.lax.scan(step, jax.numpy.zeros_like(u[:, 0]), xs)[1].swapaxes(0, 1)

    gradients = jax.jit(lambda A, u, g: jax.vjp(states, A, u)[1](g))
    return lambda: jax.block_until_ready(gradients(A, u, g))


def jax_scan(case: Case, arrays: Arrays) -> Call | None:
    return jax_call(case, arrays, parallel=False)


def jax_associative_scan(case: Case, arrays: Arrays) -> Call | None:
    return jax_call(case, arrays, parallel=True)


CONTENDERS: dict[str, Callable[[Case, Arrays], Call | None]] = {
    "retrograd": retrograd,
    "jax scan": jax_scan,
    "jax associative_scan": jax_associative_scan,
    "philtorch": philtorch,
    "torchlpc": torchlpc,
    "torch loop": torch_loop,
    "torch.nn.RNN": torch_rnn,
    "torch associative_scan": torch_associative_scan,
    "assoc-scan": assoc_scan,
    "accelerated-scan ref": accelerated_scan,
}
# Not the same function (tanh): shown, but not counted as a peer's time.
NOT_COUNTED = {"torch.nn.RNN"}
