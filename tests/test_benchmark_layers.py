"""The contenders of make bench-layers compute what the layers compute; the page has the result files' figures."""

from __future__ import annotations

import pytest
import torch

from benchmarks import layer_contenders, layer_table, layers
from retrograd.nn import MinGRU, MinLSTM

WAYS = [(name, way) for name, ways in layer_contenders.WAYS.items() for way in ways]


@pytest.mark.parametrize(("name", "way"), WAYS)
def test_a_contender_computes_the_layer(name: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "WIDTH", 8)
    torch.manual_seed(0)
    layer = layers.LAYERS[name]().double()
    if way == "scan in log space":  # which keeps the candidate positive
        assert isinstance(layer, MinGRU | MinLSTM)
        layer.positive_candidate = True
    x = torch.randn(2, 70, 8, dtype=torch.float64)
    torch.testing.assert_close(layer_contenders.WAYS[name][way](layer, x), layer(x)[0])


@pytest.mark.parametrize("name", layer_contenders.JAX)
def test_a_contender_in_jax_computes_the_layer(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jax")
    monkeypatch.setattr(layers, "WIDTH", 8)
    torch.manual_seed(0)
    layer, x = layers.LAYERS[name](), torch.randn(2, 70, 8, requires_grad=True)
    y, _ = layer(x)
    calls = layer_contenders.in_jax(layer, x, torch.ones_like(y))
    assert calls is not None
    torch.testing.assert_close(torch.tensor(calls[0]().tolist()), y)
    torch.testing.assert_close(torch.tensor(calls[1]()[-1].tolist()), torch.autograd.grad(y.sum(), x)[0])


def test_what_autograd_keeps_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in (("BATCH", 4), ("TIME", 50), ("WIDTH", 16)):
        monkeypatch.setattr(layers, name, size)
    # 1 - z, the candidate and the states; and the negated weights, an eighth of an activation here
    x = torch.randn(4, 50, 16, requires_grad=True)
    assert 3 <= layers.kept_activations(layers.LAYERS["MinGRU"](), x) < 3.2


def test_no_layer_keeps_more_than_three_activations(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in (("BATCH", 32), ("TIME", 512), ("WIDTH", 32)):
        monkeypatch.setattr(layers, name, size)
    x = torch.randn(32, 512, 32, requires_grad=True)
    # And a few copies of weights.
    kept = {name: layers.kept_activations(make(), x) for name, make in layers.LAYERS.items()}
    assert {name for name, size in kept.items() if size > 3.05} == set(), kept


def test_the_page_about_layers_has_the_figures_of_the_result_files() -> None:
    page = layer_table.PAGE.read_text()
    assert layer_table.reached(layer_table.results()) in page, "run `make bench-table`"
    if "long_digits" in layer_table.results():
        assert layer_table.steps_to_lru(layer_table.results()) in page, "run `make bench-table`"
    if layers.RESULT.exists():
        assert layer_table.speeds() in page, "run `make bench-table`"
