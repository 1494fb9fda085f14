"""Rows of `make bench-estimators` on identification where it is hard: near the unit circle, drift, gaps, defaults."""

from __future__ import annotations

import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from threadpoolctl import threadpool_limits

from retrograd.estimators import IdentificationWarning, StateSpace
from retrograd.estimators.identification.analysis import fit_percent
from retrograd.estimators.identification.experiments import read_experiments
from retrograd.estimators.identification.search import Search
from retrograd.estimators.identification.sensitivity import initial_states
from retrograd.estimators.identification.system import predict

Array = np.ndarray[Any, Any]
Row = dict[str, Any]

# File, its inputs, and columns to leave out in front.
HALVES = {
    "cstr": ("cstr.csv", 1, 1),
    "CD player arm": ("cd_player_arm.csv", 2, 0),
    "hair dryer": ("hair_dryer.csv", 1, 0),
    "robot arm": ("robot_arm.csv", 1, 0),
    "heat exchanger": ("heat_exchanger.csv", 1, 0),
}
PLANTS, SYSTEMS, PATTERNS = 60, 200, 30
# 100,000 steps of a system of order 6, fitted in a process of its own.
LONG = """
import sys, time
import numpy as np, scipy.signal
from retrograd.estimators import StateSpace
def peak():  # ru_maxrss of a child begins at its parent's
    return next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
StateSpace(1).fit(np.random.default_rng(0).standard_normal(50), np.random.default_rng(1).standard_normal(50))
poles = [0.9 * np.exp(0.3j), 0.9 * np.exp(-0.3j), 0.7 * np.exp(1j), 0.7 * np.exp(-1j), 0.95, 0.5]
random, steps = np.random.default_rng(0), 100_000
u = random.standard_normal(steps)
y = scipy.signal.lfilter(*scipy.signal.zpk2tf([0.3, 0.2, -0.4], poles, 0.1), u)
y += 0.1 * y.std() * random.standard_normal(steps)
before, began = peak(), time.process_time()
StateSpace(6, noise=sys.argv[1]).fit(u, y)
print(peak() - before, time.process_time() - began)
"""


def rows(present: Callable[[str], Path | None], row: Callable[..., Row]) -> Iterator[Row]:
    """Yield the rows of what is there, as they are measured."""
    warnings.simplefilter("ignore", IdentificationWarning)
    # Fits run on one thread anyway; so does what is made of them here.
    torch.set_num_threads(1)
    threadpool_limits(1)
    if path := present("robot_arm.csv"):
        yield from near_the_circle(path, row)
    if path := present("airline.csv"):
        yield from seasonal(path, row)
    for name, (file, inputs, skip) in HALVES.items():
        if path := present(file):
            table = pd.read_csv(path).to_numpy()[:, skip:]
            for noise in ("output-error", "innovations"):
                yield defaults(name, table[:, :inputs], table[:, inputs:], noise, row)
    yield drifting(row)
    yield gaps(row)
    yield exact_filter(row)
    for noise in ("output-error", "innovations"):
        yield from long_series(noise, row)
    if path := present("robot_arm.csv"):
        table = pd.read_csv(path).to_numpy()
        began = time.process_time()
        StateSpace(noise="innovations").fit(table[:, :1], table[:, 1:])
        seconds = time.process_time() - began
        yield row("robot arm, 1,024 steps, innovations, auto: CPU seconds", seconds, 4.0, "less", "", seconds)


def near_the_circle(path: Path, row: Callable[..., Row]) -> Iterator[Row]:
    table = pd.read_csv(path).to_numpy()[:512]
    began, fits = time.perf_counter(), []
    for order in range(1, 13):
        fits.append(StateSpace(order, noise="innovations").fit(table[:, :1], table[:, 1:]))
    seconds = time.perf_counter() - began
    rise = float(np.diff([fit.history_[-1][0] for fit in fits]).max())
    yield row("robot arm, innovations, n = 1 … 12: most that the criterion rises", rise, 0.0, "less", "", seconds)
    size = float(fits[8].innovation_covariance_[0, 0])
    yield row("robot arm, innovations, n = 9: S · 10⁷", 1e7 * size, 6.5, "less", "", seconds / 12)


def seasonal(path: Path, row: Callable[..., Row]) -> Iterator[Row]:
    y = np.log(pd.read_csv(path).iloc[:, -1].to_numpy(dtype=float))
    began = time.perf_counter()
    model = StateSpace(13, noise="innovations").fit(None, y[:96])
    seconds = time.perf_counter() - began
    size = float(model.innovation_covariance_[0, 0] ** 0.5)
    yield row("log airline, first 96, innovations, n = 13: √S", size, 0.0586, "less", "", seconds)
    errors = []
    for origin in range(96, len(y)):
        steps = min(12, len(y) - origin)
        state = model.state_after(None, y[:origin], model.x0_[0])
        errors.append(model.simulate(None, state, steps=steps)[:, 0] - y[origin : origin + steps])
    rmse = float(np.sqrt(np.mean(np.concatenate(errors) ** 2)))
    name = "log airline, n = 13, rolling forecasts 12 ahead: RMSE"
    yield row(name, rmse, 0.047, "less", "SARIMAX .0553", seconds)


def defaults(name: str, u: Array, y: Array, noise: str, row: Callable[..., Row]) -> Row:
    """Test fit of order="auto" below the best of orders 1 to 12: of what is fitted, free run or one step ahead."""
    half, k = len(u) // 2, None if noise == "output-error" else 1

    def judged(model: StateSpace) -> float:
        return float(model.fit(u[:half], y[:half]).fit_percent(u[half:], y[half:], k).mean())

    best = max(judged(StateSpace(order, noise=noise)) for order in range(1, 13))
    model, began = StateSpace(noise=noise), time.perf_counter()
    below = best - judged(model)
    seconds = time.perf_counter() - began
    said = f"n = {model.order_}, best of all {best:.2f}"
    return row(f"{name}, {noise}, auto: test fit below the best order's, %", below, 1.0, "less", said, seconds)


def drifting(row: Callable[..., Row]) -> Row:
    """Count plants whose fit tests as well as its subspace start: from the best initial state, mean over outputs."""
    count, began = 0, time.perf_counter()
    for seed in range(PLANTS):
        u, y, order = drifting_plant(seed)
        half = len(u) // 2
        model = StateSpace(order, noise="output-error").fit(u[:half], y[:half])
        # All in the units of the fit.
        mean, scale = y[:half].mean(axis=0), (u[:half].std(axis=0), y[:half].std(axis=0))
        data = read_experiments(u, y - mean).scaled(*scale)
        train, test = data.part([(0, half)]), data.part([(half, len(u))])
        fitted = replace(model.system_, offset=model.offset_ - mean, root=None).rescaled(1 / scale[0], 1 / scale[1])
        found = []
        for system in (fitted, Search(train, model, "output-error").start(order)):
            predicted = predict(initial_states(system, test), test)[1]
            found.append(fit_percent(test, predicted).mean())
        # A start that is kept is the same to rounding.
        count += found[0] >= found[1] - 1e-3
    name = f"{PLANTS} plants with a slow drift, output error: as good as the subspace start in a test"
    return row(name, count, PLANTS - 3, "more", "", (time.perf_counter() - began) / PLANTS)


def drifting_plant(seed: int) -> tuple[Array, Array, int]:
    """Return inputs, outputs and order of a plant of 2 to 4 outputs, 400 to 6,000 steps.

    A drift that no input drives, of a tenth to six tenths of the outputs' spread, is added: a walk, a wave, a ramp, or
    an autoregression of 200 steps.
    """
    random = np.random.default_rng(1000 + seed)
    order, m, p = 2 * int(random.integers(1, 4)), int(random.integers(1, 4)), int(random.integers(2, 5))
    steps = int(np.exp(random.uniform(np.log(400), np.log(6000))))
    A = np.zeros((order, order))
    for k in range(0, order, 2):
        if random.random() < 0.5:
            size, angle = random.uniform(0.5, 0.97), random.uniform(0.05, 1.5)
            A[k : k + 2, k : k + 2] = size * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        else:
            A[k, k], A[k + 1, k + 1] = random.uniform(0.6, 0.98), random.uniform(0, 0.9)
    T = np.linalg.qr(random.standard_normal((order, order)))[0]
    A, B, C = T @ A @ T.T, random.standard_normal((order, m)), random.standard_normal((p, order))
    D = random.standard_normal((p, m)) * (random.random() < 0.3)
    kind = int(random.integers(3))
    if kind == 1:
        u = np.repeat(random.choice([-1.0, 1.0], (steps // 20 + 1, m)), 20, axis=0)[:steps]
    else:
        u = autoregression(random.standard_normal((steps, m)), 0.9 if kind else 0.0)
    y, x = np.zeros((steps, p)), np.zeros(order)
    for t in range(steps):
        y[t] = C @ x + D @ u[t]
        x = A @ x + B @ u[t]
    spread, kind, time_ = y.std(axis=0), int(random.integers(4)), np.arange(steps)[:, None] / steps
    if kind == 0:
        drift = np.cumsum(random.standard_normal((steps, p)), axis=0)
    elif kind == 1:
        drift = np.sin(2 * np.pi * (random.uniform(0.5, 4, p) * time_ + random.random(p)))
    elif kind == 2:
        drift = time_ * random.choice([-1, 1], p) + 0.3 * np.sin(2 * np.pi * (2 * time_ + random.random(p)))
    else:
        drift = autoregression(random.standard_normal((steps, p)), 0.995)
    y += drift / drift.std(axis=0) * spread * random.uniform(0.1, 0.6, p)
    return u, y + spread * random.uniform(0.02, 0.2) * random.standard_normal((steps, p)), order


def autoregression(e: Array, rho: float) -> Array:
    e = e.copy()
    for t in range(1, len(e)):
        e[t] += rho * e[t - 1]
    return e


def gaps(row: Callable[..., Row]) -> Row:
    """Fit systems with a fifth of the outputs missing in blocks; share of coming steps in their 95 % intervals.

    Forecasts of 10 steps go on from the end of the data, or from right after a gap there.
    """
    inside, began = [], time.perf_counter()
    for seed in range(SYSTEMS):
        random = np.random.default_rng(seed)
        size, angle, gain = random.uniform(0.5, 0.95), random.uniform(0.2, 2.5), 0.5 * random.standard_normal((2, 1))
        A = size * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        B, C = random.standard_normal((2, 1)), random.standard_normal((1, 2))
        while np.abs(np.linalg.eigvals(A - gain @ C)).max() > 0.95:
            gain *= 0.7
        u, e = random.standard_normal((410, 1)), random.standard_normal((410, 1))
        y, x = np.zeros((410, 1)), np.zeros(2)
        for t in range(410):
            y[t] = C @ x + e[t]
            x = A @ x + B @ u[t] + gain @ e[t]
        seen = y[:400].copy()
        for start in random.choice(38, 8, replace=False) * 10 + random.integers(0, 10):
            seen[start : start + 10] = np.nan
        if seed % 2:
            seen[390:] = np.nan
        model = StateSpace(2, noise="innovations", max_iter=50).fit(u[:400], seen)
        coming = model.forecast(10, u[400:], parameters=True)
        inside.append(((coming.lower <= y[400:]) & (y[400:] <= coming.upper)).mean())
    share = 100 * float(np.mean(inside))
    name = f"95 % intervals, {SYSTEMS} systems, a fifth missing in blocks, 10 steps, share inside, %"
    found = row(name, share, 95.0, "between 93 and 97", "", (time.perf_counter() - began) / SYSTEMS)
    return {**found, "met": 93 <= share <= 97}


def exact_filter(row: Callable[..., Row]) -> Row:
    """Largest relative difference of the log-likelihood from statsmodels' filter."""
    from statsmodels.tsa.statespace.kalman_filter import KalmanFilter

    worst, began = 0.0, time.perf_counter()
    y = autoregression(np.random.default_rng(0).standard_normal((200, 2)), 0.7)
    model = StateSpace(2, noise="innovations").fit(None, y)
    s, S = model.system_, model.innovation_covariance_
    for pattern in range(PATTERNS):
        random = np.random.default_rng(pattern)
        holed = y.copy()
        holed[random.random((200, 1 + pattern % 2)).repeat(2 - pattern % 2, axis=1) < 0.01 * (pattern + 1)] = np.nan
        kalman = KalmanFilter(2, 4, k_posdef=2)
        kalman.bind(np.asfortranarray(holed.T))
        kalman["transition"] = np.block([[s.A, s.K], [np.zeros((2, 4))]])
        kalman["design"], kalman["selection"] = np.hstack([s.C, np.eye(2)]), np.vstack([np.zeros((2, 2)), np.eye(2)])
        kalman["state_cov"], kalman["obs_intercept"] = S, np.repeat(s.offset[:, None], 200, axis=1)
        x0 = model.initial_state(None, holed)
        kalman.initialize_known(
            np.concatenate([x0, np.zeros(2)]), np.block([[np.zeros((2, 4))], [np.zeros((2, 2)), S]])
        )
        kalman.tolerance = 0
        exact = kalman.loglike()
        worst = max(worst, abs(model.log_likelihood(None, holed) / exact - 1))
    name = f"log-likelihood, {PATTERNS} patterns of missing values: relative difference · 10⁹"
    return row(name, 1e9 * worst, 1.0, "less", "statsmodels", (time.perf_counter() - began) / PATTERNS)


def long_series(noise: str, row: Callable[..., Row]) -> Iterator[Row]:
    command = [sys.executable, "-W", "ignore", "-c", LONG, noise]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    memory, seconds = map(float, said.split())
    name = f"100,000 steps, n = 6, {noise}"
    yield row(f"{name}: MB above import", memory, 600, "less", "", seconds)
    yield row(f"{name}: CPU seconds", seconds, 5.0, "less", "", seconds)
