"""The seam between the scan and the devices: what a backend gives, which there are, and which one serves a call.

Everything above (broadcasting, checks, kinds of sequence, autograd) is written once. A device is one file in
:mod:`retrograd.backends`, which registers what it has; this module imports none of them. :func:`select` runs once per
public call, above every loop, and the backend it returns runs every part of the result.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor

from retrograd.core.transition import Transition
from retrograd.errors import InputError

if TYPE_CHECKING:
    from retrograd.core.sequences import Sequences, View

__all__ = [
    "BACKENDS",
    "MISSING",
    "Backend",
    "Spec",
    "device_memory",
    "empty",
    "package_version",
    "refuse",
    "register",
    "register_missing",
    "require_environment",
    "select",
    "show_config",
]


class Spec(NamedTuple):
    """What a backend is asked to serve: everything that its answer may depend on, and no sizes.

    Attributes:
        device: where the arrays lie.
        dtype: of the arrays.
        structure: of the transition (:data:`retrograd.core.transition.STRUCTURES`).
        invariant: whether A_t is the same at every step.
        sequences: ``"whole"``, ``"padded"`` or ``"packed"``.
        reset: whether steps may be cut off from the ones before them.
        reverse: the direction.
    """

    device: torch.device
    dtype: torch.dtype
    structure: str
    invariant: bool = True
    sequences: str = "whole"
    reset: bool = False
    reverse: bool = False

    @classmethod
    def of(cls, A: Transition, u: Tensor, sequences: Sequences | None = None, reverse: bool = False) -> Spec:
        """Return the specification of a scan of u ``(batch, time, width)``."""
        kind, reset = ("whole", False) if sequences is None else (sequences.kind, sequences.reset is not None)
        return cls(u.device, u.dtype, A.structure, A.invariant, kind, reset, reverse)


class Backend(Protocol):
    """What a device has to give. No autograd inside: each method reads values and writes values.

    Shapes: A in normal form (:mod:`retrograd.core.transition`), u, states, g and δ ``(batch, time, width)``, h0 and
    g_final a row for each sequence; batch, time and width ≥ 1. Any strides. ``view`` says which steps follow one
    another and in which direction; in reverse h_t = A_t h_{t+1} + u_t, h_0 standing after the end.

    Attributes:
        name: what ``backend=`` and ``RETROGRAD_BACKEND`` call it.
        view: the view of sequences that it takes, ``"segments"`` or ``"steps"`` (:mod:`retrograd.core.sequences`).
        devices: types of device that it has memory on, () for any.
    """

    name: str
    view: str
    devices: tuple[str, ...]

    def why_not(self, spec: Spec) -> str | None:
        """Return why this problem cannot be served, or None. Asked once for equal specifications."""

    def scan(self, A: Transition, u: Tensor, h0: Tensor, view: View = ..., out: Tensor | None = None) -> Tensor:
        """Return h_t = A_t h_{t-1} + u_t for every t; zero in padding. ``out``, if given, is written and returned."""

    def adjoint(
        self,
        A: Transition,
        g: Tensor,
        g_final: Tensor,
        view: View = ...,
        states: Tensor | None = None,
        h0: Tensor | None = None,
        out: tuple[Tensor | None, Sequence[Tensor] | None] = (None, None),
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...] | None]:
        """Return (δ, ∂L/∂h_0, ∂L/∂A), the last only when ``states`` and ``h0`` are given.

        ∂L/∂A is an array for each of A's, in normal form. ``out`` is memory for δ and for ∂L/∂A: what is given is
        written, and is what is returned.

        δ_T = g_T + g_final;  δ_{t-1} = g_{t-1} + A_t^H δ_t;  ∂L/∂h_0 = A_1^H δ_1;  ∂L/∂A_t = δ_t h_{t-1}^H.
        """

    def outer_sum(self, gradient: Tensor, factor: Tensor, before: Tensor | None = None) -> Tensor:
        """Return a weight's gradient, Σ gradient_t factor_t^H over (batch, time): ``(H, I)``.

        Args:
            gradient: ``(batch, time, H)``.
            factor: ``(batch, time, I)``.
            before: ``(batch, I)``: each gradient then meets the factor of the step before it, the first one this.
        """

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return x W^T (+ b) for x ``(batch, time, inputs)``."""

    def empty(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Return uninitialised contiguous memory of ``like``'s dtype and device."""

    def memory(self, device: torch.device) -> int:
        """Return how many bytes the device has: the budget of ``memory="auto"`` is a part of it."""

    def config(self) -> list[str]:
        """Return what :func:`show_config` should say beside whether it serves."""


# In order of preference: "auto" takes the first that serves.
BACKENDS: dict[str, Backend] = {}
# Those that could not be loaded, and why.
MISSING: dict[str, str] = {}
_FORCED = os.environ.get("RETROGRAD_BACKEND", "") or "auto"
# Why no backend may be chosen at all.
_refused: list[str] = []


def register(backend: Backend) -> None:
    """Add a backend behind those that there are."""
    BACKENDS[backend.name] = backend
    _chosen.cache_clear()
    _with_memory_on.cache_clear()


def register_missing(name: str, reason: str) -> None:
    """Note that a backend could not be loaded, and why."""
    MISSING[name] = reason


def refuse(reason: str) -> None:
    """Let every choice of a backend raise: an environment variable cannot be used."""
    _refused.append(reason)
    _chosen.cache_clear()


def require_environment() -> None:
    """Raise unless the variables ``RETROGRAD_*``, read when the package was imported, can be used.

    Raises:
        InputError: one cannot; it says what is allowed.
    """
    if _refused:
        raise InputError(_refused[0])
    if _FORCED != "auto" and _FORCED not in BACKENDS:
        raise InputError(_unknown("RETROGRAD_BACKEND", _FORCED))


def select(name: str, spec: Spec) -> Backend:
    """Return the backend called ``name``; for ``"auto"``, the first that can serve.

    ``RETROGRAD_BACKEND``, read when the package is imported, is the name wherever ``"auto"`` was given.

    Raises:
        ValueError: there is none of that name, or it cannot serve this problem (with its reason).
    """
    return _choose(name, spec) if torch.compiler.is_compiling() else _chosen(name, spec)


def _choose(name: str, spec: Spec) -> Backend:
    require_environment()
    source = "backend"
    if name == "auto" and _FORCED != "auto":
        name, source = _FORCED, "RETROGRAD_BACKEND"
    if name == "auto":
        return next(b for b in BACKENDS.values() if b.why_not(spec) is None)
    if name not in BACKENDS:
        raise ValueError(_unknown(source, name))
    reason = BACKENDS[name].why_not(spec)
    if reason is not None:
        raise ValueError(f"{source} {name!r} cannot serve this scan: {reason}; use backend='auto'")
    return BACKENDS[name]


def _unknown(source: str, name: str) -> str:
    why = f" ({name!r} could not be loaded: {MISSING[name]})" if name in MISSING else ""
    return f"{source} is {name!r}, expected 'auto' or one of {', '.join(map(repr, BACKENDS))}{why}"


_chosen = lru_cache(maxsize=1024)(_choose)


def empty(shape: Sequence[int], like: Tensor) -> Tensor:
    """Return uninitialised contiguous memory of ``like``'s dtype and device, from its first backend's pool."""
    return _with_memory_on(like.device.type).empty(shape, like)


@cache
def _with_memory_on(device: str) -> Backend:
    return next(b for b in BACKENDS.values() if not b.devices or device in b.devices)


def device_memory(device: torch.device) -> int:
    """Return how many bytes of memory a device has; of one that does not say, 8 GiB."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not POSIX
        return 1 << 33


def package_version() -> str:
    """Return the version that pyproject.toml has; of sources that were never installed, ``"0+unknown"``."""
    try:
        return version("retrograd")
    except PackageNotFoundError:
        return "0+unknown"


def show_config() -> None:
    """Print what a report of a bug or of a time should say: versions, backends, instruction sets, threads, memory.

    A backend is asked for the usual case, a float32 scan of diagonal transitions, on the CPU and on the GPU.

    Examples:
        >>> show_config()
        retrograd ...
        backends
          native: serves...
    """
    lines = [f"retrograd {package_version()}, torch {torch.__version__}", "backends"]
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    for name, backend in BACKENDS.items():
        reasons = [backend.why_not(Spec(torch.device(d), torch.float32, "diagonal")) for d in devices]
        serves = " and ".join(d for d, reason in zip(devices, reasons, strict=True) if reason is None)
        lines.append(f"  {name}: " + (f"serves {serves}" if serves else f"does not serve: {reasons[-1]}"))
    lines += [f"  {name}: could not be loaded: {reason}" for name, reason in MISSING.items()]
    if _FORCED != "auto":
        lines.append(f"RETROGRAD_BACKEND: {_FORCED} runs whatever names no backend")
    for backend in BACKENDS.values():
        lines += backend.config()
    print("\n".join(lines))
