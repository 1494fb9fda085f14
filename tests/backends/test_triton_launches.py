"""What a scan launches on a GPU, and that nothing reads a tensor on the host; seen without one (`launches.py`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from launches import host_reads, launches, meta, on_meta
from torch import Tensor

import retrograd as rg
from retrograd.backends.triton.backend import TritonBackend
from retrograd.core.backend import Spec
from retrograd.core.sequences import FORWARD, Sequences, View

BACKEND = TritonBackend(interpreted=True)
REASON = BACKEND.why_not(Spec(torch.device("cpu"), torch.float32, "diagonal"))
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))

GIVEN: dict[str, Callable[[], dict[str, Tensor]]] = {
    "whole": dict,
    "lengths": lambda: {"lengths": meta(4, dtype=torch.int64)},
    "reset": lambda: {"reset": meta(4, 2000, dtype=torch.bool)},
    "lengths, reset": lambda: {"lengths": meta(4, dtype=torch.int64), "reset": meta(4, 2000, dtype=torch.bool)},
    "cu_seqlens": lambda: {"cu_seqlens": meta(7, dtype=torch.int32)},
}


def both_ways(A: rg.Diagonal | rg.Dense, batch: int, time: int, width: int, view: View = FORWARD) -> list[list[str]]:
    u, h0 = meta(batch, time, width), meta(batch, width)
    with launches() as forward:
        BACKEND.scan(A, u, h0, view)
    with launches() as backward:
        BACKEND.adjoint(A, u, h0, view, u, h0)
    return [forward, backward]


def test_a_fitting_diagonal_is_one_kernel_each_way() -> None:
    assert both_ways(rg.Diagonal(meta(8, 4096, 2048)), 8, 4096, 2048) == [["tiles"], ["tiles"]]
    assert both_ways(rg.Diagonal(meta(64, 256, 128)), 64, 256, 128) == [["tiles"], ["tiles"]]


def test_few_channels_are_three_kernels_each_way() -> None:
    three = ["tiles", "carries", "tiles"]
    assert both_ways(rg.Diagonal(meta(1, 65536, 64)), 1, 65536, 64) == [three, three]


def test_chunks_that_fold_are_two_kernels() -> None:
    from retrograd.backends.triton import diagonal
    from retrograd.backends.triton.configurations import Tiles

    with launches() as found:
        diagonal.scan(*(meta(1, 65536, 64),) * 2, meta(1, 64), use=Tiles(8, 16, 16, 4, 1, 512, 128, 0))
    assert found == ["tiles", "tiles"]


@pytest.mark.parametrize(("time", "most"), [(1024, (24, 28)), (8192, (30, 34))])
def test_a_dense_is_a_logarithm_of_launches(time: int, most: tuple[int, int]) -> None:
    """Two sweeps of products, which take the powers along, and what comes before and after them."""
    forward, backward = both_ways(rg.Dense(meta(256, 256)), 32, time, 256)
    assert (len(forward), len(backward)) <= most
    levels = time.bit_length() - 1
    assert forward.count("add_products_kernel") == backward.count("add_products_kernel") == 2 * levels - 1
    assert backward.count("outer_sum_kernel") == 1


def test_few_rows_of_a_varying_dense_are_a_logarithm_of_products_and_four_loops() -> None:
    for found in both_ways(rg.Dense(meta(65536, 32, 32)), 1, 65536, 32):
        kernels = [name for name in found if name in ("digits_lost", "bmm", "dense_loop")]
        assert kernels == ["dense_loop", *["digits_lost", "bmm"] * 7, *["dense_loop"] * 3]


def test_many_rows_of_a_varying_dense_are_one_loop() -> None:
    forward, backward = both_ways(rg.Dense(meta(300, 32, 32)), 128, 300, 32)
    assert forward == ["dense_loop"]
    assert backward.count("dense_loop") == 1


@pytest.mark.parametrize("structure", ["diagonal", "dense", "dense, varying"])
@pytest.mark.parametrize("kind", list(GIVEN))
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64], ids=str)
def test_no_launch_waits_for_the_host(structure: str, kind: str, reverse: bool, dtype: torch.dtype) -> None:
    batch, sequences = (1, 6) if kind == "cu_seqlens" else (4, 4)
    shape = {"diagonal": (2000, 16), "dense": (16, 16), "dense, varying": (2000, 16, 16)}[structure]
    A: Any = (rg.Diagonal if structure == "diagonal" else rg.Dense)(meta(*shape, dtype=dtype))
    u, h0 = meta(batch, 2000, 16, dtype=dtype), meta(sequences, 16, dtype=dtype)
    view = Sequences(batch, 2000, **GIVEN[kind](), reverse=reverse).view("steps", u.device)
    with launches() as found:
        states = BACKEND.scan(A, u, h0, view)
        BACKEND.adjoint(A, u, h0, view, states, h0)
    assert found


def scan(kind: str) -> None:
    a, u = meta(16).requires_grad_(), meta(1 if kind == "cu_seqlens" else 4, 2000, 16).requires_grad_()
    states, final = rg.scan(rg.Diagonal(a), u, **GIVEN[kind]())
    torch.autograd.grad(states.sum() + final.sum(), (a, u))


def bptt(**given: Any) -> None:
    weights = {"weight_hh": meta(4, 4), "weight_ih": meta(4, 3), "bias": meta(4), "weight_out": meta(2, 4)}
    found = rg.bptt(meta(2, 40, 3), **weights, **given)
    assert found.weight_hh.is_meta
    found.update(lr=0.1)


def stream(weight_hh: Tensor, **given: Any) -> None:
    fed = rg.Stream(weight_hh=weight_hh, weight_ih=meta(4, 3), weight_out=meta(2, 4), **given)
    for _ in range(3):
        fed.feed(meta(2, 10, 3), loss=lambda y: (y**2).sum())
    if "truncate" in given:
        fed.flush()
    fed.update(lr=0.1)


def layer(name: str) -> None:
    made = getattr(rg.nn, name)(*(8,) * (1 if name in ("HGRN", "RGLRU", "S4D") else 2)).to("meta")
    found = made(*(meta(8, 8), meta(8, 8)) if name == "LinearRNNCell" else (meta(3, 20, 8),))
    found = found[0] if isinstance(found, tuple) else found
    found.abs().sum().backward()
    assert all(parameter.grad is not None for parameter in made.parameters())


def square(y: Tensor) -> Tensor:
    return y.square().sum()


def sweep() -> None:
    made = rg.insight.Sweep.of_scan(rg.Diagonal(meta(4)), meta(2, 50, 4))
    assert made.gradient.is_meta


ON_DEVICE: dict[str, Callable[[], None]] = {
    **{f"scan, {kind}": lambda kind=kind: scan(kind) for kind in GIVEN},
    "bptt": lambda: bptt(loss=square),
    "bptt, contributions": lambda: bptt(loss=square, contributions=True),
    "bptt, grad_final": lambda: bptt(grad_final=meta(2, 4)),
    "bptt, closed loop": lambda: bptt(loss=square, feedback=True),
    "bptt, mask": lambda: bptt(loss=square, feedback=meta(40, dtype=torch.bool), contributions=True),
    "bptt, mask in the host's memory": lambda: bptt(loss=square, feedback=torch.arange(40) > 3),
    "Stream, online": lambda: stream(meta(4), online=True),
    "Stream, online, dense": lambda: stream(meta(4, 4), online=True),
    "Stream, truncated": lambda: stream(meta(4), truncate=5, stride=2),
    "Stream, truncated, dense": lambda: stream(meta(4, 4), truncate=8),
    "insight, sweep": sweep,
    **{
        name: lambda name=name: layer(name)
        for name in (
            "LinearRNN",
            "LinearRNNCell",
            "HGRN",
            "LRU",
            "MinGRU",
            "MinLSTM",
            "QRNN",
            "RGLRU",
            "S4D",
            "S5",
            "SRU",
        )
    },
}


@pytest.mark.parametrize("what", list(ON_DEVICE))
def test_nothing_reads_a_tensor_on_the_host(what: str) -> None:
    with on_meta(), launches():
        ON_DEVICE[what]()


def recorded(time: int) -> list[str]:
    """What a Recorder reads of one step of training."""
    layer = rg.nn.LinearRNN(3, 4)
    with rg.insight.Recorder(layer), host_reads() as found:
        layer(torch.ones(time, 2, 3))[0].square().mean().backward()
    return found


def trained(time: int) -> list[int]:
    """How many numbers each epoch of a Recurrent reads."""
    pytest.importorskip("scipy", reason="estimators need their packages")
    after: list[int] = []
    with host_reads() as found:
        model = rg.estimators.Recurrent(hidden=4, epochs=4, seed=0, start="random")
        model.fit(np.sin(np.arange(time) / 5.0)[:, None], callbacks=[lambda _trainer: after.append(len(found))])
    return np.diff(after).tolist()


def looked_at(time: int) -> list[str]:
    """What two analyses read."""
    made = rg.insight.Sweep.of_scan(rg.Dense(torch.eye(4) * 0.5), torch.ones(2, time, 4))
    with host_reads() as found:
        rg.insight.flow(made)
        rg.insight.lag_map(made)
    return found


def test_what_the_host_reads_does_not_grow_with_time() -> None:
    assert recorded(50) == recorded(400)
    assert 0 < len(recorded(50)) < 20
    assert looked_at(50) == looked_at(400)
    assert 0 < len(looked_at(50)) < 30
    assert trained(60) == trained(240)
    assert max(trained(60)) < 20
