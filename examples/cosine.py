"""A cosine fitted while you watch: prediction against truth, epoch by epoch.

A linear RNN with four states learns to go on with a cosine by itself:

    h_t = W_hh h_{t-1} + W_ih x_t + b,    y_t = C h_t + c,    x_{t+1} = y_t

The loop is closed in training too, so the gradient goes back through every input that was an output. But not at once:
at first each input is the truth, then every second one, every fourth, …, in the end only the first ten. A loop that is
closed from the beginning learns next to nothing: far from the solution, its own outputs are no input to learn from.

To keep the cosine going for ever, W_hh + W_ih C needs the eigenvalues exp(±2πi/30), on the unit circle.

    python examples/cosine.py               the picture
    python examples/cosine.py --gif         and how it came about, as an animation
    python examples/cosine.py --show        a window that follows the training
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor

import pictures
import retrograd as rg
from retrograd import palette

PERIOD, STEPS, BEYOND = 30, 120, 120
STATES, EPOCHS, RATE = 4, 500, 0.02
# Steps of truth at the start of a free run.
GIVEN = 10
SHOWN = (1, 20, 60, 150, 300, EPOCHS)


@dataclass(frozen=True)
class Epoch:
    """How far the training is: the free run, and the eigenvalues of the closed loop."""

    number: int
    loss: float
    free_run: np.ndarray[Any, Any]
    eigenvalues: np.ndarray[Any, Any]


def truth() -> np.ndarray[Any, Any]:
    """Return the cosine over the training steps and beyond."""
    return np.cos(2 * math.pi * np.arange(STEPS + BEYOND + 1) / PERIOD)


def fed_back(epoch: int) -> Tensor:
    """Return at which steps the output is the input: fewer and fewer inputs are the truth."""
    stage = epoch * 10 // EPOCHS
    steps = torch.arange(STEPS)
    return (steps >= GIVEN) & (steps % 2**stage != 0) if stage < 7 else steps >= GIVEN


def train(epochs: int = EPOCHS, seed: int = 3) -> Iterator[Epoch]:
    """Fit by Adam; yield the state of things after every epoch."""
    source = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=source, dtype=torch.float64)

    y = torch.from_numpy(truth())[: STEPS + 1, None]
    weights = {
        "weight_hh": 0.9 * torch.linalg.qr(normal(STATES, STATES)).Q,
        "weight_ih": normal(STATES, 1) / 2,
        "bias": torch.zeros(STATES, dtype=torch.float64),
        "weight_out": normal(1, STATES) / STATES,
        "bias_out": torch.zeros(1, dtype=torch.float64),
    }
    parameters = [weight.requires_grad_() for weight in weights.values()]
    optimizer = torch.optim.Adam(parameters, lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS, eta_min=1e-4)
    for epoch in range(epochs):
        g = rg.bptt(y[:-1], **weights, feedback=fed_back(epoch), loss=lambda out: ((out - y[1:]) ** 2).mean())
        g.assign()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        yield Epoch(epoch + 1, float(g.loss), *run_freely(weights))


def run_freely(weights: dict[str, Tensor]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return what the network says on its own after ten steps of truth, and the eigenvalues of its loop."""
    x = torch.from_numpy(truth())[:-1, None]
    held = {name: weight.detach() for name, weight in weights.items()}
    outputs = rg.bptt(x, **held, feedback=torch.arange(len(x)) >= GIVEN).outputs
    loop = held["weight_hh"] + held["weight_ih"] @ held["weight_out"]
    return outputs[:, 0].numpy(), torch.linalg.eigvals(loop).numpy()


def panel(axis: Any, epoch: Epoch) -> None:
    """Draw one free run."""
    time = np.arange(1, STEPS + BEYOND + 1)
    axis.axvspan(STEPS, STEPS + BEYOND, color="#eeeeea", lw=0)
    # The truth on top: where both agree, both are seen.
    axis.plot(time, truth()[1:], color=palette.BLACK, lw=0.9, label="truth", zorder=3)
    axis.plot(time, np.clip(epoch.free_run, -3, 3), color=palette.VERMILLION, lw=2.6, label="free run")
    axis.set(title=f"epoch {epoch.number}", ylim=(-1.7, 1.7), xlim=(0, STEPS + BEYOND))


def draw(epochs: list[Epoch]) -> Any:
    """Draw six epochs, and the loss of all."""
    drawn = plt.figure(figsize=(9.0, 6.4))
    top, bottom = drawn.subfigures(2, 1, height_ratios=(2.2, 1.2))
    axes = top.subplots(2, 3, sharex=True, sharey=True)
    for axis, number in zip(axes.flat, SHOWN, strict=True):
        panel(axis, epochs[number - 1])
    for axis in axes[1]:
        axis.set_xlabel("step")
    for axis in axes[:, 0]:
        axis.set_ylabel("value")
    top.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    axis = bottom.subplots()
    axis.semilogy([epoch.number for epoch in epochs], [epoch.loss for epoch in epochs], color=palette.BLUE)
    for stage in range(1, 8):
        axis.axvline(stage * EPOCHS / 10, color="#b0b0aa", lw=0.8, ls=":")
    axis.set(
        xlabel="epoch (dotted: from here on, fewer inputs are the truth)",
        ylabel="training loss:\nmean squared error",
        xlim=(0, EPOCHS),
    )
    return drawn


def animate(epochs: list[Epoch], out: Path) -> None:
    """Write the training as an animation: closer looks at its beginning."""
    from matplotlib.animation import FuncAnimation, PillowWriter

    drawn, axis = pictures.figure(size=(5.6, 2.4))
    frames = [epochs[k] for k in np.unique(np.geomspace(1, len(epochs), 40).astype(int)) - 1]

    def show(epoch: Epoch) -> None:
        axis.clear()
        panel(axis, epoch)
        axis.set(xlabel="step (shaded: beyond the training)", ylabel="value")
        axis.legend(loc="upper right", ncols=2)

    FuncAnimation(drawn, show, frames + frames[-1:] * 8).save(out, PillowWriter(fps=6), dpi=80)
    plt.close(drawn)
    print(f"Written: {out}")


def watch() -> list[Epoch]:
    """Train in front of a window that follows."""
    epochs = []
    drawn, axis = pictures.figure(size=(8.0, 3.5))
    for epoch in train():
        epochs.append(epoch)
        if epoch.number < 30 or epoch.number % 5 == 0:
            axis.clear()
            panel(axis, epoch)
            axis.set(xlabel="step (shaded: beyond the training)", ylabel="value")
            plt.pause(0.02)
    plt.show()
    plt.close(drawn)
    return epochs


def main() -> None:
    """Train, say how well, draw."""
    wanted = pictures.arguments(
        __doc__, "cosine.png", gif="also write the training as an animation", show="follow the training in a window"
    )
    if wanted.show and not pictures.has_display():
        print("There is no display to open a window on; the picture is written all the same.")
    plt.rcParams.update(pictures.STYLE)
    epochs = watch() if wanted.show and pictures.has_display() else list(train())
    last = epochs[-1]
    error = np.abs(last.free_run - truth()[1:])
    largest = last.eigenvalues[np.argmax(np.abs(last.eigenvalues))]
    within, beyond = error[GIVEN:STEPS].max(), error[STEPS:].max()
    print(f"Free run: off by at most {within:.4f} within, {beyond:.4f} beyond the training.")
    print(f"Eigenvalue of the loop: size {abs(largest):.5f}, period {2 * math.pi / abs(np.angle(largest)):.3f} steps.")
    pictures.save(draw(epochs), wanted.out)
    if wanted.gif:
        animate(epochs, wanted.out.with_suffix(".gif"))


if __name__ == "__main__":
    main()
