"""A random walk with drift: what a linear RNN can learn of it, what that costs, and what nothing can learn.

    y_t = y_{t-1} + drift + noise_t

The best prediction one step ahead is y_{t-1} + drift, and its error is the noise: no model does better. A linear RNN
that is trained one step ahead,

    h_t = w h_{t-1} + v y_t + b,    prediction of y_{t+1} = C h_t + c,

has to find the eigenvalue 1 of its closed loop, w + v C, and the drift in its constants. Run freely, it then forecasts
a line that is all but straight. Giving the network its eigenvalue helps: with w = 1 − v C the eigenvalue is 1 from the
beginning and only the drift is left to find; the forecast is then as good as that by the mean step of the data, the
best estimate there is. A network that has to find the eigenvalue too does worse: 1 and 0.999 look alike one step ahead,
and differ over a long horizon.

    python examples/random_walk.py
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

import pictures
import retrograd as rg
from retrograd.pictures import palette

DRIFT, NOISE = 0.15, 1.0
STEPS, HORIZON, EPOCHS = 4000, 200, 300
CONTINUATIONS, SEEDS = 2000, 60
LEARNED, FIXED, MEAN_STEP = "learned", "eigenvalue 1 given", "last value + mean step"
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Fit:
    """A network trained on a walk.

    Attributes:
        error: root mean square error one step ahead.
        eigenvalue: of the closed loop; 1 is true.
        forecast: of the next ``HORIZON`` steps.
        deviation: of its error by the network, which takes its own weights for the true ones.
    """

    error: float
    eigenvalue: float
    forecast: Array
    deviation: Array


@dataclass(frozen=True)
class Result:
    """Three forecasts of each of some walks.

    Attributes:
        walks: the training data, one a seed.
        fits: "learned" and "eigenvalue 1 given", of each walk.
        mean_step: of each walk.
        off: how far each kind of forecast is from the best, y_T + drift h: ``(seeds, HORIZON)``.
        covered: share of true continuations within ±1.96 deviations, likewise.
        continuations: a few true ones of the first walk.
    """

    walks: Array
    fits: dict[str, list[Fit]]
    mean_step: Array
    off: dict[str, Array]
    covered: dict[str, Array]
    continuations: Array


def fit(walk: Array, fixed: bool) -> Fit:
    """Train one step ahead, and forecast; ``fixed``: with the eigenvalue 1 given."""
    # Scaled as any series would be: by what is seen of it.
    center, scale = walk.mean(), walk.std()
    y = torch.from_numpy((walk - center) / scale)[:, None]
    names = ("weight_ih", "weight_out", "bias", "bias_out", "weight_hh")[: 4 if fixed else 5]
    starts = dict(zip(names, (0.5, 0.5, 0.0, 0.0, 0.2), strict=False))
    shapes = {name: (1,) if "bias" in name else (1, 1) for name in names}
    free = {name: torch.full(shapes[name], starts[name], dtype=torch.float64, requires_grad=True) for name in names}
    optimizer = torch.optim.LBFGS(
        list(free.values()), max_iter=EPOCHS, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def weights() -> dict[str, Tensor]:
        now = {name: weight.detach() for name, weight in free.items()}
        return now | ({"weight_hh": 1 - now["weight_ih"] @ now["weight_out"]} if fixed else {})

    def closure() -> float:
        # The first steps, before the network has seen where the walk is, do not count.
        g = rg.bptt(y[:-1], **weights(), loss=lambda out: ((out - y[1:])[5:] ** 2).mean())
        slopes = {name: getattr(g, name) for name in names}
        if fixed:  # w = 1 − v C is moved by both
            slopes["weight_ih"] = slopes["weight_ih"] - g.weight_hh * free["weight_out"].detach()
            slopes["weight_out"] = slopes["weight_out"] - g.weight_hh * free["weight_ih"].detach()
        for name, weight in free.items():
            weight.grad = slopes[name]
        return float(g.loss)

    optimizer.step(closure)
    error, held = float(scale) * math.sqrt(closure()), weights()
    eigenvalue = float(held["weight_hh"] + held["weight_ih"] @ held["weight_out"])
    # The forecast: the data, then the network's own outputs.
    x = torch.cat([y, torch.zeros(HORIZON - 1, 1, dtype=torch.float64)])
    outputs = rg.bptt(x, **held, feedback=torch.arange(len(x)) > STEPS).outputs
    # An innovation at one step moves the forecast j steps later by ψ_j: the closed loop's answer to an impulse.
    gain = float(held["weight_out"] @ held["weight_ih"])
    impulse = np.concatenate([[1.0], gain * eigenvalue ** np.arange(HORIZON - 1)])
    deviation = error * np.sqrt(np.cumsum(impulse**2))
    return Fit(error, eigenvalue, center + scale * outputs[STEPS:, 0].numpy(), deviation)


def compute(seed: int = 0, seeds: int = SEEDS) -> Result:
    """Fit walks, forecast them, and compare with what is best and with true continuations."""
    horizons = np.arange(1, HORIZON + 1)
    walks, mean_step, continuations = [], [], []
    fits: dict[str, list[Fit]] = {LEARNED: [], FIXED: []}
    off: dict[str, list[Array]] = {LEARNED: [], FIXED: [], MEAN_STEP: []}
    covered: dict[str, list[Array]] = {LEARNED: [], FIXED: []}
    for number in range(seed, seed + seeds):
        source = np.random.default_rng(number)
        walk = np.cumsum(DRIFT + NOISE * source.normal(size=STEPS + 1))
        steps = DRIFT + NOISE * source.normal(size=(CONTINUATIONS, HORIZON))
        ways = walk[-1] + np.cumsum(steps, axis=1)
        walks.append(walk)
        continuations.append(ways[:12])
        mean_step.append((walk[-1] - walk[0]) / STEPS)
        off[MEAN_STEP].append((mean_step[-1] - DRIFT) * horizons)
        for kind, fixed in ((LEARNED, False), (FIXED, True)):
            one = fit(walk, fixed)
            fits[kind].append(one)
            off[kind].append(one.forecast - (walk[-1] + DRIFT * horizons))
            covered[kind].append((np.abs(ways - one.forecast) < 1.96 * one.deviation).mean(0))

    def stacked(held: dict[str, list[Array]]) -> dict[str, Array]:
        return {kind: np.stack(values) for kind, values in held.items()}

    return Result(np.stack(walks), fits, np.array(mean_step), stacked(off), stacked(covered), continuations[0])


def size(off: Array) -> Array:
    """Return root mean squares over the walks."""
    return np.sqrt((off**2).mean(0))


def figures(result: Result) -> dict[str, float]:
    """Return the numbers that docs/gallery.md gives."""
    far = -1  # the longest horizon
    return {
        "walks": len(result.walks),
        "error one step ahead": float(np.mean([one.error for one in result.fits[LEARNED]])),
        "smallest eigenvalue": min(one.eigenvalue for one in result.fits[LEARNED]),
        "largest eigenvalue": max(one.eigenvalue for one in result.fits[LEARNED]),
        "noise ahead": NOISE * math.sqrt(HORIZON),
        **{f"off, {kind}": float(size(off)[far]) for kind, off in result.off.items()},
        **{f"covered, {kind}": 100 * float(share[:, far].mean()) for kind, share in result.covered.items()},
        **{f"least covered, {kind}": 100 * float(share[:, far].min()) for kind, share in result.covered.items()},
    }


LOOKS = {
    LEARNED: {"color": palette.VERMILLION},
    FIXED: {"color": palette.BLUE, "ls": "--"},
    MEAN_STEP: {"color": palette.ORANGE, "ls": ":", "lw": 2.6},
}


def draw(result: Result) -> Any:
    """Draw the forecasts of one walk, and how far off they are over all."""
    drawn, (left, right) = pictures.figure(1, 2, size=(9.6, 4.4), width_ratios=(1.5, 1))
    walk, horizons = result.walks[0], np.arange(1, HORIZON + 1)
    left.plot(np.arange(-300, 1), walk[-301:], color=palette.BLACK, lw=1, label="the walk")
    for k, one in enumerate(result.continuations):
        left.plot(horizons, one, color="#a8a8a2", lw=0.6, label="how it might go on" if k == 0 else None)
    right.loglog(horizons, NOISE * np.sqrt(horizons), color=palette.BLACK, lw=1, label="noise to come: σ √h")
    for kind, look in LOOKS.items():
        forecast = result.off[kind][0] + walk[-1] + DRIFT * horizons
        left.plot(horizons, forecast, label=kind, zorder=4 if kind == MEAN_STEP else 3, **look)
        right.loglog(horizons, size(result.off[kind]), label=kind, zorder=4 if kind == MEAN_STEP else 3, **look)
    learned = result.fits[LEARNED][0]
    for sign in (-1, 1):
        edge = learned.forecast + sign * 1.96 * learned.deviation
        left.plot(
            horizons, edge, color=palette.VERMILLION, lw=0.9, label="learned: 95 % interval" if sign > 0 else None
        )
    left.set(xlabel="step (0: end of the data)", ylabel="value", title="One walk, and three forecasts")
    left.legend(loc="upper left", fontsize=8)
    right.set(
        xlabel="horizon h, steps",
        ylabel="off the best forecast,\nroot mean square (units of y)",
        title=f"The price of learning it: {len(result.walks)} walks",
    )
    right.legend(loc="upper left", fontsize=8)
    return drawn


def main() -> None:
    """Fit, say what was found, draw."""
    wanted = pictures.arguments(__doc__, "random_walk.png")
    result = compute(wanted.seed)
    pictures.note(figures(result), wanted)
    pictures.save(draw(result), wanted.out)


if __name__ == "__main__":
    main()
