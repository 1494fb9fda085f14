"""The Triton backend: diagonal and dense scans on a GPU. `tiles.py` and `dense.py` have the mathematics."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor

from retrograd.backends.reference import sum_of_outer_products
from retrograd.core.backend import Spec, device_memory
from retrograd.core.sequences import FORWARD, View
from retrograd.core.steps import Steps
from retrograd.core.transition import Transition

__all__ = ["TritonBackend"]

# Tuples inside kernels.
_LOWEST = (3, 6)
_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128)


class TritonBackend:
    """Scans of GPU tensors.

    Args:
        interpreted: serve tensors on the CPU, in Triton's interpreter: for tests; wants ``TRITON_INTERPRET=1`` set
            before Triton is first imported.
    """

    name = "triton"
    view = "steps"

    def __init__(self, interpreted: bool = False) -> None:
        self.devices: tuple[str, ...] = ("cpu" if interpreted else "cuda",)

    def why_not(self, spec: Spec) -> str | None:
        """Return why the kernels cannot serve: the device, Triton, the dtype or the structure."""
        if spec.device.type not in self.devices:
            return f"it runs on {self.devices[0]} devices, u is on {spec.device}"
        if spec.structure not in ("diagonal", "log_diagonal", "dense"):
            return f"it has no kernel for {spec.structure} transitions"
        if spec.dtype not in _DTYPES:
            return f"it has no kernel for {str(spec.dtype).removeprefix('torch.')}"
        return _why_no_triton()

    def scan(self, A: Transition, u: Tensor, h0: Tensor, view: View = FORWARD, out: Tensor | None = None) -> Tensor:
        """Return h_t = A_t h_{t-1} + u_t for every t."""
        kernels, options = _kernels(A.structure)
        with _on(u):
            if out is None or out.is_contiguous():
                states: Tensor = kernels.scan(A.arrays[0], u, h0, _codes(view), view.reverse, out, **options)
                return states
            return out.copy_(kernels.scan(A.arrays[0], u, h0, _codes(view), view.reverse, **options))

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
        kernels, options = _kernels(A.structure)
        given = out[0], None if out[1] is None else out[1][0]
        usable = tuple(x if x is not None and x.is_contiguous() else None for x in given)
        with _on(g):
            delta, d_h0, d_A = kernels.adjoint(
                A.arrays[0], g, g_final, _codes(view), view.reverse, states, h0, usable, **options
            )
        delta, d_A = (
            x if memory is None or x is None or x is memory else memory.copy_(x)
            for x, memory in zip((delta, d_A), given, strict=True)
        )
        return delta, d_h0, None if d_A is None else (d_A,)

    def outer_sum(self, gradient: Tensor, factor: Tensor, before: Tensor | None = None) -> Tensor:
        """Return Σ gradient_t factor_t^H over (batch, time): float32 by three TF32 products, the rest by torch."""
        if gradient.dtype in (torch.float16, torch.bfloat16, torch.float32) and gradient.dtype == factor.dtype:
            products = import_module("retrograd.backends.triton.products")
            shift = 0 if before is None else 1
            with _on(gradient):
                total: Tensor = products.sum_of_outer_products(gradient, factor, before, None, shift, 1)[0]
            return total.to(gradient.dtype)
        return sum_of_outer_products(gradient, factor, before)

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return x W^T (+ b): torch's own product."""
        return torch.nn.functional.linear(x, weight, bias)

    def empty(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Return uninitialised memory: torch pools a GPU's."""
        return torch.empty(shape, dtype=like.dtype, device=like.device)

    def memory(self, device: torch.device) -> int:
        """Return the device's bytes."""
        return device_memory(device)

    def config(self) -> list[str]:
        """Return Triton's version, or why there is none, and the GPU."""
        reason = _why_no_triton()
        lines = [f"triton: {version('triton')}" if reason is None else f"triton: {reason}"]
        if torch.cuda.is_available():
            lines.append(f"GPU: {torch.cuda.get_device_name()}")
        return lines


@cache
def _why_no_triton() -> str | None:
    wanted = ".".join(map(str, _LOWEST))
    try:
        found = version("triton")
    except PackageNotFoundError:
        return f"Triton is not installed; pip install 'triton>={wanted}'"
    if tuple(int(x) for x in found.split("+")[0].split(".")[:2]) < _LOWEST:
        return f"its kernels want Triton {wanted}, {found} is installed"
    return None


@cache
def _kernels(structure: str) -> tuple[Any, dict[str, bool]]:
    """Return the module of a structure's kernels, and their options. Loaded late: it imports Triton."""
    log = structure == "log_diagonal"
    module = import_module(f"retrograd.backends.triton.{'diagonal' if log else structure}")
    return module, {"log": True} if log else {}


def _codes(view: View) -> Steps | None:
    return view if isinstance(view, Steps) else None


def _on(x: Tensor) -> AbstractContextManager[Any]:
    """Return the context in which kernels launch on x's GPU: Triton takes the current one."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()
