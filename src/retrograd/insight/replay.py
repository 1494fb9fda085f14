"""The whole gradient of every state of a recurrent layer that ran fused, by running it again.

A hook on the layer's output sees g_t, what arrives there straight from the loss and the layers above; what comes back
through later steps, δ_t = dL/dh_t, stays inside. So the layer is run again from the input it had, and δ_t read off:

    linear          h_t = W_hh h_{t-1} + u_t, and ∂L/∂u_t = δ_t: one scan forward, one back
    RNN, GRU, LSTM  step by step from their equations (as torch.nn documents them), autograd through each h_t
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from retrograd.nn import LinearRNN

__all__ = ["LAYERS", "Replayed", "replay", "why_not"]

LAYERS = (nn.RNN, nn.LSTM, nn.GRU, LinearRNN)
DIRECTIONS = ("forward", "backward")


@dataclass(frozen=True)
class Replayed:
    """The gradient of one layer's states in one direction, for every step a tensor ``(sequences alive there, H)``.

    Attributes:
        layer: its number, from 0.
        direction: ``"forward"`` or ``"backward"``.
        delta: δ_t = dL/dh_t.
        cell: dL/dc_t of an LSTM's cells; empty for others.
    """

    layer: int
    direction: str
    delta: list[Tensor]
    cell: list[Tensor]


def why_not(module: nn.Module) -> str:
    """Return why a layer cannot be run again to the same numbers; empty where it can."""
    if module.training and getattr(module, "dropout", 0) > 0 and getattr(module, "num_layers", 1) > 1:
        return "dropout between its layers was drawn at random, and cannot be drawn again"
    return ""


def replay(
    module: nn.Module, x: Tensor | PackedSequence, hx: Any, g_output: Tensor | None, g_final: list[Tensor | None]
) -> list[Replayed]:
    """Return δ_t of every layer and direction, the lowest first.

    Args:
        module: one of :data:`LAYERS`; its parameters are read, nothing in it changes.
        x: the input it had.
        hx: the initial states it was given, or None.
        g_output: gradient at its output, of the output's shape (of a packed one: of its data); or None.
        g_final: gradients at h_n (and, of an LSTM, c_n), each maybe None.
    """
    with torch.enable_grad():
        if isinstance(module, LinearRNN):
            return _replay_linear(module, x, hx, g_output, g_final)
        return _replay_stepwise(module, x, hx, g_output, g_final)


def _replay_linear(
    module: LinearRNN, x: Any, hx: Any, g_output: Tensor | None, g_final: list[Tensor | None]
) -> list[Replayed]:
    seen: list[tuple[Tensor, Tensor | None]] = []
    run = module._scan

    def noted(W: Tensor, u: Tensor, h0: Tensor, reverse: bool, cu_seqlens: Tensor | None) -> tuple[Tensor, Tensor]:
        u = u if u.requires_grad else u.requires_grad_()
        seen.append((u, cu_seqlens))
        return run(W, u, h0, reverse, cu_seqlens)

    # Set on the instance, where it stands before the class's own for these few lines.
    object.__setattr__(module, "_scan", noted)
    try:
        output, h_n = module.forward(x, hx)  # not called: its hooks are not for this run
    finally:
        object.__delattr__(module, "_scan")
    output = output.data if isinstance(output, PackedSequence) else output
    pairs = [(y, g) for y, g in ((output, g_output), (h_n, g_final[0])) if g is not None]
    deltas = torch.autograd.grad(
        [y for y, _ in pairs], [u for u, _ in seen], [g.to(y.dtype) for y, g in pairs], allow_unused=True
    )
    directions = 2 if module.bidirectional else 1
    found = []
    for number, ((u, cu_seqlens), delta) in enumerate(zip(seen, deltas, strict=True)):
        delta = torch.zeros_like(u) if delta is None else delta
        steps = list(delta.unbind(1)) if cu_seqlens is None else _by_step(delta, cu_seqlens)
        found.append(Replayed(number // directions, DIRECTIONS[number % directions], steps, []))
    return found


def _by_step(packed: Tensor, cu_seqlens: Tensor) -> list[Tensor]:
    """Return rows that stand sequence after sequence, step by step."""
    packed = packed.reshape(-1, packed.shape[-1])
    lengths = cu_seqlens.diff()
    at = torch.arange(len(packed), device=packed.device) - cu_seqlens[:-1].repeat_interleave(lengths)
    return [packed[at == step] for step in range(int(lengths.max()))]


def _replay_stepwise(
    module: Any, x: Any, hx: Any, g_output: Tensor | None, g_final: list[Tensor | None]
) -> list[Replayed]:
    steps, order = _steps(module, x)
    directions = 2 if module.bidirectional else 1
    lstm = isinstance(module, nn.LSTM)
    given = [None] if hx is None else list(hx) if lstm else [hx]
    batch = len(steps[0])
    widths = (module.proj_size or module.hidden_size, module.hidden_size)
    initial = [
        _initial(part, module.num_layers * directions, batch, widths[kind], steps[0], order)
        for kind, part in enumerate([*given, None][: 1 + lstm])
    ]
    states: list[Tensor] = []
    finals: list[list[Tensor]] = [[], []]
    runs: list[tuple[int, str, list[Tensor], list[Tensor]]] = []
    for layer in range(module.num_layers):
        outputs = []
        for direction in range(directions):
            suffix = f"l{layer}" + ("_reverse" if direction else "")
            weights = {
                name: getattr(module, f"{name}_{suffix}", None)
                for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
            }
            row = layer * directions + direction
            # They ask for gradients so that every state after them does, whatever is frozen.
            start = [part[row].requires_grad_() for part in initial]
            h, c, last = _run(_cell(module), weights, steps, start, bool(direction))
            runs.append((layer, DIRECTIONS[direction], h, c))
            states += [*h, *c]
            outputs.append(h)
            for kind, value in enumerate(last):
                finals[kind].append(value)
        steps = [torch.cat(parts, -1) for parts in zip(*outputs, strict=True)]
    pairs = _meet(steps, finals, g_output, g_final, module, x, order)
    found = torch.autograd.grad([y for y, _ in pairs], states, [g for _, g in pairs], allow_unused=True)
    gradients = iter(torch.zeros_like(s) if g is None else g for s, g in zip(states, found, strict=True))
    return [
        Replayed(layer, direction, [next(gradients) for _ in h], [next(gradients) for _ in c])
        for layer, direction, h, c in runs
    ]


def _steps(module: Any, x: Any) -> tuple[list[Tensor], Tensor | None]:
    """Return the input step by step, with the sequences that are alive, and the order a packed batch is in."""
    dtype = module.weight_hh_l0.dtype
    dtype = dtype if dtype.itemsize >= 4 else torch.float32
    if isinstance(x, PackedSequence):
        return list(torch.split(x.data.to(dtype), x.batch_sizes.tolist())), x.sorted_indices
    x = x.to(dtype)
    if x.ndim == 2:
        return [row[None] for row in x], None
    return list(x.unbind(1 if module.batch_first else 0)), None


def _initial(part: Tensor | None, rows: int, batch: int, width: int, like: Tensor, order: Tensor | None) -> Tensor:
    if part is None:
        return like.new_zeros(rows, batch, width)
    part = (part if part.ndim == 3 else part[:, None]).detach().to(like.dtype)
    return part if order is None else part.index_select(1, order)


_Cell = Callable[[Tensor, list[Tensor], dict[str, Any]], list[Tensor]]


def _cell(module: Any) -> _Cell:
    if isinstance(module, nn.LSTM):
        return _lstm
    if isinstance(module, nn.GRU):
        return _gru
    return _relu if module.nonlinearity == "relu" else _tanh


def _both(x: Tensor, h: Tensor, w: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Return W_ih x + b_ih and W_hh h + b_hh."""
    parts = ((x, w["weight_ih"], w["bias_ih"]), (h, w["weight_hh"], w["bias_hh"]))
    a, b = (
        nn.functional.linear(value, weight.detach().to(x.dtype), None if bias is None else bias.detach().to(x.dtype))
        for value, weight, bias in parts
    )
    return a, b


def _tanh(x: Tensor, state: list[Tensor], w: dict[str, Any]) -> list[Tensor]:
    a, b = _both(x, state[0], w)
    return [torch.tanh(a + b)]


def _relu(x: Tensor, state: list[Tensor], w: dict[str, Any]) -> list[Tensor]:
    a, b = _both(x, state[0], w)
    return [torch.relu(a + b)]


def _gru(x: Tensor, state: list[Tensor], w: dict[str, Any]) -> list[Tensor]:
    a, b = _both(x, state[0], w)
    (a_r, a_z, a_n), (b_r, b_z, b_n) = a.chunk(3, -1), b.chunk(3, -1)
    r, z = torch.sigmoid(a_r + b_r), torch.sigmoid(a_z + b_z)
    n = torch.tanh(a_n + r * b_n)
    return [(1 - z) * n + z * state[0]]


def _lstm(x: Tensor, state: list[Tensor], w: dict[str, Any]) -> list[Tensor]:
    a, b = _both(x, state[0], w)
    i, f, g, o = (a + b).chunk(4, -1)
    c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
    h = torch.sigmoid(o) * torch.tanh(c)
    if w["weight_hr"] is not None:
        h = h @ w["weight_hr"].detach().to(h.dtype).mT
    return [h, c]


def _run(
    cell: _Cell, weights: dict[str, Any], steps: list[Tensor], start: list[Tensor], reverse: bool
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Return h_t and c_t of every step, and the states with which each sequence ends."""
    state = start
    found: dict[int, list[Tensor]] = {}
    for t in range(len(steps))[:: -1 if reverse else 1]:
        alive = len(steps[t])
        # Of a packed batch the longest sequences come first: the others have ended, or have not begun.
        new = cell(steps[t], [part[:alive] for part in state], weights)
        found[t] = new
        state = [
            torch.cat([part, old[alive:]]) if alive < len(old) else part for part, old in zip(new, state, strict=True)
        ]
    h = [found[t][0] for t in range(len(steps))]
    c = [found[t][1] for t in range(len(steps))] if len(start) == 2 else []
    return h, c, state


def _meet(
    steps: list[Tensor],
    finals: list[list[Tensor]],
    g_output: Tensor | None,
    g_final: list[Tensor | None],
    module: Any,
    x: Any,
    order: Tensor | None,
) -> list[tuple[Tensor, Tensor]]:
    """Return what was run again beside the gradient that arrived there."""
    pairs = []
    if g_output is not None:
        if isinstance(x, PackedSequence):
            g_steps = list(torch.split(g_output, x.batch_sizes.tolist()))
        elif g_output.ndim == 2:
            g_steps = [row[None] for row in g_output]
        else:
            g_steps = list(g_output.unbind(1 if module.batch_first else 0))
        pairs += [(step, g.to(step.dtype)) for step, g in zip(steps, g_steps, strict=True)]
    for last, g in zip(finals, g_final, strict=False):
        if g is not None:
            g = g if g.ndim == 3 else g[:, None]
            g = g if order is None else g.index_select(1, order)
            pairs += [(value, part.to(value.dtype)) for value, part in zip(last, g, strict=True)]
    return pairs
