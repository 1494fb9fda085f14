"""Vanishing and exploding gradients side by side, and what cures which.

Sixteen states have to remember one number for 200 steps, while noise comes in:

    h_t = W_hh h_{t-1} + W_ih x_t + b,    prediction of the first input = C h_T

The gradient goes back through W_hh at every step. With a spectral radius of 0.9 nothing of it is left at the start;
with 1.1 it is many powers of ten too large. `rg.insight.verdict` measures both and advises another start. From each
start the network is trained as it is, and with the length of its gradients cut:

    W            a random matrix of that radius
    W × s        the same, times the number advised: the gradient arrives, by the one way that a matrix far from normal
                 has. A few steps of training widen that way until the gradient explodes, or close it
    orthogonal   Q of W = QR, times the radius advised: it arrives by every way, from either W

Lengths are cut at the number that nine in ten gradients of the orthogonal start stay below. Measured from gradients
that explode, this number would itself be far too large.

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
from retrograd.pictures import palette

STATES, STEPS, BATCH, EPOCHS, RATE = 16, 200, 32, 200, 0.0005
RADII, SEEDS, DRAWN = (0.9, 1.1), 5, 20
# A mean squared error of 1 is that of predicting 0.
LEARNED, TOP = 0.1, 100.0
Array = np.ndarray[Any, Any]
Weights = dict[str, Tensor]
STARTS = ("W", "W × s", "orthogonal")


@dataclass(frozen=True)
class Flow:
    """How the gradient flows at a start: what the verdict says, and ‖∂L/∂h_t‖ over the batch, by step."""

    kinds: tuple[str, ...]
    advised: dict[str, float]
    delta: Array


@dataclass(frozen=True)
class Result:
    """What was measured, each by radius and start.

    Attributes:
        flows: at the start, by seed.
        losses: median of the last 15 epochs by seed, and whether gradients were cut.
        thresholds: at what length, by seed; and
        exploding: at what length it would be, measured at W of the largest radius.
    """

    flows: dict[tuple[float, str], list[Flow]]
    losses: dict[tuple[float, str, bool], list[float]]
    thresholds: list[float]
    exploding: list[float]


def sequences(source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return inputs, the first of which is to be remembered, and that number."""
    x = 0.1 * torch.randn(BATCH, STEPS, 2, generator=source, dtype=torch.float64)
    x[:, :, 0] = 0
    x[:, 0, 0] = torch.randn(BATCH, generator=source, dtype=torch.float64)
    return x, x[:, :1, 0].clone()


def random_start(radius: float, seed: int) -> Weights:
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


def look(weights: Weights, seed: int) -> Flow:
    """Measure how the gradient flows."""
    x, target = sequences(torch.Generator().manual_seed(seed))
    sweep = rg.insight.Sweep.of_weights(x, **weights, loss=squared_error(target))
    verdict = rg.insight.verdict(sweep)
    advised = {advice.action: advice.value for advice in verdict.advice}
    return Flow(verdict.kinds, advised, sweep.delta.norm(dim=(0, 2)).numpy())


def threshold(weights: Weights, seed: int) -> float:
    """Return what nine in ten gradients of batches stay below."""
    source, lengths = torch.Generator().manual_seed(seed), []
    for _ in range(DRAWN):
        x, target = sequences(source)
        g = rg.bptt(x, **weights, loss=squared_error(target))
        lengths.append(float(torch.cat([getattr(g, name).flatten() for name in weights]).norm()))
    return float(np.quantile(lengths, 0.9))


def train(weights: Weights, clip: float | None, seed: int) -> float:
    """Train with Adam, gradients cut at a length or not; return the median loss of the last 15 epochs."""
    source = torch.Generator().manual_seed(seed)
    parameters = [weight.clone().requires_grad_() for weight in weights.values()]
    optimizer = torch.optim.Adam(parameters, lr=RATE)
    losses = []
    for _ in range(EPOCHS):
        x, target = sequences(source)
        g = rg.bptt(x, **dict(zip(weights, parameters, strict=True)), loss=squared_error(target))
        losses.append(float(g.loss))
        g.assign()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(parameters, clip)
        optimizer.step()
    return float(np.median(losses[-15:]))


def compute(seed: int = 0, seeds: int = SEEDS) -> Result:
    """Measure and train, from every start."""
    result = Result({(radius, name): [] for radius in RADII for name in STARTS}, {}, [], [])
    for number in range(seed, seed + seeds):
        shared: dict[bool, float] = {}
        starts = {radius: random_start(radius, number) for radius in RADII}
        advised = {radius: look(starts[radius], number).advised for radius in RADII}
        orthogonal = torch.linalg.qr(starts[RADII[0]]["weight_hh"]).Q * advised[RADII[0]]["reparametrisation"]
        clip = threshold(starts[RADII[0]] | {"weight_hh": orthogonal}, number)
        result.thresholds.append(clip)
        result.exploding.append(threshold(starts[RADII[-1]], number))
        for radius, weights in starts.items():
            scaled = weights["weight_hh"] * advised[radius]["initialisation"]
            for name, matrix in zip(STARTS, (weights["weight_hh"], scaled, orthogonal), strict=True):
                start = weights | {"weight_hh": matrix}
                result.flows[radius, name].append(look(start, number))
                for cut in (False, True):
                    # From either radius the orthogonal start is the same.
                    loss = shared.get(cut) if name == "orthogonal" else None
                    loss = train(start, clip if cut else None, number) if loss is None else loss
                    if name == "orthogonal":
                        shared[cut] = loss
                    result.losses.setdefault((radius, name, cut), []).append(loss)
    return result


def figures(result: Result) -> dict[str, float]:
    """Return the numbers that docs/gallery.md gives."""
    flow = {key: [one.delta[0] / one.delta[-1] for one in flows] for key, flows in result.flows.items()}
    learned = {
        f"learned, {radius:g} {name}{', cut' if cut else ''}": sum(loss < LEARNED for loss in losses)
        for (radius, name, cut), losses in result.losses.items()
    }
    return {
        "seeds": len(result.thresholds),
        "arrives of 0.9": float(np.median(flow[0.9, "W"])),
        "arrives of 1.1": float(np.median(flow[1.1, "W"])),
        "least threshold": min(result.thresholds),
        "largest threshold": max(result.thresholds),
        "least threshold, exploding": min(result.exploding),
        "scaled and healthy": sum(one.kinds == ("healthy",) for r in RADII for one in result.flows[r, "W × s"]),
        "orthogonal and healthy": sum(one.kinds == ("healthy",) for one in result.flows[0.9, "orthogonal"]),
        **learned,
    }


def draw(result: Result) -> Any:
    """Draw the gradients' sizes at the starts, and what was learned from each."""
    drawn, (left, *rest) = pictures.figure(1, 3, size=(9.8, 4.2), width_ratios=(1.3, 1, 1))
    drawn.get_layout_engine().set(wspace=0.06)
    looks = {
        (1.1, "W"): (palette.PURPLE, "-"),
        (0.9, "W"): (palette.VERMILLION, "-"),
        (0.9, "orthogonal"): (palette.BLUE, "--"),
    }
    for (radius, name), (color, line) in looks.items():
        for k, flow in enumerate(result.flows[radius, name]):
            kind = f"W, radius {radius:g}" if name == "W" else name
            label = f"{kind}: {', '.join(flow.kinds)}" if k == 0 else None
            left.semilogy(np.arange(1, STEPS + 1), flow.delta / flow.delta[-1], line, color=color, lw=1.1, label=label)
    left.set(xlabel="step t", ylabel="‖∂L/∂h_t‖ / ‖∂L/∂h_T‖", title="The gradient before training")
    left.legend(loc="upper right", fontsize=8)
    marks = {False: (palette.BLACK, "o", -0.15, "as it is"), True: (palette.GREEN, "D", 0.15, "gradients cut")}
    for axis, radius in zip(rest, RADII, strict=True):
        for place, name in enumerate(STARTS):
            for cut, (color, mark, shift, label) in marks.items():
                losses = np.array(result.losses[radius, name, cut])
                spread = place + shift + np.linspace(-0.07, 0.07, len(losses))
                axis.semilogy(spread[losses < TOP], losses[losses < TOP], mark, color=color, mfc="none", label=label)
                # Above the axis.
                axis.plot(spread[losses >= TOP], np.full((losses >= TOP).sum(), TOP / 1.5), "^", color=color)
                label = None
        axis.axhline(1, color=pictures.GREY, ls=":", lw=1)
        axis.annotate("nothing learned", (2.4, 1.15), ha="right", va="bottom", fontsize=8, color="#595959")
        axis.set(xticks=range(3), xticklabels=STARTS, xlim=(-0.5, 2.5), ylim=(1e-3, TOP), xlabel="start")
        axis.set(title=f"After training: radius {radius:g}")
    rest[0].set_ylabel("mean squared error (▲: above 100)")
    rest[0].legend(*(values[:2] for values in rest[0].get_legend_handles_labels()), loc="upper right", fontsize=8)
    return drawn


def main() -> None:
    """Measure, train, draw."""
    wanted = pictures.arguments(__doc__, "vanishing_exploding.png")
    result = compute(wanted.seed)
    pictures.note(figures(result), wanted)
    for radius in RADII:
        print(f"Radius {radius:g}, seed {wanted.seed}: {result.flows[radius, 'W'][0].advised}")
    pictures.save(draw(result), wanted.out)


if __name__ == "__main__":
    main()
