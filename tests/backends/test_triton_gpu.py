"""What stands on the scan, on a GPU: the CPU's numbers, without waiting for the host."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

import retrograd as rg
from retrograd.core.observe import observe

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
    u = torch.ones(4, 2000, 16, device="cuda", requires_grad=True)
    lengths = torch.arange(4, device="cuda") * 600
    for given in ({}, {"lengths": lengths}, {"reset": torch.zeros(4, 2000, dtype=torch.bool, device="cuda")}):
        states, final = rg.scan(rg.Diagonal(a), u, **given)
        torch.autograd.grad(states.sum() + final.sum(), (a, u))


def test_compiled_whole() -> None:
    a, u = drawn(6).sigmoid().cuda(), drawn(2, 300, 6, seed=1).cuda()
    compiled = torch.compile(lambda a, u: rg.scan(rg.Diagonal(a), u)[0] * 2, fullgraph=True, backend="aot_eager")
    near(compiled(a, u), 2 * rg.scan(rg.Diagonal(a.cpu()), u.cpu())[0])


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
    y = np.sin(np.arange(300) / 5.0)[:, None]
    model = rg.estimators.Recurrent(device="cuda", epochs=2, seed=0)
    model.fit(y)
    assert np.isfinite(model.forecast(4)).all()


def test_observers_see_scans_on_the_device() -> None:
    seen: list[tuple[str, bool]] = []
    with observe(lambda scan: seen.append((scan.backend, scan.states.is_cuda))):
        rg.nn.LinearRNN(2, 3).cuda()(torch.zeros(5, 1, 2, device="cuda"))
    assert seen == [("triton", True)]
