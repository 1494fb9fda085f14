"""What a training step of each deep layer costs on a CPU, beside the ways in which others run it.

`make bench-layers`. A step is forward and backward of a (16, 1024, 256) batch, projections and all. The contenders are
those of benchmarks/layer_contenders.py: what a layer's authors published where it runs on a CPU, and the usual ways in
torch, with torch's own products and autograd.

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

import retrograd as rg
from benchmarks import layer_contenders, record
from benchmarks.run import at_most, interleaved, seconds
from retrograd.core.linear import linear
from retrograd.nn import s4d

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


@contextmanager
def torchs_products() -> Iterator[None]:
    """Let layers multiply as torch.nn.Linear does."""
    with patch.object(sys.modules["retrograd.core.linear"], "_by_torch", lambda *_: True):
        yield


# Inputs and outputs of a layer's products of every step, in widths. LinearRNN's second one is its recurrence, which
# takes as many operations one step after the other.
SHAPES = {
    "LinearRNN": [(1, 1), (1, 1)],
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
    if name == "S4D":  # of each feature's chunks: from inputs to outputs, to the state, and from the state
        size = s4d.CHUNK
        sides = [torch.randn(WIDTH, BATCH * TIME // size, size, requires_grad=True) for _ in range(6)]
        weights = [torch.randn(WIDTH, size, size, requires_grad=True) for _ in range(3)]
        chunks = list(zip(sides[:3], weights, sides[3:], strict=True))
        return lambda: [torch.autograd.grad(torch.bmm(x, W), [x, W], g) for x, W, g in chunks]
    shapes = [(WIDTH * inputs, WIDTH * outputs) for inputs, outputs in SHAPES[name]]
    arrays = [
        [torch.randn(*shape, requires_grad=True) for shape in ((BATCH, TIME, i), (o, i))]
        + [torch.randn(BATCH, TIME, o)]
        for i, o in shapes
    ]
    return lambda: [torch.autograd.grad(linear(x, W, None, "auto"), [x, W], g) for x, W, g in arrays]


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

    ways = {way: step(partial(usually, run)) for way, run in layer_contenders.WAYS[name].items()}
    jax = layer_contenders.in_jax(layer, x, g) if name in layer_contenders.JAX else None
    if jax is not None:
        ways = {"JAX, associative scan": jax[1], **ways}
    once = {way: call for way, call in ways.items() if (name, way) in layer_contenders.QUADRATIC}
    calls |= {way: call for way, call in ways.items() if way not in once}
    times, failures = interleaved(calls, budget, 120.0)
    # Apart: no contender is too slow for being slower than these.
    alone = interleaved({"retrograd": products(name)}, budget, 120.0)[0]["retrograd"]
    for way, call in once.items():
        try:
            with at_most(120.0):
                times[way] = {"median_ms": 1000 * seconds(call)}
        except TimeoutError as error:
            failures[way] = str(error)
    others = {way: times[way]["median_ms"] for way in ways if way in times}
    usual, fastest = next(iter(others)), min(others, key=lambda way: others[way])
    return {
        "layer": name,
        "times": times,
        "failures": failures,
        "usual": usual,
        "products_ms": alone["median_ms"],
        "times_faster": others[usual] / times["retrograd"]["median_ms"],
        "fastest_contender": fastest,
        "times_faster_than_it": others[fastest] / times["retrograd"]["median_ms"],
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
