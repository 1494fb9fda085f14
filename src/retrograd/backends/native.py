"""The C++ core on the CPU. Its mathematics stand in native/recurrence.hpp."""

from __future__ import annotations

import torch
from torch import Tensor

from retrograd import _native
from retrograd.backends.reference import carry_dtype, previous_states
from retrograd.pool import empty
from retrograd.transition import transition_gradient

__all__ = ["NativeBackend"]

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

    def scan(self, A: Tensor, u: Tensor, h0: Tensor, reverse: bool) -> Tensor:
        """Return h_t = A_t h_{t-1} + u_t for every t."""
        states = empty(u.shape, u)
        if states.numel():
            kernel = _native.diagonal_scan if A.ndim == 3 else _native.dense_scan
            kernel(_matrix(A), _row(u), _row(h0), states, reverse, torch.get_num_threads())
        return states

    def adjoint(
        self,
        A: Tensor,
        g: Tensor,
        g_final: Tensor,
        reverse: bool,
        states: Tensor | None = None,
        h0: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return (δ, ∂L/∂h_0, ∂L/∂A)."""
        delta = empty(g.shape, g)
        d_h0 = torch.empty(g_final.shape, dtype=g.dtype)
        invariant, diagonal = A.shape[1] == 1, A.ndim == 3
        if not delta.numel():
            return delta, d_h0, None if states is None else torch.zeros_like(A)
        # A time-invariant dense gradient is one matrix product after the sweep; all others are fused into it.
        fused = states is not None and h0 is not None and (diagonal or not invariant)
        d_A = empty(A.shape, A) if fused and not invariant else None
        sums = torch.empty(d_h0.shape, dtype=carry_dtype(g.dtype)) if fused and invariant else None
        kernel = _native.diagonal_adjoint if diagonal else _native.dense_adjoint
        kernel(
            _matrix(A),
            _row(g),
            _row(g_final),
            delta,
            d_h0,
            _row(states) if fused and states is not None else None,
            _row(h0) if fused and h0 is not None else None,
            d_A,
            torch.view_as_real(sums).flatten(1) if sums is not None and sums.is_complex() else sums,
            reverse,
            torch.get_num_threads(),
        )
        if sums is not None:
            d_A = sums.reshape(A.shape[0], -1, 1, A.shape[2]).sum(1).to(A.dtype)
        elif states is not None and h0 is not None and d_A is None:
            d_A = transition_gradient(A, delta, previous_states(states, h0, reverse))
        return delta, d_h0, d_A


def _row(x: Tensor) -> Tensor:
    """Return x readable by the kernels: no pending conjugation or sign, unit stride in the last dimension."""
    x = x.detach().resolve_conj().resolve_neg()
    if x.shape[-1] > 1 and x.stride(-1) == 0 and not any(x.stride()):
        # A constant array, as the gradient of a plain sum: one row serves for all.
        return x[(0,) * (x.ndim - 1)].contiguous().expand(x.shape)
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def _matrix(A: Tensor) -> Tensor:
    A = _row(A)
    return A if A.ndim == 3 or A.stride(-2) == A.shape[-1] else A.contiguous()
