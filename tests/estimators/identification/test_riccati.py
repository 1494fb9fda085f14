from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from retrograd.estimators.identification.riccati import Steps, covariances_before


def steps_of(count: int, n: int = 3, outputs: int = 2) -> tuple[Steps, list[tuple[Tensor, Tensor, Tensor]]]:
    """Return steps, and (F, H, Q) of each with outputs H x + e, e ~ N(0, 1): the filter as textbooks have it."""
    random = np.random.default_rng(count)
    parts = []
    for _ in range(count):
        root = random.standard_normal((n, 1))
        F, H = 0.7 * random.standard_normal((n, n)), random.standard_normal((outputs, n))
        parts.append(tuple(torch.from_numpy(matrix) for matrix in (F, H, root @ root.T)))
    F, H, Q = (torch.stack(matrices) for matrices in zip(*parts, strict=True))
    return Steps(F, Q, H.mT @ H), parts


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 9, 40])
@pytest.mark.parametrize("known", [True, False])
def test_covariances_are_those_of_one_step_after_the_other(count: int, known: bool) -> None:
    steps, parts = steps_of(count)
    P = torch.zeros(3, 3, dtype=torch.float64) if known else 10 * torch.eye(3, dtype=torch.float64)
    found = covariances_before(steps, P)
    assert found.shape == (count, 3, 3)
    for got, (F, H, Q) in zip(found, parts, strict=True):
        assert torch.allclose(got, P, rtol=0, atol=1e-13 * max(1.0, float(P.abs().max())))
        gain = P @ H.mT @ torch.linalg.inv(H @ P @ H.mT + torch.eye(2, dtype=torch.float64))
        L = torch.eye(3, dtype=torch.float64) - gain @ H
        P = F @ (L @ P @ L.mT + gain @ gain.mT) @ F.mT + Q


def test_nothing_goes_through_a_step_after_which_the_state_is_known() -> None:
    steps, _ = steps_of(9)
    kept = torch.ones(9, 1, 1, dtype=torch.float64)
    kept[4] = 0
    cut = Steps(steps.F * kept, steps.Q * kept, steps.J * kept)
    zero = torch.zeros(3, 3, dtype=torch.float64)
    assert torch.equal(covariances_before(cut, zero)[5], zero)
    assert torch.allclose(covariances_before(cut, zero)[5:], covariances_before(steps[5:], zero), rtol=0, atol=1e-13)


def test_the_gradient_is_exact() -> None:
    _, parts = steps_of(5, 2, 1)
    F, H, Q = (torch.stack(matrices).requires_grad_() for matrices in zip(*parts, strict=True))
    first = torch.eye(2, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda F, H, Q: covariances_before(Steps(F, 0.5 * (Q + Q.mT), H.mT @ H), first), (F, H, Q)
    )
