"""Blocks and models: what they compute, step by step, over every kind of sequence, in either direction."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from retrograd.nn import Bidirectional, LinearRNN, MinGRU, SequenceBlock, SequenceModel
from retrograd.nn.model import LAYERS

NAMES = list(LAYERS)


def model(layer: str, **options: Any) -> SequenceModel:
    torch.manual_seed(0)
    if layer == "S4D":
        options["order"] = 4
    return SequenceModel(3, 2, layer=layer, width=4, **options).double()


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("norm", ["layer", "rms", "none"])
@pytest.mark.parametrize("mixing", ["glu", "mlp", "none"])
def test_a_block_is_norm_layer_mixing_residual(norm: str, mixing: str) -> None:
    torch.manual_seed(0)
    layer = MinGRU(4, 4)
    block, x = SequenceBlock(layer, norm=norm, mixing=mixing).double(), drawn(2, 5, 4)
    normed = {"layer": F.layer_norm(x, [4]), "rms": F.rms_norm(x, [4]), "none": x}[norm]
    y = layer(normed)[0]
    if mixing != "none":
        y = F.linear(F.gelu(y), block.mix.weight, block.mix.bias)
        y = y[..., :4] * torch.sigmoid(y[..., 4:]) if mixing == "glu" else y
    torch.testing.assert_close(block(x)[0], x + y)


@pytest.mark.parametrize("layer", NAMES)
def test_a_model_goes_step_by_step_and_in_parts(layer: str) -> None:
    net, x = model(layer), drawn(2, 7, 3)
    y, last = net(x)
    states = None
    for t in range(7):
        y_t, states = net.step(x[:, t], states)
        torch.testing.assert_close(y_t, y[:, t])
    for part, whole in zip(states or (), last, strict=True):
        torch.testing.assert_close(part, whole)
    first, between = net(x[:, :3])
    second, _ = net(x[:, 3:], between)
    torch.testing.assert_close(torch.cat((first, second), 1), y)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layer", NAMES)
def test_padding_and_resets_give_each_sequence_alone(layer: str, bidirectional: bool) -> None:
    net, x = model(layer, bidirectional=bidirectional), drawn(2, 6, 3)
    lengths, reset = torch.tensor([6, 4]), torch.zeros(2, 6, dtype=torch.bool)
    reset[0, 2] = True
    alone = torch.cat((net(x[:1, :2])[0], net(x[:1, 2:])[0]), 1), net(x[1:, :4])[0]
    x[1, 4:] = torch.nan
    y, _ = net(x, None, lengths, reset)
    torch.testing.assert_close(y[:1], alone[0])
    torch.testing.assert_close(y[1:, :4], alone[1])
    y[0].sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
def test_pooling_sees_a_sequences_own_steps(pooling: str) -> None:
    net, x = model("MinGRU", pooling=pooling), drawn(3, 6, 3)
    every = model("MinGRU")
    every.decoder, every.norm = torch.nn.Identity(), torch.nn.Identity()
    lengths = torch.tensor([6, 4, 0])
    y, _ = net(x, lengths=lengths)
    for row, length in enumerate(lengths.tolist()):
        h = every(x[row, :length])[0] if length else torch.zeros(1, 4, dtype=x.dtype)
        pooled = {"last": h[-1], "mean": h.mean(0), "max": h.amax(0)}[pooling]
        torch.testing.assert_close(y[row], net.decoder(net.norm(pooled)))
    torch.testing.assert_close(net(x[:1])[0], y[:1])
    torch.testing.assert_close(net(x[0])[0], y[0])


def test_tokens_dropout_and_packed_sequences() -> None:
    torch.manual_seed(0)
    net = SequenceModel(7, 7, layer="QRNN", width=4, tokens=True, dropout=0.5).double()
    tokens = torch.randint(7, (1, 9))
    assert not torch.equal(net(tokens)[0], net(tokens)[0])
    net.eval()
    y, _ = net(tokens, cu_seqlens=torch.tensor([0, 4, 9]))
    torch.testing.assert_close(y, torch.cat((net(tokens[:, :4])[0], net(tokens[:, 4:])[0]), 1))
    torch.testing.assert_close(net.step(tokens[:, 0])[0], y[:, 0])


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layer", ["MinGRU", "LinearRNN"])
def test_packed_sequences_are_those_on_their_own(layer: str, bidirectional: bool) -> None:
    net, x = model(layer, bidirectional=bidirectional), drawn(1, 9, 3)
    for packed in (x, x[0]):
        y, last = net(packed, cu_seqlens=torch.tensor([0, 4, 9]))
        parts = [net(x[:, :4]), net(x[:, 4:])]
        torch.testing.assert_close(y.view(1, 9, -1), torch.cat([part for part, _ in parts], 1))
        on, _ = net(packed, last, cu_seqlens=torch.tensor([0, 4, 9]))
        again = [net(piece, states)[0] for piece, (_, states) in zip((x[:, :4], x[:, 4:]), parts, strict=True)]
        torch.testing.assert_close(on.view(1, 9, -1), torch.cat(again, 1))


@pytest.mark.parametrize("layer", ["LRU", "HGRN", "LinearRNN"])
def test_recomputed_blocks_keep_their_inputs_alone_and_give_the_same(layer: str) -> None:
    x, lengths = drawn(4, 50, 3), torch.tensor([50, 20, 0, 49])
    results, kept = [], []
    for recompute in (False, True):
        net = model(layer, recompute=recompute, dropout=0.2)
        sizes: dict[int, int] = {}

        def see(saved: Tensor, sizes: dict[int, int] = sizes) -> Tensor:
            sizes[saved.untyped_storage().data_ptr()] = saved.untyped_storage().nbytes()
            return saved

        torch.manual_seed(1)
        with torch.autograd.graph.saved_tensors_hooks(see, lambda saved: saved):
            y, _ = net(x, lengths=lengths)
        own = {p.untyped_storage().data_ptr() for p in net.parameters()}
        kept.append(sum(size for at, size in sizes.items() if at not in own) / (4 * 50 * 4 * 8))
        results.append((y, *torch.autograd.grad(y.square().sum(), list(net.parameters()))))
    for plain, again in zip(*results, strict=True):
        assert torch.equal(plain, again)
    # Two blocks' inputs, the norm's and the decoder's; x, masks and the like are smaller than an activation each.
    assert kept[1] < min(7, kept[0] / 2)


def test_a_bidirectional_layer_takes_and_gives_states_in_both_directions() -> None:
    torch.manual_seed(0)
    layer, x = Bidirectional(lambda reverse: MinGRU(3, 4, reverse=reverse)).double(), drawn(2, 5, 3)
    state = drawn(2, 8)
    y, last = layer(x, state)
    ahead, end = layer.ahead(x, state[:, :4])
    back, begin = layer.back(x, state[:, 4:])
    assert torch.equal(y, torch.cat((ahead, back), -1))
    assert torch.equal(last, torch.cat((end, begin), -1))


def test_what_cannot_be_served_is_refused() -> None:
    x = torch.zeros(1, 4, 3, dtype=torch.float64)
    with pytest.raises(ValueError, match="mixing is 'none' and the layer makes 5 features of 3"):
        SequenceBlock(MinGRU(3, 5), mixing="none")
    with pytest.raises(ValueError, match="pooling is 'mean': a step has no output"):
        model("LRU", pooling="mean").step(x[:, 0])
    with pytest.raises(ValueError, match="pool padded sequences"):
        model("LRU", pooling="mean")(x, cu_seqlens=torch.tensor([0, 4]))
    with pytest.raises(ValueError, match="bidirectional"):
        model("LRU", bidirectional=True).step(x[:, 0])
    with pytest.raises(ValueError, match="layer is 'GRU': did you mean"):
        SequenceModel(3, 1, layer="GRU")
    assert isinstance(model("LinearRNN", transition="orthogonal").blocks[0].layer, LinearRNN)


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["LRU", "MinGRU", "LinearRNN"])
def test_a_model_compiles_for_changing_lengths(layer: str) -> None:
    torch.compiler.reset()
    net = model(layer)
    compiled = torch.compile(net, fullgraph=True, dynamic=True, backend="aot_eager")
    for batch, time in ((2, 5), (3, 9), (4, 17)):
        x, lengths = drawn(batch, time, 3), torch.arange(batch) + time - batch
        results = []
        for run in (net, compiled):
            y, states = run(x, lengths=lengths)
            results.append((y, *states, *torch.autograd.grad(y.square().sum(), list(net.parameters()))))
        for got, want in zip(*results, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)
