"""The forward pass and three of the four steps: initialise, propagate, accumulate. The update is in `update.py`.

    forward       h_t = A_t h_{t-1} + u_t,  u_t = W_ih x_t + b,  y_t = C h_t + c
    1 initialise  g_t = ∂L/∂h_t as the loss sends it straight into step t
    2 propagate   δ_T = g_T,  δ_{t-1} = g_{t-1} + A_t^H δ_t,  ∂L/∂x_t = W_ih^H δ_t,  ∂L/∂h_0 = A_1^H δ_1
    3 accumulate  ∂L/∂W_hh = Σ δ_t h_{t-1}^H,  ∂L/∂W_ih = Σ δ_t x_t^H,  ∂L/∂b = Σ δ_t

with A_t = W_hh, or W_hh + W_ih C at a closed-loop step. Arrays are in the one form of
:class:`retrograd.rnn.arguments.Arguments`. One backend, selected once, runs all of it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from retrograd.core.backend import Backend, Spec, select
from retrograd.core.linear import step_sum
from retrograd.core.sequences import previous_states
from retrograd.rnn.arguments import Arguments
from retrograd.rnn.loss import loss_gradient

__all__ = [
    "Forward",
    "Propagated",
    "Start",
    "accumulate",
    "accumulate_each_step",
    "forward",
    "initialise",
    "propagate",
    "serving",
]


class Forward(NamedTuple):
    """What the forward pass leaves: h_t, y_t (with ``weight_out``), and the x_t that each step consumed."""

    states: Tensor
    outputs: Tensor | None
    inputs: Tensor


class Start(NamedTuple):
    """Where the gradient starts.

    Attributes:
        loss: the loss's value, if there is a loss.
        states: g_t = ∂L/∂h_t, straight from the loss.
        final: what h_T gets beside g_T.
        outputs: ∂L/∂y_t, where the loss reads outputs.
        others: the gradient of every other tensor that the loss reads and that requires one.
    """

    loss: Tensor | None
    states: Tensor
    final: Tensor
    outputs: Tensor | None = None
    others: dict[Tensor, Tensor] = {}  # noqa: RUF012 - never written to


class Propagated(NamedTuple):
    """The gradient of every state, δ_t, of h_0, and of the x_t that each step consumed."""

    delta: Tensor
    h0: Tensor
    inputs: Tensor


def serving(p: Arguments, name: str) -> Backend:
    """Return the backend that runs every part of the result."""
    return select(name, Spec.of(p.transitions[0][1], p.x))


def forward(p: Arguments, backend: Backend) -> Forward:
    """Run input → scan → output."""
    u = backend.linear(p.inputs(), p.W_ih, p.b)
    states_of_runs, before = [], p.h0
    for steps, A in p.transitions:
        states_of_runs.append(backend.scan(A, u[:, steps], before))
        before = states_of_runs[-1][:, -1]
    states = _join(states_of_runs)
    return Forward(states, None if p.C is None else backend.linear(states, p.C, p.c), p.inputs(states))


def initialise(p: Arguments, run: Forward, backend: Backend, later: Tensor | None = None) -> Start:
    """Step 1. ``later`` is ∂L/∂h_T of the steps that follow these, where these are not the last ones."""
    states = run.states
    nothing = states.new_zeros(states.shape[-1]).expand(states.shape)
    final = torch.zeros_like(states[:, 0]) if later is None else later
    if p.loss is None:
        if p.grad_states is None and p.grad_final is None and later is None:
            return Start(None, nothing, torch.ones_like(final))
        g = nothing if p.grad_states is None else p.grad_states
        return Start(None, g, final if p.grad_final is None else p.grad_final)
    argument = states if run.outputs is None else run.outputs
    found = loss_gradient(p.loss, argument[0] if p.unbatched else argument, p.given.values())
    g = found.argument.to(p.dtype).reshape(argument.shape)
    if p.C is None:
        return Start(found.value, g, final, None, found.others)
    return Start(found.value, backend.linear(g, p.C.mH), final, g, found.others)


def propagate(p: Arguments, start: Start, backend: Backend) -> Propagated:
    """Step 2: the same scans, transposed and backward; each hands its ∂L/∂h_0 to the run before it as ∂L/∂h_T."""
    delta_of_runs, d_h0 = [], start.final
    for steps, A in reversed(p.transitions):
        delta, d_h0, _ = backend.adjoint(A, start.states[:, steps], d_h0)
        delta_of_runs.append(delta)
    delta = _join(delta_of_runs[::-1])
    return Propagated(delta, d_h0, backend.linear(delta, p.W_ih.mH))


def accumulate(p: Arguments, run: Forward, start: Start, back: Propagated, backend: Backend) -> dict[str, Tensor]:
    """Step 3: sum each weight's gradient over (batch, time), one matrix product each."""
    totals = {}
    for name, pairs in _pairs(p, run, start, back).items():
        totals[name] = back.delta.new_zeros(p.sizes[name])
        for gradient, factor in pairs:
            if factor is None:
                totals[name] += step_sum(gradient)
            elif isinstance(factor, _Previous):
                totals[name] += backend.outer_sum(gradient, factor.states, before=factor.h0)
            else:
                totals[name] += backend.outer_sum(gradient, factor)
    return totals


def accumulate_each_step(p: Arguments, run: Forward, start: Start, back: Propagated) -> dict[str, Tensor]:
    """Return each step's part in every weight's gradient, summed over the batch: ``(time, ...)``."""
    parts = {}
    for name, pairs in _pairs(p, run, start, back).items():
        parts[name] = back.delta.new_zeros((back.delta.shape[1], *p.sizes[name]))
        for gradient, factor in pairs:
            if factor is None:
                parts[name] += gradient.sum(0)
            else:
                met = previous_states(*factor) if isinstance(factor, _Previous) else factor
                parts[name] += gradient.permute(1, 2, 0) @ met.transpose(0, 1).conj()
    return parts


class _Previous(NamedTuple):
    """h_{t-1} for every t, as the states and h_0: a shifted copy is made only where one is needed."""

    states: Tensor
    h0: Tensor


# The gradient of a product at every step, and the factor that the weight met there: None stands for 1.
_Pair = tuple[Tensor, Tensor | _Previous | None]


def _pairs(p: Arguments, run: Forward, start: Start, back: Propagated) -> dict[str, list[_Pair]]:
    """Return, for every weight, the products that it is in."""
    previous = _Previous(run.states, p.h0)
    pairs: dict[str, list[_Pair]] = {
        "weight_hh": [(back.delta, previous)],
        "weight_ih": [(back.delta, run.inputs)],
        "bias": [(back.delta, None)],
    }
    if p.C is None:
        return pairs
    # The output map gets the gradient of the outputs and, at closed-loop steps, of the inputs it made.
    sources: list[tuple[Tensor, Tensor | _Previous]] = []
    if start.outputs is not None:
        sources.append((start.outputs, run.states))
    if p.closed:
        sources.append((back.inputs[..., : p.outputs] * p.feedback[:, None], previous))
    pairs["weight_out"] = [*sources]
    pairs["bias_out"] = [(gradient, None) for gradient, _ in sources]
    return pairs


def _join(runs: list[Tensor]) -> Tensor:
    return runs[0] if len(runs) == 1 else torch.cat(runs, dim=1)
