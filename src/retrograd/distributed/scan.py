"""The scan over ranks as a differentiable operator.

Its rules are those of one process (:mod:`retrograd.core.adjoint`): S and S* are each other's adjoint, sharded as they
are, and the gradient of A is δ_t h_{t-1}^H, whose h_{t-1} at a rank's first step is what entered the rank.

    backward of S :  (∂u, ∂h_0)                  = S*(g, g_final, g_entering)   ∂A_t = δ_t h_{t-1}^H
    backward of S*:  (∂g, ∂g_final, ∂g_entering) = S(γ, γ_0)                    ∂A_t = δ_t η_{t-1}^H
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from retrograd.core.backend import Spec, select
from retrograd.core.dispatch import is_differentiated, is_watched
from retrograd.core.loop import carry_dtype
from retrograd.core.saving import Memory
from retrograd.core.scan import fitted, with_batch
from retrograd.core.sequences import Sequences
from retrograd.core.transition import Diagonal, Transition
from retrograd.distributed.kernels import Sharded
from retrograd.distributed.ranks import Ranks, ranks_of
from retrograd.distributed.shard import Shard
from retrograd.distributed.untraced import untraced

__all__ = ["previous", "scan"]


@untraced
def scan(
    A: Transition,
    u: Tensor,
    h0: Tensor | None = None,
    *,
    group: Any = None,
    mesh: Any = None,
    reverse: bool = False,
    lengths: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    reset: Tensor | None = None,
    timeout: float | None = None,
    memory: Memory = "all",
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Run :func:`retrograd.scan` over a time axis whose stretches lie on the ranks of ``torch.distributed``.

    Rank r holds the steps behind those of rank r - 1: any number of them, also none. All ranks call it, and all call
    ``backward``; then states and gradients are those of one process, up to rounding, to any order of derivative. Ranks
    tell each other what crosses their borders, whose size does not depend on how many steps there are.

    The loss is the sum of the ranks' losses. An array of which every rank has a copy (A where it is the same for all
    steps, h0, lengths) gets on each rank the part of its gradient that arises there, as the parameters of any layer
    that each rank applies to its own steps: their sum over the ranks is the gradient. DistributedDataParallel takes the
    mean, which is the gradient of the mean of the losses.

    Args:
        A: :class:`Dense` or :class:`Diagonal` transitions, the same for all steps or of this rank's steps.
        u: this rank's inputs, ``(batch, time, width)`` or ``(time, width)``; batch, width and dtype are the same on
            all ranks.
        h0: state before the first input of all, ``(batch, width)``, on every rank; zero by default.
        group: the process group of the ranks, in the order of time; by default all processes.
        mesh: instead of it a ``DeviceMesh`` of one dimension, as ``mesh["time"]``.
        reverse: run from the last step of all to the first.
        lengths: integers ``(batch,)`` of all ranks' steps together, the same on every rank.
        cu_seqlens: borders of packed sequences in all ranks' steps together, the same on every rank.
        reset: bool ``(batch, time)`` of this rank's steps.
        timeout: seconds after which a rank that sends nothing counts as lost; by default the group's own.
        memory: ``"all"`` or ``"auto"``: every rank keeps its states for the gradient of A.
        backend: as in :func:`retrograd.scan`.

    Returns:
        ``(states, final_state)``: of this rank's steps, and each sequence's last state, on every rank.

    Raises:
        NotImplementedError: ``memory`` bounds what is kept; the call is in forward mode, in a transform of torch.func,
            or of a subclass of Tensor. (A compiled function breaks its graph at the call, and serves it.)
        TypeError: as :func:`retrograd.scan` does.
        ValueError: as :func:`retrograd.scan` does, or the ranks cannot be had.
        RankError: a rank is lost, fails, or runs another scan than this one.
    """
    if memory not in ("all", "auto"):
        raise NotImplementedError(
            f"memory is {memory!r}, and distributed.scan keeps all states of its rank: give 'all', and more ranks"
        )
    ranks = ranks_of(group, mesh, timeout)
    u, h0, reset, batched, packed = with_batch(A, u, h0, lengths, cu_seqlens, reset)
    given = Sequences(u.shape[0], u.shape[1], lengths, cu_seqlens, reset, reverse)
    A, u, h0, _ = fitted(A, u, h0, given.count)
    # What crosses a border is a product of plain elements: logarithms are exponentiated here, in the carried precision.
    dtype = u.dtype
    held = carry_dtype(dtype) if A.structure == "log_diagonal" else dtype
    A, u, h0 = A.to(held).plain(), u.to(held), h0.to(held)
    _require_plain("distributed.scan", u, h0, *A.tensors)
    sharded = _sharded(ranks, A, u, h0, given, backend)
    states, final, _ = _Scan.apply(sharded, A, u, h0, *A.tensors)
    states, final = states.to(dtype), final.to(dtype)
    return states if batched else states[0], final if batched or packed else final[0]


@untraced
def previous(
    x: Tensor,
    first: Tensor,
    *,
    group: Any = None,
    mesh: Any = None,
    reverse: bool = False,
    cu_seqlens: Tensor | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return x of the step before every step within its sequence, across the ranks, and x of each sequence's last step.

    Args:
        x: this rank's steps, ``(batch, time, features)``.
        first: what enters each sequence's first step, ``(sequences, features)``, on every rank.
        group: as :func:`scan` takes it, and ``mesh``, ``reverse``, ``cu_seqlens`` and ``reset``.
        mesh: instead of it a ``DeviceMesh`` of one dimension.
        reverse: whether the step before is the one after in time.
        cu_seqlens: borders of packed sequences in all ranks' steps together.
        reset: at true steps of this rank nothing stands before.
    """
    ranks = ranks_of(group, mesh)
    given = Sequences(x.shape[0], x.shape[1], None, cu_seqlens, reset, reverse)
    _require_plain("distributed.previous", x, first)
    # A scan that forgets everything at once: what enters a rank is the last step of the one before.
    A, x, first, _ = fitted(Diagonal(x.new_zeros(x.shape[2])), x, first, given.count)
    sharded = _sharded(ranks, A, x, first, given, "auto")
    _, last, entering = _Scan.apply(sharded, A, x, first, *A.tensors)
    if x.numel():
        return sharded.shard.previous(x, first, entering), last
    # Of no steps too it stands in the graph: all ranks run its backward pass, or none does.
    return torch.cat((x, entering.unsqueeze(1)[:, :0]), 1), last


def _require_plain(what: str, *tensors: Tensor) -> None:
    """Refuse, before any message, what the other ranks may know nothing of."""
    if forward_ad._current_level >= 0 and any(forward_ad.unpack_dual(x).tangent is not None for x in tensors):
        raise NotImplementedError(f"{what} has no forward mode: take backward, or retrograd.scan in one process")
    if is_watched(*tensors):
        raise NotImplementedError(f"{what} takes plain tensors: none of a torch.func transform, and no subclass")


def _sharded(ranks: Ranks, A: Transition, u: Tensor, h0: Tensor, given: Sequences, backend: str) -> Sharded:
    """Return this rank's part of the scan, after the ranks have told each other how many steps each has."""
    kernels = select(backend, Spec.of(A, u, given, given.reverse))
    what = _what(A, u, h0, given)
    offset, total, known = _place(ranks, given)
    return Sharded(ranks, Shard(given, offset, total, kernels.view, u.device), kernels.name, what, known)


def _place(ranks: Ranks, given: Sequences) -> tuple[int, int, bool]:
    """Return where this rank's steps begin, how many all ranks have, and whether that may be so.

    As in the last call, or all ranks have as many steps: what is wrong shows in the exchange, which tells all ranks.
    """
    steps = given.time
    if given.kind == "whole" or ranks.size == 1:
        return 0, steps, True
    last = ranks.place
    offset, total = last[1:] if last is not None and last[0] == steps else (ranks.rank * steps, ranks.size * steps)
    if given.cu_seqlens is None:
        return offset, total, True
    together = int(given.cu_seqlens[-1])
    return offset, together, offset + steps <= together and (last is None or total == together)


def _what(A: Transition, u: Tensor, h0: Tensor, given: Sequences) -> str:
    """Return what all ranks must have in common, in words."""
    differentiated = torch.is_grad_enabled() and any(x.requires_grad for x in (*A.tensors, u, h0))
    words = [
        f"distributed.scan of {A.structure} transitions, batch {u.shape[0]}, width {u.shape[2]}",
        str(u.dtype).removeprefix("torch."),
        f"on {u.device.type}",
        f"{A.groups} transition{'s' if A.groups > 1 else ''} a step",
        f"{given.count} {given.kind} sequences",
        "reversed" if given.reverse else "forward",
        "with gradients" if differentiated else "without gradients",
    ]
    return ", ".join(words)


class _Scan(torch.autograd.Function):
    """S, with its reverse rule. Outputs (states, final states, what entered)."""

    @staticmethod
    def forward(ctx: Any, sharded: Sharded, A: Transition, u: Tensor, h0: Tensor, *tensors: Tensor) -> Any:
        states, final, entering = sharded.scan(A, u, h0)
        ctx.sharded, ctx.structure = sharded, type(A)
        ctx.save_for_backward(h0, states, entering, *tensors)
        ctx.set_materialize_grads(False)
        return states, final, entering

    @staticmethod
    def backward(ctx: Any, g: Tensor | None, g_final: Tensor | None, g_entering: Tensor | None) -> Any:
        h0, states, entering, *tensors = ctx.saved_tensors
        sharded, A = ctx.sharded, ctx.structure.of(tensors)
        g = _zeros(states) if g is None else g
        g_final = torch.zeros_like(h0) if g_final is None else g_final
        g_entering = torch.zeros_like(entering) if g_entering is None else g_entering
        wanted = True in ctx.needs_input_grad[4:]
        d_A: Any = (None,) * len(tensors)
        if is_differentiated():  # the gradient itself
            delta, d_h0 = _Adjoint.apply(sharded, A, g, g_final, g_entering, *tensors)
            if wanted:
                d_A = _gradient(sharded, A, delta, states, h0, entering)
            return None, None, delta, d_h0, *d_A
        saved = (states, h0, entering) if wanted else None
        delta, d_h0, found = sharded.adjoint(A, g, g_final, g_entering, saved)
        return None, None, delta, d_h0, *(d_A if found is None else A.like_given(found))


class _Adjoint(torch.autograd.Function):
    """S*, with its reverse rule. Outputs (δ, ∂L/∂h_0)."""

    @staticmethod
    def forward(
        ctx: Any, sharded: Sharded, A: Transition, g: Tensor, g_final: Tensor, g_entering: Tensor, *tensors: Tensor
    ) -> Any:
        delta, d_h0, _ = sharded.adjoint(A, g, g_final, g_entering)
        ctx.sharded, ctx.structure = sharded, type(A)
        ctx.save_for_backward(g_final, delta, *tensors)
        ctx.set_materialize_grads(False)
        return delta, d_h0

    @staticmethod
    def backward(ctx: Any, gamma: Tensor | None, gamma_0: Tensor | None) -> Any:
        g_final, delta, *tensors = ctx.saved_tensors
        sharded, A = ctx.sharded, ctx.structure.of(tensors)
        gamma = _zeros(delta) if gamma is None else gamma
        gamma_0 = torch.zeros_like(g_final) if gamma_0 is None else gamma_0
        eta, eta_final, entering = _Scan.apply(sharded, A, gamma, gamma_0, *tensors)
        d_A: Any = (None,) * len(tensors)
        if True in ctx.needs_input_grad[5:]:
            d_A = _gradient(sharded, A, delta, eta, gamma_0, entering)
        return None, None, eta, eta_final, entering, *d_A


def _gradient(
    sharded: Sharded, A: Transition, delta: Tensor, states: Tensor, h0: Tensor, entering: Tensor
) -> tuple[Tensor, ...]:
    """Return ∂A_t = δ_t h_{t-1}^H in the shapes of A's tensors."""
    if not delta.numel():
        return tuple(torch.zeros_like(x) for x in A.tensors)
    return A.like_given(A.gradient(delta, sharded.shard.previous(states, h0, entering)))


def _zeros(x: Tensor) -> Tensor:
    """Return zeros of x's shape that occupy one row."""
    return x.new_zeros(x.shape[-1]).expand(x.shape)
