"""What truncated backpropagation through time leaves out, and where a fit ends because of it.

Truncation to windows of k steps drops the parts of the gradient that come through longer lags:

    ∂L/∂W_hh = Σ_t Σ_lags Φ(t, t−lag)ᵀ g_t h_{t-lag-1}ᵀ,    of which lags below k stay

The data here come from a slow and a fast leaky integrator. `rg.insight.truncation` gives the relative error and the
angle for every k at once, here for a network that has both memories and a read-out that is not yet right (left). Then a
single integrator is fitted, h_t = λ h_{t-1} + (1 − λ) x_t. The loss has one best λ. Training with truncated gradients
stops where the truncated gradient is zero instead: at a shorter memory, the shorter the window (right). The script
finds that place as the gradient's root, where every optimizer ends. If the model were of the data's own kind, the
errors at the optimum would be noise, and truncation would cost time but not truth.

    python examples/truncation_bias.py
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import brentq, minimize_scalar
from torch import Tensor

import pictures
import retrograd as rg
from retrograd.pictures import palette

STEPS, BURN_IN, SEEDS = 4000, 200, 8
SLOW, FAST, GAIN, NOISE = 0.98, 0.6, 8.0, 0.3
WINDOWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Result:
    """What truncation does.

    Attributes:
        windows: k, for the next two.
        relative_error: of the truncated gradient of the network with both memories, ``(seeds, windows)``.
        angle: between it and the whole one, in radians, likewise.
        best: the λ of the smallest loss, by seed.
        stopped: where training with each of ``WINDOWS`` stops, by seed, ``(seeds, len(WINDOWS))``.
        rates: λ, for
        losses: mean squared error, ``(seeds, rates)``, and
        reached: that where training stops, ``(seeds, len(WINDOWS))``.
    """

    windows: Array
    relative_error: Array
    angle: Array
    best: Array
    stopped: Array
    rates: Array
    losses: Array
    reached: Array


def data(seed: int) -> tuple[Tensor, Tensor]:
    """Return inputs and noisy outputs of the two integrators."""
    source = np.random.default_rng(seed)
    x = torch.from_numpy(source.normal(size=(STEPS, 1)))
    rates = torch.tensor([SLOW, FAST], dtype=torch.float64)
    both, _ = rg.scan(rg.Diagonal(rates), (1 - rates) * x)
    y = both @ torch.tensor([[GAIN], [1.0]], dtype=torch.float64)
    return x, y + NOISE * torch.from_numpy(source.normal(size=(STEPS, 1)))


def states(rate: float, x: Tensor) -> Tensor:
    """Return h_t of the single integrator."""
    h, _ = rg.scan(rg.Diagonal(torch.tensor([rate], dtype=torch.float64)), (1 - rate) * x)
    return h


def loss(rate: float, x: Tensor, y: Tensor) -> float:
    """Return the mean squared error, the read-out being the best for this λ."""
    h, y = states(rate, x)[BURN_IN:], y[BURN_IN:]
    return float(((y - h * (h * y).sum() / (h * h).sum()) ** 2).mean())


def gradient(rate: float, x: Tensor, y: Tensor, window: int) -> float:
    """Return ∂L/∂λ as backpropagation truncated to ``window`` steps sees it, with the best read-out."""
    h = states(rate, x)
    kept, wanted = h[BURN_IN:], y[BURN_IN:]
    readout = (kept * wanted).sum() / (kept * kept).sum()
    weights = torch.tensor([rate], dtype=torch.float64)
    stream = rg.Stream(
        weight_hh=weights, weight_ih=torch.tensor([[1 - rate]], dtype=torch.float64), truncate=window, stride=1
    )

    def squared_error(chunk: Tensor) -> Tensor:
        errors = (readout * chunk - y)[BURN_IN:]
        return (errors**2).mean()

    stream.feed(x, loss=squared_error)
    stream.flush()
    # λ acts through 1 − λ at the input too.
    return float(stream.gradients["weight_hh"] - stream.gradients["weight_ih"])


def stop(x: Tensor, y: Tensor, window: int) -> float:
    """Return the λ at which training with truncated gradients stops: where they are zero."""
    return float(brentq(lambda rate: gradient(rate, x, y, window), 0.4, 0.995, xtol=1e-9))


def compute(seed: int = 0, seeds: int = SEEDS) -> Result:
    """Measure truncated gradients of the data's own two memories, and where training of a single one stops."""
    errors, angles, best, stopped, losses, reached = [], [], [], [], [], []
    rates = 1 - np.geomspace(0.4, 0.006, 60)
    for number in range(seed, seed + seeds):
        x, y = data(number)
        # A dense network: both memories as they are, and half the read-out of the slow one.
        weights = {
            "weight_hh": torch.diag(torch.tensor([SLOW, FAST], dtype=torch.float64)),
            "weight_ih": torch.tensor([[1 - SLOW], [1 - FAST]], dtype=torch.float64),
            "weight_out": torch.tensor([[GAIN / 2, 1.0]], dtype=torch.float64),
        }
        sweep = rg.insight.Sweep.of_weights(x, **weights, loss=lambda out, y=y: ((out - y) ** 2).mean())
        found = rg.insight.truncation(sweep)
        errors.append(found.relative_error)
        angles.append(np.radians(found.angle))
        best.append(minimize_scalar(loss, bounds=(0.4, 0.995), args=(x, y), method="bounded").x)
        stopped.append([stop(x, y, window) for window in WINDOWS])
        losses.append([loss(float(rate), x, y) for rate in rates])
        reached.append([loss(rate, x, y) for rate in stopped[-1]])
    held = [np.array(values) for values in (errors, angles, best, stopped)]
    return Result(found.windows, *held, rates, np.array(losses), np.array(reached))


def memory(rate: Array) -> Array:
    """Return 1 / (1 − λ), in steps."""
    return 1 / (1 - rate)


def figures(result: Result) -> dict[str, float]:
    """Return the numbers that docs/gallery.md gives: means over the data sets."""
    stops = memory(result.stopped).mean(0)
    return {
        "data sets": len(result.best),
        "best memory": memory(result.best).mean(),
        "spread of the best": memory(result.best).std(),
        **{f"memory, k = {window}": stop for window, stop in zip(WINDOWS, stops, strict=True)},
    }


def draw(result: Result) -> Any:
    """Draw the truncated gradient's error, the loss, and where training stops."""
    drawn, (left, right) = pictures.figure(1, 2, size=(9.0, 4.2))
    shown = result.windows <= 1000
    for values, color, line, label in (
        (result.relative_error, palette.BLUE, "-", "relative error"),
        (result.angle, palette.VERMILLION, "--", "angle, radians"),
    ):
        low, high = values[:, shown].min(0), values[:, shown].max(0)
        left.fill_between(result.windows[shown], low, high, color=color, alpha=0.2, lw=0)
        left.loglog(result.windows[shown], np.median(values[:, shown], 0), line, color=color, label=label)
    left.set(
        xlabel="window k, steps",
        ylabel="truncated against whole ∂L/∂W_hh",
        title=f"A network with both memories\n(median and range of {len(result.best)} data sets)",
    )
    left.legend(loc="lower left")
    right.semilogx(memory(result.rates), result.losses.mean(0), color=palette.BLACK, label="loss")
    colors = [palette.SKY, palette.BLUE, palette.GREEN, palette.ORANGE, palette.VERMILLION, palette.PURPLE]
    for window, color, mark in zip((1, 4, 8, 16, 32, 256), colors, "ov^sDP", strict=True):
        k = WINDOWS.index(window)
        steps = memory(result.stopped[:, k])
        style = {"fmt": mark, "color": color, "ms": 8, "mec": "white", "ecolor": color, "capsize": 3}
        right.errorbar(steps.mean(), result.reached[:, k].mean(), xerr=steps.std(), label=f"k = {window}", **style)
    right.set(
        xlabel="memory 1 / (1 − λ), steps",
        ylabel="mean squared error",
        title=f"A single memory: where training stops\n(mean and deviation of {len(result.best)} data sets)",
        ylim=(0, None),
        xticks=[3, 5, 10, 30, 100],
        xticklabels=["3", "5", "10", "30", "100"],
    )
    right.minorticks_off()
    right.legend(loc="upper center", ncols=2)
    return drawn


def main() -> None:
    """Measure, say where training stops, draw."""
    wanted = pictures.arguments(__doc__, "truncation_bias.png")
    result = compute(wanted.seed)
    pictures.note(figures(result), wanted)
    pictures.save(draw(result), wanted.out)


if __name__ == "__main__":
    main()
