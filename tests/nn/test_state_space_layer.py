from __future__ import annotations

import numpy as np
import pytest
import torch

from retrograd.nn import StateSpace


def loop(layer: StateSpace, u: torch.Tensor, y: torch.Tensor | None, x0: torch.Tensor) -> torch.Tensor:
    x, outputs = x0, []
    for t in range(u.shape[-2]):
        expected = x @ layer.C.T + u[..., t, :] @ layer.D.T + layer.offset
        outputs.append(expected)
        e = 0 if y is None else y[..., t, :] - expected
        x = x @ layer.A.T + u[..., t, :] @ layer.B.T + (0 if y is None else e @ layer.K.T)
    return torch.stack(outputs, dim=-2)


@pytest.fixture
def layer() -> StateSpace:
    random = np.random.default_rng(0)
    matrices = [random.standard_normal(shape) for shape in ((3, 3), (3, 2), (1, 3), (1, 2), (3, 1), (1,), (3,))]
    matrices[0] *= 0.4
    matrices[4] *= 0.2
    return StateSpace.from_matrices(*matrices)


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("batch", [(), (4,)])
def test_outputs_and_gradients_are_those_of_the_loop(layer: StateSpace, known: bool, batch: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    u = torch.randn(*batch, 12, 2, dtype=torch.float64, requires_grad=True)
    y = torch.randn(*batch, 12, 1, dtype=torch.float64) if known else None
    weights = torch.randn(*batch, 12, 1, dtype=torch.float64)
    expected = loop(layer, u, y, layer.x0.expand(*batch, 3))
    found = layer(u, y)
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)
    # Without outputs no innovation is read: K has no part in the result.
    wanted = [u, *(p for name, p in layer.named_parameters() if known or name != "K")]
    for one, two in zip(
        torch.autograd.grad((found * weights).sum(), wanted),
        torch.autograd.grad((expected * weights).sum(), wanted),
        strict=True,
    ):
        assert torch.allclose(one, two, rtol=1e-10, atol=1e-10)


def test_a_start_can_be_given(layer: StateSpace) -> None:
    u, x0 = torch.randn(4, 5, 2, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    assert torch.allclose(layer(u, x0=x0), loop(layer, u, None, x0))


def test_a_fresh_layer_is_stable_and_learns() -> None:
    torch.manual_seed(0)
    layer = StateSpace(4, 1, 1)
    assert float(torch.linalg.eigvals(layer.A.detach()).abs().max()) < 1
    u = torch.randn(8, 50, 1)
    target = torch.cumsum(u, dim=1) * 0.1
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.02)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = (layer(u) - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


def test_shapes_are_checked(layer: StateSpace) -> None:
    with pytest.raises(ValueError, match=r"u has shape \(5, 3\)"):
        layer(torch.zeros(5, 3, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"y has shape \(4, 1\)"):
        layer(torch.zeros(5, 2, dtype=torch.float64), torch.zeros(4, 1, dtype=torch.float64))
