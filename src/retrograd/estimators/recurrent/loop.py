"""The loop over epochs: train, keep a checkpoint, let others look on, stop where asked."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from retrograd.distributed.exchange import prefix
from retrograd.distributed.ranks import ranks_of
from retrograd.errors import InputError
from retrograd.estimators.recurrent import checkpoint
from retrograd.estimators.recurrent.training import Trainer

__all__ = ["Callback", "Checkpoint", "is_first", "train"]

# Called after every epoch; True ends the training.
Callback = Callable[[Trainer], Any]

CHECKPOINT_SECONDS = 5.0


class Checkpoint:
    """A training's state on disk, with what it belongs to.

    Args:
        path: the file.
        settings: what decides the result of the training, besides the data and the number of epochs.
        data: what is trained on; None: the settings have its digest.

    Attributes:
        belongs: the settings and the digest of the data.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], data: Iterable[Tensor] | None) -> None:
        self.path, self.belongs = path, dict(settings)
        if data is not None:
            digest = hashlib.sha256()
            for part in data:
                digest.update(part.cpu().numpy().tobytes())
            self.belongs["data"] = digest.hexdigest()
        # After the first epoch it is due: a training that cannot even do that leaves the file as it was.
        self._written = -math.inf

    def write(self, trainer: Trainer) -> None:
        """Write the state, whole.

        Raises:
            InputError: the file cannot be written.
        """
        try:
            checkpoint.save(self.path, {"belongs": self.belongs, "training": trainer.state()})
        except OSError as error:
            raise InputError(f"checkpoint {self.path} cannot be written: {error.strerror or error}") from None
        self._written = time.monotonic()

    def write_when_due(self, trainer: Trainer) -> None:
        """Write the state if there is none yet, or the last one is :data:`CHECKPOINT_SECONDS` old."""
        if time.monotonic() - self._written >= CHECKPOINT_SECONDS:
            self.write(trainer)

    def resume(self, trainer: Trainer, epochs: int) -> None:
        """Take up the training that the file holds.

        Raises:
            InputError: there is none, or it has other settings, other data or more epochs.
        """
        if not self.path.is_file():
            raise InputError(f"resume: there is no {self.path} to continue from", "resume")
        state = checkpoint.load(self.path)
        if not isinstance(state, dict) or set(state) != {"belongs", "training"}:
            raise InputError(f"resume: {self.path} holds no training", "resume")
        for name, now in self.belongs.items():
            before = state["belongs"].get(name)
            if name == "data" and before != now:
                raise InputError(f"resume: the training data are not those of {self.path}: give the same", "resume")
            if before != now:
                raise InputError(
                    f"resume: {name} is {now}, the training in {self.path} has {before}: keep it", "resume", name
                )
        done = len(state["training"]["history"])
        if done > epochs:
            raise InputError(
                f"resume: epochs is {epochs}, the training in {self.path} has {done} behind it", "resume", "epochs"
            )
        _require_fit(self.path, trainer, state["training"])
        trainer.restore(state["training"])
        self._written = time.monotonic()


def _require_fit(path: Path, trainer: Trainer, state: dict[str, Any]) -> None:
    """Refuse weights that are not those of a trainer in name, shape, type or finiteness."""
    fresh = trainer.state()
    for part in ("weights", "best"):
        given, expected = state.get(part, {}), fresh["weights"]
        if set(given) != set(expected):
            raise InputError(f"resume: {path} has the {part} {', '.join(sorted(given))}, expected others", "resume")
        for name, weight in expected.items():
            if given[name].shape != weight.shape or given[name].dtype != weight.dtype:
                raise InputError(
                    f"resume: {name} in {path} has shape {tuple(given[name].shape)}, expected {tuple(weight.shape)}",
                    "resume",
                )
            if not bool(given[name].isfinite().all()):
                raise InputError(f"resume: {name} in {path} is not finite", "resume")


def train(
    trainer: Trainer,
    epochs: int,
    *,
    patience: int | None = None,
    callbacks: Iterable[Callback] = (),
    checkpoint: Checkpoint | None = None,
) -> str:
    """Train until so many epochs are behind the trainer, and return why it ended there.

    Args:
        trainer: fresh, or with epochs behind it.
        epochs: in all.
        patience: epochs without a lower loss after which training ends; None: it goes on.
        callbacks: called with the trainer after every epoch; one that returns True ends the training, over ranks that
            of all of them.
        checkpoint: where the state is kept, every few seconds and in the end.

    Returns:
        ``"epochs"``, ``"patience"`` or ``"callback"``.

    Raises:
        DivergenceError: loss or gradient are not finite; the trainer's best weights stay what they were.
    """
    reason = "epochs"
    while len(trainer.history) < epochs:
        trainer.step()
        if checkpoint is not None:
            checkpoint.write_when_due(trainer)
        # Every callback sees every epoch, whatever another one says.
        asked = [callback(trainer) is True for callback in callbacks]
        if len(trainer.history) < epochs and _any_rank(trainer, any(asked)):
            reason = "callback"
            break
        if patience is not None and _since_best(trainer) >= patience:
            reason = "patience"
            break
    if checkpoint is not None:
        checkpoint.write(trainer)
    return reason


def _any_rank(trainer: Trainer, asked: bool) -> bool:
    """Return whether a rank asks to stop, which all then do after the same epoch."""
    if trainer.ranks is None:
        return asked
    return prefix(trainer.ranks, "fit, whether to stop", [float(asked)])[1][0] > 0


def _since_best(trainer: Trainer) -> int:
    losses = [epoch.loss for epoch in trainer.history]
    return len(losses) - 1 - losses.index(min(losses))


def is_first(group: Any, x: Tensor, closed_loop: int | None) -> bool:
    """Return whether this is the first rank of a group; refuse what a group cannot train."""
    if closed_loop is not None:
        raise InputError("group was given with closed_loop: over ranks a model is trained one step ahead")
    if bool(x.isnan().any()):
        raise InputError("group was given and Y has missing values: over ranks they must be filled first")
    ranks = ranks_of(group)
    if len(x) < ranks.size:
        raise InputError(f"group has {ranks.size} ranks, the series {len(x)} steps to train on: each needs one")
    return ranks.rank == 0
