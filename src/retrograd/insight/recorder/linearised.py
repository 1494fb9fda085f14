"""One layer of a recurrent network in one direction, linearised at the states it had, and its gradient propagated back.

With a_t = W_ih x_t + b_ih, b_t = W_hh h_{t-1} + b_hh, g_t what the loss and the layers above send straight into h_t,
s_t = ∂L/∂b_t, ⊙ between vectors left out, and h' and c' for the state before:

    linear      h = a + b                         s = δ                                a scan
    tanh, relu  h = φ(a + b)                      s = φ' δ
    GRU         h = (1 - z) n + z h'              s = (K_r, K_z, r K_n) δ              one more term: z_{t+1} δ_{t+1}
                r, z = σ(a + b)                   K_n = (1 - z) (1 - n²)
                n = tanh(a_n + r b_n)             K_r = K_n b_n r (1 - r)              K_z = (h' - n) z (1 - z)
    LSTM        h = o tanh c                      s = (K_i γ, K_f γ, K_k γ, K_o δ)     γ = dL/dc
                c = f c' + i k: a scan            γ_t = f_{t+1} γ_{t+1} + K_c δ_t      K_c = o (1 - tanh² c)
                i, f, o = σ(a + b)                K_i = k i (1 - i)                    K_f = c' f (1 - f)
                k = tanh(a + b)                   K_k = i (1 - k²)                     K_o = tanh(c) o (1 - o)

    δ_t = g_t + W_hhᵀ s_{t+1}                     ∂L/∂x_t = W_ihᵀ ∂L/∂a_t              ∂L/∂a = s but for K_n without r

The states are known, so the loop over time has the recurrence of δ alone. A projected LSTM has h = W_hr (o tanh c), and
W_hrᵀ δ in place of δ above. Arrays are (time, batch, features), zero behind the end of a sequence (``lengths``).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name everyone knows it by

from retrograd.core.scan import scan
from retrograd.core.transition import Dense, Diagonal, Transition

__all__ = ["Propagated", "Weights", "alive", "propagate", "run"]


@dataclass(frozen=True)
class Weights:
    """The weights of one layer in one direction, as torch names them."""

    ih: Tensor
    hh: Tensor
    b_ih: Tensor | None
    b_hh: Tensor | None
    hr: Tensor | None = None

    def listed(self) -> list[Tensor]:
        """Return the weights that are not None, in torch's order."""
        return [part for part in (self.ih, self.hh, self.b_ih, self.b_hh, self.hr) if part is not None]


@dataclass(frozen=True)
class Propagated:
    """δ_t of one layer and direction, dL/dc_t of an LSTM, ∂L/∂x_t if wanted, and h_t computed again from h_{t-1}."""

    delta: Tensor
    cell: Tensor | None
    below: Tensor | None
    again: Tensor


def alive(lengths: Tensor, steps: int) -> Tensor:
    """Return a mask ``(time, batch)`` of the steps before each sequence's end."""
    return torch.arange(steps, device=lengths.device)[:, None] < lengths


def run(kind: str, weights: list[Weights], x: Tensor, start: list[Tensor], lengths: Tensor | None) -> Tensor:
    """Run a layer forward; return its states, both directions side by side.

    Args:
        kind: ``"linear"``, ``"tanh"``, ``"relu"``, ``"gru"`` or ``"lstm"``.
        weights: of each direction.
        x: ``(time, batch, features)``.
        start: h_0, and of an LSTM c_0: ``(directions, batch, features)``.
        lengths: of the sequences, longest first; None where all are as long as x.
    """
    if kind == "linear":
        parts = [
            _scan(Dense(w.hh), _plus(F.linear(x, w.ih, w.b_ih), w.b_hh), start[0][number], bool(number), lengths)
            for number, w in enumerate(weights)
        ]
        return torch.cat(parts, -1)
    fused: Any = getattr(torch, {"tanh": "rnn_tanh", "relu": "rnn_relu"}.get(kind, kind))
    hx = start if kind == "lstm" else start[0]
    flat = [part for w in weights for part in w.listed()]
    rest = (flat, weights[0].b_ih is not None, 1, 0.0, False, len(weights) == 2)
    with warnings.catch_warnings():
        # cuDNN's advice to the owner of a whole layer's weights.
        warnings.filterwarnings("ignore", "RNN module weights are not part of single contiguous chunk")
        if lengths is None:
            return fused(x, hx, *rest, False)[0]  # type: ignore[no-any-return]
        here = alive(lengths, len(x))
        found = fused(x[here], here.sum(1).cpu(), hx, *rest)[0]
    return found.new_zeros(*x.shape[:2], found.shape[-1]).masked_scatter_(here[..., None], found)  # type: ignore[no-any-return]


def propagate(
    kind: str,
    weights: Weights,
    x: Tensor,
    states: Tensor,
    start: list[Tensor],
    g: Tensor,
    g_cell: Tensor | None,
    reverse: bool,
    lengths: Tensor | None,
    wants_below: bool,
) -> Propagated:
    """Propagate the gradient of every state of one direction back through time.

    Args:
        kind: as :func:`run` takes it.
        weights: of this direction.
        x: its input.
        states: h_t, as the layer computed them.
        start: h_0, and of an LSTM c_0: ``(batch, features)``.
        g: g_t, that of the final state included.
        g_cell: what the loss sends straight into the cells, of an LSTM.
        reverse: whether it runs from the last step to the first.
        lengths: as :func:`run` takes it.
        wants_below: whether ∂L/∂x_t is wanted.
    """
    before = _before(states, start[0], reverse, lengths)
    a, b = F.linear(x, weights.ih, weights.b_ih), F.linear(before, weights.hh, weights.b_hh)
    order = list(range(len(x))) if reverse else list(range(len(x)))[::-1]
    cell = None
    d_a: _Made  # ∂L/∂a, computed only if the layer below needs it
    if kind == "linear":
        again = a + b
        delta = _scan(Dense(weights.hh.mT), g, None, not reverse, lengths)
        d_a = partial(torch.clone, delta)
    elif kind == "gru":
        again, delta, d_a = _gru(a, b, before, g, weights.hh, order)
    elif kind == "lstm":
        after = _cells_of(start[1], reverse, lengths)
        again, delta, cell, d_a = _lstm(a + b, after, g, g_cell, weights, order)
    else:
        again = torch.tanh(a + b) if kind == "tanh" else torch.relu(a + b)
        # As in autograd, relu's slope at NaN is 1.
        slope = 1 - states.square() if kind == "tanh" else (~(states <= 0)).to(g.dtype)
        delta = _elman(slope, g, weights.hh, order)
        d_a = partial(torch.mul, slope, delta)
    below = d_a() @ weights.ih if wants_below else None
    if lengths is not None:
        here = alive(lengths, len(x))[..., None]
        delta, again = torch.where(here, delta, 0), torch.where(here, again, 0)
        below, cell = (None if part is None else torch.where(here, part, 0) for part in (below, cell))
    return Propagated(delta, cell, below, again)


def _scan(A: Transition, u: Tensor, h0: Tensor | None, reverse: bool, lengths: Tensor | None) -> Tensor:
    return scan(A, u.transpose(0, 1), h0, reverse=reverse, lengths=lengths)[0].transpose(0, 1)


def _plus(a: Tensor, bias: Tensor | None) -> Tensor:
    return a if bias is None else a + bias


def _before(states: Tensor, start: Tensor, reverse: bool, lengths: Tensor | None) -> Tensor:
    """Return the state that each step started from; zero behind a sequence's end."""
    if not reverse:
        before = torch.cat([start[None], states[:-1]])
    else:
        before = torch.cat([states[1:], start[None]])
        if lengths is not None:
            before[lengths - 1, torch.arange(len(lengths), device=lengths.device)] = start
    return before if lengths is None else torch.where(alive(lengths, len(states))[..., None], before, 0)


_Made = Callable[[], Tensor]
_Cells = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def _cells_of(c0: Tensor, reverse: bool, lengths: Tensor | None) -> _Cells:
    """Return a function from gates f and i k to an LSTM's cells c_t and c_{t-1}."""

    def cells(f: Tensor, ik: Tensor) -> tuple[Tensor, Tensor]:
        c = _scan(Diagonal(f.transpose(0, 1)), ik, c0, reverse, lengths)
        return c, _before(c, c0, reverse, lengths)

    return cells


def _elman(slope: Tensor, g: Tensor, W: Tensor, order: list[int]) -> Tensor:
    delta = g.clone()
    slopes, deltas = slope.unbind(), delta.unbind()
    for t, earlier in pairwise(order):
        deltas[earlier].addmm_(slopes[t] * deltas[t], W)
    return delta


def _gru(a: Tensor, b: Tensor, before: Tensor, g: Tensor, W: Tensor, order: list[int]) -> tuple[Tensor, Tensor, _Made]:
    (a_r, a_z, a_n), (b_r, b_z, b_n) = a.chunk(3, -1), b.chunk(3, -1)
    r, z = torch.sigmoid(a_r + b_r), torch.sigmoid(a_z + b_z)
    n = torch.tanh(a_n + r * b_n)
    K_n = (1 - z) * (1 - n.square())
    K_r, K_z = K_n * b_n * r * (1 - r), (before - n) * z * (1 - z)
    delta = g.clone()
    K, keeps, deltas = torch.stack([K_r, K_z, r * K_n], -2).unbind(), z.unbind(), delta.unbind()
    for t, earlier in pairwise(order):
        s = (K[t] * deltas[t][:, None]).flatten(1)
        deltas[earlier].addmm_(s, W).addcmul_(keeps[t], deltas[t])
    return (1 - z) * n + z * before, delta, lambda: torch.cat([K_r * delta, K_z * delta, K_n * delta], -1)


def _lstm(
    both: Tensor, cells: _Cells, g: Tensor, g_cell: Tensor | None, weights: Weights, order: list[int]
) -> tuple[Tensor, Tensor, Tensor, _Made]:
    i, f, k, o = both.chunk(4, -1)
    i, f, k, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(k), torch.sigmoid(o)
    c, before = cells(f, i * k)
    squashed = torch.tanh(c)
    K_c, K_o = o * (1 - squashed.square()), squashed * o * (1 - o)
    K = torch.stack([k * i * (1 - i), before * f * (1 - f), i * (1 - k.square())], -2)
    delta, gamma = g.clone(), torch.zeros_like(c) if g_cell is None else g_cell.clone()
    deltas, gammas, keeps = delta.unbind(), gamma.unbind(), f.unbind()
    steps = list(zip(K_c.unbind(), K.unbind(), K_o.unbind(), strict=True))
    for t, earlier in zip(order, [*order[1:], None], strict=True):
        opens, inner, out = steps[t]
        d_m = deltas[t] if weights.hr is None else deltas[t] @ weights.hr
        gammas[t].addcmul_(opens, d_m)
        if earlier is not None:
            s = torch.cat([(inner * gammas[t][:, None]).flatten(1), out * d_m], 1)
            deltas[earlier].addmm_(s, weights.hh)
            gammas[earlier].addcmul_(keeps[t], gammas[t])

    def d_a() -> Tensor:
        d_m = delta if weights.hr is None else delta @ weights.hr
        return torch.cat([(K * gamma[..., None, :]).flatten(2), K_o * d_m], -1)

    h = o * squashed
    return h if weights.hr is None else h @ weights.hr.mT, delta, gamma, d_a
