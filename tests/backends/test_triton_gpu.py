"""What stands on the scan, on a GPU: the CPU's numbers, without waiting for the host."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import retrograd as rg
from retrograd.backends.triton.backend import TritonBackend
from retrograd.core.observe import observe
from retrograd.core.sequences import FORWARD
from retrograd.core.transition import Transition

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def near(got: Tensor, want: Tensor) -> None:
    assert got.is_cuda
    torch.testing.assert_close(got.cpu(), want, rtol=1e-11, atol=1e-11)


@pytest.fixture
def no_waiting() -> Iterator[None]:
    """Raise where the host waits for the device."""
    torch.cuda.synchronize()
    with warnings.catch_warnings():  # that it is a prototype
        warnings.simplefilter("ignore")
        torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


# Long enough for chunks of a time-varying dense scan and of a diagonal one of few channels.
TIME, WIDTH = 288, 32
TRANSITIONS: dict[str, tuple[Callable[[Tensor], Transition], tuple[int, ...]]] = {
    "diagonal": (rg.Diagonal, (WIDTH,)),
    "diagonal, varying": (rg.Diagonal, (TIME, WIDTH)),
    "diagonal by its logarithm": (rg.Diagonal.from_log, (TIME, WIDTH)),
    "dense": (rg.Dense, (WIDTH, WIDTH)),
    "dense, varying": (rg.Dense, (TIME, WIDTH, WIDTH)),
}
GRAPHS: dict[str, tuple[int, dict[str, Tensor]]] = {
    "whole": (2, {}),
    "lengths": (2, {"lengths": torch.tensor([TIME, 50])}),
    "cu_seqlens": (1, {"cu_seqlens": torch.tensor([0, 40, 40, TIME])}),
    "reset": (2, {"reset": (torch.arange(TIME) % 40 == 7).expand(2, TIME).contiguous()}),
    "lengths, reset": (
        2,
        {"lengths": torch.tensor([TIME, 50]), "reset": torch.arange(2 * TIME).view(2, TIME) % 40 == 7},
    ),
}


@pytest.mark.parametrize("structure", list(TRANSITIONS))
@pytest.mark.parametrize("kind", list(GRAPHS))
@pytest.mark.parametrize("reverse", [False, True])
def test_a_cuda_graph_replays_with_new_values(structure: str, kind: str, reverse: bool) -> None:
    make, shape = TRANSITIONS[structure]
    batch, on_host = GRAPHS[kind]
    A = drawn(*shape, seed=1).float().cuda() * 0.1
    given = {name: x.cuda() for name, x in on_host.items()}
    x = torch.zeros(batch, TIME, WIDTH, device="cuda")

    def step() -> tuple[Tensor, ...]:
        leaves = [leaf.detach().requires_grad_() for leaf in (A, x)]
        states, final = rg.scan(make(leaves[0]), leaves[1], reverse=reverse, **given)
        return states.detach(), *torch.autograd.grad((states**2).sum() + final.sum(), leaves)

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(2):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    for seed in (2, 3):
        x.copy_(drawn(batch, TIME, WIDTH, seed=seed))
        graph.replay()
        for got, want in zip(captured, step(), strict=True):
            assert torch.equal(got, want)


def test_the_same_bits_on_every_run() -> None:
    backend = TritonBackend()
    a = drawn(8, 512, 96, seed=1).float().sigmoid().cuda()
    u, h0 = drawn(8, 512, 96, seed=2).float().cuda(), torch.zeros(8, 96, device="cuda")
    varying = rg.Dense(drawn(512, 96, 96, seed=3).float().cuda() / 40)
    for A in (rg.Diagonal(a), rg.Diagonal(a[0, 0]), rg.Diagonal.from_log(-a), rg.Dense(a[0, :96] / 40), varying):
        first, *rest = (
            (states := backend.scan(A, u, h0), *backend.adjoint(A, u, h0, FORWARD, states, h0)[:2]) for _ in range(3)
        )
        for other in rest:
            assert all(torch.equal(x, y) for x, y in zip(first, other, strict=True))


@pytest.mark.parametrize("structure", ["diagonal", "dense"])
def test_offsets_beyond_32_bits(structure: str) -> None:
    """More than 2^31 numbers: the last steps of the last row are what they are on their own."""
    if torch.cuda.get_device_properties(0).total_memory < 40 << 30:
        pytest.skip("it takes 40 GB")
    batch, time, width = (2, (1 << 21) + 64, 512) if structure == "diagonal" else (1, (1 << 23) + 64, 256)
    dtype = torch.bfloat16 if structure == "diagonal" else torch.float32
    u = torch.ones(batch, time, width, dtype=dtype, device="cuda")
    u[-1, -32:] = torch.randn(32, width, device="cuda").to(dtype)
    A = torch.full((width,), 0.5, dtype=dtype, device="cuda")
    make: Any = rg.Diagonal(A) if structure == "diagonal" else rg.Dense(torch.diag(A) + A / width)
    states, _ = rg.scan(make, u)
    tail, _ = rg.scan(make, u[-1:, -32:].contiguous(), states[-1:, -33])
    torch.testing.assert_close(states[-1:, -32:], tail, rtol=1e-2 if structure == "diagonal" else 1e-5, atol=1e-5)


def test_a_layer_and_its_gradients() -> None:
    layer = rg.nn.LinearRNN(5, 7, num_layers=2, bidirectional=True, batch_first=True).double()
    x = drawn(3, 50, 5)
    out, last = layer(x)
    (out.sin().sum() + last.sum()).backward()
    want = [p.grad for p in layer.parameters()]
    layer.zero_grad()
    layer.cuda()
    found, found_last = layer(x.cuda())
    (found.sin().sum() + found_last.sum()).backward()
    near(found, out.detach())
    for parameter, gradient in zip(layer.parameters(), want, strict=True):
        assert parameter.grad is not None
        assert gradient is not None
        near(parameter.grad, gradient)


def test_bptt() -> None:
    x, W, V, C = drawn(2, 40, 3), drawn(4, 4, seed=1) * 0.2, drawn(4, 3, seed=2), drawn(2, 4, seed=3)

    def run(device: str) -> rg.Gradients[Tensor]:
        given = [z.to(device) for z in (x, W, V, C)]
        return rg.bptt(
            given[0],
            weight_hh=given[1],
            weight_ih=given[2],
            weight_out=given[3],
            loss=lambda y: (y**2).sum(),
            contributions=True,
        )

    here, there = run("cpu"), run("cuda")
    for name in ("states", "delta", "weight_hh", "weight_ih", "x"):
        near(getattr(there, name), getattr(here, name))


def test_a_scan_does_not_wait(no_waiting: None) -> None:
    a = torch.full((16,), 0.9, device="cuda", requires_grad=True)
    W = torch.full((2000, 16, 16), 0.05, device="cuda", requires_grad=True)
    u = torch.ones(4, 2000, 16, device="cuda", requires_grad=True)
    lengths = torch.arange(4, device="cuda") * 600
    for given in ({}, {"lengths": lengths}, {"reset": torch.zeros(4, 2000, dtype=torch.bool, device="cuda")}):
        for A in (rg.Diagonal(a), rg.Dense(W[0]), rg.Dense(W)):
            states, final = rg.scan(A, u, **given)
            torch.autograd.grad(states.sum() + final.sum(), (W if isinstance(A, rg.Dense) else a, u))


@pytest.mark.parametrize("loss", [False, True])
def test_bptt_does_not_wait(no_waiting: None, loss: bool) -> None:
    x, W, V = (torch.ones(*shape, device="cuda") * 0.1 for shape in ((2, 300, 3), (4, 4), (4, 3)))
    rg.bptt(x, weight_hh=W, weight_ih=V, loss=(lambda h: h.square().sum()) if loss else None).update(lr=0.1)


@pytest.mark.parametrize("given", [{"online": True}, {"truncate": 20, "stride": 10}], ids=["online", "truncated"])
@pytest.mark.parametrize("shape", [(4,), (4, 4)], ids=["diagonal", "dense"])
def test_a_stream_does_not_wait(no_waiting: None, given: dict[str, Any], shape: tuple[int, ...]) -> None:
    W, V = torch.full(shape, 0.1, device="cuda"), torch.ones(4, 3, device="cuda")
    stream = rg.Stream(weight_hh=W, weight_ih=V, **given)
    for _ in range(3):
        stream.feed(torch.ones(2, 30, 3, device="cuda"), loss=lambda h: h.square().sum())
    stream.update(lr=0.1)


@pytest.mark.parametrize("given", [{"online": True}, {"truncate": 8, "stride": 4}], ids=["online", "truncated"])
def test_a_stream_has_the_cpus_numbers(given: dict[str, Any]) -> None:
    W, V, x = drawn(4, seed=1) * 0.5, drawn(4, 3, seed=2), drawn(2, 24, 3)

    def run(device: str) -> rg.Stream:
        stream = rg.Stream(weight_hh=W.to(device), weight_ih=V.to(device), **given)
        for chunk in x.to(device).split(12, 1):
            stream.feed(chunk, loss=lambda h: h.sin().sum())
        return stream

    here, there = run("cpu"), run("cuda")
    for name, gradient in here.gradients.items():
        near(there.gradients[name], gradient)


LAYERS = ["LRU", "S4D", "S5", "MinGRU", "MinLSTM", "RGLRU", "HGRN", "QRNN", "SRU"]


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_and_its_gradients(name: str) -> None:
    torch.manual_seed(0)
    layer = getattr(rg.nn, name)(*(6,) * (1 if name in ("HGRN", "RGLRU", "S4D") else 2)).double()
    x = drawn(3, 40, 6)

    def run(x: Tensor) -> tuple[Tensor, list[Tensor]]:
        out, _ = layer(x)
        return out.detach(), list(torch.autograd.grad(out.sin().sum(), list(layer.parameters())))

    out, gradients = run(x)
    layer.cuda()
    found, found_gradients = run(x.cuda())
    torch.testing.assert_close(found.cpu(), out, rtol=1e-9, atol=1e-9)
    for got, want in zip(found_gradients, gradients, strict=True):
        torch.testing.assert_close(got.cpu(), want, rtol=1e-9, atol=1e-9)


def test_compiled_whole() -> None:
    a, u = drawn(6).sigmoid().cuda(), drawn(2, 300, 6, seed=1).cuda()
    compiled = torch.compile(lambda a, u: rg.scan(rg.Diagonal(a), u)[0] * 2, fullgraph=True, backend="aot_eager")
    near(compiled(a, u), 2 * rg.scan(rg.Diagonal(a.cpu()), u.cpu())[0])


def test_compiled_with_its_gradient() -> None:
    a, u = drawn(6).sigmoid().cuda().requires_grad_(), drawn(2, 300, 6, seed=1).cuda()
    compiled = torch.compile(lambda a, u: rg.scan(rg.Diagonal(a), u)[0].sin() * 2, fullgraph=True)
    (got,) = torch.autograd.grad(compiled(a, u).sum(), a)
    (want,) = torch.autograd.grad((rg.scan(rg.Diagonal(a), u)[0].sin() * 2).sum(), a)
    torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-11)


def test_data_parallel(tmp_path: Path) -> None:
    torch.distributed.init_process_group("nccl", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        layer = rg.nn.LinearRNN(4, 8, batch_first=True).cuda()
        x = torch.randn(3, 100, 4, device="cuda")
        layer(x)[0].square().mean().backward()
        want = [p.grad for p in layer.parameters()]
        layer.zero_grad()
        whole = torch.nn.parallel.DistributedDataParallel(layer)
        whole(x)[0].square().mean().backward()
        for parameter, gradient in zip(layer.parameters(), want, strict=True):
            torch.testing.assert_close(parameter.grad, gradient)
    finally:
        torch.distributed.destroy_process_group()


def test_a_recorder_watches_a_training() -> None:
    model = rg.nn.LinearRNN(3, 4).cuda()
    with rg.insight.Recorder(model) as recorder:
        for _ in range(2):
            model(torch.ones(50, 2, 3, device="cuda"))[0].square().mean().backward()
    assert len(recorder.records) == 2
    assert recorder.records[-1].delta_norm is not None
    assert np.isfinite(recorder.records[-1].delta_norm).all()


def test_insight() -> None:
    W, u = drawn(4, 4, seed=1) * 0.3, drawn(2, 60, 4)
    here, there = (rg.insight.Sweep.of_scan(rg.Dense(W.to(d)), u.to(d)) for d in ("cpu", "cuda"))
    near(there.delta, here.delta)
    near(rg.insight.lag_parts(there), rg.insight.lag_parts(here))
    assert str(rg.insight.analyse(there)).splitlines()[0] == str(rg.insight.analyse(here)).splitlines()[0]


def test_autocast_in_bfloat16() -> None:
    layer = rg.nn.LinearRNN(4, 8, batch_first=True).cuda()
    x = torch.randn(3, 100, 4, device="cuda")
    with torch.autocast("cuda", dtype=torch.bfloat16):
        out = layer(x)[0]
        out.square().mean().backward()
    torch.testing.assert_close(out.float(), layer(x)[0], rtol=0.1, atol=0.1)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


def test_mixed_precision_trains() -> None:
    torch.manual_seed(0)
    layer = rg.nn.LinearRNN(4, 8, batch_first=True).cuda()
    optimizer, scaler = torch.optim.SGD(layer.parameters(), lr=0.01), torch.amp.GradScaler("cuda")
    x = torch.randn(3, 100, 4, device="cuda")
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        with torch.autocast("cuda", dtype=torch.float16):
            loss = (layer(x)[0] - 1).square().mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(float(loss))
    assert losses[-1] < losses[0]


def test_an_estimator_trains() -> None:
    pytest.importorskip("scipy", reason="estimators need their packages")
    y = np.sin(np.arange(300) / 5.0)[:, None]
    model = rg.estimators.Recurrent(device="cuda", epochs=2, seed=0)
    model.fit(y)
    assert np.isfinite(model.forecast(4)).all()


def test_observers_see_scans_on_the_device() -> None:
    seen: list[tuple[str, bool]] = []
    with observe(lambda scan: seen.append((scan.backend, scan.states.is_cuda))):
        rg.nn.LinearRNN(2, 3).cuda()(torch.zeros(5, 1, 2, device="cuda"))
    assert seen == [("triton", True)]
