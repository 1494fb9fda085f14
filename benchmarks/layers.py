"""What a training step of each deep layer costs on a CPU, beside the way the field usually writes it.

`make bench-layers`. A step is forward and backward of a (16, 1024, 256) batch, projections and all. The contenders
compute the same, with torch's own products and autograd, and run the recurrence as the authors' public code and the
usual re-implementations do: a loop over time in Python (RG-LRU, HGRN, QRNN and SRU on a CPU), torch's generic
associative scan (the algorithm of LRU and S5 in JAX), the scan in log space of the minGRU paper, and the convolution by
FFT of S4D.

"Its products" is what the matrix products of a step cost alone, forward and backward, on the library's own kernels: no
way of running the recurrence goes under it.

Memory is what autograd keeps between forward and backward beside the inputs and the parameters, in units of one
activation (16, 1024, 256) float32.
"""

from __future__ import annotations

import gc
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name everyone knows it by

import retrograd as rg
from benchmarks import record
from benchmarks.run import interleaved
from retrograd.core.linear import linear
from retrograd.core.transition import Transition
from retrograd.nn.complex_maps import as_complex
from retrograd.nn.recurrence import Along, Recurrence

RESULT = Path(__file__).parent / "results" / "layers.json"
BATCH, TIME, WIDTH = 16, 1024, 256
LAYERS: dict[str, Callable[[], Any]] = {
    "LinearRNN": lambda: rg.nn.LinearRNN(WIDTH, WIDTH, batch_first=True),
    "LRU": lambda: rg.nn.LRU(WIDTH, WIDTH // 2),
    "S4D": lambda: rg.nn.S4D(WIDTH, 64),
    "S5": lambda: rg.nn.S5(WIDTH, WIDTH // 2),
    "MinGRU": lambda: rg.nn.MinGRU(WIDTH, WIDTH),
    "MinLSTM": lambda: rg.nn.MinLSTM(WIDTH, WIDTH),
    "RGLRU": lambda: rg.nn.RGLRU(WIDTH),
    "HGRN": lambda: rg.nn.HGRN(WIDTH),
    "QRNN": lambda: rg.nn.QRNN(WIDTH, WIDTH),
    "SRU": lambda: rg.nn.SRU(WIDTH, WIDTH),
}


def loop(A: Transition, u: Tensor, h0: Tensor | None) -> tuple[Tensor, Tensor]:
    """The honest loop: unbind, whose backward is not O(T²)."""
    (a,), h, states = A.arrays, u.new_zeros(u.shape[0], u.shape[2]), []
    per_step = a[:, 0].expand(u.shape[1], *a[:, 0].shape) if A.invariant else a.unbind(1)
    for a_t, u_t in zip(per_step, u.unbind(1), strict=True):
        h = torch.addcmul(u_t, a_t, h)
        states.append(h)
    return torch.stack(states, 1), h


def associative(A: Transition, u: Tensor, h0: Tensor | None) -> tuple[Tensor, Tensor]:
    """torch's generic associative scan, the algorithm of jax.lax.associative_scan."""
    from torch._higher_order_ops.associative_scan import generic_associative_scan

    def combine(a: Tensor, u: Tensor, later: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return a * later, later * u + v

    states = generic_associative_scan(combine, (A.normal().expand(u.shape), u), 1)[1]
    return states, states[:, -1]


class Instead(Along):
    """A call whose scan is another one."""

    def __init__(self, scan: Callable[..., tuple[Tensor, Tensor]]) -> None:
        super().__init__(None, None, None, False, "auto")
        self._scan, self.keeps = scan, True

    def scan(self, A: Transition, u: Tensor, h0: Tensor | None) -> tuple[Tensor, Tensor]:
        return self._scan(A, u, h0)


@contextmanager
def torchs_products() -> Iterator[None]:
    """Let layers multiply as torch.nn.Linear does."""
    with patch.object(sys.modules["retrograd.core.linear"], "_by_torch", lambda *_: True):
        yield


def with_scan(scan: Callable[..., tuple[Tensor, Tensor]]) -> Callable[[Recurrence, Tensor], Tensor]:
    return lambda layer, x: layer.run(x, None, Instead(scan))[0]


def in_log_space(layer: Any, x: Tensor) -> Tensor:
    """minGRU and minLSTM as their paper trains them: log h_t = a*_t + logcumsumexp(log b_t - a*_t)."""

    def log_g(v: Tensor) -> Tensor:
        return torch.where(v >= 0, (F.relu(v) + 0.5).log(), -F.softplus(-v))

    candidate = log_g(layer.candidate(x))
    if isinstance(layer, rg.nn.MinGRU):
        k = layer.gate(x)
        log_a, log_b = -F.softplus(k), -F.softplus(-k) + candidate
    else:
        difference = F.softplus(-layer.forget(x)) - F.softplus(-layer.input(x))
        log_a, log_b = -F.softplus(difference), -F.softplus(-difference) + candidate
    a_star = log_a.cumsum(1)
    return (a_star + (log_b - a_star).logcumsumexp(1)).exp()


def by_fft(layer: rg.nn.S4D, x: Tensor) -> Tensor:
    """S4D as a convolution: its kernel by a Vandermonde product, the convolution by FFT at twice the length."""
    a, b = layer.discrete()
    powers = torch.exp(torch.log(a).unsqueeze(-1) * torch.arange(x.shape[1]))
    kernel = 2 * torch.einsum("fn,fnl->fl", as_complex(layer.C) * b, powers).real
    size, turned = 2 * x.shape[1], x.mT
    y = torch.fft.irfft(torch.fft.rfft(turned, size) * torch.fft.rfft(kernel, size), size)[..., : x.shape[1]]
    return (y + layer.D.unsqueeze(1) * turned).mT


def dense_loop(layer: rg.nn.LinearRNN, x: Tensor) -> Tensor:
    u = F.linear(x, layer.weight_ih_l0, layer.bias_ih_l0 + layer.bias_hh_l0)
    h, states = torch.zeros_like(u[:, 0]), []
    for u_t in u.unbind(1):
        h = torch.addmm(u_t, h, layer.weight_hh_l0.mT)
        states.append(h)
    return torch.stack(states, 1)


PRODUCTS = "its products"
# Inputs and outputs of a layer's products, a number for each step, where they are of this kind.
SHAPES = {
    "LRU": [(1, 1), (1, 1)],
    "S5": [(1, 1), (1, 1)],
    "MinGRU": [(1, 1)] * 2,
    "MinLSTM": [(1, 1)] * 3,
    "RGLRU": [(1, 1)] * 2,
    "HGRN": [(1, 1), (1, 2), (1, 2), (2, 1)],
    "QRNN": [(2, 1)] * 3,
    "SRU": [(1, 1)] * 3,
}


def products(name: str) -> Callable[[], Any]:
    """Return a step of the layer's products alone, forward and backward."""
    shapes = [(WIDTH * inputs, WIDTH * outputs) for inputs, outputs in SHAPES[name]]
    arrays = [
        [torch.randn(*shape, requires_grad=True) for shape in ((BATCH, TIME, i), (o, i))]
        + [torch.randn(BATCH, TIME, o)]
        for i, o in shapes
    ]
    return lambda: [torch.autograd.grad(linear(x, W, None, "auto"), [x, W], g) for x, W, g in arrays]


# The first is the field's usual way.
USUAL: dict[str, dict[str, Callable[[Any, Tensor], Tensor]]] = {
    "LinearRNN": {"torch loop": dense_loop},
    "LRU": {"associative scan": with_scan(associative), "torch loop": with_scan(loop)},
    "S4D": {"FFT convolution": by_fft},
    "S5": {"associative scan": with_scan(associative), "torch loop": with_scan(loop)},
    "MinGRU": {"scan in log space": in_log_space, "torch loop": with_scan(loop)},
    "MinLSTM": {"scan in log space": in_log_space, "torch loop": with_scan(loop)},
    "RGLRU": {"torch loop": with_scan(loop)},
    "HGRN": {"torch loop": with_scan(loop)},
    "QRNN": {"torch loop": with_scan(loop)},
    "SRU": {"torch loop": with_scan(loop)},
}


def kept_activations(layer: Any, x: Tensor) -> float:
    """Return the bytes that autograd keeps for the backward pass, in activations."""
    own = {x.untyped_storage().data_ptr(), *(p.untyped_storage().data_ptr() for p in layer.parameters())}
    kept: dict[int, int] = {}

    def see(saved: Tensor) -> Tensor:
        if saved.untyped_storage().data_ptr() not in own:
            kept[saved.untyped_storage().data_ptr()] = saved.untyped_storage().nbytes()
        return saved

    with torch.autograd.graph.saved_tensors_hooks(see, lambda saved: saved):
        y = layer(x)[0]
    del y
    return sum(kept.values()) / (BATCH * TIME * WIDTH * 4)


def measure(name: str, budget: float) -> dict[str, Any]:
    torch.manual_seed(0)
    layer = LAYERS[name]()
    x = torch.randn(BATCH, TIME, WIDTH, requires_grad=True)
    g, wanted = torch.randn(BATCH, TIME, layer.output_size), [x, *layer.parameters()]

    def step(forward: Callable[[], Tensor]) -> Callable[[], Any]:
        return lambda: torch.autograd.grad(forward(), wanted, g, allow_unused=True)

    calls = {"retrograd": step(lambda: layer(x)[0])}

    def usually(run: Callable[[Any, Tensor], Tensor]) -> Tensor:
        with torchs_products():
            return run(layer, x)

    calls |= {way: step(partial(usually, run)) for way, run in USUAL[name].items()}
    if name in SHAPES:
        calls[PRODUCTS] = products(name)
    times, failures = interleaved(calls, budget, 120.0)
    usual, alone = next(iter(USUAL[name])), times.pop(PRODUCTS, None)
    fastest = min((way for way in times if way != "retrograd"), key=lambda way: times[way]["median_ms"])
    return {
        "layer": name,
        "times": times,
        "failures": failures,
        "usual": usual,
        "products_ms": alone["median_ms"] if alone else None,
        "times_faster": times[usual]["median_ms"] / times["retrograd"]["median_ms"],
        "fastest_contender": fastest,
        "times_faster_than_it": times[fastest]["median_ms"] / times["retrograd"]["median_ms"],
        "activations_kept": kept_activations(layer, x),
    }


def main() -> None:
    parser = record.parser(__doc__)
    parser.add_argument("--only", default="", help="measure only the layers whose name contains this")
    parser.add_argument("--seconds", type=float, default=3.0, help="time to spend on each contender")
    options = parser.parse_args()
    writes = not (options.only or options.dry_run)
    if writes:
        record.require_clean()
    machine, rows = record.machine(), []
    for name in LAYERS:
        if options.only in name:
            gc.collect()
            rows.append(measure(name, options.seconds))
            row = rows[-1]
            shown = {way: round(t["median_ms"], 1) for way, t in row["times"].items()}
            print(
                f"{name}: {shown} ms, {row['times_faster']:.1f} times; keeps {row['activations_kept']:.2f}", flush=True
            )
            if row["failures"]:
                print(row["failures"])
    print("most memory:", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, "MB")
    if writes:
        record.write(RESULT, {"machine": machine, "shape": [BATCH, TIME, WIDTH], "layers": rows})


if __name__ == "__main__":
    main()
