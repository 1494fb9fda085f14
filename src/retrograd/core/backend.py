"""The seam: a backend gives two raw functions, ``scan`` and its fused ``adjoint``, with no autograd inside.

Everything above (broadcasting, checks, packing, autograd) is written once; a new device is one file here.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Protocol

import torch
from torch import Tensor

from retrograd import _native
from retrograd.backends.native import NativeBackend
from retrograd.backends.reference import ReferenceBackend
from retrograd.core.sequences import previous_states

__all__ = ["BACKENDS", "Backend", "outer_sum", "select", "show_config"]


class Backend(Protocol):
    """What a device has to give. Shapes as in :mod:`retrograd.core.transition`; T ≥ 1.

    The reverse scan runs from the last step to the first: h_t = A_t h_{t+1} + u_t, h_0 standing after the end.
    """

    name: str

    def why_not(self, A: Tensor, u: Tensor) -> str | None:
        """Return why this problem cannot be served, or None."""

    def scan(self, A: Tensor, u: Tensor, h0: Tensor, reverse: bool, segments: Tensor | None = None) -> Tensor:
        """Return h_t = A_t h_{t-1} + u_t for every t, ``(batch, time, width)``; zero in padding.

        ``segments`` says which steps follow one another (`core/sequences.py`); without it, h0 has a row for each
        of u. A segment that nothing stands before begins with h_t = u_t.
        """

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
        """Return (δ, ∂L/∂h_0, ∂L/∂A), the last only when ``states`` and ``h0`` are given.

        ``out`` is memory for δ and, of a time-varying A, ∂L/∂A, which a backend may use; what it returns is the result.

        δ_T = g_T + g_final;  δ_{t-1} = g_{t-1} + A_t^H δ_t;  ∂L/∂h_0 = A_1^H δ_1;  ∂L/∂A_t = δ_t h_{t-1}^H.
        """


# In order of preference: `auto` takes the first that serves.
BACKENDS: dict[str, Backend] = {b.name: b for b in (NativeBackend(), ReferenceBackend())}


def select(name: str, A: Tensor, u: Tensor) -> Backend:
    """Return the backend called ``name``; for ``"auto"``, the first that can serve.

    Raises:
        ValueError: there is none of that name, or it cannot serve this problem (with its reason).
    """
    if name != "auto":
        if name not in BACKENDS:
            raise ValueError(f"backend is {name!r}, expected 'auto' or one of {', '.join(map(repr, BACKENDS))}")
        reason = BACKENDS[name].why_not(A, u)
        if reason is not None:
            raise ValueError(f"backend {name!r} cannot serve this scan: {reason}; use backend='auto'")
        return BACKENDS[name]
    return next(b for b in BACKENDS.values() if b.why_not(A, u) is None)


def outer_sum(gradient: Tensor, factor: Tensor, before: Tensor | None = None) -> Tensor:
    """Return a weight's gradient, Σ gradient_t factor_t^H over (batch, time): ``(H, I)``; not differentiable.

    Args:
        gradient: ``(batch, time, H)``.
        factor: ``(batch, time, I)``.
        before: ``(batch, I)``: each gradient then meets the factor of the step before it, the first one this.
    """
    native = NativeBackend()
    if native.why_not(gradient[None], gradient) is None:  # asked as of a dense transition
        return native.outer_sum(gradient, factor, before)
    if before is not None:
        factor = previous_states(factor, before, False)
    return gradient.flatten(0, 1).mT @ factor.flatten(0, 1).conj()


def show_config() -> None:
    """Print what a report of a bug or of a time should say: versions, backends, instruction sets, threads, memory.

    A backend is asked for the usual case, a float32 scan on the CPU.

    Examples:
        >>> show_config()
        retrograd ...
        backends
          native: serves...
    """
    A, u = torch.zeros(1, 1, 1), torch.zeros(1, 1, 1)
    lines = [f"retrograd {version('retrograd')}, torch {torch.__version__}", "backends"]
    for name, backend in BACKENDS.items():
        reason = backend.why_not(A, u)
        lines.append(f"  {name}: {'serves' if reason is None else f'does not serve: {reason}'}")
    pool = _native.pool_stats()
    lines += [
        f"instruction set: {_native.isa()}, of {', '.join(_native.isas())} (RETROGRAD_ISA)",
        f"threads: {torch.get_num_threads()} (torch.set_num_threads), {_threading()}",
        f"pool: keeps up to {pool['limit']} bytes (RETROGRAD_POOL_BYTES), {pool['cached']} now",
    ]
    print("\n".join(lines))


def _threading() -> str:
    return "OpenMP" if _native.openmp else "built without OpenMP: the native backend runs on one"
