"""Every module compiles in one graph, for every size; packed sequences as far as torch's own packing traces."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence

import retrograd as rg

DOUBLE = {"dtype": torch.float64}
SIZES = [(2, 5), (3, 9), (4, 17)]


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


def both_ways(batch: int, time: int) -> tuple[Tensor, ...]:
    return drawn(time, batch, 3), drawn(4, batch, 4)


MODULES: dict[str, tuple[torch.nn.Module, Callable[[int, int], tuple[Tensor, ...]]]] = {
    "LinearRNN": (rg.nn.LinearRNN(3, 4, batch_first=True, **DOUBLE), lambda b, t: (drawn(b, t, 3),)),
    "LinearRNN, two layers both ways": (rg.nn.LinearRNN(3, 4, 2, bidirectional=True, **DOUBLE), both_ways),
    "LinearRNNCell": (rg.nn.LinearRNNCell(3, 4, **DOUBLE), lambda b, t: (drawn(b, 3), drawn(b, 4))),
    "StateSpace": (rg.nn.StateSpace(3, 2, 1, **DOUBLE), lambda b, t: (drawn(b, t, 2), drawn(b, t, 1))),
}


def check(module: torch.nn.Module, call: object, compiled: object, sizes: list[tuple[Tensor, ...]]) -> None:
    for inputs in sizes:
        results = []
        for run in (call, compiled):
            out = run(*inputs)  # type: ignore[operator]
            out = out if isinstance(out, tuple) else (out,)
            used = list(module.parameters())
            results.append([*out, *torch.autograd.grad(sum((x**2).sum() for x in out), used, allow_unused=True)])
        for x, y in zip(*results, strict=True):
            assert (x is None) == (y is None)
            if x is not None:
                torch.testing.assert_close(x, y, rtol=1e-11, atol=1e-11)


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", [True, False, None])
@pytest.mark.parametrize("name", list(MODULES))
def test_compiles_for_changing_sizes(name: str, dynamic: bool | None) -> None:
    torch.compiler.reset()
    module, inputs = MODULES[name]
    compiled = torch.compile(module, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    check(module, module, compiled, [inputs(*size) for size in SIZES])


def test_the_plain_layer_compiles_for_changing_sizes() -> None:
    torch.compiler.reset()
    module, inputs = MODULES["LinearRNN"]
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    check(module, module, compiled, [inputs(*size) for size in SIZES])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*:UserWarning")  # of Dynamo, about its own graph breaks
def test_packed_sequences_compile_around_torchs_own_packing() -> None:
    """Dynamo does not trace ``pack_padded_sequence``: there the graph breaks, and the numbers stay right."""
    torch.compiler.reset()
    module = MODULES["LinearRNN"][0]

    def call(x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        output, h_n = module(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
        return output.data, h_n

    sizes = [(drawn(b, t, 3), torch.tensor([t, *range(1, b)])) for b, t in SIZES]
    check(module, call, torch.compile(call, backend="aot_eager"), sizes)
    torch.compiler.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported):
        torch.compile(call, fullgraph=True, backend="aot_eager")(*sizes[0])
