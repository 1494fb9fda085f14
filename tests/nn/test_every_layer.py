"""What every layer on a diagonal scan promises: its paper's equations, in whatever kind of sequence."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from layer_references import MAKE, by_the_loop, made
from safetensors.torch import load_model, save_model
from torch import Tensor

from kinds import KINDS, Kind
from retrograd.nn import recompute, s4d
from retrograd.nn.recurrence import Recurrence

NAMES = list(MAKE)
EPS = torch.finfo(torch.float64).eps


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """S4D walks in chunks: two steps, so that these sequences have several, whole and cut.

    What is run again in the backward pass is so at this size too, row by row.
    """
    monkeypatch.setattr(s4d, "CHUNK", 2)
    monkeypatch.setattr(recompute, "LEAST", 0)
    monkeypatch.setattr(recompute, "PIECE", 1)


def drawn(layer: Recurrence, batch: int, time: int, count: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """x, a state, and weights for every output and last state, so that all of them count."""
    source = torch.Generator().manual_seed(batch + time + count)
    state = torch.complex128 if layer.complex_state else torch.float64
    x, g = (torch.randn(batch, time, n, dtype=dtype, generator=source) for n in (layer.input_size, layer.output_size))
    h0, g_last = (torch.randn(count, layer.state_size, dtype=state, generator=source) for _ in range(2))
    return [x.requires_grad_(), h0.requires_grad_(), g, g_last]


def loss(y: Tensor, last: Tensor, g: Tensor, g_last: Tensor) -> Tensor:
    return (y * g).sum() + (last * g_last.conj()).sum().real


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("name", NAMES)
def test_a_layer_is_its_papers_loop(name: str, kind: str) -> None:
    # Backward in time where the kind is cut: the harder half of the cases.
    layer = made(name, reverse="reset" in kind)
    batch, count, given = KINDS[kind]
    x, h0, g, g_last = drawn(layer, batch, 4, count)
    wanted = [x, h0, *layer.parameters()]
    found = layer(x, h0, **given)
    expected = by_the_loop(name, layer, x, h0, Kind.of(given, batch, 4))
    gradients = [
        torch.autograd.grad(loss(*both, g, g_last), wanted, allow_unused=True, materialize_grads=True)
        for both in (found, expected)
    ]
    # A result passes some 100 operations, among them exponentials of a few units.
    for got, want in zip((*found, *gradients[0]), (*expected, *gradients[1]), strict=True):
        assert (got - want).abs().max() <= 200 * EPS * (1 + want.abs().max())


@pytest.mark.parametrize("name", NAMES)
def test_steps_give_what_the_whole_gives(name: str) -> None:
    layer = made(name)
    x, h0, *_ = drawn(layer, 2, 5, 2)
    y, last = layer(x, h0)
    state: Tensor | None = h0
    for t in range(5):
        y_t, state = layer.step(x[:, t], state)
        assert (y_t - y[:, t]).abs().max() <= 100 * EPS * (1 + y.abs().max())
    assert state is not None
    assert (state - last).abs().max() <= 100 * EPS * (1 + last.abs().max())
    # A state and its absence, a batch and its absence.
    zero = layer.initial_state(x, 2)
    for got, want in zip(layer(x), layer(x, zero), strict=True):
        assert torch.equal(got, want)
    for got, want in zip(layer(x[1], h0[1]), layer(x, h0), strict=True):
        torch.testing.assert_close(got, want[1], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer.step(x[1, 0])[0], layer(x)[0][1, 0], rtol=1e-12, atol=1e-12)
    assert layer(x[0])[1].shape == (layer.state_size,)


@pytest.mark.parametrize("name", NAMES)
def test_every_derivative(name: str) -> None:
    if "positive" in name:
        pytest.skip("g is differentiable once")
    layer = made(name)
    names = [name for name, _ in layer.named_parameters()]

    def call(x: Tensor, h0: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        given = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(layer, given, (x, h0))  # type: ignore[no-any-return]

    x, h0, *_ = drawn(layer, 1, 3, 1)
    inputs = (x, h0, *layer.parameters())
    assert torch.autograd.gradcheck(call, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(call, inputs, fast_mode=True)


@pytest.mark.parametrize("name", NAMES)
def test_what_stands_in_padding_reaches_nothing(name: str) -> None:
    layer = made(name)
    x, _, g, g_last = drawn(layer, 3, 5, 3)
    lengths = torch.tensor([5, 0, 2])
    padding = torch.arange(5) >= lengths[:, None]
    results = []
    for filler in (0.0, torch.nan):
        filled = x.detach().masked_fill(padding[..., None], filler).requires_grad_()
        y, last = layer(filled, lengths=lengths)
        results.append((y, last, *torch.autograd.grad(loss(y, last, g, g_last), [filled, *layer.parameters()])))
    for clean, dirty in zip(*results, strict=True):
        assert torch.equal(clean, dirty)
    assert not results[0][0][padding].any()
    assert not results[0][2][padding].any()


@pytest.mark.parametrize("name", NAMES)
def test_no_sequences_and_no_steps(name: str) -> None:
    layer = made(name)
    for batch, time in ((0, 5), (2, 0)):
        x, h0, *_ = drawn(layer, batch, time, batch)
        y, last = layer(x, h0)
        assert y.shape == (batch, time, layer.output_size)
        assert torch.equal(last, h0)
        for gradient in torch.autograd.grad(y.sum(), [x, *layer.parameters()]):
            assert not gradient.any()


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_keeps_its_state_in_float32(name: str) -> None:
    layer = made(name).float()
    x, *_ = drawn(layer, 2, 5, 2, torch.float32)
    y, _ = layer(x)
    wide = torch.complex64 if layer.complex_state else torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        reduced, last = layer(x)
    assert last.dtype == wide
    assert reduced.dtype == torch.float32
    # bfloat16 has 8 bits: some ten roundings of 2^-9 of numbers of size 1.
    assert (reduced - y).abs().max() <= 0.05 * (1 + y.abs().max())
    reduced.sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in layer.parameters())
    half = layer.to(torch.bfloat16)
    reduced, last = half(x.bfloat16(), last)
    assert reduced.dtype == torch.bfloat16
    assert last.dtype == wide


@pytest.mark.parametrize("name", NAMES)
def test_a_layer_goes_through_a_file(name: str, tmp_path: Path) -> None:
    layer, other = made(name), MAKE[name][0]().double()
    save_model(layer, str(tmp_path / "layer.safetensors"))
    load_model(other, str(tmp_path / "layer.safetensors"))
    x, h0, *_ = drawn(layer, 2, 4, 2)
    for got, want in zip(other(x, h0), layer(x, h0), strict=True):
        assert torch.equal(got, want)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_layer_compiles_for_changing_lengths(name: str) -> None:
    torch.compiler.reset()
    layer = made(name)
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend="aot_eager")
    for batch, time in ((2, 5), (3, 9), (4, 17)):
        x, h0, g, g_last = drawn(layer, batch, time, batch)
        lengths = torch.arange(batch) + time - batch
        results = []
        for run in (layer, compiled):
            y, last = run(x, h0, lengths)
            results.append((y, last, *torch.autograd.grad(loss(y, last, g, g_last), [x, h0, *layer.parameters()])))
        for got, want in zip(*results, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_lengths_that_cannot_be_are_refused(name: str) -> None:
    layer = made(name)
    x = torch.zeros(2, 6, layer.input_size, dtype=torch.float64)
    bad: list[tuple[object, type[Exception], str]] = [
        (torch.tensor([-1, 3]), ValueError, r"lengths\[0\] is -1, expected 0 to"),
        (torch.tensor([6, 9]), ValueError, r"lengths\[1\] is 9, expected 0 to"),
        (torch.tensor([6.0, 3.0]), TypeError, "lengths is torch.float32, expected an integer tensor"),
        (torch.tensor([6]), ValueError, r"lengths has shape \(1,\), expected \(batch,\)"),
        ([6, 3], TypeError, "lengths is list, expected an integer tensor"),
    ]
    for lengths, error, message in bad:
        with pytest.raises(error, match=message):
            layer(x, lengths=lengths)
    with pytest.raises(TypeError, match=r"state is str, expected a torch\.Tensor"):
        layer(x, "state")


def test_messages_name_the_argument() -> None:
    layer = made("MinGRU")
    x = torch.zeros(2, 5, 3, dtype=torch.float64)
    cases = [
        ((x.long(),), TypeError, "x is torch.int64, expected a floating torch.Tensor"),
        ((x[0, 0],), ValueError, r"x has shape \(3,\), expected \(batch, time, input_size\)"),
        ((x[..., :2],), ValueError, r"x has shape \(2, 5, 2\), expected .* = \(2, 5, 3\)"),
        ((x.float(),), ValueError, "x is torch.float32, the weights are torch.float64"),
        ((x, x[:, 0]), ValueError, r"state has shape \(2, 3\), expected \(batch, state_size\) = \(2, 4\)"),
    ]
    for arguments, kind, message in cases:
        with pytest.raises(kind, match=message):
            layer(*arguments)
    with pytest.raises(ValueError, match="reverse=True"):
        made("MinGRU", reverse=True).step(x[:, 0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="it needs a GPU")
@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("name", NAMES)
def test_a_layer_on_a_gpu_is_the_layer_on_the_cpu(name: str, kind: str) -> None:
    layer = made(name)
    batch, count, given = KINDS[kind]
    arrays = drawn(layer, batch, 4, count)
    results = []
    for device in ("cpu", "cuda"):
        moved = layer.to(device)
        x, h0, g, g_last = (array.detach().to(device).requires_grad_() for array in arrays)
        y, last = moved(x, h0, **{key: value.to(device) for key, value in given.items()})
        gradients = torch.autograd.grad(loss(y, last, g, g_last), [x, h0, *moved.parameters()])
        results.append([one.detach().cpu() for one in (y, last, *gradients)])
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-11)
