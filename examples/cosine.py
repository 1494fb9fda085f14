"""A cosine fitted while you watch: prediction against truth, epoch by epoch.

A linear RNN with four states learns to go on with a cosine by itself:

    h_t = W_hh h_{t-1} + W_ih x_t + b,    y_t = C h_t + c,    x_{t+1} = y_t

The loop is closed in training too, so the gradient goes back through every input that was an output. It closes in
stages: at first each input is the truth, then every second one, every fourth, …, in the end only the first ten. (A loop
that is closed from the beginning gets there from most starts too; the script counts both.) An epoch is a step of BFGS
with a line search. Its loss is that of the stage: when a longer stretch first runs freely, the loss jumps, and from
some starts the free run gets worse for a while.

To keep the cosine going for ever, W_hh + W_ih C needs the eigenvalues exp(±2πi/30), on the unit circle.

    python examples/cosine.py               the picture
    python examples/cosine.py --gif         and how it came about, as an animation
    python examples/cosine.py --show        a window that follows the training
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor
from torch.nn.utils import vector_to_parameters

import pictures
import retrograd as rg
from retrograd.pictures import palette

PERIOD, STEPS, BEYOND, STATES = 30, 120, 120, 4
# In stage s every 2^s-th input is the truth; in the last none is but the first ten.
STAGES, LAST, EACH, GIVEN = (0, 1, 2, 3, 4, 5, 6, 7, 7), 7, 20, 10
# At most: a stage ends early where rounding hides the slope.
EPOCHS = len(STAGES) * EACH
SHOWN = (1, 5, 10, 20, 40, EPOCHS)
SEEDS, GOOD = 20, 0.05
Array = np.ndarray[Any, Any]
Watcher = Callable[["Epoch"], object]


@dataclass(frozen=True)
class Epoch:
    """How far the training is: the free run, and the eigenvalues of the closed loop."""

    number: int
    stage: int
    loss: float
    free_run: Array
    eigenvalues: Array

    def error(self, start: int = GIVEN) -> float:
        """Return how far off the free run is at most, from a step on."""
        return float(np.abs(self.free_run - truth()[1:])[start:].max())


def truth() -> Array:
    """Return the cosine over the training steps and beyond."""
    return np.cos(2 * math.pi * np.arange(STEPS + BEYOND + 1) / PERIOD)


def fed_back(stage: int) -> Tensor:
    """Return at which steps the output is the input: stage by stage, fewer and fewer inputs are the truth."""
    steps = torch.arange(STEPS)
    return (steps >= GIVEN) & ((steps % 2**stage != 0) | torch.tensor(stage == LAST))


def start(seed: int) -> dict[str, Tensor]:
    """Return random weights."""
    source = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=source, dtype=torch.float64)

    return {
        "weight_hh": 0.9 * torch.linalg.qr(normal(STATES, STATES)).Q,
        "weight_ih": normal(STATES, 1) / 2,
        "bias": torch.zeros(STATES, dtype=torch.float64),
        "weight_out": normal(1, STATES) / STATES,
        "bias_out": torch.zeros(1, dtype=torch.float64),
    }


def train(seed: int = 0, stages: tuple[int, ...] = STAGES, watcher: Watcher | None = None) -> list[Epoch]:
    """Fit stage by stage; return the state of things after every epoch."""
    weights, epochs = start(seed), []
    y = torch.from_numpy(truth())[: STEPS + 1, None]

    def set_to(numbers: Array) -> dict[str, Tensor]:
        vector_to_parameters(torch.from_numpy(numbers.copy()), weights.values())
        return weights

    def loss(numbers: Array, stage: int) -> tuple[float, Array]:
        fed = fed_back(stage)
        g = rg.bptt(y[:-1], **set_to(numbers), feedback=fed, loss=lambda out: ((out - y[1:]) ** 2).mean())
        slope = torch.cat([getattr(g, name).flatten() for name in weights]).numpy()
        # A step that runs away: to the line search, a wall.
        return (float(g.loss), slope) if np.isfinite(slope).all() else (1e10, np.zeros_like(slope))

    def fit(numbers: Array, stage: int) -> Array:
        def after(intermediate_result: Any) -> None:  # scipy knows it by this name
            free = run_freely(set_to(intermediate_result.x))
            epochs.append(Epoch(len(epochs) + 1, stage, float(intermediate_result.fun), *free))
            if watcher is not None:
                watcher(epochs[-1])

        options = {"maxiter": EACH, "gtol": 0.0}
        return minimize(loss, numbers, (stage,), jac=True, method="BFGS", options=options, callback=after).x

    numbers = torch.cat([weight.flatten() for weight in weights.values()]).numpy()
    for stage in stages:
        numbers = fit(numbers, stage)
    return epochs


def run_freely(weights: dict[str, Tensor]) -> tuple[Array, Array]:
    """Return what the network says on its own after ten steps of truth, and the eigenvalues of its loop."""
    x = torch.from_numpy(truth())[:-1, None]
    outputs = rg.bptt(x, **weights, feedback=torch.arange(len(x)) >= GIVEN).outputs
    loop = weights["weight_hh"] + weights["weight_ih"] @ weights["weight_out"]
    return outputs[:, 0].numpy(), torch.linalg.eigvals(loop).numpy()


def arrived(seeds: int, stages: tuple[int, ...] = STAGES, seed: int = 0) -> int:
    """Return from how many of some starts the free run ends within ``GOOD`` of the truth."""
    return sum(train(seed + k, stages)[-1].error() < GOOD for k in range(seeds))


def figures(epochs: list[Epoch]) -> dict[str, float]:
    """Return the numbers of one training that docs/gallery.md gives."""
    last = epochs[-1]
    largest = max(last.eigenvalues, key=abs)
    return {
        "within": float(np.abs(last.free_run - truth()[1:])[GIVEN:STEPS].max()),
        "beyond": last.error(STEPS),
        "eigenvalue": abs(largest),
        "period": 2 * math.pi / abs(np.angle(largest)),
    }


def panel(axis: Any, epoch: Epoch) -> None:
    """Draw one free run."""
    time = np.arange(1, STEPS + BEYOND + 1)
    axis.axvspan(STEPS, STEPS + BEYOND, color=pictures.SHADE, lw=0)
    axis.axvspan(0, GIVEN, color=palette.SKY, alpha=0.5, lw=0)
    # The truth on top: where both agree, both are seen.
    axis.plot(time, truth()[1:], color=palette.BLACK, lw=0.9, label="truth", zorder=3)
    axis.plot(time, np.clip(epoch.free_run, -3, 3), color=palette.VERMILLION, lw=2.6, label="free run")
    axis.set(title=f"epoch {epoch.number}", ylim=(-1.7, 1.7), xlim=(0, STEPS + BEYOND))


def draw(epochs: list[Epoch]) -> Any:
    """Draw six epochs, and the loss of all."""
    plt.rcParams.update(pictures.STYLE)
    drawn = plt.figure(figsize=(9.0, 6.4))
    top, bottom = drawn.subfigures(2, 1, height_ratios=(2.2, 1.2))
    axes = top.subplots(2, 3, sharex=True, sharey=True)
    for axis, number in zip(axes.flat, SHOWN, strict=True):
        panel(axis, epochs[min(number, len(epochs)) - 1])
    for axis in axes[1]:
        axis.set_xlabel("step")
    for axis in axes[:, 0]:
        axis.set_ylabel("value")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    handles += [plt.Rectangle((0, 0), 1, 1, color=color) for color in ("#aadaf4", pictures.SHADE)]
    labels += [f"the truth is given: {GIVEN} steps", "beyond the training"]
    top.legend(handles, labels, loc="outside upper center", ncols=4)
    axis = bottom.subplots()
    numbers = [epoch.number for epoch in epochs]
    axis.semilogy(numbers, [epoch.loss for epoch in epochs], color=palette.BLUE, label="training loss")
    wrong = [min(epoch.error(), 1e3) for epoch in epochs]
    axis.semilogy(numbers, wrong, color=palette.VERMILLION, ls="--", label="free run: largest error")
    for before, epoch in pairwise(epochs):
        if epoch.stage > before.stage:
            axis.axvline(before.number + 0.5, color=pictures.GREY, lw=0.8, ls=":")
    axis.set(
        xlabel="epoch (dotted: from here on, fewer inputs are the truth)",
        ylabel="mean squared error,\nlargest error",
        xlim=(0, len(epochs)),
    )
    axis.legend(loc="upper right", ncols=2)
    return drawn


def watched(axis: Any, epoch: Epoch) -> None:
    """Draw one free run in place of the last."""
    axis.clear()
    panel(axis, epoch)
    axis.set(xlabel="step (blue: given, grey: beyond the training)", ylabel="value")
    axis.legend(loc="upper right", ncols=2)


def animate(epochs: list[Epoch], out: Path) -> None:
    """Write the training as an animation: closer looks at its beginning."""
    from matplotlib.animation import FuncAnimation, PillowWriter

    drawn, axis = pictures.figure(size=(5.6, 2.4))
    frames = [epochs[k] for k in np.unique(np.geomspace(1, len(epochs), 50).astype(int)) - 1]
    movie = FuncAnimation(drawn, lambda epoch: watched(axis, epoch), frames + frames[-1:] * 8)
    movie.save(out, PillowWriter(fps=5), dpi=80)
    plt.close(drawn)
    print(f"Written: {out}")


def watch(seed: int) -> list[Epoch]:
    """Train in front of a window that follows."""
    drawn, axis = pictures.figure(size=(8.0, 3.5))
    epochs = train(seed, watcher=lambda epoch: (watched(axis, epoch), plt.pause(0.05)))
    plt.show()
    plt.close(drawn)
    return epochs


def main() -> None:
    """Train, say how well, draw."""
    options = {"gif": "also write the training as an animation", "show": "follow the training in a window"}
    wanted = pictures.arguments(__doc__, "cosine.png", seed=3, **options)
    if wanted.show and not pictures.has_display():
        print("There is no display to open a window on; the picture is written all the same.")
    epochs = watch(wanted.seed) if wanted.show and pictures.has_display() else train(wanted.seed)
    closed = arrived(SEEDS, (LAST,) * len(STAGES))
    counts = {"seeds": SEEDS, "arrived": arrived(SEEDS), "arrived, closed at once": closed}
    pictures.note(figures(epochs) | counts, wanted)
    pictures.save(draw(epochs), wanted.out)
    if wanted.gif:
        animate(epochs, wanted.out.with_suffix(".gif"))


if __name__ == "__main__":
    main()
