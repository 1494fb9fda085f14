"""compile, export and make_fx: one graph, and a graph for every size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from test_scan import BACKENDS, CASES, random, transition, transition_shape
from torch import Tensor
from torch.export import Dim
from torch.fx.experimental.proxy_tensor import make_fx

import retrograd as rg

SIZES = [(2, 5), (3, 9), (4, 17), (2, 30)]  # batch and time
KINDS = ["whole", "lengths", "cu_seqlens", "reset", "lengths, reset"]
Call = Callable[..., tuple[Tensor, Tensor]]


@pytest.fixture(autouse=True)
def _tables_of_any_length() -> Iterator[None]:
    """Older versions of torch trace an operator whose output's size depends on values, as reset's, only if asked."""
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        yield


def scan_of(kind: str, structure: str, **options: Any) -> Call:
    names = [] if kind == "whole" else kind.split(", ")

    def call(A: Tensor, u: Tensor, h0: Tensor, *given: Tensor) -> tuple[Tensor, Tensor]:
        return rg.scan(transition(structure, A), u, h0, **dict(zip(names, given, strict=True)), **options)

    return call


def examples(kind: str, structure: str) -> Iterator[list[Tensor]]:
    """Arguments of the call, in several sizes."""
    generator = torch.Generator().manual_seed(0)
    for batch, time in SIZES:
        A = random(transition_shape(structure, 0, batch, time, 3), torch.float64, generator, 0.4)
        rows = 1 if kind == "cu_seqlens" else batch
        u, h0 = random((rows, time, 3), torch.float64, generator), random((batch, 3), torch.float64, generator)
        inner = torch.randint(0, time, (batch - 1,), generator=generator).sort()[0]
        given = {
            "lengths": torch.randint(0, time + 1, (batch,), generator=generator),
            "cu_seqlens": torch.cat((torch.tensor([0]), inner, torch.tensor([time]))),
            "reset": torch.rand(batch, time, generator=generator) < 0.3,
        }
        yield [A, u, h0, *(given[name] for name in given if name in kind)]


def assert_same(traced: Any, call: Any, examples: list[list[Tensor]]) -> None:
    """Values and gradients of every example are those of the call without a tracer."""
    for arguments in examples:
        results = []
        for run in (traced, call):
            leaves = [x.detach().requires_grad_() if x.is_floating_point() else x for x in arguments]
            out = run(*leaves)
            out = out if isinstance(out, tuple) else (out,)
            loss = sum((x**2).sum() for x in out)
            results.append([*out, *torch.autograd.grad(loss, [x for x in leaves if x.is_floating_point()])])
        for x, y in zip(*results, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("structure", list(CASES))
@pytest.mark.parametrize("kind", KINDS)
def test_a_graph_for_every_size(kind: str, structure: str) -> None:
    torch.compiler.reset()
    call = scan_of(kind, structure)
    given = list(examples(kind, structure))
    if structure == "diagonal":
        # Compiled for one size, again for the second one, and then for all.
        compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
        assert_same(compiled, call, given)

    with torch.no_grad():
        symbolic = make_fx(call, tracing_mode="symbolic")(*given[0])
        batch, time = Dim("batch", min=2, max=1 << 20), Dim("time", min=2, max=1 << 40)
        rows = {0: Dim.AUTO} if kind == "cu_seqlens" else {0: batch}
        steps = {1: time} if kind == "cu_seqlens" else {0: batch, 1: time}
        others = [steps if x.dtype == torch.bool else rows for x in given[0][3:]]

        class Model(torch.nn.Module):
            def forward(self, *arguments: Tensor) -> tuple[Tensor, Tensor]:
                return call(*arguments)

        exported = torch.export.export(Model(), tuple(given[0]), dynamic_shapes=(({}, steps, rows, *others),))
        for arguments in given[1:]:
            want = call(*arguments)
            for traced in (symbolic, exported.module()):
                for x, y in zip(traced(*arguments), want, strict=True):
                    torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", [True, False, None])
@pytest.mark.parametrize("structure", list(CASES))
@pytest.mark.parametrize("kind", KINDS)
def test_compiles_for_changing_sizes(kind: str, structure: str, dynamic: bool | None) -> None:
    torch.compiler.reset()
    call = scan_of(kind, structure, reverse=True)
    compiled = torch.compile(call, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    assert_same(compiled, call, list(examples(kind, structure)))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # inductor's own
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", KINDS)
def test_compiles_on_every_backend_to_machine_code(kind: str, backend: str) -> None:
    torch.compiler.reset()
    call = scan_of(kind, "dense", backend=backend)
    compiled = torch.compile(call, fullgraph=True)
    assert_same(compiled, call, list(examples(kind, "dense"))[:3])


def test_compiles_without_a_step() -> None:
    torch.compiler.reset()
    call = scan_of("whole", "diagonal")
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    assert_same(compiled, call, [[torch.rand(3), torch.rand(2, 0, 3), torch.rand(2, 3)]])
