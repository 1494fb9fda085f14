"""The C++ core on the CPU. Its mathematics stand in native/recurrence.hpp.

Arrays cross as DLPack capsules: asked for one by the core, a tensor makes it in Python, ten times as slowly.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.dlpack import to_dlpack  # type: ignore[attr-defined]

from retrograd import _native
from retrograd.backends.pool import empty
from retrograd.backends.reference import carry_dtype
from retrograd.core.sequences import previous_states

__all__ = ["NativeBackend"]

# Weight gradients from this width on are torch's, in products over so many pairs.
_LARGE, _PIECE = 256, 512

_DENSE = (torch.float32, torch.float64, torch.complex64, torch.complex128)
_DIAGONAL = (*_DENSE, torch.bfloat16, torch.float16)


class NativeBackend:
    """Fused kernels, real and complex; in half precision too where the transition is diagonal."""

    name = "native"

    def why_not(self, A: Tensor, u: Tensor) -> str | None:
        """Return why the core cannot serve: the device or the dtype."""
        if u.device.type != "cpu":
            return f"it runs on the CPU, u is on {u.device}"
        allowed = _DIAGONAL if A.ndim == 3 else _DENSE
        if u.dtype not in allowed:
            structure = "diagonal" if A.ndim == 3 else "dense"
            names = ", ".join(str(d).removeprefix("torch.") for d in allowed)
            return f"its {structure} kernels take {names}, u is {str(u.dtype).removeprefix('torch.')}"
        return None

    def scan(self, A: Tensor, u: Tensor, h0: Tensor, reverse: bool, segments: Tensor | None = None) -> Tensor:
        """Return h_t = A_t h_{t-1} + u_t for every t."""
        if segments is None and _walks_time(A, u):
            return _from_rows(self.scan(_rows(A, u), _rows(u), h0.reshape(-1, 1), reverse), u)
        states = _with_padding(u, segments)
        if states.numel():
            kernel = _native.diagonal_scan if A.ndim == 3 else _native.dense_scan
            kernel(
                to_dlpack(_matrix(A)),
                to_dlpack(_row(u)),
                to_dlpack(_row(h0)),
                to_dlpack(states),
                None if segments is None else to_dlpack(segments),
                reverse,
                torch.get_num_threads(),
            )
        return states

    def adjoint(
        self,
        A: Tensor,
        g: Tensor,
        g_final: Tensor,
        reverse: bool,
        states: Tensor | None = None,
        h0: Tensor | None = None,
        segments: Tensor | None = None,
        out: tuple[Tensor | None, Tensor | None] = (None, None),
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return (δ, ∂L/∂h_0, ∂L/∂A)."""
        if segments is None and _walks_time(A, g):
            saved = (None, None) if states is None or h0 is None else (_rows(states), h0.reshape(-1, 1))
            delta, d_h0, d_A = self.adjoint(_rows(A, g), _rows(g), g_final.reshape(-1, 1), reverse, *saved)
            if d_A is not None:
                by_row = d_A.view(A.shape[0], -1, A.shape[2], A.shape[1])
                d_A = (by_row.sum(1) if by_row.shape[1] > 1 else by_row.squeeze(1)).transpose(1, 2)
            return _from_rows(delta, g), d_h0.view(g_final.shape), d_A
        delta = _with_padding(g, segments, out[0])
        # What a table of segments leaves out, h0's rows that do not enter too, is zero.
        d_h0 = (torch.empty if segments is None else torch.zeros)(g_final.shape, dtype=g.dtype)
        invariant, diagonal = A.shape[1] == 1, A.ndim == 3
        if not delta.numel():
            return delta, g_final.clone(), None if states is None else torch.zeros_like(A)
        if states is not None and h0 is not None and not diagonal and invariant and A.shape[2] >= _LARGE:
            delta, d_h0, _ = self.adjoint(A, g, g_final, reverse, segments=segments, out=out)
            if segments is not None:
                states, h0 = previous_states(states, h0, reverse, segments), None
            by_group = [
                [None] * A.shape[0] if x is None else x.reshape(A.shape[0], -1, *x.shape[1:]).unbind()
                for x in (delta, states, h0)
            ]
            sums_of_groups = [_large_outer_sum(d, h, before, reverse) for d, h, before in zip(*by_group, strict=True)]
            return delta, d_h0, torch.stack(sums_of_groups).unsqueeze(1)
        wanted = states is not None and h0 is not None
        if wanted and diagonal and not invariant and segments is not None and A.dtype.itemsize == 2:
            rows = g.shape[0] // A.shape[0]
            if rows > 1:  # summed here: the kernel would round after every row
                apart = A.repeat_interleave(rows, 0)
                delta, d_h0, d_A = self.adjoint(apart, g, g_final, reverse, states, h0, segments)
                assert d_A is not None
                return delta, d_h0, d_A.view(-1, rows, *A.shape[1:]).sum(1, dtype=torch.float32).to(A.dtype)
        d_A = None
        if wanted and not (invariant and diagonal):
            d_A = empty(A.shape, A) if invariant or out[1] is None else out[1]
        if d_A is not None and segments is not None and (A.shape[0] < g.shape[0] or _has_padding(g, segments)):
            d_A.zero_()
        sums = None
        if wanted and invariant and diagonal:
            rows = g.shape[0] if segments is None else segments.shape[0]
            sums = (torch.empty if segments is None else torch.zeros)(rows, g.shape[2], dtype=carry_dtype(g.dtype))
        kernel = _native.diagonal_adjoint if diagonal else _native.dense_adjoint
        kernel(
            to_dlpack(_matrix(A)),
            to_dlpack(_row(g)),
            to_dlpack(_row(g_final)),
            to_dlpack(delta),
            to_dlpack(d_h0),
            None if states is None else to_dlpack(_row(states)),
            None if h0 is None else to_dlpack(_row(h0)),
            None if d_A is None else to_dlpack(d_A),
            None if sums is None else to_dlpack(torch.view_as_real(sums).flatten(1) if sums.is_complex() else sums),
            None if segments is None else to_dlpack(segments),
            reverse,
            torch.get_num_threads(),
        )
        if sums is not None:
            d_A = _sum_by_group(sums, A, g.shape[0], segments).to(A.dtype)
        return delta, d_h0, d_A

    def outer_sum(self, gradient: Tensor, factor: Tensor, before: Tensor | None) -> Tensor:
        """Return Σ gradient_t factor_t^H over (batch, time), the same bits on any number of threads."""
        if min(gradient.shape[2], factor.shape[2]) >= _LARGE:
            return _large_outer_sum(gradient, factor, before, False)
        result = torch.empty(gradient.shape[2], factor.shape[2], dtype=gradient.dtype)
        _native.outer_sum(
            to_dlpack(_row(gradient)),
            to_dlpack(_row(factor)),
            None if before is None else to_dlpack(_row(before)),
            to_dlpack(result),
            False,
            torch.get_num_threads(),
        )
        return result


def _large_outer_sum(gradient: Tensor, factor: Tensor, before: Tensor | None, reverse: bool) -> Tensor:
    """Return what :meth:`NativeBackend.outer_sum` does by torch's matrix product, which is faster at this size.

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
    result = empty(like.shape, like) if out is None else out
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


def _walks_time(A: Tensor, u: Tensor) -> bool:
    """Do u's steps lie side by side, as in a transposed (batch, width, time), so that a channel is best a row?"""
    side_by_side = u.stride(1) == 1 and u.stride(2) > 1 and u.shape[1] > 1
    return A.ndim == 3 and side_by_side and A.shape[2] > 1 and (A.shape[1] == 1 or A.shape[0] == u.shape[0])


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
    if x.is_neg() or (x.is_complex() and x.is_conj()):
        x = x.detach().resolve_conj().resolve_neg()
    if x.stride(-1) == 1 or x.shape[-1] == 1:
        return x
    x = x.detach()
    if not any(x.stride()):
        # A constant array, as the gradient of a plain sum: one row serves for all.
        return x[(0,) * (x.ndim - 1)].contiguous().expand(x.shape)
    return x.contiguous()


def _matrix(A: Tensor) -> Tensor:
    A = _row(A)
    return A if A.ndim == 3 or A.stride(-2) == A.shape[-1] else A.contiguous()
