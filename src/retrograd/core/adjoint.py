"""The gradient of a scan is a scan.

    S(A, u, h_0):        h_t = A_t h_{t-1} + u_t                                      t = 1..T
    S*(A, g, g_final):   δ_T = g_T + g_final;  δ_{t-1} = g_{t-1} + A_t^H δ_t;  d_h0 = A_1^H δ_1

S and S* are each other's adjoint, and in both the gradient of A is the same outer product:

    backward of S :  (∂u, ∂h_0)      = S*(A, g, g_final)      ∂A_t = δ_t h_{t-1}^H
    backward of S*:  (∂g, ∂g_final)  = S(A, γ, γ_0) =: η      ∂A_t = δ_t η_{t-1}^H
    forward of S  :  S(A, u̇ + Ȧ_t h_{t-1}, ḣ_0)
    forward of S* :  S*(A, ġ_t + Ȧ_{t+1}^H δ_{t+1}, ġ_final),  and d_h0 gains Ȧ_1^H δ_1

so every order of derivative, in either mode, runs on the same two kernels. Where a table of segments
(`core/sequences.py`) says which steps follow one another, t-1 is the step before within a segment. The kernels
are `torch.library` operators (with shapes for tracing and a batching rule); the rules above stand on them as autograd
Functions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from retrograd.core.backend import BACKENDS
from retrograd.core.operators import call, functorch_is_active, library
from retrograd.core.sequences import gather_states, previous_states, repeat_segments
from retrograd.core.transition import apply_adjoint, apply_transition, transition_gradient

__all__ = ["adjoint_and_gradient", "differentiable_scan"]

# --- the kernels as operators ---

library.define("scan(Tensor A, Tensor u, Tensor h0, Tensor? segments, bool reverse, str backend) -> Tensor")
library.define(
    "adjoint(Tensor A, Tensor g, Tensor g_final, Tensor? segments, bool reverse, str backend) -> (Tensor, Tensor)"
)
library.define(
    "gradients(Tensor A, Tensor g, Tensor g_final, Tensor states, Tensor h0, Tensor? segments, bool reverse,"
    " str backend) -> (Tensor, Tensor, Tensor)"
)


def _scan_kernel(A: Tensor, u: Tensor, h0: Tensor, segments: Tensor | None, reverse: bool, backend: str) -> Tensor:
    return BACKENDS[backend].scan(A, u, h0, reverse, segments)


def _adjoint_kernel(
    A: Tensor, g: Tensor, g_final: Tensor, segments: Tensor | None, reverse: bool, backend: str
) -> tuple[Tensor, Tensor]:
    delta, d_h0, _ = BACKENDS[backend].adjoint(A, g, g_final, reverse, segments=segments)
    return delta, d_h0


def _gradients_kernel(
    A: Tensor,
    g: Tensor,
    g_final: Tensor,
    states: Tensor,
    h0: Tensor,
    segments: Tensor | None,
    reverse: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    delta, d_h0, d_A = BACKENDS[backend].adjoint(A, g, g_final, reverse, states, h0, segments)
    assert d_A is not None
    return delta, d_h0, d_A


def _like(x: Tensor) -> Tensor:
    return x.new_empty(x.shape)


for _name, _kernel, _shapes in (
    ("scan", _scan_kernel, lambda A, u, *_: _like(u)),
    ("adjoint", _adjoint_kernel, lambda A, g, g_final, *_: (_like(g), _like(g_final))),
    ("gradients", _gradients_kernel, lambda A, g, g_final, *_: (_like(g), _like(g_final), _like(A))),
):
    library.impl(_name, _kernel, "CompositeExplicitAutograd")
    torch.library.register_fake(f"retrograd::{_name}", _shapes, lib=library)

_ops = torch.ops.retrograd


def _lead(x: Tensor, dim: int | None, size: int) -> Tensor:
    """Return x with its batched dimension first, or expanded to have one."""
    return x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)


def _scan_vmap(
    info: Any, in_dims: Any, A: Tensor, u: Tensor, h0: Tensor, segments: Tensor | None, reverse: bool, backend: str
) -> Any:
    arrays = list(zip((u, h0), in_dims[1:3], strict=True))
    A_, place, (u_, h0_), table = _fold(info.batch_size, in_dims[0], A, arrays, segments)
    states = _ops.scan(A_, u_, h0_, table, reverse, backend)
    return _unfold(states, info.batch_size, place), place


def _adjoint_vmap(
    info: Any, in_dims: Any, A: Tensor, g: Tensor, g_final: Tensor, segments: Tensor | None, reverse: bool, backend: str
) -> Any:
    arrays = list(zip((g, g_final), in_dims[1:3], strict=True))
    A_, place, (g_, g_final_), table = _fold(info.batch_size, in_dims[0], A, arrays, segments)
    delta, d_h0 = _ops.adjoint(A_, g_, g_final_, table, reverse, backend)
    return (_unfold(delta, info.batch_size, place), _unfold(d_h0, info.batch_size, place)), (place, place)


def _gradients_vmap(
    info: Any,
    in_dims: Any,
    A: Tensor,
    g: Tensor,
    g_final: Tensor,
    states: Tensor,
    h0: Tensor,
    segments: Tensor | None,
    reverse: bool,
    backend: str,
) -> Any:
    size = info.batch_size
    # Every sample has a d_A of its own, so that A gets a group for each even where it is shared.
    arrays = list(zip((g, g_final, states, h0), in_dims[1:5], strict=True))
    A_, _, folded, table = _fold(size, 0, _lead(A, in_dims[0], size), arrays, segments)
    out = _ops.gradients(A_, *folded, table, reverse, backend)
    return tuple(_unfold(x, size, 0) for x in out), (0, 0, 0)


def _fold(
    size: int, A_dim: int | None, A: Tensor, arrays: list[tuple[Tensor, int | None]], segments: Tensor | None
) -> tuple[Tensor, int, list[Tensor], Tensor | None]:
    """Fold the batched dimension into the batch; return A, the dimension's place before folding, arrays, segments.

    A row finds its transition by integer division, so a shared A with several groups wants the new dimension
    inside the batch (place 1), any other outside (place 0). The first array is (batch, time, width), the second has a
    row for every start.
    """
    batched = [_lead(x, dim, size) for x, dim in arrays]
    if A_dim is not None:
        A, place = A.movedim(A_dim, 0).flatten(0, 1), 0
    else:
        place = 0 if A.shape[0] == 1 else 1
    if segments is not None:
        segments = repeat_segments(segments, size, place, batched[0].shape[1], batched[1].shape[1])
    return A, place, [x.movedim(0, place).flatten(0, 1) for x in batched], segments


def _unfold(x: Tensor, size: int, place: int) -> Tensor:
    shape = (size, -1, *x.shape[1:]) if place == 0 else (-1, size, *x.shape[1:])
    return x.reshape(shape)


torch.library.register_vmap("retrograd::scan", _scan_vmap, lib=library)
torch.library.register_vmap("retrograd::adjoint", _adjoint_vmap, lib=library)
torch.library.register_vmap("retrograd::gradients", _gradients_vmap, lib=library)

# --- the rules of differentiation ---


class _Scan(torch.autograd.Function):
    """S, with its reverse rule. Outputs (states, final states)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        A: Tensor, u: Tensor, h0: Tensor, segments: Tensor | None, reverse: bool, backend: str
    ) -> tuple[Tensor, Tensor]:
        states = call("scan", _scan_kernel, A, u, h0, segments, reverse, backend)
        if segments is not None:
            return states, gather_states(states, segments, "last", reverse, h0)
        return states, states.select(1, 0 if reverse else -1).clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        A, _, h0, segments, ctx.reverse, ctx.backend = inputs
        _save(ctx, segments, A, h0, output[0])

    @staticmethod
    def backward(ctx: Any, g: Tensor | None, g_final: Tensor | None) -> Any:
        A, h0, states, segments = _saved(ctx)
        if g is None and g_final is None:
            return (None,) * 6
        g = _zeros(states) if g is None else g
        g_final = torch.zeros_like(h0) if g_final is None else g_final
        if ctx.needs_input_grad[0] and not torch.is_grad_enabled():
            delta, d_h0, d_A = call(
                "gradients", _gradients_kernel, A, g, g_final, states, h0, segments, ctx.reverse, ctx.backend
            )
            return d_A, delta, d_h0, None, None, None
        # The gradient may itself be differentiated.
        delta, d_h0, d_A = adjoint_and_gradient(
            A, g, g_final, states if ctx.needs_input_grad[0] else None, h0, segments, ctx.reverse, ctx.backend
        )
        return d_A, delta, d_h0, None, None, None


class _Adjoint(torch.autograd.Function):
    """S*, with its reverse rule. Outputs (δ, d_h0)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        A: Tensor, g: Tensor, g_final: Tensor, segments: Tensor | None, reverse: bool, backend: str
    ) -> tuple[Tensor, Tensor]:
        delta, d_h0 = call("adjoint", _adjoint_kernel, A, g, g_final, segments, reverse, backend)
        return delta, d_h0

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        A, _, g_final, segments, ctx.reverse, ctx.backend = inputs
        _save(ctx, segments, A, g_final, output[0])

    @staticmethod
    def backward(ctx: Any, gamma: Tensor | None, gamma_0: Tensor | None) -> Any:
        A, g_final, delta, segments = _saved(ctx)
        if gamma is None and gamma_0 is None:
            return (None,) * 6
        gamma = _zeros(delta) if gamma is None else gamma
        gamma_0 = torch.zeros_like(g_final) if gamma_0 is None else gamma_0
        eta, eta_final = _apply(_Scan, A, gamma, gamma_0, segments, ctx.reverse, ctx.backend)
        d_A = None
        if ctx.needs_input_grad[0]:
            d_A = transition_gradient(A, delta, previous_states(eta, gamma_0, ctx.reverse, segments))
        return d_A, eta, eta_final, None, None, None


def _save(ctx: Any, segments: Tensor | None, *tensors: Tensor) -> None:
    kept = tensors if segments is None else (*tensors, segments)
    ctx.save_for_backward(*kept)
    ctx.save_for_forward(*kept)
    ctx.set_materialize_grads(False)


def _saved(ctx: Any) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    first, second, third, *segments = ctx.saved_tensors
    return first, second, third, segments[0] if segments else None


def _zeros(x: Tensor) -> Tensor:
    """Return zeros of x's shape that occupy one row."""
    return x.new_zeros(x.shape[-1]).expand(x.shape)


def _scan_jvp(ctx: Any, A_dot: Any, u_dot: Any, h0_dot: Any, *_: Any) -> Any:
    A, h0, states, segments = _saved(ctx)
    drive = _zeros(states) if u_dot is None else u_dot
    if A_dot is not None:
        drive = drive + apply_transition(A_dot, previous_states(states, h0, ctx.reverse, segments))
    h0_dot = torch.zeros_like(h0) if h0_dot is None else h0_dot
    return _apply(_Scan, A, drive, h0_dot, segments, ctx.reverse, ctx.backend)


def _adjoint_jvp(ctx: Any, A_dot: Any, g_dot: Any, g_final_dot: Any, *_: Any) -> Any:
    A, g_final, delta, segments = _saved(ctx)
    drive = _zeros(delta) if g_dot is None else g_dot
    nothing = torch.zeros_like(g_final)
    through = into_h0 = None
    if A_dot is not None:
        through = apply_adjoint(A_dot, delta)  # Ȧ_t^H δ_t, which enters one step earlier
        if segments is None:
            drive = drive + previous_states(through, nothing, not ctx.reverse)
            into_h0 = through[:, -1 if ctx.reverse else 0]
        else:
            drive = drive + gather_states(through, segments, "next", ctx.reverse, nothing)
            into_h0 = gather_states(through, segments, "first", ctx.reverse, nothing)
    g_final_dot = nothing if g_final_dot is None else g_final_dot
    delta_dot, d_h0_dot = _apply(_Adjoint, A, drive, g_final_dot, segments, ctx.reverse, ctx.backend)
    return delta_dot, d_h0_dot if into_h0 is None else d_h0_dot + into_h0


def _eager(function: type[torch.autograd.Function], jvp: Any) -> type[torch.autograd.Function]:
    """Return the rules of ``function`` as one without a separate setup, which is half as long a way to a small scan."""

    class Eager(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> Any:
            output = function.forward(*inputs)
            function.setup_context(ctx, inputs, output)
            return output

    Eager.__name__ = function.__name__.strip("_")
    Eager.backward = staticmethod(function.backward)  # type: ignore[method-assign]
    Eager.jvp = staticmethod(jvp)  # type: ignore[method-assign]
    return Eager


# Dynamo refuses a Function with a forward rule of its own: it gets the plain ones; functorch (vmap, jvp, grad) their
# twins with that rule; all other calls the eager ones.
_WITH_JVP: dict[type[torch.autograd.Function], Any] = {
    _Scan: type("Scan", (_Scan,), {"jvp": staticmethod(_scan_jvp)}),
    _Adjoint: type("Adjoint", (_Adjoint,), {"jvp": staticmethod(_adjoint_jvp)}),
}
_EAGER = {_Scan: _eager(_Scan, _scan_jvp), _Adjoint: _eager(_Adjoint, _adjoint_jvp)}


def _apply(function: type[torch.autograd.Function], *args: Any) -> Any:
    if torch.compiler.is_compiling():
        return function.apply(*args)
    return (_WITH_JVP if functorch_is_active() else _EAGER)[function].apply(*args)


def adjoint_and_gradient(
    A: Tensor,
    g: Tensor,
    g_final: Tensor,
    states: Tensor | None,
    h0: Tensor,
    segments: Tensor | None,
    reverse: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return (δ, d_h0) of S* and ∂L/∂A, the last where states are given; all differentiable themselves."""
    delta, d_h0 = _apply(_Adjoint, A, g, g_final, segments, reverse, backend)
    if states is None:
        return delta, d_h0, None
    return delta, d_h0, transition_gradient(A, delta, previous_states(states, h0, reverse, segments))


def differentiable_scan(
    A: Tensor, u: Tensor, h0: Tensor, reverse: bool, backend: str, segments: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return (states, final states) of S on the named backend, differentiable to any order.

    Args:
        A: ``(groups, steps, D)`` or ``(groups, steps, H, H)``.
        u: ``(batch, time, width)``, time ≥ 1.
        h0: ``(batch, width)``, or a row for every start in ``segments``.
        reverse: run from the last step to the first.
        backend: a name in ``BACKENDS``.
        segments: which steps follow one another (:mod:`retrograd.core.sequences`); None: every row is one sequence.
    """
    states, final = _apply(_Scan, A, u, h0, segments, reverse, backend)
    return states, final
