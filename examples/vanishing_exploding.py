"""Vanishing and exploding gradients side by side, and cured.

Sixteen states have to remember one number for 200 steps, while noise comes in:

    h_t = W_hh h_{t-1} + W_ih x_t + b,    prediction of the first input = C h_T

The gradient goes back through W_hh at every step. With a spectral radius of 0.9 nothing of it is left at the start;
with 1.1 it is some 10⁸ times too large. `rg.insight` measures both, says so, and says what to do. Here its advice is
followed: the vanishing one starts from an orthogonal matrix times the number given, the exploding one from its W_hh
times the number given; in both, the length of a step's gradient is cut.

    python examples/vanishing_exploding.py
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

import pictures
import retrograd as rg
from retrograd import palette

STATES, STEPS, BATCH, EPOCHS, RATE = 16, 200, 64, 300, 0.0005
RADII = (0.9, 1.1)
CLIP = 0.1
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Case:
    """One start of a training.

    Attributes:
        verdict: of `rg.insight`, before the training.
        delta: ‖δ_t‖ over the batch, before the training.
        losses: by epoch.
    """

    verdict: rg.insight.Verdict
    delta: Array
    losses: Array


def sequences(source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return inputs, the first of which is to be remembered, and that number."""
    x = 0.1 * torch.randn(BATCH, STEPS, 2, generator=source, dtype=torch.float64)
    x[:, :, 0] = 0
    x[:, 0, 0] = torch.randn(BATCH, generator=source, dtype=torch.float64)
    return x, x[:, :1, 0].clone()


def start(radius: float, seed: int = 0) -> dict[str, Tensor]:
    """Return weights whose W_hh has a given spectral radius, and is far from normal, as random matrices are."""
    source = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=source, dtype=torch.float64)

    weight = normal(STATES, STATES)
    return {
        "weight_hh": radius * weight / torch.linalg.eigvals(weight).abs().max(),
        "weight_ih": normal(STATES, 2) / 2,
        "bias": torch.zeros(STATES, dtype=torch.float64),
        "weight_out": normal(1, STATES) / STATES,
        "bias_out": torch.zeros(1, dtype=torch.float64),
    }


def squared_error(target: Tensor) -> Any:
    """Return the loss: it looks at the last output alone."""
    return lambda outputs: ((outputs[:, -1] - target) ** 2).mean()


def run(weights: dict[str, Tensor], clip: float | None, seed: int = 1) -> Case:
    """Measure the flow, then train with SGD's steps cut at ``clip``, or not."""
    source = torch.Generator().manual_seed(seed)
    x, target = sequences(source)
    sweep = rg.insight.Sweep.of_weights(x, **weights, loss=squared_error(target))
    delta = sweep.delta.norm(dim=(0, 2)).numpy()
    verdict = rg.insight.verdict(sweep)
    parameters = [weight.requires_grad_() for weight in weights.values()]
    optimizer = torch.optim.Adam(parameters, lr=RATE)
    losses = []
    for _ in range(EPOCHS):
        x, target = sequences(source)
        g = rg.bptt(x, **weights, loss=squared_error(target))
        losses.append(float(g.loss))
        g.assign()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(parameters, clip)
        optimizer.step()
    return Case(verdict, delta, np.array(losses))


def cured(radius: float, case: Case) -> dict[str, Tensor]:
    """Return the start that the verdict advises."""
    advised = {advice.action: advice.value for advice in case.verdict.advice}
    weights = start(radius)
    if "vanishing" in case.verdict.kinds:
        weights["weight_hh"] = torch.linalg.qr(weights["weight_hh"]).Q * advised["reparametrisation"]
    else:
        weights["weight_hh"] = weights["weight_hh"] * advised["initialisation"]
    return weights


def compute() -> dict[str, Case]:
    """Train from every start, and from the cured ones."""
    cases = {f"radius {radius}": run(start(radius), None) for radius in RADII}
    for radius in RADII:
        cases[f"radius {radius}, cured"] = run(cured(radius, cases[f"radius {radius}"]), CLIP)
    return cases


LOOKS = {
    "radius 0.9": {"color": palette.VERMILLION},
    "radius 1.1": {"color": palette.PURPLE},
    "radius 0.9, cured": {"color": palette.BLUE, "ls": "--"},
    "radius 1.1, cured": {"color": palette.GREEN, "ls": "--"},
}


def draw(cases: dict[str, Case]) -> Any:
    """Draw the gradients' sizes before the training, and the losses during it."""
    drawn, (left, right) = pictures.figure(1, 2, size=(9.0, 4.2))
    for name, case in cases.items():
        label = f"{name}: {', '.join(case.verdict.kinds)}"
        left.semilogy(np.arange(1, STEPS + 1), case.delta / case.delta[-1], label=label, **LOOKS[name])
        # The median of 15 epochs around: every epoch has sequences of its own.
        padded = np.pad(case.losses, 7, mode="edge")
        smooth = np.median(np.lib.stride_tricks.sliding_window_view(padded, 15), axis=1)
        right.semilogy(np.arange(1, EPOCHS + 1), smooth, **LOOKS[name])
    left.set(xlabel="step t", ylabel="‖δ_t‖ / ‖δ_T‖, at the start", title="The gradient on its way back")
    right.set(xlabel="epoch", ylabel="mean squared error (median of 15)", title="What is learned with it")
    right.axhline(1.0, color="#b0b0aa", lw=0.9, ls=":")
    right.annotate("nothing learned", (EPOCHS, 1.3), ha="right", va="bottom", fontsize=9, color="#595959")
    drawn.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9)
    return drawn


def main() -> None:
    """Train, say what the verdicts were, draw."""
    wanted = pictures.arguments(__doc__, "vanishing_exploding.png")
    cases = compute()
    for name, case in cases.items():
        print(
            f"{name}: {', '.join(case.verdict.kinds)}; loss {case.losses[0]:.3g} → {np.median(case.losses[-15:]):.3g}"
        )
    print(cases["radius 0.9"].verdict)
    pictures.save(draw(cases), wanted.out)


if __name__ == "__main__":
    main()
