"""The training helper: parts that go on from one another, clipping, and training that goes on after a stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from retrograd.nn import SequenceModel
from retrograd.nn.training import in_rows, load_checkpoint, parts, save_checkpoint, train_step


def start(seed: int = 0) -> tuple[SequenceModel, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    model = SequenceModel(2, 1, layer="LRU", width=4, depth=2, dropout=0.1)
    return model, torch.optim.Adam(model.parameters(), lr=0.01)


def data() -> tuple[Tensor, Tensor, Tensor]:
    source = torch.Generator().manual_seed(1)
    x = torch.randn(3, 20, 2, generator=source)
    return x, x.cumsum(1)[..., :1], torch.rand(3, 20, generator=source) < 0.1


def epoch(model: Any, optimizer: Any, states: Any = None, after: int = 0, until: int = 99) -> tuple[list[float], Any]:
    values = []
    for k, (x, y, reset) in enumerate(parts(6, *data())):
        if after <= k < until:
            value, states = train_step(model, optimizer, F.mse_loss, x, y, states, reset=reset, clip=0.5)
            values.append(value)
    return values, states


def test_parts_forward_are_the_whole_and_gradients_end_at_their_first_step() -> None:
    model, _ = start()
    model.eval()
    x, _, reset = data()
    whole, last = model(x, reset=reset)
    outputs, states = [], None
    for part, cut in parts(7, x, reset):
        y, states = model(part, states, reset=cut)
        outputs.append(y)
    assert [y.shape[1] for y in outputs] == [7, 7, 6]
    torch.testing.assert_close(torch.cat(outputs, 1), whole)
    for got, want in zip(states or (), last, strict=True):
        torch.testing.assert_close(got, want)


def test_a_step_is_the_optimizers_on_the_clipped_gradient() -> None:
    (model, _), (other, _) = start(), start()
    model.eval(), other.eval()
    x, y, _ = data()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    value, states = train_step(model, optimizer, F.mse_loss, x, y, clip=0.01)
    loss = F.mse_loss(other(x)[0], y)
    gradients = torch.autograd.grad(loss, list(other.parameters()), allow_unused=True, materialize_grads=True)
    norm = torch.stack([g.norm() for g in gradients]).norm()
    assert value == loss.item()
    assert norm > 0.01
    for p, q, g in zip(model.parameters(), other.parameters(), gradients, strict=True):
        torch.testing.assert_close(p, q - 0.01 / norm * g, rtol=1e-4, atol=1e-7)
    assert not any(state.requires_grad for state in states)


def test_training_goes_on_after_a_stop_in_the_same_bits(tmp_path: Path) -> None:
    model, optimizer = start()
    values, _ = epoch(model, optimizer)
    stopped, optimizer = start()
    first, states = epoch(stopped, optimizer, until=2)
    save_checkpoint(tmp_path / "c.pt", stopped, optimizer, states, part=2)
    again, optimizer = start(seed=5)
    states, progress = load_checkpoint(tmp_path / "c.pt", again, optimizer)
    assert progress == {"part": 2}
    rest, _ = epoch(again, optimizer, states, after=2)
    assert first + rest == values
    for p, q in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(p, q)


def test_what_cannot_be_done_is_refused() -> None:
    model, optimizer = start()
    x, y, _ = data()
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(FloatingPointError, match="the loss is nan"):
        train_step(model, optimizer, F.mse_loss, x, y * torch.nan)
    assert all(torch.equal(p, q) for p, q in zip(before, model.parameters(), strict=True))
    with pytest.raises(ValueError, match=r"expected one \(batch, time\) for all"):
        list(parts(2, x, y[:, :-1]))
    with pytest.raises(ValueError, match="rows is 8, expected a whole number from 1 to 7"):
        in_rows(torch.zeros(7), 8)
    with pytest.raises(ValueError, match="clip is 0"):
        train_step(model, optimizer, F.mse_loss, x, y, clip=0)
