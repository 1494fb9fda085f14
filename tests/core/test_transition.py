"""Dense and Diagonal: shapes taken and refused."""

from __future__ import annotations

import pytest
import torch

import retrograd as rg


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: rg.Dense(torch.rand(3, 4)), ValueError, "W has shape (3, 4), expected square matrices"),
        (lambda: rg.Dense(torch.rand(3)), ValueError, "W has shape (3,), expected (H, H), (T, H, H)"),
        (lambda: rg.Dense(torch.ones(3, 3, dtype=torch.int32)), TypeError, "W is torch.int32, expected a floating"),
        (lambda: rg.Diagonal(torch.rand(1, 2, 3, 4)), ValueError, "a has shape (1, 2, 3, 4), expected (D,), (T, D)"),
        (lambda: rg.Diagonal([0.5]), TypeError, "a is list, expected a floating or complex torch.Tensor"),
    ],
)
def test_bad_transitions_are_named(make: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        make()  # type: ignore[operator]
    assert message in str(caught.value)


def test_from_log_is_differentiable_and_positive() -> None:
    log_a = torch.tensor([-1.0, 0.0], requires_grad=True)
    transition = rg.Diagonal.from_log(log_a)
    assert torch.equal(transition.a, torch.exp(log_a))
    states, _ = rg.scan(transition, torch.ones(2, 2))
    (gradient,) = torch.autograd.grad(states.sum(), log_a)
    assert torch.allclose(gradient, torch.exp(log_a))
