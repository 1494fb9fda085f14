"""A backend that was named is the backend that runs, for every part of the result."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import retrograd as rg
from retrograd.core.backend import BACKENDS
from retrograd.core.observe import Seen, observe

w, v, c = torch.rand(3, 3) / 3, torch.rand(3, 2), torch.rand(1, 3)
x = torch.rand(2, 7, 2)
WEIGHTS = {"weight_hh": w, "weight_ih": v, "weight_out": c}


@pytest.fixture
def _no_native(monkeypatch: pytest.MonkeyPatch) -> None:
    """The native backend's kernels raise; its memory may be used."""

    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("the native backend ran")

    for kernel in ("scan", "adjoint", "outer_sum"):
        monkeypatch.setattr(type(BACKENDS["native"]), kernel, refuse)


def gradient_of_a_scan() -> None:
    leaf = w.clone().requires_grad_()
    for memory in ("all", "sqrt"):
        for kind in ({}, {"lengths": torch.tensor([7, 3])}):
            states, _ = rg.scan(rg.Dense(leaf), x @ v.mT, backend="reference", memory=memory, **kind)
            torch.autograd.grad(states.sum(), leaf)


def whole_algorithm() -> None:
    rg.bptt(x, **WEIGHTS, loss=lambda y: (y**2).sum(), feedback=torch.arange(7) % 2 == 0, backend="reference")


def stream() -> None:
    for options in ({"online": True}, {"truncate": 3}):
        fed = rg.Stream(**WEIGHTS, **options, backend="reference")  # type: ignore[arg-type]
        fed.feed(x, loss=lambda y: (y**2).sum())
        fed.flush()


def layer() -> None:
    rnn = rg.nn.LinearRNN(2, 3, bidirectional=True, backend="reference")
    rnn(x)[0].sum().backward()


@pytest.mark.usefixtures("_no_native")
@pytest.mark.parametrize("call", [gradient_of_a_scan, whole_algorithm, stream, layer], ids=lambda call: call.__name__)
def test_reference_alone_runs(call: Callable[[], None]) -> None:
    call()


def test_the_budget_is_that_of_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """memory="auto" asks the backend, and thus the device, how much there is."""
    a, u = torch.full((64,), 0.5, requires_grad=True), torch.ones(1, 80_000, 64)

    def held() -> int:
        kept = 0

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal kept
            kept += tensor.nbytes if tensor.data_ptr() != u.data_ptr() else 0
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            rg.scan(rg.Diagonal(a), u)
        return kept

    assert held() >= u.nbytes
    monkeypatch.setattr(BACKENDS["native"], "memory", lambda device: 7 * u.nbytes, raising=False)
    assert held() < u.nbytes / 100


def test_a_gpus_budget_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    class Properties:
        total_memory = 123

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties)
    assert BACKENDS["reference"].memory(torch.device("cuda", 0)) == 123


def test_observers_see_every_scan() -> None:
    """What was given and what came out, gradients by hooks; and nothing once the context is over."""
    rnn = rg.nn.LinearRNN(2, 3, num_layers=2, bidirectional=True, batch_first=True)
    seen: list[Seen] = []
    deltas: dict[int, torch.Tensor] = {}

    def observer(scan: Seen) -> None:
        seen.append(scan)
        number = len(seen)
        scan.states.register_hook(lambda g: deltas.update({number: g}))

    with observe(observer):
        output, _ = rnn(x)
    output.sum().backward()
    assert [s.reverse for s in seen] == [False, True, False, True]
    assert sorted(deltas) == [1, 2, 3, 4]
    assert all(s.A.tensors[0] is p for s, p in zip(seen, [ws[1] for ws in rnn.all_weights], strict=True))
    assert torch.equal(torch.cat([seen[2].states, seen[3].states], -1), output)
    rnn(x)
    torch.func.grad(lambda u: rg.scan(rg.Dense(w), u)[0].sum())(x @ v.mT)
    assert len(seen) == 4
