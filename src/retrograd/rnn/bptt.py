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

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, overload

import numpy as np
import torch
from torch import Tensor

from retrograd.backends.pool import linear
from retrograd.core.backend import Backend, Spec, select
from retrograd.core.saving import Memory, chunks
from retrograd.core.sequences import previous_states
from retrograd.core.transition import Dense
from retrograd.rnn.arguments import Loss, Problem
from retrograd.rnn.chunked import LongInput, add_in_double, like
from retrograd.rnn.gradients import Gradients

__all__ = ["bptt"]


@overload
def bptt(
    x: Tensor | Iterable[Tensor],
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
    memory: Memory = ...,
    backend: str = ...,
) -> Gradients[Tensor]: ...
@overload
def bptt(
    x: np.ndarray[Any, Any] | Iterable[np.ndarray[Any, Any]],
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
    memory: Memory = ...,
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
    loss: Loss | None = None,
    weight_out: Any = None,
    bias_out: Any = None,
    feedback: Any = None,
    contributions: bool = False,
    memory: Memory = "auto",
    backend: str = "auto",
) -> Any:
    """Run a linear RNN forward and its gradient back through time; return both, step by step.

    Args:
        x: inputs, ``(batch, time, inputs)`` or ``(time, inputs)``. Tensors or NumPy arrays, real or complex; results
            are of the same kind, computed in the common dtype of all arguments.
        weight_hh: W_hh, ``(hidden, hidden)``.
        weight_ih: W_ih, ``(hidden, inputs)``.
        bias: b, ``(hidden,)``.
        h0: state before the first input, ``(batch, hidden)``, or ``(hidden,)`` for all; zero by default.
        grad_states: where the gradient starts: ∂L/∂h_t for every t, ``(batch, time, hidden)``; and/or
        grad_final: ∂L/∂h_T, ``(batch, hidden)``; or
        loss: a function of the outputs (of the states, without ``weight_out``) that returns a scalar tensor. It is
            given a tensor of the shape of the result's ``outputs`` (``states``).
            None of the three: 1 at the final state, L = Σ h_T.
        weight_out: C, ``(outputs, hidden)``: y_t = C h_t + c.
        bias_out: c, ``(outputs,)``.
        feedback: at which steps the previous output comes in as input: True, or bool ``(time,)``. There
            x_t = C h_{t-1} + c takes the place of x's first ``outputs`` features; any others stay as given.
        contributions: also return each step's part in every weight gradient.
        memory: what is held at one time: ``"all"``; ``"sqrt"``, the states at the borders of chunks and one chunk; a
            number of bytes for these states; or ``"auto"``, all, unless x is an iterable of chunks or the states are
            larger than an eighth of the machine's memory. Other than all, x may be a ``numpy.memmap`` or an iterable of
            chunks ``(steps, inputs)`` too long for the machine (an iterable is written to a temporary file, and read
            back from it): one sweep forward, one backward. The weight gradients are exact and summed in double
            precision; results that have a row for every step (states, outputs, inputs, delta, x) are None. A loss is
            then a sum over steps, called as ``loss(values, steps)`` for each chunk, ``steps`` being its slice of time.
        backend: ``"auto"`` or the name of one, as in :func:`retrograd.scan`.

    Returns:
        A :class:`Gradients` record.

    Raises:
        TypeError: an argument is no array, or is neither floating nor complex.
        ValueError: shapes do not fit, a request contradicts another, the loss is no differentiable scalar, or memory
            is too little.

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
    long = LongInput.of(x, memory, weight_hh)
    if long is None:
        return _in_one(given, starts, feedback, loss, contributions, backend)
    try:
        if contributions:
            raise ValueError("contributions were asked for with bounded memory: they have a row for every step")
        return _in_chunks(long, given, starts, feedback, loss, backend)
    finally:
        long.close()


def _in_one(
    given: dict[str, Any],
    starts: dict[str, Any],
    feedback: Any,
    loss: Loss | None,
    contributions: bool,
    backend: str,
    carry_in: Any = None,
) -> Gradients[Any]:
    """The four steps; ``carry_in`` is what a later chunk sends back to the final state, beside the loss."""
    p = Problem(given, starts, feedback, loss)
    transitions = [(steps, Dense(A)) for steps, A in p.transitions()]
    kernels = select(backend, Spec.of(transitions[0][1], p.drive))

    # input → scan (→ output)
    states = _run(p, transitions, kernels)
    outputs = None if p.C is None else linear(states, p.C, p.c)
    inputs = p.consumed_inputs(states)

    # 1. initialise: ∂L/∂h_t as the loss sends it straight into step t, and ∂L/∂y_t where it passes the output
    value, g, g_final, g_out = p.initialise(states, outputs)
    if carry_in is not None:
        g_final = g_final + torch.as_tensor(carry_in).to(g_final).view_as(g_final)

    # 2. propagate: the same scans, transposed and backward, each handing its carry to the run before it
    delta_of_runs, carry = [], g_final
    for steps, A in reversed(transitions):
        delta_run, carry, _ = kernels.adjoint(A, g[:, steps], carry)
        delta_of_runs.append(delta_run)
    delta = _join(delta_of_runs[::-1])
    d_h0 = carry
    d_inputs = linear(delta, p.W_ih.mH)

    # 3. accumulate: for every weight, the pairs (gradient, what it multiplied) that meet in it at each step
    previous = _Previous(states, p.h0)
    pairs: dict[str, list[_Pair]] = {
        "weight_hh": [(delta, previous)],
        "weight_ih": [(delta, inputs)],
        "bias": [(delta, None)],
    }
    if p.C is not None:
        # The output map gets the gradient of the outputs and, at closed-loop steps, of the inputs it made.
        fed = d_inputs[..., : p.outputs] * p.feedback[:, None]
        sources: list[tuple[Tensor, Tensor | _Previous]] = [] if g_out is None else [(g_out, states)]
        if p.closed:
            sources.append((fed, previous))
        pairs["weight_out"] = [(gradient, factor) for gradient, factor in sources]
        pairs["bias_out"] = [(gradient, None) for gradient, _ in sources]
    totals = {name: _total(pair, p.sizes[name], delta, kernels) for name, pair in pairs.items()}
    parts = {name: _each_step(pair, p.sizes[name], delta) for name, pair in pairs.items()} if contributions else None

    d_x = d_inputs
    if p.closed:
        d_x = d_inputs.clone()
        d_x[:, p.feedback, : p.outputs] = 0
    if given["h0"] is not None and given["h0"].ndim < p.x.ndim - 1:
        d_h0 = d_h0.sum(0, keepdim=p.unbatched)
    return Gradients(
        loss=p.out(value, None),
        states=p.out(states),
        outputs=p.out(outputs),
        inputs=p.out(inputs),
        delta=p.out(delta),
        x=p.out(d_x, "x"),
        h0=p.out(d_h0, "h0"),
        **{
            name: p.out(totals.get(name), name, batched=False)
            for name in ("weight_hh", "weight_ih", "bias", "weight_out", "bias_out")
        },
        contributions=None
        if parts is None
        else {name: p.out(part, name, batched=False) for name, part in parts.items()},
        _given={name: array for name, array in given.items() if array is not None},
    )


def _run(p: Problem, transitions: list[tuple[slice, Dense]], kernels: Backend) -> Tensor:
    states_of_runs, carry = [], p.h0
    for steps, A in transitions:
        states_of_runs.append(kernels.scan(A, p.drive[:, steps], carry))
        carry = states_of_runs[-1][:, -1]
    return _join(states_of_runs)


def _in_chunks(
    x: LongInput, given: dict[str, Any], starts: dict[str, Any], feedback: Any, loss: Any, backend: str
) -> Gradients[Any]:
    """Forward chunk by chunk, keeping the states between; then back, each chunk with all its four steps."""
    mask = feedback if feedback is None or isinstance(feedback, bool) else np.asarray(feedback)
    if mask is not None and not isinstance(mask, bool) and mask.shape != (x.time,):
        raise ValueError(f"feedback has shape {mask.shape}, expected (time,) = ({x.time},)")
    g_states = starts["grad_states"]
    if g_states is not None and g_states.shape[-2] != x.time:
        raise ValueError(f"grad_states has {g_states.shape[-2]} steps, x has {x.time}")
    if loss is not None and (g_states is not None or starts["grad_final"] is not None):
        raise ValueError("loss was given together with grad_states or grad_final: the gradient has one start")

    def chunk(at: slice, before: Any) -> tuple[dict[str, Any], Any]:
        here = mask if mask is None or isinstance(mask, bool) else mask[at]
        return {**given, "x": x.read(at), "h0": given["h0"] if before is None else before}, here

    parts, borders = chunks(x.time, x.steps), [None]
    for at in parts[:-1]:
        arguments, here = chunk(at, borders[-1])
        p = Problem(arguments, {"grad_states": None, "grad_final": None}, here, None)
        transitions = [(steps, Dense(A)) for steps, A in p.transitions()]
        kernels = select(backend, Spec.of(transitions[0][1], p.drive))
        borders.append(p.out(_run(p, transitions, kernels)[:, -1:].clone())[..., 0, :])

    totals: dict[str, Any] = {}
    carry, result = starts["grad_final"], None
    for at, before in zip(reversed(parts), reversed(borders), strict=True):
        arguments, here = chunk(at, before)
        if loss is None:
            own = {"grad_states": None if g_states is None else g_states[..., at, :], "grad_final": carry}
            result = _in_one(arguments, own, here, None, False, backend)
        else:
            nothing = dict.fromkeys(starts)
            result = _in_one(arguments, nothing, here, partial(_loss_of_chunk, loss, at), False, backend, carry)
        carry = result.h0
        for name in ("loss", "weight_hh", "weight_ih", "bias", "weight_out", "bias_out"):
            part = getattr(result, name)
            if part is not None:
                totals[name] = add_in_double(totals.get(name), part)
    assert result is not None
    return replace(
        result,
        **{name: like(total, getattr(result, name)) for name, total in totals.items()},
        **dict.fromkeys(("states", "outputs", "inputs", "delta", "x")),
        _given={name: array for name, array in given.items() if array is not None and name != "x"},
    )


def _loss_of_chunk(loss: Callable[[Tensor, slice], Tensor], at: slice, values: Tensor) -> Tensor:
    return loss(values, at)


def _join(runs: list[Tensor]) -> Tensor:
    return runs[0] if len(runs) == 1 else torch.cat(runs, dim=1)


class _Previous(NamedTuple):
    """h_{t-1} for every t, as the states and h_0: a shifted copy is made only where one is needed."""

    states: Tensor
    h0: Tensor


# A gradient for every step and what it met there: None stands for 1.
_Pair = tuple[Tensor, Tensor | _Previous | None]


def _total(pairs: list[_Pair], size: tuple[int, ...], like: Tensor, kernels: Backend) -> Tensor:
    """Sum gradient_t factor_t^H over (batch, time): one product (or a plain sum, without factor)."""
    total = like.new_zeros(size)
    for gradient, factor in pairs:
        if factor is None:
            total = total + gradient.flatten(0, 1).sum(0)
        else:
            met = factor if isinstance(factor, _Previous) else (factor,)
            total = total + kernels.outer_sum(gradient, *met)
    return total


def _each_step(pairs: list[_Pair], size: tuple[int, ...], like: Tensor) -> Tensor:
    """Sum gradient_t factor_t^H over the batch alone: (time, ...)."""
    parts = like.new_zeros((like.shape[1], *size))
    for gradient, factor in pairs:
        if factor is None:
            parts = parts + gradient.sum(0)
            continue
        if isinstance(factor, _Previous):
            factor = previous_states(*factor, False)
        parts = parts + gradient.permute(1, 2, 0) @ factor.transpose(0, 1).conj()
    return parts
