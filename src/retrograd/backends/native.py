"""The C++ core on the CPU. Its mathematics stand in native/recurrence.hpp.

Arrays cross as DLPack capsules: asked for one by the core, a tensor makes it in Python, ten times as slowly.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.dlpack import to_dlpack  # type: ignore[attr-defined]

from retrograd import _native
from retrograd.backends.pool import empty, empty_like, memory_stats
from retrograd.core.backend import Spec, device_memory
from retrograd.core.loop import carry_dtype
from retrograd.core.segments import Segments
from retrograd.core.sequences import FORWARD, View
from retrograd.core.transition import Transition

__all__ = ["NativeBackend"]

# Weight gradients from this width on are torch's, in products over so many pairs, except with the registers of AVX-512:
# the core's own kernel is twice as fast with them, and slower without.
_LARGE, _PIECE = 256, 512

_DENSE = (torch.float32, torch.float64, torch.complex64, torch.complex128)
_DIAGONAL = (*_DENSE, torch.bfloat16, torch.float16)
_SERVED = {"dense": _DENSE, "diagonal": _DIAGONAL, "log_diagonal": _DIAGONAL}
# Each structure's scan and adjoint.
_KERNELS = {
    "dense": (_native.dense_scan, _native.dense_adjoint),
    "diagonal": (_native.diagonal_scan, _native.diagonal_adjoint),
    "log_diagonal": (_native.log_diagonal_scan, _native.log_diagonal_adjoint),
}


class NativeBackend:
    """Fused kernels, real and complex; in half precision too where the transition is diagonal."""

    name = "native"
    view = "segments"
    devices: tuple[str, ...] = ("cpu",)

    def why_not(self, spec: Spec) -> str | None:
        """Return why the core cannot serve: the device, the structure or the dtype."""
        if spec.device.type != "cpu":
            return f"it runs on the CPU, u is on {spec.device}"
        allowed = _SERVED.get(spec.structure)
        if allowed is None:
            return f"it has diagonal and dense kernels, A is {spec.structure}"
        if spec.dtype not in allowed:
            names = ", ".join(str(d).removeprefix("torch.") for d in allowed)
            return f"its {spec.structure} kernels take {names}, u is {str(spec.dtype).removeprefix('torch.')}"
        return None

    def scan(self, A: Transition, u: Tensor, h0: Tensor, view: View = FORWARD, out: Tensor | None = None) -> Tensor:
        """Return h_t = A_t h_{t-1} + u_t for every t."""
        a, table, diagonal = A.normal(), _table(view), A.structure != "dense"
        if table is None and out is None and diagonal and _walks_time(a, u):
            rows = self.scan(A.of([_rows(a, u)]), _rows(u), h0.reshape(-1, 1), view)
            return _from_rows(rows, u)
        states = _with_padding(u, table, out)
        if states.numel():
            written = states if out is None else _writable(states)
            _KERNELS[A.structure][0](
                to_dlpack(_readable(a, diagonal)),
                to_dlpack(_row(u)),
                to_dlpack(_row(h0)),
                to_dlpack(written),
                None if table is None else to_dlpack(table),
                view.reverse,
                torch.get_num_threads(),
            )
            if written is not states:
                states.copy_(written)
        return states

    def adjoint(
        self,
        A: Transition,
        g: Tensor,
        g_final: Tensor,
        view: View = FORWARD,
        states: Tensor | None = None,
        h0: Tensor | None = None,
        out: tuple[Tensor | None, Sequence[Tensor] | None] = (None, None),
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...] | None]:
        """Return (δ, ∂L/∂h_0, ∂L/∂A)."""
        saved = None if states is None or h0 is None else (states, h0)
        if out[1] is None:
            delta, d_h0, d_A = self._adjoint(A, g, g_final, view, saved, out[0])
        else:
            delta, d_h0, d_A = self._adjoint(A, g, g_final, view, saved, out[0], out[1][0])
            d_A = d_A if d_A is None or d_A is out[1][0] else out[1][0].copy_(d_A)
        return delta, d_h0, None if d_A is None else (d_A,)

    def _adjoint(
        self,
        A: Transition,
        g: Tensor,
        g_final: Tensor,
        view: View,
        saved: tuple[Tensor, Tensor] | None,
        delta_out: Tensor | None = None,
        d_A_out: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return (δ, ∂L/∂h_0, ∂L/∂A); saved are the states and h_0, for the last. It may lie elsewhere than d_A_out."""
        a, table, diagonal = A.normal(), _table(view), A.structure != "dense"
        invariant = a.shape[1] == 1
        if not g.numel():
            nothing = torch.empty_like(g) if delta_out is None else delta_out
            return nothing, g_final.clone(), None if saved is None else torch.zeros_like(a)
        if diagonal and table is None and delta_out is None and _walks_time(a, g):
            return self._adjoint_by_channel(A, g, g_final, view, saved)
        if saved is not None and not diagonal and invariant and _is_torchs(a.shape[2]):
            delta, d_h0, _ = self._adjoint(A, g, g_final, view, None, delta_out)
            return delta, d_h0, _large_gradient(a, delta, view, *saved)
        rows = g.shape[0] // a.shape[0]
        if saved is not None and table is not None and diagonal and not invariant and rows > 1 and a.itemsize == 2:
            return self._adjoint_of_halves(A, rows, g, g_final, view, saved, delta_out)
        delta = _with_padding(g, table, delta_out)
        # What a table of segments leaves out, h0's rows that do not enter too, is zero.
        d_h0 = empty_like(g_final) if table is None else torch.zeros(g_final.shape, dtype=g.dtype)
        d_A = sums = None
        if saved is not None and invariant and diagonal:
            lines = g.shape[0] if table is None else table.shape[0]
            sums = (torch.empty if table is None else torch.zeros)(lines, g.shape[2], dtype=carry_dtype(g.dtype))
        elif saved is not None:
            usable = d_A_out is not None and not invariant and _writable(d_A_out) is d_A_out
            d_A = d_A_out if usable else empty_like(a)
            assert d_A is not None
            if table is not None and (rows > 1 or _has_padding(g, table)):
                d_A.zero_()
        written = delta if delta_out is None else _writable(delta)
        _KERNELS[A.structure][1](
            to_dlpack(_readable(a, diagonal)),
            to_dlpack(_row(g)),
            to_dlpack(_row(g_final)),
            to_dlpack(written),
            to_dlpack(d_h0),
            None if saved is None else to_dlpack(_row(saved[0])),
            None if saved is None else to_dlpack(_row(saved[1])),
            None if d_A is None else to_dlpack(d_A),
            None if sums is None else to_dlpack(torch.view_as_real(sums).flatten(1) if sums.is_complex() else sums),
            None if table is None else to_dlpack(table),
            view.reverse,
            torch.get_num_threads(),
        )
        if written is not delta:
            delta.copy_(written)
        if sums is not None:
            d_A = _sum_by_group(sums, a, g.shape[0], table).to(a.dtype)
        return delta, d_h0, d_A

    def _adjoint_of_halves(
        self,
        A: Transition,
        rows: int,
        g: Tensor,
        g_final: Tensor,
        view: View,
        saved: tuple[Tensor, Tensor],
        delta_out: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the adjoint of 16-bit diagonals shared by rows: summed here, as the kernel would round every row."""
        a = A.normal()
        apart = A.of([a.repeat_interleave(rows, 0)])
        delta, d_h0, d_A = self._adjoint(apart, g, g_final, view, saved, delta_out)
        assert d_A is not None
        summed = d_A.view(-1, rows, *a.shape[1:]).sum(1, dtype=torch.float32)
        return delta, d_h0, summed.to(a.dtype)

    def _adjoint_by_channel(
        self, A: Transition, g: Tensor, g_final: Tensor, view: View, saved: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the adjoint of arrays whose steps lie side by side: every channel is a row."""
        by_channel = None if saved is None else (_rows(saved[0]), saved[1].reshape(-1, 1))
        a = A.normal()
        apart = A.of([_rows(a, g)])
        delta, d_h0, d_A = self._adjoint(apart, _rows(g), g_final.reshape(-1, 1), view, by_channel)
        if d_A is not None:
            by_row = d_A.view(a.shape[0], -1, a.shape[2], a.shape[1])
            d_A = (by_row.sum(1) if by_row.shape[1] > 1 else by_row.squeeze(1)).transpose(1, 2)
        return _from_rows(delta, g), d_h0.view(g_final.shape), d_A

    def outer_sum(self, gradient: Tensor, factor: Tensor, before: Tensor | None = None) -> Tensor:
        """Return Σ gradient_t factor_t^H over (batch, time), the same bits on any number of threads."""
        dtype = gradient.dtype
        if dtype not in _DENSE:
            wide = (x if x is None else x.to(carry_dtype(dtype)) for x in (gradient, factor, before))
            return self.outer_sum(*wide).to(dtype)  # type: ignore[arg-type]
        if _is_torchs(min(gradient.shape[2], factor.shape[2])):
            return _large_outer_sum(gradient, factor, before, False)
        result = torch.empty(gradient.shape[2], factor.shape[2], dtype=dtype)
        if not (result.numel() and gradient.numel()):
            return result.zero_()
        _native.outer_sum(
            to_dlpack(_row(gradient)),
            to_dlpack(_row(factor)),
            None if before is None else to_dlpack(_row(before)),
            to_dlpack(result),
            False,
            torch.get_num_threads(),
        )
        return result

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return x W^T (+ b), the same bits on any number of threads (in half precision torch's, which are not)."""
        if x.dtype not in _DENSE or not x.numel() or not weight.numel():
            return torch.nn.functional.linear(x, weight, bias)
        result = empty((*x.shape[:-1], weight.shape[0]), x)
        weight = _row(weight) if weight.is_conj() or weight.is_neg() else weight
        if not (weight.is_contiguous() or weight.mT.is_contiguous()):
            weight = weight.contiguous()
        _native.linear(
            to_dlpack(_row(x).flatten(0, -2)),
            to_dlpack(weight),
            None if bias is None else to_dlpack(_row(bias)),
            to_dlpack(result.flatten(0, -2)),
            torch.get_num_threads(),
        )
        return result

    def empty(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Return uninitialised memory, of the pool where it is large."""
        return empty(shape, like)

    def memory(self, device: torch.device) -> int:
        """Return the machine's bytes."""
        return device_memory(device)

    def config(self) -> list[str]:
        """Return the instruction set, the threads and the pool."""
        pool = memory_stats()
        team = "OpenMP" if _native.openmp else "built without OpenMP: the native backend runs on one"
        return [
            f"instruction set: {_native.isa()}, of {', '.join(_native.isas())} (RETROGRAD_ISA)",
            f"threads: {torch.get_num_threads()} (torch.set_num_threads), {team}",
            f"pool: keeps up to {pool['limit']} bytes (RETROGRAD_POOL_BYTES), {pool['cached']} now",
        ]


def _table(view: View) -> Tensor | None:
    """Return the segments; None where every row is one sequence."""
    return view.table if isinstance(view, Segments) else None


def _is_torchs(width: int) -> bool:
    """Is a weight gradient of this width torch's?"""
    return width >= _LARGE and _native.isa() != "avx512"


def _large_gradient(a: Tensor, delta: Tensor, view: View, states: Tensor, h0: Tensor) -> Tensor:
    """Return ∂L/∂W of wide dense transitions, ``(groups, 1, H, H)``, by torch's matrix product."""
    before: Tensor | None = h0
    if isinstance(view, Segments):
        states, before = view.previous(states, h0), None
    by_group = [
        [None] * a.shape[0] if x is None else x.reshape(a.shape[0], -1, *x.shape[1:]).unbind()
        for x in (delta, states, before)
    ]
    sums = [_large_outer_sum(d, h, first, view.reverse) for d, h, first in zip(*by_group, strict=True)]
    return torch.stack(sums).unsqueeze(1)


def _large_outer_sum(gradient: Tensor, factor: Tensor, before: Tensor | None, reverse: bool) -> Tensor:
    """Return what :meth:`NativeBackend.outer_sum` does by torch's matrix product.

    A product over more than ``_PIECE`` pairs would be shared out among threads, whose number shows in the last bits.
    """
    result, pairs = gradient.new_zeros(gradient.shape[2], factor.shape[2]), []
    if before is not None:  # each gradient meets the factor of the step before it
        first, later, met = (-1, slice(0, -1), slice(1, None)) if reverse else (0, slice(1, None), slice(0, -1))
        pairs.append((gradient[:, first], before))
        gradient, factor = gradient[:, later], factor[:, met]
    axis = 0 if gradient.shape[0] <= gradient.shape[1] else 1
    pairs += zip(gradient.unbind(axis), factor.unbind(axis), strict=True)
    for d, h in pairs:
        for start in range(0, d.shape[0], _PIECE):
            result.addmm_(d[start : start + _PIECE].mT, h[start : start + _PIECE].conj())
    return result


def _with_padding(like: Tensor, segments: Tensor | None, out: Tensor | None = None) -> Tensor:
    """Return memory for a result of ``like``'s shape, ``out`` if given, zero where no segment is."""
    result = empty_like(like) if out is None else out
    if segments is not None and _has_padding(like, segments):
        result.zero_()
    return result


def _has_padding(like: Tensor, segments: Tensor) -> bool:
    table = segments.numpy()
    return int(table[:, 2].sum() - table[:, 1].sum()) < like.shape[0] * like.shape[1]


def _sum_by_group(sums: Tensor, A: Tensor, batch: int, segments: Tensor | None) -> Tensor:
    """Return the sums of rows, or of segments, that share a transition, as (groups, 1, width)."""
    rows = batch // A.shape[0]
    if segments is None:
        return sums.unsqueeze(1) if rows == 1 else sums.view(-1, rows, sums.shape[1]).sum(1, keepdim=True)
    if A.shape[0] == 1:
        return sums.sum(0).view(1, 1, -1)
    return sums.new_zeros(A.shape[0], sums.shape[1]).index_add_(0, segments[:, 0] // rows, sums).unsqueeze(1)


def _walks_time(a: Tensor, u: Tensor) -> bool:
    """Do u's steps lie side by side, as in a transposed (batch, width, time), so that a channel is best a row?"""
    side_by_side = u.stride(1) == 1 and u.stride(2) > 1 and u.shape[1] > 1
    return side_by_side and a.shape[2] > 1 and (a.shape[1] == 1 or a.shape[0] == u.shape[0])


def _rows(x: Tensor, like: Tensor | None = None) -> Tensor:
    """Return (batch, time, width) as (batch · width, time, 1): a view where time is contiguous."""
    if like is not None and x.shape[0] != like.shape[0]:
        x = x.repeat_interleave(like.shape[0] // x.shape[0], 0)
    return x.transpose(1, 2).reshape(-1, x.shape[1], 1)


def _from_rows(x: Tensor, like: Tensor) -> Tensor:
    batch, time, width = like.shape
    return x.view(batch, width, time).transpose(1, 2)


def _row(x: Tensor) -> Tensor:
    """Return x readable by the kernels: no pending conjugation or sign, unit stride in the last dimension."""
    if x.is_contiguous() and not x.is_neg() and not x.is_conj():
        return x
    if x.is_neg() or x.is_conj():
        x = x.detach().resolve_conj().resolve_neg()
    if x.stride(-1) == 1 or x.shape[-1] == 1:
        return x
    x = x.detach()
    if not any(x.stride()):
        # A constant array, as the gradient of a plain sum: one row serves for all.
        return x[(0,) * (x.ndim - 1)].contiguous().expand(x.shape)
    return x.contiguous()


def _readable(a: Tensor, diagonal: bool) -> Tensor:
    """Return a transition's array readable by the kernels: a matrix row-major."""
    a = _row(a)
    return a if diagonal or a.stride(-2) == a.shape[-1] else a.contiguous()


def _writable(x: Tensor) -> Tensor:
    """Return x if the kernels can write it, else memory of its shape that they can."""
    width = x.shape[-1]
    by_rows = x.stride(-1) == 1 or width == 1
    matrices = x.ndim < 4 or x.stride(-2) == width or width == 1
    return x if by_rows and matrices else empty(x.shape, x)
