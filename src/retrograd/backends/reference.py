"""The oracle: the plain loop in torch (`core/loop.py`), any structure, dtype and device."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from retrograd.core.backend import BACKENDS, MISSING, Spec, device_memory
from retrograd.core.loop import carry_dtype, loop_adjoint, loop_scan
from retrograd.core.sequences import FORWARD, View, previous_states
from retrograd.core.transition import Transition

__all__ = ["ReferenceBackend", "sum_of_outer_products"]


# Steps above which a GPU that runs the loop is worth a warning.
_LONG = 1000


@cache
def warn_of_the_loop(spec: Spec) -> None:
    """Warn, once for equal specifications, that a GPU runs the loop, if its own kernels cannot serve."""
    kernels = BACKENDS.get("triton")
    reason = MISSING.get("triton") if kernels is None else kernels.why_not(spec)
    if reason is not None:
        warnings.warn(
            f"a scan of more than {_LONG} steps on {spec.device} runs step by step, in the reference loop, because the "
            f"triton backend cannot serve it: {reason}",
            stacklevel=2,
        )


def sum_of_outer_products(gradient: Tensor, factor: Tensor, before: Tensor | None) -> Tensor:
    """Return Σ gradient_t factor_t^H over (batch, time) by torch, in the precision of carried states."""
    if before is not None:
        factor = previous_states(factor, before)
    wide = carry_dtype(gradient.dtype)
    total = gradient.flatten(0, 1).mT.to(wide) @ factor.flatten(0, 1).conj().to(wide)
    return total.to(gradient.dtype)


class ReferenceBackend:
    """The recurrence and its adjoint as the mathematics has them, one step at a time."""

    name = "reference"
    view = "steps"
    devices: tuple[str, ...] = ()

    def why_not(self, spec: Spec) -> str | None:
        """Return None: every problem is served."""
        return None

    def scan(self, A: Transition, u: Tensor, h0: Tensor, view: View = FORWARD, out: Tensor | None = None) -> Tensor:
        """Return h_t = A_t h_{t-1} + u_t for every t."""
        if u.is_cuda and u.shape[1] > _LONG:
            warn_of_the_loop(Spec.of(A, u, reverse=view.reverse))
        states = loop_scan(A, u, h0, view)
        return states if out is None else out.copy_(states)

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
        delta, d_h0 = loop_adjoint(A, g, g_final, view)
        d_A = None
        if states is not None and h0 is not None:
            wide, dtype = delta.dtype, A.dtype
            previous = view.previous(states.to(wide), h0.to(wide))
            d_A = tuple(x.to(dtype) for x in A.to(wide).gradient(delta, previous))
            if out[1] is not None:
                d_A = tuple(memory.copy_(x) for memory, x in zip(out[1], d_A, strict=True))
        return delta.to(g.dtype) if out[0] is None else out[0].copy_(delta), d_h0, d_A

    def outer_sum(self, gradient: Tensor, factor: Tensor, before: Tensor | None = None) -> Tensor:
        """Return Σ gradient_t factor_t^H over (batch, time)."""
        return sum_of_outer_products(gradient, factor, before)

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return x W^T (+ b)."""
        return torch.nn.functional.linear(x, weight, bias)

    def empty(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Return uninitialised memory, torch's own."""
        return torch.empty(shape, dtype=like.dtype, device=like.device)

    def memory(self, device: torch.device) -> int:
        """Return the device's bytes."""
        return device_memory(device)

    def config(self) -> list[str]:
        """Return nothing: what it is is torch."""
        return []
