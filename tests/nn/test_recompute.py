"""What a layer runs again in the backward pass changes nothing but what autograd keeps."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from layer_references import MAKE, made
from torch import Tensor

from retrograd.core.observe import Seen, observe
from retrograd.nn import RGLRU, SequenceModel, recompute
from retrograd.nn.recurrence import Along

EPS = torch.finfo(torch.float64).eps
NAMES = [name for name in MAKE if name.split(",")[0] in ("S4D", "MinLSTM", "RGLRU", "HGRN", "QRNN", "SRU")]


@pytest.fixture(autouse=True)
def at_this_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recompute, "LEAST", 0)
    monkeypatch.setattr(recompute, "PIECE", 1)


def kept(run: Callable[[], Tensor]) -> int:
    """Bytes that autograd keeps."""
    found: dict[int, int] = {}

    def see(x: Tensor) -> Tensor:
        found[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(see, lambda x: x):
        run()
    return sum(found.values())


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_what_is_kept(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = made(name)
    x = torch.randn(3, 6, layer.input_size, dtype=torch.float64).requires_grad_()
    wanted, results, sizes = [x, *layer.parameters()], [], []
    for keeps in (False, True):
        if keeps:
            monkeypatch.setattr(recompute, "LEAST", 1 << 30)
        y, last = layer(x)
        loss = (y**2).sum() + (last * last.conj()).sum().real
        results.append((y, last, *torch.autograd.grad(loss, wanted)))
        sizes.append(kept(lambda: layer(x)[0]))
    for again, at_once in zip(*results, strict=True):
        assert (again - at_once).abs().max() <= 100 * EPS * (1 + at_once.abs().max())
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize("name", NAMES)
def test_tangents_and_transformations_pass(name: str) -> None:
    layer = made(name)
    x, v = torch.randn(2, 2, 5, layer.input_size, dtype=torch.float64).unbind()
    g = torch.randn(4, 2, 5, layer.output_size, dtype=torch.float64)

    def run(x: Tensor) -> Tensor:
        y: Tensor = layer(x)[0]
        return y

    _, forward = torch.func.jvp(run, (x,), (v,))
    leaf = x.clone().requires_grad_()
    each = [torch.autograd.grad(run(leaf), leaf, one)[0] for one in g]
    torch.testing.assert_close((forward * g[0]).sum(), (each[0] * v).sum(), rtol=1e-10, atol=1e-10)
    (together,) = torch.autograd.grad(run(leaf), leaf, g, is_grads_batched=True)
    torch.testing.assert_close(together, torch.stack(each), rtol=1e-10, atol=1e-10)
    by_vjp = torch.func.vmap(torch.func.vjp(run, x)[1])(g)[0]
    torch.testing.assert_close(by_vjp, torch.stack(each), rtol=1e-10, atol=1e-10)


def test_a_gradient_does_not_go_through_an_array_made_of_another() -> None:
    # x and x² are both given: the part's gradient in x is what it reads of x alone, of any order.
    along = Along(None, None, None, False, "auto")
    x = torch.randn(2, 3, 4, dtype=torch.float64).requires_grad_()

    def run(x: Tensor) -> Tensor:
        return recompute.recomputed(lambda _, x, squared: (x * squared, x[:, -1]), along, (x, x**2))[0]

    (d,) = torch.autograd.grad(run(x).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(d.sum(), x)
    torch.testing.assert_close(d, 3 * x**2)
    torch.testing.assert_close(second, 6 * x)


def test_one_result_alone_and_frozen_parameters() -> None:
    layer, x = RGLRU(3), torch.randn(2, 4, 3)
    _, last = layer(x)
    last.sum().backward()
    gradient = layer.logit.grad
    assert gradient is not None
    assert gradient.abs().min() > 0
    layer.requires_grad_(False)
    assert not layer(x)[0].requires_grad
    x.requires_grad_()
    (d,) = torch.autograd.grad(layer(x)[0].sum(), x)
    assert d.abs().min() > 0


def test_an_observer_sees_arrays_with_a_history() -> None:
    layer, seen = RGLRU(3), list[Seen]()
    with observe(seen.append):
        layer(torch.randn(2, 4, 3))[0].sum().backward()
    assert [one.states.requires_grad for one in seen] == [True]


def test_a_checkpoint_around_it() -> None:
    x, gradients = torch.randn(2, 5, 3), []
    for recomputes in (False, True):
        torch.manual_seed(0)
        model = SequenceModel(3, 2, layer="HGRN", width=4, recompute=recomputes)
        model(x)[0].sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)
