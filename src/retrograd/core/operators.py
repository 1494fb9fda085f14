"""The kernels of the scan and its adjoint as torch operators: shapes for tracing, a batching rule for vmap.

Arguments are what a tracer can carry: the structure's name and its tensors, the kind of view and its tensors, the
backend's name. Results are contiguous tensors; the gradients of A's tensors lie one after the other in one, as torch
batches no operator that returns a list.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from retrograd.core.backend import BACKENDS
from retrograd.core.dispatch import batched_gradient_level, is_watched, library
from retrograd.core.sequences import View, view_of
from retrograd.core.transition import STRUCTURES, Transition

__all__ = ["adjoint", "gradients", "scan"]

_LAST = "str view, Tensor[] sequences, bool reverse, str backend"
library.define(f"scan(str structure, Tensor[] A, Tensor u, Tensor h0, {_LAST}) -> Tensor")
library.define(f"adjoint(str structure, Tensor[] A, Tensor g, Tensor g_final, {_LAST}) -> (Tensor, Tensor)")
library.define(
    "gradients(str structure, Tensor[] A, Tensor g, Tensor g_final, Tensor states, Tensor h0, "
    f"{_LAST}) -> (Tensor, Tensor, Tensor)"
)
_ops = torch.ops.retrograd


def scan(A: Transition, u: Tensor, h0: Tensor, view: View, backend: str, watched: bool = True) -> Tensor:
    """Return the states of S. ``watched``: whether a tracer or a transformation may be active."""
    if watched and is_watched(*A.tensors, u, h0):
        states: Tensor = _call("scan", A, (u, h0), view, backend)
        return states
    return BACKENDS[backend].scan(A, u, h0, view)


def adjoint(A: Transition, g: Tensor, g_final: Tensor, view: View, backend: str) -> tuple[Tensor, Tensor]:
    """Return (δ, d_h0) of S*."""
    if is_watched(*A.tensors, g, g_final):
        delta, d_h0 = _call("adjoint", A, (g, g_final), view, backend)
        return delta, d_h0
    delta, d_h0, _ = BACKENDS[backend].adjoint(A, g, g_final, view)
    return delta, d_h0


def gradients(
    A: Transition, g: Tensor, g_final: Tensor, states: Tensor, h0: Tensor, view: View, backend: str
) -> tuple[Tensor, Tensor, Sequence[Tensor]]:
    """Return (δ, d_h0) of S* and ∂L/∂A."""
    if is_watched(*A.tensors, g, g_final):
        delta, d_h0, flat = _call("gradients", A, (g, g_final, states, h0), view, backend)
        parts = flat.split([x.numel() for x in A.tensors])
        return delta, d_h0, [part.view(x.shape) for part, x in zip(parts, A.tensors, strict=True)]
    delta, d_h0, d_A = BACKENDS[backend].adjoint(A, g, g_final, view, states, h0)
    assert d_A is not None
    return delta, d_h0, A.like_given(d_A)


def _call(name: str, A: Transition, arrays: tuple[Tensor, ...], view: View, backend: str) -> Any:
    args: Any = A.structure, list(A.tensors), *arrays, view.kind, list(view.tensors), view.reverse, backend
    level = batched_gradient_level()
    return _of_batched_gradients(name, level, *args) if level else getattr(_ops, name)(*args)


# --- what an operator runs ---


def _scan(
    structure: str,
    A: list[Tensor],
    u: Tensor,
    h0: Tensor,
    view: str,
    sequences: list[Tensor],
    reverse: bool,
    backend: str,
) -> Tensor:
    transition = STRUCTURES[structure].of(A)
    return BACKENDS[backend].scan(transition, u, h0, view_of(view, sequences, reverse)).contiguous()


def _adjoint(
    structure: str,
    A: list[Tensor],
    g: Tensor,
    g_final: Tensor,
    view: str,
    sequences: list[Tensor],
    reverse: bool,
    backend: str,
) -> tuple[Tensor, Tensor]:
    transition = STRUCTURES[structure].of(A)
    delta, d_h0, _ = BACKENDS[backend].adjoint(transition, g, g_final, view_of(view, sequences, reverse))
    return delta.contiguous(), d_h0.contiguous()


def _gradients(
    structure: str,
    A: list[Tensor],
    g: Tensor,
    g_final: Tensor,
    states: Tensor,
    h0: Tensor,
    view: str,
    sequences: list[Tensor],
    reverse: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    transition = STRUCTURES[structure].of(A)
    steps = view_of(view, sequences, reverse)
    delta, d_h0, d_A = BACKENDS[backend].adjoint(transition, g, g_final, steps, states, h0)
    assert d_A is not None
    flat = [x.reshape(-1) for x in d_A]
    return delta.contiguous(), d_h0.contiguous(), flat[0] if len(flat) == 1 else torch.cat(flat)


def _like(x: Tensor) -> Tensor:
    return x.new_empty(x.shape)


def _flat(A: Sequence[Tensor]) -> Tensor:
    return A[0].new_empty(sum(x.numel() for x in A))


for _name, _kernel, _shapes in (
    ("scan", _scan, lambda structure, A, u, *_: _like(u)),
    ("adjoint", _adjoint, lambda structure, A, g, g_final, *_: (_like(g), _like(g_final))),
    ("gradients", _gradients, lambda structure, A, g, g_final, *_: (_like(g), _like(g_final), _flat(A))),
):
    library.impl(_name, _kernel, "CompositeExplicitAutograd")
    torch.library.register_fake(f"retrograd::{_name}", _shapes, lib=library)

# --- vmap ---


class _Folded:
    """Arguments whose batched dimension is folded into the batch.

    A row finds its transition by integer division, so a shared A with several groups wants the new dimension inside the
    batch (place 1), any other outside (place 0). The first array is (batch, time, width), the second has a row for
    every start.
    """

    def __init__(
        self,
        size: int,
        structure: str,
        A: Sequence[Tensor],
        A_dims: Sequence[int | None],
        arrays: Sequence[tuple[Tensor, int | None]],
        view: View,
        own: bool = False,
    ) -> None:
        self.size = size
        kind = STRUCTURES[structure]
        self.place = 0
        if own or any(dim is not None for dim in A_dims):
            self.A = [_groups(_lead(x, dim, size), rank) for x, dim, rank in zip(A, A_dims, kind.ranks, strict=True)]
        else:
            self.A = list(A)
            self.place = 0 if kind.of(A).groups == 1 else 1
        batched = [_lead(x, dim, size) for x, dim in arrays]
        self.view = view.repeat(size, self.place, batched[0].shape[1], batched[1].shape[1])
        self.arrays = [x.movedim(0, self.place).flatten(0, 1) for x in batched]

    def unfold(self, x: Tensor) -> Tensor:
        """Return a result with its batched dimension at :attr:`place`."""
        rows = x.shape[0] // self.size
        return x.reshape(*((self.size, rows) if self.place == 0 else (rows, self.size)), *x.shape[1:])


def _lead(x: Tensor, dim: int | None, size: int) -> Tensor:
    """Return x with its batched dimension first, or expanded to have one."""
    return x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)


def _groups(x: Tensor, rank: int) -> Tensor:
    """Return samples of one of A's arrays, ``(samples, ...)``, as its groups."""
    missing = 3 + rank - x.ndim
    return x.reshape(x.shape[0], *(1,) * missing, *x.shape[1:]).flatten(0, 1)


def _scan_vmap(info: Any, in_dims: Any, structure: str, A: Any, u: Tensor, h0: Tensor, *rest: Any) -> Any:
    view, sequences, reverse, backend = rest
    arrays = list(zip((u, h0), in_dims[2:4], strict=True))
    f = _Folded(info.batch_size, structure, A, in_dims[1], arrays, view_of(view, sequences, reverse))
    states = _ops.scan(structure, f.A, *f.arrays, view, f.view.tensors, reverse, backend)
    return f.unfold(states), f.place


def _adjoint_vmap(info: Any, in_dims: Any, structure: str, A: Any, g: Tensor, g_final: Tensor, *rest: Any) -> Any:
    view, sequences, reverse, backend = rest
    arrays = list(zip((g, g_final), in_dims[2:4], strict=True))
    f = _Folded(info.batch_size, structure, A, in_dims[1], arrays, view_of(view, sequences, reverse))
    delta, d_h0 = _ops.adjoint(structure, f.A, *f.arrays, view, f.view.tensors, reverse, backend)
    return (f.unfold(delta), f.unfold(d_h0)), (f.place, f.place)


def _gradients_vmap(info: Any, in_dims: Any, structure: str, A: Any, *rest: Any) -> Any:
    *tensors, view, sequences, reverse, backend = rest
    arrays = list(zip(tensors, in_dims[2:6], strict=True))
    # Every sample has a d_A of its own, so that A gets a group for each even where it is shared.
    f = _Folded(info.batch_size, structure, A, in_dims[1], arrays, view_of(view, sequences, reverse), own=True)
    delta, d_h0, flat = _ops.gradients(structure, f.A, *f.arrays, view, f.view.tensors, reverse, backend)
    parts = flat.split([x.numel() for x in f.A])
    of_samples = torch.cat([part.view(info.batch_size, -1) for part in parts], 1)
    return (f.unfold(delta), f.unfold(d_h0), of_samples), (0, 0, 0)


_RULES = {"scan": _scan_vmap, "adjoint": _adjoint_vmap, "gradients": _gradients_vmap}
for _name, _rule in _RULES.items():
    torch.library.register_vmap(f"retrograd::{_name}", _rule, lib=library)


class _Size(NamedTuple):
    batch_size: int


def _of_batched_gradients(name: str, level: int, structure: str, A: list[Tensor], *rest: Any) -> Any:
    """Call an operator under the vmap that ``is_grads_batched`` brings, which knows no rules of custom operators."""

    def opened(x: Any) -> tuple[Any, int | None]:
        try:
            return (torch._remove_batch_dim(x, level, -1, 0), 0) if isinstance(x, Tensor) else (x, None)
        except RuntimeError:  # it is not batched: there is no size to expand it to
            return x, None

    of_A, others = [opened(x) for x in A], [opened(x) for x in rest]
    (size,) = {x.shape[0] for x, dim in (*of_A, *others) if dim is not None} or {None}
    if size is None:
        return getattr(_ops, name)(structure, A, *rest)
    dims = None, [dim for _, dim in of_A], *(dim for _, dim in others)
    out, places = _RULES[name](_Size(size), dims, structure, [x for x, _ in of_A], *(x for x, _ in others))
    if isinstance(out, Tensor):
        return torch._add_batch_dim(out, places, level)
    return tuple(torch._add_batch_dim(x, place, level) for x, place in zip(out, places, strict=True))
