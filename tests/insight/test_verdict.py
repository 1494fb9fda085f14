"""Verdicts name what is wrong, and following an advice changes the measured flow as it said."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from retrograd import Dense, Diagonal, Stream, nn
from retrograd.errors import InputError
from retrograd.estimators import StateSpace
from retrograd.insight import Advice, Recorder, Sweep, Verdict, analyse, flow, jacobians, spectrum, verdict

TIME = 200


def drive(batch: int = 1, width: int = 6) -> Tensor:
    return torch.randn(batch, TIME, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def with_radius(radius: float, width: int = 6) -> Tensor:
    W = torch.randn(width, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return radius * W / torch.linalg.eigvals(W).abs().max()


def non_normal() -> Tensor:
    return torch.diag(torch.full((6,), 0.9).double()) + torch.diag(torch.ones(5).double(), 1)


def judge(W: Tensor, batch: int = 1, needed: int | None = None) -> tuple[Sweep, Verdict]:
    sweep = Sweep.of_scan(Dense(W), drive(batch))
    return sweep, verdict(sweep, needed)


def advice(found: Verdict, action: str) -> Advice:
    (one,) = (one for one in found.advice if one.action == action)
    return one


@pytest.mark.parametrize(
    ("W", "kinds"),
    [
        (with_radius(0.8), ("vanishing",)),
        (with_radius(1.2), ("exploding",)),
        (non_normal(), ("transient growth",)),
        (0.99 * torch.linalg.qr(with_radius(1.0)).Q, ("healthy",)),
    ],
)
def test_the_four_kinds(W: Tensor, kinds: tuple[str, ...]) -> None:
    sweep, found = judge(W)
    # A transient that has died by the end of the sequence has vanished there.
    assert found.kinds[: len(kinds)] == kinds
    assert found.needed == TIME - 1
    assert str(found).startswith(f"The gradient through time: {', '.join(found.kinds)}.")
    assert str(analyse(sweep)) == str(found)


def test_what_vanishes_depends_on_what_is_needed() -> None:
    _, found = judge(with_radius(0.8), needed=5)
    assert found.kinds == ("healthy",)
    # Where every state is looked at, each input meets a loss at once.
    everywhere = Sweep.of_scan(Dense(with_radius(0.8)), drive(), loss=lambda states: states.square().sum())
    assert (verdict(everywhere).kinds, verdict(everywhere).needed) == (("healthy",), 0)
    with pytest.raises(InputError, match="needed is 200, expected a whole number from 0 to 199"):
        judge(with_radius(0.8), needed=TIME)
    with pytest.raises(InputError, match=r"needed is 2\.5, expected a whole number"):
        judge(with_radius(0.8), needed=2.5)  # type: ignore[arg-type]


def test_evidence_is_measured() -> None:
    W = with_radius(1.2)
    sweep, found = judge(W)
    text = " ".join(found.evidence)
    norm = torch.linalg.matrix_norm(torch.linalg.matrix_power(W, TIME), 2).item()
    assert f"{norm:.3g}" in text
    assert "|λ| = 1.2" in text
    assert f"{int((torch.linalg.eigvals(W).abs() > 1).sum())} of 6 modes lie outside the unit circle" in text
    delta = sweep.delta.norm(dim=(0, 2))
    assert f"between {delta.min().item():.3g} and {delta.max().item():.3g}" in text


@pytest.mark.parametrize(("radius", "lag"), [(0.8, TIME - 1), (1.2, TIME)])
def test_initialisation_makes_the_jacobian_as_large_as_said(radius: float, lag: int) -> None:
    W = with_radius(radius)
    _, found = judge(W)
    told = advice(found, "initialisation")

    def at(W: Tensor) -> float:
        return float(jacobians(Sweep.of_scan(Dense(W), drive()), [lag]).log10_norm[0])

    assert at(W) == pytest.approx(told.measured, abs=1e-12)
    assert at(told.value * W) == pytest.approx(told.expected, abs=1e-10)
    # The gradient that reaches the first step goes from next to nothing (or from very much) to a size that learns.
    first = [flow(Sweep.of_scan(Dense(s * W), drive())).delta_norm[0] for s in (1.0, told.value)]
    assert abs(np.log10(first[1])) < 1.5 < abs(np.log10(first[0]))
    assert judge(told.value * W)[1].kinds == ("healthy",)


def test_reparametrisation_of_what_vanishes() -> None:
    _, found = judge(with_radius(0.8))
    told = advice(found, "reparametrisation")
    orthogonal = told.value * torch.linalg.qr(with_radius(1.0)).Q
    for A in (Dense(orthogonal), Diagonal(torch.full((6,), told.value, dtype=torch.float64))):
        found = jacobians(Sweep.of_scan(A, drive()), [TIME - 1], top=6)
        assert np.log10(found.singular_values) == pytest.approx(np.full((1, 6), told.expected), abs=1e-10)


def test_reparametrisation_of_what_explodes() -> None:
    _, found = judge(with_radius(1.2))
    told = advice(found, "reparametrisation")
    assert told.measured == pytest.approx(max(jacobians(judge(with_radius(1.2))[0]).log10_norm))
    for nu in (-9.0, -1.0, 0.0, 3.0):
        A = Diagonal(torch.exp(-torch.exp(torch.full((6,), nu, dtype=torch.float64))))
        assert jacobians(Sweep.of_scan(A, drive())).log10_norm.max() <= told.expected


def test_reparametrisation_of_transient_growth() -> None:
    W = non_normal()
    _, found = judge(W)
    told = advice(found, "reparametrisation")
    assert told.measured == pytest.approx(np.log10(spectrum(W, TIME).transient.largest), abs=0.01)
    A = Diagonal(torch.linalg.eigvals(W))
    assert jacobians(Sweep.of_scan(A, drive())).log10_norm.max() <= told.expected + 1e-12
    assert "not normal" in " ".join(found.evidence)


@pytest.mark.parametrize("loss", ["sum", "mean"])
def test_clipping_cuts_one_batch_in_ten(loss: str) -> None:
    W, batch = with_radius(1.2), 40

    def start(states: Tensor) -> Tensor:
        last = states[:, -1].square().sum(-1)
        return last.sum() if loss == "sum" else last.mean()

    def swept(seed: int) -> Sweep:
        u = torch.randn(batch, TIME, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return Sweep.of_scan(Dense(W), u, loss=start)

    sweeps = [swept(seed) for seed in range(40)]
    cut = []
    for sweep in sweeps[:8]:
        told = advice(verdict(sweep), "clipping")
        assert told.value == told.expected < told.measured
        for other in sweeps:  # what a training would see: other batches of the same kind
            weight = torch.nn.Parameter(W.clone())
            weight.grad = other.gradient.clone()
            cut.append(float(torch.nn.utils.clip_grad_norm_([weight], told.value)) > told.value)
            assert weight.grad.norm().item() <= told.expected * (1 + 1e-6)
    assert 0.04 < np.mean(cut) < 0.2


def test_few_sequences_have_no_quantiles_but_a_training_has() -> None:
    sweep, found = judge(with_radius(1.2), batch=5)
    told = advice(found, "clipping")
    assert np.isnan(told.value)
    assert told.measured == pytest.approx(sweep.gradient.norm().item())
    assert "Recorder(model, optimizer=optimizer).clip_threshold(0.9)" in told.text
    model = nn.LinearRNN(2, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with Recorder(model, optimizer=optimizer) as recorder:
        for _ in range(20):
            optimizer.zero_grad()
            model(torch.randn(9, 4, 2))[0].square().mean().backward()
            optimizer.step()
    assert sum(size <= recorder.clip_threshold(0.9) for size in recorder.gradient_norms) == 18


def test_the_window_keeps_the_gradient_as_said() -> None:
    W = with_radius(0.8)
    sweep = Sweep.of_scan(Dense(W), drive(), loss=lambda states: states.square().sum())
    told = advice(verdict(sweep), "window")
    assert told.value < TIME / 2
    for window, holds in ((int(told.value), True), (int(told.value) - 1, False)):
        stream = Stream(weight_hh=W, weight_ih=torch.eye(6).double(), truncate=window, stride=1)
        stream.feed(drive(), loss=lambda states: states.square().sum())
        error = (stream.gradients["weight_hh"] - sweep.gradient).norm() / sweep.gradient.norm()
        assert (error.item() <= 0.01) is holds
        if holds:
            assert error.item() == pytest.approx(told.expected, rel=1e-6)
    # All from h_0, and W = 1: every lag has the same part, a fiftieth.
    told = advice(verdict(Sweep.of_scan(Dense(torch.ones(1, 1)), torch.zeros(50, 1), torch.ones(1))), "window")
    assert "Do not truncate" in told.text
    assert told.value == 50


def test_gates_that_grow_are_judged_by_their_product_and_kept_below_one() -> None:
    gates = torch.full((TIME, 6), 1.2, dtype=torch.float64)
    gates[:100] = 0.5
    found = verdict(Sweep.of_scan(Diagonal(gates), drive()))
    assert found.kinds == ("transient growth", "vanishing")
    text = str(found)
    assert "mean rate" in text
    assert "not normal" not in text
    assert "same eigenvalues" not in text
    growth, start = (one for one in found.advice if one.action == "reparametrisation")
    assert growth.measured == pytest.approx(100 * np.log10(1.2))
    cured = jacobians(Sweep.of_scan(Diagonal(torch.sigmoid(torch.logit(gates.clamp(max=0.999)))), drive()))
    assert cured.log10_norm.max() <= growth.expected
    raised = jacobians(Sweep.of_scan(Diagonal(gates**start.value), drive()), [TIME - 1])
    assert raised.log10_norm[0] == pytest.approx(start.expected, abs=1e-10)
    assert all(one.action != "initialisation" for one in found.advice)


def test_gates_that_fade_are_raised_and_a_shut_gate_is_not() -> None:
    gates = 0.5 + 0.4 * torch.rand(TIME, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    (told, *_) = verdict(Sweep.of_scan(Diagonal(gates), drive())).advice
    raised = jacobians(Sweep.of_scan(Diagonal(gates**told.value), drive()), [TIME - 1])
    assert raised.log10_norm[0] == pytest.approx(told.expected, abs=1e-10)
    assert told.text.startswith("Start with gates nearer to 1")
    gates[50] = 0.0
    found = verdict(Sweep.of_scan(Diagonal(gates), drive()))
    assert found.kinds == ("vanishing",)
    assert [one.action for one in found.advice] == ["window"]


def test_a_gate_that_shuts_after_the_loss_has_looked_is_no_harm() -> None:
    gates = torch.full((20, 3), 0.95, dtype=torch.float64)
    gates[14] = 0.0
    found = verdict(Sweep.of_scan(Diagonal(gates), torch.ones(20, 3), loss=lambda h: h[..., 9, :].sum()))
    assert (found.kinds, found.needed) == (("healthy",), 9)
    assert "∂h_10/∂h_(10−k)" in str(found)


def test_dense_transitions_that_change_with_time() -> None:
    W = torch.stack([with_radius(1.3)] * 100 + [with_radius(0.3)] * 100)
    found = verdict(Sweep.of_scan(Dense(W), drive()))
    assert found.kinds == ("vanishing",)
    (told, *_) = found.advice
    orthogonal = told.value * torch.linalg.qr(W).Q
    raised = jacobians(Sweep.of_scan(Dense(orthogonal), drive()), [TIME - 1])
    assert raised.log10_norm[0] == pytest.approx(told.expected, abs=1e-10)
    found = verdict(Sweep.of_scan(Dense(W.flip(0)), drive()))
    assert "transient growth" in found.kinds
    grown = verdict(Sweep.of_scan(Dense(torch.stack([with_radius(1.3)] * TIME)), drive()))
    assert grown.kinds == ("exploding",)
    divided = W / torch.linalg.matrix_norm(W, 2).clamp(min=1)[:, None, None]
    told = advice(grown, "reparametrisation")
    assert jacobians(Sweep.of_scan(Dense(divided), drive())).log10_norm.max() <= told.expected + 1e-12
    assert "Divide every A_t" in told.text


@pytest.mark.parametrize("kind", [Diagonal, Dense])
def test_of_sequences_with_their_own_transitions_the_worst_are_judged(kind: type) -> None:
    rates = torch.tensor([0.9, 2.0, 1.0], dtype=torch.float64)
    A = Diagonal(rates[:, None, None].expand(3, 1, 4))
    if kind is Dense:
        A = Dense(rates[:, None, None, None] * torch.linalg.qr(torch.eye(4).double()).Q)
    found = verdict(Sweep.of_scan(A, drive(3, 4)))
    assert found.kinds == ("exploding", "vanishing")
    assert "In sequence 2 of 3, ‖∂h_T/∂h_(T−k)‖ is largest at k = 200: 1.61e+60" in str(found)
    assert "In sequence 1 of 3" in str(found)


def test_each_sequence_has_to_be_reached_by_its_own_losses() -> None:
    lengths = torch.arange(5, 101, 5)
    at = torch.nn.functional.one_hot(lengths - 1, 100).double()[..., None].expand(-1, -1, 6)
    W = 0.5 * torch.linalg.qr(with_radius(1.0)).Q
    found = verdict(Sweep.of_scan(Dense(W), torch.ones(20, 100, 6), grad_states=at))
    assert (found.kinds, found.needed) == (("vanishing",), 99)
    # What is a thousand times smaller than elsewhere in its sequence is no place that the loss looks at.
    at = at + 1e-4
    assert verdict(Sweep.of_scan(Dense(W), torch.ones(20, 100, 6), grad_states=at)).needed == 99


def test_lower_layers_are_judged_from_where_the_upper_ones_get_their_loss() -> None:
    module = nn.LinearRNN(6, 6, num_layers=2, dtype=torch.float64)
    with torch.no_grad():
        for layer in range(2):
            getattr(module, f"weight_hh_l{layer}").copy_(0.3 * torch.linalg.qr(with_radius(1.0)).Q)
    for sweep in Sweep.of_module(module, drive()[0]).values():
        assert verdict(sweep).kinds == ("vanishing",)


def test_growth_that_the_sequence_is_too_short_to_see_end_is_transient() -> None:
    sweep = Sweep.of_scan(Dense(non_normal()), drive()[:, :30])
    found = verdict(sweep)
    assert found.kinds == ("transient growth",)
    told = advice(found, "reparametrisation")
    A = Diagonal(torch.linalg.eigvals(non_normal()))
    assert jacobians(Sweep.of_scan(A, drive()[:, :30])).log10_norm.max() <= told.expected + 1e-12
    assert told.measured == pytest.approx(jacobians(sweep).log10_norm.max())


def test_what_grows_first_and_fades_then_is_not_scaled_up() -> None:
    sweep = Sweep.of_scan(Dense(non_normal()), torch.ones(500, 6))
    found = verdict(sweep)
    assert found.kinds == ("transient growth", "vanishing")
    (told,) = (one for one in found.advice if one.action not in ("window", "clipping"))
    orthogonal = told.value * torch.linalg.qr(with_radius(1.0)).Q
    cured = Sweep.of_scan(Dense(orthogonal), torch.ones(500, 6))
    assert verdict(cured).kinds == ("healthy",)
    assert jacobians(cured, [499]).log10_norm[0] == pytest.approx(told.expected, abs=1e-9)
    assert told.text.startswith("Start from an orthogonal W_hh")


@pytest.mark.parametrize("size", [0.5, 2.0])
def test_advice_for_a_closed_loop_is_about_what_makes_it(size: float) -> None:
    W, source = 0.5 * torch.linalg.qr(with_radius(1.0)).Q, torch.Generator().manual_seed(4)
    V = size * torch.randn(6, 2, generator=source, dtype=torch.float64) / 4
    C = V.mT.clone()
    x = torch.randn(TIME, 2, generator=source, dtype=torch.float64)

    def swept(W: Tensor, C: Tensor, feedback: Tensor | bool = True) -> Sweep:
        return Sweep.of_weights(x, weight_hh=W, weight_ih=V, weight_out=C, feedback=feedback)

    mixed = torch.arange(TIME) % 50 > 5
    for feedback in (True, mixed):
        found = verdict(swept(W, C, feedback))
        grows = size > 1.0
        assert found.kinds == (("exploding",) if grows else ("vanishing",))
        told = advice(found, "reparametrisation")
        if grows and feedback is mixed:  # what tames the closed stretches lets nothing through the open ones
            assert all(one.action != "initialisation" for one in found.advice)
        else:
            start = advice(found, "initialisation")
            assert "W_hh ×" in start.text
            assert "C ×" in start.text
            scaled = jacobians(swept(start.value * W, start.value * C, feedback), [TIME if grows else TIME - 1])
            assert scaled.log10_norm[0] == pytest.approx(start.expected, abs=1e-9)
        if grows:
            norms = [float(torch.linalg.matrix_norm(one, 2)) for one in (W, V, C)]
            most = norms[0] + norms[1] * norms[2]
            kept = jacobians(swept(W / most, C / most, feedback))
            assert kept.log10_norm.max() <= told.expected + 1e-12
        else:
            kept = jacobians(swept(told.value * torch.linalg.qr(W).Q, 0 * C, feedback), [TIME - 1])
            assert kept.log10_norm[0] == pytest.approx(told.expected, abs=1e-9)


def test_an_identified_system_is_no_place_to_start_from() -> None:
    source = np.random.default_rng(0)
    u = source.standard_normal((300, 1))
    y = np.convolve(u[:, 0], [0, 1, 0.7, 0.4, 0.2])[:300] + 0.1 * source.standard_normal(300)
    y[100:140] = np.nan
    found = verdict(Sweep.of_estimator(StateSpace(order=2).fit(u, y), u, y))
    assert found.kinds == ("vanishing",)
    assert found.advice == ()


def test_modes_on_the_circle_are_not_outside_and_twins_are_named_once() -> None:
    turn = torch.linalg.qr(with_radius(1.0)).Q
    text = str(judge(turn)[1])
    assert "outside the unit circle" not in text
    assert "forgets nothing" in text
    text = str(judge(0.9 * torch.eye(6).double())[1])
    assert "|λ| = 0.9 (time constant 9.49 steps, 1 % left after 43.7): 7.06e-10 (6 modes)." in text


def test_what_was_not_measured_is_not_claimed() -> None:
    sweep = Sweep.of_scan(Dense(torch.ones(1, 1)), torch.zeros(1000, 1), torch.ones(1))
    assert "none of the 15 windows measured below 1000 steps" in advice(verdict(sweep), "window").text
    short = Sweep.of_scan(Dense(torch.ones(1, 1)), torch.zeros(1, 1), torch.ones(1))
    assert verdict(short).advice == ()
    # A peak between the lags that were measured is found all the same.
    c, s = np.cos(0.045), np.sin(0.045)
    turning = torch.tensor([[c, -8 * s], [s / 8, c]], dtype=torch.float64) * 0.9995
    sweep = Sweep.of_scan(Dense(turning), torch.zeros(1000, 2))
    every = jacobians(sweep, "all")
    lag = int(np.argmax(every.norm))
    assert f"largest at k = {lag}: {every.norm[lag]:.3g}" in str(verdict(sweep))


def test_what_is_not_finite() -> None:
    sweep = Sweep.of_scan(Dense(1e200 * torch.eye(2).double()), torch.ones(5, 2))
    found = verdict(sweep)
    assert found.kinds == ("not finite", "exploding")
    assert "not finite at" in " ".join(found.evidence)
    broken = Sweep.of_scan(Dense(torch.full((2, 2), float("nan"))), torch.ones(5, 2))
    with pytest.raises(InputError, match="nothing to judge"):
        verdict(broken)
    # Each thing that is not finite by itself.
    for W, u, g in (
        (0.5, np.nan, None),
        (0.5, 1.0, torch.full((10, 2), 1e300, dtype=torch.float64)),
        (0.5, 1e300, torch.full((10, 2), 1e300, dtype=torch.float64)),
    ):
        drive = torch.full((10, 2), u, dtype=torch.float64)
        found = verdict(Sweep.of_scan(Dense(W * torch.eye(2)), drive, grad_states=g))
        assert ("not finite" in found.kinds) == (u != 1.0)
    assert "The states are not finite from t = 1 on" in str(
        verdict(Sweep.of_scan(Dense(0.5 * torch.eye(2)), torch.full((10, 2), np.nan)))
    )
    assert "∂L/∂W_hh is not finite" in str(found)
    with pytest.raises(TypeError, match=r"verdict: sweep is Tensor, expected a retrograd\.insight\.Sweep"):
        verdict(torch.eye(2))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"analyse: sweep is dict, expected one of its sweeps, such as sweeps\[0"):
        analyse(Sweep.of_module(nn.LinearRNN(2, 2), torch.ones(5, 2)))  # type: ignore[arg-type]
    silent = Sweep.of_scan(Dense(torch.eye(2)), torch.ones(5, 2), grad_final=torch.zeros(2))
    assert "zero at every step" in " ".join(verdict(silent).evidence)
