"""Verdicts name what is wrong, and following an advice changes the measured flow as it said."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from retrograd import Dense, Diagonal, Stream
from retrograd.errors import InputError
from retrograd.insight import Advice, Sweep, Verdict, analyse, flow, jacobians, spectrum, verdict

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
    with pytest.raises(InputError, match="needed is 200, expected a lag from 0 to 199"):
        judge(with_radius(0.8), needed=TIME)


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


def test_clipping_cuts_one_gradient_in_ten() -> None:
    sweep, found = judge(with_radius(1.2), batch=40)
    told = advice(found, "clipping")
    sizes = []
    for row in range(40):
        weight = torch.nn.Parameter(with_radius(1.2))
        mine = {name: getattr(sweep, name)[row : row + 1] for name in ("states", "h0", "direct", "delta")}
        weight.grad = Sweep(sweep.A, **mine).gradient
        before = weight.grad.norm().item()
        torch.nn.utils.clip_grad_norm_([weight], told.value)
        sizes.append((before, weight.grad.norm().item()))
    before, after = np.array(sizes).T
    assert before.max() == pytest.approx(told.measured)
    assert after.max() == pytest.approx(told.expected)
    assert (before > told.value).sum() == 3  # of 40, with the quantile itself and what lies above it
    assert not [one for one in judge(with_radius(1.2), batch=5)[1].advice if one.action == "clipping"]


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


def test_gates_that_change_with_time_are_judged_by_their_product() -> None:
    gates = torch.full((TIME, 6), 1.2, dtype=torch.float64)
    gates[:100] = 0.5
    found = verdict(Sweep.of_scan(Diagonal(gates), drive()))
    assert found.kinds == ("transient growth", "vanishing") or found.kinds == ("transient growth",)
    assert "mean rate" in " ".join(found.evidence)
    assert all(one.action != "initialisation" for one in found.advice)


def test_what_is_not_finite() -> None:
    sweep = Sweep.of_scan(Dense(1e200 * torch.eye(2).double()), torch.ones(5, 2))
    found = verdict(sweep)
    assert found.kinds == ("not finite", "exploding")
    assert "not finite at" in " ".join(found.evidence)
    broken = Sweep.of_scan(Dense(torch.full((2, 2), float("nan"))), torch.ones(5, 2))
    with pytest.raises(InputError, match="nothing to judge"):
        verdict(broken)
    silent = Sweep.of_scan(Dense(torch.eye(2)), torch.ones(5, 2), grad_final=torch.zeros(2))
    assert "zero at every step" in " ".join(verdict(silent).evidence)
