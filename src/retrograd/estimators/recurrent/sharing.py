"""A training whose ranks each hold their own rows of one long series, or their own of many series; the first one all.

The first rank has the data, checks them, and makes the weights to start from. The others are told a :class:`Plan`; each
then needs its own rows or series alone, wherever they come from, and runs the same epochs (:func:`follow`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retrograd.distributed.ranks import ranks_of
from retrograd.estimators.recurrent.loop import Callback, Checkpoint, train
from retrograd.estimators.recurrent.network import Network
from retrograd.estimators.recurrent.panel_training import PanelTrainer, shared_out
from retrograd.estimators.recurrent.training import DivergenceError, Trainer, stretch_of
from retrograd.tables.scale import Scaling

__all__ = ["Plan", "digest_of_rows", "follow", "rows_of"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Plan:
    """What a rank must know of a training, beside its own rows.

    Attributes:
        weights: to start from, as nested lists.
        outputs: how many columns are targets; the rest are inputs.
        mean: of the columns.
        scale: of the columns.
        rows: of the training part; of many series, of each one's.
        optimizer: its name.
        lr: its learning rate.
        clip: of the gradient's norm.
        epochs: how many.
        patience: epochs without a lower loss after which training ends.
        settings: what a checkpoint belongs to, and the digest of the data.
        device: where to train.
    """

    weights: dict[str, Any]
    outputs: int
    mean: list[float]
    scale: list[float]
    rows: int | list[int]
    optimizer: str
    lr: float
    clip: float | None
    epochs: int
    patience: int | None
    settings: dict[str, Any]
    device: str

    @classmethod
    def of(cls, model: Any, network: Network, rows: int, lr: float, epochs: int, settings: dict[str, Any]) -> Plan:
        """Return the plan of a :class:`retrograd.estimators.Recurrent` and the network that it starts from."""
        scalings = network.target_scaling, network.input_scaling
        mean, scale = (np.concatenate([getattr(one, part) for one in scalings]) for part in ("mean", "scale"))
        weights = {name: weight.tolist() for name, weight in network.weights.items()}
        outputs = len(network.target_names)
        how = model.optimizer, lr, model.clip, epochs, model.patience
        return cls(weights, outputs, mean.tolist(), scale.tolist(), rows, *how, settings, model.device)

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights."""
        return {name: torch.tensor(x, dtype=torch.float64, device=self.device) for name, x in self.weights.items()}

    def update(self) -> dict[str, Any]:
        """Return how weights are updated, as a trainer takes it."""
        return {"optimizer": self.optimizer, "lr": self.lr, "clip": self.clip}

    def text(self) -> str:
        """Return the plan as text, which keeps every bit."""
        return json.dumps(asdict(self))

    @classmethod
    def of_text(cls, text: str) -> Plan:
        """Return the plan of :meth:`text`."""
        return cls(**json.loads(text))


def rows_of(rows: int, rank: int, size: int) -> slice:
    """Return which rows of a training part a rank needs: its steps read them and predict the next.

    >>> [rows_of(9, rank, 3) for rank in range(3)]
    [slice(0, 3, None), slice(2, 6, None), slice(5, 9, None)]
    """
    at = stretch_of(rows - 1, rank, size)
    return slice(at.start, at.stop + 1)


def digest_of_rows(values: Array) -> str:
    """Return what tells rows from others, bit for bit.

    >>> digest_of_rows(np.zeros((2, 1)))[:8]
    '374708ff'
    """
    return hashlib.sha256(np.ascontiguousarray(values, dtype=np.float64).tobytes()).hexdigest()


def follow(
    plan: Plan,
    values: Array,
    *,
    group: Any,
    checkpoint: Path | None = None,
    resume: bool = False,
    callbacks: Iterable[Callback] = (),
) -> str:
    """Train in step with the first rank, which fits a ``Recurrent`` or, of many series, a ``RecurrentPanel``.

    Args:
        plan: of the first rank.
        values: this rank's rows (:func:`rows_of`), targets and inputs, ``(rows, O + E)``; of many series the rows of
            this rank's series (:func:`retrograd.estimators.recurrent.panel_training.shared_out`), below each other and
            scaled, ``(rows, O)``.
        group: the ranks.
        checkpoint: where the first rank keeps the training's state.
        resume: whether the training goes on from it.
        callbacks: as of :meth:`retrograd.estimators.Recurrent.fit`.

    Returns:
        Why the training ended, as :func:`retrograd.estimators.recurrent.loop.train`; ``"divergence"``.

    Raises:
        InputError: the checkpoint cannot be used.
    """
    trainer = (_of_series if isinstance(plan.rows, int) else _of_panel)(plan, values, group)
    if resume and checkpoint is not None:
        Checkpoint(checkpoint, plan.settings, None).resume(trainer, plan.epochs)
    try:
        reason = train(trainer, plan.epochs, patience=plan.patience, callbacks=list(callbacks))
    except DivergenceError:  # the first rank says so
        return "divergence"
    if isinstance(trainer, PanelTrainer):
        trainer.finish()
    return reason


def _of_series(plan: Plan, values: Array, group: Any) -> Trainer:
    assert isinstance(plan.rows, int)
    scaled = torch.from_numpy(Scaling(np.array(plan.mean), np.array(plan.scale)).apply(values)).to(plan.device)
    y, z = scaled[:, : plan.outputs], scaled[:, plan.outputs :]
    x, targets = torch.cat([y[:-1], z[1:]], dim=1), (plan.rows - 1) * plan.outputs
    return Trainer(plan.tensors(), x, y[1:], **plan.update(), group=group, values=targets)


def _of_panel(plan: Plan, values: Array, group: Any) -> Trainer:
    assert isinstance(plan.rows, list)
    ranks = ranks_of(group)
    own = [plan.rows[place] for place in shared_out([rows - 1 for rows in plan.rows], ranks.rank, ranks.size)]
    parts = torch.split(torch.from_numpy(values).to(plan.device), own) if own else ()
    series = [(one[:-1], one[1:]) for one in parts]
    return PanelTrainer(plan.tensors(), series, **plan.update(), group=group, own=True)
