"""Backpropagation through time in its four steps, over an input whose stretches of time lie on ranks.

The steps are those of :mod:`retrograd.rnn.steps`; in the forward pass and in step 2 the scan is the one over the ranks,
and step 3 sums each weight's gradient over the ranks too.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from retrograd.core.backend import Backend
from retrograd.core.sequences import Sequences
from retrograd.core.transition import Dense
from retrograd.distributed.exchange import summed
from retrograd.distributed.kernels import Sharded
from retrograd.distributed.ranks import Ranks, ranks_of
from retrograd.distributed.shard import Shard
from retrograd.rnn.arguments import Arguments
from retrograd.rnn.gradients import Gradients, gradient_fields
from retrograd.rnn.loss import Loss
from retrograd.rnn.steps import Forward, Propagated, Start, accumulate, initialise, serving

__all__ = ["bptt"]


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
    group: Any = None,
    mesh: Any = None,
    timeout: float | None = None,
    backend: str = "auto",
) -> Gradients[Any]:
    """Run :func:`retrograd.bptt` over an input whose stretches of time lie on the ranks of ``torch.distributed``.

    All ranks call it, each with at least one step; the weights, h0 and ``grad_final`` are the same on every rank.

    Args:
        x: this rank's inputs, ``(batch, time, inputs)`` or ``(time, inputs)``, behind those of the rank before.
        weight_hh: W_hh; this and the next seven as :func:`retrograd.bptt` takes them.
        weight_ih: W_ih.
        bias: b.
        h0: state before the first input of all.
        grad_states: ∂L/∂h_t of this rank's steps.
        grad_final: ∂L/∂h_T; without it, ``grad_states`` and ``loss``, 1.
        loss: a function of this rank's outputs (states); L is the sum over the ranks.
        weight_out: C.
        bias_out: c.
        group: as :func:`retrograd.distributed.scan` takes it, and ``mesh``, ``timeout`` and ``backend``.
        mesh: instead of it a ``DeviceMesh`` of one dimension.
        timeout: seconds after which a rank that sends nothing counts as lost.
        backend: what runs.

    Returns:
        A :class:`retrograd.Gradients` record: of this rank's steps what has a row for every step; loss, ∂L/∂h_0 and the
        weights' gradients of all ranks together, on every rank, so that ``update`` does the same everywhere.

    Raises:
        TypeError: as :func:`retrograd.bptt` does.
        ValueError: as :func:`retrograd.bptt` does, or the ranks cannot be had.
        RankError: a rank is lost, or does something else.

    Examples:
        >>> from retrograd import distributed
        >>> x, w, v = torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[0.5]]), torch.tensor([[1.0]])
        >>> parts = [x[:1], x[1:]]
        >>> def work(ranks):
        ...     return distributed.bptt(parts[ranks.rank], weight_hh=w, weight_ih=v, group=ranks)
        >>> g, _ = distributed.simulate(2, work)
        >>> g.delta, g.weight_hh
        (tensor([[0.2500]]), tensor([[3.]]))
    """
    ranks = ranks_of(group, mesh, timeout)
    given = {
        "x": x,
        "weight_hh": weight_hh,
        "weight_ih": weight_ih,
        "bias": bias,
        "h0": h0,
        "weight_out": weight_out,
        "bias_out": bias_out,
    }
    p = Arguments(given, {"grad_states": grad_states, "grad_final": grad_final}, None, loss)
    kernels = serving(p, backend)
    sharded, A = _sharded(ranks, p, kernels), Dense(p.W_hh)
    states, _, entering = sharded.scan(A, kernels.linear(p.x, p.W_ih, p.b), p.h0)
    run = Forward(states, None if p.C is None else kernels.linear(states, p.C, p.c), p.x)
    start = initialise(p, run, kernels)
    # Every rank has ∂L/∂h_T, which counts once.
    final = start.final if ranks.rank == 0 else torch.zeros_like(start.final)
    delta, d_h0, _ = sharded.adjoint(A, start.states, final)
    back = Propagated(delta, d_h0, kernels.linear(delta, p.W_ih.mH))
    p.h0 = entering  # at this rank's first step, h_{t-1} is what entered
    weights = accumulate(p, run, start, back, kernels)
    value, d_h0, weights, others = _over_ranks(ranks, start, d_h0, weights)
    return Gradients(
        **gradient_fields(p, value, d_h0, weights, others, x=back.inputs),
        states=p.to_caller(states),
        outputs=p.to_caller(run.outputs),
        inputs=p.to_caller(run.inputs),
        delta=p.to_caller(delta),
        contributions=None,
        _given=p.given,
    )


def _sharded(ranks: Ranks, p: Arguments, kernels: Backend) -> Sharded:
    (batch, time, inputs), hidden = p.x.shape, p.W_hh.shape[0]
    shard = Shard(Sequences(batch, time), 0, time, kernels.view, p.x.device)
    dtype = str(p.dtype).removeprefix("torch.")
    starts = "a loss" if p.loss is not None else "∂L/∂h"
    sizes = f"batch {batch}, {inputs} inputs, hidden {hidden}, {p.outputs} outputs"
    return Sharded(ranks, shard, kernels.name, f"distributed.bptt, {sizes}, {dtype}, from {starts}")


def _over_ranks(
    ranks: Ranks, start: Start, d_h0: Tensor, weights: dict[str, Tensor]
) -> tuple[Tensor | None, Tensor, dict[str, Tensor], dict[Tensor, Tensor]]:
    """Return the loss, ∂L/∂h_0, the weights' gradients and those of what the loss reads, summed over the ranks."""
    value = [] if start.loss is None else [start.loss]
    parts = [*value, d_h0, *weights.values(), *start.others.values()]
    wide = torch.complex128 if any(x.is_complex() for x in parts) else torch.float64
    flat = torch.cat([x.to(wide).flatten() for x in parts])
    total = summed(ranks, f"distributed.bptt, {len(flat)} sums over steps", flat)
    found = [
        (one if x.is_complex() or not one.is_complex() else one.real).view(x.shape).to(x.dtype)
        for x, one in zip(parts, total.split([x.numel() for x in parts]), strict=True)
    ]
    first = found.pop(0) if value else None
    return (
        first,
        found[0],
        dict(zip(weights, found[1:], strict=False)),
        dict(zip(start.others, found[1 + len(weights) :], strict=True)),
    )
