"""Training of one network on many series: the loss is the mean over the targets of all of them.

Series are as different in length as they like. Those without missing targets run side by side, the shorter ones padded
at their end, where no loss is taken and, as time runs forward, no gradient arises. One with missing targets runs alone,
as the steps at which it reads its own prediction are its own.

Over ranks each trains on its share of the series; the sums of losses and gradients over the ranks are made in one order
(:mod:`retrograd.distributed.exchange`), so that all ranks have the same bits, and the same ones in every run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from retrograd.distributed.exchange import summed
from retrograd.estimators.recurrent.training import Trainer, Weights, own_where_missing
from retrograd.estimators.threads import threads_for
from retrograd.rnn.bptt import bptt

__all__ = ["Batch", "PanelTrainer", "batches", "shared_out"]

# Padded steps that a batch has at most, relative to all of its steps; and steps of a batch, so that it stays in cache.
_PADDED, _STEPS = 0.25, 1 << 16


class Batch(NamedTuple):
    """Series that run side by side.

    Attributes:
        x: what the network reads, ``(batch, time, O + E)``, without NaN.
        target: what it should say, ``(batch, time, O)``; NaN where it is not known, and where steps are padding.
        feedback: at which steps it reads its own prediction, bool ``(time,)``; None: at none.
    """

    x: Tensor
    target: Tensor
    feedback: Tensor | None = None


def shared_out(lengths: Sequence[int], rank: int, size: int) -> list[int]:
    """Return the places of the series that a rank has: dealt out from the longest on, to and fro.

    >>> [shared_out([5, 9, 7, 1, 3], rank, 2) for rank in range(2)]
    [[1, 4, 3], [2, 0]]
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    turns = [i % size if i // size % 2 == 0 else size - 1 - i % size for i in range(len(order))]
    return [place for place, turn in zip(order, turns, strict=True) if turn == rank]


def batches(series: Sequence[tuple[Tensor, Tensor]]) -> list[Batch]:
    """Return series, x ``(T, O + E)`` and target ``(T, O)`` each, as batches, always in one order."""
    found: list[Batch] = []
    whole = []
    for x, target in series:
        read, feedback = own_where_missing(x, target.shape[1])
        if feedback is None:
            whole.append((x, target))
        else:
            found.append(Batch(read.unsqueeze(0), target.unsqueeze(0), feedback))
    whole.sort(key=lambda one: -len(one[0]))
    group: list[tuple[Tensor, Tensor]] = []
    for one in whole:
        longest = len(group[0][0]) if group else 0
        if group and (len(one[0]) < (1 - _PADDED) * longest or (len(group) + 1) * longest > _STEPS):
            found.append(_padded(group))
            group = []
        group.append(one)
    return [*found, _padded(group)] if group else found


def _padded(group: Sequence[tuple[Tensor, Tensor]]) -> Batch:
    x, target = zip(*group, strict=True)
    pad = torch.nn.utils.rnn.pad_sequence
    return Batch(pad(list(x), True), pad(list(target), True, padding_value=torch.nan))


class PanelTrainer(Trainer):
    """A :class:`retrograd.estimators.Trainer` of many series.

    Args:
        weights: the starting weights; they are copied.
        series: what the network reads, ``(T, O + E)``, and what it should say, ``(T, O)``, for every series.
        optimizer: a name in :data:`retrograd.estimators.OPTIMIZERS`.
        lr: its learning rate.
        clip: the gradient's norm is cut to this; None leaves it.
        group: ranks that each train on their share of the series; None: one process has all of them.
        own: whether ``series`` are this rank's share, of which there may be none, instead of all.
    """

    def __init__(
        self,
        weights: Weights,
        series: Sequence[tuple[Tensor, Tensor]],
        *,
        optimizer: str = "adam",
        lr: float | None = None,
        clip: float | None = None,
        group: Any = None,
        own: bool = False,
    ) -> None:
        nothing = weights["h0"].detach()  # what one series would be
        super().__init__(weights, nothing, nothing, optimizer=optimizer, lr=lr, clip=clip, group=group)
        if self.ranks is not None and not own:
            places = shared_out([len(x) for x, _ in series], self.ranks.rank, self.ranks.size)
            series = [series[place] for place in places]
        self._batches = batches(series)

    def loss_and_gradients(self, weights: Weights) -> tuple[Tensor, Weights]:
        """Return the mean squared error over all targets of all series, and ∂L/∂weight of every weight."""
        total = self._x.new_zeros(2 + sum(weight.numel() for weight in weights.values()))
        for batch in self._batches:
            total += torch.cat(_sums(weights, batch))
        if self.ranks is not None:
            total = summed(self.ranks, f"fit over {self.ranks.size} ranks' series", total)
        error, count, *parts = torch.split(total, [1, 1, *(weight.numel() for weight in weights.values())])
        named = zip(weights.items(), parts, strict=True)
        return (error / count)[0], {name: (part / count).view(weight.shape) for (name, weight), part in named}

    def finish(self) -> Tensor:
        """Judge the weights after the last update too."""
        loss, _ = self.loss_and_gradients(self.weights)
        self._keep(float(loss), self.weights)
        return loss


def _sums(weights: Weights, batch: Batch) -> list[Tensor]:
    """Return the sum of squared errors of a batch, how many targets there are, and the gradient of the former."""
    known = ~batch.target.isnan()
    target = batch.target.nan_to_num(nan=0.0)

    def loss(outputs: Tensor) -> Tensor:
        return torch.where(known, outputs - target, 0).square().sum()

    own = {name: weight.detach() for name, weight in weights.items()}
    own["h0"] = own["h0"].expand(len(batch.x), -1)
    with threads_for(known.numel() * own["h0"].shape[1] ** 2):
        g = bptt(batch.x, **own, feedback=batch.feedback, loss=loss)
    assert g.loss is not None
    found = {name: getattr(g, name) for name in weights}
    found["h0"] = found["h0"].sum(0)
    return [g.loss.view(1), known.sum().to(g.loss).view(1), *(found[name].flatten() for name in weights)]
