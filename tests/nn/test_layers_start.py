"""Where each layer's memories start: the spectra that its paper asks for."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from retrograd.nn import HGRN, LRU, RGLRU, S4D, S5, LinearRNN, LowerBounds, SequenceBlock, SequenceModel
from retrograd.nn.s4d import initial_rate
from retrograd.nn.s5 import hippo_normal


def test_lru_starts_uniform_on_its_ring() -> None:
    torch.manual_seed(0)
    layer = LRU(2, 20_000, r_min=0.5, r_max=0.9, max_phase=math.pi / 2, dtype=torch.float64)
    eigenvalues = layer.eigenvalues().detach()
    squared, phase = eigenvalues.abs().square(), eigenvalues.angle()
    for found, low, high in ((squared, 0.25, 0.81), (phase, 0.0, math.pi / 2)):
        assert low <= found.min()
        assert found.max() <= high
        # Kolmogorov-Smirnov: of 20,000 uniform numbers the distance stays under 1.95 / √n in 999 of 1000 cases.
        place = (found.sort().values - low) / (high - low)
        assert (place - torch.linspace(0, 1, 20_000)).abs().max() < 1.95 / 20_000**0.5
    assert layer.gamma_log is not None
    torch.testing.assert_close(layer.gamma_log.detach().exp().square(), 1 - squared, rtol=0, atol=1e-9)


def test_lru_states_have_their_inputs_variance() -> None:
    torch.manual_seed(1)
    layer = LRU(64, 200, r_min=0.5, r_max=0.99)
    seen: list[Tensor] = []
    from retrograd.core.observe import observe

    with torch.no_grad(), observe(lambda one: seen.append(one.states)):
        layer(torch.randn(16, 1000, 64))
    # E|h|² = γ² Σ |λ|^2k E|(Bx)|² = 1 for B of variance 1 / (2 · 64) a part
    assert 0.9 < seen[0][:, 500:].abs().square().mean().item() < 1.1


def test_hippo_is_diagonalised() -> None:
    rate, V = hippo_normal(12)
    n = torch.arange(12, dtype=torch.float64)
    root = (n[:, None] + 0.5).sqrt() * (n + 0.5).sqrt()
    A = torch.where(n[:, None] > n, -root, root).fill_diagonal_(-0.5)
    torch.testing.assert_close(A.to(V.dtype) @ V, V * rate, rtol=1e-12, atol=1e-12)
    assert (rate.imag > 0).all()
    spectrum = torch.linalg.eigvals(A).imag.sort().values[6:]
    torch.testing.assert_close(rate.imag.sort().values, spectrum, rtol=1e-12, atol=1e-12)


def test_s4d_starts_at_its_papers_rates() -> None:
    n = torch.arange(4, dtype=torch.float64)
    torch.testing.assert_close(initial_rate("lin", 8), -0.5 + 1j * math.pi * n)
    torch.testing.assert_close(initial_rate("inv", 8), -0.5 + 1j * 8 / math.pi * (8 / (2 * n + 1) - 1))
    torch.testing.assert_close(initial_rate("legs", 8), hippo_normal(8)[0])
    layer = S4D(5, 8, initial="inv", dtype=torch.float64)
    delta = layer.delta_log.detach().exp()
    assert ((delta >= 0.001) & (delta <= 0.1)).all()
    torch.testing.assert_close(layer.eigenvalues().detach(), torch.exp(delta[:, None] * initial_rate("inv", 8)))


@pytest.mark.parametrize("method", ["zoh", "bilinear"])
def test_s5_is_stable_and_starts_at_hippo(method: str) -> None:
    layer = S5(3, 8, blocks=2, method=method, dtype=torch.float64)
    rate = hippo_normal(8)[0].repeat(2)
    torch.testing.assert_close(-layer.decay_log.detach().exp() + 1j * layer.frequency.detach(), rate)
    assert (layer.eigenvalues().abs() < 1).all()
    with torch.no_grad():
        for parameter in (layer.decay_log, layer.frequency, layer.delta_log):
            parameter.uniform_(-3, 3)
    assert (layer.eigenvalues().abs() < 1).all()  # whatever is trained


def test_rg_lru_starts_between_its_decays() -> None:
    layer = RGLRU(1000, a_min=0.8, a_max=0.95, dtype=torch.float64)
    powers = torch.sigmoid(layer.logit.detach()) ** 8
    assert 0.8 <= powers.min() < 0.81
    assert 0.94 < powers.max() <= 0.95


def test_hgrn_forgets_less_from_layer_to_layer() -> None:
    bounds = LowerBounds(4, 3)
    torch.nn.init.normal_(bounds.logits)
    found = bounds()
    assert (found[0] == 0).all()
    assert (found.diff(dim=0) > 0).all()
    assert (found < 1).all()
    model = SequenceModel(2, 1, layer="HGRN", width=4, depth=3)
    layers = [block.layer for block in model.blocks]
    assert all(isinstance(layer, HGRN) and layer.bounds is layers[0].bounds for layer in layers)
    assert [layer.layer for layer in layers] == [0, 1, 2]


@pytest.mark.parametrize("size", [1, 2, 7, 8])
@pytest.mark.parametrize("transition", ["orthogonal", "spectral_norm", "eigenvalues"])
def test_a_stable_transition_stays_stable(transition: str, size: int) -> None:
    torch.manual_seed(size)
    rnn = LinearRNN(3, size, 2, transition=transition, bidirectional=True, dtype=torch.float64)
    for _ in range(2):
        for name in ("weight_hh_l0", "weight_hh_l1_reverse"):
            W = getattr(rnn, name).detach()
            assert W.shape == (size, size)
            if transition == "orthogonal":
                torch.testing.assert_close(W @ W.mT, torch.eye(size, dtype=W.dtype), rtol=0, atol=1e-12)
            elif transition == "spectral_norm":
                assert torch.linalg.matrix_norm(W, 2) <= 1 + 1e-12
            else:
                assert torch.linalg.eigvals(W).abs().max() < 1 + 1e-9
        with torch.no_grad():
            for parameter in rnn.parameters():
                parameter.add_(torch.randn_like(parameter))
    before = rnn.weight_hh_l0
    rnn.reset_parameters()
    # The only rotation of a line is 1.
    assert torch.equal(before, rnn.weight_hh_l0) == (transition == "orthogonal" and size == 1)


@pytest.mark.parametrize("transition", ["orthogonal", "spectral_norm", "eigenvalues"])
def test_a_stable_transition_has_every_derivative(transition: str) -> None:
    torch.manual_seed(3)
    rnn = LinearRNN(2, 3, transition=transition, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        for parameter in rnn.parameters():
            parameter.add_(torch.randn_like(parameter))
    names = [name for name, _ in rnn.named_parameters()]
    x = torch.randn(1, 4, 2, dtype=torch.float64)

    def call(*parameters: Tensor) -> Tensor:
        return torch.func.functional_call(rnn, dict(zip(names, parameters, strict=True)), (x,))[0]

    inputs = tuple(parameter.detach().requires_grad_() for parameter in rnn.parameters())
    assert torch.autograd.gradcheck(call, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(call, inputs, fast_mode=True)


def test_an_assigned_matrix_is_refused_where_not_every_one_can_be_made() -> None:
    rnn = LinearRNN(3, 4, transition="orthogonal")
    with pytest.raises((NotImplementedError, RuntimeError), match="right_inverse"):
        rnn.weight_hh_l0 = torch.eye(4)


class Unbounded(LRU):
    """LRU whose λ is trained itself."""

    def __init__(self, features: int, state_size: int, **options: Any) -> None:
        super().__init__(features, state_size, **options)
        self.free = torch.nn.Parameter(torch.view_as_real(super().eigenvalues().detach()).clone())

    def eigenvalues(self) -> Tensor:
        return torch.view_as_complex(self.free)


@pytest.mark.slow
def test_an_exponential_stays_on_the_unit_disc_where_eigenvalues_trained_themselves_overflow() -> None:
    """The step of the paper's ablation between a complex diagonal and its place near the unit circle (section 3.3)."""
    finite = []
    for kind in (Unbounded, LRU):
        torch.manual_seed(0)
        block = SequenceBlock(kind(5, 32, r_min=0.99, normalise=False))
        optimizer = torch.optim.AdamW(block.parameters(), lr=0.05)
        for _ in range(30):
            x = torch.randn(16, 1000, 5)
            loss = (block(x)[0][:, -1] - x[:, 0]).square().mean()  # what came 1,000 steps before
            if not loss.isfinite():
                break
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(block.parameters(), 1.0)
            optimizer.step()
        finite.append(bool(loss.isfinite()))
        assert bool((block.layer.eigenvalues().abs() < 1).all()) == (kind is LRU)
    assert finite == [False, True]
