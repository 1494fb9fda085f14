"""Where training starts from: the linear network that an autoregression is.

A ridge regression of the next value on the last p of what the network reads,

    ŷ_{t+1} = Σ_k G_k x_{t-k+1} + c          k = 1..p

is a linear recurrent network with G_k = C A^{k-1} B. Its H most important states, in balanced coordinates, come from
the Hankel matrix of the G_k (Ho and Kalman 1966; Kung 1978): H_ij = G_{i+j-1} = U S Vᵀ, the columns of U S^½ are what
states do to the future, A is what shifts them by a step. C and c are then fitted again, to these states. A season is in
the states if p is longer than it. p has the lowest AIC (Akaike 1974); where H states leave too much of that regression,
a shorter one that needs no more states.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retrograd.core.scan import scan
from retrograd.core.transition import Dense
from retrograd.estimators.recurrent.training import (
    DivergenceError,
    Trainer,
    free_runs,
    loss_and_gradients,
)
from retrograd.estimators.threads import threads_for
from retrograd.rnn.bptt import bptt

__all__ = ["epochs_that_hold", "linear_start"]

Array = np.ndarray[Any, Any]
# Regressors and targets of some rows after others, from the first row on with every call.
Blocks = Callable[[], Iterator[tuple[Array, Array]]]

# Look-backs that are tried: short ones, and longer than a season, as far as there are so many rows for each weight; and
# the ridge, relative to the mean square of a regressor: enough where regressors are collinear.
_SHORT, _LONG, _ROWS_A_WEIGHT, _RIDGE = range(1, 13), (13, 14, 24, 25, 26, 36, 37, 49, 52, 53), 3, 1e-6
# Of the rest of the states, where the autoregression needs fewer than there are: no part in any prediction yet.
_SPARE = 0.1
# How long to train is judged by two blocks, the last two fifths; how many epochs may pass there without progress, and
# what progress is.
_FIFTHS, _PATIENCE, _PROGRESS = (3, 4), 20, 0.01
# Numbers of the regressors that are in memory at once, 32 MB.
_NUMBERS = 1 << 22
# Singular values below this part of the largest are rounding.
_ROUNDING = 1e-9


def linear_start(weights: dict[str, Tensor], x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Return weights of the same shapes that predict as a ridge autoregression does, as far as the states suffice.

    Args:
        weights: of a network before training; where the autoregression needs fewer states, the others stay theirs.
        x: what the network reads, ``(T, O + E)``, scaled; NaN where a target is missing.
        y: what it should say, ``(T, O)``.

    Examples:
        >>> from retrograd.estimators.recurrent.network import Network
        >>> series = np.sin(np.arange(60.0))[:, None]
        >>> network = Network.untrained(series, series[:, :0], hidden=2, target_names=["sine"])
        >>> x, y = network.series(series, series[:, :0])
        >>> started = linear_start(network.weights, x, y)
        >>> states, _ = scan(Dense(started["weight_hh"]), x @ started["weight_ih"].mT)
        >>> said = states @ started["weight_out"].mT + started["bias_out"]
        >>> bool((said - y)[10:].abs().max() < 1e-3)
        True
    """
    hidden = len(weights["h0"])
    read, target = x.cpu().numpy(), y.cpu().numpy()
    known = np.isfinite(target).all(axis=1)
    read = np.where(np.isnan(read), 0.0, read)  # a missing value is at its mean
    taught = known & np.isfinite(x.cpu().numpy()).all(axis=1)
    width = read.shape[1]
    found, error = weights, np.inf
    for longest in (hidden // min(width, target.shape[1]), _LONG[-1]):
        p = _look_back(read, target, taught, max(1, longest))
        rows = taught.copy()
        rows[: p - 1] = False
        if not rows.any():
            continue
        G = _regression(_pasts(read, target, rows, p))[:-1].reshape(p, width, -1).transpose(0, 2, 1)
        tried, its_error = _as_weights(weights, *_balanced(G, hidden), read, target, rows)
        if its_error < error:
            found, error = tried, its_error
    return found


def _look_back(read: Array, target: Array, taught: Array, longest: int) -> int:
    """Return the p with the lowest AIC, at most ``longest``; one beyond the short ones has to beat the best of them."""
    p = 1
    for looks in (_SHORT, (None, *_LONG)):
        wanted = [look or p for look in looks if look is None or look <= longest]
        allowed = [look for look in wanted if look == 1 or _ROWS_A_WEIGHT * (look * read.shape[1] + 1) <= len(read)]
        judged = taught.copy()
        judged[: max(allowed, default=1) - 1] = False
        if allowed and judged.any():
            p = min(allowed, key=lambda look: _criterion(_pasts(read, target, judged, look)))
    return p


def epochs_that_hold(
    weights: dict[str, Tensor],
    x: Tensor,
    y: Tensor,
    most: int,
    optimizer: str,
    lr: float,
    clip: float | None,
    horizon: int | None,
) -> int:
    """Return how many epochs lower the loss of rows that training has not seen.

    From its linear start, a network trained on the first three fifths is judged on the fourth, one trained on four
    fifths on the fifth: the number with the lowest mean of both losses, each relative to that of its start. Where
    training runs off at once, it shall run off for all to see: ``most``.

    Args:
        weights: of a network before training.
        x: what the network reads, ``(T, O + E)``.
        y: what it should say, ``(T, O)``.
        most: epochs.
        optimizer: a name in :data:`retrograd.estimators.OPTIMIZERS`.
        lr: its learning rate.
        clip: of the gradient's norm.
        horizon: steps of the closed loop; None for one step ahead.
    """
    blocks = [(fifths * len(x) // 5, (fifths + 1) * len(x) // 5) for fifths in _FIFTHS]
    if blocks[0][1] - blocks[0][0] <= (horizon or 2):
        return 0
    trainers, before = [], []
    for cut, end in blocks:
        start = linear_start(weights, x[:cut], y[:cut])
        trainers.append(Trainer(start, x[:cut], y[:cut], optimizer=optimizer, lr=lr, clip=clip, horizon=horizon))
        before.append(_later_loss(start, x[:end], y[:end], cut, horizon))
    best, least = 0, 1.0
    if not all(0 < loss < np.inf for loss in before):  # nothing to judge by
        return 0
    for epoch in range(1, most + 1):
        ratios = []
        for trainer, (cut, end), first in zip(trainers, blocks, before, strict=True):
            try:
                trainer.step()
            except DivergenceError:
                return best or most
            ratios.append(_later_loss(trainer.weights, x[:end], y[:end], cut, horizon) / first)
        mean = float(np.mean(ratios))
        if not np.isfinite(mean):
            return best or most
        if mean < least - _PROGRESS:
            best, least = epoch, mean
        elif epoch - best >= _PATIENCE:
            break
    return best


def _later_loss(weights: dict[str, Tensor], x: Tensor, y: Tensor, cut: int, horizon: int | None) -> float:
    """Return the loss of the steps from ``cut`` on, with the past that led there; NaN if none of them is known."""
    if horizon is None:
        later = torch.where(torch.arange(len(y), device=y.device)[:, None] >= cut, y, torch.nan)
        return float(loss_and_gradients(weights, x, later, None)[0])
    asked, starts = free_runs(weights, x, y, horizon)
    del asked["loss"]
    with threads_for(len(x) * len(weights["h0"]) ** 2):
        outputs = bptt(**asked).outputs
    assert outputs is not None
    truth = y[starts[:, None] + torch.arange(horizon, device=y.device)]
    return float((outputs - truth)[starts >= cut].square().mean())


def _pasts(read: Array, target: Array, taught: Array, p: int) -> Blocks:
    """Return x_t, ..., x_{t-p+1} and 1 of the rows ``taught``, zeros before the first: ``(rows, p P + 1)``."""

    def past(rows: slice) -> Array:
        before = min(rows.start, p - 1)
        given = read[rows.start - before : rows.stop]
        given = np.concatenate([np.zeros((p - 1 - before, read.shape[1])), given])
        return _with_ones(*(given[p - 1 - k : len(given) - k] for k in range(p)))

    return _blocks(past, target, taught, p * read.shape[1] + 1)


def _states(A: Array, B: Array, read: Array, target: Array, taught: Array) -> Blocks:
    """Return h_t = A h_{t-1} + B x_t and 1 of the rows ``taught``: ``(rows, n + 1)``."""
    entering = torch.zeros(len(A), dtype=torch.float64)

    def features(rows: slice) -> Array:
        nonlocal entering
        h = torch.zeros_like(entering) if rows.start == 0 else entering
        states, entering = scan(Dense(torch.from_numpy(A)), torch.from_numpy(read[rows] @ B.T), h)
        return _with_ones(states.numpy())

    return _blocks(features, target, taught, len(A) + 1)


def _blocks(regressors: Callable[[slice], Array], target: Array, taught: Array, columns: int) -> Blocks:
    """Return regressors and targets of the rows ``taught``, in blocks that memory holds, in the order of time."""
    size = max(1, _NUMBERS // columns)

    def blocks() -> Iterator[tuple[Array, Array]]:
        for begin in range(0, len(target), size):
            rows = slice(begin, min(begin + size, len(target)))
            yield regressors(rows)[taught[rows]], target[rows][taught[rows]]

    return blocks


def _with_ones(*parts: Array) -> Array:
    return np.concatenate([*parts, np.ones((len(parts[0]), 1))], axis=1)


def _regression(blocks: Blocks) -> Array:
    """Return the ridge regression's weights, by the normal equations, summed block by block."""
    gram, moments = np.zeros(1), np.zeros(1)
    for past, target in blocks():
        gram, moments = gram + past.T @ past, moments + past.T @ target
    penalty = np.append(np.full(len(gram) - 1, _RIDGE * np.diag(gram)[:-1].mean()), 0.0)
    return np.asarray(np.linalg.lstsq(gram + np.diag(penalty), moments, rcond=None)[0])


def _squared_errors(blocks: Blocks, fitted: Array) -> tuple[Array, int]:
    """Return each target's sum of squared errors, and of how many rows."""
    total, rows = np.zeros(fitted.shape[1]), 0
    for past, target in blocks():
        total, rows = total + ((target - past @ fitted) ** 2).sum(axis=0), rows + len(past)
    return total, rows


def _criterion(blocks: Blocks) -> float:
    fitted = _regression(blocks)
    total, rows = _squared_errors(blocks, fitted)
    return float(rows * np.log(np.maximum(total / rows, 1e-300)).sum() + 2 * fitted.size)


def _balanced(G: Array, order: int) -> tuple[Array, Array]:
    """Return A ``(n, n)`` and B ``(n, P)`` of the balanced realisation of the G_k ``(p, O, P)``, n ≤ order."""
    p, outputs, inputs = G.shape
    padded = np.concatenate([G, np.zeros_like(G)])
    hankel = np.block([[padded[i + j] for j in range(p)] for i in range(p)])
    U, s, Vt = np.linalg.svd(hankel, full_matrices=False)
    order = max(1, min(order, int((s > _ROUNDING * max(s[0], 1e-300)).sum())))
    root = np.sqrt(s[:order])
    future = U[:, :order] * root
    # One step on: the rows of the next block, zeros after the last, as the G_k are.
    shifted = np.concatenate([future[outputs:], np.zeros((outputs, order))])
    return np.linalg.pinv(future) @ shifted, root[:, None] * Vt[:order, :inputs]


def _as_weights(
    weights: dict[str, Tensor], A: Array, B: Array, read: Array, target: Array, taught: Array
) -> tuple[dict[str, Tensor], float]:
    """Return the weights of states, their read-out fitted to the rows ``taught``, and its mean squared error there."""
    order, like = len(A), weights["weight_hh"]
    hh, ih = weights["weight_hh"].cpu().numpy().copy(), _SPARE * weights["weight_ih"].cpu().numpy()
    out = np.zeros(tuple(weights["weight_out"].shape))
    hh[:order], hh[:, :order] = 0.0, 0.0
    hh[:order, :order], ih[:order] = A, B
    blocks = _states(A, B, read, target, taught)
    fitted = _regression(blocks)
    out[:, :order] = fitted[:-1].T
    found = {"weight_hh": hh, "weight_ih": ih, "bias": np.zeros(len(hh)), "h0": np.zeros(len(hh))}
    found |= {"weight_out": out, "bias_out": fitted[-1]}
    total, rows = _squared_errors(blocks, fitted)
    weights = {name: torch.from_numpy(np.ascontiguousarray(value)).to(like) for name, value in found.items()}
    return weights, float(total.mean() / rows)
