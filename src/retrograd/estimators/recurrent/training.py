"""Training: the gradient by bptt, the update by any optimizer, and a state that can be saved between two epochs.

The loss is the mean squared error, in scaled units, of the predictions

    open loop    one step ahead, from the observed past (teacher forcing)
    closed loop  1 to ``horizon`` steps ahead, each from the predictions before it, started all along the series

In the closed loop the windows' gradients reach back beyond their start: a window starts from a state of the
teacher-forced run, so ∂L/∂h of that state is where the run's own backpropagation starts. No gradient is cut.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from retrograd.core.scan import scan
from retrograd.core.transition import Dense
from retrograd.distributed.bptt import bptt as distributed_bptt
from retrograd.distributed.ranks import ranks_of
from retrograd.estimators.threads import threads_for
from retrograd.rnn.bptt import bptt

__all__ = [
    "OPTIMIZERS",
    "WALL",
    "DivergenceError",
    "Epoch",
    "Trainer",
    "free_runs",
    "loss_and_gradients",
    "over_ranks",
    "own_where_missing",
    "squared_error",
    "stretch_of",
]

# Tensors by the names of bptt's arguments.
Weights = dict[str, Any]


@dataclass(frozen=True)
class Optimizer:
    """An optimizer by name, with the learning rate and number of epochs that serve for scaled series."""

    make: Callable[[list[Tensor], float], torch.optim.Optimizer]
    lr: float
    epochs: int


def _lbfgs(parameters: list[Tensor], lr: float) -> torch.optim.Optimizer:
    return torch.optim.LBFGS(parameters, lr=lr, max_iter=20, history_size=20, line_search_fn="strong_wolfe")


OPTIMIZERS = {
    "sgd": Optimizer(lambda parameters, lr: torch.optim.SGD(parameters, lr=lr), lr=0.02, epochs=1000),
    "adam": Optimizer(lambda parameters, lr: torch.optim.Adam(parameters, lr=lr), lr=0.01, epochs=600),
    "adamw": Optimizer(lambda parameters, lr: torch.optim.AdamW(parameters, lr=lr), lr=0.01, epochs=600),
    # One epoch is up to 20 iterations, each with its line search.
    "lbfgs": Optimizer(_lbfgs, lr=1.0, epochs=20),
}

# What a line search is told where the loss overflows: high enough to turn back, and its square is still finite.
WALL = 1e100


@dataclass(frozen=True)
class Epoch:
    """One epoch: its number (from 1), the loss before its update, and the norm of that loss's gradient."""

    number: int
    loss: float
    gradient_norm: float


class DivergenceError(RuntimeError):
    """The loss or its gradient is NaN or infinite. The message says when, where and what to try."""


def loss_and_gradients(
    weights: Weights, x: Tensor, target: Tensor, horizon: int | None
) -> tuple[Tensor, Weights, Tensor]:
    """Return the loss, ∂L/∂weight of every weight, and δ_t = ∂L/∂h_t ``(T, H)`` along the series.

    Args:
        weights: as :class:`retrograd.estimators.recurrent.network.Network` holds them.
        x: what the network reads, ``(T, O + E)``; NaN where a target is missing: there it reads its own prediction.
        target: what it should say, ``(T, O)``; NaN where it is not known, which no loss is for.
        horizon: steps of the closed loop, of series without missing values; None for the open loop.
    """
    with threads_for(len(x) * len(weights["h0"]) ** 2):
        return _loss_and_gradients(weights, x, target, horizon)


def _loss_and_gradients(
    weights: Weights, x: Tensor, target: Tensor, horizon: int | None
) -> tuple[Tensor, Weights, Tensor]:
    if horizon is None:
        read, feedback = own_where_missing(x, target.shape[1])
        g = bptt(read, **weights, feedback=feedback, loss=lambda y: squared_error(y, target))
        assert g.loss is not None
        return g.loss, {name: _present(getattr(g, name)) for name in weights}, _present(g.delta)

    w = {name: weight.detach() for name, weight in weights.items()}
    asked, starts = free_runs(w, x, target, horizon)
    windows = bptt(**asked)
    at_start = x.new_zeros(len(x), len(w["h0"])).index_add_(0, starts, windows.h0)
    recurrence = {name: w[name] for name in ("weight_hh", "weight_ih", "bias", "h0")}
    series = bptt(x, **recurrence, grad_states=_shifted(at_start))
    gradients = {name: _present(getattr(windows, name)) for name in weights if name != "h0"}
    for name in ("weight_hh", "weight_ih", "bias"):
        gradients[name] = gradients[name] + getattr(series, name)
    gradients["h0"] = series.h0 + at_start[0]
    assert windows.loss is not None
    return windows.loss, {name: gradients[name] for name in weights}, _present(series.delta)


def stretch_of(steps: int, rank: int, size: int) -> slice:
    """Return the steps of a rank."""
    return slice(rank * steps // size, (rank + 1) * steps // size)


def over_ranks(
    weights: Weights, x: Tensor, target: Tensor, group: Any, values: int | None = None
) -> tuple[Tensor, Weights, Tensor]:
    """Return what :func:`loss_and_gradients` does in open loop, δ of this rank's steps alone; each rank runs its own.

    Args:
        weights: the same on every rank.
        x: all steps, without missing values.
        target: all steps.
        group: the ranks, as :func:`retrograd.distributed.bptt` takes them.
        values: how many targets all ranks have together, where x and target are this rank's own steps alone.
    """
    if values is None:
        ranks, values = ranks_of(group), target.numel()
        at = stretch_of(len(x), ranks.rank, ranks.size)
        x, target = x[at], target[at]

    def loss(outputs: Tensor) -> Tensor:
        return (outputs - target).square().sum() / values

    g = distributed_bptt(x, **weights, loss=loss, group=group)
    assert g.loss is not None
    return g.loss, {name: _present(getattr(g, name)) for name in weights}, _present(g.delta)


def own_where_missing(x: Tensor, outputs: int, feedback: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """Return x without NaN, and at which steps the network reads its own prediction: None where at none.

    Args:
        x: what the network reads, ``(T, O + E)``, the targets first.
        outputs: O.
        feedback: further steps at which it does, bool ``(T,)``.
    """
    missing = x[:, :outputs].isnan().any(dim=1).cpu()  # bptt too goes by it on the host
    if not bool(missing.any()):
        return x, feedback
    return x.nan_to_num(nan=0.0), missing if feedback is None else feedback | missing


def squared_error(outputs: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared error over the targets that are known."""
    known = ~target.isnan()
    error = outputs - target if bool(known.all()) else outputs[known] - target[known]
    return error.square().mean()


def free_runs(weights: Weights, x: Tensor, target: Tensor, horizon: int) -> tuple[dict[str, Any], Tensor]:
    """Return the arguments of :func:`retrograd.bptt` for free runs along a series, and where each starts, ``(N,)``.

    A run starts from the state that the observed series has led to. Its first input is observed, the others are its own
    predictions.
    """
    w = {name: weight.detach() for name, weight in weights.items()}
    states, _ = scan(Dense(w["weight_hh"]), x @ w["weight_ih"].mT + w["bias"], w["h0"])
    before = torch.cat([w["h0"][None], states[:-1]])
    # Starts are counted from the end, so that the newest value is always in.
    starts = torch.arange(len(x) - horizon, -1, -max(1, horizon // 4), device=x.device)
    steps = starts[:, None] + torch.arange(horizon, device=x.device)
    truth = target[steps]

    def loss(outputs: Tensor) -> Tensor:
        return (outputs - truth).square().mean()

    feedback = torch.arange(horizon) >= 1
    return {**w, "x": x[steps], "h0": before[starts], "feedback": feedback, "loss": loss}, starts


def _shifted(at_start: Tensor) -> Tensor:
    """Return ∂L/∂h_t for t = 1..T from that of the states before each step, h_0..h_{T-1}."""
    return torch.cat([at_start[1:], torch.zeros_like(at_start[:1])])


def _present(gradient: Tensor | None) -> Tensor:
    assert gradient is not None  # bptt gives the gradient of every argument that it was given
    return gradient


class Trainer:
    """Trains weights epoch by epoch. Between two epochs, :meth:`state` holds all that decides what follows.

    Args:
        weights: the starting weights; they are copied.
        x: what the network reads, ``(T, O + E)``.
        target: what it should say, ``(T, O)``.
        optimizer: a name in :data:`OPTIMIZERS`.
        lr: its learning rate.
        clip: the gradient's norm is cut to this; None leaves it.
        horizon: train in closed loop over this many steps; None trains one step ahead.
        group: ranks that each run a stretch of the series, in open loop; None: one process runs all of it.
        values: how many targets all ranks have together, where x and target are this rank's stretch alone.

    Attributes:
        ranks: those of ``group``.

    Examples:
        >>> import numpy as np
        >>> from retrograd.estimators import Recurrent
        >>> y = np.sin(np.arange(60.0))[:, None]
        >>> network = Recurrent(hidden=4).untrained(y)
        >>> trainer = Trainer(network.weights, *network.series(y, y[:, :0]), optimizer="lbfgs")
        >>> first, *_, last = [trainer.step() for _ in range(5)]
        >>> last.loss < 1e-3 * first.loss
        True
    """

    def __init__(
        self,
        weights: Weights,
        x: Tensor,
        target: Tensor,
        *,
        optimizer: str = "adam",
        lr: float | None = None,
        clip: float | None = None,
        horizon: int | None = None,
        group: Any = None,
        values: int | None = None,
    ) -> None:
        # Contiguous: L-BFGS reads each gradient as one vector.
        self.weights: Weights = {
            name: weight.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
            for name, weight in weights.items()
        }
        self.best = {name: weight.detach().clone() for name, weight in weights.items()}
        self.best_loss = float("inf")
        self.history: list[Epoch] = []
        choice = OPTIMIZERS[optimizer]
        self._optimizer = choice.make(list(self.weights.values()), choice.lr if lr is None else lr)
        self._line_search = isinstance(self._optimizer, torch.optim.LBFGS)
        self._x, self._target, self._clip, self._horizon = x, target, clip, horizon
        self._values = values
        self.ranks = None if group is None else ranks_of(group)

    def step(self) -> Epoch:
        """Run one epoch: initialise, propagate, accumulate, update.

        Raises:
            DivergenceError: loss or gradient are not finite; the weights stay as they were.
        """
        number = len(self.history) + 1
        before = {name: weight.detach().clone() for name, weight in self.weights.items()}
        seen: list[tuple[float, float]] = []

        def closure() -> float:
            loss, gradients = self.loss_and_gradients(self.weights)
            value, norm = float(loss), float(torch.stack([g.norm() for g in gradients.values()]).norm())
            finite = value < float("inf") and norm < float("inf")
            if not finite and not seen:
                raise DivergenceError(self._explain(number, value, norm))
            seen.append((value, norm))
            for name, weight in self.weights.items():
                weight.grad = gradients[name].clone() if finite else torch.zeros_like(weight)
            if self._clip is not None:
                torch.nn.utils.clip_grad_norm_(self.weights.values(), self._clip)
            return value if finite else WALL

        self._optimizer.step(closure)
        loss, norm = seen[0]
        self._keep(loss, before)
        if not all(bool(weight.isfinite().all()) for weight in self.weights.values()):
            self._restore(before)
            raise DivergenceError(self._explain(number, loss, norm))
        self.history.append(Epoch(number, loss, norm))
        return self.history[-1]

    def loss_and_gradients(self, weights: Weights) -> tuple[Tensor, Weights]:
        """Return the loss, and ∂L/∂weight of every weight."""
        if self.ranks is None:
            return loss_and_gradients(weights, self._x, self._target, self._horizon)[:2]
        return over_ranks(weights, self._x, self._target, self.ranks, self._values)[:2]

    def finish(self) -> Tensor:
        """Judge the weights after the last update too, and return δ_t = ∂L/∂h_t ``(T, H)`` at the best ones."""
        loss, _, _ = loss_and_gradients(self.weights, self._x, self._target, self._horizon)
        self._keep(float(loss), self.weights)
        return loss_and_gradients(self.best, self._x, self._target, self._horizon)[2]

    def state(self) -> dict[str, Any]:
        """Return everything that a continued training needs, as nested containers of tensors and numbers."""
        return {
            "weights": {name: weight.detach() for name, weight in self.weights.items()},
            "best": self.best,
            "best_loss": self.best_loss,
            "history": [[epoch.loss, epoch.gradient_norm] for epoch in self.history],
            "optimizer": self._optimizer.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a :meth:`state`: what follows is bit for bit what would have followed there."""
        self._restore(state["weights"])
        self.best = {name: weight.to(self._x.device) for name, weight in state["best"].items()}
        self.best_loss = state["best_loss"]
        self.history = [Epoch(number, loss, norm) for number, (loss, norm) in enumerate(state["history"], start=1)]
        self._optimizer.load_state_dict(state["optimizer"])

    def _restore(self, weights: Weights) -> None:
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(weights[name])

    def _keep(self, loss: float, weights: Weights) -> None:
        if loss < self.best_loss:
            self.best_loss = loss
            self.best = {name: weight.detach().clone() for name, weight in weights.items()}

    def _explain(self, number: int, loss: float, norm: float) -> str:
        W = self.weights["weight_hh"].detach().cpu()
        radius = float(torch.linalg.eigvals(W).abs().max()) if bool(W.isfinite().all()) else float("nan")
        remedy = "try a smaller lr" if self._clip is not None else "try a smaller lr, or clip=1"
        return (
            f"training stopped at epoch {number}: the loss is {loss:.3g}, its gradient's norm {norm:.3g}, the spectral "
            f"radius of W_hh {radius:.3g} (above 1, states grow without bound): {remedy}"
        )
