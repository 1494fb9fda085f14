"""S4D in chunks of full size is the paper's loop, wherever sequences end and whatever cuts them."""

from __future__ import annotations

import pytest
import torch
from layer_references import by_the_loop
from torch import Tensor

from kinds import Kind
from retrograd.nn import S4D

TIME = 150
RESET = torch.rand(6, TIME, generator=torch.Generator().manual_seed(0)) < 0.02
LENGTHS = torch.tensor([0, 1, 64, 65, 128, TIME])
# Sequences of one step and of none, of chunks and more; resets at the first and at the last step of some.
BORDERS = torch.tensor([0, 0, 1, 65, 65, 66, TIME])
CUTS = torch.zeros(1, TIME, dtype=torch.bool)
CUTS[0, [1, 2, 63, 65, 100, TIME - 1]] = True
GIVEN: dict[str, dict[str, Tensor]] = {
    "whole": {},
    "lengths": {"lengths": LENGTHS},
    "reset": {"reset": RESET},
    "reset everywhere": {"reset": torch.ones(2, TIME, dtype=torch.bool)},
    "lengths, reset": {"lengths": LENGTHS, "reset": RESET},
    "packed": {"cu_seqlens": BORDERS},
    "packed, reset": {"cu_seqlens": BORDERS, "reset": CUTS},
    "nothing but padding": {"lengths": torch.zeros(2, dtype=torch.int64)},
}


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", list(GIVEN))
def test_chunks_are_the_loop(name: str, reverse: bool) -> None:
    given = GIVEN[name]
    batch = 1 if "cu_seqlens" in given else len(next(iter(given.values()), RESET))
    torch.manual_seed(0)
    layer = S4D(3, 4, method="bilinear" if reverse else "zoh", reverse=reverse, dtype=torch.float64)
    kind = Kind.of(given, batch, TIME)
    x = torch.randn(batch, TIME, 3, dtype=torch.float64, requires_grad=True)
    state = torch.randn(len(kind.sequences), 6, dtype=torch.complex128, requires_grad=True)
    results = []
    for y, last in (layer(x, state, **given), by_the_loop("S4D", layer, x, state, kind)):
        loss = (y * torch.linspace(-1, 1, TIME, dtype=y.dtype).unsqueeze(1)).sum() + (last.real - last.imag).sum()
        results.append((y, last, *torch.autograd.grad(loss, [x, state, *layer.parameters()], materialize_grads=True)))
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-11)
    if batch == 1:
        row = {k: v[0] if k == "reset" else v for k, v in given.items()}
        for got, want in zip(layer(x[0], state, **row), results[0], strict=False):
            torch.testing.assert_close(got, want.squeeze(0) if got.shape != want.shape else want, rtol=0, atol=1e-13)


def test_cut_sequences_keep_little() -> None:
    """The states of all steps would be 64 activations."""
    layer, x = S4D(8, 64), torch.randn(4, 512, 8, requires_grad=True)
    kept: dict[int, int] = {}

    def see(saved: Tensor) -> Tensor:
        kept[saved.untyped_storage().data_ptr()] = saved.untyped_storage().nbytes()
        return saved

    reset = torch.zeros(4, 512, dtype=torch.bool)
    reset[:, 100] = True
    with torch.autograd.graph.saved_tensors_hooks(see, lambda saved: saved):
        layer(x, reset=reset)
    own = sum(p.numel() for p in layer.parameters()) * 4
    weights = 8 * (64 * (64 + 64) + 64 * 65) * 4
    assert sum(kept.values()) - own - weights < 4 * x.nbytes
