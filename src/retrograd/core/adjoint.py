"""The gradient of a scan is a scan.

    S(A, u, h_0):        h_t = A_t h_{t-1} + u_t                                      t = 1..T
    S*(A, g, g_final):   δ_T = g_T + g_final;  δ_{t-1} = g_{t-1} + A_t^H δ_t;  d_h0 = A_1^H δ_1

S and S* are each other's adjoint, and in both the gradient of A is the same outer product:

    backward of S :  (∂u, ∂h_0)      = S*(A, g, g_final)      ∂A_t = δ_t h_{t-1}^H
    backward of S*:  (∂g, ∂g_final)  = S(A, γ, γ_0) =: η      ∂A_t = δ_t η_{t-1}^H
    forward of S  :  S(A, u̇ + Ȧ_t h_{t-1}, ḣ_0)
    forward of S* :  S*(A, ġ_t + Ȧ_{t+1}^H δ_{t+1}, ġ_final),  and d_h0 gains Ȧ_1^H δ_1

so every order of derivative, in either mode, runs on the same two kernels. Where sequences are padded, packed or reset,
t-1 is the step before within a sequence: their *view* (`core/sequences.py`) says which one that is. The kernels are
`torch.library` operators (`core/operators.py`); the rules above stand on them as autograd Functions.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor
from torch.autograd import forward_ad

from retrograd.core import operators
from retrograd.core.dispatch import forward_levels, functorch_is_active, is_differentiated
from retrograd.core.loop import loop_adjoint, loop_scan
from retrograd.core.saving import borders, gradients_in_chunks
from retrograd.core.sequences import FORWARD, TENSORS, View, view_of
from retrograd.core.transition import STRUCTURES, Transition

__all__ = ["differentiable_adjoint", "differentiable_scan"]

# What a Function is given beside the tensors. A tracer is given it as one string (:func:`_written`).
_How = tuple[str, str, bool, str, int]
_STRUCTURE: Final = 0
_KIND: Final = 1  # of view
_REVERSE: Final = 2
_BACKEND: Final = 3
_CHUNK: Final = 4  # steps between the states that are kept; 0: all are
# Traced Functions have a parameter for each tensor of A and of the view: Dynamo of torch 2.6 counts parameters.
_Slot = Tensor | None
_EMPTY = (None,) * 6
# The same of an eager call: the transition, the view, backend, chunk, and whether a tracer may be active.
_Given = tuple[Transition, View, str, int, bool]


class _Scan(torch.autograd.Function):
    """S, with its reverse rule. Outputs (states, final states)."""

    generate_vmap_rule = True

    @staticmethod
    def compute(A: Transition, view: View, backend: str, u: Tensor, h0: Tensor, watched: bool) -> Any:
        states = operators.scan(A, u, h0, view, backend, watched)
        if not watched and view is FORWARD:  # the commonest: one operation, which vmap has no rule for, not two
            return states, torch.select_copy(states, 1, -1)
        return states, view.last(states, h0)

    @staticmethod
    def kept(how: _How, u: Tensor, h0: Tensor, output: Any) -> tuple[Tensor, ...]:
        chunk = how[_CHUNK]
        return (h0, u, borders(output[0], chunk, how[_REVERSE])) if chunk else (h0, output[0])

    @staticmethod
    def forward(
        names: str, u: Tensor, h0: Tensor, t0: _Slot, t1: _Slot, t2: _Slot, t3: _Slot, t4: _Slot, t5: _Slot
    ) -> Any:
        how = _read(names)
        return _Scan.compute(*_parts(how, (t0, t1, t2, t3, t4, t5)), how[_BACKEND], u, h0, True)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        names, u, h0, *tensors = inputs
        how = _read(names)
        _save(ctx, how, _Scan.kept(how, u, h0, output), [x for x in tensors if x is not None])

    @staticmethod
    def backward(ctx: Any, g: Tensor | None, g_final: Tensor | None) -> Any:
        kept, A, view = _saved(ctx)
        h0, backend, chunk = kept[0], ctx.how[_BACKEND], ctx.how[_CHUNK]
        if g is None and g_final is None:
            return (None,) * len(ctx.needs_input_grad)
        g = _zeros(kept[1]) if g is None else g
        g_final = torch.zeros_like(h0) if g_final is None else g_final
        d_A: Any = (None,) * len(A.tensors)
        wanted = True in ctx.needs_input_grad[3:]
        if is_differentiated():  # the gradient itself
            delta, d_h0 = differentiable_adjoint(A, g, g_final, view, backend)
            if wanted:
                states = differentiable_scan(A, kept[1], h0, view, backend)[0] if chunk else kept[1]
                d_A = A.like_given(A.gradient(delta, view.previous(states, h0)))
        elif not wanted:
            delta, d_h0 = operators.adjoint(A, g, g_final, view, backend)
        elif chunk:
            delta, d_h0, d_A = gradients_in_chunks(A, kept[1], h0, kept[2], g, g_final, view, backend, chunk)
        else:
            delta, d_h0, d_A = operators.gradients(A, g, g_final, kept[1], h0, view, backend)
        return (None, delta, d_h0, *d_A, *(None,) * (len(ctx.needs_input_grad) - 3 - len(d_A)))


class _Adjoint(torch.autograd.Function):
    """S*, with its reverse rule. Outputs (δ, d_h0)."""

    generate_vmap_rule = True

    @staticmethod
    def compute(A: Transition, view: View, backend: str, g: Tensor, g_final: Tensor, watched: bool) -> Any:
        return operators.adjoint(A, g, g_final, view, backend)

    @staticmethod
    def kept(how: _How, g: Tensor, g_final: Tensor, output: Any) -> tuple[Tensor, ...]:
        return g_final, output[0]

    @staticmethod
    def forward(
        names: str, g: Tensor, g_final: Tensor, t0: _Slot, t1: _Slot, t2: _Slot, t3: _Slot, t4: _Slot, t5: _Slot
    ) -> Any:
        how = _read(names)
        return _Adjoint.compute(*_parts(how, (t0, t1, t2, t3, t4, t5)), how[_BACKEND], g, g_final, True)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        names, g, g_final, *tensors = inputs
        how = _read(names)
        _save(ctx, how, _Adjoint.kept(how, g, g_final, output), [x for x in tensors if x is not None])

    @staticmethod
    def backward(ctx: Any, gamma: Tensor | None, gamma_0: Tensor | None) -> Any:
        (g_final, delta), A, view = _saved(ctx)
        if gamma is None and gamma_0 is None:
            return (None,) * len(ctx.needs_input_grad)
        gamma = _zeros(delta) if gamma is None else gamma
        gamma_0 = torch.zeros_like(g_final) if gamma_0 is None else gamma_0
        eta, eta_final = differentiable_scan(A, gamma, gamma_0, view, ctx.how[_BACKEND])
        d_A: Any = (None,) * len(A.tensors)
        if True in ctx.needs_input_grad[3:]:
            d_A = A.like_given(A.gradient(delta, view.previous(eta, gamma_0)))
        return (None, eta, eta_final, *d_A, *(None,) * (len(ctx.needs_input_grad) - 3 - len(d_A)))


def _scan_jvp(ctx: Any, *tangents: Any) -> Any:
    (h0, states), A, view = _saved(ctx)
    u_dot, h0_dot, *A_dot = tangents[1 : 3 + len(A.tensors)]
    drive = _zeros(states) if u_dot is None else u_dot
    through = None
    if any(x is not None for x in A_dot):
        through = A.tangent_act(A_dot, view.previous(states, h0))
    drive = drive if through is None else drive + through
    h0_dot = torch.zeros_like(h0) if h0_dot is None else h0_dot
    return differentiable_scan(A, drive, h0_dot, view, ctx.how[_BACKEND])


def _adjoint_jvp(ctx: Any, *tangents: Any) -> Any:
    (g_final, delta), A, view = _saved(ctx)
    g_dot, g_final_dot, *A_dot = tangents[1 : 3 + len(A.tensors)]
    drive = _zeros(delta) if g_dot is None else g_dot
    through = A.tangent_adjoint_act(A_dot, delta)  # Ȧ_t^H δ_t, which enters one step earlier
    if through is not None:
        drive = drive + view.following(through, g_final)
    g_final_dot = torch.zeros_like(g_final) if g_final_dot is None else g_final_dot
    delta_dot, d_h0_dot = differentiable_adjoint(A, drive, g_final_dot, view, ctx.how[_BACKEND])
    return delta_dot, d_h0_dot if through is None else d_h0_dot + view.first(through, g_final)


def differentiable_scan(
    A: Transition, u: Tensor, h0: Tensor, view: View, backend: str, chunk: int = 0, watched: bool = True
) -> tuple[Tensor, Tensor]:
    """Return (states, final states) of S on the named backend, differentiable to any order.

    Args:
        A: the transitions, in any shapes that broadcast.
        u: ``(batch, time, width)``, none of which is 0.
        h0: a row for every sequence, ``(sequences, width)``.
        view: which steps follow one another.
        backend: a name in ``BACKENDS``.
        chunk: steps between the states that are kept for the gradient; 0 keeps all.
        watched: whether a tracer or a transformation may be active (:func:`retrograd.core.dispatch.is_watched`).
    """
    if not watched:
        states, final = _EAGER[_Scan].apply((A, view, backend, chunk, False), u, h0, *A.tensors, *view.tensors)
        return states, final
    if forward_levels() > 1:  # torch's custom functions lose the outer tangent
        states = loop_scan(A, u, h0, view)
        return states, view.last(states, h0)
    states, final = _apply(_Scan, A, view, backend, chunk, u, h0)
    return states, final


def differentiable_adjoint(
    A: Transition, g: Tensor, g_final: Tensor, view: View, backend: str
) -> tuple[Tensor, Tensor]:
    """Return (δ, d_h0) of S*, differentiable to any order."""
    if forward_levels() > 1:  # torch's custom functions lose the outer tangent
        delta, d_h0 = loop_adjoint(A, g, g_final, view)
        return delta.to(g.dtype), d_h0
    delta, d_h0 = _apply(_Adjoint, A, view, backend, 0, g, g_final)
    return delta, d_h0


# --- Functions and their arguments ---


def _written(A: Transition, view: View, backend: str) -> str:
    """Return the constants as one string, the only kind of argument that every tracer passes on as it is."""
    return f"{A.structure} {view.kind} {'reverse' if view.reverse else 'forward'} {backend}"


def _read(names: str) -> _How:
    structure, kind, direction, backend = names.split()
    return structure, kind, direction == "reverse", backend, 0


def _parts(how: _How, tensors: Any) -> tuple[Transition, View]:
    """Return the transition and the view whose tensors these are; behind them may be empty slots."""
    structure, kind = STRUCTURES[how[_STRUCTURE]], how[_KIND]
    count = len(structure.ranks)
    return structure.of(tensors[:count]), view_of(kind, tensors[count : count + TENSORS[kind]], how[_REVERSE])


def _save(ctx: Any, how: _How, kept: tuple[Tensor, ...], tensors: Any, watched: bool = True) -> None:
    ctx.how = how
    ctx.save_for_backward(*kept, *tensors)
    if forward_ad._current_level >= 0 or (watched and (torch.compiler.is_compiling() or functorch_is_active())):
        ctx.save_for_forward(*kept, *tensors)
    ctx.set_materialize_grads(False)


def _saved(ctx: Any) -> tuple[tuple[Tensor, ...], Transition, View]:
    """Return what :func:`_save` was given: what is kept, the transition and the view."""
    count = 3 if ctx.how[_CHUNK] else 2
    tensors = ctx.saved_tensors
    return tensors[:count], *_parts(ctx.how, tensors[count:])


def _zeros(x: Tensor) -> Tensor:
    """Return zeros of x's shape that occupy one row."""
    return x.new_zeros(x.shape[-1]).expand(x.shape)


# Function.apply looks for torch.func's transformations, which eager calls have been asked about: its base does not.
_Base: Any = getattr(torch.autograd.function, "_SingleLevelFunction", torch.autograd.Function)


def _eager(function: Any, jvp: Any) -> Any:
    """Return the rules of ``function`` as one without a separate setup, which is half as long a way to a small scan.

    It is given the transition and the view themselves, beside their tensors.
    """

    def forward(ctx: Any, given: _Given, x: Tensor, rows: Tensor, *tensors: Tensor) -> Any:
        A, view, backend, chunk, watched = given
        output = function.compute(A, view, backend, x, rows, watched)
        if forward_ad._current_level >= 0:
            # torch wants tangents of a view laid out as the view; of a tensor of its own, in any layout.
            output = tuple(x.clone() if x._is_view() else x for x in output)
        how = A.structure, view.kind, view.reverse, backend, chunk
        _save(ctx, how, function.kept(how, x, rows, output), tensors, watched)
        return output

    rules = {"forward": forward, "backward": function.backward, "jvp": jvp}
    return type(function.__name__.strip("_"), (_Base,), {name: staticmethod(rule) for name, rule in rules.items()})


# Dynamo refuses a Function with a forward rule of its own: it gets the plain ones; functorch (vmap, jvp, grad) their
# twins with that rule; all other calls the eager ones.
_WITH_JVP: dict[type[torch.autograd.Function], Any] = {
    _Scan: type("Scan", (_Scan,), {"jvp": staticmethod(_scan_jvp)}),
    _Adjoint: type("Adjoint", (_Adjoint,), {"jvp": staticmethod(_adjoint_jvp)}),
}
_EAGER = {_Scan: _eager(_Scan, _scan_jvp), _Adjoint: _eager(_Adjoint, _adjoint_jvp)}


def _apply(function: Any, A: Transition, view: View, backend: str, chunk: int, x: Tensor, rows: Tensor) -> Any:
    if torch.compiler.is_compiling() or functorch_is_active():
        traced = function if torch.compiler.is_compiling() else _WITH_JVP[function]
        slots = (*A.tensors, *view.tensors, *_EMPTY[len(A.tensors) + len(view.tensors) :])
        return traced.apply(_written(A, view, backend), x, rows, *slots)
    return _EAGER[function].apply((A, view, backend, chunk, True), x, rows, *A.tensors, *view.tensors)
