"""Backpropagation through time of a linear RNN, explicitly, in four steps.

The network, for t = 1..T:

    h_t = W_hh h_{t-1} + W_ih x_t + b          y_t = C h_t + c

and, where ``feedback`` is true, its own output comes in as input: x_t = C h_{t-1} + c. Such a step is again a linear
one, h_t = (W_hh + W_ih C) h_{t-1} + W_ih c + b, so it is a scan too, and the path ∂x_{t+1}/∂h_t is part of it.

    1. initialise   g_t = ∂L/∂h_t as the loss sends it straight into step t (by default 1 at h_T)
    2. propagate    δ_T = g_T,  δ_{t-1} = g_{t-1} + A_t^T δ_t,  ∂L/∂x_t = W_ih^T δ_t,  ∂L/∂h_0 = A_1^T δ_1
    3. accumulate   ∂L/∂W_hh = Σ δ_t h_{t-1}^T,  ∂L/∂W_ih = Σ δ_t x_t^T,  ∂L/∂b = Σ δ_t
    4. update       W ← W − lr ∂L/∂W, or any optimizer

with A_t = W_hh, or W_hh + W_ih C at a closed-loop step (complex: T is the conjugate transpose). No autograd is
involved, save for the gradient of a loss function that the caller gives.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from retrograd.core.backend import device_memory
from retrograd.core.saving import Memory
from retrograd.rnn.arguments import Arguments
from retrograd.rnn.chunked import bptt_chunked
from retrograd.rnn.gradients import Gradients, gradient_fields
from retrograd.rnn.loss import Loss
from retrograd.rnn.steps import accumulate, accumulate_each_step, forward, initialise, propagate, serving

__all__ = ["bptt"]


@overload
def bptt(
    x: Tensor,
    *,
    weight_hh: Tensor,
    weight_ih: Tensor,
    bias: Tensor | None = ...,
    h0: Tensor | None = ...,
    grad_states: Tensor | None = ...,
    grad_final: Tensor | None = ...,
    loss: Loss | None = ...,
    weight_out: Tensor | None = ...,
    bias_out: Tensor | None = ...,
    feedback: bool | Tensor | None = ...,
    contributions: bool = ...,
    backend: str = ...,
) -> Gradients[Tensor]: ...
@overload
def bptt(
    x: np.ndarray[Any, Any],
    *,
    weight_hh: np.ndarray[Any, Any],
    weight_ih: np.ndarray[Any, Any],
    bias: np.ndarray[Any, Any] | None = ...,
    h0: np.ndarray[Any, Any] | None = ...,
    grad_states: np.ndarray[Any, Any] | None = ...,
    grad_final: np.ndarray[Any, Any] | None = ...,
    loss: Loss | None = ...,
    weight_out: np.ndarray[Any, Any] | None = ...,
    bias_out: np.ndarray[Any, Any] | None = ...,
    feedback: bool | np.ndarray[Any, Any] | None = ...,
    contributions: bool = ...,
    backend: str = ...,
) -> Gradients[np.ndarray[Any, Any]]: ...
@torch.no_grad()
def bptt(
    x: Any,
    *,
    weight_hh: Any,
    weight_ih: Any,
    bias: Any = None,
    h0: Any = None,
    grad_states: Any = None,
    grad_final: Any = None,
    loss: Any = None,
    weight_out: Any = None,
    bias_out: Any = None,
    feedback: Any = None,
    contributions: bool = False,
    memory: Memory | None = None,
    backend: str = "auto",
) -> Any:
    """Run a linear RNN forward and its gradient back through time; return both, step by step.

    Args:
        x: inputs, ``(batch, time, inputs)`` or ``(time, inputs)``. Tensors or NumPy arrays, real or complex; results
            are of the same kind, computed in the common dtype of all arguments. For input too long for memory there is
            :func:`retrograd.bptt_chunked`.
        weight_hh: W_hh, ``(hidden, hidden)``.
        weight_ih: W_ih, ``(hidden, inputs)``.
        bias: b, ``(hidden,)``.
        h0: state before the first input, ``(batch, hidden)``, or ``(hidden,)`` for all; zero by default.
        grad_states: where the gradient starts: ∂L/∂h_t for every t, ``(batch, time, hidden)``; and/or
        grad_final: ∂L/∂h_T, ``(batch, hidden)``; or
        loss: a function of the outputs (of the states, without ``weight_out``) that returns a scalar tensor. It is
            given a tensor of the shape of the result's ``outputs`` (``states``). Other tensors that it reads and that
            require a gradient, as the weights of a head, get theirs in ``loss_parameters``.
            None of the three: 1 at the final state, L = Σ h_T.
        weight_out: C, ``(outputs, hidden)``: y_t = C h_t + c.
        bias_out: c, ``(outputs,)``.
        feedback: at which steps the previous output comes in as input: True, or bool ``(time,)``. There
            x_t = C h_{t-1} + c takes the place of x's first ``outputs`` features; any others stay as given. In the
            host's memory it may lie there whatever x's device is, and then runs of equal steps are scans of their own;
            on a GPU the host does not wait for it, and all steps are one scan with transitions that change.
        contributions: also return each step's part in every weight gradient (without what a loss sends straight to a
            weight that it reads itself).
        memory: deprecated, and so is an iterable of chunks as x: both are :func:`retrograd.bptt_chunked`.
        backend: ``"auto"`` or the name of one, as in :func:`retrograd.scan`.

    Returns:
        A :class:`Gradients` record.

    Raises:
        TypeError: an argument is no array, or is neither floating nor complex.
        ValueError: shapes do not fit, a request contradicts another, or the loss is no differentiable scalar.
        MemoryError: the results are larger than the memory of x's device.

    Examples:
        One weight, three steps: h_T = w² x_1 + w x_2 + x_3, so ∂L/∂w = 2 w x_1 + x_2.

        >>> w, v = torch.tensor([[0.5]]), torch.tensor([[1.0]])
        >>> g = bptt(torch.tensor([[1.0], [2.0], [3.0]]), weight_hh=w, weight_ih=v)
        >>> g.delta.squeeze(-1), g.weight_hh
        (tensor([0.2500, 0.5000, 1.0000]), tensor([[3.]]))
        >>> g.update(lr=0.1)
        >>> w
        tensor([[0.2000]])
    """
    given = {
        "x": x,
        "weight_hh": weight_hh,
        "weight_ih": weight_ih,
        "bias": bias,
        "h0": h0,
        "weight_out": weight_out,
        "bias_out": bias_out,
    }
    starts = {"grad_states": grad_states, "grad_final": grad_final}
    whole = not _is_chunks(x)
    if memory is not None or not whole:
        _warn_of_chunks(memory, whole)
        if not whole or memory not in ("all", "auto"):
            if contributions:
                raise ValueError("contributions were asked for with bounded memory: they have a row for every step")
            kept: Any = "sqrt" if memory in (None, "auto") else memory
            return bptt_chunked(**given, **starts, loss=loss, feedback=feedback, memory=kept, backend=backend)
    p = Arguments(given, starts, feedback, loss)
    _require_memory(p)
    return _four_steps(p, contributions, backend)


def _four_steps(p: Arguments, contributions: bool, backend_name: str) -> Gradients[Any]:
    backend = serving(p, backend_name)
    run = forward(p, backend)
    start = initialise(p, run, backend)
    back = propagate(p, start, backend)
    weights = accumulate(p, run, start, back, backend)
    parts = accumulate_each_step(p, run, start, back) if contributions else None

    d_x = back.inputs
    if p.closed:  # x has no part in what feedback put in its place
        d_x = d_x.clone()
        d_x[..., : p.outputs].masked_fill_(p.feedback[:, None], 0)
    return Gradients(
        **gradient_fields(p, start.loss, back.h0, weights, start.others, x=d_x),
        states=p.to_caller(run.states),
        outputs=p.to_caller(run.outputs),
        inputs=p.to_caller(run.inputs),
        delta=p.to_caller(back.delta),
        contributions=None
        if parts is None
        else {name: p.to_caller(part, name, batched=False) for name, part in parts.items()},
        _given=p.given,
    )


def _is_chunks(x: Any) -> bool:
    if isinstance(x, Sequence):
        return any(isinstance(chunk, np.ndarray | Tensor) for chunk in x)
    # What can be an array is no row of chunks: a table's own iterator yields the names of its columns.
    return isinstance(x, Iterable) and not isinstance(x, Tensor) and not hasattr(x, "__array__")


def _require_memory(p: Arguments) -> None:
    """Raise ``MemoryError`` where states, outputs, δ and ∂L/∂x alone are more than the device has."""
    batch, time, inputs = p.x.shape
    wanted = batch * time * (2 * p.W_hh.shape[0] + p.outputs + inputs) * p.dtype.itemsize
    there = device_memory(p.x.device)
    if wanted > there:
        raise MemoryError(
            f"x has {time} steps, whose results take {wanted / 1e9:.3g} GB; {p.x.device} has {there / 1e9:.3g} GB: use "
            "bptt_chunked, which returns the gradients summed over all steps, in bounded memory"
        )


def _warn_of_chunks(memory: Memory | None, whole: bool) -> None:
    what = f"memory={memory!r}" if whole else "an iterable of chunks as x"
    instead = (
        "it holds every state whatever memory says; leave it out"
        if whole and memory in ("all", "auto")
        else "use bptt_chunked, whose loss is called as loss(values, steps) and which returns totals over all steps"
    )
    warnings.warn(f"bptt: {what} is deprecated: {instead}", FutureWarning, stacklevel=4)
