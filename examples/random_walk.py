"""A random walk with drift: what a linear RNN can learn of it, and what nothing can.

    y_t = y_{t-1} + drift + noise_t

The best prediction one step ahead is y_{t-1} + drift, and its error is the noise: no model does better. A linear RNN
that is trained one step ahead,

    h_t = w h_{t-1} + v y_t + b,    prediction of y_{t+1} = C h_t + c,

has to find the eigenvalue 1 of its closed loop, w + v C, and the drift in its constants. Run freely, it then forecasts
a straight line, whose error grows as √h over a horizon of h steps.

    python examples/random_walk.py
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import pictures
import retrograd as rg
from retrograd import palette

DRIFT, NOISE = 0.15, 1.0
STEPS, HORIZON, EPOCHS = 4000, 200, 300
CONTINUATIONS = 2000
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Result:
    """What was learned, beside what is true.

    Attributes:
        walk: the training data.
        losses: root mean square error one step ahead, at every evaluation of the optimizer.
        eigenvalue: of the closed loop; 1 is true.
        step: how far the forecast goes on in a step, at the end of the data.
        sample_drift: mean step of the data, the best estimate of the drift.
        forecast: over the horizon, and
        deviation: of its error, by the learned network.
        covered: share of true continuations within ±1.96 deviations, by horizon.
        continuations: a few true ones.
    """

    walk: Array
    losses: list[float]
    eigenvalue: float
    step: float
    sample_drift: float
    forecast: Array
    deviation: Array
    covered: Array
    continuations: Array


def compute(seed: int = 0) -> Result:
    """Train one step ahead, forecast, and compare with true continuations."""
    source = np.random.default_rng(seed)
    walk = np.cumsum(DRIFT + NOISE * source.normal(size=STEPS + 1))
    # Scaled as any series would be: by what is seen of it.
    center, scale = walk.mean(), walk.std()
    y = torch.from_numpy((walk - center) / scale)[:, None]
    weights = {
        "weight_hh": torch.tensor([[0.2]], dtype=torch.float64),
        "weight_ih": torch.tensor([[0.5]], dtype=torch.float64),
        "bias": torch.zeros(1, dtype=torch.float64),
        "weight_out": torch.tensor([[0.5]], dtype=torch.float64),
        "bias_out": torch.zeros(1, dtype=torch.float64),
    }
    parameters = [weight.requires_grad_() for weight in weights.values()]
    optimizer = torch.optim.LBFGS(parameters, max_iter=EPOCHS, tolerance_change=1e-14, line_search_fn="strong_wolfe")
    losses: list[float] = []

    def closure() -> float:
        # The first steps, before the network has seen where the walk is, do not count.
        g = rg.bptt(y[:-1], **weights, loss=lambda out: ((out - y[1:])[5:] ** 2).mean())
        g.assign()
        losses.append(float(scale) * math.sqrt(g.loss))
        return float(g.loss)

    optimizer.step(closure)
    held = {name: weight.detach() for name, weight in weights.items()}
    eigenvalue = float(held["weight_hh"] + held["weight_ih"] @ held["weight_out"])
    # The forecast: the data, then the network's own outputs.
    x = torch.cat([y, torch.zeros(HORIZON - 1, 1, dtype=torch.float64)])
    outputs = rg.bptt(x, **held, feedback=torch.arange(len(x)) > STEPS).outputs
    forecast = center + scale * outputs[STEPS:, 0].numpy()
    # An innovation at one step moves the forecast j steps later by ψ_j: the closed loop's answer to an impulse.
    gain = float(held["weight_out"] @ held["weight_ih"])
    impulse = np.concatenate([[1.0], gain * eigenvalue ** np.arange(HORIZON - 1)])
    deviation = losses[-1] * np.sqrt(np.cumsum(impulse**2))
    steps = DRIFT + NOISE * source.normal(size=(CONTINUATIONS, HORIZON))
    continuations = walk[-1] + np.cumsum(steps, axis=1)
    covered = (np.abs(continuations - forecast) < 1.96 * deviation).mean(0)
    return Result(
        walk,
        losses,
        eigenvalue,
        float(forecast[0] - walk[-1]),
        float((walk[-1] - walk[0]) / STEPS),
        forecast,
        deviation,
        covered,
        continuations[:12],
    )


def draw(result: Result) -> Any:
    """Draw the forecast, and its deviation against √h."""
    drawn, (left, right) = pictures.figure(1, 2, width_ratios=(1.6, 1))
    past, future = np.arange(-300, 1), np.arange(1, HORIZON + 1)
    left.plot(past, result.walk[-301:], color=palette.BLACK, lw=1, label="the walk")
    for k, one in enumerate(result.continuations):
        left.plot(future, one, color="#a8a8a2", lw=0.6, label="how it might go on" if k == 0 else None)
    left.plot(future, result.forecast, color=palette.BLUE, label="forecast")
    for sign in (-1, 1):
        label = "95 % interval" if sign > 0 else None
        left.plot(future, result.forecast + sign * 1.96 * result.deviation, color=palette.BLUE, ls="--", label=label)
    left.set(xlabel="step (0: end of the data)", ylabel="value", title="A straight line, and how wrong it may be")
    left.legend(loc="upper left")
    right.loglog(future, result.deviation, color=palette.BLUE, label="learned")
    right.loglog(future, NOISE * np.sqrt(future), color=palette.BLACK, ls=":", lw=2.4, label="exact: σ √h")
    right.set(xlabel="horizon h, steps", ylabel="deviation of the forecast's error", title="It grows as √h")
    right.legend(loc="upper left")
    return drawn


def main() -> None:
    """Train, say what was found, draw."""
    wanted = pictures.arguments(__doc__, "random_walk.png")
    result = compute()
    print(f"One step ahead: RMSE {result.losses[-1]:.4f}; the noise is {NOISE}.")
    print(f"Eigenvalue of the closed loop: {result.eigenvalue:.5f} (1 is true).")
    print(f"Drift of the forecast: {result.step:.4f}; of the data: {result.sample_drift:.4f}; true: {DRIFT}.")
    print(f"True continuations within the 95 % intervals: {100 * result.covered.mean():.1f} %.")
    pictures.save(draw(result), wanted.out)


if __name__ == "__main__":
    main()
