"""Gradients of the training loss against autograd of the plain loop; optimizers; states that continue exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from retrograd.errors import InputError
from retrograd.estimators import OPTIMIZERS, DivergenceError, Trainer
from retrograd.estimators.recurrent import checkpoint, training
from retrograd.estimators.recurrent.network import Network
from retrograd.estimators.recurrent.training import loss_and_gradients

STEPS = 23


def problem(exogenous: int = 1, seed: int = 0) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    y, z = rng.normal(size=(STEPS + 1, 2)), rng.normal(size=(STEPS + 1, exogenous))
    names = [f"z{i}" for i in range(exogenous)]
    model = Network.untrained(y, z, hidden=4, target_names=["a", "b"], input_names=names, seed=seed)
    weights = {name: weight + 0.1 for name, weight in model.weights.items()}
    return weights, *model.series(y, z)


def brute_loss(weights: dict[str, Tensor], x: Tensor, target: Tensor, horizon: int | None) -> Tensor:
    """The training loss as its definition reads: one step after the other."""
    w = weights

    def step(h: Tensor, read: Tensor) -> tuple[Tensor, Tensor]:
        h = w["weight_hh"] @ h + w["weight_ih"] @ read + w["bias"]
        return h, w["weight_out"] @ h + w["bias_out"]

    h, before, squares = w["h0"], [], []
    for t in range(len(x)):
        before.append(h)
        h, y = step(h, x[t])
        if horizon is None:
            squares.append((y - target[t]).square())
    if horizon is not None:
        for start in range(len(x) - horizon, -1, -max(1, horizon // 4)):
            h, y = step(before[start], x[start])
            squares.append((y - target[start]).square())
            for t in range(start + 1, start + horizon):
                h, y = step(h, torch.cat([y, x[t, len(y) :]]))
                squares.append((y - target[t]).square())
    return torch.stack(squares).mean()


@pytest.mark.parametrize("exogenous", [0, 1])
@pytest.mark.parametrize("horizon", [None, 2, 9, STEPS])
def test_loss_and_gradients_are_those_of_the_plain_loop(horizon: int | None, exogenous: int) -> None:
    weights, x, target = problem(exogenous)
    loss, gradients, delta = loss_and_gradients(weights, x, target, horizon)
    leaves = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
    want = brute_loss(leaves, x, target, horizon)
    want.backward()  # type: ignore[no-untyped-call]
    assert float(loss) == pytest.approx(float(want.detach()), rel=1e-13)
    assert delta.shape == (STEPS, 4)
    for name, leaf in leaves.items():
        assert leaf.grad is not None
        torch.testing.assert_close(gradients[name], leaf.grad, rtol=1e-11, atol=1e-13, msg=name)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("horizon", [None, 5])
def test_every_optimizer_lowers_the_loss(name: str, horizon: int | None) -> None:
    trainer = Trainer(*problem(), optimizer=name, horizon=horizon)
    losses = [trainer.step().loss for _ in range(15)]
    assert losses[-1] < 0.99 * losses[0]
    trainer.finish()
    assert trainer.best_loss <= min(losses)


def test_the_best_weights_are_those_of_the_lowest_loss() -> None:
    weights, x, target = problem()
    trainer = Trainer(weights, x, target, lr=0.3)  # too large: the loss goes up and down
    losses = [trainer.step().loss for _ in range(30)]
    assert losses != sorted(losses, reverse=True)
    trainer.finish()
    best = float(loss_and_gradients(trainer.best, x, target, None)[0])
    assert best == trainer.best_loss <= min(losses)


def test_clipping_bounds_the_update() -> None:
    weights, x, target = problem()
    trainer = Trainer(weights, x, target, optimizer="sgd", lr=1.0, clip=1e-3)
    trainer.step()
    moved = torch.stack([(trainer.weights[name] - weights[name]).norm() for name in weights]).norm()
    assert float(moved.detach()) == pytest.approx(1e-3, rel=1e-5)  # torch clips to clip / (norm + 1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_restored_training_continues_bit_for_bit(name: str, tmp_path: Path) -> None:
    whole, part = (Trainer(*problem(), optimizer=name) for _ in range(2))
    for _ in range(12):
        whole.step()
    for _ in range(5):
        part.step()
    checkpoint.save(tmp_path / "state.safetensors", part.state())
    rest = Trainer(*problem(seed=1)[:1], *problem()[1:], optimizer=name)  # its own weights must not matter
    rest.restore(checkpoint.load(tmp_path / "state.safetensors"))
    for _ in range(7):
        rest.step()
    assert rest.history == whole.history
    assert rest.best_loss == whole.best_loss
    for weight in whole.weights:
        assert torch.equal(rest.weights[weight], whole.weights[weight]), weight
        assert torch.equal(rest.best[weight], whole.best[weight]), weight


def test_divergence_names_the_epoch_and_keeps_the_best() -> None:
    weights, x, target = problem()
    trainer = Trainer(weights, x, target, optimizer="sgd", lr=1e6)
    start = float(loss_and_gradients(weights, x, target, None)[0])

    def train() -> None:
        for _ in range(20):
            trainer.step()

    with pytest.raises(DivergenceError, match=r"stopped at epoch \d: the loss is .* try a smaller lr, or clip=1"):
        train()
    assert trainer.best_loss == start
    assert torch.equal(trainer.best["weight_hh"], weights["weight_hh"])


def test_a_line_search_turns_back_where_the_loss_overflows(monkeypatch: pytest.MonkeyPatch) -> None:
    weights, x, target = problem()
    x, target = x.repeat(200, 1), target.repeat(200, 1)
    seen = []

    def spied(*args: Any) -> Any:
        seen.append(loss_and_gradients(*args))
        return seen[-1]

    monkeypatch.setattr(training, "loss_and_gradients", spied)
    trainer = Trainer(weights, x, target, optimizer="lbfgs", lr=2.0)
    losses = [trainer.step().loss for _ in range(4)]
    assert not all(loss.isfinite() for loss, _, _ in seen)  # a trial did overflow
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("damage", ["missing", "text", "other"])
def test_a_damaged_checkpoint_is_named(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    if damage == "text":
        path.write_text("no tensors")
    elif damage == "other":
        from safetensors.torch import save_file

        save_file({"a": torch.ones(1)}, path)
    with pytest.raises(InputError, match=r"checkpoint .*state.safetensors cannot be read"):
        checkpoint.load(path)


def test_a_checkpoint_refuses_what_it_cannot_hold(tmp_path: Path) -> None:
    held: Any = {"bad": {1, 2}}
    with pytest.raises(TypeError, match="not set"):
        checkpoint.save(tmp_path / "state.safetensors", held)
    assert not list(tmp_path.iterdir())
