"""Other ways to compute the scans that `benchmarks/gpu.py` measures, from the same arrays (batch, time, width).

Each stands behind a check of its package: where it is missing, or fails, the result is the reason. Forward + backward
through autograd, but for the one that has no gradient.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["DENSE", "DIAGONAL", "Call", "Peer", "launched", "measured", "on_the_clock"]

Call = Callable[[], Any]
# Steps of a loop that are timed, and of one that torch.compile unrolls; a longer one takes proportionally longer.
LOOP_STEPS, UNROLLED = 256, 64


class Peer(NamedTuple):
    """A contender; ``measure`` returns milliseconds for (A, u, g)."""

    name: str
    package: str
    measure: Callable[[Tensor, Tensor, Tensor], float]


def launched(call: Call, times: int = 15) -> float:
    """Return the milliseconds between device events before and after a call."""
    call()
    call()
    found = []
    for _ in range(times):
        torch.cuda.synchronize()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        torch.cuda.synchronize()
        found.append(start.elapsed_time(end))
    return statistics.median(found)


def on_the_clock(call: Call, times: int = 8, wait: Callable[[], None] = torch.cuda.synchronize) -> float:
    """Return the milliseconds that a caller waits for a call and its results."""
    call()
    found = []
    for _ in range(times):
        wait()
        start = time.perf_counter()
        call()
        wait()
        found.append(1e3 * (time.perf_counter() - start))
    return statistics.median(found)


def measured(peers: list[Peer], A: Tensor, u: Tensor, g: Tensor) -> dict[str, float | str]:
    """Return the milliseconds of each peer, or why there are none."""
    found: dict[str, float | str] = {}
    for peer in peers:
        if find_spec(peer.package) is None:
            found[peer.name] = f"{peer.package} is not installed"
            continue
        try:
            found[peer.name] = peer.measure(A, u, g)
        except Exception as error:  # a peer's own failure is its result
            found[peer.name] = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        torch.cuda.empty_cache()
    return found


def _gradients(states: Callable[..., Tensor], given: list[Tensor], g: Tensor) -> Call:
    leaves = [x.detach().requires_grad_() for x in given]
    return lambda: torch.autograd.grad(states(*leaves), leaves, g)


def _accelerated(kernel: str, transposes: bool) -> Callable[[Tensor, Tensor, Tensor], float]:
    def measure(a: Tensor, u: Tensor, g: Tensor) -> float:
        scan = import_module(f"accelerated_scan.{kernel}").scan
        if not transposes:
            return launched(_gradients(scan, [x.mT.contiguous() for x in (a, u)], g.mT.contiguous()))
        return launched(_gradients(lambda a, u: scan(a.mT.contiguous(), u.mT.contiguous()).mT.contiguous(), [a, u], g))

    return measure


def _hgrn(name: str) -> Callable[[Tensor, Tensor, Tensor], float]:
    def measure(a: Tensor, u: Tensor, g: Tensor) -> float:
        scan = getattr(import_module("fla.ops.hgrn"), name)
        return launched(_gradients(lambda x, log_a: scan(x, log_a)[0], [u, a.log()], g))

    return measure


def _compose(first: tuple[Any, Any], second: tuple[Any, Any]) -> tuple[Any, Any]:
    return second[0] * first[0], second[0] * first[1] + second[1]


def _torch_scan(backward: bool) -> Callable[[Tensor, Tensor, Tensor], float]:
    def measure(a: Tensor, u: Tensor, g: Tensor) -> float:
        scan = import_module("torch._higher_order_ops.associative_scan").associative_scan
        compiled = torch.compile(lambda a, u: scan(_compose, (a, u), dim=1)[1], fullgraph=True, dynamic=False)
        return launched(_gradients(compiled, [a, u], g) if backward else lambda: compiled(a, u))

    return measure


def _jax_scan(a: Tensor, u: Tensor, g: Tensor) -> float:
    jax = import_module("jax")

    def states(gates: Any, drive: Any) -> Any:
        return jax.lax.associative_scan(_compose, (gates, drive), axis=1)[1]

    given, seed = [jax.dlpack.from_dlpack(x) for x in (a, u)], jax.dlpack.from_dlpack(g)
    both = jax.jit(lambda gates, drive, dh: jax.vjp(states, gates, drive)[1](dh))
    return on_the_clock(lambda: jax.block_until_ready(both(*given, seed)), wait=lambda: None)


def _loop(compiled: bool) -> Callable[[Tensor, Tensor, Tensor], float]:
    def states(A: Tensor, u: Tensor) -> Tensor:
        h, found = torch.zeros_like(u[:, 0]), []
        for t in range(u.shape[1]):
            h = (h @ A.mT if A.ndim == 2 else A[:, t] * h) + u[:, t]
            found.append(h)
        return torch.stack(found, 1)

    def measure(A: Tensor, u: Tensor, g: Tensor) -> float:
        some = min(u.shape[1], UNROLLED if compiled else LOOP_STEPS)
        run = torch.compile(states, fullgraph=True, dynamic=False) if compiled else states
        call = _gradients(run, [A if A.ndim == 2 else A[:, :some], u[:, :some]], g[:, :some])
        return on_the_clock(call, 3) * u.shape[1] / some

    return measure


def _cudnn(A: Tensor, u: Tensor, g: Tensor) -> float:
    width = u.shape[2]
    rnn = torch.nn.RNN(width, width, batch_first=True, device="cuda")
    x = u.detach().requires_grad_()
    return on_the_clock(lambda: torch.autograd.grad(rnn(x)[0], [x, *rnn.parameters()], g))


_LOOPS = [Peer("torch loop", "torch", _loop(False)), Peer("torch loop, compiled", "torch", _loop(True))]
DIAGONAL = [
    Peer("accelerated-scan, Triton, own layout", "accelerated_scan", _accelerated("scalar", False)),
    Peer("accelerated-scan, Triton", "accelerated_scan", _accelerated("scalar", True)),
    Peer("accelerated-scan, CUDA, own layout", "accelerated_scan", _accelerated("warp", False)),
    Peer("accelerated-scan, CUDA", "accelerated_scan", _accelerated("warp", True)),
    Peer("fla chunk_hgrn", "fla", _hgrn("chunk_hgrn")),
    Peer("fla fused_recurrent_hgrn", "fla", _hgrn("fused_recurrent_hgrn")),
    Peer("jax associative_scan", "jax", _jax_scan),
    Peer("torch associative_scan, compiled", "torch", _torch_scan(True)),
    Peer("torch associative_scan, compiled, forward alone", "torch", _torch_scan(False)),
    *_LOOPS,
]
DENSE = [Peer("cuDNN tanh RNN", "torch", _cudnn), *_LOOPS]
