"""The whole gradient of every state of a recurrent layer that ran fused.

A hook on the layer's output sees g_t, the gradient from the loss and the layers above; the whole gradient
δ_t = dL/dh_t, with what comes back through later steps, stays inside the fused kernel. But the states of the last layer
are its output, those of the layers below follow from the input, and at known states a layer is linear in its gradients:
:mod:`retrograd.insight.recorder.linearised` propagates them again, from the top layer down.

One step from each state that the layer had must give the next one. If it does not, up to rounding, the layer does
something else (a forward of its own, weights that have changed since), and δ_t is not known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from retrograd.core.scan import scan
from retrograd.core.transition import Dense
from retrograd.insight.recorder.linearised import Weights, propagate, run
from retrograd.nn import LinearRNN, StateSpace

__all__ = ["LAYERS", "CannotReplay", "Kept", "Replayed", "direct", "replay", "why_not"]

LAYERS = (nn.RNN, nn.LSTM, nn.GRU, LinearRNN, StateSpace)
DIRECTIONS = ("forward", "backward")
_FORWARDS = {layer.forward for layer in LAYERS}


class CannotReplay(Exception):  # noqa: N818 - not an error: a reason
    """Why δ_t cannot be known."""


@dataclass(frozen=True)
class Kept:
    """The tensors of a layer in a forward pass, detached.

    Attributes:
        module: one of :data:`LAYERS`; only its sizes are read.
        given: its arguments by name.
        weights: the weights that it used, by name.
        output: its output; None once that has been changed in place.
        finals: its final states.
        unit: the unit roundoff of its arithmetic.
    """

    module: nn.Module
    given: Mapping[str, Any]
    weights: Mapping[str, Tensor | None]
    output: Any
    finals: tuple[Tensor, ...]
    unit: float


@dataclass(frozen=True)
class Replayed:
    """The gradient of one layer's states in one direction: ``(time, batch, H)``, zero behind a sequence's end.

    Attributes:
        layer: its number, from 0.
        direction: ``"forward"`` or ``"backward"``.
        delta: δ_t = dL/dh_t; of a :class:`~retrograd.nn.StateSpace` that of x_t, which step t starts from.
        cell: dL/dc_t of an LSTM's cells; None for others.
    """

    layer: int
    direction: str
    delta: Tensor
    cell: Tensor | None


def why_not(module: nn.Module) -> str:
    """Return the reason why a layer cannot be run again to the same numbers; empty if it can."""
    if module.training and getattr(module, "dropout", 0) > 0 and getattr(module, "num_layers", 1) > 1:
        return "dropout between its layers was drawn at random, and cannot be drawn again"
    return ""


def direct(module: Any, x: Any, g: Tensor) -> list[Tensor]:
    """Return the gradient that arrives at the output, for each direction, ``(time, batch, features)``."""
    if isinstance(module, StateSpace):
        return [_time_first(g, True)]
    first = getattr(module, "batch_first", False)
    return list(_time_first(_like(x, g), first).chunk(2 if module.bidirectional else 1, -1))


@torch.no_grad()
def replay(kept: Kept, g_output: Tensor | None, g_final: list[Tensor | None]) -> list[Replayed]:
    """Return δ_t of every layer and direction, the lowest first.

    Args:
        kept: the layer's tensors.
        g_output: gradient at its output, of the output's shape (of a packed output: of its data); or None.
        g_final: gradients at h_n and, of an LSTM, at c_n; or None.

    Raises:
        CannotReplay: the layer cannot be run again to the same numbers.
    """
    device = next(part.device for part in kept.weights.values() if part is not None)
    with torch.autocast(device.type, enabled=False):
        return _state_space(kept, g_output) if isinstance(kept.module, StateSpace) else _layers(kept, g_output, g_final)


def _layers(kept: Kept, g_output: Tensor | None, g_final: list[Tensor | None]) -> list[Replayed]:
    module: Any = kept.module
    kind = "linear" if isinstance(module, LinearRNN) else module.mode.lower().removeprefix("rnn_")
    directions, layers = 2 if module.bidirectional else 1, module.num_layers
    weights = _weights(kept, layers, directions)
    dtype = weights[0][0].hh.dtype
    x, first = kept.given["input"], module.batch_first
    lengths = order = None
    if isinstance(x, PackedSequence):
        device, order = x.data.device, x.sorted_indices
        lengths = (torch.arange(int(x.batch_sizes[0])) < x.batch_sizes[:, None]).sum(0).to(device)
    inputs = [_time_first(x, first).to(dtype)]
    steps, batch = inputs[0].shape[:2]
    if not steps or not batch:
        raise CannotReplay("there is no step")
    hx = kept.given.get("hx")
    parts = [None, None] if hx is None else [*hx, None] if isinstance(hx, tuple) else [hx, None]
    widths = (getattr(module, "proj_size", 0) or module.hidden_size, module.hidden_size)[: 2 if kind == "lstm" else 1]
    start = [
        inputs[0].new_zeros(layers * directions, batch, width) if part is None else _states(part, order, dtype)
        for part, width in zip(parts, widths, strict=False)
    ]
    for layer in range(layers):
        if layer + 1 == layers and kept.output is not None:
            states = _time_first(kept.output, first).to(dtype)
        else:
            here = [part[directions * layer : directions * (layer + 1)].contiguous() for part in start]
            states = run(kind, weights[layer], inputs[-1], here, lengths)
        inputs.append(states)
    g = torch.zeros_like(inputs[-1]) if g_output is None else _time_first(_like(x, g_output), first).to(dtype)
    finals = [None if part is None else _states(part, order, dtype) for part in [*g_final, None, None][:2]]
    found = []
    for layer in range(layers)[::-1]:
        below: list[Tensor] = []
        for number, (states, own) in enumerate(
            zip(inputs[layer + 1].chunk(directions, -1), g.chunk(directions, -1), strict=True)
        ):
            row = layer * directions + number
            at = _last(lengths, steps, batch, bool(number), own.device)
            own = _added(own, None if finals[0] is None else finals[0][row], at)
            cells = None
            if finals[1] is not None:
                cells = _added(own.new_zeros(steps, batch, widths[1]), finals[1][row], at)
            w, begin = weights[layer][number], [part[row] for part in start]
            made = propagate(kind, w, inputs[layer], states, begin, own, cells, bool(number), lengths, layer > 0)
            if layer + 1 == layers:
                _check(kept, kind, w, inputs[layer], states, begin[0], made.again, order, row, at)
            below += [] if made.below is None else [made.below]
            found.append(Replayed(layer, DIRECTIONS[number], made.delta, made.cell))
        g = torch.stack(below).sum(0) if below else g
    return sorted(found, key=lambda one: (one.layer, one.direction != "forward"))


def _weights(kept: Kept, layers: int, directions: int) -> list[list[Weights]]:
    """Return the weights of each layer and direction, in at least single precision."""

    def of(name: str) -> Tensor | None:
        part = kept.weights.get(name)
        return None if part is None else part.to(torch.promote_types(part.dtype, torch.float32))

    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
    ends = ("", "_reverse")[:directions]
    found: list[list[Any]] = [[[of(f"{n}_l{layer}{end}") for n in names] for end in ends] for layer in range(layers)]
    return [[Weights(*parts) for parts in row] for row in found]


def _like(x: Any, values: Tensor) -> Any:
    """Return values packed as x is, if x is packed."""
    return PackedSequence(values, *x[1:]) if isinstance(x, PackedSequence) else values


def _time_first(values: Any, batch_first: bool) -> Tensor:
    """Return ``(time, batch, features)``, a packed batch padded with zeros, the longest sequence first."""
    if isinstance(values, PackedSequence):
        rows, sizes = values.data, values.batch_sizes
        here = (torch.arange(int(sizes[0])) < sizes[:, None]).to(rows.device)
        return rows.new_zeros(*here.shape, rows.shape[-1]).masked_scatter_(here[..., None], rows)
    if values.ndim == 2:
        return values[:, None]  # type: ignore[no-any-return]
    return values.transpose(0, 1) if batch_first else values  # type: ignore[no-any-return]


def _states(part: Tensor, order: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Return initial or final states or their gradients, ``(rows, batch, features)``, in a packed batch's order."""
    part = (part if part.ndim == 3 else part[:, None]).to(dtype)
    return part if order is None else part.index_select(1, order)


def _last(lengths: Tensor | None, steps: int, batch: int, reverse: bool, device: Any) -> tuple[Tensor, Tensor]:
    """Return the last step of a direction in each sequence, as an index of (time, batch)."""
    ends = torch.zeros if reverse else torch.ones
    step = ends(batch, dtype=torch.long, device=device) * (steps - 1 if lengths is None else lengths - 1)
    return step, torch.arange(batch, device=device)


def _added(values: Tensor, part: Tensor | None, at: tuple[Tensor, Tensor]) -> Tensor:
    return values if part is None else values.index_put(at, part, accumulate=True)


def _check(
    kept: Kept,
    kind: str,
    w: Weights,
    x: Tensor,
    states: Tensor,
    h0: Tensor,
    again: Tensor,
    order: Tensor | None,
    row: int,
    at: tuple[Tensor, Tensor],
) -> None:
    """Raise :class:`CannotReplay` unless the states computed again are those that the layer had."""
    if kept.output is None:
        # Without the output the final states are compared, unless a hook or a forward of its own may have changed it.
        if not kept.finals or type(kept.module).forward not in _FORWARDS or len(kept.module._forward_hooks) > 1:
            raise CannotReplay("its output was changed in place before the gradient came back")
        real, again = _states(kept.finals[0], order, again.dtype)[row], states[at]
        scale = real.abs().amax()
    else:
        # Rounding errors grow with ‖W_ih‖ ‖x‖ + ‖W_hh‖ ‖h‖ + |b|, of the largest row.
        size = torch.linalg.vector_norm
        largest = torch.maximum(states.abs().amax((0, 2)), h0.abs().amax(-1))
        state = torch.maximum(size(states, dim=-1).amax(0), size(h0, dim=-1))
        scale = size(w.ih, dim=-1).amax() * size(x, dim=-1) + size(w.hh, dim=-1).amax() * state
        scale += sum(part.abs().amax() for part in (w.b_ih, w.b_hh) if part is not None) + largest
        scale = scale * (1 + largest) if kind == "gru" else scale
        scale = (scale if w.hr is None else scale * (1 + w.hr.abs().sum(-1).amax()))[..., None]
        real = states
    if _apart(real, again, scale, kept.unit):
        raise CannotReplay(
            "run again from its input and weights it gives other states: its forward is not the one of its class, or "
            "its weights were changed before the backward pass was over"
        )


def _apart(real: Tensor, again: Tensor, scale: Tensor, unit: float) -> bool:
    # Two units are the most that was measured, over layers, lengths and precisions; kernels that sum in another order
    # get 64. In half precision 64 units would accept anything.
    allowed = min(64 * unit, 1 / 64) * scale
    return bool((((real - again).abs() > allowed) & real.isfinite() & again.isfinite()).any())


def _state_space(kept: Kept, g_output: Tensor | None) -> list[Replayed]:
    """Return δ_t of x_t, which step t starts from: δ_t = C^T g_t + A^T δ_{t+1}; with y_t given, A - K C for A."""
    if kept.output is None or g_output is None:
        raise CannotReplay("its output was changed in place before the gradient came back")
    w: Any = kept.weights
    u, y, x0 = (kept.given.get(name) for name in ("u", "y", "x0"))
    again = StateSpace.forward(SimpleNamespace(time_mesh=None, **w), u, y, x0)  # type: ignore[arg-type]
    scale = again.abs().amax((-2, -1), keepdim=True)
    if _apart(kept.output, again, scale, kept.unit):
        raise CannotReplay(
            "run again from its input and matrices it gives other outputs: its forward is not the one of its class, or "
            "its matrices were changed before the backward pass was over"
        )
    A = w["A"] if y is None else w["A"] - w["K"] @ w["C"]
    g = (g_output.to(A.dtype) @ w["C"]).reshape(-1, *g_output.shape[-2:-1], len(A))
    delta, _ = scan(Dense(A.mT), g, reverse=True)
    return [Replayed(0, "forward", delta.transpose(0, 1), None)]
